package dhcp

import (
	"testing"
	"time"

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
	from := func(sender charger.MAC) *packet {
		p := &packet{n: 60}
		copy(p.buf[6:], sender[:])
		return p
	}
	for i := range queued {
		l.line(&packet{}) // too short to tell
		p := from(charger.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)})
		l.line(p) <- p
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
		if got := l.next(); got != p {
			t.Errorf("%x is answered first, want %x", got.buf[6:12], p.buf[6:12])
		}
	}
	for range queued {
		if l.next() == nil {
			t.Fatal("a stranger was forgotten")
		}
	}
	if l.next() != nil {
		t.Error("nobody waits, and there is a packet")
	}
}
