package garage

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

const (
	// relayed is the device that perfdhcp runs on: a wired relay agent, as some
	// access points are.
	relayed = "P1-relay"
	// relay is its address, the last one of the network's subnet.
	relay = "10.83.7.254"
	// exchanges is how many times an address is asked for and taken, and clients in
	// how many names.
	exchanges, clients = 10_000, 1000
)

// TestPerfdhcp lets the load generator of the Kea project ask for addresses in
// the names of a thousand chargers: ten thousand exchanges of four messages, none
// of which may be lost, begun at a modest rate, and once more at a lower one if
// the machine could not keep up. PERFDHCP_RATE is the number of exchanges that are
// begun in a second, if it is to be another.
func TestPerfdhcp(t *testing.T) {
	o := sim.Options{
		Networks: []sim.Network{{Name: "P1", Listed: clients, Relays: []string{relay}}}, Guests: []sim.Guest{{Name: relayed, Network: "P1"}},
		Habits: sim.Brisk(), LogLevel: "info",
	}
	apart(t, o, func(t *testing.T) {
		h := host(t, relayed)
		subnet := garage.Gateway.Addresses["garage-p1"]
		gateway, own := subnet.Addr(), lastOf(subnet)
		if own.String() != relay {
			t.Fatalf("the last address of %s is %s, and the configuration names %s", subnet, own, relay)
		}
		if err := h.Configure(sim.Binding{Addr: netip.PrefixFrom(own, subnet.Bits()), Router: gateway, DNS: gateway}); err != nil {
			t.Fatal(err)
		}
		rates := []int{1500, 500} // the second for a machine that is busy with something else
		if text := os.Getenv("PERFDHCP_RATE"); text != "" {
			rate, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			rates = []int{rate}
		}
		var out string
		for _, rate := range rates {
			began := time.Now()
			var drops int
			if out, drops = exchange(t, h, rate, gateway); drops == 0 {
				t.Logf("%d exchanges after %s, begun %d a second", exchanges, time.Since(began).Round(100*time.Millisecond), rate)
				return
			}
			t.Logf("%d messages were not answered, begun %d a second", drops, rate)
		}
		t.Errorf("messages were not answered, want all to be:\n%s", out)
	})
}

// exchange lets perfdhcp begin so many exchanges a second, and returns what it
// said and how many messages were not answered.
func exchange(t *testing.T, h *sim.Host, rate int, gateway netip.Addr) (out string, drops int) {
	t.Helper()
	out, err := h.Run(within(t, 2*time.Minute), "perfdhcp", "-4", "-l", h.Iface, "-s", "1",
		"-b", "mac="+hw(garage.Options.MAC("P1", 0)),
		"-R", fmt.Sprint(clients), "-r", fmt.Sprint(rate), "-n", fmt.Sprint(exchanges),
		"-W", "1000000", gateway.String())
	for _, n := range told(t, out, "drops") {
		drops += n
	}
	if err != nil && drops == 0 { // it counts drops as a failure of its own
		t.Errorf("perfdhcp: %v\n%s", err, out)
	}
	for _, what := range []string{"sent packets", "received packets"} {
		for _, n := range told(t, out, what) {
			if n < exchanges && drops == 0 { // it may send a few more than it was told to
				t.Errorf("%s: %d, want at least %d", what, n, exchanges)
			}
		}
	}
	return out, drops
}

// told are the two figures that perfdhcp gives of one thing: of the offers, and
// of the addresses that were given.
func told(t *testing.T, out, what string) []int {
	t.Helper()
	found := regexp.MustCompile(`(?m)^`+what+`: (\d+)$`).FindAllStringSubmatch(out, -1)
	if len(found) != 2 {
		t.Fatalf("perfdhcp does not tell its %s twice:\n%s", what, out)
	}
	var all []int
	for _, f := range found {
		n, err := strconv.Atoi(f[1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

// lastOf is the last address of a subnet that a device can have.
func lastOf(subnet netip.Prefix) netip.Addr {
	a := subnet.Addr()
	for subnet.Contains(a.Next()) {
		a = a.Next()
	}
	return a.Prev()
}
