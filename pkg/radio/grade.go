package radio

import "slices"

// A Grade is the verdict on how well a charger is heard (Z-4).
type Grade int

// Grades, from the best. Unknown is no verdict: no signal was reported (F-11),
// or too few samples are there yet.
const (
	Unknown  Grade = iota
	Good           // better than the warning threshold
	Weak           // at the edge of what Zaptec asks for
	Below          // below Zaptec's minimum
	Critical       // the radio is about to give up
)

var gradeNames = [...]string{"unknown", "good", "weak", "below minimum", "critical"}

// String returns the grade in words.
func (g Grade) String() string {
	if g < Unknown || g > Critical {
		return "unknown"
	}
	return gradeNames[g]
}

// hysteresis is how far, in dB, the median must rise above a threshold before
// the verdict that went with it is taken back.
const hysteresis = 3

// thresholds are dBm; a median at or below one earns the grade.
type thresholds struct{ warn, minimum, critical int }

// of returns the threshold of a grade that has one.
func (t thresholds) of(g Grade) int {
	switch g {
	case Critical:
		return t.critical
	case Below:
		return t.minimum
	}
	return t.warn
}

// next is the verdict after was, for a median in dBm. It gets worse at once and
// better only with the hysteresis, so a signal that wanders within less than
// 3 dB never makes it go back and forth.
func (t thresholds) next(was Grade, median int) Grade {
	for g := Critical; g > Good; g-- {
		limit := t.of(g)
		if g <= was {
			limit += hysteresis - 1
		}
		if median <= limit {
			return g
		}
	}
	return Good
}

// median returns the middle of the values, the worse of the two middle ones
// when their number is even, and 0 when there are none. It reorders values.
func median(values []int) int {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}
