package radio

import (
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/signal"
)

const (
	// recall is how long after it left a device is remembered: who comes and goes is
	// told of once, and not every time. Strangers are remembered as long as there
	// are few.
	recall = time.Hour
	fewer  = 64
)

// A History remembers how devices were heard. measured is 0 where there is nothing
// new of a device that is there; sent is what came since the look before.
type History interface {
	Heard(mac [6]byte, measured int, sent signal.Counters, now time.Time)
}

// KeepHistory has every look told to h. It is to be called before Serve.
func (s *Server) KeepHistory(h History) {
	for _, w := range s.watches {
		w.history = h
	}
}

// SetLimits changes how signals are judged, from the next round on. What has been
// said stays said; only what is another verdict now is news.
func (s *Server) SetLimits(l signal.Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = l
}

func (s *Server) limits() signal.Limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit
}

// past is what is remembered of a device beyond one stay.
type past struct {
	judge signal.Judge
	left  time.Time
}

// remembered is what is known of a device that joins.
func (w *watch) remembered(mac charger.MAC) *past {
	if p := w.left[mac]; p != nil {
		delete(w.left, mac)
		return p
	}
	return &past{}
}

// remember keeps what is known of a device that leaves.
func (w *watch) remember(now time.Time, mac charger.MAC, s *station) {
	if _, known := w.book.Known(mac); !known && len(w.left) >= fewer {
		return
	}
	s.past.left = now
	w.left[mac] = s.past
}

// forget drops who has been away for too long.
func (w *watch) forget(now time.Time) {
	for mac, p := range w.left {
		if now.Sub(p.left) >= recall {
			delete(w.left, mac)
		}
	}
}

// judge brings a station's verdict up to date and says what changed. measured is
// what was heard of it now, 0 for nothing new.
func (w *watch) judge(now time.Time, s *station, measured int) {
	s.judge.Heard(measured, now)
	sent := s.judge.Sent(signal.Counters{Sent: s.last.Sent, Resent: s.last.Retries, Lost: s.last.Failed}, now)
	if w.history != nil {
		w.history.Heard(s.last.MAC, measured, sent, now)
	}
	v := s.judge.Look(w.limit, now)
	s.last.Median, s.last.Grade, s.last.GradeFor, s.last.Said, s.last.Resent = v.Median, v.Grade, v.For, v.Said, v.Resent
	s.last.Early = v.Early
	who, where := event.MAC(s.last.MAC), event.Network(w.net.Name)
	if k := transition(v.Was, v.Said); k != nil {
		w.log.Say(k, who, where, event.F("SIGNAL", v.Median), event.F("MINIMUM", w.limit.Minimum), event.F("BETTER", w.limit.Better(v.Said)),
			event.F("GRADE", v.Said), event.F("WAS", v.Was))
	}
	if v.Disturbed != v.WasDisturbed {
		w.log.Say(interference(v), who, where, event.F("SIGNAL", dBm(v.Median)), event.F("RESENT", max(0, v.Resent)), event.F("LOST", v.Lost))
	}
}

// interference is what there is to say where it has turned: that it has ended is
// not known of who is heard too badly to tell.
func interference(v signal.Verdict) *event.Kind {
	switch {
	case v.Disturbed:
		return event.ChargerInterference
	case v.Grade > signal.OK:
		return event.ChargerInterferenceUntold
	}
	return event.ChargerInterferenceOver
}

// transition is what there is to say when the grade that is said changes, or nil.
func transition(was, is signal.Grade) *event.Kind {
	switch {
	case is == was, is <= signal.OK && was <= signal.OK:
		return nil
	case is <= signal.OK:
		return event.ChargerSignalRecovered
	case is < was:
		return event.ChargerSignalImproved
	case is == signal.Weak:
		return event.ChargerSignalWeak
	case is == signal.Below:
		return event.ChargerSignalBelowMinimum
	}
	return event.ChargerSignalCritical
}
