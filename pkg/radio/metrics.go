package radio

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descUp = prometheus.NewDesc("chargegate_radio_up",
		"1 when the last look at the network's radio found an access point that says who is on it.", []string{"network"}, nil)
	descAge = prometheus.NewDesc("chargegate_radio_last_sample_age_seconds",
		"Time since the network's radio was last looked at.", []string{"network"}, nil)
	descStations = prometheus.NewDesc("chargegate_radio_stations",
		"Stations on the network's radio, strangers included.", []string{"network"}, nil)
	descLimit = prometheus.NewDesc("chargegate_radio_station_limit",
		"Stations that the network's radio can hold, as configured.", []string{"network"}, nil)
	descRounds = prometheus.NewDesc("chargegate_radio_samples_total",
		"Looks at a radio, by what came of them.", []string{"result"}, nil)
	descSignal = prometheus.NewDesc("chargegate_radio_charger_signal_dbm",
		"Median over five minutes of how well this box hears the charger (the uplink). Absent while unknown.", []string{"charger", "network"}, nil)
	descRetries = prometheus.NewDesc("chargegate_radio_charger_retries_total",
		"Frames to the charger that had to be sent again, since it joined.", []string{"charger", "network"}, nil)
	descFailed = prometheus.NewDesc("chargegate_radio_charger_failed_total",
		"Frames to the charger that were lost, since it joined.", []string{"charger", "network"}, nil)
)

var roundResults = [...]string{answered: "answered", away: "away", failed: "failed"}

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descUp, descAge, descStations, descLimit, descRounds, descSignal, descRetries, descFailed} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Only chargers of the inventory have
// series of their own.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	for i, result := range roundResults {
		counter(descRounds, float64(s.rounds[i].Load()), result)
	}
	now := time.Now()
	for _, at := range s.Samples() {
		up := 0.0
		if at.State == Watched {
			up = 1
		}
		gauge(descUp, up, at.Network)
		gauge(descStations, float64(len(at.Stations)), at.Network)
		if at.MaxStations > 0 {
			gauge(descLimit, float64(at.MaxStations), at.Network)
		}
		if !at.At.IsZero() {
			gauge(descAge, now.Sub(at.At).Seconds(), at.Network)
		}
		for _, st := range at.Stations {
			row, ok := s.book.Known(st.MAC)
			if !ok {
				continue
			}
			// The file of names may hold bytes that a label must not.
			name := strings.ToValidUTF8(row.Name, "�")
			if st.Median != 0 {
				gauge(descSignal, float64(st.Median), name, at.Network)
			}
			counter(descRetries, float64(st.Retries), name, at.Network)
			counter(descFailed, float64(st.Failed), name, at.Network)
		}
	}
}
