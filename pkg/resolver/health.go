package resolver

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"chargegate/pkg/event"
)

// lostAfter is how many failures in a row make a server lost: one packet in a
// hundred goes missing on a mobile uplink.
const lostAfter = 3

// How long the best server is left alone with a question before the next one is
// asked as well.
const (
	minHeadStart = 50 * time.Millisecond
	maxHeadStart = time.Second
	newHeadStart = 400 * time.Millisecond // of a server that nobody knows yet
)

// When a server that is not the best is asked beside it, to learn of it: a dead
// one after a pause that doubles, one that knew no better after a while, and the
// others now and then, for they may have become better.
const (
	minPause   = time.Second
	maxPause   = time.Minute
	uselessFor = 10 * time.Second
	firstLook  = 10 * time.Second
	otherLooks = time.Minute
)

// mannersFor is how long what a server does not put up with is remembered: it
// may be another one behind the same address by then.
const mannersFor = time.Hour

// proofs is how many questions in a row must show that a server does not put up
// with something, where one could be chance.
const proofs = 3

// A condition is what is known of a server.
type condition struct {
	srtt, rttvar time.Duration // smoothed (RFC 6298, 2); srtt 0: never measured
	fails        int           // silent or broken, in a row
	useless      int           // it lives and knew no better, in a row
	failing      []string      // of the names that prove it, those it knew no better of, in a row
	errors       bool          // it gives nothing but errors, whatever it is asked
	err          error         // the last one since it answered well
	due          time.Time     // when it is to be asked beside the best one
	watched      bool          // a try is on its way for whose end nobody waits
	told         bool          // it has been said that it is lost

	silentEDNS, foldedCase   int // in a row
	noEDNSUntil, foldedUntil time.Time
}

// A health knows which servers answer and how quickly, and says so only when
// that changes. The zero value is ready; it is safe for concurrent use. It has no
// clock and no socket: every method takes what it must know.
type health struct {
	mu    sync.Mutex
	best  target // the one that is asked first
	of    map[target]*condition
	known []target // the servers of the last question
	none  bool     // it has been said that nobody answers, or nobody with anything but errors
}

// news is an event to be said, or none when kind is nil.
type news struct {
	kind   *event.Kind
	fields []event.Field
}

// A contender is a server that is asked, and how long it is left alone with the
// question.
type contender struct {
	target
	headStart time.Duration
	last      bool // lost: only when nobody else is left
}

// order returns the servers in the order in which they are to be asked: the best
// one first. The lost ones come last, and only when nobody else is left, unless
// all are. beside is one that is to be asked at the same time, whatever comes of
// it; the zero target for none. Servers that are not named any more are
// forgotten.
func (h *health) order(all []target, now time.Time) (order []contender, beside target) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.meetLocked(all, now)
	order = make([]contender, 0, len(all))
	for _, t := range all {
		c := h.of[t]
		order = append(order, contender{target: t, headStart: c.headStart(), last: c.fails >= lostAfter})
	}
	slices.SortStableFunc(order, func(a, b contender) int {
		ca, cb := h.of[a.target], h.of[b.target]
		return cmp.Or(cmp.Compare(ca.rank(), cb.rank()), cmp.Compare(ca.usual(), cb.usual()))
	})
	h.keepBestLocked(order)
	if len(order) > 0 {
		h.best = order[0].target
		if order[0].last { // all are lost: then all are tried
			for i := range order {
				order[i].last = false
			}
		}
		beside = h.besideLocked(order[1:], now)
	}
	return order, beside
}

// meet makes the servers known, and forgets the others.
func (h *health) meet(all []target, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.meetLocked(all, now)
}

// meetLocked is meet.
func (h *health) meetLocked(all []target, now time.Time) {
	if slices.Equal(h.known, all) {
		return
	}
	h.known = slices.Clone(all)
	if h.of == nil {
		h.of = map[target]*condition{}
	}
	for t := range h.of {
		if !slices.Contains(all, t) {
			delete(h.of, t)
		}
	}
	for _, t := range all {
		if h.of[t] == nil {
			h.of[t] = &condition{due: now.Add(firstLook)}
		}
	}
}

// keepBestLocked leaves the one first that was first, unless another is better by
// more than chance.
func (h *health) keepBestLocked(order []contender) {
	i := slices.IndexFunc(order, func(c contender) bool { return c.target == h.best })
	if i <= 0 {
		return
	}
	was, is := h.of[h.best], h.of[order[0].target]
	margin := max(was.usual()/8, 2*time.Millisecond)
	if was.rank() > is.rank() || is.usual()+margin < was.usual() {
		return
	}
	c := order[i]
	copy(order[1:i+1], order[:i])
	order[0] = c
}

// besideLocked picks the one that has been due longest.
func (h *health) besideLocked(others []contender, now time.Time) target {
	var pick target
	var c *condition
	for _, o := range others {
		x := h.of[o.target]
		if !x.watched && !now.Before(x.due) && (c == nil || x.due.Before(c.due)) {
			pick, c = o.target, x
		}
	}
	if c != nil {
		c.watched = true
		c.due = now.Add(minPause)
	}
	return pick
}

// rank sorts servers before their latency does: those that answer, those that
// knew no better, those that were silent, the lost.
func (c *condition) rank() int {
	switch {
	case c.fails >= lostAfter:
		return 3
	case c.fails > 0:
		return 2
	case c.useless > 0:
		return 1
	}
	return 0
}

// usual is how long its answers take; of one that was never measured, longer than
// of any that was.
func (c *condition) usual() time.Duration {
	if c.srtt == 0 {
		return time.Hour
	}
	return c.srtt
}

// headStart is how long an answer takes at most, usually (RFC 6298, 2.3).
func (c *condition) headStart() time.Duration {
	if c.srtt == 0 {
		return newHeadStart
	}
	return min(max(c.srtt+4*c.rttvar, minHeadStart), maxHeadStart)
}

// measure takes the time of an answer into account (RFC 6298, 2.2 and 2.3).
func (c *condition) measure(took time.Duration) {
	took = max(took, time.Microsecond)
	if c.srtt == 0 {
		c.srtt, c.rttvar = took, took/2
		return
	}
	c.rttvar += ((c.srtt - took).Abs() - c.rttvar) / 4
	c.srtt += (took - c.srtt) / 8
}

// conditionLocked returns what is known of a server; of one that was forgotten
// meanwhile, nothing that lasts.
func (h *health) conditionLocked(t target) *condition {
	if c := h.of[t]; c != nil {
		return c
	}
	return new(condition)
}

// answered notes that a server answered, and how long that took; 0 when that was
// not measured.
func (h *health) answered(t target, took time.Duration, now time.Time) news {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conditionLocked(t)
	told := c.told
	c.fails, c.useless, c.err, c.told = 0, 0, nil, false
	c.failing, c.errors = nil, false
	c.due = now.Add(otherLooks)
	if took > 0 {
		c.measure(took)
	}
	switch {
	case h.none:
		h.none = false
		return news{event.ResolverNamesRestored, []event.Field{event.F("UPSTREAM", t)}}
	case told:
		return news{event.ResolverUpstreamRestored, []event.Field{event.F("UPSTREAM", t)}}
	}
	return news{}
}

// knewNoBetter notes that a server lives and that its answer was of no use.
// Others are asked before it for a while. When it has done so for all of the names
// that prove it, with no good answer between, it gives nothing but errors: one
// broken name makes nobody useless.
func (h *health) knewNoBetter(t target, name string, proof []string, err error, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conditionLocked(t)
	c.useless++
	c.err = err
	c.due = now.Add(uselessFor)
	if slices.Contains(proof, name) && !slices.Contains(c.failing, name) {
		c.failing = append(c.failing, name)
	}
	others := func(p string) bool { return !slices.Contains(c.failing, p) }
	if c.useless >= lostAfter && len(proof) > 0 && !slices.ContainsFunc(proof, others) {
		c.errors = true
	}
}

// failed notes that a server did not answer. Of the last one that is lost nobody
// says so: nobody does that, for all of them.
func (h *health) failed(t target, err error, now time.Time) news {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conditionLocked(t)
	c.fails++
	c.errors = c.errors && c.fails < lostAfter
	c.err = err
	c.due = now.Add(min(minPause<<min(c.fails-1, 10), maxPause))
	if c.fails != lostAfter || h.allLostLocked() {
		return news{}
	}
	return news{event.ResolverUpstreamLost, []event.Field{event.F("UPSTREAM", t), event.Err(err)}}
}

// tell returns the news that a server is lost if it still is.
func (h *health) tell(t target, n news) news {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conditionLocked(t)
	if !c.lost() {
		return news{}
	}
	c.told = true
	return n
}

// allSilent reports whether every server is lost and nobody has said so yet.
func (h *health) allSilent() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.none && len(h.known) > 0 && h.allLostLocked()
}

// nobody notes that a question got no answer that can be used. That is news when
// every server is lost or gives nothing but errors.
func (h *health) nobody(err error) news {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.none || err == nil || len(h.known) == 0 || !h.allUselessLocked() {
		return news{}
	}
	h.none = true
	if !h.allLostLocked() {
		return news{event.ResolverOnlyErrors, []event.Field{event.F("ERROR", strings.Replace(err.Error(), errAnswer.Error()+": ", "", 1))}}
	}
	return news{event.ResolverNamesLost, []event.Field{event.Err(fmt.Errorf("no DNS server answers; the last one tried: %w", err))}}
}

// noServer notes that there is none to ask.
func (h *health) noServer(err error) news {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.none {
		return news{}
	}
	h.none = true
	return news{event.ResolverNamesLost, []event.Field{event.Err(err)}}
}

// watch reports whether the end of a try may be waited for beyond its question,
// to learn from it: one of each server at a time.
func (h *health) watch(t target) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.of[t]
	if c == nil || c.watched {
		return false
	}
	c.watched = true
	return true
}

// unwatch ends what watch or order began.
func (h *health) unwatch(t target) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conditionLocked(t).watched = false
}

// manners returns how to ask a server now. One that was silent is asked without
// EDNS every other time: it may be that alone.
func (h *health) manners(t target, now time.Time) manners {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conditionLocked(t)
	return manners{
		noEDNS:   now.Before(c.noEDNSUntil) || c.fails%2 == 1,
		sameCase: now.Before(c.foldedUntil),
	}
}

// sawEDNS notes an answer to a question with EDNS, or to one without. The second
// after a silence may be chance: it is proof when it comes again and again and
// the first never does.
func (h *health) sawEDNS(t target, with bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conditionLocked(t)
	switch {
	case with:
		c.silentEDNS = 0
	case c.fails > 0:
		if c.silentEDNS++; c.silentEDNS >= proofs {
			c.silentEDNS = 0
			c.noEDNSUntil = now.Add(mannersFor)
		}
	}
}

// refusedEDNS notes that a server could not read a question with EDNS and
// answered the same one without.
func (h *health) refusedEDNS(t target, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conditionLocked(t).noEDNSUntil = now.Add(mannersFor)
}

// sawCase notes whether a server repeated the letters' case. proved means that
// nobody else can have sent what it said; without that it takes several in a row.
func (h *health) sawCase(t target, kept, proved bool, now time.Time) news {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.conditionLocked(t)
	if kept {
		c.foldedCase = 0
		return news{}
	}
	if c.foldedCase++; !proved && c.foldedCase < proofs {
		return news{}
	}
	c.foldedCase = 0
	c.foldedUntil = now.Add(mannersFor)
	return news{event.ResolverCaseNotKept, []event.Field{event.F("UPSTREAM", t)}}
}

func (h *health) allLostLocked() bool {
	return !slices.ContainsFunc(h.known, func(t target) bool { return !h.of[t].lost() })
}

// allUselessLocked reports whether every server is lost or gives nothing but errors.
func (h *health) allUselessLocked() bool {
	return !slices.ContainsFunc(h.known, func(t target) bool { return !h.of[t].lost() && !h.of[t].errors })
}

// lost reports whether a server has not answered the last questions. One that
// answers with errors again and again is there.
func (c *condition) lost() bool { return c.fails >= lostAfter && !c.errors }

// suspicious reports whether no server has given a good answer to its last
// questions, so that it may be them and not the names.
func (h *health) suspicious() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.known) > 0 && !slices.ContainsFunc(h.known, func(t target) bool {
		c := h.of[t]
		return c.fails < lostAfter && c.useless < lostAfter
	})
}

// lost returns how many servers are known and how many of them are lost.
func (h *health) lost() (known, lost int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.known {
		if h.of[t].lost() {
			lost++
		}
	}
	return len(h.known), lost
}

// allLost reports whether nobody has answered well lately, or there is nobody to
// ask.
func (h *health) allLost() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.none || len(h.known) > 0 && h.allUselessLocked()
}
