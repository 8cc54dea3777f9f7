package main

import (
	"bufio"
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/revive"
	"chargegate/pkg/status"
)

func TestReviveEndsWellWhereNobodyWantsIt(t *testing.T) {
	t.Parallel()
	file, _ := site(t, garage)
	d := &daemon{socket: "/nonexistent"}
	code, out, complain := d.use(t, pipe, "revive", "-config", file, "-state", t.TempDir())
	if code != exitWell || !strings.Contains(out, "no radio wants to be revived") || complain != "" {
		t.Errorf("exit %d, said %q, complained %q", code, out, complain)
	}
	file, _ = site(t, strings.Replace(garage, "channel = 6", "channel = 14", 1))
	if code, _, complain := d.use(t, pipe, "revive", "-config", file); code != exitNoAnswer || !strings.Contains(complain, "channel: 14 is not allowed") {
		t.Errorf("a fault in the configuration: exit %d, complained %q", code, complain)
	}
}

func TestReviveIsNoWordOfTechnicians(t *testing.T) {
	t.Parallel()
	d := &daemon{}
	if _, out, _ := d.use(t, pipe, "-h"); strings.Contains(out, "revive") {
		t.Error("it stands in the help")
	}
	if code, out, _ := d.use(t, pipe, "revive", "-h"); code != exitWell || !strings.Contains(out, "chargegate-revive.service") || !strings.Contains(out, "-kmsg") {
		t.Errorf("its own help: exit %d, %q", code, out)
	}
	if code, _, complain := d.use(t, pipe, "revive", "now"); code != exitNoAnswer || !strings.Contains(complain, "one word too many") {
		t.Errorf("exit %d, %q", code, complain)
	}
}

// TestReviveServes runs the whole service for a moment: it says for which radio, and
// that the kernel's log which it was given is not there.
func TestReviveServes(t *testing.T) {
	t.Parallel()
	file, _ := site(t, strings.Replace(garage, "channel = 6", "channel = 6\nrevive = \"driver\"", 1))
	d := &daemon{socket: "/nonexistent"}
	var out, complain strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	state := t.TempDir()
	code := chargegate(ctx, []string{"-socket", d.socket, "revive", "-config", file, "-state", state, "-kmsg", filepath.Join(state, "none"), "-every", "50ms"}, pipe(&out), &complain)
	if code != exitWell || complain.Len() > 0 {
		t.Errorf("exit %d, complained %q", code, complain.String())
	}
	for _, want := range []string{"watching over the radio wlan0 of P1; what may be done for it goes as far as: driver", "because the kernel's log cannot be asked"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if entries, err := os.ReadDir(state); err != nil || len(entries) > 0 {
		t.Errorf("nothing was done, and something was written: %v, %v", entries, err)
	}
}

// TestReviveCountsWhoIsHeard asks a daemon with one station that was heard, one that
// was not for long but has just announced its address, and a radio that cannot be
// looked at.
func TestReviveCountsWhoIsHeard(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	d.src.Networks = append(d.src.Networks, status.Network{Name: "P9", Interface: "wlan9"})
	d.src.Radios = func() []status.Radio {
		return []status.Radio{
			{Network: "P1", Interface: "wlan0", State: "watched", Stations: []status.Station{
				{MAC: mac7, Inactive: status.Seconds(time.Second)}, {MAC: mac8, Inactive: status.Seconds(6 * time.Minute)}}},
			{Network: "P9", Interface: "wlan9", State: "failed", Problem: "connection timed out"},
		}
	}
	d.book.Heard(netip.MustParseAddr("10.83.0.8"), time.Now())
	d.start(t)
	c := &call{terminal: pipe(&strings.Builder{}), socket: d.socket}
	got, err := c.reports(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]revive.Report{"P1": {Stations: 1, Heard: 1}, "P9": {Stations: -1, Amiss: "failed (connection timed out)"}}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestReviveEndsWellOnlyByItsUnit: systemd ends it by SIGINT. Any other end must not
// look well, or with RemainAfterExit= nobody would watch over the radios from then on.
func TestReviveEndsWellOnlyByItsUnit(t *testing.T) {
	if args := os.Getenv("CHARGEGATE_TEST_ARGS"); args != "" {
		os.Args = append([]string{"chargegate"}, strings.Split(args, " ")...)
		main()
	}
	t.Parallel()
	unit, err := os.ReadFile("../../systemd/chargegate-revive.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"KillSignal=SIGINT", "Restart=on-failure", "RemainAfterExit=yes"} {
		if !strings.Contains(string(unit), "\n"+line+"\n") {
			t.Errorf("the unit has no %s", line)
		}
	}
	file, _ := site(t, strings.Replace(garage, "channel = 6", "channel = 6\nrevive = \"driver\"", 1))
	for name, tt := range map[string]struct {
		by   os.Signal
		well bool
	}{
		"the unit is stopped":    {syscall.SIGINT, true},
		"somebody kills it":      {syscall.SIGTERM, false},
		"the memory has run out": {syscall.SIGKILL, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state := t.TempDir()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+strings.Split(t.Name(), "/")[0]+"$")
			cmd.Env = append(os.Environ(), "CHARGEGATE_TEST_ARGS=-socket /nonexistent revive -every 20ms -kmsg "+state+"/none -config "+file+" -state "+state)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if first, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(first, "watching over") {
				t.Errorf("%q, %v", first, err)
			}
			if err := cmd.Process.Signal(tt.by); err != nil {
				t.Error(err)
			}
			go io.Copy(io.Discard, out)
			if err := cmd.Wait(); (err == nil) != tt.well {
				t.Errorf("it ended with: %v", err)
			}
		})
	}
}
