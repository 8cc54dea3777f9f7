package radio

import "time"

// span is how far back a verdict looks: chargers stand still, but cars and
// doors move around them.
const span = 5 * time.Minute

// enough is how many samples a verdict needs: half a window at the usual pace.
const enough = 5

// A reading is one signal in dBm, and when it was read.
type reading struct {
	at     time.Time
	signal int
}

// A window holds the readings of the last span, oldest first.
type window struct{ readings []reading }

// add takes a reading and forgets those that are older than the span.
func (w *window) add(signal int, now time.Time) {
	w.forget(now)
	w.readings = append(w.readings, reading{now, signal})
}

// forget drops what is older than the span.
func (w *window) forget(now time.Time) {
	n := 0
	for n < len(w.readings) && now.Sub(w.readings[n].at) >= span {
		n++
	}
	w.readings = append(w.readings[:0], w.readings[n:]...)
}

// median returns the median in dBm; ok is false while there are too few
// readings for a verdict.
func (w *window) median() (signal int, ok bool) {
	values := make([]int, len(w.readings))
	for i, r := range w.readings {
		values[i] = r.signal
	}
	return median(values), len(values) >= enough
}
