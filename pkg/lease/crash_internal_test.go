package lease

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

var epoch = time.Date(1970, 1, 1, 0, 0, 20, 0, time.UTC)

func testPools() []Pool {
	p1, err1 := NewPool("P1", netip.MustParsePrefix("10.83.0.1/26"), 16)
	p2, err2 := NewPool("P2", netip.MustParsePrefix("10.83.1.1/26"), 16)
	if err := errors.Join(err1, err2); err != nil {
		panic(err)
	}
	return []Pool{p1, p2}
}

// on opens a table on a disk of the test's.
func on(t testing.TB, d disk, limit int64) (*Table, Report) {
	t.Helper()
	table, err := newTable(testPools())
	if err != nil {
		t.Fatal(err)
	}
	return table, table.recover(d, limit, epoch)
}

func hwOf(n int) [6]byte { return [6]byte{0x60, 0x15, 0x92, 0, byte(n >> 8), byte(n)} }

func claimOf(network string, n int) Claim {
	return Claim{Network: network, HW: hwOf(n), Known: n%8 != 0, Host: "Zaptec Go", Term: time.Duration(1+n%5) * time.Hour}
}

// A witness notes what clients were promised, to hold the table to it.
type witness struct {
	promised map[string]netip.Addr // "network mac" → address that is certainly on disk
	unsure   map[string]bool       // whose last change was not confirmed
}

func (w *witness) key(network string, n int) string { return fmt.Sprint(network, " ", n) }

// act does one random thing, and notes what was confirmed. It returns false
// when the disk has failed.
func (w *witness) act(table *Table, rnd *rand.Rand) bool {
	network := []string{"P1", "P2"}[rnd.IntN(2)]
	n := rnd.IntN(40)
	key, c := w.key(network, n), claimOf(network, n)
	var err error
	switch b, has := table.Lookup(network, c.HW); {
	case rnd.IntN(20) == 0:
		err = table.Tidy()
		return !errors.Is(err, ErrVolatile)
	case rnd.IntN(20) == 0: // a compaction that gets no further than its journal
		if table.Trouble() == nil && !table.keep.due {
			err = table.beginLocked()
		}
	case has && rnd.IntN(4) == 0:
		table.Release(network, c.HW, b.Addr, epoch) // the address stays the owner's
	case has && rnd.IntN(8) == 0:
		ticket, _, _ := table.Decline(network, c.HW, b.Addr, epoch)
		delete(w.promised, key)
		w.unsure[key] = true
		if err = table.Commit(ticket); err == nil {
			delete(w.unsure, key)
		}
	default:
		addr, offer := table.Offer(network, c.HW, netip.Addr{}, c.Known, epoch)
		if offer != nil {
			return true
		}
		if w.promised[key] != addr {
			w.unsure[key] = true
		}
		w.forget(key, addr)
		if _, err = table.Grant(c, addr, epoch); err == nil {
			w.promised[key] = addr
			delete(w.unsure, key)
		}
	}
	return err == nil
}

// forget drops the promise of one who released an address that goes to another.
func (w *witness) forget(key string, addr netip.Addr) {
	for other, had := range w.promised {
		if other != key && had == addr {
			delete(w.promised, other)
		}
	}
}

// check holds a table that was just opened to the promises.
func (w *witness) check(t *testing.T, table *Table, what string) {
	t.Helper()
	for key, addr := range w.promised {
		var network string
		var n int
		fmt.Sscan(key, &network, &n)
		b, ok := table.Lookup(network, hwOf(n))
		if !w.unsure[key] && (!ok || b.Addr != addr) {
			t.Errorf("%s: %s was promised %s and has %v %v", what, key, addr, b.Addr, ok)
		}
	}
	checkSound(t, table, what)
}

func number(hw [6]byte) int { return int(hw[4])<<8 | int(hw[5]) }

// checkSound checks what must be true of every table.
func checkSound(t *testing.T, table *Table, what string) {
	t.Helper()
	at := map[netip.Addr][6]byte{}
	pools := map[string]Pool{}
	for _, p := range testPools() {
		pools[p.Network] = p
	}
	for _, b := range table.All(epoch) {
		if other, twice := at[b.Addr]; twice {
			t.Errorf("%s: %s belongs to %x and %x", what, b.Addr, other, b.HW)
		}
		at[b.Addr] = b.HW
		p := pools[b.Network]
		inside := p.First.Compare(b.Addr) <= 0 && b.Addr.Compare(p.LastStranger) <= 0
		if b.Addr == p.Gateway.Addr() || !inside && !table.at[b.Addr].outside {
			t.Errorf("%s: %s is outside the pool of %s", what, b.Addr, b.Network)
		}
		if mine, ok := table.Lookup(b.Network, b.HW); !ok || mine.Addr != b.Addr {
			t.Errorf("%s: %x has %s and %s", what, b.HW, b.Addr, mine.Addr)
		}
	}
}

func TestWhateverWasConfirmedSurvivesThePowerCut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		d := newMemory(seed)
		w := &witness{promised: map[string]netip.Addr{}, unsure: map[string]bool{}}
		for cut := range 6 {
			d.left = 1 + rnd.IntN(150)
			table, _ := on(t, d, 2000)
			for !d.off && w.act(table, rnd) { // it may go off while the table is opened
			}
			d = d.reboot()
			what := fmt.Sprintf("seed %d, cut %d", seed, cut)
			table, report := on(t, d, 2000)
			if report.Storage != nil {
				t.Fatalf("%s: %v", what, report.Storage)
			}
			w.check(t, table, what)
			if t.Failed() {
				return
			}
			w.resolve(table)
		}
	}
}

// resolve begins anew with what the table says: those whose last change was not
// confirmed have got it or not.
func (w *witness) resolve(table *Table) {
	clear(w.unsure)
	clear(w.promised)
	for _, b := range table.All(epoch.Add(-24 * time.Hour)) {
		w.promised[w.key(b.Network, number(b.HW))] = b.Addr
	}
}

func TestAFullDiskStopsNobodyAndIsMadeGoodLater(t *testing.T) {
	t.Parallel()
	for room := range 400 {
		d := newMemory(uint64(room))
		table, _ := on(t, d, 1<<20)
		d.room = room
		had := map[int]netip.Addr{}
		volatile := 0
		for n := 1; n < 8; n++ {
			c := claimOf("P1", n)
			addr, err := table.Offer("P1", c.HW, netip.Addr{}, true, epoch)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := table.Grant(c, addr, epoch); errors.Is(err, ErrVolatile) {
				volatile++
			} else if err != nil {
				t.Fatal(err)
			}
			had[n] = addr
			if volatile > 0 {
				if err := table.Tidy(); !errors.Is(err, ErrVolatile) || table.Trouble() == nil {
					t.Fatalf("room %d: tidied on a full disk: %v", room, err)
				}
			}
		}
		if volatile == 0 {
			t.Fatalf("room %d: the disk never was full", room)
		}
		before := len(d.names)
		for range 10 {
			table.Tidy()
		}
		if len(d.names) > before {
			t.Fatalf("room %d: trying again leaves files behind: %d, then %d", room, before, len(d.names))
		}
		d.room = -1
		if err := table.Tidy(); err != nil || table.Trouble() != nil {
			t.Fatalf("room %d: with room again: %v", room, err)
		}
		again, report := on(t, d.reboot(), 1<<20)
		if len(report.Faults) > 0 {
			t.Errorf("room %d: %v", room, report.Faults)
		}
		for n, addr := range had {
			if b, _ := again.Lookup("P1", hwOf(n)); b.Addr != addr {
				t.Errorf("room %d: %d had %s and has %s", room, n, addr, b.Addr)
			}
		}
	}
}

func TestOneSyncServesEverybodyWhoWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newMemory(1)
		table, _ := on(t, d, 1<<20)
		d.latency = 10 * time.Millisecond
		before, began := d.syncs, time.Now()
		done := make(chan error)
		const clients = 24
		for n := range clients {
			go func() {
				c := claimOf("P1", 8*n+1)
				addr, err := table.Offer("P1", c.HW, netip.Addr{}, true, epoch)
				if err == nil {
					_, err = table.Grant(c, addr, epoch)
				}
				done <- err
			}()
		}
		for range clients {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took, syncs := time.Since(began), d.syncs-before; took > 20*time.Millisecond || syncs > 2 {
			t.Errorf("%d bindings took %s and %d syncs", clients, took, syncs)
		}
	})
}

func TestNobodyElseWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newMemory(1)
		table, _ := on(t, d, 1<<20)
		known, fresh := claimOf("P1", 1), claimOf("P1", 2)
		addr, _ := table.Offer("P1", known.HW, netip.Addr{}, true, epoch)
		if _, err := table.Grant(known, addr, epoch); err != nil {
			t.Fatal(err)
		}
		d.latency = time.Minute
		done := make(chan error)
		go func() {
			addr, _ := table.Offer("P1", fresh.HW, netip.Addr{}, true, epoch)
			_, err := table.Grant(fresh, addr, epoch)
			done <- err
		}()
		synctest.Wait() // the disk is at work
		began := time.Now()
		g, err := table.Bind(known, addr, epoch)
		if err != nil || table.Pending(g.Ticket) {
			t.Errorf("a renewal waits: %v", err)
		}
		mine, _ := table.Lookup("P1", fresh.HW)
		if g, err = table.Bind(fresh, mine.Addr, epoch); err != nil || !table.Pending(g.Ticket) {
			t.Errorf("the second REQUEST of one whose binding is not on disk yet was confirmed: %v", err)
		}
		if _, err := table.Offer("P1", hwOf(3), netip.Addr{}, true, epoch); err != nil {
			t.Error(err)
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("waited %s", waited)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestCompactionKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newMemory(1)
		table, _ := on(t, d, 0)
		d.latency = time.Second
		grant := func(n int) time.Duration {
			began := time.Now()
			c := claimOf("P1", n)
			addr, _ := table.Offer("P1", c.HW, netip.Addr{}, true, epoch)
			if _, err := table.Grant(c, addr, epoch); err != nil {
				t.Error(err)
			}
			return time.Since(began)
		}
		grant(1)
		grant(2)
		grant(3)
		tidied := make(chan error)
		go func() { tidied <- table.Tidy() }()
		synctest.Wait()
		// The new journal is being made, then the snapshot is being written.
		for n := range 2 {
			if took := grant(4 + n); took > time.Second {
				t.Errorf("a binding took %s beside the compaction, a sync takes 1s", took)
			}
		}
		if err := <-tidied; err != nil {
			t.Error(err)
		}
	})
}
