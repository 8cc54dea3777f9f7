package air

import (
	"slices"
	"time"
)

// A Count is what a driver has counted of one channel (NL80211_CMD_GET_SURVEY).
// Drivers that count nothing leave it zero.
type Count struct {
	Time time.Duration // listened
	Busy time.Duration // of these, with something on the air
	Own  time.Duration // of these, sent by this radio or for it
}

const (
	// stay is the least that a scan stays on a channel. Drivers stay 20 to 110 ms.
	stay = 20 * time.Millisecond
	// enough is the least time that a share is told of.
	enough = 40 * time.Millisecond
)

// Since is what was counted after before. Counters that have become smaller began
// anew, with the driver or because they were full; then it is what they have
// counted since.
func (c Count) Since(before Count) Count {
	if c.Time < before.Time || c.Busy < before.Busy || c.Own < before.Own {
		return c
	}
	return Count{c.Time - before.Time, c.Busy - before.Busy, c.Own - before.Own}
}

// Visit is what was counted while a scan, which took a while, came by this channel.
// Some drivers go on counting, and others count each visit by itself: those show
// less growth than a visit takes, and no more than the scan took.
func (c Count) Visit(before Count, took time.Duration) Count {
	d := c.Since(before)
	if d.Time < stay && c.Time <= took {
		return c
	}
	return d
}

// Plus is both together.
func (c Count) Plus(d Count) Count { return Count{c.Time + d.Time, c.Busy + d.Busy, c.Own + d.Own} }

// Share is how much of the time others took, from 0 to 1; false where too little
// was counted to tell.
func (c Count) Share() (float64, bool) {
	if c.Time < enough {
		return 0, false
	}
	return min(1, max(0, float64(c.Busy-c.Own)/float64(c.Time))), true
}

// Counted keeps the channels that can be told something of. It is empty where not
// one was ever busy: then the driver counts the time and nothing in it.
func Counted(all map[int]Count) map[int]float64 {
	shares, busy := map[int]float64{}, false
	for channel, c := range all {
		if share, ok := c.Share(); ok {
			shares[channel] = share
		}
		busy = busy || c.Busy > 0
	}
	if !busy {
		clear(shares)
	}
	return shares
}

// Median is the middle one; 0 of none. It may sort shares.
func Median(shares []float64) float64 {
	if len(shares) == 0 {
		return 0
	}
	slices.Sort(shares)
	n := len(shares) / 2
	if len(shares)%2 == 1 {
		return shares[n]
	}
	return (shares[n-1] + shares[n]) / 2
}
