package garage

import (
	"testing"
	"time"
)

// TestGarage runs everything in one garage, in this order: later parts rely on
// what earlier ones have left running.
func TestGarage(t *testing.T) {
	for _, part := range []struct {
		name string
		test func(*testing.T)
	}{
		{"chargers come online", chargersComeOnline},
		{"leases", leases},
		{"names", names},
		{"names, to programs of others", nameClients},
		{"time", clock},
		{"time, to programs of others", timeClients},
		{"conversations", conversations},
		{"conversations, of programs of others", conversationClients},
		{"messages", messages},
		{"the hub's address under another name", wrongAddress},
		{"refused to a charger", refusedToCharger},
		{"refused to real programs", refusedToPrograms},
		{"kept apart", keptApart},
		{"nothing from outside", nothingFromOutside},
		{"attacks", attacks},
		{"an address that is taken", takenAddress},
		{"crash", crash},
		{"a daemon that is stopped", stopAndStart},
	} {
		if !t.Run(part.name, part.test) {
			t.Log("the daemon said last:\n" + garage.Gateway.LastWords(15))
		}
	}
}

// chargersComeOnline boots every charger at once (F-1), and looks at both views.
func chargersComeOnline(t *testing.T) {
	ctx := within(t, 20*time.Second)
	garage.PowerOn()
	if err := garage.WaitOnline(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "every charger stands at ok in the daemon's view too", func() (bool, string) {
		stuck, err := garage.Stuck(ctx)
		return err == nil && len(stuck) == 0, sprint(stuck, err)
	})
	for _, v := range garage.Views() {
		if v.Clock.Abs() > 100*time.Millisecond {
			t.Errorf("%s was given a time that is off by %s", v.Name, v.Clock)
		}
		if v.AskedElsewhere > 0 || v.Refusals > 0 {
			t.Errorf("%s asked public resolvers %d times and got %d NAKs, want none of either", v.Name, v.AskedElsewhere, v.Refusals)
		}
		if b := v.Binding; b.Router != garage.Gateway.Address(v.Network) || b.DNS != b.Router || b.Lease < time.Hour || b.Lease > 24*time.Hour {
			t.Errorf("%s was given %+v, want the gateway as router and resolver, and 1 to 24 hours", v.Name, b)
		}
		said(t, v.Name, "dhcp-lease-granted", v.Binding.Addr.Addr().String())
		said(t, v.Name, "charger-online", v.Name)
	}
	if seen := garage.Cloud.Witness.Sightings(); len(seen) > 0 {
		t.Errorf("something reached the cloud that should not have: %q", seen)
	}
}
