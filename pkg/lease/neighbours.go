package lease

import (
	"iter"
	"net/netip"
	"time"
)

// What is known of who uses an address comes from what is overheard (Seen) and
// from asking ahead of need (NextProbe, Silent), so that no offer ever waits for
// a look (F-2).
const (
	// usedFor is how long an address counts as in use after somebody was seen with
	// it. Those in use are asked about again before it ends.
	usedFor = 10 * time.Minute
	// freeFor is how long an address counts as free after nobody answered.
	freeFor = 30 * time.Minute
	// askFreeEvery and askUsedEvery are the times between two questions about the
	// same address.
	askFreeEvery = 10 * time.Minute
	askUsedEvery = 4 * time.Minute
	// maxUsed is how many addresses one device is believed to use that it does not
	// have from here. An access point that answers in the name of others (proxy
	// ARP) claims them all.
	maxUsed = 4
)

// A neighbour is what is known of the use of an address by somebody who does
// not have it from here.
type neighbour struct {
	user      [6]byte   // who was seen with it
	usedUntil time.Time // the end of usedFor
	seen      time.Time // when it was last seen
	asked     time.Time // when it was last asked who uses the address
	free      time.Time // when nobody answered; zero: never, or not since somebody was seen
	urgent    bool      // it was declined: to be asked about first
	listed    bool      // it counts as a charger's, not as one of the strangers' quarter
}

func (n *neighbour) inUse(now time.Time) bool { return now.Before(n.usedUntil) }

// usedByOther says whether somebody else than a MAC uses the address.
func (n *neighbour) usedByOther(hw [6]byte, now time.Time) bool { return n.inUse(now) && n.user != hw }

func (n *neighbour) knownFree(now time.Time) bool {
	return !n.free.IsZero() && now.Sub(n.free) < freeFor
}

// A Sighting is what it means that a device was seen with an address.
type Sighting int

const (
	// Elsewhere: the address is not one that is given away.
	Elsewhere Sighting = iota
	// Owner: who was seen has the address from here, or was just offered it. If its
	// lease is over nobody else is offered it while it is used.
	Owner
	// Intruder: the address is promised to somebody else.
	Intruder
	// Squatter: nobody has the address from here, and it was not known that
	// somebody uses it. From now on it is offered to nobody else.
	Squatter
	// KnownSquatter: the same, and it was known.
	KnownSquatter
	// Doubted: the device was seen with so many addresses, or so many addresses
	// are used by others, that no more are taken out of use for it.
	Doubted
)

// Seen tells that a device was seen with an address; listed says that it is a
// charger of this network by the inventory. owner is to whom the address is promised when the sighting
// is Intruder.
//
// A charger whose address this table does not know of, because the disk was
// replaced, keeps it: nobody else is given it, and the charger is when it asks.
func (t *Table) Seen(network string, addr netip.Addr, hw [6]byte, listed bool, now time.Time) (sighting Sighting, owner [6]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.at[addr.Unmap()]
	if s == nil || s.pool.Network != network {
		return Elsewhere, owner
	}
	own := s.owned && s.owner == hw
	if s.heldFor(hw, now) || own && s.live(now) {
		return Owner, owner
	}
	known := s.inUse(now) && s.user == hw
	believed, asCharger := s.pool.believes(s, hw, listed, now)
	if believed = believed || known; believed {
		s.listed, s.user, s.seen, s.usedUntil, s.free = asCharger, hw, now, now.Add(usedFor), time.Time{}
		s.pool.marked = now
	}
	switch {
	case own:
		return Owner, owner // its lease is over or given back, and it goes on all the same
	case s.live(now):
		return Intruder, s.owner
	case !believed:
		return Doubted, owner
	case known:
		return KnownSquatter, owner
	}
	return Squatter, owner
}

// believes says whether an address may be taken out of use because a device was
// seen with it, and whether as a charger's. A charger has one address: its MAC,
// which anybody can write, counts for one, and for none while it has a lease here.
// Everything else may take a quarter of the pool together, which leaves more than
// one for each charger (Z-5), whatever MACs somebody makes up or copies.
func (p *pool) believes(claimed *slot, hw [6]byte, listed bool, now time.Time) (believed, asCharger bool) {
	size, strangers, his := 0, 0, 0
	for s := range p.all() {
		size++
		if !s.inUse(now) || s == claimed && s.user == hw {
			continue
		}
		if !s.listed {
			strangers++
		}
		if s.user == hw {
			his++
		}
	}
	has := p.owners[hw]
	asCharger = listed && his == 0 && (has == nil || !has.live(now))
	return asCharger || his < maxUsed && strangers < size/4, asCharger
}

// usedBy returns the address of its range that a MAC was seen with and that
// nobody has from here, or nil.
func (p *pool) usedBy(hw [6]byte, known bool, now time.Time) *slot {
	if now.Sub(p.marked) >= usedFor {
		return nil
	}
	for s := range p.all() {
		if s.user == hw && s.inUse(now) && s.suits(hw, known) && s.mayTake(hw, now) {
			return s
		}
	}
	return nil
}

// NextProbe returns the address of a network of which it should be asked now
// who uses it, and notes that it is; addresses that somebody has are not asked
// about. If none is due it returns the invalid address, and when one will be, as
// far as can be told; to be called again then, or within a minute.
func (t *Table) NextProbe(network string, now time.Time) (addr netip.Addr, due time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	due = now.Add(time.Minute)
	p := t.networks[network]
	if p == nil {
		return netip.Addr{}, due
	}
	var first *slot
	for s := range p.all() {
		if s.live(now) || s.held(now) {
			continue
		}
		if at := s.askAt(now); at.Before(due) {
			first, due = s, at
		}
	}
	if first == nil || due.After(now) {
		return netip.Addr{}, due
	}
	first.asked, first.urgent = now, false
	return first.addr, now
}

// askAt is when it should next be asked who uses the address: at once if it was
// declined, soon if that was never asked.
func (s *slot) askAt(now time.Time) time.Time {
	switch {
	case s.urgent:
		return time.Time{}
	case s.inUse(now):
		return s.asked.Add(askUsedEvery)
	}
	return s.asked.Add(askFreeEvery)
}

// Silent tells that nobody answered when it was asked who uses an address that
// NextProbe returned. It is passed over if somebody was seen with it since.
func (t *Table) Silent(network string, addr netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.at[addr.Unmap()]
	if s == nil || s.pool.Network != network || !s.asked.After(s.seen) {
		return
	}
	s.free, s.usedUntil = now, time.Time{}
	s.pool.fullUntil, s.pool.silent = [2]time.Time{}, now
}

// all returns every slot of the network.
func (p *pool) all() iter.Seq[*slot] {
	return func(yield func(*slot) bool) {
		for _, slots := range [][]*slot{p.chargers, p.strangers, p.outside} {
			for _, s := range slots {
				if !yield(s) {
					return
				}
			}
		}
	}
}
