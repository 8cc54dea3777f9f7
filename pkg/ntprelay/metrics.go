package ntprelay

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counters are what the room counts. All are safe for concurrent use.
type counters struct {
	answered, invalid, early, late, limited, unsent, panics atomic.Uint64
	kissed, polls, pollsFailed, steps                       atomic.Uint64
}

// A metric is one line of the page that a scrape gets.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	label []string
	value float64
}

// metrics reads everything that is counted, and the clock.
func (s *Server) metrics() []metric {
	c := &s.count
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("chargegate_ntprelay_"+name, help, labels, nil)
	}
	var out []metric
	counter := func(d *prometheus.Desc, n *atomic.Uint64, label ...string) {
		out = append(out, metric{d, prometheus.CounterValue, label, float64(n.Load())})
	}
	requests := desc("requests_total", "Datagrams that came, by what became of them.", "result")
	counter(requests, &c.answered, "answered")
	counter(requests, &c.invalid, "invalid")
	counter(requests, &c.early, "unsynchronised")
	counter(requests, &c.late, "late")
	counter(requests, &c.limited, "too_often")
	counter(requests, &c.unsent, "unsent")
	counter(requests, &c.panics, "panic")
	counter(desc("kisses_total", "How often somebody was told that it asks too often (kiss-o'-death RATE)."), &c.kissed)
	readings := desc("readings_total", "Readings of how right the clock is, by result.", "result")
	counter(readings, &c.polls, "answered")
	counter(readings, &c.pollsFailed, "failed")
	counter(desc("clock_steps_total", "How often the clock was set."), &c.steps)

	clock := s.Clock()
	gauge := func(name, help string, value float64) {
		out = append(out, metric{desc(name, help), prometheus.GaugeValue, nil, value})
	}
	synchronised := 0.0
	if clock.Synchronised {
		synchronised = 1
	}
	gauge("synchronised", "1 while the time is given.", synchronised)
	gauge("stratum", "Stratum of the clock.", float64(clock.Stratum))
	gauge("root_distance_seconds", "Greatest possible error of the clock.", clock.RootDistance.Seconds())
	gauge("offset_seconds", "What is still being corrected.", time.Duration(clock.Offset).Seconds())
	return out
}

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	var last string
	for _, m := range s.metrics() {
		if d := m.desc.String(); d != last {
			ch <- m.desc
			last = d
		}
	}
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	for _, m := range s.metrics() {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value, m.label...)
	}
}
