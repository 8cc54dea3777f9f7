package lease

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Table is the addresses of all networks. It is safe for concurrent use.
type Table struct {
	journal *journal
	keep    *keeper

	mu       sync.Mutex
	networks map[string]*pool
	names    []string // of networks, in the order given
	at       map[netip.Addr]*slot
	order    uint64 // of the last binding
}

// newTable lays out the slots of pools that must not overlap.
func newTable(pools []Pool) (*Table, error) {
	t := &Table{networks: map[string]*pool{}, at: map[netip.Addr]*slot{}}
	for _, p := range pools {
		if err := p.valid(); err != nil {
			return nil, err
		}
		if t.networks[p.Network] != nil {
			return nil, fmt.Errorf("network %q has two pools", p.Network)
		}
		made := newPool(p)
		t.networks[p.Network] = made
		t.names = append(t.names, p.Network)
		for _, s := range slices.Concat(made.chargers, made.strangers) {
			if t.at[s.addr] != nil {
				return nil, fmt.Errorf("%s stands in the pools of %s and %s", s.addr, t.at[s.addr].pool.Network, p.Network)
			}
			t.at[s.addr] = s
		}
	}
	return t, nil
}

// Offer chooses an address for a MAC and reserves it for a minute, in memory
// only. The same MAC is offered the same address each time; want, if valid, is
// what it asks for. Strangers (known false) get addresses of their own range
// only, and so do chargers: who is in the wrong one moves over.
//
// A client whose range is full goes on with the address that it has in another.
//
// The error wraps ErrExhausted when no address is left. If it is a charger that
// finds none, the next stranger who renews an address of the chargers' is refused.
func (t *Table) Offer(network string, hw [6]byte, want netip.Addr, known bool, now time.Time) (netip.Addr, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.networks[network]
	if p == nil {
		return netip.Addr{}, fmt.Errorf("offering an address: there is no network %q", network)
	}
	wanted := t.at[want.Unmap()]
	if wanted != nil && wanted.pool != p {
		wanted = nil
	}
	s := p.choose(hw, wanted, known, now)
	if s == nil {
		return netip.Addr{}, fmt.Errorf("offering an address of %s: %w", network, ErrExhausted)
	}
	p.hold(s, hw, now.Add(holdFor))
	return s.addr, nil
}

// Forgo drops what was offered to a MAC: it chose somebody else (RFC 2131,
// 3.1, step 4).
func (t *Table) Forgo(network string, hw [6]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.networks[network]; p != nil {
		p.unhold(hw)
	}
}

// Bind gives an address to a MAC, or renews it, and appends what is new to the
// journal without waiting for the disk: the client may be told once
// Commit(Granted.Ticket) has returned.
//
// The error wraps ErrRefused when the client may not have that address:
// somebody else has it or was seen with it, it is in quarantine, it is not of
// the client's range, the client has another one, a better one is kept for it,
// which it gets when it asks anew, or it is a stranger in a place that a charger
// needs.
func (t *Table) Bind(c Claim, addr netip.Addr, now time.Time) (Granted, error) {
	if c.Term <= 0 || c.Term > MaxTerm {
		return Granted{}, fmt.Errorf("binding %s: a lease of %s", addr, c.Term)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.networks[c.Network]
	if p == nil {
		return Granted{}, fmt.Errorf("binding %s: there is no network %q", addr, c.Network)
	}
	s := t.at[addr.Unmap()]
	if s == nil || s.pool != p {
		return Granted{}, refused("%s is not given to anybody on %s", addr, c.Network)
	}
	mine := s.owned && s.owner == c.HW
	if err := s.refuse(c, mine, now); err != nil {
		return Granted{}, err
	}
	if mine && p.makesRoom(s, c.Known, now) {
		return Granted{}, refused("%s is needed for a charger, and the client is not in the inventory", s.addr)
	}
	if mine {
		if to := p.better(s, c.Known, now); to != nil {
			p.hold(to, c.HW, now.Add(holdFor))
			return Granted{}, refused("%s is the client's place, by the inventory", to.addr)
		}
	}
	fresh := !mine
	first := !mine || !s.heard
	longer := mine && c.Term > s.term // else a power cut would shorten the promise
	t.bindLocked(s, c, now)
	s.heard = true
	p.unhold(c.HW)
	if fresh || longer {
		s.ticket = t.journal.append(bindRecord(s))
	}
	return Granted{Binding: s.binding(), New: fresh, First: first, Ticket: s.ticket}, nil
}

// refuse says why a claim on the slot cannot be met, or nil. mine says that the
// claimant has a binding here: that may be renewed even when the claimant now
// belongs into another range, until there is a place for it there.
func (s *slot) refuse(c Claim, mine bool, now time.Time) error {
	switch other := s.pool.owners[c.HW]; {
	case mine && s.heldFrom(c.HW, now):
		return refused("%s had expired and was offered to somebody else", s.addr)
	case c.Starting && s.usedByOther(c.HW, now):
		return refused("%s is used by another device", s.addr)
	case mine:
		return nil
	case s.inQuarantine(now) && !s.heldFor(c.HW, now):
		return refused("%s was found in use within the last hour", s.addr)
	case !s.mayTake(c.HW, now):
		return refused("%s belongs to somebody else", s.addr)
	case !s.suits(c.HW, c.Known):
		return refused("%s is kept for others", s.addr)
	case other != nil && !s.heldFor(c.HW, now):
		return refused("the client has %s already", other.addr)
	}
	return nil
}

// bindLocked writes the binding into the slot.
func (t *Table) bindLocked(s *slot, c Claim, now time.Time) {
	if !s.owned || s.owner != c.HW {
		t.order++
		s.order = t.order
	}
	s.pool.own(s, c.HW)
	s.host, s.known, s.term = cut(c.Host), c.Known, c.Term
	s.expires, s.released, s.quarantined = now.Add(c.Term), false, time.Time{}
}

// Release takes an address back that its owner gives up (RFC 2131, 4.3.4). It
// stays the owner's next one as long as nobody needs it. That is a hint and not a
// promise, so nothing is written: after a restart the address is the owner's for
// one lease more. ok is false when hw does not have it.
func (t *Table) Release(network string, hw [6]byte, addr netip.Addr, now time.Time) (ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.at[addr.Unmap()]
	if s == nil || s.pool.Network != network || !s.owned || s.owner != hw || s.released {
		return false
	}
	s.released, s.expires = true, now
	s.pool.fullUntil = [2]time.Time{}
	return true
}

// Decline takes an address away that its owner, or the one it was offered to,
// found in use by somebody else, and gives it to nobody for an hour as long as
// there are others (RFC 2131, 4.3.3). other is who was seen with it, zero if that is not known.
// ok is false when hw neither has it nor was offered it.
func (t *Table) Decline(network string, hw [6]byte, addr netip.Addr, now time.Time) (ticket Ticket, other [6]byte, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.at[addr.Unmap()]
	if s == nil || s.pool.Network != network || !(s.owned && s.owner == hw || s.heldFor(hw, now)) {
		return 0, other, false
	}
	s.pool.unhold(hw)
	if s.held(now) {
		s.pool.unhold(s.holder) // it had expired and was offered to another
	}
	if s.usedByOther(hw, now) {
		other = s.user
	}
	s.decline(now)
	s.urgent = true
	s.ticket = t.journal.append(record{Op: opDecline, Network: network, HW: hw, Addr: s.addr})
	return s.ticket, other, true
}

func (s *slot) decline(now time.Time) {
	s.pool.disown(s)
	s.quarantined, s.free = now.Add(quarantine), time.Time{}
}

// Commit waits until the change that the ticket stands for is on disk. The
// error wraps ErrVolatile: the change is in force all the same.
func (t *Table) Commit(ticket Ticket) error { return t.journal.wait(ticket) }

// Pending says whether Commit would have to wait for the disk.
func (t *Table) Pending(ticket Ticket) bool { return t.journal.waits(ticket) }

// Grant is Bind and Commit in one: it returns when the binding is on disk. With
// an error that wraps ErrVolatile the address was given nevertheless.
func (t *Table) Grant(c Claim, addr netip.Addr, now time.Time) (Granted, error) {
	g, err := t.Bind(c, addr, now)
	if err != nil {
		return g, err
	}
	return g, t.Commit(g.Ticket)
}

// Lookup returns the binding of a MAC on a network, in force or expired.
func (t *Table) Lookup(network string, hw [6]byte) (Binding, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.networks[network]
	if p == nil || p.owners[hw] == nil {
		return Binding{}, false
	}
	return p.owners[hw].binding(), true
}

// At returns the binding of an address, in force or expired.
func (t *Table) At(addr netip.Addr) (Binding, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.at[addr.Unmap()]
	if s == nil || !s.owned {
		return Binding{}, false
	}
	return s.binding(), true
}

// All returns the bindings in force, in the order in which they were made: of
// two for the same MAC on different networks the later one is last.
func (t *Table) All(now time.Time) []Binding {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Binding
	for _, s := range t.ownedLocked() {
		if s.live(now) {
			out = append(out, s.binding())
		}
	}
	return out
}

// ownedLocked returns the slots that have an owner, in the order of their
// bindings.
func (t *Table) ownedLocked() []*slot {
	var owned []*slot
	for _, name := range t.names {
		for _, s := range t.networks[name].owners {
			owned = append(owned, s)
		}
	}
	slices.SortFunc(owned, func(a, b *slot) int {
		if a.order < b.order {
			return -1
		}
		return 1
	})
	return owned
}

// Counts returns how full each network is, in the order of the configuration.
func (t *Table) Counts(now time.Time) []Count {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Count, 0, len(t.names))
	for _, name := range t.names {
		p := t.networks[name]
		c := Count{Network: name, Size: len(p.chargers), StrangerSize: len(p.strangers), Reserved: len(p.reserved)}
		for _, s := range p.chargers {
			c.add(s, &c.Used, now)
		}
		for _, s := range p.strangers {
			c.add(s, &c.StrangerUsed, now)
		}
		for s := range p.all() {
			if s.inUse(now) {
				c.InUse++
			}
		}
		out = append(out, c)
	}
	return out
}

// Stats are figures of the journal.
type Stats struct {
	JournalBytes int64  // its length
	Syncs        uint64 // fdatasyncs for changes since the start
}

// Stats returns the journal's figures.
func (t *Table) Stats() Stats {
	size, syncs := t.journal.figures()
	return Stats{JournalBytes: size, Syncs: syncs}
}

func (c *Count) add(s *slot, used *int, now time.Time) {
	switch {
	case s.live(now):
		*used++
	case s.inQuarantine(now):
		c.Quarantined++
	}
}

// cut shortens a name that a client gives itself to maxHost bytes.
func cut(host string) string {
	if len(host) > maxHost {
		host = strings.ToValidUTF8(host[:maxHost], "")
	}
	return host
}
