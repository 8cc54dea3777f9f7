package denied

import "github.com/prometheus/client_golang/prometheus"

// What a scrape sees. Interfaces come from the configuration.
var (
	descRefused = prometheus.NewDesc("chargegate_denied_frames_total", "Inbound frames that the firewall refuses, as far as they were looked at, by interface and class.", []string{"interface", "class"}, nil)
	descMissed  = prometheus.NewDesc("chargegate_denied_missed_frames_total", "Refused frames that were only counted, because there were too many.", []string{"interface"}, nil)
	descSeeing  = prometheus.NewDesc("chargegate_denied_watching", "1 while the interface can be watched.", []string{"interface"}, nil)
	descPanics  = prometheus.NewDesc("chargegate_denied_panics_total", "Frames lost to a fault of the gateway itself.", nil, nil)
)

// Describe tells the metrics of the room.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRefused, descMissed, descSeeing, descPanics} {
		ch <- d
	}
}

// Collect reads the metrics of the room now.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	for _, w := range s.watches {
		for c := range classes {
			ch <- prometheus.MustNewConstMetric(descRefused, prometheus.CounterValue, float64(w.results[c].Load()), w.ifname, classNames[c])
		}
		ch <- prometheus.MustNewConstMetric(descMissed, prometheus.CounterValue, float64(w.missed.Load()), w.ifname)
		seeing := 0.0
		if w.seeing.Load() {
			seeing = 1
		}
		ch <- prometheus.MustNewConstMetric(descSeeing, prometheus.GaugeValue, seeing, w.ifname)
	}
	ch <- prometheus.MustNewConstMetric(descPanics, prometheus.CounterValue, float64(s.panics.Load()))
}
