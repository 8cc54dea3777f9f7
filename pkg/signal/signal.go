// Package signal judges how well a charger is heard (Z-4), and remembers it.
//
// A Judge follows one device: the median of some minutes becomes a grade, with
// 3 dB of hysteresis, which is shown at once; what has lasted for minutes becomes
// the grade that is said. Beside it stands how many frames had to be sent again: a
// charger that is heard well and still needs many is disturbed by others.
//
// A History keeps a ring of minutes for a day and of hours for 90 days for each
// charger, and notices who is heard worse from day to day. It is in memory, and a
// Shelf keeps it in one file, to which it appends at most once an hour. Whatever
// was heard before the clock was known to be right is moved to where it belongs
// when the clock is known (F-12).
//
// Every signal is the uplink's, in dBm: how well this box hears the charger. 0 is
// unknown (F-11).
//
// The package leaves to others where signals come from, what a device is called,
// and what is said of it.
package signal

import "time"

// A MAC is a device.
type MAC = [6]byte

// A Grade is the verdict on how well a charger is heard (Z-4).
type Grade int

// Grades, from the best. Unknown is no verdict: no signal was reported (F-11), or
// too few are there yet.
const (
	Unknown  Grade = iota
	Good           // far above what Zaptec asks for
	OK             // enough, and not much more
	Weak           // at the edge of what Zaptec asks for
	Below          // below Zaptec's minimum
	Critical       // the radio is about to give up
)

var gradeNames = [...]string{"unknown", "good", "ok", "weak", "below minimum", "critical"}

// String returns the grade in words.
func (g Grade) String() string {
	if g < Unknown || g > Critical {
		return "unknown"
	}
	return gradeNames[g]
}

// Limits say where grades begin and how long one must last to be said.
type Limits struct {
	// Warn, Minimum and Critical are dBm, each weaker than the one before. A median
	// at or below one earns the grade Weak, Below or Critical.
	Warn, Minimum, Critical int
	// Window is how far back the median looks: chargers stand still, but cars and
	// doors move around them.
	Window time.Duration
	// WeakAfter and BelowAfter are how long the grade must have lasted until it is
	// said. Critical is said at once.
	WeakAfter, BelowAfter time.Duration
	// UplinkOffset is added to every signal that is measured, in dB: for an antenna
	// or a driver that is known to tell too much or too little.
	UplinkOffset int
}

// Default returns what holds where the configuration says nothing: Zaptec's
// minimum (Z-4), and times that no car which is parked takes.
func Default() Limits {
	return Limits{Warn: -74, Minimum: -75, Critical: -80, Window: 5 * time.Minute, WeakAfter: 10 * time.Minute, BelowAfter: 5 * time.Minute}
}

const (
	// hysteresis is how far, in dB, the median must rise above a threshold before
	// the grade that went with it is taken back.
	hysteresis = 3
	// comfort is how far above Warn a signal is Good, and not only OK.
	comfort = 7
)

// Corrected returns a measured signal with the offset: never 0 or more, which
// would be unknown, and never below what one byte holds. Unknown stays unknown.
func (l Limits) Corrected(measured int) int {
	if measured >= 0 {
		return 0
	}
	return max(lowest, min(measured+l.UplinkOffset, -1))
}

// of returns the highest median that earns a grade worse than Good.
func (l Limits) of(g Grade) int {
	switch g {
	case Critical:
		return l.Critical
	case Below:
		return l.Minimum
	case Weak:
		return l.Warn
	}
	return l.Warn + comfort - 1
}

// Better returns the lowest median, in dBm, with which a signal of that grade counts
// as better again.
func (l Limits) Better(than Grade) int { return l.of(than) + hysteresis }

// next is the grade after was, for a median in dBm. It gets worse at once and
// better only with the hysteresis, so a signal that wanders within less than 3 dB
// never makes it go back and forth.
func (l Limits) next(was Grade, median int) Grade {
	for g := Critical; g > Good; g-- {
		limit := l.of(g)
		if g <= was {
			limit += hysteresis - 1
		}
		if median <= limit {
			return g
		}
	}
	return Good
}

// after is how long a grade must have lasted until it is said.
func (l Limits) after(g Grade) time.Duration {
	switch g {
	case Weak:
		return l.WeakAfter
	case Below:
		return l.BelowAfter
	}
	return 0
}
