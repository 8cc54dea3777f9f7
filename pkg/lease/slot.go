package lease

import (
	"hash/fnv"
	"net/netip"
	"time"
)

// A slot is one address and what is known of it.
type slot struct {
	addr     netip.Addr
	pool     *pool
	stranger bool

	// The binding, while owned. A slot whose binding has expired or was given
	// back stays owned until somebody else needs the address: the same MAC gets
	// the same address as long as possible (RFC 2131, 4.3.1).
	owned    bool
	owner    [6]byte
	host     string
	known    bool
	term     time.Duration
	expires  time.Time
	heard    bool
	released bool   // given back; the disk does not know
	order    uint64 // counts bindings: who came later
	ticket   Ticket // the record that made it

	// The reservation that an offer made, while heldUntil lies ahead.
	holder    [6]byte
	heldUntil time.Time

	// quarantined is the end of the time after a DECLINE in which nobody gets the
	// address who can have another; zero if it was not declined since it was last
	// given.
	quarantined time.Time

	// outside says that the slot is of no range: it was made for a reservation.
	outside bool
	// reserved says that the address is kept for one MAC.
	reserved    bool
	reservedFor [6]byte

	neighbour
}

// held says whether the address is reserved for somebody.
func (s *slot) held(now time.Time) bool { return now.Before(s.heldUntil) }

// heldFor says whether the address is reserved for a MAC.
func (s *slot) heldFor(hw [6]byte, now time.Time) bool { return s.held(now) && s.holder == hw }

// heldFrom says whether the address is reserved for somebody else than a MAC.
func (s *slot) heldFrom(hw [6]byte, now time.Time) bool { return s.held(now) && s.holder != hw }

func (s *slot) inQuarantine(now time.Time) bool { return now.Before(s.quarantined) }

func (s *slot) live(now time.Time) bool { return s.owned && now.Before(s.expires) }

// suits says whether the address is of the kind that a MAC may have.
func (s *slot) suits(hw [6]byte, known bool) bool {
	if s.reserved || s.outside {
		return s.keptFor(hw)
	}
	return s.stranger != known
}

// keptFor says whether the address is reserved for a MAC.
func (s *slot) keptFor(hw [6]byte) bool { return s.reserved && s.reservedFor == hw }

// keptFrom says whether the address is reserved for somebody else than a MAC.
func (s *slot) keptFrom(hw [6]byte) bool { return s.reserved && s.reservedFor != hw }

// mayTake says whether a MAC without a binding here may be given the address
// because it asks for it by name: nobody has it, or it was offered to it.
func (s *slot) mayTake(hw [6]byte, now time.Time) bool {
	switch {
	case s.heldFrom(hw, now) || s.live(now) || s.usedByOther(hw, now):
		return false
	case s.owned || s.inQuarantine(now):
		return s.heldFor(hw, now)
	}
	return true
}

func (s *slot) binding() Binding {
	return Binding{Network: s.pool.Network, HW: s.owner, Addr: s.addr, Known: s.known, Host: s.host,
		Term: s.term, Expires: s.expires, Heard: s.heard}
}

// A pool is the slots of one network and who is where in it.
type pool struct {
	Pool
	chargers, strangers []*slot
	outside             []*slot           // of reservations
	reserved            map[[6]byte]*slot // who has a reservation
	owners              map[[6]byte]*slot // who has a binding
	holders             map[[6]byte]*slot // who was offered an address, if only long ago
	// fullUntil spares a search in vain: no chargers' (0) or strangers' (1)
	// address becomes free before, unless something is given back.
	fullUntil [2]time.Time
	// crowded is when a charger last found no address; zero since one found one, or a
	// stranger had to make room.
	crowded time.Time
	// marked is when somebody was last seen with an address, and silent when
	// nobody answered for one: before, there is nothing to look for.
	marked, silent time.Time
}

func newPool(p Pool) *pool {
	made := &pool{Pool: p, owners: map[[6]byte]*slot{}, holders: map[[6]byte]*slot{}, reserved: map[[6]byte]*slot{}}
	for _, r := range p.ranges() {
		for a := r.first; a.Compare(r.last) <= 0; a = a.Next() {
			if a == p.Gateway.Addr() {
				continue
			}
			s := &slot{addr: a, pool: made, stranger: r.stranger}
			if r.stranger {
				made.strangers = append(made.strangers, s)
			} else {
				made.chargers = append(made.chargers, s)
			}
		}
	}
	return made
}

// kind returns the slots that a known or unknown MAC may have, and their place
// in fullUntil.
func (p *pool) kind(known bool) ([]*slot, int) {
	if known {
		return p.chargers, 0
	}
	return p.strangers, 1
}

// own makes hw the owner of s, and nobody else; it leaves the rest of the
// binding to the caller.
func (p *pool) own(s *slot, hw [6]byte) {
	if was := p.owners[hw]; was != nil && was != s {
		was.owned = false
		p.fullUntil = [2]time.Time{}
	}
	if s.owned && s.owner != hw {
		delete(p.owners, s.owner)
	}
	s.owned, s.owner = true, hw
	p.owners[hw] = s
}

// disown takes the address from its owner.
func (p *pool) disown(s *slot) {
	if s.owned {
		delete(p.owners, s.owner)
		s.owned = false
	}
	p.fullUntil = [2]time.Time{}
}

// hold reserves s for hw, and nothing else.
func (p *pool) hold(s *slot, hw [6]byte, until time.Time) {
	p.unhold(hw)
	if p.holders[s.holder] == s {
		delete(p.holders, s.holder)
	}
	s.holder, s.heldUntil = hw, until
	p.holders[hw] = s
}

// unhold drops what is reserved for hw.
func (p *pool) unhold(hw [6]byte) {
	s := p.holders[hw]
	if s == nil {
		return
	}
	delete(p.holders, hw)
	s.heldUntil = time.Time{}
	p.fullUntil = [2]time.Time{}
}

// choose finds the address to offer: what is reserved for the MAC, what it has,
// what it was offered, what it asks for, what it was seen with, a free one, the one that expired first,
// the one that was declined longest ago. That may still be in quarantine: an
// address that may be in use is better than none, and whoever declines all of
// them on purpose must not keep the others out. One that somebody else was seen
// with is never chosen. It returns nil if there is none.
func (p *pool) choose(hw [6]byte, want *slot, known bool, now time.Time) *slot {
	if s := p.reserved[hw]; s != nil && s.freeFor(hw, now) {
		return s
	}
	usable := func(s *slot) bool { return s != nil && s.suits(hw, known) && !s.usedByOther(hw, now) }
	if s := p.owners[hw]; usable(s) && !s.heldFrom(hw, now) {
		return s
	}
	if s := p.holders[hw]; usable(s) && s.heldFor(hw, now) {
		return s
	}
	if usable(want) && want.mayTake(hw, now) {
		return want
	}
	if s := p.usedBy(hw, known, now); s != nil {
		return s
	}
	if s := p.search(hw, known, now); s != nil {
		if known {
			p.crowded = time.Time{}
		}
		return s
	}
	// Who belongs elsewhere, where there is no room, goes on with what it has.
	if s := p.owners[hw]; s != nil && s.live(now) && !s.keptFrom(hw) && !s.heldFrom(hw, now) && !s.usedByOther(hw, now) {
		return s
	}
	if known {
		p.crowded = now
	}
	return nil
}

// freeFor says whether an address that is reserved for a MAC can be given to it
// now.
func (s *slot) freeFor(hw [6]byte, now time.Time) bool {
	others := s.live(now) && s.owner != hw
	return !others && !s.heldFrom(hw, now) && !s.inQuarantine(now) && !s.usedByOther(hw, now)
}

// search finds an address for a MAC that has none. It begins at a place that
// the MAC decides, so that even a table that lost its memory tends to give
// everybody what they had. Of the free ones those come first of which it was
// asked lately who uses them (F-2).
func (p *pool) search(hw [6]byte, known bool, now time.Time) *slot {
	slots, kind := p.kind(known)
	if now.Before(p.fullUntil[kind]) || len(slots) == 0 {
		return nil
	}
	var unasked, expired, declined *slot
	var next time.Time
	someKnown := now.Sub(p.silent) < freeFor // else the first free one will do
	start := place(hw, len(slots))
	for i := range slots {
		s := slots[(start+i)%len(slots)]
		switch until := s.busyUntil(); {
		case s.reserved:
		case s.usedByOther(hw, now):
			next = now // its user may have it
		case now.Before(until):
			if next.IsZero() || until.Before(next) {
				next = until
			}
		case s.owned:
			if expired == nil || s.expiredBefore(expired) {
				expired = s
			}
		case !s.quarantined.IsZero():
			if declined == nil || s.quarantined.Before(declined.quarantined) {
				declined = s
			}
		case s.knownFree(now) || !someKnown:
			return s
		case unasked == nil:
			unasked = s
		}
	}
	for _, s := range []*slot{unasked, expired, declined} {
		if s != nil {
			return s
		}
	}
	p.fullUntil[kind] = next
	return nil
}

// better returns the address that the owner of s should move to, held for it,
// or nil if it is where it belongs or there is no room there. A stranger that
// has been entered in the inventory moves, and so does whoever has a
// reservation or sits in somebody else's. Who was taken out of the inventory
// stays: a list that was damaged must not drive the chargers from their places.
func (p *pool) better(s *slot, known bool, now time.Time) *slot {
	hw := s.owner
	if s.keptFor(hw) {
		return nil
	}
	if r := p.reserved[hw]; r != nil && r.freeFor(hw, now) {
		return r
	}
	if !s.reserved && !s.outside && !(s.stranger && known) {
		return nil
	}
	if to := p.search(hw, known, now); to != nil && to != s && !to.inQuarantine(now) {
		return to
	}
	return nil
}

// makesRoom takes a charger's place from a stranger that sits in it, from before
// it was taken out of the inventory or before there was one, if a charger has found
// no address lately. Each time a charger does, one stranger goes.
func (p *pool) makesRoom(s *slot, known bool, now time.Time) bool {
	if known || s.stranger || s.outside || s.keptFor(s.owner) || p.crowded.IsZero() || now.Sub(p.crowded) >= crowdedFor {
		return false
	}
	p.crowded, p.fullUntil = time.Time{}, [2]time.Time{}
	s.released, s.expires = true, now
	return true
}

// busyUntil is when the address may next be given to somebody else; not after
// now if it may be given now. Quarantine only puts it behind all others.
func (s *slot) busyUntil() time.Time {
	until := s.heldUntil
	if s.owned && until.Before(s.expires) {
		until = s.expires
	}
	return until
}

func (s *slot) expiredBefore(other *slot) bool {
	if s.expires.Equal(other.expires) {
		return s.order < other.order
	}
	return s.expires.Before(other.expires)
}

// place spreads MACs over n places.
func place(hw [6]byte, n int) int {
	h := fnv.New32a()
	h.Write(hw[:])
	return int(h.Sum32() % uint32(n))
}
