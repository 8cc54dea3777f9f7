package radio

import (
	"time"

	"chargegate/pkg/event"
)

// unknownSignal notices a radio that never reports a signal (F-11).
type unknownSignal struct {
	since time.Time // all stations have been without a signal since; zero: they are not
	said  bool
}

// look says it once, when every station of the radio has been without a signal
// for a whole span.
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
	case !u.said && now.Sub(u.since) >= span:
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

// look says each new level once.
func (c *crowd) look(n int, w *watch) {
	was := c.level
	c.level = c.next(n, w.net.MaxStations)
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
