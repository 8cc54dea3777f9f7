// Package garage tests the whole box with real programs: the built daemon and
// tool, nftables, chronyd and mosquitto in network namespaces, and the clients
// that a technician knows. One garage serves all tests, in the order of the
// packet's way: what must work, what must not, and what happens when the daemon
// dies.
package garage

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

// The guests of the inventory: devices that real programs move.
const (
	desk      = "P1-desk"      // asks, resolves and talks as a charger would
	wrong     = "P1-wrong"     // does what it should not
	rogue     = "P1-rogue"     // is a simulated charger that does what it should not
	upstairs  = "P2-upstairs"  // is on the other network
	udhcpc    = "P1-udhcpc"    //
	dhclient  = "P1-dhclient"  //
	dhcpcd    = "P1-dhcpcd"    //
	networkd  = "P1-networkd"  //
	library   = "P1-library"   // is moved by the library's client
	neighbour = "P1-neighbour" // lives next to the others
	hostile   = "P1-hostile"   // attacks with programs
	forger    = "P1-forger"    // attacks with frames of its own making
	flooder   = "P1-flooder"   // attacks with numbers
	witness   = "P1-witness"   // is there when the daemon dies
)

// garage is open while the tests run.
var garage *sim.Garage

func TestMain(m *testing.M) {
	if sim.Outside() {
		fetchModules()
	}
	if err := sim.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// fetchModules makes the go command fetch what the programs under test are built
// of, while there still is a network. When that fails, building them will say
// why.
func fetchModules() {
	cmd := exec.Command("go", "list", "-deps", "./cmd/...")
	cmd.Dir = ".."
	cmd.Run()
}

// run opens the garage, runs the tests, and looks whether the daemon came
// through them unharmed.
func run(m *testing.M) (int, error) {
	for _, name := range programs {
		if _, err := sim.Find(name); err != nil {
			return 1, err
		}
	}
	if os.Getenv(apartKey) != "" {
		return m.Run(), nil // the test opens a garage of its own
	}
	bin, err := binaries()
	if err != nil {
		return 1, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	garage, err = sim.Start(ctx, sim.Options{
		Bin:      bin,
		Networks: []sim.Network{{Name: "P1", Chargers: 3}, {Name: "P2", Chargers: 1}},
		Guests: []sim.Guest{
			{Name: desk, Network: "P1"}, {Name: wrong, Network: "P1"}, {Name: rogue, Network: "P1"},
			{Name: udhcpc, Network: "P1"}, {Name: dhclient, Network: "P1"}, {Name: dhcpcd, Network: "P1"},
			{Name: networkd, Network: "P1"}, {Name: library, Network: "P1"},
			{Name: neighbour, Network: "P1"}, {Name: witness, Network: "P1"}, {Name: upstairs, Network: "P2"},
			{Name: hostile, Network: "P1"}, {Name: forger, Network: "P1"}, {Name: flooder, Network: "P1"},
		},
		Habits: sim.Brisk(), LogLevel: "debug",
		Plain:    []string{sim.OCPP},
		NameRate: 1000, // one device asks all that the tests want to know
		Allow:    []string{sim.Big, "*." + tenants},
	})
	if err != nil {
		return 1, err
	}
	defer garage.Close()
	code := m.Run()
	return code, unscathed()
}

// unscathed stops the daemon and says what is wrong with how it ended, or with
// what it has said.
func unscathed() error {
	garage.Gateway.Daemon.Stop()
	if exit := garage.Gateway.Daemon.Exit(); exit != 0 {
		return fmt.Errorf("asked to stop, the daemon ended with %d; its last words:\n%s", exit, garage.Gateway.LastWords(30))
	}
	return harm(garage.Gateway.Daemon.Said())
}

// harm says what no daemon should ever say: that it panicked, or that the race
// detector found something.
func harm(said string) error {
	for _, bad := range []string{"DATA RACE", "panic:", `"EVENT":"panic-recovered"`, `"EVENT":"service-failed"`} {
		if at := strings.Index(said, bad); at >= 0 {
			return fmt.Errorf("the daemon said %q:\n%s", bad, said[max(0, at-500):min(len(said), at+4000)])
		}
	}
	return nil
}

// programs are what the tests need on the machine.
var programs = []string{
	"ip", "nft", "chronyd", "chronyc", "mosquitto", "mosquitto_sub", "mosquitto_pub", "udhcpc", "dhclient", "dhcpcd", "dig",
	"busybox", "ntpdig", "openssl", "gnutls-cli", "curl", "ping", "dbus-daemon", "networkctl", systemdNetworkd, "perfdhcp",
	"kdig", "drill", "gcc", "musl-gcc",
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
	cmd := exec.Command("go", append(args, "./cmd/chargegated", "./cmd/chargegate")...)
	cmd.Dir = ".."
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the programs: %w\n%s", err, said)
	}
	return dir, nil
}
