package crowd

import (
	"slices"
	"testing"

	"chargegate/pkg/sim"
)

// A whole garage asks at once (F-1), then again, in each of the ways in which a
// client can.
func TestEverybodyAtOnce(t *testing.T) {
	const clients = 250
	s := stand(t, sim.StandOptions{Chargers: clients, Listed: clients})
	c := people(t, s.Crowd)
	cold := wave(t, c, sim.Wave{Clients: clients})
	t.Logf("%d at once: the last had its lease after %s; %d messages sent again", clients, cold.Last(), cold.Resent)
	for _, how := range []struct {
		name  string
		begin sim.Begin
	}{{"DISCOVER", sim.Discover}, {"INIT-REBOOT", sim.Reboot}, {"RENEWING", sim.Renew}} {
		again := wave(t, c, sim.Wave{Clients: clients, Together: 32, How: how.begin})
		t.Logf("again, by %s: %.0f a second", how.name, again.Rate())
	}
	had := map[[6]byte][]string{}
	for _, l := range c.Leases {
		if addr := l.Addr.String(); !slices.Contains(had[l.MAC], addr) {
			had[l.MAC] = append(had[l.MAC], addr)
		}
	}
	if len(had) != clients {
		t.Errorf("%d devices were given addresses, want %d", len(had), clients)
	}
	for mac, addrs := range had {
		if len(addrs) != 1 {
			t.Errorf("%x was given %q, want one address in all four ways", mac, addrs)
		}
	}
}
