package garage

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// TestFaultyTime tells what chargers are told of the time while nobody, or a liar,
// says how right the clock is: nothing, or something that is no more wrong than it
// says.
func TestFaultyTime(t *testing.T) {
	t.Parallel() // it waits most of the time
	o := sim.Options{
		Networks: []sim.Network{{Name: "P1", Chargers: 1}},
		Guests:   []sim.Guest{{Name: desk, Network: "P1"}},
		Habits:   sim.Brisk(),
		Allow:    []string{}, // doctor calls whatever may be reached
		TimeRate: 1000,       // one device asks all the time
	}
	apart(t, o, func(t *testing.T) {
		h := connected(t, desk)
		for _, part := range []struct {
			name string
			test func(*testing.T, *sim.Host)
		}{
			{"chronyd is killed and comes back", clockKilled},
			{"chronyd is too slow to answer", clockStopped},
			{"never synchronised", neverSynchronised},
			{"chronyd follows a liar", liars},
			{"and in the end all is well again", clockWell},
		} {
			t.Run(part.name, func(t *testing.T) {
				began := time.Now()
				part.test(t, h)
				t.Logf("%s", time.Since(began).Round(100*time.Millisecond))
			})
			unharmed(t)
		}
	})
}

// A watch asks for the time all the while and looks at whatever it gets.
type watch struct {
	cancel func()
	wg     sync.WaitGroup

	mu               sync.Mutex
	answered, silent int
	lies             []string
	widest           time.Duration // distance that was told
}

// watchTime begins to ask. The truth is off from the machine's clock.
func watchTime(t *testing.T, h *sim.Host, off time.Duration) *watch {
	t.Helper()
	a := newAsker(t, h.Space)
	ctx, cancel := context.WithCancel(t.Context())
	w := &watch{cancel: cancel}
	w.wg.Go(func() {
		for ctx.Err() == nil {
			sent := time.Now()
			answer := a.ask(timeRequest(4), 50*time.Millisecond)
			w.note(answer, sent, time.Now(), off)
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	return w
}

func (w *watch) note(answer []byte, sent, got time.Time, off time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if answer == nil {
		w.silent++
		return
	}
	w.answered++
	told, err := readTime(answer)
	if err != nil {
		w.lies = append(w.lies, err.Error())
		return
	}
	if lie := told.lies(sent, got, off); lie != "" {
		w.lies = append(w.lies, lie)
	}
	w.widest = max(w.widest, told.distance)
}

// counts are how many answers and silences there were since the last call.
func (w *watch) counts() (answered, silent int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	answered, silent = w.answered, w.silent
	w.answered, w.silent = 0, 0
	return answered, silent
}

// end stops asking, and wants that there was no lie.
func (w *watch) end(t *testing.T) {
	t.Helper()
	w.cancel()
	w.wg.Wait()
	if len(w.lies) > 0 {
		t.Errorf("%d answers were more wrong than they said: %s", len(w.lies), strings.Join(w.lies[:min(3, len(w.lies))], "\n"))
	}
	if w.widest > 0 {
		t.Logf("the widest distance told was %s", w.widest)
	}
}

// steady wants, for half a second, only answers or only silence.
func (w *watch) steady(t *testing.T, answers bool) {
	t.Helper()
	w.counts()
	time.Sleep(500 * time.Millisecond)
	answered, silent := w.counts()
	if answers && (answered == 0 || silent > answered) || !answers && answered > 0 {
		t.Errorf("%d answers and %d silences in half a second, want %v", answered, silent, map[bool]string{true: "answers", false: "silence"}[answers])
	}
}

// clockSaid waits for these events in this order after the first n.
func clockSaid(t *testing.T, n int, most time.Duration, ids ...string) {
	t.Helper()
	eventually(t, most, fmt.Sprintf("the events %q", ids), func() (bool, string) {
		var seen []string
		next := 0
		for _, e := range garage.Gateway.Events()[n:] {
			if !strings.HasPrefix(e.ID, "ntprelay-") {
				continue
			}
			seen = append(seen, e.ID+": "+e.Message)
			if next < len(ids) && e.ID == ids[next] {
				next++
			}
		}
		return next == len(ids), strings.Join(seen, "\n")
	})
}

// startClock starts the gateway's chronyd.
func startClock(t *testing.T) {
	t.Helper()
	if err := garage.Gateway.StartClock(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
}

// knows waits until the daemon knows the time, or knows that it does not.
func knows(t *testing.T, known bool) {
	t.Helper()
	if err := garage.Gateway.WaitClock(within(t, 45*time.Second), known); err != nil {
		t.Fatal(err)
	}
}

// clockKilled kills the gateway's chronyd. What is known of the clock may be told
// for a while, then there is silence; a new chronyd ends that.
func clockKilled(t *testing.T, h *sim.Host) {
	w, n := watchTime(t, h, 0), len(garage.Gateway.Events())
	defer w.end(t)
	w.steady(t, true)
	garage.Gateway.Clock.Kill()
	garage.Gateway.StopClock()
	knows(t, false)
	w.steady(t, false)
	startClock(t)
	knows(t, true)
	w.steady(t, true)
	clockSaid(t, n, 2*time.Second, "ntprelay-lost", "ntprelay-synchronised")
}

// clockStopped holds the gateway's chronyd up without ending it.
func clockStopped(t *testing.T, h *sim.Host) {
	w, n := watchTime(t, h, 0), len(garage.Gateway.Events())
	defer w.end(t)
	if err := garage.Gateway.Clock.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer garage.Gateway.Clock.Signal(syscall.SIGCONT)
	knows(t, false)
	w.steady(t, false)
	garage.Gateway.Clock.Signal(syscall.SIGCONT)
	knows(t, true)
	w.steady(t, true)
	clockSaid(t, n, 2*time.Second, "ntprelay-lost", "ntprelay-synchronised")
}

// neverSynchronised starts everything anew without any source. A charger that
// boots meanwhile waits for the time, and has it as soon as there is one.
func neverSynchronised(t *testing.T, h *sim.Host) {
	w := watchTime(t, h, 0)
	defer w.end(t)
	garage.Cloud.StopClock()
	garage.Gateway.StopClock()
	garage.Gateway.Daemon.Stop()
	w.counts()
	startClock(t)
	if _, err := garage.Gateway.StartDaemon(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	n := len(garage.Gateway.Events())
	c := garage.Chargers[0]
	c.PowerOn()
	w.steady(t, false)
	if v := c.View(); v.Stage == sim.OK {
		t.Error("a charger went on without the time")
	}
	said(t, c.Name, "ntprelay-asked-too-early", c.Name)
	never(t, n, "", "ntprelay-clock-stepped", "ntprelay-lost")
	if err := garage.Cloud.StartClock(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	knows(t, true)
	clockSaid(t, n, 2*time.Second, "ntprelay-synchronised")
	w.steady(t, true)
	eventually(t, 20*time.Second, "the charger goes on", func() (bool, string) { v := c.View(); return v.Well(), sprint(v.Stage, v.Trouble) })
}

// liars puts servers with wrong, useless or senseless time in the place of the
// right one. What can be wrong by more than a second is not told; what is told is
// no more wrong than it says.
func liars(t *testing.T, h *sim.Host) {
	good := sim.Lie{Stratum: 2, RootDelay: time.Millisecond, RootDispersion: time.Millisecond}
	with := func(change func(*sim.Lie)) sim.Lie { l := good; change(&l); return l }
	garage.Gateway.StopClock()
	anew(t)
	for _, c := range []struct {
		what   string
		lie    sim.Lie
		served bool
	}{
		{"that is not synchronised (leap 3)", with(func(l *sim.Lie) { l.Leap = 3 }), false},
		{"of stratum 0", with(func(l *sim.Lie) { l.Stratum = 0 }), false},
		{"of stratum 16", with(func(l *sim.Lie) { l.Stratum = 16 }), false},
		{"of stratum 15", with(func(l *sim.Lie) { l.Stratum = 15 }), false}, // the gateway would be 16
		{"that may be wrong by 2 s", with(func(l *sim.Lie) { l.RootDispersion = 2 * time.Second }), false},
		{"that may be wrong by hours", with(func(l *sim.Lie) { l.RootDelay = 5 * time.Hour }), false},
		{"an hour ahead", with(func(l *sim.Lie) { l.Off = time.Hour }), false},
		{"a year behind", with(func(l *sim.Lie) { l.Off = -365 * 24 * time.Hour }), false},
		{"that is right, for once", good, true},
		{"300 ms ahead", with(func(l *sim.Lie) { l.Off = 300 * time.Millisecond }), true},
		{"300 ms behind, which may be wrong by half a second", with(func(l *sim.Lie) { l.Off, l.RootDispersion = -300*time.Millisecond, 500*time.Millisecond }), true},
	} {
		t.Run(c.what, func(t *testing.T) {
			garage.Gateway.StopClock()
			if err := garage.Cloud.Lie(c.lie); err != nil {
				t.Fatal(err)
			}
			if c.served { // what was right before may still be told, and that is another truth
				anew(t)
			}
			w := watchTime(t, h, c.lie.Off)
			defer w.end(t)
			startClock(t)
			if c.served {
				knows(t, true)
			} else {
				time.Sleep(500 * time.Millisecond) // chronyd has heard the lie several times
				n := readings(t)
				eventually(t, 10*time.Second, "the daemon asks chronyd", func() (bool, string) { return readings(t) >= n+2, "" })
			}
			w.steady(t, c.served)
		})
	}
}

// anew starts the daemon anew, which then knows nothing of the clock.
func anew(t *testing.T) {
	t.Helper()
	garage.Gateway.Daemon.Stop()
	if _, err := garage.Gateway.StartDaemon(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
}

// readings is how often chronyd has told the daemon how right the clock is.
func readings(t *testing.T) int {
	t.Helper()
	return metric(t, `chargegate_ntprelay_readings_total\{result="answered"\}`)
}

// clockWell brings the right time back, and reads in doctor where it comes from.
func clockWell(t *testing.T, h *sim.Host) {
	garage.Gateway.StopClock()
	garage.Cloud.StopLie()
	if err := garage.Cloud.StartClock(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	startClock(t)
	knows(t, true)
	out, err := garage.Gateway.Tool(within(t, 20*time.Second), "doctor")
	if err != nil || !regexp.MustCompile(`clock: right to within [^\n]*`+regexp.QuoteMeta(sim.TimeAddr)).MatchString(out) {
		t.Errorf("doctor says: %v\n%s\nwant that the clock is right, and follows %s", err, out, sim.TimeAddr)
	}
}
