// Package crowd tests the box with more devices than a garage has: the built
// daemon, and DHCP clients by the thousand on one wire. Each test has a stand of
// its own.
package crowd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// bin is the directory of the programs under test.
var bin string

func TestMain(m *testing.M) {
	if sim.Outside() {
		fetchModules()
	}
	if err := sim.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var err error
	if bin, err = binaries(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// fetchModules makes the go command fetch what the programs under test are built
// of, while there still is a network. When that fails, building them will say
// why.
func fetchModules() {
	cmd := exec.Command("go", "list", "-deps", "./cmd/...")
	cmd.Dir = "../.."
	cmd.Run()
}

// binaries returns the directory of the programs under test: CHARGEGATE_BIN, or
// built now, with the race detector when the tests have it.
func binaries() (string, error) {
	if dir := os.Getenv("CHARGEGATE_BIN"); dir != "" {
		return dir, nil
	}
	dir := filepath.Join(sim.Dir, "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	args := []string{"build", "-buildvcs=false", "-o", dir + "/"} // the checkout may belong to somebody else
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/chargegated", "./cmd/chargegate", "./cmd/chargesim")...)
	cmd.Dir = "../.."
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the programs: %w\n%s", err, said)
	}
	return dir, nil
}

// within is a context that ends with the test or after d.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// stand opens a stand whose daemon runs, and looks at the end whether it came
// through unharmed.
func stand(t *testing.T, o sim.StandOptions) *sim.Stand {
	t.Helper()
	o.Bin = bin
	s, err := sim.OpenStand(within(t, 20*time.Second), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		for _, bad := range []string{"DATA RACE", "panic:", `"EVENT":"panic-recovered"`, `"EVENT":"service-failed"`} {
			if said := s.Gateway.Daemon.Said(); strings.Contains(said, bad) {
				t.Errorf("the daemon said %q; its last words:\n%s", bad, s.Gateway.Daemon.Last(30))
			}
		}
		os.Remove(s.Gateway.Daemon.File) // the next daemon writes into the same
	})
	start(t, s)
	return s
}

func start(t *testing.T, s *sim.Stand) {
	t.Helper()
	if _, err := s.Gateway.StartDaemon(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
}

// people opens a crowd: the stand's own, or strangers.
func people(t *testing.T, open func() (*sim.Crowd, error)) *sim.Crowd {
	t.Helper()
	c, err := open()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wave lets clients get their leases, all of them.
func wave(t *testing.T, c *sim.Crowd, w sim.Wave) sim.Tally {
	t.Helper()
	tally, err := c.Go(within(t, 30*time.Second), w)
	if err != nil {
		t.Fatal(err)
	}
	if tally.Failed() > 0 || tally.Doubles > 0 || tally.Moved > 0 || tally.NAKs > 0 {
		t.Errorf("of %d clients %d got no lease, %d one that another has, %d another one than before; %d NAKs; want none of it",
			tally.Clients, tally.Failed(), tally.Doubles, tally.Moved, tally.NAKs)
	}
	return tally
}
