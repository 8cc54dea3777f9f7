package status

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// answers counts what was answered, by endpoint.
type answers struct{ given, refused [len(endpoints)]atomic.Uint64 }

var (
	descStage = prometheus.NewDesc("chargegate_charger_stage",
		"The step that the charger is missing, or ok: 1 for its stage, 0 for the others.", []string{"charger", "stage"}, nil)
	descBytes = prometheus.NewDesc("chargegate_charger_bytes_total",
		"Bytes of the charger's conversations since the daemon started: up from it, down to it.", []string{"charger", "direction"}, nil)
	descSeen = prometheus.NewDesc("chargegate_charger_last_seen_age_seconds",
		"Time since the charger's last sign of life. Absent until it was seen.", []string{"charger"}, nil)
	descSessions = prometheus.NewDesc("chargegate_charger_cloud_sessions",
		"Conversations with the cloud that the charger has open.", []string{"charger"}, nil)
	descConnects = prometheus.NewDesc("chargegate_charger_connects_total",
		"Conversations that the charger has opened since the daemon started.", []string{"charger"}, nil)
	descStrangers = prometheus.NewDesc("chargegate_charger_strangers",
		"Devices seen that are not in the inventory.", nil, nil)
	descEvents = prometheus.NewDesc("chargegate_events_total",
		"Events since the daemon started, those held back included.", []string{"event", "level"}, nil)
	descAnswers = prometheus.NewDesc("chargegate_status_requests_total",
		"Questions to the noticeboard, by what came of them.", []string{"endpoint", "result"}, nil)
	descBuild = prometheus.NewDesc("chargegate_build_info",
		"1, with the version of the daemon as label.", []string{"version"}, nil)
)

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descStage, descBytes, descSeen, descSessions, descConnects, descStrangers, descEvents, descAnswers, descBuild} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Only chargers of the inventory have
// series of their own: a stranger can invent MACs.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	now := time.Now()
	strangers := 0
	for _, c := range s.src.Book.All(now) {
		if !c.Known {
			strangers++
			continue
		}
		// The file of names may hold bytes that a label must not.
		name := strings.ToValidUTF8(c.Name, "�")
		for _, stage := range charger.Stages() {
			gauge(descStage, truth(c.Stage == stage), name, string(stage))
		}
		counter(descBytes, float64(c.Up), name, "up")
		counter(descBytes, float64(c.Down), name, "down")
		gauge(descSessions, float64(c.Sessions), name)
		counter(descConnects, float64(c.Connects), name)
		if !c.LastSeen.IsZero() {
			gauge(descSeen, max(0, now.Sub(c.LastSeen).Seconds()), name)
		}
	}
	gauge(descStrangers, float64(strangers))
	s.collectEvents(counter)
	for i, endpoint := range endpoints {
		counter(descAnswers, float64(s.answers.given[i].Load()), endpoint, "answered")
		counter(descAnswers, float64(s.answers.refused[i].Load()), endpoint, "refused")
	}
	gauge(descBuild, 1, strings.ToValidUTF8(s.src.Version, "�"))
}

// collectEvents counts the whole vocabulary, what was never said as 0, so that
// a first event is an increase.
func (s *Server) collectEvents(counter func(*prometheus.Desc, float64, ...string)) {
	counts := map[*event.Kind]uint64{}
	if s.log != nil {
		counts = s.log.Counts()
	}
	for _, k := range event.All() {
		counter(descEvents, float64(counts[k]), k.ID, k.Level.String())
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// register gathers everybody who counts.
func (s *Server) register() (*prometheus.Registry, error) {
	registry := prometheus.NewRegistry()
	all := append([]prometheus.Collector{
		s, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}, s.src.Collectors...)
	for _, c := range all {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering %T: %w", c, err)
		}
	}
	return registry, nil
}
