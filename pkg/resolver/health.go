package resolver

import (
	"slices"
	"sync"

	"chargegate/pkg/event"
)

// lostAfter is how many failures in a row make a server lost: one packet in a
// hundred goes missing on a mobile uplink.
const lostAfter = 3

// A health knows which servers answer, and says so only when that changes. The
// zero value is ready; it is safe for concurrent use.
type health struct {
	mu    sync.Mutex
	best  target // the one that answered last
	fails map[target]int
	known []target // the servers of the last question
	none  bool     // it has been said that nobody answers
}

// news is an event to be said, or none when kind is nil.
type news struct {
	kind   *event.Kind
	fields []event.Field
}

// order puts the server that answered last first, keeps the others in their
// order, and forgets servers that are not asked any more.
func (h *health) order(all []target) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.known, all) {
		h.known = slices.Clone(all)
		for t := range h.fails {
			if !slices.Contains(all, t) {
				delete(h.fails, t)
			}
		}
	}
	if i := slices.Index(all, h.best); i > 0 {
		copy(all[1:i+1], all[:i])
		all[0] = h.best
	}
}

// answered notes that a server answered.
func (h *health) answered(t target) news {
	h.mu.Lock()
	defer h.mu.Unlock()
	lost := h.fails[t] >= lostAfter
	delete(h.fails, t)
	h.best = t
	switch {
	case h.none:
		h.none = false
		return news{event.ResolverNamesRestored, []event.Field{event.F("UPSTREAM", t)}}
	case lost:
		return news{event.ResolverUpstreamRestored, []event.Field{event.F("UPSTREAM", t)}}
	}
	return news{}
}

// failed notes that a server did not. Of the last one that is lost nobody says
// so: nobody does that, for all of them.
func (h *health) failed(t target, err error) news {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fails == nil {
		h.fails = map[target]int{}
	}
	h.fails[t]++
	if h.fails[t] != lostAfter || h.allLostLocked() {
		return news{}
	}
	return news{event.ResolverUpstreamLost, []event.Field{event.F("UPSTREAM", t), event.Err(err)}}
}

// nobody notes that a question got no answer at all. That is news when every
// server is lost, or when there is none to ask.
func (h *health) nobody(err error) news {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.none || err == nil || !h.allLostLocked() {
		return news{}
	}
	h.none = true
	return news{event.ResolverNamesLost, []event.Field{event.Err(err)}}
}

func (h *health) allLostLocked() bool {
	return !slices.ContainsFunc(h.known, func(t target) bool { return h.fails[t] < lostAfter })
}

// lost returns how many servers are known and how many of them are lost.
func (h *health) lost() (known, lost int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.known {
		if h.fails[t] >= lostAfter {
			lost++
		}
	}
	return len(h.known), lost
}

// allLost reports whether nobody has answered lately, or there is nobody to ask.
func (h *health) allLost() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.none || len(h.known) > 0 && h.allLostLocked()
}
