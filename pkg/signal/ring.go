package signal

import (
	"math"
	"slices"
)

const (
	// DayMinutes and QuarterHours are how far back a History reaches: a day of
	// minutes, and 90 days of hours.
	DayMinutes   = 24 * 60
	QuarterHours = 90 * 24
	// lowest is the weakest signal that is kept: no radio hears that far down.
	lowest = -126
	// unheard stands for a minute in which a device was there and no signal was
	// told (F-11); 0 for one in which it was not there.
	unheard int8 = 127
	// untold stands where too little was sent to say how much of it was sent again.
	untold uint8 = 255
	// coarse is how many percent one step of what was sent again has: what a file
	// holds must be small, and nobody needs it finer.
	coarse = 10
	// leastTries is how many tries of a minute a share takes.
	leastTries = 4
)

// A minute is what is kept of one.
type minute struct {
	signal int8  // median in dBm as it was measured; 0: not there; unheard
	resent uint8 // percent of all tries; untold
}

// An hour is what is kept of one: of its minutes' medians the weakest, the median
// and the strongest, and in how many minutes the device was there. unheard stands
// for signals that nobody told.
type hour struct {
	low, mid, high int8
	present        uint8
}

// A device is what is remembered of one. Slots are those of the minutes since 1970
// modulo their number.
type device struct {
	minutes [DayMinutes]minute
	hours   [QuarterHours]hour
	open    openMinute
	last    int64 // the minute in which it was last there
	told    int8  // the signal down to which its fall was told; 0: none was
}

// openMinute gathers what the minute that runs brings.
type openMinute struct {
	signals [16]int8
	n       int
	there   bool
	sent    Counters
}

func (o *openMinute) add(measured int, d Counters) {
	o.there = true
	o.sent = o.sent.plus(d)
	if measured < 0 && o.n < len(o.signals) {
		o.signals[o.n] = int8(max(measured, lowest))
		o.n++
	}
}

// close returns what is kept of the minute.
func (o *openMinute) close() minute {
	m := minute{signal: unheard, resent: untold}
	if o.n > 0 {
		slices.Sort(o.signals[:o.n])
		m.signal = o.signals[(o.n-1)/2]
	}
	if share := o.sent.share(leastTries); share >= 0 {
		m.resent = uint8((share + coarse/2) / coarse * coarse)
	}
	return m
}

func (d *device) minuteAt(i int64) *minute { return &d.minutes[slot(i, DayMinutes)] }
func (d *device) hourAt(i int64) *hour     { return &d.hours[slot(i, QuarterHours)] }

// slot is where the ring keeps an index.
func slot(i int64, size int64) int64 { return ((i % size) + size) % size }

// hourOf makes an hour of its minutes; those after the last one have not been.
// (They are counted, not sorted: a start makes the hours of a week for everybody.)
func (d *device) hourOf(h, last int64) hour {
	var of [-lowest + 1]uint8 // how often each signal was, by its distance from 0
	out, told := hour{}, 0
	for i := h * 60; i < (h+1)*60 && i <= last; i++ {
		switch m := d.minuteAt(i); m.signal {
		case 0:
		case unheard:
			out.present++
		default:
			out.present++
			of[-m.signal]++
			told++
		}
	}
	if told == 0 {
		if out.present > 0 {
			out.low, out.mid, out.high = unheard, unheard, unheard
		}
		return out
	}
	for s, before := -lowest, 0; s > 0; s-- { // the weakest first
		if of[s] == 0 {
			continue
		}
		if before == 0 {
			out.low = int8(-s)
		}
		if before <= (told-1)/2 {
			out.mid = int8(-s)
		}
		out.high = int8(-s)
		before += int(of[s])
	}
	return out
}

// heard is the signal of a minute or an hour with the offset, or 0.
func (l Limits) heard(kept int8) int {
	if kept == unheard {
		return 0
	}
	return l.Corrected(int(kept))
}

// far is an index that no clock reaches; what a file claims beyond it is no time.
const far = math.MaxInt32
