package plan_test

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/lease"
	"chargegate/pkg/plan"
)

// network is one that fits; change makes it one that does not.
func network(t *testing.T, i, chargers int, change func(*plan.Network)) plan.Network {
	t.Helper()
	n := plan.Network{Name: fmt.Sprintf("P%d", i+1), Interface: fmt.Sprintf("wlan%d", i), Chargers: chargers,
		Radio: &plan.Radio{SSID: fmt.Sprintf("garage-p%d", i+1), Channel: plan.Channels[i%3], Stations: 30}}
	var err error
	n.Pool, err = lease.NewPool(n.Name, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 83, byte(16 * i), 1}), lease.Bits(chargers)), chargers)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&n)
	}
	return n
}

func TestWhatDoesNotFit(t *testing.T) {
	wired := func(n *plan.Network) { n.Radio = nil }
	on := func(channel int) func(*plan.Network) { return func(n *plan.Network) { n.Radio.Channel = channel } }
	listed := func(s lease.Share) func(*plan.Network) { return func(n *plan.Network) { n.Share = s } }
	const toSee = "To see what radios hold: chargegate plan -chargers "
	for _, tt := range []struct {
		name     string
		networks []plan.Network
		want     []plan.Finding
	}{
		{"nothing", []plan.Network{network(t, 0, 30, nil), network(t, 1, 30, nil), network(t, 2, 30, nil)}, []plan.Finding{}},
		{"nothing, with as many listed as planned", []plan.Network{network(t, 0, 30, listed(lease.Share{Named: 30}))}, []plan.Finding{}},
		{"nothing, as many as a box takes", []plan.Network{network(t, 0, 1000, wired)}, []plan.Finding{}},
		{"one charger more than the radio holds", []plan.Network{network(t, 0, 31, nil)},
			[]plan.Finding{{"P1", "its radio holds 30 stations, and there are 31 chargers (F-10)", "2 such radios would do, each with a network of its own; or an external access point. " + toSee + "31. If this one holds more, correct max_stations."}}},
		{"more listed than planned", []plan.Network{network(t, 0, 20, listed(lease.Share{Named: 21}))},
			[]plan.Finding{{"P1", "the inventory names 21 chargers, and it is planned for 20 (Z-5)", "Write chargers = 21, then: sudo systemctl restart chargegate-prepare."}}},
		{"more listed than there are addresses, and than the radio holds", []plan.Network{network(t, 0, 20, listed(lease.Share{Named: 41, Reserved: 0}))},
			[]plan.Finding{
				{"P1", "its radio holds 30 stations, and there are 41 chargers (F-10)", "2 such radios would do, each with a network of its own; or an external access point. " + toSee + "41. If this one holds more, correct max_stations."},
				{"P1", "the inventory names 41 chargers, 41 of them with no address of their own; there are addresses for 40 of these (Z-5)", "Write chargers = 41, which needs a /25 as address, then: sudo systemctl restart chargegate-prepare."}}},
		{"far more listed than a network takes", []plan.Network{network(t, 0, 20, func(n *plan.Network) { n.Radio, n.Share = nil, lease.Share{Named: 1001} })},
			[]plan.Finding{
				{"P1", "the inventory names 1001 chargers, 1001 of them with no address of their own; there are addresses for 40 of these (Z-5)", "Divide them: a network is planned for 1000 at most."},
				{"", "1001 chargers are more than one box is laid out for, which is 1000", "Divide them over 2 boxes."}}},
		{"the strangers' addresses kept for chargers", []plan.Network{network(t, 0, 20, listed(lease.Share{Named: 5, Reserved: 5, Strangers: 5}))},
			[]plan.Finding{{"P1", "3 of the 8 addresses for devices that are not in the inventory are left (Z-5)", "Choose addresses outside of 10.83.0.42 to 10.83.0.49 for the inventory."}}},
		{"addresses kept in a subnet that was chosen", []plan.Network{network(t, 0, 20, func(n *plan.Network) { n.Chosen, n.Share = true, lease.Share{Named: 2, Reserved: 2} })},
			[]plan.Finding{{"P1", "chargers.csv keeps 2 addresses, and the network's own is \"auto\": it gives way when the uplink wants the same subnet, and the list is wrong then",
				"Write address = \"10.83.0.1/26\" for this network, then: sudo systemctl restart chargegate-prepare."}}},
		{"nothing, in a subnet that was chosen", []plan.Network{network(t, 0, 20, func(n *plan.Network) { n.Chosen = true })}, []plan.Finding{}},
		{"ten that could be kept are left", []plan.Network{network(t, 0, 20, listed(lease.Share{Named: 3, Reserved: 3}))}, []plan.Finding{}},
		{"nine that could be kept are left", []plan.Network{network(t, 0, 20, listed(lease.Share{Named: 4, Reserved: 4}))},
			[]plan.Finding{{"P1", "chargers.csv keeps addresses, and 9 more could be kept outside of the ranges",
				"Write address = \"10.83.0.1/25\" for this network, then: sudo systemctl restart chargegate-prepare."}}},
		{"a larger subnet would be the neighbour's", []plan.Network{network(t, 0, 500, func(n *plan.Network) {
			n.Radio, n.Pool.Gateway = nil, netip.MustParsePrefix("10.83.12.1/22")
			n.Share = lease.Share{Named: 300, Reserved: 300}
		}), network(t, 0, 16, func(n *plan.Network) { n.Name, n.Pool.Gateway = "P2", netip.MustParsePrefix("10.83.8.1/26") })},
			[]plan.Finding{{"P1", "chargers.csv keeps addresses, and 0 more could be kept outside of the ranges",
				"Write a /21 as address for this network that does not overlap P2, then: sudo systemctl restart chargegate-prepare."}}},
		{"a channel between", []plan.Network{network(t, 0, 20, on(3))},
			[]plan.Finding{{"P1", "channel 3 overlaps its neighbours (Z-2)", "Choose 1, 6 or 11, whichever is used least in the garage."}}},
		{"the same channel twice", []plan.Network{network(t, 0, 20, on(6)), network(t, 1, 20, nil), network(t, 2, 20, nil)},
			[]plan.Finding{{"", "P1 (channel 6) and P2 (channel 6) disturb each other", "Give each radio of the box another one of the channels 1, 6 and 11."}}},
		{"channels that overlap by one", []plan.Network{network(t, 0, 20, nil), network(t, 1, 20, on(5))},
			[]plan.Finding{{"P2", "channel 5 overlaps its neighbours (Z-2)", "Choose 1, 6 or 11, whichever is used least in the garage."},
				{"", "P1 (channel 1) and P2 (channel 5) disturb each other", "Give each radio of the box another one of the channels 1, 6 and 11."}}},
		{"a wired network has no channel", []plan.Network{network(t, 0, 20, nil), network(t, 3, 300, wired)}, []plan.Finding{}},
		{"four radios", []plan.Network{network(t, 0, 7, nil), network(t, 1, 7, nil), network(t, 2, 7, nil), network(t, 3, 7, nil)},
			[]plan.Finding{{"", "4 radios share the three channels that do not disturb each other", "Put external access points where they do not hear each other, instead of more radios on this box."}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := plan.Of(plan.Site{Lease: 12 * time.Hour, Networks: tt.networks})
			if diff := cmp.Diff(tt.want, p.Findings); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// What is in no range begins after the strangers' addresses, and passes over the
// gateway.
func TestFreeAddresses(t *testing.T) {
	for _, tt := range []struct {
		gateway  string
		chargers int
		want     string
	}{
		{"10.83.0.1/26", 20, "[{10.83.0.50 10.83.0.62}]"},
		{"10.83.0.1/24", 16, "[{10.83.0.44 10.83.0.254}]"},
		{"10.83.0.254/24", 16, "[{10.83.0.43 10.83.0.253}]"},
		{"10.83.0.100/24", 16, "[{10.83.0.43 10.83.0.99} {10.83.0.101 10.83.0.254}]"},
		{"10.83.0.43/24", 16, "[{10.83.0.44 10.83.0.254}]"},
		{"10.83.0.1/26", 28, "[{10.83.0.62 10.83.0.62}]"},
	} {
		pool, err := lease.NewPool("P1", netip.MustParsePrefix(tt.gateway), tt.chargers)
		if err != nil {
			t.Fatal(err)
		}
		p := plan.Of(plan.Site{Networks: []plan.Network{{Name: "P1", Chargers: tt.chargers, Pool: pool}}, Listed: -1})
		if got := fmt.Sprint(p.Networks[0].Free); got != tt.want {
			t.Errorf("%s: free are %s, want %s", tt.gateway, got, tt.want)
		}
	}
}

// The figures of the documents: 40 chargers without a session are 3.6 GB in 30
// days (Z-14), and need 0.4 Mbit/s for new firmware within an hour (F-7).
func TestFigures(t *testing.T) {
	p := plan.Of(plan.Site{Lease: 12 * time.Hour, Networks: []plan.Network{network(t, 0, 16, nil), network(t, 1, 24, nil)}, Listed: -1})
	if want := (plan.Times{Lease: 43200, Renew: 21600, Rebind: 37800}); p.Lease != want {
		t.Errorf("lease %+v, want %+v", p.Lease, want)
	}
	if want := (plan.Volume{Day: 40 * 8e6, Month: 30 * 40 * 8e6}); p.Volume != want {
		t.Errorf("volume %+v, want %+v", p.Volume, want)
	}
	if p.Networks[1].Volume.Day != 24*8e6 || p.Uplink != 400_000 || p.Listed != nil {
		t.Errorf("%+v", p)
	}
}

// Whatever number is asked for, everybody has an address and a place on a radio,
// nothing overlaps, and nothing is left to find fault with.
func TestEveryLayoutFits(t *testing.T) {
	for n := 1; n <= 2100; n++ {
		l, err := plan.For(n)
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		if len(l.Plan.Findings) > 0 || l.Plan.Chargers*l.Boxes < n || (l.Plan.Chargers-1)*l.Boxes >= n || l.Plan.Chargers > plan.PerBox {
			t.Fatalf("%d: %d boxes of %d, %+v", n, l.Boxes, l.Plan.Chargers, l.Plan.Findings)
		}
		chosen := 0
		for _, r := range l.Radios {
			if r.Chosen {
				chosen++
			}
			if r.Count*r.Stations < n {
				t.Fatalf("%d: %d of %s hold %d each", n, r.Count, r.Name, r.Stations)
			}
		}
		if chosen != 1 {
			t.Fatalf("%d: %d kinds are chosen", n, chosen)
		}
		for i, a := range l.Plan.Networks {
			for _, b := range l.Plan.Networks[:i] {
				if a.Subnet.Overlaps(b.Subnet) || a.Interface == b.Interface || a.Radio == nil || a.Radio.SSID == b.Radio.SSID {
					t.Fatalf("%d: %+v and %+v", n, a, b)
				}
			}
			if a.Radio == nil && 50*len(l.AccessPoints) < l.Plan.Chargers {
				t.Fatalf("%d: %d access points", n, len(l.AccessPoints))
			}
			if a.Subnet.Bits() != lease.Bits(a.Chargers) || a.Addresses != lease.Size(a.Chargers) {
				t.Fatalf("%d: %+v", n, a)
			}
		}
	}
}

func TestLayoutHasBounds(t *testing.T) {
	for _, n := range []int{-1, 0, plan.Most + 1, math.MaxInt} {
		if _, err := plan.For(n); err == nil {
			t.Errorf("%d chargers were planned for", n)
		}
	}
	if l, err := plan.For(plan.Most); err != nil || l.Boxes != 100 {
		t.Errorf("%d boxes, %v", l.Boxes, err)
	}
}
