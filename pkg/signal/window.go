package signal

import (
	"slices"
	"time"
)

const (
	// few is how many readings a verdict needs at least.
	few = 3
	// maxReadings bounds a window, however often somebody looks: half an hour at
	// one look in five seconds.
	maxReadings = 360
)

// A reading is one signal in dBm as it was measured, and when.
type reading struct {
	at     time.Time
	signal int
}

// A window holds the readings of the last minutes, oldest first.
type window struct{ readings []reading }

// add takes a reading.
func (w *window) add(signal int, at time.Time) {
	if len(w.readings) >= maxReadings {
		w.readings = append(w.readings[:0], w.readings[1:]...)
	}
	w.readings = append(w.readings, reading{at, signal})
}

// forget drops what is as old as span or older.
func (w *window) forget(now time.Time, span time.Duration) {
	n := 0
	for n < len(w.readings) && now.Sub(w.readings[n].at) >= span {
		n++
	}
	w.readings = append(w.readings[:0], w.readings[n:]...)
}

// median returns the median in dBm. ok is false while there is no verdict: it
// takes three readings that reach back over half of span. (Half of the readings
// that there could be would be too many: a charger that has nothing to say gives
// a sign of life once a minute, and whoever looks more often hears nothing new.)
func (w *window) median(now time.Time, span time.Duration) (signal int, ok bool) {
	w.forget(now, span)
	if len(w.readings) < few || now.Sub(w.readings[0].at) < span/2 {
		return 0, false
	}
	values := make([]int, len(w.readings))
	for i, r := range w.readings {
		values[i] = r.signal
	}
	return median(values), true
}

// wait returns how long it takes until there can be a verdict; 0: as soon as enough
// has been heard.
func (w *window) wait(now time.Time, span time.Duration) time.Duration {
	if len(w.readings) == 0 {
		return span / 2
	}
	return max(0, span/2-now.Sub(w.readings[0].at))
}

// median returns the middle of the values, the worse of the two middle ones when
// their number is even, and 0 when there are none. It reorders values.
func median(values []int) int {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}
