package lease_test

import (
	"net/netip"
	"strings"
	"testing"

	"chargegate/pkg/lease"
)

func TestSizeLeavesRoomForChargersThatAreReplaced(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ chargers, size, bits int }{
		{0, 32, 26}, {1, 32, 26}, {14, 32, 26}, {15, 33, 26}, {16, 34, 26}, {28, 52, 26}, {29, 54, 25},
		{120, 190, 24}, {250, 385, 23}, {1000, 1510, 21},
	} {
		if got := lease.Size(tt.chargers); got != tt.size {
			t.Errorf("Size(%d) = %d, want %d", tt.chargers, got, tt.size)
		}
		if got := lease.Bits(tt.chargers); got != tt.bits {
			t.Errorf("Bits(%d) = %d, want %d", tt.chargers, got, tt.bits)
		}
	}
}

func TestPoolFillsItsSmallestSubnetWhereverTheGatewayStands(t *testing.T) {
	t.Parallel()
	for chargers := range 130 {
		bits := lease.Bits(chargers)
		subnet := netip.PrefixFrom(netip.MustParseAddr("10.83.4.0"), bits)
		for gw := subnet.Addr().Next(); subnet.Contains(gw.Next()); gw = gw.Next() {
			p, err := lease.NewPool("P1", netip.PrefixFrom(gw, bits), chargers)
			if err != nil {
				t.Fatalf("%d chargers, gateway %s: %v", chargers, gw, err)
			}
			if n := count(p.First, p.Last, gw); n != lease.Size(chargers) {
				t.Fatalf("%d chargers, gateway %s: %d addresses", chargers, gw, n)
			}
			if n := count(p.FirstStranger, p.LastStranger, gw); n != lease.Strangers {
				t.Fatalf("%d chargers, gateway %s: %d addresses for strangers", chargers, gw, n)
			}
			if !p.Last.Less(p.FirstStranger) || !subnet.Contains(p.LastStranger.Next()) {
				t.Fatalf("%d chargers, gateway %s: %+v", chargers, gw, p)
			}
		}
	}
}

// count is how many addresses from first to last are not the gateway's.
func count(first, last, gateway netip.Addr) int {
	n := 0
	for a := first; a.Compare(last) <= 0; a = a.Next() {
		if a != gateway {
			n++
		}
	}
	return n
}

func TestPoolRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, gateway string
		chargers      int
		want          string
	}{
		{"too small", "10.83.0.1/26", 120, "give it a /24"},
		{"IPv6", "fd00::1/64", 1, "not an IPv4 address"},
		{"too long", "10.83.0.1/31", 1, "subnet length of 8 to 30"},
		{"the network's own address", "10.83.0.0/24", 1, "no device may have"},
		{"the broadcast address", "10.83.0.255/24", 1, "no device may have"},
		{"more chargers than addresses", "10.0.0.1/8", 1 << 24, "holds 16777213 addresses"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := lease.NewPool("P1", netip.MustParsePrefix(tt.gateway), tt.chargers)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestOpenRefusesPoolsThatOverlap(t *testing.T) {
	t.Parallel()
	a, b := pool(t, "P1", "10.83.0.1/24", 16), pool(t, "P2", "10.83.0.9/24", 16)
	same := pool(t, "P1", "10.84.0.1/24", 16)
	backwards := a
	backwards.First, backwards.Last = a.Last, a.First
	for name, pools := range map[string][]lease.Pool{
		"overlap": {a, b}, "twice the same name": {a, same}, "backwards": {backwards},
	} {
		if _, _, err := lease.Open(t.TempDir(), pools, nil, start); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
