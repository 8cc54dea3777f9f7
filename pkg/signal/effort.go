package signal

import "time"

// How much must be sent again before a channel counts as disturbed. Up to a fifth
// is ordinary where there are neighbours. Two fifths over ten minutes, at a signal
// that asks for none, is not the charger's doing.
const (
	effortSpan  = 10 * time.Minute
	effortFew   = 30 // frames without which a share says nothing
	disturbedAt = 40 // percent
	calmAt      = 25 // percent, and less
)

// Counters are what a driver counts of a device since it joined.
type Counters struct {
	Sent   int // frames to it, each once however often it was tried
	Resent int // tries beyond the first
	Lost   int // frames that were given up
}

// since is what came to it. Counters that went back have begun anew, and what came
// before is not known.
func (c Counters) since(was Counters) Counters {
	if c.Sent < was.Sent || c.Resent < was.Resent || c.Lost < was.Lost {
		return Counters{}
	}
	return Counters{c.Sent - was.Sent, c.Resent - was.Resent, c.Lost - was.Lost}
}

func (c Counters) plus(d Counters) Counters {
	return Counters{c.Sent + d.Sent, c.Resent + d.Resent, c.Lost + d.Lost}
}

// share is how many percent of all tries were not the first, or -1 where there
// were fewer than least.
func (c Counters) share(least int) int {
	if tries := c.Sent + c.Resent; tries >= max(least, 1) {
		return c.Resent * 100 / tries
	}
	return -1
}

// An effort is what was sent to a device in the last ten minutes.
type effort struct {
	last   Counters
	known  bool // last is
	pieces []piece
}

// A piece is what came within a minute.
type piece struct {
	at time.Time
	Counters
}

// add takes the driver's counters and returns what is new.
func (e *effort) add(c Counters, now time.Time) Counters {
	var d Counters
	if e.known {
		d = c.since(e.last)
	}
	e.last, e.known = c, true
	if n := len(e.pieces); n > 0 && now.Sub(e.pieces[n-1].at) < time.Minute {
		e.pieces[n-1].Counters = e.pieces[n-1].plus(d)
		return d
	}
	e.forget(now)
	e.pieces = append(e.pieces, piece{now, d})
	return d
}

func (e *effort) forget(now time.Time) {
	n := 0
	for n < len(e.pieces) && now.Sub(e.pieces[n].at) >= effortSpan {
		n++
	}
	e.pieces = append(e.pieces[:0], e.pieces[n:]...)
}

// share returns the percent of tries beyond the first, or -1 before there is half
// of the span and enough was sent, and how many frames were lost.
func (e *effort) share(now time.Time) (resent, lost int) {
	e.forget(now)
	var sum Counters
	for _, p := range e.pieces {
		sum = sum.plus(p.Counters)
	}
	if len(e.pieces) == 0 || now.Sub(e.pieces[0].at) < effortSpan/2 {
		return -1, sum.Lost
	}
	return sum.share(effortFew), sum.Lost
}

// disturbed says whether a device suffers from somebody else on the channel. Where
// it is heard badly, or not known how, its frames are sent again for that reason.
func disturbed(was bool, v Verdict) bool {
	switch {
	case v.Grade > OK:
		return false
	case v.Grade == Unknown, was && v.Resent < 0: // it says little now, or is told little; that proves nothing
		return was
	case was:
		return v.Resent >= calmAt
	}
	return v.Resent >= disturbedAt
}
