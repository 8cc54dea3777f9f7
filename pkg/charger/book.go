// Package charger knows who is who and how far each has come: the inventory
// (MAC, parking space, serial, model), the address each charger holds now, and
// the ladder from "not on the Wi-Fi" to "talks with the cloud".
//
// Rooms report what they saw; the Book keeps, for each charger, when it was
// last proved to have come how far. It decides nothing and sends nothing: the
// rooms go on whatever it says. A charger is who the inventory says on its own
// network; whoever uses its MAC on another is a stranger with a story of its own.
package charger

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxStrangers bounds what is remembered of MACs that are not in the inventory and
// have no address. Those that were silent longest make room.
const maxStrangers = 256

// A Book is safe for concurrent use.
type Book struct {
	mu     sync.Mutex
	inv    Inventory
	seen   map[key]*seen
	byAddr map[netip.Addr]key
	spare  int // of seen may make room for others
	moved  func(c Charger, from, to Stage)
}

// A key is whom something is known of. A MAC is easily copied, so what is seen
// with a charger's on another network than the inventory says is somebody else's
// story: it can take nothing away from the charger's own.
type key struct {
	mac  MAC
	away string // the network, if the inventory has the MAC on another one
}

// NewBook opens a book with the inventory given. moved is called, outside the
// book's lock, when a charger's stage changes, and with OK for both stages when it
// was there before this daemon was (Resumed); nil: never.
func NewBook(inv Inventory, moved func(c Charger, from, to Stage)) *Book {
	return &Book{inv: inv, seen: map[key]*seen{}, byAddr: map[netip.Addr]key{}, moved: moved}
}

// Replace takes over a new inventory. What was seen of each MAC stays.
func (b *Book) Replace(inv Inventory) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inv = inv
	b.rekeyLocked()
}

// rekeyLocked puts what was seen where it belongs by the inventory now. Of two
// stories of a MAC that are one now the later remains.
func (b *Book) rekeyLocked() {
	was := b.seen
	b.seen, b.byAddr, b.spare = make(map[key]*seen, len(was)), make(map[netip.Addr]key, len(was)), 0
	for k, s := range was {
		k = b.keyLocked(k.mac, s.network)
		if other := b.seen[k]; other == nil || other.last.Before(s.last) {
			b.seen[k] = s
		}
	}
	for k, s := range b.seen {
		if !s.used.IsZero() && !b.namedLocked(k) { // a charger's word counted, and it is none any more
			s.addr, s.used = netip.Addr{}, time.Time{}
		}
		if s.addr.IsValid() {
			b.byAddr[s.addr] = k
		}
		if b.spareLocked(k, s) {
			b.spare++
		}
	}
}

// keyLocked tells whose it is what is seen with a MAC on a network.
func (b *Book) keyLocked(mac MAC, network string) key {
	if c, ok := b.inv[mac]; ok && !c.On(network) {
		return key{mac, network}
	}
	return key{mac: mac}
}

// spareLocked says whether what is known may make room for others.
func (b *Book) spareLocked(k key, s *seen) bool {
	return !b.namedLocked(k) && !s.addr.IsValid()
}

// namedLocked says whether the inventory names who it is.
func (b *Book) namedLocked(k key) bool {
	_, named := b.inv[k.mac]
	return named && k.away == ""
}

// Inventory returns how many chargers the inventory names, in all or of one
// network.
func (b *Book) Inventory(network string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if network == "" {
		return len(b.inv)
	}
	n := 0
	for _, c := range b.inv {
		if c.On(network) {
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
	return b.rowLocked(key{mac: mac}).Name
}

// NameAt is NameOf for who holds an address, and not the charger's name for who
// uses its MAC on another network; empty: nobody does.
func (b *Book) NameAt(addr netip.Addr) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k, ok := b.byAddr[addr.Unmap()]; ok {
		return b.rowLocked(k).Name
	}
	return ""
}

// At returns who holds an address now.
func (b *Book) At(addr netip.Addr) (MAC, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k, ok := b.byAddr[addr.Unmap()]
	return k.mac, ok
}

// Named reports whether a charger of the inventory holds an address, on its own
// network. Without an inventory everybody who holds one counts.
func (b *Book) Named(addr netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	k, ok := b.byAddr[addr.Unmap()]
	return ok && (len(b.inv) == 0 || b.namedLocked(k))
}

// StageOf returns how far a MAC has come, a charger's on its own network.
func (b *Book) StageOf(mac MAC) Stage {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.seen[key{mac: mac}]; s != nil {
		return s.stage
	}
	return Wifi
}

// Where returns the network and the address that a MAC was last seen with, a
// charger's on its own network.
func (b *Book) Where(mac MAC) (network string, addr netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.seen[key{mac: mac}]; s != nil {
		return s.network, s.addr
	}
	return "", netip.Addr{}
}

func (b *Book) rowLocked(k key) Charger {
	if b.namedLocked(k) {
		return b.inv[k.mac]
	}
	return Charger{MAC: k.mac, Name: "unknown " + k.mac.String(), Network: k.away}
}

// Associated tells that a MAC is on the network's radio, with its signal in
// dBm (0: not known, F-11).
func (b *Book) Associated(mac MAC, network string, signal int, now time.Time) {
	b.note(mac, network, now, func(s *seen) {
		s.network, s.signal, s.onAir = network, signal, now
		if s.associated.IsZero() {
			s.associated = now
		}
	})
}

// Left tells that a MAC has gone from a network's radio. What it has to prove
// begins again from the bottom. It reports false, and nothing changes, if the MAC
// was last seen on another network, where it has moved to.
func (b *Book) Left(mac MAC, network string, now time.Time) bool {
	b.mu.Lock()
	s := b.seen[b.keyLocked(mac, network)]
	there := s != nil && s.network == network
	b.mu.Unlock()
	if !there {
		return false
	}
	b.change(mac, network, now, func(s *seen) {
		s.associated, s.leased, s.resolved, s.timed = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		s.signal, s.last, s.left = 0, time.Time{}, now
	})
	return true
}

// Asked tells that a MAC sent a DISCOVER: it has just booted or lost its
// address, and what was proved before is history.
func (b *Book) Asked(mac MAC, network, host string, now time.Time) {
	b.note(mac, network, now, func(s *seen) {
		s.network, s.host, s.booted = network, host, now
		s.leased, s.resolved, s.timed = time.Time{}, time.Time{}, time.Time{}
		s.older, s.sessions = s.older+s.sessions, 0
	})
}

// Leased tells that a MAC holds an address. It is also how the bindings read
// from disk enter the book: with heard false, as the address of somebody who
// has not been heard yet.
func (b *Book) Leased(mac MAC, network string, addr netip.Addr, heard bool, now time.Time) {
	b.change(mac, network, now, func(s *seen) {
		k := b.keyLocked(mac, network)
		if heard {
			s.last, s.leased = now, now
		}
		s.network, s.used = network, time.Time{}
		b.giveLocked(k, s, network, addr)
	})
}

// Called tells the hostname that a MAC on a network gave itself in an earlier run.
func (b *Book) Called(mac MAC, network, host string, now time.Time) {
	b.change(mac, network, now, func(s *seen) { s.host = host })
}

// giveLocked enters an address, and takes it from whoever had it.
func (b *Book) giveLocked(k key, s *seen, network string, addr netip.Addr) {
	s.leasedOn = network
	if s.addr != addr {
		b.dropAddrLocked(k, s)
		s.addr = addr
	}
	if before, taken := b.byAddr[addr]; taken && before != k { // its binding had expired
		other := b.seen[before]
		other.addr, other.used = netip.Addr{}, time.Time{}
		if b.spareLocked(before, other) {
			b.spare++
		}
	}
	b.byAddr[addr] = k
}

// Uses tells that a MAC was heard with an address that this box does not know to
// have given it, as after its disk was replaced. It counts for chargers of the
// inventory on their own network, and is weaker than any lease: whose an address is,
// his it stays, and who has one keeps that. Between two that were only heard the
// first remains, until it was silent for usedFor.
func (b *Book) Uses(mac MAC, network string, addr netip.Addr, now time.Time) {
	addr = addr.Unmap()
	b.mu.Lock()
	k := b.keyLocked(mac, network)
	if !b.mayUseLocked(k, addr, now) {
		b.mu.Unlock()
		return
	}
	b.changeLocked(k, now, func(s *seen) {
		s.network, s.last, s.used = network, now, now
		if s.leased.IsZero() {
			s.leased = now
		}
		b.giveLocked(k, s, network, addr)
	})
}

// usedFor is how long an address counts as used by whom it was last heard from.
const usedFor = 10 * time.Minute

// mayUseLocked says whether an address may be entered as one that is only used.
func (b *Book) mayUseLocked(k key, addr netip.Addr, now time.Time) bool {
	givesWay := func(s *seen) bool { return !s.used.IsZero() && now.Sub(s.used) >= usedFor }
	if holder, taken := b.byAddr[addr]; taken && holder != k && !givesWay(b.seen[holder]) {
		return false
	}
	s := b.seen[k]
	free := s == nil || !s.addr.IsValid() || givesWay(s) || s.addr == addr && !s.used.IsZero()
	return free && b.namedLocked(k)
}

// Unleased tells that a MAC has given its address on a network back or lost it.
func (b *Book) Unleased(mac MAC, network string, now time.Time) {
	b.change(mac, network, now, func(s *seen) {
		if s.leasedOn != network {
			return // it has one on another network by now
		}
		b.dropAddrLocked(b.keyLocked(mac, network), s)
		s.addr, s.used = netip.Addr{}, time.Time{}
		s.leased, s.resolved, s.timed = time.Time{}, time.Time{}, time.Time{}
	})
}

func (b *Book) dropAddrLocked(k key, s *seen) {
	if b.byAddr[s.addr] == k {
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

// Resumed tells that a conversation of the charger at addr goes on that the daemon
// before this one had since opened; cloud is as in Opened. heard is when bytes last
// came down on it, zero if none ever did: the charger is as far as it was, and has
// been since the oldest of them.
func (b *Book) Resumed(addr netip.Addr, cloud bool, opened, heard, now time.Time) {
	b.atChange(addr, now, func(s *seen) {
		s.resumed++
		if !cloud {
			return
		}
		s.sessions++
		if !heard.IsZero() {
			if s.talked.Before(heard) {
				s.talked, s.moved = heard, heard
			}
			if s.last.Before(heard) {
				s.last = heard
			}
			if s.stageNow() == OK && (s.stage != OK || opened.Before(s.since)) {
				s.stage, s.since, s.back = OK, opened, true
			}
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
		if cloud {
			s.moved = now
		}
		if cloud && down > 0 {
			s.talked, s.unreachable = now, ""
			if s.sessions == 0 { // it asked for an address anew and kept its conversation, or had it before it was known whose the address is
				s.sessions, s.older = max(1, s.older), 0
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
func (b *Book) Heard(addr netip.Addr, now time.Time) {
	b.noteAt(addr, now, func(s *seen) { s.heard = now })
}

// noteAt is note for who holds addr; addresses that nobody holds are passed
// over.
func (b *Book) noteAt(addr netip.Addr, now time.Time, f func(*seen)) {
	b.atChange(addr, now, func(s *seen) { s.last = now; f(s) })
}

func (b *Book) atChange(addr netip.Addr, now time.Time, f func(*seen)) {
	b.mu.Lock()
	k, ok := b.byAddr[addr.Unmap()]
	if !ok {
		b.mu.Unlock()
		return
	}
	b.changeLocked(k, now, f)
}

// note is change with a sign of life.
func (b *Book) note(mac MAC, network string, now time.Time, f func(*seen)) {
	b.change(mac, network, now, func(s *seen) { s.last = now; f(s) })
}

// change applies f to what is known of a MAC on a network and tells moved when the
// stage is another one afterwards.
func (b *Book) change(mac MAC, network string, now time.Time, f func(*seen)) {
	b.mu.Lock()
	b.changeLocked(b.keyLocked(mac, network), now, f)
}

// changeLocked is change for a key. It unlocks the book.
func (b *Book) changeLocked(k key, now time.Time, f func(*seen)) {
	s := b.seen[k]
	if s == nil {
		if !b.namedLocked(k) {
			b.makeRoomLocked()
		}
		s = &seen{stage: Wifi}
		b.seen[k] = s
	} else if b.spareLocked(k, s) {
		b.spare--
	}
	f(s)
	if b.spareLocked(k, s) {
		b.spare++
	}
	from, to := s.stage, s.stageNow()
	if from != to {
		s.stage, s.since = to, now
	}
	row, moved, back := b.rowLocked(k), b.moved, s.back
	s.back = false
	b.mu.Unlock()
	if (from != to || back) && moved != nil {
		moved(row, from, to)
	}
}

// makeRoomLocked forgets the strangers that were silent longest when there are too
// many: some at once, so that whoever makes up MACs seldom has all of them looked at.
func (b *Book) makeRoomLocked() {
	if b.spare < maxStrangers {
		return
	}
	spare := make([]key, 0, b.spare)
	for k, s := range b.seen {
		if b.spareLocked(k, s) {
			spare = append(spare, k)
		}
	}
	slices.SortFunc(spare, func(x, y key) int { return b.seen[x].last.Compare(b.seen[y].last) })
	for _, k := range spare[:maxStrangers/8] {
		delete(b.seen, k)
		b.spare--
	}
}
