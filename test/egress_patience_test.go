package garage

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"chargegate/pkg/sim"
)

// patientKey is the environment variable that asks for the test which waits as
// long as the gateway does: some two minutes and a half.
const patientKey = "CHARGEGATE_PATIENT"

// TestBlackHolesInRealTime swallows the packets of conversations for good and
// waits, with the real timers, until the gateway gives them up: 60 s of silence
// and four probes 15 s apart, or 120 s for bytes that nobody acknowledges (F-5).
// The tests that run every time look at the settings, and at timers made short.
func TestBlackHolesInRealTime(t *testing.T) {
	if os.Getenv(patientKey) == "" {
		t.Skip("it takes two minutes and a half: run it with " + patientKey + "=1")
	}
	t.Parallel()
	habits := sim.Brisk()
	habits.KeepAlive = 2200 * time.Second // stand-alone: the charger itself would notice after 37 min
	o := sim.Options{
		Networks: []sim.Network{{Name: "P1", Chargers: len(sim.PuppetAddrs)}}, Habits: habits, LogLevel: "debug",
		Allow: []string{"*." + theatre}, NameRate: 1000,
	}
	apart(t, o, func(t *testing.T) {
		garage.PowerOn()
		if err := garage.WaitOnline(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
		const server, charger = "the server does not answer any more", "the charger does not answer any more"
		const given = 2 * time.Minute
		const up, down, air = "up", "down", "air" // what is lost: towards the server, from it, towards the charger
		var wg sync.WaitGroup
		for i, h := range []struct {
			what   string
			lost   []string
			busy   func(k talk) error // who goes on talking, and how that ends
			reason string
			after  time.Duration
		}{
			{"the server vanishes; nothing is said", []string{up, down}, nil, server, given},
			{"the server vanishes; the charger has just spoken", []string{up, down}, func(k talk) error { _, err := k.near.Write([]byte("ping")); return err }, server, given},
			{"the server vanishes; the charger speaks every 10 s", []string{up, down}, func(k talk) error { return often(k.near) }, server, given},
			{"what goes up vanishes; both speak every 10 s", []string{up}, func(k talk) error { go often(k.far); return often(k.near) }, server, given},
			{"what comes down vanishes; nothing is said", []string{down}, nil, server, given},
			{"the charger vanishes; nothing is said", []string{air}, nil, charger, given},
			{"the charger vanishes; the server speaks every 10 s", []string{air}, func(k talk) error { return often(k.far) }, charger, given},
			{"the charger reads no more of a download", nil, func(k talk) error { return flood(k.far) }, charger, given},
			{"the server reads no more of an upload", nil, func(k talk) error { return flood(k.near) }, server, given},
			{"the charger starts anew; nothing is said", nil, func(k talk) error {
				time.Sleep(time.Second) // all that was said is acknowledged
				near, _ := k.raw()
				return sim.Forget(near)
			}, "the charger reset it", time.Minute},
		} {
			c, name := garage.Chargers[i], fmt.Sprintf("patience-%d", i)
			k := converse(t, c, puppet(t, i, name), name)
			n := len(garage.Gateway.Events())
			for _, what := range h.lost {
				switch what {
				case up:
					lose(t, garage.Cloud.Space, "ip daddr "+sim.PuppetAddrs[i])
				case down:
					lose(t, garage.Gateway.Space, `iifname "eth0" ip saddr `+sim.PuppetAddrs[i])
				case air:
					lose(t, garage.Site(), fmt.Sprintf("iifname %q", c.Wire()))
				}
			}
			began, talked := time.Now(), make(chan error, 1)
			if h.busy == nil {
				talked <- nil
			} else {
				wg.Go(func() { talked <- h.busy(k) })
			}
			wg.Go(func() {
				defer func() { k.near.NetConn().Close(); k.far.NetConn().Close() }() // who speaks to nobody would do so for long
				other := k.near
				if strings.HasPrefix(h.reason, "the charger") {
					other = k.far
				}
				other.SetReadDeadline(began.Add(3 * time.Minute))
				_, err := io.Copy(io.Discard, other)
				took := time.Since(began)
				if err == nil { // who writes hears of the reset first
					err = <-talked
				}
				if !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("%s: after %s the other side had %v, want a reset", h.what, took, err)
				}
				e := saidSince(t, n, c.Name, "egress-ended", k.name)
				t.Logf("%s: the other side had a reset after %s; the gateway said: %s", h.what, took.Round(100*time.Millisecond), e.Fields["REASON"])
				if e.Fields["REASON"] != h.reason {
					t.Errorf("%s: said %q, want %q", h.what, e.Fields["REASON"], h.reason)
				}
				if took < h.after-10*time.Second || took > h.after+30*time.Second {
					t.Errorf("%s: over after %s, want some %s", h.what, took, h.after)
				}
			})
		}
		wg.Wait()
	})
}

// often says something every 10 s until nobody takes it.
func often(conn *tls.Conn) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		if _, err := conn.Write([]byte("ping")); err != nil {
			return err
		}
		<-tick.C
	}
}

// flood says as much as is taken.
func flood(conn *tls.Conn) error {
	block := make([]byte, 64<<10)
	for {
		if _, err := conn.Write(block); err != nil {
			return err
		}
	}
}
