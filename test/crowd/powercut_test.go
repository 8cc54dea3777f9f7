package crowd

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// rounds is how often the power is cut in one test: a handful, or what
// CHARGEGATE_ROUNDS says.
func rounds(t *testing.T) int {
	text := os.Getenv("CHARGEGATE_ROUNDS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("CHARGEGATE_ROUNDS=%s; want a number above 0", text)
	}
	return n
}

// seed is what chance begins with: CHARGEGATE_SEED to have the same again.
func seed(t *testing.T) uint64 {
	if n, err := strconv.ParseUint(os.Getenv("CHARGEGATE_SEED"), 10, 64); err == nil {
		return n
	}
	return uint64(time.Now().UnixNano())
}

const (
	newcomers  = 1000 // get their first address while the daemon is being killed
	latecomers = 300  // get theirs afterwards
	cuts       = 3    // in each round
)

// What a charger was told stays true, whenever the daemon dies (Z-5, F-12): it is
// killed again and again while a thousand chargers get their first addresses.
// Afterwards each has the address that it was promised, and nobody else.
//
// SIGKILL takes the daemon and all that it has not written; what it has handed to
// the kernel stays. That a cut of the power itself, which takes that as well,
// loses nothing is shown where the disk can be made to forget: in pkg/lease, with
// a disk that keeps only what was synced.
func TestPromisesOutliveTheDaemon(t *testing.T) {
	chance := seed(t)
	t.Logf("CHARGEGATE_SEED=%d", chance)
	random := rand.New(rand.NewPCG(chance, 0))
	s := stand(t, sim.StandOptions{Chargers: newcomers, Listed: newcomers + latecomers, LogLevel: "warning"})
	for round := range rounds(t) {
		powerCuts(t, s, random)
		if t.Failed() {
			t.Fatalf("in round %d", round+1)
		}
	}
}

// powerCuts is one round.
func powerCuts(t *testing.T, s *sim.Stand, random *rand.Rand) {
	t.Helper()
	s.Gateway.Daemon.Stop()
	if err := s.Forget(); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	c := people(t, s.Crowd)
	defer c.Close()
	c.Impatient(50 * time.Millisecond)

	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var tally sim.Tally
	var failed error
	done := make(chan struct{})
	go func() {
		defer close(done)
		tally, failed = c.Go(ctx, sim.Wave{Clients: newcomers, Together: 64})
	}()
	for _, promises := range moments(random) {
		for c.Leased() < promises && ctx.Err() == nil {
			time.Sleep(50 * time.Microsecond)
		}
		time.Sleep(time.Duration(random.Int64N(int64(2 * time.Millisecond))))
		s.Gateway.Daemon.Kill()
		start(t, s)
	}
	<-done
	if failed != nil {
		t.Fatal(failed)
	}
	if tally.Failed() > 0 || tally.Doubles > 0 || tally.Moved > 0 {
		t.Errorf("of %d clients %d got no lease, and %d one that another has", tally.Clients, tally.Failed(), tally.Doubles)
	}
	s.Gateway.Daemon.Kill()
	start(t, s)
	kept(t, c)
}

// moments are after how many promises the daemon is killed, ascending: somewhere
// between the first and the last.
func moments(random *rand.Rand) []int {
	var all []int
	for range cuts {
		all = append(all, 1+random.IntN(newcomers-1))
	}
	slices.Sort(all)
	return all
}

// kept wants every promise ever made to be the same still, and nobody to be
// given what was promised to another.
func kept(t *testing.T, c *sim.Crowd) {
	t.Helper()
	promises := map[[6]byte]netip.Addr{}
	for _, l := range c.Leases {
		if had, ok := promises[l.MAC]; ok && had != l.Addr {
			t.Errorf("%x was promised %s and then %s", l.MAC, had, l.Addr)
		}
		promises[l.MAC] = l.Addr
	}
	// Each asks for the address that it remembers: no NAK, and no other one.
	wave(t, c, sim.Wave{Clients: newcomers, Together: 64, How: sim.Reboot})
	wave(t, c, sim.Wave{First: newcomers, Clients: latecomers, Together: 64})
	owners := map[netip.Addr][6]byte{}
	for _, l := range c.Leases {
		if other, ok := owners[l.Addr]; ok && other != l.MAC {
			t.Errorf("%s was given to %x and to %x", l.Addr, other, l.MAC)
		}
		owners[l.Addr] = l.MAC
		if had, ok := promises[l.MAC]; ok && had != l.Addr {
			t.Errorf("%x has %s, and was promised %s", l.MAC, l.Addr, had)
		}
	}
	if len(owners) != newcomers+latecomers {
		t.Errorf("%d addresses were given to %d clients", len(owners), newcomers+latecomers)
	}
}
