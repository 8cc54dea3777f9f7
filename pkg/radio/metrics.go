package radio

import (
	"strconv"
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
		"Stations that are let through on the network's radio, strangers included.", []string{"network"}, nil)
	descOutside = prometheus.NewDesc("chargegate_radio_unauthorized_stations",
		"Stations that the network's radio lists and has not let through: one frame is enough for that.", []string{"network"}, nil)
	descLimit = prometheus.NewDesc("chargegate_radio_station_limit",
		"Stations that the network's radio can hold, as configured.", []string{"network"}, nil)
	descRounds = prometheus.NewDesc("chargegate_radio_samples_total",
		"Looks at a radio, by what came of them.", []string{"result"}, nil)
	descSignal = prometheus.NewDesc("chargegate_radio_charger_signal_dbm",
		"Median over some minutes of how well this box hears the charger (the uplink). Absent while unknown.", []string{"charger", "network"}, nil)
	descRetries = prometheus.NewDesc("chargegate_radio_charger_retries_total",
		"Frames to the charger that had to be sent again, since it joined.", []string{"charger", "network"}, nil)
	descFailed = prometheus.NewDesc("chargegate_radio_charger_failed_total",
		"Frames to the charger that were lost, since it joined.", []string{"charger", "network"}, nil)
	descNotices = prometheus.NewDesc("chargegate_radio_notices_total",
		"What the kernel and hostapd told of radios between two looks, by what it was about.", []string{"about"}, nil)
	descDropped = prometheus.NewDesc("chargegate_radio_notices_dropped_total",
		"Notices for which there was no room while a radio was asked.", nil, nil)
	descDeaf = prometheus.NewDesc("chargegate_radio_kernel_reopened_total",
		"Times that the socket for the kernel's notices had to be opened anew.", nil, nil)
	descHostapdUp = prometheus.NewDesc("chargegate_radio_hostapd_up",
		"1 while hostapd answers and says that it sends beacons.", []string{"network"}, nil)
	descAttached = prometheus.NewDesc("chargegate_radio_hostapd_attached_total",
		"Times that a way to hostapd was opened: one more for each restart of hostapd.", []string{"network"}, nil)
	descEvents = prometheus.NewDesc("chargegate_radio_hostapd_events_total",
		"Events of hostapd, of any kind.", []string{"network"}, nil)
	descWrong = prometheus.NewDesc("chargegate_radio_wrong_passphrases_total",
		"Attempts to join with another passphrase.", []string{"network"}, nil)
	descRefused = prometheus.NewDesc("chargegate_radio_refused_total",
		"Attempts to join that were refused: for want of room (F-10), or for something else.", []string{"network", "cause"}, nil)
	descLeft = prometheus.NewDesc("chargegate_radio_left_total",
		"Stations that have gone, by who said so and the reason code (IEEE 802.11, table 9-49; 0: none, or an unusual one).", []string{"network", "by", "reason"}, nil)
)

var roundResults = [...]string{answered: "answered", away: "away", failed: "failed"}

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descUp, descAge, descStations, descOutside, descLimit, descRounds, descSignal, descRetries, descFailed,
		descNotices, descDropped, descDeaf, descHostapdUp, descAttached, descEvents, descWrong, descRefused, descLeft} {
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
	for about, name := range matterNames {
		counter(descNotices, float64(s.heard[about].Load()), name)
	}
	counter(descDropped, float64(s.dropped.Load()))
	counter(descDeaf, float64(s.deaf.Load()))
	for i, w := range s.watches {
		w.collect(gauge, counter, &s.posts[i])
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

// collect gives the series of one radio's door.
func (w *watch) collect(gauge, counter func(*prometheus.Desc, float64, ...string), p *post) {
	up := 0.0
	if v := p.voice.Load(); v != nil && v.state == "ENABLED" {
		up = 1
	}
	name := w.net.Name
	gauge(descHostapdUp, up, name)
	gauge(descOutside, float64(w.outside.Load()), name)
	counter(descAttached, float64(p.attached.Load()), name)
	counter(descEvents, float64(p.events.Load()), name)
	counter(descWrong, float64(w.wrongs.Load()), name)
	counter(descRefused, float64(w.refusals[0].Load()), name, "other")
	counter(descRefused, float64(w.refusals[1].Load()), name, "full")
	w.goings.Lock()
	defer w.goings.Unlock()
	for why, n := range w.went {
		counter(descLeft, float64(n), name, partyNames[why.by], strconv.Itoa(int(why.code)))
	}
}
