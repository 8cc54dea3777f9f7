package config_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/charger"
	"chargegate/pkg/config"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

// rows is an inventory of chargers on a network; those with an address are
// numbered on from it.
func rows(inv charger.Inventory, network string, n int, from string) charger.Inventory {
	var at netip.Addr
	if from != "" {
		at = netip.MustParseAddr(from)
	}
	for range n {
		k := len(inv)
		mac := charger.MAC{0x60, 0x15, 0x92, 0x41, byte(k >> 8), byte(k)}
		inv[mac] = charger.Charger{MAC: mac, Name: fmt.Sprint(k), Network: network, Reserved: at}
		if at.IsValid() {
			at = at.Next()
		}
	}
	return inv
}

// goodAt is good with an address of its network.
func goodAt(address string) string {
	return strings.Replace(good, "chargers = 16\n", "chargers = 16\naddress = \""+address+"\"\n", 1)
}

// The pool of good is 10.83.0.2 to .35, and .36 to .43 for strangers.
func TestSharesOfTheInventory(t *testing.T) {
	for _, tt := range []struct {
		name string
		inv  charger.Inventory
		want lease.Share
		said []string
	}{
		{"nobody", charger.Inventory{}, lease.Share{}, nil},
		{"as planned", rows(charger.Inventory{}, "P1", 16, ""), lease.Share{Named: 16}, nil},
		{"that name no network", rows(charger.Inventory{}, "", 16, ""), lease.Share{Named: 16}, nil},
		{"all with an address in the pool", rows(charger.Inventory{}, "P1", 34, "10.83.0.2"), lease.Share{Named: 34, Reserved: 34, Inside: 34}, nil},
		{"both ends of both ranges", rows(rows(charger.Inventory{}, "P1", 2, "10.83.0.35"), "P1", 2, "10.83.0.43"), lease.Share{Named: 4, Reserved: 4, Inside: 1, Strangers: 2}, nil},
		{"too many without an address", rows(rows(charger.Inventory{}, "P1", 30, "10.83.0.2"), "P1", 5, ""), lease.Share{Named: 35, Reserved: 30, Inside: 30},
			[]string{"network P1 has too few addresses: 4 for 5 chargers that have none of their own"}},
		{"as many, with addresses outside", rows(rows(charger.Inventory{}, "P1", 15, "10.83.0.44"), "P1", 34, ""), lease.Share{Named: 49, Reserved: 15}, nil},
		{"half of the strangers' range", rows(charger.Inventory{}, "P1", 4, "10.83.0.36"), lease.Share{Named: 4, Reserved: 4, Strangers: 4}, nil},
		{"more than half of it", rows(charger.Inventory{}, "P1", 5, "10.83.0.36"), lease.Share{Named: 5, Reserved: 5, Strangers: 5},
			[]string{"network P1 has 3 of 8 addresses left for devices that are not in the inventory; the others are kept for chargers"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := parse(t, goodAt("10.83.0.1/26"))
			if diff := cmp.Diff([]lease.Share{tt.want}, c.Shares(tt.inv)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			log := event.New(event.Options{Keep: 100})
			c.TellShares(tt.inv, log)
			var said []string
			for _, r := range log.Recent(0, "") {
				said = append(said, r.Message)
			}
			if diff := cmp.Diff(tt.said, said); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// Addresses that are written out, in a subnet that may become another one.
func TestKeptAddressesInAChosenSubnet(t *testing.T) {
	for _, tt := range []struct {
		name, address string
		inv           charger.Inventory
		want          string
	}{
		{"one", "auto", rows(charger.Inventory{}, "P1", 1, "10.83.0.50"), "P1: chargers.csv keeps 1 address, and the network's own is \"auto\": it gives way when the uplink wants the same subnet, and the list is wrong then"},
		{"several", "auto", rows(charger.Inventory{}, "P1", 3, "10.83.0.50"), "P1: chargers.csv keeps 3 addresses, and the network's own is \"auto\": it gives way when the uplink wants the same subnet, and the list is wrong then"},
		{"none kept", "auto", rows(charger.Inventory{}, "P1", 3, ""), ""},
		{"an address that stays", "10.83.0.1/26", rows(charger.Inventory{}, "P1", 3, "10.83.0.50"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := parse(t, goodAt(tt.address))
			log := event.New(event.Options{Keep: 100})
			c.TellShares(tt.inv, log)
			said, advice := "", ""
			for _, r := range log.Recent(0, "") {
				said, advice = said+r.Message, r.Advice()
			}
			if said != tt.want {
				t.Errorf("said %q, want %q", said, tt.want)
			}
			if want := "Write address = \"10.83.0.1/26\" for this network, then: sudo systemctl restart chargegate-prepare."; tt.want != "" && advice != want {
				t.Errorf("advises %q, want %q", advice, want)
			}
		})
	}
}

// Who names no network could be on any of several.
func TestSharesOfSeveralNetworks(t *testing.T) {
	c := parse(t, good+"[[network]]\nname = \"P2\"\ninterface = \"eth1\"\nchargers = 16\n")
	inv := rows(rows(charger.Inventory{}, "P2", 3, "10.83.16.2"), "", 7, "")
	if diff := cmp.Diff([]lease.Share{{}, {Named: 3, Reserved: 3, Inside: 3}}, c.Shares(inv)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := config.Reservations(inv); len(got) != 3 || got[0].Network != "P2" {
		t.Errorf("got %+v", got)
	}
}
