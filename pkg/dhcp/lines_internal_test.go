package dhcp

import (
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

// However many made-up devices wait, who is listed or has an address does not
// wait behind them.
func TestRegularsDoNotWaitBehindStrangers(t *testing.T) {
	t.Parallel()
	leases := aDesk(t).leases
	listed, bound := client, other
	inventory := charger.Inventory{listed: {MAC: listed, Name: "P1-07"}}
	s := New(Config{Networks: []Network{{Name: "P1", Interface: "wlan0", Gateway: gateway}}}, leases, charger.NewBook(inventory, nil), event.New(event.Options{}))
	l := s.links[0]
	if _, err := leases.Bind(lease.Claim{Network: "P1", HW: bound, Term: time.Hour}, ip("10.83.0.40"), time.Now()); err != nil {
		t.Fatal(err)
	}
	l.line(&packet{}) // too short to tell
	var strangers [workers]int
	for i := 0; strangers != [workers]int{queued / workers, queued / workers}; i++ {
		p := from(charger.MAC{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)})
		select {
		case l.line(p) <- p:
			strangers[laneOf(charger.MAC(p.buf[6:12]))]++
		default:
		}
	}
	want := []*packet{from(listed), from(bound)}
	for _, p := range want {
		select {
		case l.line(p) <- p:
		default:
			t.Fatalf("there is no room for %x, whom we know", p.buf[6:12])
		}
	}
	for _, p := range want {
		if got := l.lanes[laneOf(charger.MAC(p.buf[6:12]))].next(); got != p {
			t.Errorf("%x is answered first, want %x", got.buf[6:12], p.buf[6:12])
		}
	}
	for i, n := range strangers {
		for range n {
			if l.lanes[i].next() == nil {
				t.Fatal("a stranger was forgotten")
			}
		}
		if l.lanes[i].next() != nil {
			t.Error("nobody waits, and there is a packet")
		}
	}
}

// from is a packet in a frame of somebody's.
func from(sender charger.MAC) *packet {
	p := &packet{n: 60}
	copy(p.buf[6:], sender[:])
	return p
}

// Whatever one device sends is decided in its order, by one worker. The workers
// share the chargers, however their numbers are counted.
func TestEachWorkerHasItsShareOfTheDevices(t *testing.T) {
	t.Parallel()
	for step := range 17 {
		var of [workers]int
		for i := range 1000 {
			n := i * max(step, 1)
			hw := charger.MAC{0x60, 0x15, 0x92, byte(n >> 16), byte(n >> 8), byte(n)}
			of[laneOf(hw)]++
		}
		for i, n := range of {
			if n < 1000/workers*3/4 {
				t.Errorf("counted by %d: worker %d has %d of 1000", step, i, n)
			}
		}
	}
}

// A device asks for its address and gives it back before the binding is on disk.
func TestAReleaseThatOvertakesItsACKHasTheLastWord(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	m := charger.MAC{0x60, 0x15, 0x92, 9, 9, 9}
	o.book.Replace(charger.Inventory{m: {MAC: m, Name: "P1-99"}})
	say := func(d *dhcpv4.DHCPv4) { o.handle(o.link, framed(m, "0.0.0.0:68", "255.255.255.255:67", d)) }
	say(lwip(dhcpv4.MessageTypeDiscover, m, with(80)))
	b, bound := o.Server.leases.Lookup("P1", m)
	if !bound || len(o.promises) != 1 {
		t.Fatalf("%+v; %d answers wait for the disk", b, len(o.promises))
	}
	say(lwip(dhcpv4.MessageTypeRelease, m, has(b.Addr.String())))
	p := <-o.promises
	o.deliver(p.link, p.answer, time.Now())
	if b, _ := o.Server.leases.Lookup("P1", m); b.Live(time.Now()) {
		t.Errorf("it was not given back: %+v", b)
	}
	if at, held := o.book.At(b.Addr); held {
		t.Errorf("by the book %s holds %s", at, b.Addr)
	}
}
