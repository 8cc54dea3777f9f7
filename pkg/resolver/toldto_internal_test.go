package resolver

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"chargegate/pkg/charger"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func someAddrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range texts {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

// leases tells whose an address is, for tests.
type leases map[netip.Addr]charger.MAC

func (l leases) whose(a netip.Addr) (charger.MAC, bool) {
	mac, ok := l[a]
	return mac, ok
}

func isListed(name string) bool { return name == "listed.example." }

// Each device knows an address by the names that it was told itself.
func TestToldTo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	one, other, third := netip.MustParseAddr("10.83.0.8"), netip.MustParseAddr("10.83.0.9"), netip.MustParseAddr("10.83.0.10")
	held := leases{one: {1}, third: {3}}
	told := newToldTo(held.whose, isListed)
	told.note(one, "b.example.", someAddrs("192.0.2.1", "192.0.2.2"), now)
	told.note(one, "a.example.", someAddrs("192.0.2.1"), now.Add(time.Hour))
	told.note(one, "b.example.", someAddrs("192.0.2.2", "192.0.2.1"), now.Add(time.Hour)) // turned round: nothing new
	told.note(one, "b.example.", someAddrs("192.0.2.3"), now.Add(2*time.Hour))            // moved: the old address stays known
	told.note(other, "c.example.", someAddrs("192.0.2.1"), now)
	told.note(third, "d.example.", someAddrs("192.0.2.1"), now)
	held[third] = charger.MAC{4}
	for _, tt := range []struct {
		what  string
		who   netip.Addr
		addr  string
		after time.Duration
		want  []string
		told  bool
	}{
		{"two names at one address", one, "192.0.2.1", 24 * time.Hour, []string{"a.example", "b.example"}, true},
		{"where it moved to", one, "192.0.2.3", 24 * time.Hour, []string{"b.example"}, true},
		{"another device", other, "192.0.2.1", 24 * time.Hour, []string{"c.example"}, true},
		{"an address that it was not told", other, "192.0.2.3", 24 * time.Hour, nil, true},
		{"one that was told nothing", netip.MustParseAddr("10.83.0.77"), "192.0.2.1", 24 * time.Hour, nil, false},
		{"one that was given the address of another one", third, "192.0.2.1", 24 * time.Hour, nil, false},
		{"a week later", one, "192.0.2.1", givenFor + time.Hour, nil, true},
		{"two hours more", one, "192.0.2.3", givenFor + 2*time.Hour, nil, false},
	} {
		names, ok := told.at(tt.who, netip.MustParseAddr(tt.addr), now.Add(tt.after))
		if diff := cmp.Diff(tt.want, names); diff != "" || ok != tt.told {
			t.Errorf("%s: told anything: %t (-want +got):\n%s", tt.what, ok, diff)
		}
	}
	if l, _ := told.devices.get(one); len(l.tellings) != 3 {
		t.Errorf("%d answers are remembered, want 3", len(l.tellings))
	}
	told.note(third, "e.example.", someAddrs("192.0.2.1"), now.Add(time.Hour))
	if names, _ := told.at(third, netip.MustParseAddr("192.0.2.1"), now.Add(time.Hour)); len(names) != 1 || names[0] != "e.example" {
		t.Errorf("the next device at an address is said to know %q", names)
	}
}

// A device that asks for ever new names forgets its own, the names of the list last,
// and takes nothing from another. A crowd of devices is forgotten as a whole.
func TestToldToIsBounded(t *testing.T) {
	t.Parallel()
	now, at := time.Now(), netip.MustParseAddr("192.0.2.1")
	greedy, quiet := netip.MustParseAddr("10.84.0.1"), netip.MustParseAddr("10.84.0.2")
	told := newToldTo(leases{}.whose, isListed)
	told.note(quiet, "quiet.example.", someAddrs("192.0.2.1"), now)
	told.note(greedy, "listed.example.", someAddrs("192.0.2.1"), now)
	for i := range 1000 {
		told.note(greedy, fmt.Sprintf("x%d.example.", i), someAddrs("192.0.2.1"), now.Add(time.Second))
	}
	names, _ := told.at(greedy, at, now.Add(time.Minute))
	if len(names) != maxAnswers || names[0] != "listed.example" {
		t.Errorf("it is remembered to know %q", names)
	}
	if names, _ := told.at(quiet, at, now.Add(time.Minute)); len(names) != 1 {
		t.Errorf("another one knows %q", names)
	}
	for i := range 3 * maxTold {
		told.note(netip.AddrFrom4([4]byte{10, 83, byte(i >> 8), byte(i)}), "x.example.", someAddrs("192.0.2.1"), now)
	}
	if n := told.devices.len(); n != maxTold {
		t.Errorf("%d devices are remembered, want %d", n, maxTold)
	}
	if _, ok := told.at(quiet, at, now); ok {
		t.Error("one that was silent longest is still known: it should count as one that was told nothing")
	}
}

// Both ways of answering remember who was told; who was told nothing goes by what
// anybody was told; and an address that another device gets does not speak for it.
func TestNamesAtIsOfTheCaller(t *testing.T) {
	t.Parallel()
	s := depot(t)
	s.memory.open()
	defer s.memory.shut()
	f, in := newFast(s), wire(t, "one.depot.example.", dns.TypeA)
	mac, first, second := charger.MAC{1}, netip.MustParseAddr("10.83.0.21"), netip.MustParseAddr("10.83.0.22")
	s.book.Leased(mac, "P1", first, true, time.Now())
	if out := s.respondReady(t.Context(), slices.Clone(in), asker); out == nil {
		t.Fatal("no answer")
	}
	if out := s.respondReady(t.Context(), slices.Clone(in), asker); out == nil { // makes it ready
		t.Fatal("no answer")
	}
	if out := s.respondReady(t.Context(), wire(t, "zero.depot.example.", dns.TypeA), asker); out == nil {
		t.Fatal("no answer")
	}
	if out := f.answer(roomy(in), first, time.Now()); out == nil {
		t.Fatal("the fast path has nothing ready")
	}
	at := netip.MustParseAddr("192.0.2.1")
	for _, name := range []string{"one.depot.example.", "zero.depot.example."} { // as askUpstream does
		s.given.note(name, false, []netip.Addr{at}, time.Now())
	}
	s.given.note("many.depot.example.", false, someAddrs("192.0.2.99"), time.Now())
	both, one := []string{"one.depot.example", "zero.depot.example"}, []string{"one.depot.example"}
	for _, tt := range []struct {
		what   string
		caller netip.Addr
		want   []string
	}{
		{"the ordinary way", asker, both},
		{"the fast path", first, one},
		{"a device that was told nothing", second, both},
	} {
		got := s.NamesAt(tt.caller, at)
		slices.Sort(got)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.what, diff)
		}
	}
	if got := s.NamesAt(first, netip.MustParseAddr("192.0.2.99")); len(got) != 0 {
		t.Errorf("an address that others were told is called %q", got)
	}
	s.book.Leased(charger.MAC{2}, "P1", first, true, time.Now())
	if got := s.NamesAt(first, at); len(got) != 2 {
		t.Errorf("the next device at that address knows it as %q, want what anybody was told", got)
	}
}

// What is noted with every answer costs little: a device that asks again for what
// it knows allocates nothing.
func TestToldToAllocatesNothing(t *testing.T) {
	told, now, addrs := newToldTo(leases{}.whose, isListed), time.Now(), someAddrs("192.0.2.1")
	told.note(asker, "a.example.", addrs, now)
	if n := testing.AllocsPerRun(100, func() { told.note(asker, "a.example.", addrs, now) }); n != 0 {
		t.Errorf("it allocates %v times", n)
	}
}
