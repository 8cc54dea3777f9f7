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
}

type promised struct {
	network string
	hw      [6]byte
	until   time.Time
}

func newModel() *model {
	m := &model{pools: map[string]Pool{}, bound: map[netip.Addr]promised{}, offered: map[netip.Addr]promised{}, bans: map[netip.Addr]time.Time{}}
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
		if m.inRange(a, c) && m.free(a, c.HW, now) && (bans || !m.banned(a, c.HW, now)) {
			return true
		}
	}
	return false
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
	m.bound[addr] = promised{c.Network, c.HW, now.Add(c.Term)}
}

func (m *model) offer(c Claim, addr netip.Addr, now time.Time) {
	for a, o := range m.offered {
		if o.network == c.Network && o.hw == c.HW {
			delete(m.offered, a)
		}
	}
	m.offered[addr] = promised{c.Network, c.HW, now.Add(holdFor)}
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
	switch tr.rnd.IntN(20) {
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
	if !tr.inRange(addr, c) || !tr.free(addr, c.HW, tr.now) {
		tr.Errorf("%x (known %v) was offered %s, which is not free for it: bound %+v, offered %+v, banned until %s, now %s", c.HW, c.Known, addr, tr.bound[addr], tr.offered[addr], tr.bans[addr], tr.now)
	}
	if old, b := tr.has(c.Network, c.HW); tr.now.Before(b.until) && tr.inRange(old, c) && old != addr {
		tr.Errorf("%x has %s and was offered %s", c.HW, old, addr)
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
	offered := o.hw == c.HW && o.network == c.Network && tr.now.Before(o.until) && tr.inRange(addr, c) && tr.free(addr, c.HW, tr.now)
	_, err := tr.table.Grant(c, addr, tr.now)
	switch {
	case err == nil && !mine && !(tr.inRange(addr, c) || old == addr):
		tr.Errorf("%x (known %v) was given %s, which is not of its range", c.HW, c.Known, addr)
	case err == nil && (!tr.free(addr, c.HW, tr.now) || !mine && tr.banned(addr, c.HW, tr.now)):
		tr.Errorf("%x was given %s, which is not free for it", c.HW, addr)
	case err != nil && (mine || offered):
		tr.Errorf("%x was refused %s, which it had or was offered: %v", c.HW, addr, err)
	case err != nil && !errors.Is(err, ErrRefused):
		tr.Error(err)
	}
	if err == nil {
		tr.bind(c, addr, tr.now)
	}
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
	if _, ok := tr.table.Decline(c.Network, c.HW, addr, tr.now); ok {
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
	if report := table.recover(tr.disk, 4000, tr.now); report.Storage != nil || len(report.Faults) > 0 {
		tr.Errorf("%+v", report)
	}
	clear(tr.offered)
	for addr, b := range tr.bound {
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
		tr.bans[addr] = table.at[addr].quarantined
	}
	checkSound(tr.T, table, "restart")
	tr.table = table
}
