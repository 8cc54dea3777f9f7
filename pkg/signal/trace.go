package signal

import "time"

// A Minute is how a device was heard in one.
type Minute struct {
	There  bool
	Signal int // median in dBm; 0: unknown
	Resent int // percent of all tries, in steps of 10; -1: too little was sent to tell
}

// An Hour is how a device was heard in one: the weakest, the median and the
// strongest of its minutes' medians in dBm, 0: unknown, and in how many minutes it
// was there.
type Hour struct {
	Low, Signal, High int
	Present           int
}

// A Trace is what is remembered of one device, from the first time that it was
// heard on. The last minute and the last hour are those that run.
type Trace struct {
	// Dated says that the calendar is known. Until then the times are counted from
	// wherever the last run ended.
	Dated bool
	// Minute and Hour are when the last ones began.
	Minute, Hour time.Time
	Minutes      []Minute
	Hours        []Hour
	Limits       Limits
	// Fall is how it is heard worse from day to day; zero: it is not.
	Fall Fall
}

// Of returns what is remembered of a device.
func (h *History) Of(mac MAC, now time.Time) Trace {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.passLocked(now)
	t := Trace{Dated: h.dated, Limits: h.limits, Minute: time.Unix(h.head*60, 0), Hour: time.Unix(h.head/60*3600, 0)}
	d := h.of[mac]
	if d == nil {
		return t
	}
	open := *d.minuteAt(h.head)
	if d.open.there {
		open = d.open.close()
	}
	t.Minutes = h.minutesLocked(d, open)
	for i := h.head/60 - QuarterHours + 1; i <= h.head/60; i++ {
		v := *d.hourAt(i)
		if i == h.head/60 {
			v = d.hourOf(i, h.head)
			if v.present == 0 && d.open.there {
				v = hour{open.signal, open.signal, open.signal, 1}
			}
		}
		if v.present > 0 || len(t.Hours) > 0 {
			t.Hours = append(t.Hours, Hour{h.limits.heard(v.low), h.limits.heard(v.mid), h.limits.heard(v.high), int(v.present)})
		}
	}
	t.Fall, _ = falling(d.days(h.head/60, h.limits))
	return t
}

// minutesLocked are a device's minutes, the open one last.
func (h *History) minutesLocked(d *device, open minute) (out []Minute) {
	for i := h.head - DayMinutes + 1; i <= h.head; i++ {
		v := *d.minuteAt(i)
		if i == h.head {
			v = open
		}
		switch {
		case v.signal == 0 && len(out) > 0:
			out = append(out, Minute{Resent: -1})
		case v.signal != 0:
			m := Minute{There: true, Signal: h.limits.heard(v.signal), Resent: int(v.resent)}
			if v.resent == untold {
				m.Resent = -1
			}
			out = append(out, m)
		}
	}
	return out
}
