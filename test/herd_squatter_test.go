package garage

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/lease"
	"chargegate/pkg/sim"
)

// TestHerdAmongSquatters gives a whole garage of chargers, which ask as their
// firmware does, their addresses after a power cut, while other devices sit on
// addresses that somebody has set by hand. A charger that is given one of those
// declines it and never asks again (F-2), so it must not happen; where it cannot be
// helped, the technician is told. CHARGEGATE_HERD is the number of chargers, if not
// 60.
func TestHerdAmongSquatters(t *testing.T) {
	size := 60
	if text := os.Getenv("CHARGEGATE_HERD"); text != "" {
		var err error
		if size, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	habits := sim.Brisk()
	habits.Probe = sim.Firmware().Probe // what comes after the address may be quicker
	o := sim.Options{Networks: []sim.Network{{Name: "P1", Chargers: size}}, Habits: habits, LogLevel: "debug"}
	apart(t, o, func(t *testing.T) {
		for _, part := range []struct {
			name string
			test func(*testing.T)
		}{
			{"nobody squats", nobodySquats},
			{"squatters that were there before the daemon", squattersBefore},
			{"squatters that announce themselves", squattersAnnounced},
			{"a squatter that nobody knew of", squatterUnknown},
		} {
			t.Run(part.name, part.test)
		}
	})
}

// nobodySquats is a power cut like any other.
func nobodySquats(t *testing.T) {
	powerCut(t)
	has := map[netip.Addr]string{}
	for _, v := range garage.Views() {
		addr := v.Binding.Addr.Addr()
		if other := has[addr]; other != "" {
			t.Errorf("%s and %s both have %s", v.Name, other, addr)
		}
		has[addr] = v.Name
	}
}

// powerCut switches every charger off and on, and waits until all are well. None
// may have declined anything.
func powerCut(t *testing.T) {
	t.Helper()
	before := len(garage.Gateway.Events())
	garage.PowerOff()
	began := time.Now()
	garage.PowerOn()
	if err := garage.WaitOnline(within(t, 2*time.Minute)); err != nil {
		t.Fatal(err)
	}
	sum := sim.Sum(garage.Views())
	t.Logf("%d chargers online after %s; half have an address after %s, all after %s", len(garage.Chargers),
		time.Since(began).Round(10*time.Millisecond), sum.Percentile("leased", 0.5).Round(time.Millisecond), sum.Percentile("leased", 1).Round(time.Millisecond))
	undisturbed(t, before)
}

// undisturbed wants no charger to have declined an address.
func undisturbed(t *testing.T, before int) {
	t.Helper()
	never(t, before, "", "dhcp-lease-declined", "dhcp-decline-ignored")
	for _, v := range garage.Views() {
		if v.Declined > 0 {
			t.Errorf("%s declined %d addresses: %s", v.Name, v.Declined, v.Trouble)
		}
	}
}

// squattersBefore sets squatters on what three chargers had, makes the gateway
// forget everything, and starts it: a new box in an old garage. It would give the
// three the same addresses again, did it not look first.
func squattersBefore(t *testing.T) {
	garage.PowerOff()
	var squatters []*sim.Squatter
	before := len(garage.Gateway.Events())
	forget(t, func() {
		for _, v := range garage.Views()[:3] {
			squatters = append(squatters, squat(t, v.Binding.Addr.Addr()))
		}
	})
	began := time.Now()
	for _, s := range squatters {
		found(t, before, s)
	}
	t.Logf("all were found after %s", time.Since(began).Round(10*time.Millisecond))
	powerCut(t)
	avoided(t, squatters)
}

// squat sets a squatter on an address until the part of the test is over.
func squat(t *testing.T, addr netip.Addr) *sim.Squatter {
	t.Helper()
	s, err := garage.Squat("P1", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// found waits until the daemon says that somebody squats, and who.
func found(t *testing.T, before int, s *sim.Squatter) {
	t.Helper()
	eventually(t, 20*time.Second, fmt.Sprintf("the daemon says that %s is used by %s", s.Addr, hw(s.MAC)), func() (bool, string) {
		for _, e := range garage.Gateway.Events()[before:] {
			if e.ID == "dhcp-address-in-use" && e.Fields["IP"] == s.Addr.String() && strings.Contains(e.Message, hw(s.MAC)) {
				return true, ""
			}
		}
		return false, garage.Gateway.LastWords(5)
	})
}

// avoided wants no charger to have been offered what somebody squats on.
func avoided(t *testing.T, squatters []*sim.Squatter) {
	t.Helper()
	for _, v := range garage.Views() {
		for _, s := range squatters {
			if slices.Contains(v.Offers, s.Addr) || v.Binding.Addr.Addr() == s.Addr {
				t.Errorf("%s was offered %q and has %s, though %s uses %s", v.Name, v.Offers, v.Binding.Addr, hw(s.MAC), s.Addr)
			}
		}
	}
}

// squattersAnnounced lets two devices come that announce their addresses, as most
// do when somebody sets one: one takes an address that is free, the other one that
// a charger has, which is off just then.
func squattersAnnounced(t *testing.T) {
	c := garage.Chargers[3]
	his := c.View().Binding.Addr.Addr()
	c.PowerOff()
	before := len(garage.Gateway.Events())
	free, taken := squat(t, freeAddress(t)), squat(t, his)
	for _, s := range []*sim.Squatter{free, taken} {
		if err := s.Announce(); err != nil {
			t.Fatal(err)
		}
	}
	found(t, before, free)
	e := saidSince(t, before, "unknown "+hw(taken.MAC), "dhcp-address-claimed", his.String())
	if e.Fields["OWNER"] != c.Name {
		t.Errorf("the event says that %s is %q's, want %s", his, e.Fields["OWNER"], c.Name)
	}
	c.PowerOn()
	wellAgain(t, c)
	undisturbed(t, before)
	avoided(t, []*sim.Squatter{free, taken})
}

// freeAddress is one of the chargers' addresses that nobody has, and that nobody
// was seen with.
func freeAddress(t *testing.T) netip.Addr {
	t.Helper()
	pool, err := lease.NewPool("P1", garage.Gateway.Addresses["garage-p1"], len(garage.Chargers))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{garage.Gateway.Address("P1").String(): true}
	for _, v := range garage.Views() {
		used[v.Binding.Addr.Addr().String()] = true
	}
	for _, e := range garage.Gateway.Events() {
		if e.ID == "dhcp-address-in-use" {
			used[e.Fields["IP"]] = true
		}
	}
	for a := pool.First; a.Compare(pool.Last) <= 0; a = a.Next() {
		if !used[a.String()] {
			return a
		}
	}
	t.Fatal("no address is free")
	return netip.Addr{}
}

// squatterUnknown lets a device take a charger's address that says nothing of it
// until it is asked: nobody asks about an address that a charger has. The charger
// finds out, declines, and hangs. The daemon names the other device and tells the
// technician what to do; that helps.
func squatterUnknown(t *testing.T) {
	c := garage.Chargers[4]
	his := c.View().Binding.Addr.Addr()
	c.PowerOff()
	before := len(garage.Gateway.Events())
	s := squat(t, his)
	c.PowerOn()
	saidSince(t, before, c.Name, "dhcp-lease-declined", his.String())
	found(t, before, s)
	if v := c.View(); v.Declined != 1 || v.Stage != sim.DHCP {
		t.Errorf("the charger declined %d addresses and stands at %s, want 1 and dhcp", v.Declined, v.Stage)
	}
	// A charger counts as stuck after it has stood on one step for 20 s.
	eventually(t, 30*time.Second, "the daemon tells that the charger's power is to be switched off and on", func() (bool, string) {
		ladder, err := garage.Gateway.Ladder(within(t, 5*time.Second))
		r := ladder[c.Name]
		return err == nil && r.Stage == sim.DHCP && strings.Contains(r.Advice, "switch its power off and on"), sprint(r, err)
	})
	c.PowerOff()
	c.PowerOn()
	wellAgain(t, c)
	avoided(t, []*sim.Squatter{s})
}

// wellAgain waits for one charger.
func wellAgain(t *testing.T, c *sim.Charger) {
	t.Helper()
	eventually(t, 30*time.Second, c.Name+" is well again", func() (bool, string) {
		v := c.View()
		return v.Well(), sprint(v.Stage, v.Binding.Addr, v.Trouble)
	})
}
