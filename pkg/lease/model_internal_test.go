package lease

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// A model is the table as simple as can be: what was promised, offered and
// declined, by address, and nothing about how to choose.
type model struct {
	pools   map[string]Pool
	bound   map[netip.Addr]promised
	offered map[netip.Addr]promised
	bans    map[netip.Addr]time.Time
	used    map[netip.Addr]promised // who was seen with it
	kept    map[netip.Addr]promised // reservations
}

type promised struct {
	network string
	hw      [6]byte
	until   time.Time
	listed  bool // of used
}

func newModel() *model {
	m := &model{pools: map[string]Pool{}, bound: map[netip.Addr]promised{}, offered: map[netip.Addr]promised{}, bans: map[netip.Addr]time.Time{},
		used: map[netip.Addr]promised{}, kept: map[netip.Addr]promised{}}
	for _, p := range testPools() {
		m.pools[p.Network] = p
	}
	return m
}

// free says whether hw may be given addr as far as others are concerned.
func (m *model) free(addr netip.Addr, hw [6]byte, now time.Time) bool {
	b, o := m.bound[addr], m.offered[addr]
	return (!now.Before(b.until) || b.hw == hw) && (!now.Before(o.until) || o.hw == hw)
}

// seen says whether somebody else than hw was seen with addr.
func (m *model) seen(addr netip.Addr, hw [6]byte, now time.Time) bool {
	u := m.used[addr]
	return now.Before(u.until) && u.hw != hw
}

// keptFor returns what is reserved for hw on a network.
func (m *model) keptFor(network string, hw [6]byte) netip.Addr {
	for addr, k := range m.kept {
		if k.network == network && k.hw == hw {
			return addr
		}
	}
	return netip.Addr{}
}

// banned says whether addr is in quarantine and was not offered to hw in spite
// of that.
func (m *model) banned(addr netip.Addr, hw [6]byte, now time.Time) bool {
	o := m.offered[addr]
	return now.Before(m.bans[addr]) && !(o.hw == hw && now.Before(o.until))
}

// has returns the address that hw has on a network, in force or not.
func (m *model) has(network string, hw [6]byte) (netip.Addr, promised) {
	for addr, b := range m.bound {
		if b.network == network && b.hw == hw {
			return addr, b
		}
	}
	return netip.Addr{}, promised{}
}

func (m *model) inRange(addr netip.Addr, c Claim) bool {
	if k, ok := m.kept[addr]; ok {
		return k.network == c.Network && k.hw == c.HW
	}
	p := m.pools[c.Network]
	first, last := p.First, p.Last
	if !c.Known {
		first, last = p.FirstStranger, p.LastStranger
	}
	return first.Compare(addr) <= 0 && addr.Compare(last) <= 0 && addr != p.Gateway.Addr()
}

// none says whether nothing is left for a client, but perhaps what is in
// quarantine.
func (m *model) none(c Claim, now time.Time) bool { return !m.some(c, now, false) }

// some says whether a client could be given something, from quarantine or not.
func (m *model) some(c Claim, now time.Time, bans bool) bool {
	p := m.pools[c.Network]
	for a := p.First; a.Compare(p.LastStranger) <= 0; a = a.Next() {
		_, kept := m.kept[a]
		if !kept && m.inRange(a, c) && m.free(a, c.HW, now) && !m.seen(a, c.HW, now) && (bans || !m.banned(a, c.HW, now)) {
			return true
		}
	}
	a := m.keptFor(c.Network, c.HW)
	return a.IsValid() && m.free(a, c.HW, now) && !m.seen(a, c.HW, now) && !m.banned(a, c.HW, now)
}

func (m *model) bind(c Claim, addr netip.Addr, now time.Time) {
	if old, _ := m.has(c.Network, c.HW); old.IsValid() {
		delete(m.bound, old)
	}
	for a, o := range m.offered {
		if o.network == c.Network && o.hw == c.HW {
			delete(m.offered, a)
		}
	}
	delete(m.bans, addr)
	m.bound[addr] = promised{network: c.Network, hw: c.HW, until: now.Add(c.Term)}
}

func (m *model) offer(c Claim, addr netip.Addr, now time.Time) {
	for a, o := range m.offered {
		if o.network == c.Network && o.hw == c.HW {
			delete(m.offered, a)
		}
	}
	m.offered[addr] = promised{network: c.Network, hw: c.HW, until: now.Add(holdFor)}
}

// A trial runs the table beside the model.
type trial struct {
	*testing.T
	*model
	table *Table
	disk  *memory
	now   time.Time
	rnd   *rand.Rand
}

func TestTheTableKeepsItsPromisesThroughRandomLives(t *testing.T) {
	t.Parallel()
	d := newMemory(7)
	table, _ := on(t, d, 4000)
	tr := &trial{T: t, model: newModel(), table: table, disk: d, now: epoch, rnd: rand.New(rand.NewPCG(7, 7))}
	for i := range 100_000 {
		tr.step()
		if i%10_000 == 9_999 {
			tr.restart()
		}
		if t.Failed() {
			t.Fatalf("after %d operations", i+1)
		}
	}
}

func (tr *trial) step() {
	tr.now = tr.now.Add(time.Duration(tr.rnd.IntN(20)) * time.Second)
	c := claimOf([]string{"P1", "P2"}[tr.rnd.IntN(2)], tr.rnd.IntN(60))
	switch tr.rnd.IntN(24) {
	case 20, 21:
		tr.overhear(c, tr.anywhere(c.Network))
	case 22:
		tr.probe(c.Network)
	case 23:
		tr.reserve(c)
	case 0:
		tr.release(c)
	case 1:
		tr.decline(c)
	case 2:
		tr.bindTo(c, tr.anywhere(c.Network)) // asks for what it was not offered
	case 3:
		c.Known = !c.Known // the inventory has changed
		tr.join(c)
	case 4:
		if err := tr.table.Tidy(); err != nil {
			tr.Error(err)
		}
	case 5:
		tr.now = tr.now.Add(time.Duration(tr.rnd.IntN(90)) * time.Minute)
	default:
		tr.join(c)
	}
}

// anywhere is an address in or around the pool of a network.
func (tr *trial) anywhere(network string) netip.Addr {
	a := tr.pools[network].Gateway.Masked().Addr()
	for range tr.rnd.IntN(70) {
		a = a.Next()
	}
	return a
}

func (tr *trial) join(c Claim) {
	addr, err := tr.table.Offer(c.Network, c.HW, tr.anywhere(c.Network), c.Known, tr.now)
	if errors.Is(err, ErrExhausted) {
		if tr.some(c, tr.now, true) {
			tr.Errorf("nothing was left for %x, but something was", c.HW)
		}
		return
	}
	// Who belongs into another range, where nothing is left, keeps what it has.
	if had, b := tr.has(c.Network, c.HW); addr == had && tr.now.Before(b.until) && !tr.inRange(addr, c) && !tr.some(c, tr.now, true) {
		tr.offer(c, addr, tr.now)
		return
	}
	if !tr.inRange(addr, c) || !tr.free(addr, c.HW, tr.now) {
		tr.Errorf("%x (known %v) was offered %s, which is not free for it: bound %+v, offered %+v, banned until %s, now %s", c.HW, c.Known, addr, tr.bound[addr], tr.offered[addr], tr.bans[addr], tr.now)
	}
	if tr.seen(addr, c.HW, tr.now) {
		tr.Errorf("%x was offered %s, which %x was seen with", c.HW, addr, tr.used[addr].hw)
	}
	old, b := tr.has(c.Network, c.HW)
	kept := tr.keptFor(c.Network, c.HW)
	if tr.now.Before(b.until) && tr.inRange(old, c) && !tr.seen(old, c.HW, tr.now) && old != addr && addr != kept {
		tr.Errorf("%x has %s and was offered %s", c.HW, old, addr)
	}
	if kept.IsValid() && kept != addr && tr.free(kept, c.HW, tr.now) && !tr.seen(kept, c.HW, tr.now) && !tr.now.Before(tr.bans[kept]) {
		tr.Errorf("%s is reserved for %x, and it was offered %s", kept, c.HW, addr)
	}
	if tr.banned(addr, c.HW, tr.now) && !tr.none(c, tr.now) {
		tr.Errorf("%x was offered %s, which is in quarantine, and another was free", c.HW, addr)
	}
	tr.offer(c, addr, tr.now)
	if tr.rnd.IntN(4) > 0 {
		tr.bindTo(c, addr)
	}
}

func (tr *trial) bindTo(c Claim, addr netip.Addr) {
	old, b := tr.has(c.Network, c.HW)
	mine := old == addr && tr.now.Before(b.until)
	o := tr.offered[addr]
	c.Starting = tr.rnd.IntN(2) == 0
	seen := tr.seen(addr, c.HW, tr.now)
	offered := o.hw == c.HW && o.network == c.Network && tr.now.Before(o.until) && tr.inRange(addr, c) && tr.free(addr, c.HW, tr.now) && !seen
	kept, keptElse := tr.keptFor(c.Network, c.HW), tr.kept[addr]
	moves := mine && (!tr.inRange(addr, c) || kept.IsValid() && kept != addr || keptElse.network != "" && keptElse.hw != c.HW)
	if mine && c.Starting && seen {
		mine = false // it has to ask for another one
	}
	_, err := tr.table.Grant(c, addr, tr.now)
	switch {
	case err == nil && !mine && !(tr.inRange(addr, c) || old == addr):
		tr.Errorf("%x (known %v) was given %s, which is not of its range", c.HW, c.Known, addr)
	case err == nil && seen && (c.Starting || !mine):
		tr.Errorf("%x was given %s, which %x was seen with", c.HW, addr, tr.used[addr].hw)
	case err == nil && (!tr.free(addr, c.HW, tr.now) || !mine && tr.banned(addr, c.HW, tr.now)):
		tr.Errorf("%x was given %s, which is not free for it", c.HW, addr)
	case err != nil && (mine || offered) && !moves:
		tr.Errorf("%x was refused %s, which it had or was offered: %v", c.HW, addr, err)
	case err != nil && !errors.Is(err, ErrRefused):
		tr.Error(err)
	}
	switch {
	case err == nil:
		tr.bind(c, addr, tr.now)
	case moves: // the place that it is to move to is held for it
		for a := range tr.pools[c.Network].tried() {
			if s := tr.table.at[a]; s != nil && s.heldFor(c.HW, tr.now) {
				tr.offer(c, a, tr.now)
			}
		}
	}
}

// tried are the addresses that the model's networks use.
func (p Pool) tried() map[netip.Addr]bool {
	all := map[netip.Addr]bool{}
	a := p.Gateway.Masked().Addr()
	for range 72 {
		all[a] = true
		a = a.Next()
	}
	return all
}

// overhear lets a device be seen with an address, and checks what is made of it.
func (tr *trial) overhear(c Claim, addr netip.Addr) {
	b, o, u := tr.bound[addr], tr.offered[addr], tr.used[addr]
	owner := b.hw == c.HW && b.network != "" || o.hw == c.HW && tr.now.Before(o.until)
	live := tr.now.Before(b.until)
	listed := tr.rnd.IntN(2) == 0
	sighting, whose := tr.table.Seen(c.Network, addr, c.HW, listed, tr.now)
	given := tr.table.at[addr] != nil
	his, all := 0, 0
	for at, other := range tr.used {
		if (at != addr || other.hw != c.HW) && other.network == c.Network && tr.now.Before(other.until) {
			if !other.listed {
				all++
			}
			if other.hw == c.HW {
				his++
			}
		}
	}
	size := 0
	for range tr.table.networks[c.Network].all() {
		size++
	}
	// A listed MAC is worth one address, and none beside a lease: anybody can write it.
	_, has := tr.has(c.Network, c.HW)
	charger := listed && his == 0 && !tr.now.Before(has.until)
	again := tr.now.Before(u.until) && u.hw == c.HW
	believed := again || charger || his < maxUsed && all < size/4
	over := b.hw == c.HW && b.network != "" && !live && !(o.hw == c.HW && tr.now.Before(o.until))
	want := Squatter
	switch {
	case !given:
		want = Elsewhere
	case owner:
		want = Owner
	case live:
		want = Intruder
	case !believed:
		want = Doubted
	case again:
		want = KnownSquatter
	}
	if sighting != want || want == Intruder && whose != b.hw {
		tr.Errorf("%x was seen with %s: %d of %x, want %d of %x", c.HW, addr, sighting, whose, want, b.hw)
	}
	if want != Elsewhere && (want != Owner || over) && believed {
		tr.used[addr] = promised{network: c.Network, hw: c.HW, until: tr.now.Add(usedFor), listed: charger}
	}
}

// probe asks about the next address; half of those who use one answer.
func (tr *trial) probe(network string) {
	addr, due := tr.table.NextProbe(network, tr.now)
	if !addr.IsValid() {
		if !due.After(tr.now) {
			tr.Errorf("nothing to ask about at %s, but due at %s", tr.now, due)
		}
		return
	}
	if b := tr.bound[addr]; tr.now.Before(b.until) {
		tr.Errorf("it is to be asked who uses %s, which is %x's", addr, b.hw)
	}
	tr.now = tr.now.Add(time.Second)
	if u := tr.used[addr]; tr.now.Before(u.until) && tr.rnd.IntN(2) == 0 {
		tr.overhear(Claim{Network: network, HW: u.hw}, addr)
	} else {
		delete(tr.used, addr)
	}
	tr.table.Silent(network, addr, tr.now)
}

// reserve keeps an address for a client, or drops the client's reservation.
func (tr *trial) reserve(c Claim) {
	old := tr.keptFor(c.Network, c.HW)
	delete(tr.kept, old)
	addr := tr.anywhere(c.Network)
	if _, taken := tr.kept[addr]; !taken && !old.IsValid() && len(tr.kept) < 12 && tr.table.networks[c.Network].possible(addr) {
		tr.kept[addr] = promised{network: c.Network, hw: c.HW}
	}
	tr.table.Reserve(tr.reservations())
	for addr := range tr.used {
		if tr.table.at[addr] == nil {
			delete(tr.used, addr)
		}
	}
	for addr := range tr.bans {
		if tr.table.at[addr] == nil {
			delete(tr.bans, addr)
		}
	}
	for addr := range tr.offered {
		if tr.table.at[addr] == nil {
			delete(tr.offered, addr)
		}
	}
}

func (m *model) reservations() []Reservation {
	var all []Reservation
	for addr, k := range m.kept {
		all = append(all, Reservation{Network: k.network, HW: k.hw, Addr: addr})
	}
	return all
}

func (tr *trial) release(c Claim) {
	addr, b := tr.has(c.Network, c.HW)
	if tr.table.Release(c.Network, c.HW, addr, tr.now) {
		b.until = tr.now
		tr.bound[addr] = b
	} else if tr.now.Before(b.until) {
		tr.Errorf("%x could not release %s", c.HW, addr)
	}
}

func (tr *trial) decline(c Claim) {
	addr, b := tr.has(c.Network, c.HW)
	if _, _, ok := tr.table.Decline(c.Network, c.HW, addr, tr.now); ok {
		delete(tr.bound, addr)
		delete(tr.offered, addr)
		for a, o := range tr.offered { // whoever declines starts anew
			if o.network == c.Network && o.hw == c.HW {
				delete(tr.offered, a)
			}
		}
		tr.bans[addr] = tr.now.Add(quarantine)
	} else if tr.now.Before(b.until) {
		tr.Errorf("%x could not decline %s", c.HW, addr)
	}
}

// restart opens the table again: what was offered is forgotten, what was
// promised is good for one lease more, and so is a quarantine.
func (tr *trial) restart() {
	if err := tr.table.Close(); err != nil {
		tr.Error(err)
	}
	table, err := newTable(testPools())
	if err != nil {
		tr.Fatal(err)
	}
	table.Reserve(tr.reservations())
	if report := table.recover(tr.disk, 4000, tr.now); report.Storage != nil || len(report.Faults) > 0 {
		tr.Errorf("%+v", report)
	}
	clear(tr.offered)
	clear(tr.used)
	for addr, b := range tr.bound {
		if table.at[addr] == nil { // it had been reserved, and has no place any more
			delete(tr.bound, addr)
			continue
		}
		mine, ok := table.Lookup(b.network, b.hw)
		if tr.now.Before(b.until) && (!ok || mine.Addr != addr || !mine.Live(tr.now)) {
			tr.Errorf("%x had %s and has %+v after a restart", b.hw, addr, mine)
		}
		if ok && mine.Addr == addr {
			b.until = mine.Expires
			tr.bound[addr] = b
		}
	}
	for addr := range tr.bans {
		if s := table.at[addr]; s != nil {
			tr.bans[addr] = s.quarantined
		} else {
			delete(tr.bans, addr)
		}
	}
	checkSound(tr.T, table, "restart")
	tr.table = table
}
