package revive

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"chargegate/pkg/hostapd"
)

// access runs the real hostapd with its driver for no radio, and returns the
// directory of its sockets and its process.
func access(t *testing.T) (dir string, process *os.Process) {
	t.Helper()
	program, err := exec.LookPath("hostapd")
	if err != nil {
		t.Skipf("no hostapd here: %v", err)
	}
	dir = t.TempDir()
	conf := filepath.Join(dir, "hostapd.conf")
	if err := os.WriteFile(conf, []byte("interface=lo\ndriver=none\nssid=x\nctrl_interface="+dir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return dir, cmd.Process
}

func TestHostapdServes(t *testing.T) {
	dir, process := access(t)
	e := &edge{hostapd: dir}
	r := Radio{Network: "P1", Interface: "lo"}
	becomes := func(want string) {
		t.Helper()
		got := ""
		for range 100 {
			if got = e.serves(t.Context(), r); got == want {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Fatalf("%q, want %q", got, want)
	}
	ask := func(command string) {
		t.Helper()
		c, err := hostapd.Dial(filepath.Join(dir, "lo"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Ask(t.Context(), command); err != nil {
			t.Fatal(err)
		}
	}
	becomes("")
	ask("DISABLE")
	becomes("hostapd is not an access point but DISABLED")
	ask("ENABLE")
	becomes("")
	if err := process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	becomes("hostapd does not answer")
	if err := process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	becomes("")
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	becomes("hostapd is not there")
}

// A box without systemd says so, and nothing is done on it.
func TestWithoutSystemd(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	e := &edge{hostapd: t.TempDir()}
	r := Radio{Network: "P1", Interface: "wlan0"}
	if s, err := e.look(t.Context(), r); err == nil || s.Serving || s.Stopped {
		t.Errorf("%+v, %v", s, err)
	}
	if ok, err := e.wanted(t.Context(), r); ok || err == nil {
		t.Errorf("%v, %v", ok, err)
	}
}

// TestSystemctl: what the edge makes of what systemctl says, told by a program in its
// place; the real one answers in the virtual machine.
func TestSystemctl(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	says := func(script string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	e := &edge{hostapd: dir}
	r := Radio{Network: "P1", Interface: "wlan0"}
	for name, tt := range map[string]struct {
		daemon, radio   string
		wanted, stopped bool
	}{
		"all run":                   {"active", "active", true, false},
		"hostapd fails and fails":   {"active", "activating", true, false},
		"hostapd has failed":        {"active", "failed", true, false},
		"somebody has stopped it":   {"active", "inactive", false, true},
		"somebody is stopping it":   {"active", "deactivating", false, true},
		"the daemon is stopped":     {"inactive", "active", false, false},
		"the daemon does not start": {"activating", "active", false, false},
		"the daemon reloads":        {"reloading", "active", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			says(`case "$*" in *chargegated.service) echo ActiveState=` + tt.daemon + `;; *chargegate-radio@P1.service) echo ActiveState=` + tt.radio + `;; esac`)
			if ok, err := e.wanted(t.Context(), r); ok != tt.wanted || err != nil {
				t.Errorf("wanted: %v, %v", ok, err)
			}
			if off, err := stopped(t.Context(), r); off != tt.stopped || err != nil {
				t.Errorf("stopped: %v, %v", off, err)
			}
		})
	}
	says("echo Failed to connect to bus >&2; exit 1")
	if err := e.restart(t.Context(), r); err == nil || err.Error() != "systemctl restart: Failed to connect to bus" {
		t.Errorf("%v", err)
	}
	// The start of a radio waits for the daemon, so it must not be waited for itself.
	says("case \"$*\" in *--no-block*) exit 0;; esac; sleep 20")
	begin := time.Now()
	if err := e.restart(t.Context(), r); err != nil || time.Since(begin) > 10*time.Second {
		t.Errorf("%v after %s", err, time.Since(begin))
	}
	says("exec sleep 20")
	if _, err := systemctl(t.Context(), 50*time.Millisecond, "restart"); !errors.Is(err, errLate) || err.Error() != "systemctl restart has not ended within 50ms" {
		t.Errorf("%v", err)
	}
	says("echo $* >" + dir + "/said")
	if err := e.reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if said, err := os.ReadFile(dir + "/said"); string(said) != "reboot\n" || err != nil {
		t.Errorf("%q, %v", said, err)
	}
}
