package crowd

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

const (
	regulars = 20     // chargers that have their addresses
	flooders = 10_000 // made-up devices
)

// shouts is how many DISCOVERs they send in a second together: what a wire of
// 100 Mbit/s carries of such frames, and several times what the chargers' Wi-Fi
// does. The race detector makes the daemon too slow for that.
func shouts() int {
	if raceEnabled {
		return 2000
	}
	return 30_000
}

// Somebody on the network makes up ten thousand devices, and each asks for an
// address as fast as the wire carries it. The chargers keep theirs, are answered
// at once when they ask again, and the daemon does not grow.
func TestFloodOfStrangers(t *testing.T) {
	for _, listed := range []struct {
		name  string
		named int
	}{{"with an inventory", regulars}, {"without an inventory", 0}} {
		t.Run(listed.name, func(t *testing.T) {
			s := stand(t, sim.StandOptions{Chargers: regulars, Listed: listed.named})
			flood(t, s, listed.named > 0)
		})
	}
}

func flood(t *testing.T, s *sim.Stand, listed bool) {
	chargers := people(t, s.Crowd)
	chargers.First(500 * time.Millisecond) // as the firmware does (F-2)
	wave(t, chargers, sim.Wave{Clients: regulars})
	before := resident(t, s)

	// The first wave plays by the rules, and is greedy: it takes what it can get.
	strangers := people(t, s.Strangers)
	soon, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	greedy, err := strangers.Go(soon, sim.Wave{Clients: flooders, Together: 256})
	if err != nil {
		t.Fatal(err)
	}
	apart(t, chargers, strangers)
	if most := 8; listed && greedy.Leased > most {
		t.Errorf("%d strangers were given addresses, want at most the %d that are kept for them (Z-5)", greedy.Leased, most)
	}

	// The second only shouts.
	shouting, hush := context.WithCancel(t.Context())
	sent := make(chan int)
	go func() {
		n, _ := strangers.Shout(shouting, flooders, shouts())
		sent <- n
	}()
	began := time.Now()
	time.Sleep(500 * time.Millisecond) // until whatever can fill up is full
	waits, resent := amidst(t, chargers)
	hush()
	n := <-sent
	took := time.Since(began)

	after := resident(t, s)
	half, last := sim.Median(waits), waits[len(waits)-1]
	t.Logf("%d DISCOVERs in %s (%.0f a second) from %d devices, of which %d had got an address; a charger was answered within %s (median), %s (slowest of %d), %d messages sent again; memory %.1f MB, before %.1f MB",
		n, took.Round(time.Millisecond), float64(n)/took.Seconds(), flooders, greedy.Leased, half, last, len(waits), resent, float64(after)/1e6, float64(before)/1e6)
	if half > 50*time.Millisecond {
		t.Errorf("half of the chargers waited longer than %s, want 50 ms", half)
	}
	if !raceEnabled && (after > 64<<20 || after-before > 20<<20) {
		t.Errorf("the daemon takes %d bytes after the flood and %d before, want less than 64 MiB and 20 MiB more", after, before)
	}
}

// amidst lets the chargers ask again and again, each time in all three ways, and
// returns how long each had to wait, ascending.
func amidst(t *testing.T, chargers *sim.Crowd) (waits []time.Duration, resent int) {
	t.Helper()
	for range 5 {
		for _, how := range []sim.Begin{sim.Discover, sim.Reboot, sim.Renew} {
			tally := wave(t, chargers, sim.Wave{Clients: regulars, How: how})
			waits, resent = append(waits, tally.Waits...), resent+tally.Resent
		}
		time.Sleep(100 * time.Millisecond)
	}
	slices.Sort(waits)
	return waits, resent
}

// apart wants no stranger to have been given a charger's address.
func apart(t *testing.T, chargers, strangers *sim.Crowd) {
	t.Helper()
	owners := map[netip.Addr][6]byte{}
	for _, l := range chargers.Leases {
		owners[l.Addr] = l.MAC
	}
	for _, l := range strangers.Leases {
		if owner, ok := owners[l.Addr]; ok {
			t.Errorf("the stranger %x was given %s, which %x has", l.MAC, l.Addr, owner)
		}
	}
}

func resident(t *testing.T, s *sim.Stand) int64 {
	t.Helper()
	n, err := sim.Resident(s.Gateway.Daemon.PID())
	if err != nil {
		t.Fatal(err)
	}
	return n
}
