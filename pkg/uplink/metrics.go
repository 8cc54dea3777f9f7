package uplink

import "github.com/prometheus/client_golang/prometheus"

var (
	descUp = prometheus.NewDesc("chargegate_uplink_up",
		"1 when the uplink had a link, an address and a default route at the last look. Absent until it was looked at.", nil, nil)
	descLosses = prometheus.NewDesc("chargegate_uplink_losses_total",
		"How often the uplink was said to be lost since the daemon started.", nil, nil)
)

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	ch <- descUp
	ch <- descLosses
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	state, losses := s.state, s.losses
	s.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(descLosses, prometheus.CounterValue, float64(losses))
	if !state.Known {
		return
	}
	up := 0.0
	if state.Up() {
		up = 1
	}
	ch <- prometheus.MustNewConstMetric(descUp, prometheus.GaugeValue, up)
}
