package garage

import (
	"strings"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// TestLostMemory tells what becomes of a client that remembers its lease when the
// gateway does not: its disk was replaced, or somebody deleted its state.
func TestLostMemory(t *testing.T) {
	o := sim.Options{
		Networks: []sim.Network{{Name: "P1", Listed: 1}}, Habits: sim.Brisk(), LogLevel: "debug",
		Guests: []sim.Guest{{Name: dhclient, Network: "P1"}, {Name: udhcpc, Network: "P1"}},
	}
	apart(t, o, func(t *testing.T) {
		h := host(t, dhclient)
		c := newDhclient(t, h).(*dhclientClient)
		had := c.get(t, h)
		t.Run("the client gets the address that it remembers", func(t *testing.T) {
			c.crash(t, h)
			forget(t, nil)
			before := len(garage.Gateway.Events())
			now := c.get(t, h)
			saidSince(t, before, dhclient, "dhcp-lease-granted", had)
			never(t, before, dhclient, "dhcp-lease-offered", "dhcp-request-refused") // it did not ask anew: INIT-REBOOT
			if now != had {
				t.Errorf("the client has %s, want %s as before", now, had)
			}
		})
		t.Run("unless it is somebody else's by now", func(t *testing.T) {
			c.crash(t, h)
			forget(t, nil)
			other := host(t, udhcpc)
			path, _ := hook(t, other, "udhcpc")
			out, err := other.Run(within(t, 10*time.Second), "udhcpc", "-f", "-q", "-n", "-t", "5", "-T", "1", "-r", had, "-i", other.Iface, "-s", path)
			if err != nil || address(t, other) != had {
				t.Fatalf("the other client did not get %s: %v\n%s", had, err, out)
			}
			before := len(garage.Gateway.Events())
			now := c.get(t, h)
			saidSince(t, before, dhclient, "dhcp-request-refused", had)
			saidSince(t, before, dhclient, "dhcp-lease-granted", now)
			if now == had {
				t.Errorf("two clients have %s", had)
			}
		})
		c.stop()
	})
}

// TestLostMemoryOfAGarage tells how chargers are seen that are online while the
// gateway loses its memory. They ask for no address for hours: what they answer by
// ARP is all that says whose the addresses are.
func TestLostMemoryOfAGarage(t *testing.T) {
	o := sim.Options{Networks: []sim.Network{{Name: "P1", Chargers: 2}}, Habits: sim.Brisk(), LogLevel: "debug"}
	apart(t, o, func(t *testing.T) {
		garage.PowerOn()
		if err := garage.WaitOnline(within(t, 30*time.Second)); err != nil {
			t.Fatal(err)
		}
		before := len(garage.Gateway.Events())
		forget(t, nil)
		for _, v := range garage.Views() {
			eventually(t, 30*time.Second, v.Name+" is known again by its address", func() (bool, string) {
				ladder, err := garage.Gateway.Ladder(within(t, 5*time.Second))
				rung := ladder[v.Name]
				return rung.Stage == sim.OK && rung.Address == v.Binding.Addr.Addr().String() && strings.Contains(rung.Advice, "lost its memory"), sprint(rung, err)
			})
			saidSince(t, before, v.Name, "dhcp-address-remembered", v.Binding.Addr.Addr().String())
			never(t, before, v.Name, "dhcp-lease-granted", "dhcp-lease-kept") // it has not asked for an address
		}
		eventually(t, 20*time.Second, "what they do is told by their names", func() (bool, string) {
			page, err := garage.Gateway.Tool(within(t, 5*time.Second), "charger", garage.Chargers[0].Name)
			return err == nil && strings.Contains(page, garage.Chargers[0].Name+" is online"), page
		})
	})
}

// crash ends the client as a power cut would, once it has written its lease down,
// and takes its address.
func (c *dhclientClient) crash(t *testing.T, h *sim.Host) {
	t.Helper()
	addr := address(t, h)
	eventually(t, 5*time.Second, "dhclient has written its lease down", func() (bool, string) {
		text := read(c.leaseFile)
		return strings.Contains(text, "fixed-address "+addr+";"), text
	})
	c.program.Kill()
	if err := h.Reset(); err != nil {
		t.Fatal(err)
	}
}
