package signal

import (
	"sync"
	"time"
)

const (
	// maxDevices bounds the devices of a history, each of 12 kB, and maxStrangers
	// those of them that the inventory does not name. Who was heard the longest ago
	// makes room.
	maxDevices   = 1536
	maxStrangers = 64
	// jump is how far the calendar must have moved to be a step, and not the
	// difference of two readings of a clock.
	jump = time.Minute
)

// A History remembers how devices were heard. It is safe for concurrent use.
//
// Time in it is a line of minutes that only goes forward. What was measured since
// the start stands on it after what was read from the file, until the calendar is
// known; then all of it is moved there. So is it whenever the clock is set: how
// long ago something was, the monotonic clock has told all the time.
type History struct {
	known func(MAC) bool

	mu     sync.Mutex
	of     map[MAC]*device
	limits Limits
	// The line: at now it was wall.
	now, wall time.Time
	head      int64 // the minute that runs
	dated     bool
	run       int64 // the first minute that moves when the clock is set
	// What the file lacks: the minutes from kept on, and moves of those before.
	kept  int64
	moves []move
	whole bool // and more than that: it is to be written anew
	// fallDay is the day for which falls have been looked for.
	fallDay string
}

// A move is that all from a minute on was at another time.
type move struct{ from, by int64 }

// New makes an empty history. known says whether a device is in the inventory.
func New(known func(MAC) bool) *History {
	return &History{known: known, of: map[MAC]*device{}, limits: Default()}
}

// SetLimits says which offset holds, and which thresholds to show.
func (h *History) SetLimits(l Limits) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limits = l
}

// Clock tells the history what the calendar says at now, and whether that can be
// believed. It is to be called every minute or more often. What was believed once
// is never doubted again: a clock that lost its source runs on.
func (h *History) Clock(now, wall time.Time, right bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.passLocked(now)
	if !right && !h.dated {
		return
	}
	wall = wall.Round(0)
	off := wall.Sub(h.lineLocked(now))
	if h.dated && max(off, -off) < jump {
		return
	}
	at := wall.Unix() / 60
	if at < QuarterHours*60 || at > far {
		return // 1970, or no calendar at all
	}
	by := at - h.head
	h.dated, h.now, h.wall = true, now, wall
	if by != 0 {
		h.shiftLocked(move{h.run, by})
	}
	h.run += by
}

// lineLocked is where a moment stands on the line.
func (h *History) lineLocked(at time.Time) time.Time { return h.wall.Add(at.Sub(h.now)) }

// passLocked lets time pass on the line.
func (h *History) passLocked(now time.Time) {
	if h.now.IsZero() { // the first moment of this run
		h.now, h.wall = now, time.Unix(h.head*60, 0)
	}
	h.advanceLocked(h.lineLocked(now).Unix() / 60)
}

// Heard enters that a device was there at a look: with its signal in dBm as it was
// measured, 0 where there was nothing new of it, and what was sent to it since the
// look before.
func (h *History) Heard(mac MAC, measured int, sent Counters, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.passLocked(now)
	d := h.deviceLocked(mac)
	d.open.add(measured, sent)
	d.last = h.head
}

// deviceLocked finds a device, and makes room for a new one.
func (h *History) deviceLocked(mac MAC) *device {
	if d := h.of[mac]; d != nil {
		return d
	}
	if !h.known(mac) {
		h.makeRoomLocked(maxStrangers, func(mac MAC) bool { return !h.known(mac) })
	}
	h.makeRoomLocked(maxDevices, func(MAC) bool { return true })
	d := &device{}
	h.of[mac] = d
	return d
}

// makeRoomLocked forgets who was heard the longest ago of those meant, when there
// are as many as may be.
func (h *History) makeRoomLocked(most int, meant func(MAC) bool) {
	if len(h.of) < most {
		return
	}
	var oldest MAC
	n := 0
	for mac, d := range h.of {
		if !meant(mac) {
			continue
		}
		if n++; n == 1 || d.last < h.of[oldest].last {
			oldest = mac
		}
	}
	if n >= most {
		delete(h.of, oldest)
	}
}

// advanceLocked closes the minute that runs, and those up to the one given.
func (h *History) advanceLocked(to int64) {
	if to <= h.head {
		return
	}
	for _, d := range h.of {
		if d.open.there {
			*d.minuteAt(h.head) = d.open.close()
			d.open = openMinute{}
		}
		if to/60 > h.head/60 {
			*d.hourAt(h.head / 60) = d.hourOf(h.head/60, h.head)
		}
		d.clear(h.head, to)
	}
	h.head = to
	if h.head-h.kept >= DayMinutes { // it could not be written for a day
		h.whole = true
	}
}

// shiftLocked moves what this run measured to where the calendar says that it was.
func (h *History) shiftLocked(m move) {
	if m.from < h.kept || m.by < 0 { // else the file has nothing of it, and nothing that is in its way
		h.moves = append(h.moves, m)
	}
	if len(h.moves) > 16 { // a clock that cannot settle
		h.moves, h.whole = nil, true
	}
	h.kept = max(h.kept, m.from) + m.by
	old := h.head
	for _, d := range h.of {
		d.shift(m, old)
	}
	h.head += m.by
}

// shift moves all from a minute on, where head is the one that runs.
func (d *device) shift(m move, head int64) {
	to := head + m.by
	torn := d.hourOf(m.from/60, m.from-1) // what stays of the hour in which it begins
	first := max(m.from, head-DayMinutes+1)
	var minutes []minute
	for i := first; i <= head; i++ {
		minutes = append(minutes, *d.minuteAt(i))
		*d.minuteAt(i) = minute{}
	}
	firstHour := max((m.from+59)/60, head/60-QuarterHours+1)
	var hours []hour
	for i := firstHour; i <= head/60; i++ {
		hours = append(hours, *d.hourAt(i))
		*d.hourAt(i) = hour{}
	}
	if m.by > 0 {
		d.clear(head, to) // gone by
	} else {
		d.clear(m.from+m.by-1, head) // where this run stands now, and a future that is none any more
	}
	if m.from/60*60 > head-DayMinutes && m.from/60 < to/60 && m.from/60 > to/60-QuarterHours {
		*d.hourAt(m.from / 60) = torn
	}
	for i, v := range minutes {
		if at := first + int64(i) + m.by; at > to-DayMinutes && v.signal != 0 {
			*d.minuteAt(at) = v
		}
	}
	by := int64((time.Duration(m.by) * time.Minute).Round(time.Hour) / time.Hour)
	for i, v := range hours {
		if at := firstHour + int64(i) + by; at > to/60-QuarterHours && at < to/60 && v.present > 0 {
			*d.hourAt(at) = v
		}
	}
	for i := max(0, first+m.by) / 60; i < to/60; i++ { // what the minutes still tell of
		if i*60 > to-DayMinutes {
			*d.hourAt(i) = d.hourOf(i, to)
		}
	}
	if d.last >= m.from {
		d.last += m.by
	}
}

// clear empties the slots of the minutes behind the first one up to the last, and
// of the hours that begin among them.
func (d *device) clear(first, last int64) {
	for i := first + 1; i <= min(last, first+DayMinutes); i++ {
		*d.minuteAt(i) = minute{}
	}
	for i := first/60 + 1; i <= min(last/60, first/60+QuarterHours); i++ {
		*d.hourAt(i) = hour{}
	}
}

// Size returns of how many devices there is a history.
func (h *History) Size() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.of)
}
