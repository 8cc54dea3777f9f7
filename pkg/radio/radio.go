// Package radio watches how well each charger is heard. Every half minute it
// asks the kernel (nl80211) who is on each radio, tells the book who has come
// and gone, and judges each charger's signal by the median of five minutes
// with 3 dB of hysteresis (Z-4): warned before Zaptec's minimum, alarmed below
// it. What it measures is the uplink, how well this box hears the charger; a
// radio that reports no signal is said to do so once, and its chargers' signal
// is unknown, never 0 dBm (F-11). The number of stations is watched against
// what the radio can hold (F-10).
//
// Without nl80211, without the interface, or before hostapd has made it an
// access point, the room says so once and goes on looking.
//
// It does not speak with hostapd: wrong passwords and refused associations,
// which the kernel does not tell, are not seen here. It leaves to others the
// access point itself, what a charger does after it has joined, and showing
// the samples.
package radio

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// pace is the time between two rounds when the configuration names none.
const pace = 30 * time.Second

// patience is how many rounds are left out after one that found no nl80211.
const patience = 10

// A Sample is what the last look at one radio found.
type Sample struct {
	Network     string
	Interface   string
	State       State
	Problem     string    // why State is not Watched, in words; else empty
	At          time.Time // when it was looked at; zero: never
	MaxStations int       // as configured; 0: not known
	NoSignal    bool      // the radio is known to report no signal (F-11)
	Stations    []Station // by MAC; what was last known when State is Failed
}

// A Server watches the radios. It is safe for concurrent use.
type Server struct {
	every   time.Duration
	watches []*watch
	present []presence // beside watches
	book    *charger.Book
	log     *event.Log
	dial    func(context.Context) (stations, func(), error)

	rounds [3]atomic.Uint64 // by result: see roundResults

	mu      sync.Mutex
	limit   thresholds
	samples []Sample // beside watches
}

// Results of asking one radio, for the metrics.
const (
	answered = iota
	away
	failed
)

// New makes the watcher. Networks without a radio are not in cfg.
func New(cfg Config, book *charger.Book, log *event.Log) *Server {
	s := &Server{every: cfg.Every, book: book, log: log, dial: dial, present: make([]presence, len(cfg.Networks))}
	s.SetThresholds(cfg.Warn, cfg.Minimum, cfg.Critical)
	if s.every <= 0 {
		s.every = pace
	}
	for _, n := range cfg.Networks {
		s.watches = append(s.watches, &watch{
			net: n, every: s.every, book: book, log: log, stations: map[charger.MAC]*station{},
		})
		s.samples = append(s.samples, Sample{Network: n.Name, Interface: n.Interface, State: Waiting, MaxStations: n.MaxStations})
	}
	return s
}

// SetThresholds changes where verdicts begin, in dBm, from the next round on.
// What has been said stays said; only what is another verdict now is news.
func (s *Server) SetThresholds(warn, minimum, critical int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = thresholds{warn: warn, minimum: minimum, critical: critical}
}

func (s *Server) thresholds() thresholds {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit
}

// Name returns "radio".
func (s *Server) Name() string { return "radio" }

// Listen takes nothing and cannot fail: a radio may be plugged in at any time,
// and a garage without one is served all the same.
func (s *Server) Listen() error { return nil }

// Serve looks at the radios, at once and then round after round, until ctx is
// done. It never returns an error: a radio that is away is weather.
func (s *Server) Serve(ctx context.Context) error {
	if len(s.watches) == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	skip := 0
	said := false
	for ctx.Err() == nil {
		if skip > 0 {
			skip--
		} else if err := s.round(ctx, time.Now()); err != nil && ctx.Err() == nil {
			skip = patience
			if !said {
				s.log.Say(event.RadioUnsupported, event.Err(err))
			}
			said = true
		} else {
			said = false
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// Samples returns what the last look at each radio found, in the order of the
// configuration. The caller may keep it.
func (s *Server) Samples() []Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.samples)
	for i := range out {
		out[i].Stations = slices.Clone(out[i].Stations)
	}
	return out
}
