package revive

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/event"
)

// A garage is a world with one radio, P1, whose time is the bubble's.
type garage struct {
	began time.Time
	name  string // of the boot
	lines chan Line

	mu       sync.Mutex
	dead     bool // hostapd does not serve
	gone     bool // somebody has stopped the radio's unit
	noDaemon bool
	noDevice error
	says     map[string]Report // the daemon
	phy      string
	cures    Step  // what brings the radio back
	fails    error // what every step ends with
	did      []string
}

func boot(name string) *garage {
	return &garage{began: time.Now(), name: name, says: on(7), phy: "phy0", lines: make(chan Line)}
}

// on is the daemon's report of so many stations on P1.
func on(stations int) map[string]Report { return map[string]Report{"P1": {Stations: stations}} }

// wedged is its report when the driver does not answer.
func wedged(heard int) map[string]Report {
	return map[string]Report{"P1": {Stations: -1, Heard: heard, Amiss: "failed (connection timed out)"}}
}

func (g *garage) uptime() time.Duration { return time.Since(g.began) }
func (g *garage) boot() string          { return g.name }

// now changes what is so in the garage.
func (g *garage) now(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

func (g *garage) look(context.Context, Radio) (Sight, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead {
		return Sight{Stopped: g.gone, Problem: "hostapd does not answer"}, nil
	}
	return Sight{Serving: true}, nil
}

func (g *garage) reports(context.Context) (map[string]Report, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.noDaemon {
		return nil, errors.New("nobody answers")
	}
	return g.says, nil
}

func (g *garage) find(ifname string) (device, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return device{ifname, sdioDriver, []string{"mmc1:0001:1", "mmc1:0001:2"}, g.phy}, g.noDevice
}

func (g *garage) follow(ctx context.Context, heard func(Line)) error {
	for {
		select {
		case l := <-g.lines:
			heard(l)
		case <-ctx.Done():
			return nil
		}
	}
}

func (g *garage) wanted(context.Context, Radio) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.noDaemon && !g.gone, nil
}

func (g *garage) step(s Step) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.did = append(g.did, s.String())
	if s == g.cures {
		g.dead = false
		if g.says["P1"].Amiss != "" {
			g.says = on(7)
		}
	}
	return g.fails
}

func (g *garage) restart(context.Context, Radio) error        { return g.step(Restart) }
func (g *garage) rebind(context.Context, Radio, device) error { return g.step(Driver) }
func (g *garage) reboot(context.Context) error                { return g.step(Reboot) }

var _ world = (*edge)(nil)

// A night is one run of the service in a garage.
type night struct {
	*testing.T
	*garage
	log  *event.Log
	stop func()
}

// serve runs the service until the test, or stop, ends it.
func serve(t *testing.T, g *garage, dir string, reach Step) *night {
	return serveAt(t, g, dir, reach, Pace{})
}

func serveAt(t *testing.T, g *garage, dir string, reach Step, pace Pace) *night {
	log := event.New(event.Options{Keep: 200})
	s := newServer(Config{Radios: []Radio{{"P1", "wlan0", reach}, {"P2", "wlan1", No}}, Dir: dir, Pace: pace}, g, log)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Serve(ctx) }()
	n := &night{t, g, log, nil}
	n.stop = func() {
		if cancel == nil {
			return
		}
		cancel()
		cancel = nil
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	return n
}

// passes lets time pass, and waits until the service has done what there is to do.
func (n *night) passes(d time.Duration) *night {
	time.Sleep(d)
	synctest.Wait()
	return n
}

// steps are those that were taken.
func (g *garage) steps() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.did, " ")
}

// want fails unless just these steps were taken.
func (n *night) want(steps string) {
	n.Helper()
	if got := n.steps(); got != steps {
		n.Errorf("after %s: steps %q, want %q\n%s", n.uptime(), got, steps, n.story())
	}
}

func (n *night) story() string {
	var b strings.Builder
	for _, r := range n.log.Recent(0, "") {
		b.WriteString(r.Kind.ID + ": " + r.Message + "\n")
	}
	return b.String()
}

// tells fails unless just these events were said.
func (n *night) tells(ids string) {
	n.Helper()
	var got []string
	for _, r := range n.log.Recent(0, "") {
		got = append(got, strings.TrimPrefix(r.Kind.ID, "revive-"))
	}
	if s := strings.Join(got, " "); s != ids {
		n.Errorf("said %q, want %q\n%s", s, ids, n.story())
	}
}

// story runs a test in a bubble of time, with a directory for the record.
func story(t *testing.T, f func(t *testing.T, dir string)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { f(t, dir) })
}

func TestTheWholeLadder(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		n := serve(t, boot("first"), dir, Reboot)
		n.passes(time.Hour).want("")
		n.now(func() { n.dead, n.cures = true, Reboot })
		n.passes(10 * time.Minute).want("restart driver restart reboot")
		n.tells("watching needed restart driver reboot helped")
		n.stop()
	})
}

// TestReboots that do not help: one an hour, counted over the boots, and none after
// three. The garage has no clock; between two boots years may pass, or nothing.
func TestRebootsThatDoNotHelp(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		reboots := 0
		at := time.Duration(0) // of service
		var last time.Duration
		for i, name := range []string{"a", "b", "c", "d", "e"} {
			g := boot(name)
			g.dead = true
			n := serve(t, g, dir, Reboot)
			for range 300 {
				if n.passes(time.Minute); strings.Contains(g.steps(), "reboot") {
					break
				}
			}
			n.stop()
			at += g.uptime()
			if strings.Contains(g.steps(), "reboot") {
				if reboots++; reboots > 1 && at-last < time.Hour-2*time.Minute {
					t.Errorf("boot %d: another reboot after %s", i, at-last)
				}
				last = at
				continue
			}
			if !strings.Contains(n.story(), "3 reboots in a row have not brought it back") {
				t.Errorf("boot %d: it does not say why there is none\n%s", i, n.story())
			}
		}
		if reboots != inVain {
			t.Errorf("%d reboots, want %d", reboots, inVain)
		}
	})
}

func TestARebootThatHelpsIsToldInTheNextBoot(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		g := boot("a")
		g.dead = true
		n := serve(t, g, dir, Reboot)
		n.passes(10 * time.Minute).want("restart driver restart reboot")
		n.stop()
		n = serve(t, boot("b"), dir, Reboot)
		n.passes(10 * time.Minute).want("")
		n.tells("watching rebooted reboot-helped")
		if want := "the box was restarted for the radio wlan0 of P1 (number 1 so far), because for 1m "; !strings.Contains(n.story(), want) {
			t.Errorf("it is not said why: %q\n%s", want, n.story())
		}
		n.stop()
		n = serve(t, boot("c"), dir, Reboot) // and once only
		n.passes(10 * time.Minute)
		n.tells("watching")
		n.stop()
	})
}

func TestARestartOfTheServiceForgetsNothing(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		g := boot("a")
		g.dead = true
		n := serve(t, g, dir, Reboot)
		n.passes(10 * time.Minute).want("restart driver restart reboot") // which does not come about
		n.stop()
		g.did = nil
		n = serve(t, g, dir, Reboot)
		n.passes(40 * time.Minute)
		if strings.Contains(g.steps(), "reboot") {
			t.Errorf("within the hour: %q", g.did)
		}
		if strings.Contains(n.story(), "was restarted for") {
			t.Errorf("in the same boot: %s", n.story())
		}
		n.stop()
	})
}

func TestNothingIsDone(t *testing.T) {
	for name, tt := range map[string]struct {
		in   func(*garage)
		want string
	}{
		"while chargegated is not running":      {func(g *garage) { g.noDaemon = true }, ""},
		"while somebody has stopped the radio":  {func(g *garage) { g.gone = true }, ""},
		"else the radio is restarted for once ": {func(g *garage) {}, "restart"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, dir string) {
				n := serve(t, boot("a"), dir, Restart)
				n.passes(time.Hour)
				n.now(func() { n.dead = true })
				n.now(func() { tt.in(n.garage) })
				n.passes(30 * time.Minute).want(tt.want)
				n.now(func() { n.noDaemon, n.gone = false, false })
				n.passes(5 * time.Minute).want("restart")
				n.stop()
			})
		})
	}
	t.Run("within three minutes of a boot", func(t *testing.T) {
		story(t, func(t *testing.T, dir string) {
			g := boot("a")
			g.dead = true
			n := serve(t, g, dir, Restart)
			n.passes(3*time.Minute - time.Second).want("")
			n.passes(30 * time.Second).want("restart")
			n.stop()
		})
	})
}

func TestTheKernelsLine(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		n := serve(t, boot("a"), dir, Reboot)
		n.passes(time.Hour)
		n.lines <- Line{Text: "usb 1-1: new device"}
		n.lines <- Line{Text: "brcmfmac: brcmf_sdio_hostmail: mailbox indicates firmware halted"}
		n.passes(25 * time.Second).want("restart")
		n.passes(10 * time.Minute).want("restart")
		n.tells("watching needed restart helped")
		n.stop()
	})
}

func TestEverybodyHasGone(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		n := serve(t, boot("a"), dir, Driver)
		n.passes(time.Hour)
		n.now(func() { n.says = on(0) })
		n.passes(10 * time.Minute).want("")
		n.passes(2 * time.Minute).want("restart")
		n.now(func() { n.says = nil }) // the daemon is away
		n.passes(time.Hour).want("restart")
		n.now(func() { n.says = on(5) })
		n.passes(5 * time.Minute).want("restart")
		n.tells("watching deserted restart recovered") // nobody knows when they came
		n.stop()
	})
}

// TestTheDaemonIsAway: a restart is not worth a word, and a night is.
func TestTheDaemonIsAway(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		n := serve(t, boot("a"), dir, Reboot)
		n.passes(time.Hour)
		n.now(func() { n.noDaemon = true })
		n.passes(90 * time.Second)
		n.tells("watching")
		n.passes(5 * time.Minute)
		n.tells("watching blind")
		n.stop()
	})
}

// TestAVirtualDeviceIsSaidPlainly, and costs no waiting.
func TestAVirtualDeviceIsSaidPlainly(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		g := boot("a")
		g.noDevice = errVirtual
		n := serve(t, g, dir, Driver)
		n.passes(time.Hour)
		n.now(func() { n.dead = true })
		n.passes(10 * time.Minute).want("restart")
		n.tells("watching needed restart spent")
		if !strings.Contains(n.story(), "its driver cannot begin anew: it is virtual") {
			t.Error(n.story())
		}
		n.stop()
	})
}

func TestAStepThatCannotBeDoneIsNotWaitedFor(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		n := serve(t, boot("a"), dir, Driver)
		n.passes(time.Hour)
		n.now(func() { n.dead, n.fails = true, errors.New("systemctl restart: no such unit") })
		n.passes(90 * time.Second).want("restart driver restart")
		n.tells("watching needed restart step-failed driver step-failed spent")
		n.stop()
	})
}

// TestNoRebootThatCannotBeCounted: where the record cannot be written, or read, the
// limits would not hold.
func TestNoRebootThatCannotBeCounted(t *testing.T) {
	t.Run("it cannot be written", func(t *testing.T) {
		story(t, func(t *testing.T, dir string) {
			g := boot("a")
			g.dead = true
			n := serve(t, g, filepath.Join(dir, "missing"), Reboot)
			n.passes(30 * time.Minute).want("restart driver restart")
			n.tells("watching needed record-unwritten restart driver spent")
			if err := os.Mkdir(filepath.Join(dir, "missing"), 0o700); err != nil {
				t.Fatal(err)
			}
			n.passes(time.Minute).want("restart driver restart reboot")
			n.stop()
		})
	})
	t.Run("it cannot be written just then", func(t *testing.T) {
		story(t, func(t *testing.T, dir string) {
			g := boot("a")
			g.dead = true
			state := filepath.Join(dir, "state")
			if err := os.Mkdir(state, 0o700); err != nil {
				t.Fatal(err)
			}
			n := serve(t, g, state, Reboot)
			n.passes(6 * time.Minute).want("restart driver restart")
			if err := os.RemoveAll(state); err != nil {
				t.Fatal(err)
			}
			n.passes(30 * time.Minute).want("restart driver restart")
			n.tells("watching needed restart driver record-unwritten spent")
			n.stop()
		})
	})
	t.Run("it is damaged", func(t *testing.T) {
		story(t, func(t *testing.T, dir string) {
			path := filepath.Join(dir, fileName)
			if err := os.WriteFile(path, []byte("chargegate-revive 1 00000000\n{}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			g := boot("a")
			g.dead = true
			n := serve(t, g, dir, Reboot)
			n.passes(23 * time.Hour)
			if strings.Contains(g.steps(), "reboot") {
				t.Errorf("%q", g.did)
			}
			n.passes(2 * time.Hour)
			if !strings.Contains(g.steps(), "reboot") {
				t.Errorf("none after the day either: %q", g.did)
			}
			if _, err := os.Stat(path + damagedSuffix); err != nil {
				t.Error(err)
			}
			n.stop()
		})
	})
}

// TestTheCardIsSpared: a radio that is well costs no write, and one that was not is
// noted once an hour, for a day.
func TestTheCardIsSpared(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		path := filepath.Join(dir, fileName)
		n := serve(t, boot("a"), dir, Restart)
		n.passes(24 * time.Hour)
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("written though nothing happened: %v", err)
		}
		n.now(func() { n.dead, n.cures = true, Restart })
		writes, last := 0, ""
		for range 36 * 60 {
			n.passes(time.Minute)
			data, err := os.ReadFile(path)
			if err == nil && string(data) != last {
				writes, last = writes+1, string(data)
			}
		}
		if writes < 20 || writes > 26 {
			t.Errorf("%d writes after one deed", writes)
		}
		n.want("restart")
		n.stop()
	})
}
