package ntprelay

import "time"

// stepSize is the smallest jump that counts as one. Disciplining a clock never
// jumps: it changes the speed of both clocks alike.
const stepSize = time.Millisecond

// A look reads the clock: the time, and how much further the wall clock has
// come than the monotonic clock since some beginning. The discipline runs both
// at the same speed, so drift stays the same until somebody sets the wall clock.
type look func() (now time.Time, drift time.Duration)

// lookFrom reads the real clocks, both at once, as time.Now does.
func lookFrom(origin time.Time) look {
	return func() (time.Time, time.Duration) {
		now := time.Now()
		return now, now.Round(0).Sub(origin.Round(0)) - now.Sub(origin)
	}
}

// step returns by how much the wall clock was set since drift was was, 0 if it
// was not, and the moment and drift of which that is true. A goroutine that
// loses the processor between the two readings inside time.Now would see a step
// that never was; so what looks like one is looked at again.
func (l look) step(was time.Duration) (step time.Duration, now time.Time, drift time.Duration) {
	for range 3 {
		now, drift = l()
		if step = drift - was; step.Abs() < stepSize {
			return 0, now, drift
		}
	}
	return step, now, drift
}
