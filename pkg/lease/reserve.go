package lease

import (
	"net/netip"
	"time"
)

// A Reservation keeps an address for one MAC and for nobody else.
type Reservation struct {
	Network string
	HW      [6]byte
	// Addr is any address of the network's subnet that a device can have, within
	// the pool's ranges or outside of them.
	Addr netip.Addr
}

// Reserve replaces all reservations. Who has an address that is kept for
// somebody else now, or another one than is kept for it, is refused when it next
// renews, as soon as there is room where it belongs. Reservations of networks or
// addresses that do not exist, and the second of an address or a MAC on the same
// network, are passed over: the inventory is checked where it is read.
func (t *Table) Reserve(reserved []Reservation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.networks {
		p.unreserve()
	}
	for _, r := range reserved {
		if p := t.networks[r.Network]; p != nil {
			t.reserveLocked(p, r)
		}
	}
	for _, p := range t.networks {
		t.forgetLocked(p)
	}
}

// unreserve drops a network's reservations. The slots that were made for them
// stay until forgetLocked.
func (p *pool) unreserve() {
	for s := range p.all() {
		s.reserved = false
	}
	clear(p.reserved)
	p.fullUntil = [2]time.Time{}
}

func (t *Table) reserveLocked(p *pool, r Reservation) {
	s := t.at[r.Addr]
	switch {
	case s == nil && p.possible(r.Addr):
		s = &slot{addr: r.Addr, pool: p, outside: true}
		p.outside = append(p.outside, s)
		t.at[r.Addr] = s
	case s == nil || s.pool != p || s.reserved || p.reserved[r.HW] != nil:
		return
	}
	s.reserved, s.reservedFor = true, r.HW
	p.reserved[r.HW] = s
}

// possible says whether a device of the network can have an address.
func (p *pool) possible(a netip.Addr) bool {
	return p.Gateway.Contains(a) && a != p.Gateway.Addr() && a != p.Gateway.Masked().Addr() && a != broadcast(p.Gateway)
}

// forgetLocked drops the slots that were made for reservations which are no
// more, and that nobody has.
func (t *Table) forgetLocked(p *pool) {
	kept := p.outside[:0]
	for _, s := range p.outside {
		if s.reserved || s.owned {
			kept = append(kept, s)
			continue
		}
		delete(t.at, s.addr)
		if p.holders[s.holder] == s {
			delete(p.holders, s.holder)
		}
	}
	clear(p.outside[len(kept):])
	p.outside = kept
}
