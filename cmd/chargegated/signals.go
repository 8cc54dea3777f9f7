package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/signal"
)

// signals looks after the history of signals: it tells it the time, says who is heard
// worse from day to day, and has it written once an hour and at a stop.
type signals struct {
	*signal.History
	shelf *signal.Shelf
	file  string
	dated func() bool // whether this box knows what day it is
	log   *event.Log

	mu      sync.Mutex // of the writing
	trouble bool
	saved   time.Time

	written, failures atomic.Int64
}

// openSignals reads the history in a file. Whatever is wrong with it costs history
// and not the service.
func openSignals(file string, book *charger.Book, dated func() bool, log *event.Log) *signals {
	known := func(mac signal.MAC) bool {
		_, named := book.Known(mac)
		return named || book.Inventory("") == 0 // without an inventory nobody is a stranger
	}
	h, shelf, fault := signal.Open(file, known)
	if fault != nil {
		log.Say(event.SignalUnread, event.F("FILE", fault.File), event.F("ASIDE", fault.Aside), event.Err(fault.Err))
	}
	s := &signals{History: h, shelf: shelf, file: file, dated: dated, log: log, saved: time.Now()}
	s.date(s.saved, s.saved)
	return s
}

// date tells the history what time it is.
func (s *signals) date(now, wall time.Time) { s.Clock(now, wall, s.dated()) }

// look is to be called every few seconds: what time it is, is news at the start.
func (s *signals) look(now, wall time.Time) {
	s.date(now, wall)
	for _, f := range s.Falls(now) {
		s.log.Say(event.ChargerSignalFalling, event.MAC(f.MAC), event.F("FROM", f.From), event.F("SIGNAL", f.To), event.F("DAYS", f.Days))
	}
	s.mu.Lock()
	due := now.Sub(s.saved) >= saveEvery
	s.mu.Unlock()
	if due {
		s.save(now)
	}
}

// save writes what was heard since the last time.
func (s *signals) save(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = now
	n, err := s.shelf.Save(s.History, now)
	s.written.Add(int64(n))
	switch {
	case err != nil:
		s.failures.Add(1)
		if !s.trouble {
			s.log.Say(event.SignalUnwritten, event.F("FILE", s.file), event.Err(err))
		}
	case s.trouble && n > 0:
		s.log.Say(event.SignalWritten, event.F("FILE", s.file))
	}
	s.trouble = err != nil || s.trouble && n == 0
}

func (s *signals) Name() string  { return "signals" }
func (s *signals) Listen() error { return nil }

// Serve looks every ten seconds until ctx is done. The last word is save's, which is
// called when nobody hears anything any more.
func (s *signals) Serve(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.look(now, now)
		case <-ctx.Done():
			return nil
		}
	}
}

// What a scrape sees of the history. The signals themselves are the radio's.
var (
	descSignalDevices  = prometheus.NewDesc("chargegate_signal_devices", "Devices whose signals are remembered.", nil, nil)
	descSignalWritten  = prometheus.NewDesc("chargegate_signal_written_bytes_total", "Bytes of the history of signals written to the disk.", nil, nil)
	descSignalFailures = prometheus.NewDesc("chargegate_signal_write_failures_total", "Times the history of signals could not be written.", nil, nil)
)

// Describe tells the metrics of the history.
func (s *signals) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descSignalDevices, descSignalWritten, descSignalFailures} {
		ch <- d
	}
}

// Collect reads the metrics of the history now.
func (s *signals) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(descSignalDevices, prometheus.GaugeValue, float64(s.Size()))
	ch <- prometheus.MustNewConstMetric(descSignalWritten, prometheus.CounterValue, float64(s.written.Load()))
	ch <- prometheus.MustNewConstMetric(descSignalFailures, prometheus.CounterValue, float64(s.failures.Load()))
}
