package dhcp

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

// The MACs of one network's chargers, which anybody can write, take no charger's
// place on another network.
func TestAnotherNetworksChargersAreStrangers(t *testing.T) {
	t.Parallel()
	p1, err := lease.NewPool("P1", netip.MustParsePrefix("10.83.0.1/24"), 60)
	if err != nil {
		t.Fatal(err)
	}
	p2, err := lease.NewPool("P2", netip.MustParsePrefix("10.83.1.1/24"), 8)
	if err != nil {
		t.Fatal(err)
	}
	leases, _, err := lease.Open(t.TempDir(), []lease.Pool{p1, p2}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer leases.Close()
	of := func(i int) charger.MAC { return charger.MAC{0x60, 0x15, 0x92, 1, 0, byte(i)} }
	inv := charger.Inventory{}
	for i := range 60 {
		inv[of(i)] = charger.Charger{MAC: of(i), Name: fmt.Sprintf("P1-%02d", i), Network: "P1"}
	}
	mine := charger.MAC{0x60, 0x15, 0x92, 2, 0, 1}
	inv[mine] = charger.Charger{MAC: mine, Name: "P2-01", Network: "P2"}
	log := event.New(event.Options{Keep: 1000})
	s := New(Config{Networks: []Network{{Name: "P1", Interface: "wlan0", Gateway: p1.Gateway}, {Name: "P2", Interface: "wlan1", Gateway: p2.Gateway}}, Lease: time.Hour},
		leases, charger.NewBook(inv, nil), log)
	l := s.links[1]
	for i := range 60 {
		s.handle(l, framed(of(i), "0.0.0.0:68", "255.255.255.255:67", lwip(dhcpv4.MessageTypeDiscover, of(i), with(80))))
		for len(s.promises) > 0 {
			p := <-s.promises
			s.deliver(p.link, p.answer, time.Now())
		}
		l.heardARP(arp(of(i), p2.First.String(), 2), time.Now())
	}
	if c := leases.Counts(time.Now())[1]; c.Used != 0 || c.StrangerUsed != c.StrangerSize {
		t.Errorf("on P2: %+v", c)
	}
	if _, err := leases.Offer("P2", mine, netip.Addr{}, true, time.Now()); err != nil {
		t.Errorf("P2's own charger: %v", err)
	}
	said := 0
	for _, r := range log.Recent(0, "") {
		if r.Kind == event.ChargerElsewhere {
			said++
			if said == 1 && r.Message != "P2: a device asks with the MAC address of P1-00, which the inventory has on P1; here it is a stranger" {
				t.Errorf("said %q", r.Message)
			}
		}
	}
	if said == 0 {
		t.Error("nothing is said of it")
	}
}
