package charger_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/charger"
)

// Whose an address is, after this box was told in turn of leases and of who was
// heard with it.
func TestWhoUsesAForgottenAddress(t *testing.T) {
	p108, stranger := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 8}, charger.MAC{2, 0, 0, 0, 0, 1}
	addr8 := netip.MustParseAddr("10.83.0.18")
	later := start.Add(10 * time.Minute)
	for _, tt := range []struct {
		name string
		do   func(b *charger.Book)
		addr netip.Addr // of P1-07
		at7  string     // who has addr7
	}{
		{"a charger is heard", func(b *charger.Book) { b.Uses(p107, "P1", addr7, start) }, addr7, "P1-07"},
		{"on another network than its own", func(b *charger.Book) { b.Uses(p107, "P2", addr7, start) }, netip.Addr{}, ""},
		{"a stranger is heard", func(b *charger.Book) { b.Uses(stranger, "P1", addr7, start) }, netip.Addr{}, ""},
		{"a lease replaces it", func(b *charger.Book) {
			b.Uses(p107, "P1", addr7, start)
			b.Leased(p107, "P1", addr8, true, start)
		}, addr8, ""},
		{"a lease is not replaced by it", func(b *charger.Book) {
			b.Leased(p107, "P1", addr8, true, start)
			b.Uses(p107, "P1", addr7, later)
		}, addr8, ""},
		{"another's lease stays his", func(b *charger.Book) {
			b.Leased(p108, "P1", addr7, false, start)
			b.Uses(p107, "P1", addr7, later)
		}, netip.Addr{}, "P1-08"},
		{"a stranger's lease stays his", func(b *charger.Book) {
			b.Leased(stranger, "P1", addr7, true, start)
			b.Uses(p107, "P1", addr7, later)
		}, netip.Addr{}, "unknown 02:00:00:00:00:01"},
		{"somebody is leased what it was heard with", func(b *charger.Book) {
			b.Uses(p107, "P1", addr7, start)
			b.Leased(p108, "P1", addr7, true, start)
			b.Uses(p107, "P1", addr7, later)
		}, netip.Addr{}, "P1-08"},
		{"two are heard with it", func(b *charger.Book) {
			b.Uses(p107, "P1", addr7, start)
			b.Uses(p108, "P1", addr7, later.Add(-time.Second))
		}, addr7, "P1-07"},
		{"the other when the first is silent", func(b *charger.Book) {
			b.Uses(p107, "P1", addr7, start)
			b.Uses(p108, "P1", addr7, later)
		}, netip.Addr{}, "P1-08"},
		{"one is heard with two", func(b *charger.Book) {
			b.Uses(p107, "P1", addr7, start)
			b.Uses(p107, "P1", addr8, later.Add(-time.Second))
		}, addr7, "P1-07"},
		{"with another after a silence", func(b *charger.Book) {
			b.Uses(p107, "P1", addr7, start)
			b.Uses(p107, "P1", addr8, later)
		}, addr8, ""},
		{"it is refused a renewal", func(b *charger.Book) {
			b.Uses(p107, "P1", addr7, start)
			b.Unleased(p107, "P1", start)
		}, netip.Addr{}, ""},
		{"it is taken out of the inventory", func(b *charger.Book) {
			b.Uses(p107, "P1", addr7, start)
			b.Replace(charger.Inventory{p108: {MAC: p108, Name: "P1-08", Network: "P1"}})
		}, netip.Addr{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := charger.NewBook(charger.Inventory{p107: {MAC: p107, Name: "P1-07", Network: "P1"}, p108: {MAC: p108, Name: "P1-08", Network: "P1"}}, nil)
			tt.do(b)
			if _, addr := b.Where(p107); addr != tt.addr || b.NameAt(addr7) != tt.at7 {
				t.Errorf("it has %s, and %s is %q's; want %s and %q", addr, addr7, b.NameAt(addr7), tt.addr, tt.at7)
			}
		})
	}
}

// The story of a charger that is online while the box loses its memory.
func TestAForgottenChargerIsThere(t *testing.T) {
	b, _ := climb()
	now := start
	b.Opened(addr7, true, now) // nobody knows yet whose it is
	b.Uses(p107, "P1", addr7, now)
	if s := stage(b, now); s.Stage != charger.DNS || !s.Remembered || s.Address != addr7 || !strings.Contains(s.Advice, "lost its memory") {
		t.Errorf("heard: %s, %+v", s.Stage, s)
	}
	b.Moved(addr7, true, 1, 1, now)
	if s := stage(b, now); s.Stage != charger.OK || s.Sessions != 1 || !strings.Contains(s.Advice, "nothing to do") {
		t.Errorf("the cloud answers: %s with %d open, %q", s.Stage, s.Sessions, s.Advice)
	}
	b.Leased(p107, "P1", addr7, true, now.Add(time.Hour))
	if s := stage(b, now.Add(time.Hour)); s.Stage != charger.OK || s.Remembered || s.Advice != "" {
		t.Errorf("it has renewed: %s, %q", s.Stage, s.Advice)
	}
	b.Closed(addr7, true, now, now.Add(2*time.Hour))
	if s := stage(b, now.Add(2*time.Hour)); s.Stage == charger.OK || s.Sessions != 0 {
		t.Errorf("after its end: %s with %d open", s.Stage, s.Sessions)
	}
}
