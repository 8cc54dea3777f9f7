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
// of which may be lost. PERFDHCP_RATE is the number of exchanges that are begun
// in a second, if it is not to be the modest one that a busy machine keeps up
// with.
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
		rate := 1500
		if text := os.Getenv("PERFDHCP_RATE"); text != "" {
			var err error
			if rate, err = strconv.Atoi(text); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		out, err := h.Run(within(t, 2*time.Minute), "perfdhcp", "-4", "-l", h.Iface, "-s", "1",
			"-b", "mac="+hw(garage.Options.MAC("P1", 0)),
			"-R", fmt.Sprint(clients), "-r", fmt.Sprint(rate), "-n", fmt.Sprint(exchanges),
			"-W", "1000000", gateway.String())
		if err != nil {
			t.Errorf("perfdhcp: %v\n%s", err, out)
		}
		for _, what := range []string{"sent packets", "received packets"} {
			for _, n := range told(t, out, what) {
				if n < exchanges { // it may send a few more than it was told to
					t.Errorf("%s: %d, want at least %d", what, n, exchanges)
				}
			}
		}
		for _, n := range told(t, out, "drops") {
			if n > 0 {
				t.Errorf("%d messages were not answered, want none:\n%s", n, out)
			}
		}
		t.Logf("%d exchanges after %s, begun %d a second", exchanges, time.Since(began).Round(100*time.Millisecond), rate)
	})
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
