package radio

import (
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/signal"
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
	limit signal.Limits
	every time.Duration
	book  *charger.Book
	log   *event.Log

	history History // nil: nobody keeps one

	frequency int // MHz, as of the last look that found it serving

	stations map[charger.MAC]*station
	left     map[charger.MAC]*past
	begun    bool // a round has succeeded since the radio was last away
	unknown  unknownSignal
	crowd    crowd
	guests   guests
	peace    time.Time // until when it is not asked; see tooLong
	busy     airtime
	door     // who does not come in, and who goes
}

// station is what is remembered of one device while it is on the radio.
type station struct {
	*past
	since  time.Time // when it joined
	missed int       // rounds in a row that did not list it
	stale  bool      // the last round brought no new frame
	untold bool      // it is a stranger of whom nothing is said; see guests
	exit             // what is known of its going
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
	w.forget(now)
	w.unknown.look(now, w)
	w.crowd.look(len(here), w)
	w.begun = true
}

// see takes one station that the radio lists.
func (w *watch) see(now time.Time, g Station) {
	s := w.stations[g.MAC]
	joined := s == nil
	if joined {
		s = &station{past: w.remembered(g.MAC), since: now.Add(-g.Connected)}
		w.stations[g.MAC] = s
	}
	// A frame older than the last round tells nothing new, neither of its signal
	// nor of its life; the moment of the frame is what the book wants to know.
	s.stale = !joined && g.Inactive > w.every
	measured := g.Signal
	g.Signal = w.limit.Corrected(measured)
	s.missed, s.last = 0, g
	if s.stale {
		measured = 0
	} else {
		w.book.Associated(g.MAC, w.net.Name, g.Signal, now.Add(-g.Inactive))
	}
	// After a start of the daemon everybody is new to it; who says that it has
	// been connected for long did not join now.
	if joined && (w.begun || g.Connected > 0 && g.Connected <= w.every) {
		if s.untold = !w.welcome(g.MAC, now); !s.untold {
			w.log.Say(event.ChargerJoined, event.MAC(g.MAC), event.Network(w.net.Name), event.F("SIGNAL", dBm(g.Signal)))
		}
	}
	w.judge(now, s, measured)
}

// gone forgets a station that has left.
func (w *watch) gone(now time.Time, mac charger.MAC, s *station) {
	delete(w.stations, mac)
	w.remember(now, mac, s)
	if !w.book.Left(mac, w.net.Name, now) {
		return // it has moved to another radio, which speaks for it now
	}
	why := w.farewell(s)
	if s.untold {
		return
	}
	w.log.Say(event.ChargerLeft, event.MAC(mac), event.Network(w.net.Name), event.F("CONNECTED", now.Sub(s.since)), event.F("REASON", why))
}

// away forgets everybody: the radio itself is gone, and all with it.
func (w *watch) away(now time.Time) {
	for mac, s := range w.stations {
		s.lose()
		w.gone(now, mac, s)
	}
	clear(w.coming)
	clear(w.waiting)
	w.outside.Store(0)
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
