package main

import (
	"bufio"
	"context"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/event"
)

// A screen is a terminal that somebody looks at; the test reads what it shows.
type screen struct {
	t     *testing.T
	lines *bufio.Scanner
	code  chan int
	end   context.CancelFunc
}

// look starts the tool and lets it run.
func (d *daemon) look(t *testing.T, live bool, args ...string) *screen {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	s := &screen{t: t, lines: bufio.NewScanner(r), code: make(chan int, 1), end: cancel}
	go func() {
		term := paper(w, 80)
		term.live, term.height = live, func() int { return 12 }
		code := chargegate(ctx, append([]string{"-socket", d.socket}, args...), term, w)
		w.Close()
		s.code <- code
	}()
	t.Cleanup(func() { cancel(); r.Close() })
	return s
}

// until reads on until a line holds the text.
func (s *screen) until(text string) string {
	s.t.Helper()
	for s.lines.Scan() {
		if strings.Contains(s.lines.Text(), text) {
			return s.lines.Text()
		}
	}
	s.t.Fatalf("it ended without %q", text)
	return ""
}

// wantEnd is ^C; the tool must end with the code.
func (s *screen) wantEnd(code int) {
	s.t.Helper()
	s.end()
	for s.lines.Scan() { // what it was printing just then
	}
	if got := <-s.code; got != code {
		s.t.Errorf("exit %d, want %d", got, code)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	for _, json := range []bool{false, true} {
		d := newDaemon(t).start(t)
		args := []string{"events", "-follow", "-charger", "P1-07"}
		if json {
			args = append(args, "-json")
		}
		s := d.look(t, true, args...)
		s.until("P1-07 is online")
		d.log.Say(event.ChargerOffline, event.MAC(mac8), event.F("SINCE", "5m"), event.F("STAGE", "dhcp")) // somebody else
		d.log.Say(event.ChargerOffline, event.MAC(mac7), event.F("SINCE", "5m"), event.F("STAGE", "cloud"))
		if line := s.until("without the cloud"); !strings.Contains(line, "P1-07") {
			t.Errorf("followed somebody else: %s", line)
		}

		// The daemon comes back, and counts from 1 again.
		d.stop()
		next := newDaemon(t)
		next.socket, next.src.Started = d.socket, time.Now()
		next.start(t)
		s.until("P1-07 is online")
		s.wantEnd(exitWell)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	d := newDaemon(t).start(t)
	s := d.look(t, true, "status", "-watch")
	for range 2 { // two pictures, each from the top
		s.until("\x1b[HKungsgatan 12")
		s.until("more lines; make the window higher")
	}
	d.stop()
	s.until("nobody answers")
	newHouse := newDaemon(t)
	newHouse.socket = d.socket
	newHouse.start(t)
	s.until("Kungsgatan 12")
	s.until("more lines")
	s.wantEnd(exitAttention)
}

func TestWatchIntoAPipe(t *testing.T) {
	t.Parallel()
	s := newDaemon(t).start(t).look(t, false, "status", "-watch")
	for range 2 {
		s.until("Kungsgatan 12")
		if line := s.until("3 chargers"); strings.Contains(line, "\x1b") {
			t.Errorf("an escape went into a pipe: %q", line)
		}
	}
	s.wantEnd(exitAttention)
}

func TestDoctorShowsThatItIsAtWork(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	goOn := make(chan struct{})
	lookup := d.src.LookupNetIP
	d.src.LookupNetIP = func(ctx context.Context, network, host string) ([]netip.Addr, error) {
		<-goOn
		return lookup(ctx, network, host)
	}
	d.start(t)
	s := d.look(t, true, "doctor")
	s.lines.Split(bufio.ScanRunes)
	var seen strings.Builder
	for working := true; s.lines.Scan(); {
		seen.WriteString(s.lines.Text())
		if working && strings.HasSuffix(seen.String(), "at work") {
			working = false
			close(goOn)
		}
	}
	if !strings.Contains(seen.String(), "to look at,") {
		t.Errorf("no conclusion in %q", seen.String())
	}
	if code := <-s.code; code != exitAttention {
		t.Errorf("exit %d, want %d", code, exitAttention)
	}
}
