package lease_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"chargegate/pkg/lease"
)

// decline lets a device be offered an address and find it in use.
func decline(t *testing.T, table *lease.Table, n int, known bool, now time.Time) netip.Addr {
	t.Helper()
	addr, err := table.Offer("P1", mac(n), netip.Addr{}, known, now)
	if err != nil {
		t.Fatalf("offering to %d: %v", n, err)
	}
	if _, _, ok := table.Decline("P1", mac(n), addr, now); !ok {
		t.Fatalf("%d could not decline %s", n, addr)
	}
	return addr
}

func TestWhenEverythingIsInQuarantineTheLongestThereIsGiven(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	table := open(t, dir, small("P1", "0"))
	now := start
	var order []netip.Addr
	for range 4 {
		order = append(order, decline(t, table, 9, true, now))
		now = now.Add(time.Second)
	}
	if c := table.Counts(now)[0]; c.Quarantined != 4 {
		t.Errorf("%d addresses are in quarantine, want 4", c.Quarantined)
	}
	if _, err := table.Grant(claim("P1", 7, true), order[3], now); !errors.Is(err, lease.ErrRefused) {
		t.Errorf("asking for one in quarantine by name got %v, want ErrRefused", err)
	}
	for n, want := range order {
		if got := join(t, table, claim("P1", n, true), now); got != want {
			t.Errorf("charger %d got %s, want %s", n, got, want)
		}
	}
	if _, err := table.Offer("P1", mac(8), netip.Addr{}, true, now); !errors.Is(err, lease.ErrExhausted) {
		t.Errorf("the fifth got %v, want ErrExhausted", err)
	}
	if c := table.Counts(now)[0]; c.Quarantined != 0 || c.Used != 4 {
		t.Errorf("%+v", c)
	}
	for range 2 {
		decline(t, table, 20, false, now)
	}
	if addr := join(t, table, claim("P1", 21, false), now); addr.Less(small("P1", "0").FirstStranger) {
		t.Errorf("a stranger got %s", addr)
	}
	table.Close()
	table = open(t, dir, small("P1", "0"))
	for n, want := range order {
		if b, ok := table.Lookup("P1", mac(n)); !ok || b.Addr != want {
			t.Errorf("after a restart charger %d has %+v, want %s", n, b, want)
		}
	}
}

func TestReleasesDoNotTouchTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	table := open(t, dir, small("P1", "0"))
	addr := join(t, table, claim("P1", 1, true), start)
	before := table.Stats()
	for range 1000 {
		if !table.Release("P1", mac(1), addr, start) {
			t.Fatal("could not be released")
		}
		if again := join(t, table, claim("P1", 1, true), start); again != addr {
			t.Fatalf("got %s after the release, had %s", again, addr)
		}
	}
	if after := table.Stats(); after != before {
		t.Errorf("from %+v to %+v", before, after)
	}
	// Who came back after a release keeps the address, whatever the disk was told
	// when: a compaction must not bring the release back.
	table.Release("P1", mac(1), addr, start)
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	table = open(t, dir, small("P1", "0"))
	if b, ok := table.Lookup("P1", mac(1)); !ok || b.Addr != addr || !b.Live(start) {
		t.Errorf("after a restart: %+v", b)
	}
}
