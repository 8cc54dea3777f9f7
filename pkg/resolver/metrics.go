package resolver

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counters are what the room counts. All are safe for concurrent use.
type counters struct {
	lookups                                 [origins]atomic.Uint64
	gateway, empty, refused, foreign        atomic.Uint64
	failed, invalid, dropped, panics        atomic.Uint64
	unsent                                  atomic.Uint64
	upstreamAnswered, upstreamFailed        atomic.Uint64
	upstreamNanos /* of answers */, ignored atomic.Uint64
	local, limited                          atomic.Uint64
}

// upstream counts one question to a server.
func (c *counters) upstream(err error, took time.Duration) {
	if err != nil {
		c.upstreamFailed.Add(1)
		return
	}
	c.upstreamAnswered.Add(1)
	c.upstreamNanos.Add(uint64(took))
}

// A metric is one line of the page that a scrape gets.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	label []string
	value float64
}

// metrics reads everything that is counted.
func (s *Server) metrics() []metric {
	c := &s.count
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("chargegate_resolver_"+name, help, labels, nil)
	}
	var out []metric
	counter := func(d *prometheus.Desc, n *atomic.Uint64, label ...string) {
		out = append(out, metric{d, prometheus.CounterValue, label, float64(n.Load())})
	}
	answers := desc("answers_total", "Questions answered, by where the answer came from.", "from")
	counter(answers, &c.lookups[fromCache], "cache")
	counter(answers, &c.lookups[fromUpstream], "upstream")
	counter(answers, &c.lookups[fromStale], "stale")
	counter(answers, &c.gateway, "gateway")
	counter(answers, &c.empty, "empty")
	counter(answers, &c.refused, "refused")
	counter(answers, &c.foreign, "foreign")
	counter(answers, &c.failed, "failed")
	counter(answers, &c.local, "local")
	counter(desc("invalid_total", "Messages that were no questions."), &c.invalid)
	counter(desc("dropped_total", "Questions dropped because too many were being answered."), &c.dropped)
	counter(desc("unsent_total", "Answers over UDP that the kernel did not take."), &c.unsent)
	counter(desc("limited_total", "Questions not answered because their device asked too many."), &c.limited)
	counter(desc("panics_total", "Questions that met a fault of our own."), &c.panics)
	upstream := desc("upstream_queries_total", "Questions to upstream servers, by result.", "result")
	counter(upstream, &c.upstreamAnswered, "answered")
	counter(upstream, &c.upstreamFailed, "failed")
	counter(desc("upstream_ignored_total", "Messages from upstream servers that answered another question."), &c.ignored)
	out = append(out,
		metric{desc("upstream_answer_seconds_total", "Time spent waiting for upstream answers that came."),
			prometheus.CounterValue, nil, time.Duration(c.upstreamNanos.Load()).Seconds()},
		metric{desc("cache_names", "Names that are remembered."), prometheus.GaugeValue, nil, float64(s.memory.size())},
		metric{desc("questions", "Questions for allowed names being answered now."), prometheus.GaugeValue, nil, float64(s.waiting.open())})
	known, lost := s.forward.health.lost()
	servers := desc("upstreams", "Upstream servers by state.", "state")
	out = append(out,
		metric{servers, prometheus.GaugeValue, []string{"answering"}, float64(known - lost)},
		metric{servers, prometheus.GaugeValue, []string{"lost"}, float64(lost)})
	latency := desc("upstream_latency_seconds", "How long answers of each upstream server usually take.", "upstream")
	for _, u := range s.forward.health.measured() {
		out = append(out, metric{latency, prometheus.GaugeValue, []string{u.Name}, u.Latency.Seconds()})
	}
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
