package dhcp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

// Forty devices ask, give back, refuse and claim whatever they like while the
// inventory and the reservations change under them: nobody has two addresses, no
// address has two owners, and the book says what the table says.
func TestWhateverComesAtOnceTheBookAgreesWithTheTable(t *testing.T) {
	t.Parallel()
	p, err := lease.NewPool("P1", netip.MustParsePrefix("10.83.0.1/26"), 16)
	if err != nil {
		t.Fatal(err)
	}
	leases, _, err := lease.Open(t.TempDir(), []lease.Pool{p}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer leases.Close()
	inv := charger.Inventory{}
	var reserved []lease.Reservation
	for i := range 10 {
		m := charger.MAC{0x60, 0, 0, 0, 0, byte(i)}
		inv[m] = charger.Charger{MAC: m, Name: fmt.Sprint(i)}
		reserved = append(reserved, lease.Reservation{Network: "P1", HW: m, Addr: netip.AddrFrom4([4]byte{10, 83, 0, byte(2 + i*6)})})
	}
	book := charger.NewBook(inv, nil)
	s := New(Config{Networks: []Network{{Name: "P1", Interface: "nope0", Gateway: p.Gateway}}, Lease: time.Hour}, leases, book, event.New(event.Options{Keep: 50}))
	l := s.links[0]
	for _, limit := range []*limit{l.naks, l.bindings, l.declines, l.unnamedBindings, l.strangeBindings, l.nobodysDeclines} {
		limit.most = 1 << 20
	}
	var all, settling sync.WaitGroup
	settled := make(chan struct{})
	settling.Go(func() { s.settle(settled) })
	many := func(times int, seed uint64, f func(r *rand.Rand)) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for range times {
				f(r)
			}
		})
	}
	device := func(r *rand.Rand) charger.MAC { return charger.MAC{0x60, 0, 0, 0, 0, byte(r.IntN(40))} }
	somewhere := func(r *rand.Rand) string { return fmt.Sprint("10.83.0.", 1+r.IntN(62)) }
	kinds := []dhcpv4.MessageType{discover, request, request, request, dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeRelease, inform, discover}
	for seed := range uint64(3) {
		many(3000, seed, func(r *rand.Rand) {
			m := device(r)
			var edits []edit
			if r.IntN(2) == 0 {
				edits = append(edits, wants(somewhere(r)))
			}
			if r.IntN(2) == 0 {
				edits = append(edits, toServer("10.83.0.1"))
			}
			if b, ok := leases.Lookup("P1", m); ok && r.IntN(2) == 0 {
				edits = append(edits, has(b.Addr.String()))
			}
			if r.IntN(3) == 0 {
				edits = append(edits, with(80))
			}
			s.safely(l, func() {
				s.handle(l, framed(m, "0.0.0.0:68", "255.255.255.255:67", lwip(kinds[r.IntN(len(kinds))], m, edits...)))
			})
		})
	}
	many(3000, 4, func(r *rand.Rand) {
		l.heardARP(arp(device(r), somewhere(r), 2), time.Now())
		l.asking.step(time.Now())
	})
	many(300, 5, func(r *rand.Rand) {
		leases.Reserve(reserved[:r.IntN(10)])
		book.Replace(inv)
		leases.Tidy()
	})
	many(100, 6, func(*rand.Rand) {
		registry := prometheus.NewRegistry()
		registry.MustRegister(s)
		registry.Gather()
		book.All(time.Now())
	})
	all.Wait()
	close(settled)
	settling.Wait()

	addrs, owners := map[netip.Addr]bool{}, map[[6]byte]bool{}
	for _, b := range leases.All(time.Now().Add(-time.Hour)) {
		if addrs[b.Addr] || owners[b.HW] {
			t.Errorf("twice: %+v", b)
		}
		addrs[b.Addr], owners[b.HW] = true, true
		at, held := book.At(b.Addr)
		if live := b.Live(time.Now()); live != (held && at == b.HW) {
			t.Errorf("%s of %x is in force: %t; by the book %s holds it: %t", b.Addr, b.HW, live, at, held)
		}
	}
	if len(addrs) == 0 || l.panics.Load() > 0 {
		t.Errorf("%d bindings, %d panics", len(addrs), l.panics.Load())
	}
}
