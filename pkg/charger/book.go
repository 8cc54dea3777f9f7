// Package charger knows who is who and how far each has come: the inventory
// (MAC, parking space, serial, model), the address each charger holds now, and
// the ladder from "not on the Wi-Fi" to "talks with the cloud".
//
// Rooms report what they saw; the Book keeps, for each charger, when it was
// last proved to have come how far. It decides nothing and sends nothing: the
// rooms go on whatever it says.
package charger

import (
	"net/netip"
	"sync"
	"time"
)

// maxStrangers bounds what is remembered of MACs that are not in the
// inventory. The one that was silent longest makes room.
const maxStrangers = 256

// A Book is safe for concurrent use.
type Book struct {
	mu     sync.Mutex
	inv    Inventory
	seen   map[MAC]*seen
	byAddr map[netip.Addr]MAC
	moved  func(c Charger, from, to Stage)
}

// NewBook opens a book with the inventory given. moved is called, outside the
// book's lock, when a charger's stage changes; nil: never.
func NewBook(inv Inventory, moved func(c Charger, from, to Stage)) *Book {
	return &Book{inv: inv, seen: map[MAC]*seen{}, byAddr: map[netip.Addr]MAC{}, moved: moved}
}

// Replace takes over a new inventory. What was seen of each MAC stays.
func (b *Book) Replace(inv Inventory) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inv = inv
}

// Inventory returns how many chargers the inventory names, in all or of one
// network.
func (b *Book) Inventory(network string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, c := range b.inv {
		if network == "" || c.Network == "" || c.Network == network {
			n++
		}
	}
	return n
}

// Known returns the inventory's row for a MAC.
func (b *Book) Known(mac MAC) (Charger, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.inv[mac]
	return c, ok
}

// NameOf returns what a MAC is called in the log: its parking space, or
// "unknown 60:15:92:41:00:07".
func (b *Book) NameOf(mac MAC) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rowLocked(mac).Name
}

// At returns who holds an address now.
func (b *Book) At(addr netip.Addr) (MAC, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	mac, ok := b.byAddr[addr.Unmap()]
	return mac, ok
}

// StageOf returns how far a MAC has come.
func (b *Book) StageOf(mac MAC) Stage {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.seen[mac]; s != nil {
		return s.stage
	}
	return Wifi
}

// Where returns the network and the address that a MAC was last seen with.
func (b *Book) Where(mac MAC) (network string, addr netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.seen[mac]; s != nil {
		return s.network, s.addr
	}
	return "", netip.Addr{}
}

func (b *Book) rowLocked(mac MAC) Charger {
	if c, ok := b.inv[mac]; ok {
		return c
	}
	return Charger{MAC: mac, Name: "unknown " + mac.String()}
}

// Associated tells that a MAC is on the network's radio, with its signal in
// dBm (0: not known, F-11).
func (b *Book) Associated(mac MAC, network string, signal int, now time.Time) {
	b.note(mac, now, func(s *seen) {
		s.network, s.signal = network, signal
		if s.associated.IsZero() {
			s.associated = now
		}
	})
}

// Left tells that a MAC has gone from the radio. What it has to prove begins
// again from the bottom.
func (b *Book) Left(mac MAC, now time.Time) {
	b.change(mac, now, func(s *seen) {
		s.associated, s.leased, s.resolved, s.timed = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		s.signal, s.last, s.left = 0, time.Time{}, now
	})
}

// Asked tells that a MAC sent a DISCOVER: it has just booted or lost its
// address, and what was proved before is history.
func (b *Book) Asked(mac MAC, network, host string, now time.Time) {
	b.note(mac, now, func(s *seen) {
		s.network, s.host, s.booted = network, host, now
		s.leased, s.resolved, s.timed = time.Time{}, time.Time{}, time.Time{}
		s.older, s.sessions = s.older+s.sessions, 0
	})
}

// Leased tells that a MAC holds an address. It is also how the bindings read
// from disk enter the book: with heard false, as the address of somebody who
// has not been heard yet.
func (b *Book) Leased(mac MAC, network string, addr netip.Addr, heard bool, now time.Time) {
	b.change(mac, now, func(s *seen) {
		if heard {
			s.last, s.leased = now, now
		}
		s.network = network
		if s.addr != addr {
			b.dropAddrLocked(mac, s)
			s.addr = addr
		}
		if before, taken := b.byAddr[addr]; taken && before != mac {
			b.seen[before].addr = netip.Addr{} // its binding had expired
		}
		b.byAddr[addr] = mac
	})
}

// Unleased tells that a MAC has given its address back or lost it.
func (b *Book) Unleased(mac MAC, now time.Time) {
	b.change(mac, now, func(s *seen) {
		b.dropAddrLocked(mac, s)
		s.addr, s.leased, s.resolved, s.timed = netip.Addr{}, time.Time{}, time.Time{}, time.Time{}
	})
}

func (b *Book) dropAddrLocked(mac MAC, s *seen) {
	if b.byAddr[s.addr] == mac {
		delete(b.byAddr, s.addr)
	}
}

// Resolved tells that the charger at addr was answered a name.
func (b *Book) Resolved(addr netip.Addr, now time.Time) {
	b.noteAt(addr, now, func(s *seen) { s.resolved = now })
}

// Timed tells that the charger at addr was given the time.
func (b *Book) Timed(addr netip.Addr, now time.Time) {
	b.noteAt(addr, now, func(s *seen) { s.timed = now })
}

// Opened tells that the charger at addr began a conversation; cloud says
// whether it is the lasting one (8883, Z-8).
func (b *Book) Opened(addr netip.Addr, cloud bool, now time.Time) {
	b.noteAt(addr, now, func(s *seen) {
		s.connects++
		if cloud {
			s.sessions++
		}
	})
}

// Moved tells that bytes went through a conversation of the charger at addr
// since the last call: up from the charger, down to it. Bytes down on the
// lasting conversation prove that the cloud answers.
func (b *Book) Moved(addr netip.Addr, cloud bool, up, down int64, now time.Time) {
	b.noteAt(addr, now, func(s *seen) {
		if day := now.Year()*1000 + now.YearDay(); day != s.dayOf {
			s.dayOf, s.dayUp, s.dayDown = day, 0, 0
		}
		s.up, s.down, s.dayUp, s.dayDown = s.up+up, s.down+down, s.dayUp+up, s.dayDown+down
		if cloud && down > 0 {
			s.talked, s.unreachable = now, ""
			if s.sessions == 0 { // it asked for an address anew and kept its conversation
				s.sessions, s.older = s.older, 0
			}
		}
	})
}

// Closed tells that a conversation ended that was Opened at opened.
func (b *Book) Closed(addr netip.Addr, cloud bool, opened, now time.Time) {
	b.atChange(addr, now, func(s *seen) {
		if !cloud {
			return
		}
		if opened.Before(s.booted) && s.older > 0 {
			s.older--
		} else {
			s.sessions = max(0, s.sessions-1)
		}
		if now.Sub(opened) < shortest {
			s.cut, s.cutAt = s.cut+1, now
		} else {
			s.cut = 0
		}
	})
}

// Refused tells what the charger at addr was refused, in words: "name
// example.com on port 443".
func (b *Book) Refused(addr netip.Addr, what string, now time.Time) {
	b.noteAt(addr, now, func(s *seen) { s.refused, s.refusedAt = what, now })
}

// RefusedFirmware is Refused for a name that the charger at addr asked for right
// after Zaptec's API, which tells where its firmware comes from (F-7).
func (b *Book) RefusedFirmware(addr netip.Addr, name string, now time.Time) {
	b.noteAt(addr, now, func(s *seen) {
		s.refused, s.refusedAt = "the name "+name+", where its firmware may come from now", now
		s.firmware, s.firmwareAt = name, now
	})
}

// FoundFirmware tells that the charger at addr was let have a name that it may
// have been refused as its firmware's before.
func (b *Book) FoundFirmware(addr netip.Addr, name string, now time.Time) {
	b.noteAt(addr, now, func(s *seen) {
		if s.firmware == name {
			s.firmware = ""
		}
	})
}

// Unreachable tells that the charger at addr was let out, but what it called
// could not be reached, in words: "api.zaptec.com (no server takes the
// connection)".
func (b *Book) Unreachable(addr netip.Addr, what string, now time.Time) {
	b.noteAt(addr, now, func(s *seen) { s.unreachable, s.failedAt = what, now })
}

// Heard tells that the charger at addr gave a sign of life.
func (b *Book) Heard(addr netip.Addr, now time.Time) { b.noteAt(addr, now, func(*seen) {}) }

// noteAt is note for who holds addr; addresses that nobody holds are passed
// over.
func (b *Book) noteAt(addr netip.Addr, now time.Time, f func(*seen)) {
	b.atChange(addr, now, func(s *seen) { s.last = now; f(s) })
}

func (b *Book) atChange(addr netip.Addr, now time.Time, f func(*seen)) {
	if mac, ok := b.At(addr); ok {
		b.change(mac, now, f)
	}
}

// note is change with a sign of life.
func (b *Book) note(mac MAC, now time.Time, f func(*seen)) {
	b.change(mac, now, func(s *seen) { s.last = now; f(s) })
}

// change applies f to what is known of a MAC and tells moved when the stage is
// another one afterwards.
func (b *Book) change(mac MAC, now time.Time, f func(*seen)) {
	b.mu.Lock()
	s := b.seen[mac]
	if s == nil {
		b.makeRoomLocked(mac)
		s = &seen{stage: Wifi}
		b.seen[mac] = s
	}
	f(s)
	from, to := s.stage, s.stageNow()
	if from != to {
		s.stage, s.since = to, now
	}
	row, moved := b.rowLocked(mac), b.moved
	b.mu.Unlock()
	if from != to && moved != nil {
		moved(row, from, to)
	}
}

// makeRoomLocked forgets the stranger that was silent longest when there are
// too many.
func (b *Book) makeRoomLocked(mac MAC) {
	if _, known := b.inv[mac]; known {
		return
	}
	strangers := 0
	var oldest MAC
	var at time.Time
	for m, s := range b.seen {
		if _, known := b.inv[m]; known || s.addr.IsValid() {
			continue
		}
		strangers++
		if strangers == 1 || s.last.Before(at) {
			oldest, at = m, s.last
		}
	}
	if strangers >= maxStrangers {
		delete(b.seen, oldest)
	}
}
