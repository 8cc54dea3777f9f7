package radio

import (
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

const (
	// absences is how many rounds in a row must miss a station before it counts
	// as gone: what a charger has proved begins again when it leaves, and some
	// drivers skip one now and then.
	absences = 2
	// silent is how long a station may be listed without a frame. hostapd
	// removes one after 5 min; chargers give a sign of life every minute.
	silent = 10 * time.Minute
)

// A watch follows the stations of one radio. It is used by one goroutine, does
// no input or output, and takes the time from its caller.
type watch struct {
	net   Network
	limit thresholds
	every time.Duration
	book  *charger.Book
	log   *event.Log

	stations map[charger.MAC]*station
	begun    bool // a round has succeeded since the radio was last away
	unknown  unknownSignal
	crowd    crowd
}

// station is what is remembered of one device while it is on the radio.
type station struct {
	window window
	grade  Grade
	since  time.Time // when it joined
	missed int       // rounds in a row that did not list it
	stale  bool      // the last round brought no new frame
	last   Station
}

// look takes what a successful round found.
func (w *watch) look(now time.Time, got []Station) {
	here := make(map[charger.MAC]bool, len(got))
	for _, g := range got {
		if g.Inactive < silent {
			here[g.MAC] = true
			w.see(now, g)
		}
	}
	for mac, s := range w.stations {
		if here[mac] {
			continue
		}
		if s.missed++; s.missed >= absences || s.last.Inactive+w.every >= silent {
			w.gone(now, mac, s)
		}
	}
	w.unknown.look(now, w)
	w.crowd.look(len(here), w)
	w.begun = true
}

// see takes one station that the radio lists.
func (w *watch) see(now time.Time, g Station) {
	s := w.stations[g.MAC]
	joined := s == nil
	if joined {
		s = &station{since: now.Add(-g.Connected)}
		w.stations[g.MAC] = s
	}
	// A frame older than the last round tells nothing new, neither of its signal
	// nor of its life; the moment of the frame is what the book wants to know.
	s.stale = !joined && g.Inactive > w.every
	s.missed, s.last = 0, g
	if !s.stale {
		w.book.Associated(g.MAC, w.net.Name, g.Signal, now.Add(-g.Inactive))
		if g.Signal != 0 {
			s.window.add(g.Signal, now)
		}
	}
	// After a start of the daemon everybody is new to it; who says that it has
	// been connected for long did not join now.
	if joined && (w.begun || g.Connected > 0 && g.Connected <= w.every) {
		w.log.Say(event.ChargerJoined, event.MAC(g.MAC), event.Network(w.net.Name), event.F("SIGNAL", dBm(g.Signal)))
	}
	w.judge(now, s)
}

// judge brings a station's verdict up to date and says what changed.
func (w *watch) judge(now time.Time, s *station) {
	s.window.forget(now)
	median, ok := s.window.median()
	s.last.Median = median
	if !ok {
		s.last.Grade = Unknown
		return
	}
	was := s.grade
	s.grade = w.limit.next(was, median)
	s.last.Grade = s.grade
	if k := transition(was, s.grade); k != nil {
		w.log.Say(k, event.MAC(s.last.MAC), event.Network(w.net.Name), event.F("SIGNAL", median),
			event.F("MINIMUM", w.minimum(s.grade)), event.F("GRADE", s.grade), event.F("WAS", was))
	}
}

// minimum is the threshold that the sentence of a grade speaks of.
func (w *watch) minimum(g Grade) int {
	if g == Below || g == Critical {
		return w.limit.minimum
	}
	return w.limit.warn
}

// transition is what there is to say when a verdict changes, or nil.
func transition(was, is Grade) *event.Kind {
	switch {
	case is == was, is == Good && was == Unknown:
		return nil
	case is == Good:
		return event.ChargerSignalRecovered
	case is < was:
		return event.ChargerSignalImproved
	case is == Weak:
		return event.ChargerSignalWeak
	case is == Below:
		return event.ChargerSignalBelowMinimum
	}
	return event.ChargerSignalCritical
}

// gone forgets a station that has left.
func (w *watch) gone(now time.Time, mac charger.MAC, s *station) {
	delete(w.stations, mac)
	if !w.book.Left(mac, w.net.Name, now) {
		return // it has moved to another radio, which speaks for it now
	}
	w.log.Say(event.ChargerLeft, event.MAC(mac), event.Network(w.net.Name), event.F("CONNECTED", now.Sub(s.since)))
}

// away forgets everybody: the radio itself is gone, and all with it.
func (w *watch) away(now time.Time) {
	for mac, s := range w.stations {
		w.gone(now, mac, s)
	}
	w.begun, w.unknown, w.crowd = false, unknownSignal{said: w.unknown.said}, crowd{}
}

// list returns the stations as they were last seen, in no order.
func (w *watch) list() []Station {
	out := make([]Station, 0, len(w.stations))
	for _, s := range w.stations {
		out = append(out, s.last)
	}
	return out
}

// dBm writes a signal for the log.
func dBm(signal int) any {
	if signal == 0 {
		return "unknown"
	}
	return signal
}
