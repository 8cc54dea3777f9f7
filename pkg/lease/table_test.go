package lease_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/lease"
)

// start is when the tests begin: on a Pi without a clock (F-12).
var start = time.Date(1970, 1, 1, 0, 0, 20, 0, time.UTC)

const term = 12 * time.Hour

func pool(t testing.TB, network, gateway string, chargers int) lease.Pool {
	t.Helper()
	p, err := lease.NewPool(network, netip.MustParsePrefix(gateway), chargers)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// small is a pool of four addresses for chargers and two for strangers.
func small(network, third string) lease.Pool {
	a := func(last string) netip.Addr { return netip.MustParseAddr("10.83." + third + "." + last) }
	return lease.Pool{Network: network, Gateway: netip.PrefixFrom(a("1"), 24),
		First: a("10"), Last: a("13"), FirstStranger: a("20"), LastStranger: a("21")}
}

func mac(n int) [6]byte {
	return [6]byte{0x60, 0x15, 0x92, byte(n >> 16), byte(n >> 8), byte(n)}
}

func claim(network string, n int, known bool) lease.Claim {
	return lease.Claim{Network: network, HW: mac(n), Known: known, Host: "Zaptec Go", Term: term}
}

// open opens a table that is closed at the end of the test.
func open(t testing.TB, dir string, pools ...lease.Pool) *lease.Table {
	t.Helper()
	table, report, err := lease.Open(dir, pools, nil, start)
	if err != nil {
		t.Fatal(err)
	}
	if report.Storage != nil || len(report.Faults) > 0 {
		t.Fatalf("unexpected report: %+v", report)
	}
	t.Cleanup(func() { table.Close() })
	return table
}

// join lets a client go all the way, and returns its address.
func join(t testing.TB, table *lease.Table, c lease.Claim, now time.Time) netip.Addr {
	t.Helper()
	addr, err := table.Offer(c.Network, c.HW, netip.Addr{}, c.Known, now)
	if err != nil {
		t.Fatalf("offering to %x: %v", c.HW, err)
	}
	g, err := table.Grant(c, addr, now)
	if err != nil {
		t.Fatalf("granting %s to %x: %v", addr, c.HW, err)
	}
	if g.Addr != addr || g.HW != c.HW {
		t.Fatalf("granted %+v, want %s", g, addr)
	}
	return addr
}

func TestTheSameMACGetsTheSameAddressForEver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := pool(t, "P1", "10.83.0.1/24", 16)
	table := open(t, dir, p)
	first := join(t, table, claim("P1", 1, true), start)
	for i := range 30 {
		join(t, table, claim("P1", 2+i, true), start)
	}
	late := start.Add(100 * 24 * time.Hour)
	if again := join(t, table, claim("P1", 1, true), late); again != first {
		t.Errorf("got %s after the lease had expired, had %s", again, first)
	}
	table.Close()
	table = open(t, dir, p)
	if again := join(t, table, claim("P1", 1, true), start); again != first {
		t.Errorf("got %s after a restart, had %s", again, first)
	}
	if again := join(t, open(t, t.TempDir(), p), claim("P1", 1, true), start); again != first {
		t.Errorf("got %s from a table that lost its memory, had %s", again, first)
	}
}

func TestAnOfferIsKeptForTheOneWhoGotIt(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	offered := map[netip.Addr]bool{}
	for n := range 4 {
		for range 3 { // a repeated DISCOVER gets the same
			addr, err := table.Offer("P1", mac(n), netip.Addr{}, true, start)
			if err != nil {
				t.Fatal(err)
			}
			offered[addr] = true
		}
	}
	if len(offered) != 4 {
		t.Errorf("four clients were offered %d addresses", len(offered))
	}
	if _, err := table.Offer("P1", mac(4), netip.Addr{}, true, start); !errors.Is(err, lease.ErrExhausted) {
		t.Errorf("the fifth got %v, want ErrExhausted", err)
	}
	if _, err := table.Offer("P1", mac(4), netip.Addr{}, true, start.Add(time.Minute)); err != nil {
		t.Errorf("a minute later: %v", err)
	}
	table.Forgo("P1", mac(0))
	table.Forgo("P1", mac(1))
	if _, err := table.Offer("P1", mac(5), netip.Addr{}, true, start.Add(time.Second)); err != nil {
		t.Errorf("after two chose another server: %v", err)
	}
}

func TestStrangersNeverTakeAChargersPlace(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	want := small("P1", "0").First
	for n := range 2 {
		addr := join(t, table, claim("P1", n, false), start)
		if addr.Less(small("P1", "0").FirstStranger) {
			t.Errorf("stranger %d got %s", n, addr)
		}
	}
	if _, err := table.Offer("P1", mac(9), want, false, start); !errors.Is(err, lease.ErrExhausted) {
		t.Errorf("the third stranger got %v, want ErrExhausted", err)
	}
	if _, err := table.Grant(claim("P1", 9, false), want, start); !errors.Is(err, lease.ErrRefused) {
		t.Errorf("a stranger that asks for a charger's address got %v, want ErrRefused", err)
	}
	if _, err := table.Grant(claim("P1", 9, true), small("P1", "0").LastStranger, start); !errors.Is(err, lease.ErrRefused) {
		t.Errorf("a charger that asks for a stranger's address got %v, want ErrRefused", err)
	}
}

func TestAStrangerThatIsEnteredInTheInventoryMovesOverWhenItRenews(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	as := claim("P1", 1, false)
	old := join(t, table, as, start)
	as.Known = true
	if _, err := table.Grant(as, old, start); !errors.Is(err, lease.ErrRefused) {
		t.Fatalf("renewing, it got %v, want ErrRefused, so that it asks anew", err)
	}
	moved := join(t, table, as, start)
	if moved == old || !moved.Less(small("P1", "0").FirstStranger) {
		t.Errorf("moved from %s to %s", old, moved)
	}
	if b, ok := table.At(old); ok {
		t.Errorf("the old address still belongs to %x", b.HW)
	}
	if _, err := table.Grant(as, old, start); !errors.Is(err, lease.ErrRefused) {
		t.Errorf("asking for the old address again got %v, want ErrRefused", err)
	}
	as.Known = false
	if _, err := table.Grant(as, moved, start); err != nil {
		t.Errorf("renewing after it was taken out of the inventory: %v; want it to stay", err)
	}
}

func TestAStrangerStaysWhereItIsWhileThereIsNoRoomForIt(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	as := claim("P1", 1, false)
	old := join(t, table, as, start)
	for n := range 4 {
		join(t, table, claim("P1", 10+n, true), start)
	}
	as.Known = true
	if _, err := table.Grant(as, old, start); err != nil {
		t.Errorf("renewing: %v", err)
	}
}

// A device keeps what it has when there is no room where it belongs, however it
// asks.
func TestWhoBelongsElsewhereIsOfferedWhatItHasWhenThereIsNoRoom(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	as := claim("P1", 50, false)
	had := join(t, table, as, start)
	for n := range 4 {
		join(t, table, claim("P1", n, true), start)
	}
	now := start.Add(2 * time.Minute)
	if got, err := table.Offer("P1", mac(50), netip.Addr{}, true, now); err != nil || got != had {
		t.Errorf("a stranger that was entered in the inventory is offered %s, %v; want its %s", got, err, had)
	}
	for n := range 2 { // who loses its row while the strangers' places are taken
		table.Offer("P1", mac(60+n), netip.Addr{}, false, now)
	}
	b, _ := table.Lookup("P1", mac(1))
	if got, err := table.Offer("P1", mac(1), netip.Addr{}, false, now); err != nil || got != b.Addr {
		t.Errorf("a charger that was taken out of the inventory is offered %s, %v; want its %s", got, err, b.Addr)
	}
	table.Release("P1", mac(50), had, now)
	if got, err := table.Offer("P1", mac(50), netip.Addr{}, true, now); !errors.Is(err, lease.ErrExhausted) {
		t.Errorf("one whose lease is over is offered %s, %v; want nothing", got, err)
	}
}

// Strangers that sit in chargers' places from before there was an inventory go
// when a charger needs one: one for each that found none.
func TestAStrangerMakesRoomForAChargerWhenItRenews(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	var had []netip.Addr
	for n := range 4 {
		had = append(had, join(t, table, claim("P1", 50+n, true), start))
	}
	now := start.Add(6 * time.Hour)
	renew := func(n int) error {
		_, err := table.Grant(claim("P1", 50+n, false), had[n], now)
		return err
	}
	if err := renew(0); err != nil {
		t.Errorf("while no charger needs its place a stranger is refused: %v", err)
	}
	if got, err := table.Offer("P1", mac(1), netip.Addr{}, true, now); !errors.Is(err, lease.ErrExhausted) {
		t.Fatalf("a charger is offered %s, %v; want nothing yet", got, err)
	}
	if _, err := table.Grant(claim("P1", 53, true), had[3], now); err != nil {
		t.Errorf("a charger that renews is refused: %v", err)
	}
	if err := renew(1); !errors.Is(err, lease.ErrRefused) {
		t.Errorf("the next stranger that renews: %v, want ErrRefused", err)
	}
	if err := renew(2); err != nil {
		t.Errorf("and the one after it: %v", err)
	}
	if got, err := table.Offer("P1", mac(51), netip.Addr{}, false, now); err != nil || got.Less(small("P1", "0").FirstStranger) {
		t.Errorf("who made room is offered %s, %v; want a stranger's", got, err)
	}
	if got := join(t, table, claim("P1", 1, true), now); got != had[1] {
		t.Errorf("the charger gets %s, want %s", got, had[1])
	}
	if err := renew(0); err != nil {
		t.Errorf("after that a stranger is refused: %v", err)
	}
}

func TestAddressesAreReusedOldestFirstAndDeclinedOnesLast(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	now := start
	var had []netip.Addr
	for n := range 3 {
		had = append(had, join(t, table, claim("P1", n, true), now))
		now = now.Add(time.Minute)
	}
	bad, err := table.Offer("P1", mac(3), netip.Addr{}, true, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := table.Decline("P1", mac(3), bad, now); !ok {
		t.Fatal("the decline was not taken")
	}
	now = now.Add(24 * time.Hour)
	var got []netip.Addr
	for n := range 4 {
		got = append(got, join(t, table, claim("P1", 10+n, true), now))
	}
	if diff := cmp.Diff(append(had, bad), got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("order of reuse (-want +got):\n%s", diff)
	}
	if _, err := table.Grant(claim("P1", 0, true), had[0], now); !errors.Is(err, lease.ErrRefused) {
		t.Errorf("the former owner got %v, want ErrRefused", err)
	}
}

func TestReleaseAndDeclineAreForTheOwnerAlone(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	addr := join(t, table, claim("P1", 1, true), start)
	if table.Release("P1", mac(2), addr, start) {
		t.Error("somebody else released it")
	}
	if _, _, ok := table.Decline("P1", mac(2), addr, start); ok {
		t.Error("somebody else declined it")
	}
	if !table.Release("P1", mac(1), addr, start) {
		t.Error("the owner could not release it")
	}
	if n := table.Counts(start)[0].Used; n != 0 {
		t.Errorf("%d addresses in use after the release", n)
	}
	g, err := table.Grant(claim("P1", 1, true), addr, start)
	if err != nil || g.New || !g.Live(start) {
		t.Errorf("coming back after a release: %+v, %v; want the same binding", g, err)
	}
	if g, err = table.Grant(claim("P1", 1, true), addr, start); err != nil || g.New {
		t.Errorf("renewing: %+v, %v; want no new binding", g, err)
	}
}

func TestOneMACOnTwoNetworksHasAnAddressOnEach(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pools := []lease.Pool{small("P1", "0"), small("P2", "1")}
	table := open(t, dir, pools...)
	two := join(t, table, claim("P2", 1, true), start)
	one := join(t, table, claim("P1", 1, true), start)
	if _, err := table.Grant(claim("P1", 1, true), two, start); !errors.Is(err, lease.ErrRefused) {
		t.Errorf("asking for the address of the other network: %v, want ErrRefused", err)
	}
	table.Close()
	var got []netip.Addr
	for _, b := range open(t, dir, pools...).All(start) {
		got = append(got, b.Addr)
	}
	if len(got) != 2 || got[0] != two || got[1] != one {
		t.Errorf("got %v, want %s and then %s", got, two, one)
	}
}

func TestAfterAStartEveryBindingIsGoodForOneLease(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	table := open(t, dir, small("P1", "0"))
	addr := join(t, table, claim("P1", 1, true), start)
	table.Close()
	later := start.Add(-time.Hour) // the clock was wrong before, or is now
	table, _, err := lease.Open(dir, []lease.Pool{small("P1", "0")}, nil, later)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	b, _ := table.Lookup("P1", mac(1))
	want := lease.Binding{Network: "P1", HW: mac(1), Addr: addr, Known: true, Host: "Zaptec Go", Term: term, Expires: later.Add(term)}
	if diff := cmp.Diff(want, b, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("binding (-want +got):\n%s", diff)
	}
	if g, err := table.Grant(claim("P1", 1, true), addr, later); err != nil || g.New || !g.First {
		t.Errorf("first renewal: %+v, %v", g, err)
	}
	if g, err := table.Grant(claim("P1", 1, true), addr, later); err != nil || g.First || !g.Heard {
		t.Errorf("second renewal: %+v, %v", g, err)
	}
}

func TestRenewalsDoNotTouchTheDisk(t *testing.T) {
	t.Parallel()
	table := open(t, t.TempDir(), small("P1", "0"))
	addr := join(t, table, claim("P1", 1, true), start)
	before := table.Stats()
	for range 1000 {
		if _, err := table.Grant(claim("P1", 1, true), addr, start); err != nil {
			t.Fatal(err)
		}
	}
	if after := table.Stats(); after != before {
		t.Errorf("from %+v to %+v", before, after)
	}
}

func TestOnlyOneProcessHasTheDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	table := open(t, dir, small("P1", "0"))
	if _, _, err := lease.Open(dir, []lease.Pool{small("P1", "0")}, nil, start); err == nil {
		t.Error("opened twice")
	}
	table.Close()
	open(t, dir, small("P1", "0"))
}

func TestAFullPoolIsLookedAtAgainWhenSomethingComesBack(t *testing.T) {
	t.Parallel()
	for name, back := range map[string]func(*lease.Table, [6]byte, netip.Addr){
		"declined": func(table *lease.Table, hw [6]byte, addr netip.Addr) { table.Decline("P1", hw, addr, start) },
		"released": func(table *lease.Table, hw [6]byte, addr netip.Addr) { table.Release("P1", hw, addr, start) },
	} {
		table := open(t, t.TempDir(), small("P1", "0"))
		var addr netip.Addr
		for n := range 4 {
			addr = join(t, table, claim("P1", n, true), start)
		}
		later := start.Add(61 * time.Minute)
		if _, err := table.Offer("P1", mac(9), netip.Addr{}, true, later); !errors.Is(err, lease.ErrExhausted) {
			t.Fatalf("%s: a full pool offered something: %v", name, err)
		}
		back(table, mac(3), addr)
		if got, err := table.Offer("P1", mac(9), netip.Addr{}, true, later); err != nil || got != addr {
			t.Errorf("%s: offered %s, %v; want %s", name, got, err, addr)
		}
	}
}

func TestALongerLeaseIsPromisedBeyondThePowerCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	table := open(t, dir, small("P1", "0"))
	c := claim("P1", 1, true)
	c.Term = time.Hour
	addr := join(t, table, c, start)
	for _, step := range []struct {
		what  string
		term  time.Duration
		syncs uint64
	}{{"renewed as before", time.Hour, 1}, {"the operator has made leases longer", 12 * time.Hour, 2}, {"renewed again", 12 * time.Hour, 2}, {"and shorter", time.Hour, 2}} {
		c.Term = step.term
		if _, err := table.Grant(c, addr, start); err != nil {
			t.Fatal(err)
		}
		if got := table.Stats().Syncs; got != step.syncs {
			t.Errorf("%s: the disk was synced %d times, want %d", step.what, got, step.syncs)
		}
	}
	table.Close()
	again, _, err := lease.Open(dir, []lease.Pool{small("P1", "0")}, nil, start)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if b, _ := again.At(addr); !b.Live(start.Add(11 * time.Hour)) {
		t.Errorf("after a power cut the promise ends at %s", b.Expires.Sub(start))
	}
}
