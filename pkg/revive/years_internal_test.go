package revive

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// count is how often a step was taken.
func (g *garage) count(s Step) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, d := range g.did {
		if d == s.String() {
			n++
		}
	}
	return n
}

// most fails where a step was taken more often than that.
func (n *night) most(s Step, times int) {
	n.Helper()
	if got := n.count(s); got > times {
		n.Errorf("%s %d times, at most %d are worth it\n%s", s, got, times, n.story())
	}
}

// reboots lets time pass until the box is restarted, for so long at most, and says
// whether it was. The service has ended then.
func (n *night) reboots(within time.Duration) bool {
	for end := n.uptime() + within; n.uptime() < end && n.count(Reboot) == 0; {
		n.passes(time.Minute)
	}
	n.stop()
	return n.count(Reboot) > 0
}

// TestTenNightsWithoutSupply: a relay switches the chargers off from ten to six. The box
// and its radio are well, all the time.
func TestTenNightsWithoutSupply(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		n := serve(t, boot("a"), dir, Reboot)
		for range 10 {
			n.passes(16 * time.Hour)
			n.now(func() { n.says = on(0) })
			n.passes(8 * time.Hour)
			n.now(func() { n.says = on(7) })
		}
		n.most(Reboot, 0)
		n.most(Restart, 2*enough) // hostapd is restarted with the driver, too
		n.most(Driver, enough)
		n.tells("watching" + strings.Repeat(" deserted restart driver left recovered", enough) + " lulled")
		n.passes(seldom)
		n.now(func() { n.says = on(0) }) // and now it may be the radio
		n.passes(30 * time.Minute)
		if n.count(Driver) != enough+1 {
			t.Errorf("after a week everybody's leaving is still no sign: %s", n.steps())
		}
		n.stop()
	})
}

// TestAGarageThatIsBuilt: three chargers hang on the wall, and the electrician has
// switched them off for weeks.
func TestAGarageThatIsBuilt(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		g := boot("a")
		g.says = on(3)
		n := serve(t, g, dir, Reboot)
		n.passes(5 * time.Hour)
		n.now(func() { n.says = on(0) })
		n.passes(6 * 7 * 24 * time.Hour).want("restart driver restart")
		n.tells("watching deserted restart driver left")
		n.now(func() { n.says = on(3) })
		n.passes(24 * time.Hour).want("restart driver restart")
		n.tells("watching deserted restart driver left recovered")
		n.stop()
	})
}

// TestThreeComeAndGo: whoever can have three stations on the radio and take them away
// again cannot have the box restarted, however often.
func TestThreeComeAndGo(t *testing.T) {
	for name, away := range map[string]map[string]Report{"and nobody is there": on(0), "and nobody knows": nil} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, dir string) {
				n := serveAt(t, boot("a"), dir, Reboot, Pace{Every: time.Minute})
				for range 10 * 24 {
					n.now(func() { n.says = on(3) })
					n.passes(20 * time.Minute)
					n.now(func() { n.says = away })
					n.passes(40 * time.Minute)
				}
				n.most(Reboot, 0)
				n.stop()
			})
		})
	}
}

// TestNotKnowingForgivesNothing: three reboots have not brought the radio back. That
// hostapd serves again, while nobody knows whether somebody is on it, proves nothing.
func TestNotKnowingForgivesNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		says  map[string]Report
		after time.Duration
		want  int
	}{
		"nobody knows":                   {nil, 48 * time.Hour, inVain},
		"the driver does not say":        {wedged(0), time.Minute, inVain},
		"nobody is on it, for some time": {on(0), 23 * time.Hour, inVain},
		"nobody is on it, for a day":     {on(0), 25 * time.Hour, 0},
		"somebody is on it":              {on(1), 5 * time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, dir string) {
				for _, b := range []string{"a", "b", "c"} {
					g := boot(b)
					g.dead = true
					n := serve(t, g, dir, Reboot)
					if !n.reboots(90 * time.Minute) {
						t.Fatal(n.story())
					}
				}
				g := boot("d")
				g.says = tt.says
				n := serve(t, g, dir, Reboot)
				n.passes(tt.after)
				n.stop()
				data, err := readFile(dir + "/" + fileName)
				if err != nil {
					t.Fatal(err)
				}
				r, err := decode(data, "d", g.uptime())
				if err != nil || r.vain["P1"] != tt.want {
					t.Errorf("%d reboots in vain, want %d (%v)\n%s", r.vain["P1"], tt.want, err, n.story())
				}
			})
		})
	}
}

// TestTheFirmwareIsWedged: hostapd says that it serves, the kernel's log says nothing,
// and whatever is asked of the driver ends with "connection timed out".
func TestTheFirmwareIsWedged(t *testing.T) {
	for name, tt := range map[string]struct {
		cures Step
		want  string
	}{
		"hostapd's restart brings it back": {Restart, "restart"},
		"the driver brings it back":        {Driver, "restart driver restart"},
		"only a reboot brings it back":     {Reboot, "restart driver restart reboot"},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, dir string) {
				n := serve(t, boot("a"), dir, Reboot)
				n.passes(time.Hour)
				n.now(func() { n.says = wedged(7) }) // whom it has heard until now
				n.passes(3 * time.Minute).want("")
				n.now(func() { n.says, n.cures = wedged(0), tt.cures })
				n.passes(5*time.Minute - 10*time.Second).want("")
				n.passes(15 * time.Minute).want(tt.want)
				if !strings.HasSuffix(n.story(), "helped\n") && !strings.Contains(n.story(), "revive-helped") {
					t.Error(n.story())
				}
				n.passes(24 * time.Hour).want(tt.want)
				n.stop()
			})
		})
	}
	t.Run("and is so still after the reboot", func(t *testing.T) {
		story(t, func(t *testing.T, dir string) {
			reboots := 0
			for i := range 8 {
				g := boot(fmt.Sprint(i))
				if i > 0 {
					g.says = wedged(0) // from the first look on
				}
				n := serve(t, g, dir, Reboot)
				n.passes(5 * time.Minute)
				n.now(func() { n.says = wedged(0) })
				if n.reboots(30 * time.Hour) {
					reboots++
				}
			}
			if reboots != inVain {
				t.Errorf("%d reboots, want %d", reboots, inVain)
			}
		})
	})
}

// TestADriverThatSaysNothing of its stations, on a radio that is well.
func TestADriverThatSaysNothing(t *testing.T) {
	for name, tt := range map[string]struct{ before, then map[string]Report }{
		"it never did":                            {wedged(0), wedged(0)},
		"it did, and chargers are heard":          {on(7), wedged(5)},
		"the daemon has not looked at it yet":     {on(7), map[string]Report{"P1": {Stations: -1}}},
		"it did, and the daemon is away for good": {on(7), nil},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, dir string) {
				g := boot("a")
				g.says = tt.before
				n := serve(t, g, dir, Reboot)
				n.passes(time.Hour)
				n.now(func() { n.says = tt.then })
				n.passes(14 * 24 * time.Hour).want("")
				n.stop()
			})
		})
	}
}

// TestTheDriverMendsItself: after the line it starts the firmware anew, and chargers are
// back before anybody would have done anything.
func TestTheDriverMendsItself(t *testing.T) {
	line := Line{Text: "brcmfmac: brcmf_sdio_hostmail: mailbox indicates firmware halted"}
	for name, tt := range map[string]struct{ during, after func(*garage) }{
		"hostapd was away for a moment":    {func(g *garage) { g.dead = true }, func(g *garage) { g.dead = false }},
		"the kernel has a new radio there": {func(g *garage) {}, func(g *garage) { g.phy = "phy1" }},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, dir string) {
				n := serve(t, boot("a"), dir, Reboot)
				n.passes(time.Hour)
				n.lines <- line
				n.now(func() { tt.during(n.garage) })
				n.passes(12 * time.Second)
				n.now(func() { tt.after(n.garage) })
				n.passes(time.Hour).want("")
				n.tells("watching")
				n.stop()
			})
		})
	}
	t.Run("a line after which it goes on by itself", func(t *testing.T) {
		story(t, func(t *testing.T, dir string) {
			n := serve(t, boot("a"), dir, Reboot)
			n.passes(time.Hour)
			n.lines <- Line{Text: "ieee80211 phy0: brcmf_psm_watchdog_notify: PSM's watchdog has fired!"}
			n.passes(time.Hour).want("")
			n.stop()
		})
	})
}

// TestARestartThatWaitsForTheDaemon is given its two minutes once the daemon is back.
func TestARestartThatWaitsForTheDaemon(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		n := serve(t, boot("a"), dir, Reboot)
		n.passes(time.Hour)
		n.now(func() { n.dead = true })
		n.passes(75 * time.Second).want("restart")
		n.now(func() { n.noDaemon = true }) // and hostapd's start waits for it
		n.passes(30 * time.Minute).want("restart")
		n.now(func() { n.noDaemon = false })
		n.passes(20 * time.Second)
		n.now(func() { n.dead = false })
		n.passes(time.Hour).want("restart")
		n.stop()
	})
	t.Run("and it is not known what became of it", func(t *testing.T) {
		story(t, func(t *testing.T, dir string) {
			n := serve(t, boot("a"), dir, Reboot)
			n.passes(time.Hour)
			n.now(func() { n.dead, n.fails = true, fmt.Errorf("systemctl restart %w 30s", errLate) })
			n.passes(75 * time.Second).want("restart")
			n.passes(100 * time.Second).want("restart")
			n.passes(30 * time.Second).want("restart driver restart")
			n.stop()
		})
	})
}

// TestADriverThatHangs is passed over: the next step is the reboot, and it says why.
func TestADriverThatHangs(t *testing.T) {
	story(t, func(t *testing.T, dir string) {
		g := boot("a")
		n := serve(t, g, dir, Driver)
		n.passes(time.Hour)
		n.now(func() { n.dead, n.noDevice = true, errors.Join(nil, fmt.Errorf("wlan0: %w", errHangs)) })
		n.passes(10 * time.Minute).want("restart")
		if !strings.Contains(n.story(), "its driver has not come back from what it was told before") {
			t.Error(n.story())
		}
		n.stop()
	})
}

// TestARadioThatDiesEachWeek for a year, in a garage whose chargers are switched off
// every night. Each death is mended, the deaths cost no more than they must, and the
// nights cost no reboot.
func TestARadioThatDiesEachWeek(t *testing.T) {
	if testing.Short() {
		t.Skip("a year takes some seconds")
	}
	if shm, err := os.Stat("/dev/shm"); err == nil && shm.IsDir() {
		t.Setenv("TMPDIR", "/dev/shm") // the records of a year keep a disk busy
	}
	for _, cures := range []Step{Driver, Reboot} {
		t.Run(cures.String(), func(t *testing.T) {
			story(t, func(t *testing.T, dir string) {
				var restarts, drivers, reboots int
				start := func(week int) *night {
					return serveAt(t, boot(fmt.Sprint(week)), dir, Reboot, Pace{Every: 10 * time.Minute})
				}
				n := start(0)
				n.passes(10 * time.Minute)
				for week := range 52 {
					for day := range 7 {
						n.now(func() { n.says = on(7) })
						if day == week%7 {
							n.passes(8 * time.Hour)
							n.now(func() { n.dead, n.cures, n.says = true, cures, wedged(0) })
							n.passes(time.Hour)
							if n.dead {
								t.Fatalf("week %d: it is dead still\n%s", week, n.story())
							}
							if n.count(Reboot) > 0 { // so the box has begun anew
								restarts, drivers, reboots = restarts+n.count(Restart), drivers+n.count(Driver), reboots+n.count(Reboot)
								n.stop()
								n = start(week + 1)
							}
							n.passes(8 * time.Hour)
						} else {
							n.passes(16 * time.Hour)
						}
						n.now(func() { n.says = on(0) })
						n.passes(8 * time.Hour)
					}
				}
				restarts, drivers, reboots = restarts+n.count(Restart), drivers+n.count(Driver), reboots+n.count(Reboot)
				n.stop()
				t.Logf("%d restarts, %d times the driver, %d reboots", restarts, drivers, reboots)
				once := 52 + enough
				if cures == Reboot {
					once = 52 * enough // with each boot what is known of the nights is forgotten
				}
				if nights := drivers - 52; nights > once {
					t.Errorf("the driver %d times for nothing", nights)
				}
				if cures == Reboot && reboots != 52 || cures < Reboot && reboots != 0 {
					t.Errorf("%d reboots for 52 deaths", reboots)
				}
			})
		})
	}
}
