// Package uplink watches the interface towards the Internet: whether it is
// there, has a cable, an address and a default route. Without one of these no
// charger reaches anything, and nobody else here would notice before a charger
// calls.
//
// It asks the kernel every two seconds (rtnetlink, for which no privilege is
// needed) and says only what has lasted. What it leaves to others: whether
// anything answers behind the interface is the business of the resolver and of
// the doctor; it changes nothing.
package uplink

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"chargegate/pkg/event"
)

const (
	// pace is the time between two looks.
	pace = 2 * time.Second
	// settle is how long something must have lasted before it is said: a renewed
	// lease or a switch that restarts its port is no news.
	settle = 5 * time.Second
)

// A State is how the uplink was at the last look. It is not smoothed: whoever
// looks wants to know how it is now.
type State struct {
	Interface string
	// Known says that the kernel has told. The rest is empty until then.
	Known bool
	// Missing is what stands between this box and the Internet, in words: "no
	// such interface", "switched off", "no cable", "no address", "no default
	// route". Empty: nothing.
	Missing string
	// Do says what to do about what is missing.
	Do string
	// Address is the interface's own, IPv4 before IPv6; invalid: none.
	Address netip.Addr
	// Since is when this box noticed that the uplink is up, or that it is not.
	Since time.Time
	// Problem is why the kernel could not be asked, in words. The rest is then
	// from the look before.
	Problem string
}

// Up reports whether nothing is missing.
func (s State) Up() bool { return s.Known && s.Missing == "" }

// A Server watches the uplink. It is safe for concurrent use.
type Server struct {
	cfg  Config
	log  *event.Log
	look func(name string) (view, error)

	mu     sync.Mutex
	state  State
	story  story
	losses uint64
	deaf   bool // it has been said that the kernel cannot be asked
}

// New makes the watcher.
func New(cfg Config, log *event.Log) *Server {
	return &Server{cfg: cfg, log: log, look: look, state: State{Interface: cfg.Interface}}
}

// Name returns "uplink".
func (s *Server) Name() string { return "uplink" }

// Listen takes nothing and cannot fail: chargers are served however the uplink
// is.
func (s *Server) Listen() error { return nil }

// Serve looks at the uplink, at once and then again and again, until ctx is
// done. It never returns an error.
func (s *Server) Serve(ctx context.Context) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		v, err := s.look(s.cfg.Interface)
		s.take(v, err, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// State returns how the uplink was at the last look.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// take notes what a look has found, and says what is news.
func (s *Server) take(v view, err error, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.state.Problem = err.Error()
		if !s.deaf {
			s.deaf = true
			s.log.Say(event.UplinkUnreadable, event.F("INTERFACE", s.cfg.Interface), event.Err(err))
		}
		return
	}
	s.deaf = false
	missing, do := judge(s.cfg.Interface, v)
	next := State{Interface: s.cfg.Interface, Known: true, Missing: missing, Do: do, Address: v.address(), Since: s.state.Since}
	if next.Up() != s.state.Up() || !s.state.Known {
		next.Since = now
	}
	s.state = next
	switch news, after := s.story.next(missing, now); news {
	case lost:
		s.losses++
		s.log.Say(event.UplinkLost, event.F("INTERFACE", s.cfg.Interface), event.F("MISSING", missing), event.F("DO", do))
	case restored:
		s.log.Say(event.UplinkRestored, event.F("INTERFACE", s.cfg.Interface), event.F("ADDRESS", next.Address),
			event.F("AFTER", after.Round(time.Second)))
	}
}
