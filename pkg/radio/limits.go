package radio

import (
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// unknownSignal notices a radio that never reports a signal (F-11).
type unknownSignal struct {
	since time.Time // all stations have been without a signal since; zero: they are not
	said  bool
}

// look says it once, when every station of the radio has been without a signal
// for a whole window.
func (u *unknownSignal) look(now time.Time, w *watch) {
	for _, s := range w.stations {
		if s.last.Signal != 0 {
			*u = unknownSignal{}
			return
		}
	}
	switch {
	case len(w.stations) == 0: // nobody there to be heard
		u.since = time.Time{}
	case u.since.IsZero():
		u.since = now
	case !u.said && now.Sub(u.since) >= w.limit.Window:
		u.said = true
		w.log.Say(event.RadioSignalUnknown, event.Network(w.net.Name), event.F("INTERFACE", w.net.Interface))
	}
}

// lacking reports that the radio is known to report no signal.
func (u *unknownSignal) lacking() bool { return u.said }

// A crowd watches how many stations a radio holds against its limit (F-10).
type crowd struct{ level int }

// How crowded a radio is.
const (
	roomy = iota
	nearly
	full
)

// next is the level after was with n stations of at most limit: nearly full
// from 80 %, full at the limit, and back only when it has emptied below 70 %
// or by two stations, so that one that comes and goes is not said each time.
func (c crowd) next(n, limit int) int {
	if limit <= 0 {
		return roomy
	}
	switch {
	case n >= limit, c.level == full && n > limit-2 && n*10 >= limit*8:
		return full
	case n*10 >= limit*8, c.level != roomy && n*10 >= limit*7:
		return nearly
	}
	return roomy
}

// look says each new level once; not that of a garage which is as it was planned.
func (c *crowd) look(n int, w *watch) {
	was := c.level
	level := c.next(n, w.net.MaxStations)
	if level > was && w.planned() {
		return
	}
	c.level = level
	if c.level <= was {
		return
	}
	k := event.RadioNearlyFull
	if c.level == full {
		k = event.RadioFull
	}
	w.log.Say(k, event.Network(w.net.Name), event.F("INTERFACE", w.net.Interface),
		event.F("STATIONS", n), event.F("LIMIT", w.net.MaxStations))
}

// leastGuests is how many times an hour, at least, it is said that somebody whom the
// inventory does not name has joined.
const leastGuests = 20

// guests count the strangers that come in. They have the passphrase, and a new MAC as
// often as they like.
type guests struct {
	hour time.Time // when the present hour began
	said int       // in it, one by one
}

// welcome says whether to tell of one that has joined, and of its leaving later: of
// chargers always, of strangers so many times an hour as fit on the radio. That there
// are more is said once.
func (w *watch) welcome(mac charger.MAC, now time.Time) bool {
	if _, known := w.book.Known(mac); known {
		return true
	}
	g := &w.guests
	if g.hour.IsZero() || now.Sub(g.hour) >= again {
		*g = guests{hour: now}
	}
	most := max(leastGuests, w.net.MaxStations)
	g.said++
	if g.said == most+1 {
		w.log.Say(event.RadioStrangers, event.Network(w.net.Name), event.F("INTERFACE", w.net.Interface), event.F("COUNT", g.said))
	}
	g.said = min(g.said, most+1)
	return g.said <= most
}

// planned reports whether everybody on the radio is a charger of the inventory that
// belongs here, and all of those have room: then nobody is to come who has none.
func (w *watch) planned() bool {
	mine := w.book.Inventory(w.net.Name)
	if mine == 0 || mine > w.net.MaxStations {
		return false
	}
	for mac := range w.stations {
		if c, known := w.book.Known(mac); !known || !c.On(w.net.Name) {
			return false
		}
	}
	return true
}
