package charger_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/charger"
)

func TestPresence(t *testing.T) {
	t.Parallel()
	mac := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 9}
	addr := netip.MustParseAddr("10.83.0.9")
	start := time.Now()
	at := func(d time.Duration) time.Time { return start.Add(d) }
	tests := []struct {
		name string
		do   func(*charger.Book)
		ask  time.Duration // after start
		want charger.Presence
	}{
		{"nothing was seen of it", func(*charger.Book) {}, 0, charger.Presence{}},
		{"an address from before says nothing", func(*charger.Book) {}, time.Second, charger.Presence{}},
		{"on the radio", func(b *charger.Book) { b.Associated(mac, "P1", -60, at(0)) }, 179 * time.Second, charger.Presence{Present: true, Radio: at(0)}},
		{"listed, and without a frame for three minutes", func(b *charger.Book) { b.Associated(mac, "P1", -60, at(0)) }, 180 * time.Second, charger.Presence{}},
		{"its heartbeat", func(b *charger.Book) { b.Heard(addr, at(0)) }, 179 * time.Second, charger.Presence{Present: true, Heard: at(0)}},
		{"three heartbeats are missing", func(b *charger.Book) { b.Heard(addr, at(0)) }, 180 * time.Second, charger.Presence{}},
		{"behind an external access point, silent between two pings", func(b *charger.Book) {
			b.Opened(addr, true, at(0))
			b.Moved(addr, true, 100, 100, at(time.Second))
		}, 19 * time.Minute, charger.Presence{Present: true, Cloud: at(time.Second)}},
		{"its conversation is dead, and nobody has noticed", func(b *charger.Book) {
			b.Opened(addr, true, at(0))
			b.Moved(addr, true, 100, 100, at(time.Second))
		}, 21 * time.Minute, charger.Presence{}},
		{"its conversation has ended", func(b *charger.Book) {
			b.Opened(addr, true, at(0))
			b.Moved(addr, true, 100, 100, at(time.Second))
			b.Closed(addr, true, at(0), at(time.Minute))
		}, 2 * time.Minute, charger.Presence{}},
		{"a taken-over conversation", func(b *charger.Book) { b.Resumed(addr, true, at(-time.Hour), at(-time.Minute), at(0)) }, 0, charger.Presence{Present: true, Cloud: at(-time.Minute)}},
		{"it has left the radio, and its conversation is still open", func(b *charger.Book) {
			b.Associated(mac, "P1", -60, at(0))
			b.Opened(addr, true, at(0))
			b.Moved(addr, true, 100, 100, at(time.Second))
			b.Heard(addr, at(2*time.Second))
			b.Left(mac, "P1", at(3*time.Second))
		}, 4 * time.Second, charger.Presence{}},
		{"a conversation that is not the lasting one", func(b *charger.Book) {
			b.Opened(addr, false, at(0))
			b.Moved(addr, false, 100, 100, at(0))
		}, time.Second, charger.Presence{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := charger.NewBook(charger.Inventory{mac: {MAC: mac, Name: "P1-09"}}, nil)
			b.Leased(mac, "P1", addr, false, at(-time.Hour))
			tt.do(b)
			if diff := cmp.Diff(tt.want, b.All(at(tt.ask))[0].Presence); diff != "" {
				t.Errorf("presence (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBeforeTheDoor(t *testing.T) {
	t.Parallel()
	mac := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 9}
	now := time.Now()
	b := charger.NewBook(charger.Inventory{mac: {MAC: mac, Name: "P1-09", Network: "P1"}}, nil)
	b.TurnedAway(mac, "P1", now)
	if got := b.All(now)[0]; !strings.Contains(got.Advice, "no room") || got.Stage != charger.Wifi || got.Presence.Present {
		t.Errorf("turned away, it stands at %s, present %v, with %q", got.Stage, got.Presence.Present, got.Advice)
	}
	b.Mistyped(mac, "P1", now.Add(time.Second))
	if got := b.All(now.Add(time.Second))[0].Advice; !strings.Contains(got, "wrong passphrase") {
		t.Errorf("with a wrong passphrase the advice is %q", got)
	}
	if got := b.All(now.Add(time.Hour))[0].Advice; strings.Contains(got, "passphrase") {
		t.Errorf("an hour later the advice is still %q", got)
	}
	for i := range 10000 {
		b.Mistyped(charger.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}, "P1", now)
		b.TurnedAway(mac, "P2", now) // the charger's MAC, on a network that is not its own
	}
	if n := len(b.All(now)); n != 1 {
		t.Errorf("the book knows %d, want the one of the inventory: who does not come in is not remembered", n)
	}
}
