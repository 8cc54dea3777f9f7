package resolver

import (
	"math/rand/v2"
	"time"
)

const (
	// maxNames bounds the names that are remembered besides the exact ones of the
	// list: those that a pattern of the site holds.
	maxNames = 1024
	// maxNegative is the ceiling for "there is none", half of that for an address
	// (RFC 2308, 5 leaves it to us): a name that is missing by mistake is looked
	// for by a technician who has just put it right.
	maxNegative = 30 * time.Minute
	// maxMissing is that for a name of the list that had an address: it is more
	// likely that somebody is wrong or lies than that the hub is gone.
	maxMissing = time.Minute
	// staleFor is how long after its end an answer may still be given when no
	// upstream answers (RFC 8767): a long weekend without an uplink.
	staleFor = 72 * time.Hour
	// failedFor is how long a failure is remembered (RFC 2308, 7.1), and
	// recheckAfter how long while there is an old answer (RFC 8767, 5).
	failedFor    = 5 * time.Second
	recheckAfter = 30 * time.Second
)

// An entry is what is remembered of a name. A failure never shadows an answer
// that can still be used.
type entry struct {
	good     *kept // nil: there is none
	last     *kept // the last one with addresses; nil: none is known
	failure  error
	failedAt time.Time

	exact bool      // the list holds the name itself, not by a pattern
	asked time.Time // when somebody last wanted it; zero: nobody has
	// tried is when an upstream was last asked to the end, and vain how often in a
	// row nothing came of it that can be kept. Zero: not since the start.
	tried time.Time
	vain  int
	alone bool // the last try met silence, though others had been answered since the one before
	// lead is how long before its end the good answer is refreshed.
	lead time.Duration
}

// A kept is a good answer that is remembered. It is never copied, and but for
// what makes it quick never changed: whoever holds one may go on using it.
type kept struct {
	answer
	since time.Time // when it came; carries the monotonic clock
	ready readies   // what makes it quick
}

// An origin is where an answer came from.
type origin int

// Origins.
const (
	fromUpstream origin = iota
	fromCache
	fromStale
	origins // how many there are
)

// A found is an answer as it stands now.
type found struct {
	answer
	origin origin
	age    time.Duration
	kept   *kept // where it is remembered; nil: nowhere
}

// fresh returns the remembered answer while it lasts.
func (e *entry) fresh(now time.Time) (found, bool) {
	if e == nil || e.good == nil {
		return found{}, false
	}
	age := now.Sub(e.good.since)
	return found{answer: e.good.answer, origin: fromCache, age: age, kept: e.good}, age < e.good.ttl
}

// stale returns the remembered answer after its end. Only addresses are worth
// remembering so long: a name that did not exist may exist by now.
func (e *entry) stale(now time.Time) (found, bool) {
	if e == nil || e.good == nil || len(e.good.addrs) == 0 {
		return found{}, false
	}
	age := now.Sub(e.good.since)
	return found{answer: e.good.answer, origin: fromStale, age: age, kept: e.good}, age < e.good.ttl+staleFor
}

// confirmed says how long ago an answer that has ended, and can still be given, was
// last confirmed.
func (m *memory) confirmed(name string, now time.Time) (ago time.Duration, old bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, _ := m.kept.get(name)
	if _, ok := e.fresh(now); ok {
		return 0, false
	}
	f, ok := e.stale(now)
	return f.age, ok
}

// failed returns the remembered failure while it lasts.
func (e *entry) failed(now time.Time) error {
	if e == nil || e.failure == nil {
		return nil
	}
	lasts := failedFor
	if _, ok := e.stale(now); ok {
		lasts = recheckAfter
	}
	if now.Sub(e.failedAt) < lasts {
		return e.failure
	}
	return nil
}

// after returns what is to be remembered once an upstream was asked. e may be
// nil, and is not changed. An answer without a proof of how long it lasts is
// not kept, but neither does it take an older one away. A proven "there is none"
// does: the name has changed, and the old address would be a wrong answer
// (RFC 8767, 5).
func (e *entry) after(a answer, err error, now time.Time) *entry {
	next := entry{}
	if e != nil {
		next = *e
	}
	next.tried = now
	next.vain++
	switch {
	case err != nil:
		next.failure, next.failedAt = err, now
	case a.ttl > 0:
		if len(a.addrs) == 0 && next.exact && next.last != nil {
			a.ttl = min(a.ttl, maxMissing)
		}
		next.good = &kept{answer: a, since: now}
		if len(a.addrs) > 0 {
			next.last = next.good
		}
		next.failure, next.vain, next.lead = nil, 0, lead(a.ttl)
	default:
		next.failure = nil
	}
	return &next
}

// lead is how long before its end an answer is refreshed: within its last tenth,
// with enough of it left for an upstream that is slow, and not at the same moment
// as all that came together with it.
func lead(ttl time.Duration) time.Duration {
	tenth := ttl / 10
	return max(tenth/2+rand.N(tenth/2+1), time.Second)
}
