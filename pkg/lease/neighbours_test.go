package lease_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"chargegate/pkg/lease"
)

// see tells the table that somebody was seen, and checks what it makes of it.
func see(t *testing.T, table *lease.Table, addr netip.Addr, hw [6]byte, now time.Time, want lease.Sighting) {
	t.Helper()
	if got, _ := table.Seen("P1", addr, hw, false, now); got != want {
		t.Errorf("%x seen with %s is %d, want %d", hw, addr, got, want)
	}
}

// askAll asks about every address that is due, and lets who is there answer.
func askAll(t *testing.T, table *lease.Table, now time.Time, there map[netip.Addr][6]byte) (asked []netip.Addr) {
	t.Helper()
	for range 1000 {
		addr, _ := table.NextProbe("P1", now)
		if !addr.IsValid() {
			return asked
		}
		asked = append(asked, addr)
		if hw, ok := there[addr]; ok {
			table.Seen("P1", addr, hw, false, now.Add(time.Millisecond))
		}
		table.Silent("P1", addr, now.Add(time.Second))
	}
	t.Fatal("there is no end of addresses to ask about")
	return nil
}

func TestAnAddressThatSomebodyUsesIsOfferedToNobodyElse(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), pool(t, "P1", "10.83.0.1/24", 32))
	squatters := map[netip.Addr][6]byte{}
	for n := range 3 {
		addr, err := table.Offer("P1", mac(n), netip.Addr{}, true, start)
		if err != nil {
			t.Fatal(err)
		}
		table.Forgo("P1", mac(n))
		squatters[addr] = mac(100 + n) // of all addresses that somebody would be offered first
	}
	askAll(t, table, start, squatters)
	for n := range 29 + 29 - 3 {
		addr, err := table.Offer("P1", mac(n), netip.Addr{}, true, start)
		if err != nil {
			t.Fatalf("after %d: %v", n, err)
		}
		if hw, used := squatters[addr]; used {
			t.Errorf("%x was offered %s, which %x uses", mac(n), addr, hw)
		}
	}
	for addr, hw := range squatters {
		if _, err := table.Grant(claim("P1", 90, true), addr, start); !errors.Is(err, lease.ErrRefused) {
			t.Errorf("asking for %s by name got %v, want ErrRefused", addr, err)
		}
		see(t, table, addr, hw, start, lease.KnownSquatter)
	}
	if got := table.Counts(start)[0].InUse; got != 3 {
		t.Errorf("%d addresses count as in use, want 3", got)
	}
}

func TestASquatterThatLeavesGivesItsAddressBack(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	addr := small("P1", "0").First
	see(t, table, addr, mac(100), start, lease.Squatter)
	later := start.Add(5 * time.Minute)
	if asked := askAll(t, table, later, nil); len(asked) != 6 {
		t.Errorf("asked about %v, want all 6", asked)
	}
	if got, err := table.Offer("P1", mac(1), addr, true, later.Add(time.Second)); err != nil || got != addr {
		t.Errorf("after nobody answered it was offered %s, %v; want %s", got, err, addr)
	}
}

func TestTheUserOfAnAddressMayHaveIt(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	addr := small("P1", "0").First
	// A charger that kept its address while the box lost its memory.
	see(t, table, addr, mac(1), start, lease.Squatter)
	as := claim("P1", 1, true)
	as.Starting = true
	if _, err := table.Grant(as, addr, start); err != nil {
		t.Errorf("it may not keep %s: %v", addr, err)
	}
	see(t, table, addr, mac(1), start, lease.Owner)
}

func TestAGarageKeepsItsAddressesWhenTheDiskWasReplaced(t *testing.T) {
	t.Parallel()
	p := pool(t, "P1", "10.83.0.1/24", 60) // 100 and 8
	table := open(t, t.TempDir(), p)
	had := map[int]netip.Addr{}
	addr := p.First
	for n := range 60 { // each announces the address that it has from before
		had[n] = addr
		if got, _ := table.Seen("P1", addr, mac(n), true, start); got != lease.Squatter {
			t.Fatalf("charger %d is %d, want its address kept for it", n, got)
		}
		addr = addr.Next()
	}
	for n := 60; n < 90; n++ {
		join(t, table, claim("P1", n, true), start)
	}
	for n, want := range had {
		if got := join(t, table, claim("P1", n, true), start); got != want {
			t.Errorf("charger %d has started anew and was given %s, want %s as before", n, got, want)
		}
	}
}

func TestAnOwnerWhoseAddressSomebodyTookIsGivenAnother(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	as := claim("P1", 1, true)
	addr := join(t, table, as, start)
	if got, owner := table.Seen("P1", addr, mac(100), false, start); got != lease.Intruder || owner != mac(1) {
		t.Errorf("somebody else is seen with it: %d, %x", got, owner)
	}
	if _, err := table.Grant(as, addr, start); err != nil {
		t.Errorf("renewing while it uses it: %v; only who begins is told", err)
	}
	as.Starting = true
	if _, err := table.Grant(as, addr, start); !errors.Is(err, lease.ErrRefused) {
		t.Errorf("beginning with it got %v, want ErrRefused", err)
	}
	if got, err := table.Offer("P1", mac(1), addr, true, start); err != nil || got == addr {
		t.Errorf("it was offered %s, %v; want another than %s", got, err, addr)
	}
}

func TestADeclineNamesTheOtherAndIsAskedAboutFirst(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	askAll(t, table, start, nil)
	addr := join(t, table, claim("P1", 1, true), start)
	if _, other, ok := table.Decline("P1", mac(1), addr, start); !ok || other != [6]byte{} {
		t.Errorf("declined: %v, other %x; nobody was seen", ok, other)
	}
	if got, _ := table.NextProbe("P1", start.Add(2*time.Second)); got != addr {
		t.Errorf("asked about %s first, want %s", got, addr)
	}
	second := join(t, table, claim("P1", 2, true), start)
	table.Seen("P1", second, mac(100), false, start)
	if _, other, ok := table.Decline("P1", mac(2), second, start); !ok || other != mac(100) {
		t.Errorf("declined: %v, other %x, want %x", ok, other, mac(100))
	}
}

func TestNobodyCanTakeAllAddressesOutOfUse(t *testing.T) {
	t.Parallel()
	p := pool(t, "P1", "10.83.0.1/24", 32) // 58 and 8
	for name, c := range map[string]struct {
		macs   int
		listed bool
		joined int // of them have a lease
		want   int
	}{
		"an access point that answers for everybody": {macs: 1, want: 4},
		"made-up MACs":                                    {macs: 1000, want: (58 + 8) / 4},
		"a charger that answers for everybody":            {macs: 1, listed: true, want: 4},
		"one that takes the MACs of 11 chargers":          {macs: 11, listed: true, want: 11 + (58+8)/4},
		"one that takes those of 11 that have an address": {macs: 11, listed: true, joined: 11, want: (58 + 8) / 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table := open(t, t.TempDir(), p)
			n, first := 0, 1000
			if c.listed {
				first = 0 // of the garage's own chargers
			}
			for i := range c.joined {
				join(t, table, claim("P1", i, true), start)
			}
			for addr := p.First; addr.Compare(p.LastStranger) <= 0; addr = addr.Next() {
				table.Seen("P1", addr, mac(first+n%c.macs), c.listed, start)
				n++
			}
			if got := table.Counts(start)[0].InUse; got != c.want {
				t.Errorf("%d of %d addresses are out of use, want %d", got, n, c.want)
			}
			for i := range 32 {
				join(t, table, claim("P1", i, true), start)
			}
		})
	}
}

func TestFreeAddressesAreAskedAboutOnceAndThenNowAndAgain(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	if asked := askAll(t, table, start, nil); len(asked) != 6 {
		t.Errorf("at first it was asked about %v, want all 6", asked)
	}
	join(t, table, claim("P1", 1, true), start)
	if asked := askAll(t, table, start.Add(9*time.Minute), nil); len(asked) != 0 {
		t.Errorf("nine minutes later it was asked about %v", asked)
	}
	_, due := table.NextProbe("P1", start.Add(9*time.Minute+30*time.Second))
	if due.Sub(start) > 10*time.Minute+time.Second {
		t.Errorf("the next one is due after %s", due.Sub(start))
	}
	if asked := askAll(t, table, start.Add(10*time.Minute), nil); len(asked) != 5 {
		t.Errorf("ten minutes later it was asked about %v, want the 5 that nobody has", asked)
	}
}

func TestAReservedAddressIsOneChargersAlone(t *testing.T) {
	t.Parallel()
	for name, addr := range map[string]netip.Addr{"within the pool": small("P1", "0").First, "outside the pool": small("P1", "0").LastStranger.Next()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			reserved := []lease.Reservation{{Network: "P1", HW: mac(1), Addr: addr}}
			table, _, err := lease.Open(dir, []lease.Pool{small("P1", "0")}, reserved, start)
			if err != nil {
				t.Fatal(err)
			}
			for n := range 4 {
				got, err := table.Offer("P1", mac(10+n), addr, true, start)
				if got == addr {
					t.Errorf("%x was offered what is reserved for another", mac(10+n))
				}
				if err != nil && !errors.Is(err, lease.ErrExhausted) {
					t.Error(err)
				}
			}
			if _, err := table.Grant(claim("P1", 20, true), addr, start); !errors.Is(err, lease.ErrRefused) {
				t.Errorf("asking for it by name got %v, want ErrRefused", err)
			}
			if got := join(t, table, claim("P1", 1, false), start); got != addr {
				t.Errorf("it was given %s, want %s", got, addr)
			}
			if err := table.Close(); err != nil {
				t.Fatal(err)
			}
			table, report, err := lease.Open(dir, []lease.Pool{small("P1", "0")}, reserved, start)
			if err != nil || report.Bindings != 1 || report.Outside != 0 {
				t.Errorf("after a restart: %+v, %v", report, err)
			}
			table.Close()
		})
	}
}

func TestAReservationMadeLaterIsKeptFromTheNextRenewalOn(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	first, second := claim("P1", 1, true), claim("P1", 2, true)
	addr := join(t, table, first, start)
	other := join(t, table, second, start)
	table.Reserve([]lease.Reservation{{Network: "P1", HW: mac(2), Addr: addr}})
	if _, err := table.Grant(second, other, start); err != nil {
		t.Errorf("it has to wait until %s is free, and renewing %s got %v", addr, other, err)
	}
	if _, err := table.Grant(first, addr, start); !errors.Is(err, lease.ErrRefused) {
		t.Errorf("who sits in a reserved address renewed it: %v", err)
	}
	if got := join(t, table, first, start); got == addr || got == other {
		t.Errorf("it moved to %s", got)
	}
	if _, err := table.Grant(second, other, start); !errors.Is(err, lease.ErrRefused) {
		t.Errorf("renewing %s while %s waits for it: %v", other, addr, err)
	}
	if got := join(t, table, second, start); got != addr {
		t.Errorf("it was given %s, want %s", got, addr)
	}
	table.Reserve(nil)
	if _, err := table.Grant(second, addr, start); err != nil {
		t.Errorf("without the reservation it may not stay: %v", err)
	}
}

func TestReservationsThatCannotBeArePassedOver(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	p := small("P1", "0")
	table.Reserve([]lease.Reservation{
		{Network: "P2", HW: mac(1), Addr: p.First},
		{Network: "P1", HW: mac(2), Addr: p.Gateway.Addr()},
		{Network: "P1", HW: mac(3), Addr: netip.MustParseAddr("192.0.2.1")},
		{Network: "P1", HW: mac(4), Addr: p.First},
		{Network: "P1", HW: mac(5), Addr: p.First},
		{Network: "P1", HW: mac(4), Addr: p.Last},
	})
	if got := table.Counts(start)[0].Reserved; got != 1 {
		t.Errorf("%d reservations are in force, want 1", got)
	}
}

// Who gave its address back, or whose lease is over, and goes on using it, keeps
// others from it for as long as it does.
func TestAnAddressThatIsUsedAfterItsLeaseIsOfferedToNobodyElse(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*lease.Table, netip.Addr) time.Time{
		"given back": func(table *lease.Table, addr netip.Addr) time.Time {
			table.Release("P1", mac(3), addr, start)
			return start.Add(time.Minute)
		},
		"run out": func(table *lease.Table, addr netip.Addr) time.Time {
			now := start.Add(term + time.Minute)
			for i := range 3 {
				b, _ := table.Lookup("P1", mac(i))
				if _, err := table.Grant(claim("P1", i, true), b.Addr, now); err != nil {
					t.Fatal(err)
				}
			}
			return now
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, listed := range []bool{true, false} {
				table := open(t, t.TempDir(), small("P1", "0"))
				var addr netip.Addr
				for i := range 4 {
					addr = join(t, table, claim("P1", i, true), start)
				}
				now := end(table, addr)
				for range 3 { // it answers each question
					if s, _ := table.Seen("P1", addr, mac(3), listed, now); s != lease.Owner {
						t.Errorf("it counts as %d, want Owner", s)
					}
					now = now.Add(5 * time.Minute)
				}
				if got, err := table.Offer("P1", mac(9), netip.Addr{}, true, now); !errors.Is(err, lease.ErrExhausted) {
					t.Errorf("another is offered %s, which is in use; %v", got, err)
				}
				if _, err := table.Grant(claim("P1", 3, true), addr, now); err != nil {
					t.Errorf("it asks for it again: %v", err)
				}
			}
		})
	}
}
