package denied

import (
	"sync"
	"time"
)

const (
	// maxThings is how many different refusals of one charger are written in an
	// hour: a port scan is one line, not 65,535.
	maxThings = 30
	// maxTellers is how many devices an hour may be written about, and maxStrangers
	// how many of them that the inventory does not name. MACs are easy to make up;
	// the log has one end, and whoever fills it must not silence the chargers.
	maxTellers   = 1100
	maxStrangers = 60
)

// An allowance is what becomes of a refusal.
type allowance int

const (
	written allowance = iota
	last              // the first that is not: that is said instead
	crowd             // the first device that is one too many: that is said instead
	enough            // not written any more
)

// A budget bounds what strangers can make the room write, and remember.
type budget struct {
	mu    sync.Mutex
	since time.Time
	said  map[string]*said
	// strangers are those of said that the inventory does not name; full: that
	// there are too many was said.
	strangers int
	full      bool
}

type said struct {
	things map[string]bool
	over   bool
}

// take asks to write that somebody was refused something. What was written
// within the hour is always allowed again; how often is up to the event's Every.
func (b *budget) take(who, what string, known bool, now time.Time) allowance {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.since) >= time.Hour {
		b.since = now
		clear(b.said)
		b.strangers, b.full = 0, false
	}
	s := b.said[who]
	switch {
	case s == nil && (len(b.said) >= maxTellers || !known && b.strangers >= maxStrangers):
		if b.full {
			return enough
		}
		b.full = true
		return crowd
	case s == nil:
		s = &said{things: map[string]bool{}}
		b.said[who] = s
		if !known {
			b.strangers++
		}
	}
	switch {
	case s.things[what]:
		return written
	case s.over:
		return enough
	case len(s.things) >= maxThings:
		s.over = true
		return last
	}
	s.things[what] = true
	return written
}
