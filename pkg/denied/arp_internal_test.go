package denied

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"chargegate/pkg/charger"

	"github.com/google/go-cmp/cmp"
)

const arpRequest, arpReply = 1, 2

var thief = charger.MAC{2, 'e', 'v', 'i', 'l', '!'}

// arp is a frame of mac in which it says that addr is its own.
func arp(mac charger.MAC, addr string, operation uint16) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, operation)
	b = append(b, mac[:]...)
	b = append(b, netip.MustParseAddr(addr).AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	b = append(b, netip.MustParseAddr(addr).AsSlice()...)
	return slices.Concat(slices.Repeat([]byte{0xff}, 6), mac[:], []byte{8, 6}, b, make([]byte, 18)) // padded to 60 bytes
}

func TestClaims(t *testing.T) {
	t.Parallel()
	forged := arp(p107, me, arpReply) // the frame is the thief's, the message says P1-07
	copy(forged[6:], thief[:])
	hidden := arp(thief, me, arpReply) // the other way round
	copy(hidden[6:], p107[:])
	const taken = "warning 02:65:76:69:6c:21 claims P1-07's address 10.83.0.57"
	for _, tt := range []struct {
		name  string
		frame []byte
		want  []string
	}{
		{"a device announces an address that is leased to another", arp(thief, me, arpRequest), []string{taken}},
		{"a reply says so", arp(thief, me, arpReply), []string{taken}},
		{"in the other's name", forged, []string{taken}},
		{"behind the other's frame", hidden, []string{taken}},
		{"the gateway's own address", arp(thief, gateway, arpReply), []string{"error 02:65:76:69:6c:21 claims the gateway's own address 10.83.0.1 in P1"}},
		{"the gateway's own address, by a charger", arp(p107, gateway, arpRequest), []string{"error P1-07 claims the gateway's own address 10.83.0.1 in P1"}},
		{"its own address", arp(p107, me, arpRequest), nil},
		{"a probe for a new address", arp(thief, "0.0.0.0", arpRequest), nil},
		{"an address that nobody holds", arp(thief, "10.83.0.99", arpReply), nil},
		{"an address of another network", arp(thief, "192.168.1.4", arpReply), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(Config{Networks: []Network{p1}, Ports: ports})
			for range 3 { // said once
				h.handle(h.watches[0], tt.frame)
			}
			if diff := cmp.Diff(tt.want, h.messages()); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
			if n := h.watches[0].results[claimed].Load(); n != int64(3*len(tt.want)) {
				t.Errorf("counted %d claims", n)
			}
			for n := range tt.frame { // cut anywhere
				h.handle(h.watches[0], tt.frame[:n])
			}
			if h.panics.Load() != 0 {
				t.Error("it panicked")
			}
		})
	}
}

// What a charger says of its own address is a sign of life, and what others say
// of it is none.
func TestClaimsAreSignsOfLife(t *testing.T) {
	t.Parallel()
	h := newHouse(Config{Networks: []Network{p1}, Ports: ports})
	lastSeen := func() time.Time { return h.book.All(time.Now())[0].LastSeen }
	w, start := h.watches[0], lastSeen()
	w.look(arp(thief, me, arpReply), start.Add(time.Minute))
	if got := lastSeen(); !got.Equal(start) {
		t.Errorf("seen %s after a claim of another", got.Sub(start))
	}
	w.look(arp(p107, me, arpRequest), start.Add(2*time.Minute))
	if got := lastSeen(); !got.Equal(start.Add(2 * time.Minute)) {
		t.Errorf("seen %s after its own", got.Sub(start))
	}
}

// A device that claims whatever there is makes a few lines and not thousands,
// nor do made-up senders; and refusals do not hide a claim.
func TestClaimsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(Config{Networks: []Network{p1}, Ports: ports})
	w := h.watches[0]
	for i := range maxTellers + 10 { // the budget of refusals is used up
		f := udp(me, foreign, 443)
		binary.BigEndian.PutUint32(f[8:], uint32(i))
		h.handle(w, f)
	}
	before := len(h.messages())
	for i := range 200 {
		owner := charger.MAC{2, 1, 0, 0, 0, byte(i)}
		addr := netip.AddrFrom4([4]byte{10, 83, 0, byte(2 + i)})
		if addr.String() != me {
			h.book.Leased(owner, "P1", addr, true, time.Now())
		}
		h.handle(w, arp(thief, addr.String(), arpReply))
	}
	if n := len(h.messages()) - before; n != maxThings {
		t.Errorf("%d lines about one device", n)
	}
	for i := range 5000 {
		h.handle(w, arp(charger.MAC{6, 0, 0, 0, byte(i >> 8), byte(i)}, me, arpReply))
	}
	if n := len(h.messages()) - before; n > maxThings+maxTellers {
		t.Errorf("%d lines", n)
	}
}

// The filter passes every claim and no other ARP.
func TestFilterOfClaims(t *testing.T) {
	t.Parallel()
	vm := machine(t, filter(p1, ports))
	for name, tt := range map[string]struct {
		frame []byte
		want  bool
	}{
		"a claim":                {arp(thief, me, arpReply), true},
		"of the gateway's":       {arp(thief, gateway, arpRequest), true},
		"not padded":             {arp(thief, me, arpReply)[:arpEnd], true},
		"cut off":                {arp(thief, me, arpReply)[:arpEnd-1], false},
		"a probe":                {arp(p107, "0.0.0.0", arpRequest), false},
		"another kind of length": {func() []byte { f := arp(thief, me, arpReply); f[ipAt+4] = 8; return f }(), false},
	} {
		if got := passes(t, vm, tt.frame); got != tt.want {
			t.Errorf("%s: passes %t", name, got)
		}
		if _, ok := parseClaim(tt.frame); ok != tt.want {
			t.Errorf("%s: is a claim: %t", name, ok)
		}
	}
	if passes(t, machine(t, uplinkFilter(nil)), arp(thief, me, arpReply)) {
		t.Error("the ARP of the uplink is looked at")
	}
}
