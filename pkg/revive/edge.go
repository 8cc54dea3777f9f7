package revive

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"chargegate/pkg/hostapd"
)

// daemonUnit is whom nothing is done without: a box that somebody has switched off,
// or is at work on, has no radio that is missed.
const daemonUnit = "chargegated.service"

// unit is the service that runs a radio's hostapd.
func (r Radio) unit() string { return "chargegate-radio@" + r.Network + ".service" }

// An edge is the world as it is.
type edge struct {
	kmsg, sys, hostapd string
	daemon             func(context.Context) (map[string]Report, error)
	stuck              stuck
}

func (e *edge) uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil { // every kernel has it
		return 0
	}
	return time.Duration(t.Nano())
}

func (e *edge) boot() string { return bootID() }

// find also says where a driver hangs on what it was told before.
func (e *edge) find(ifname string) (device, error) {
	d, err := find(e.sys, ifname)
	return d, errors.Join(err, e.stuck.on(ifname))
}

func (e *edge) follow(ctx context.Context, heard func(Line)) error {
	return follow(ctx, e.kmsg, heard)
}

func (e *edge) reports(ctx context.Context) (map[string]Report, error) {
	if e.daemon == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return e.daemon(ctx)
}

// look asks hostapd, and systemd only where hostapd does not serve.
func (e *edge) look(ctx context.Context, r Radio) (Sight, error) {
	problem := e.serves(ctx, r)
	if problem == "" {
		return Sight{Serving: true}, nil
	}
	stopped, err := stopped(ctx, r)
	return Sight{Stopped: stopped, Problem: problem}, err
}

// serves says in words why hostapd does not serve; empty: it does.
func (e *edge) serves(ctx context.Context, r Radio) string {
	c, err := hostapd.Dial(filepath.Join(e.hostapd, r.Interface))
	if err != nil {
		return "hostapd is not there"
	}
	defer c.Close()
	answer, err := c.Ask(ctx, "STATUS")
	if err != nil {
		return "hostapd does not answer"
	}
	if state := hostapd.Values(answer)["state"]; state != "ENABLED" {
		return fmt.Sprintf("hostapd is not an access point but %s", orElse(state, "in no state"))
	}
	return ""
}

// wanted asks systemd whether the daemon runs and the radio is meant to.
func (e *edge) wanted(ctx context.Context, r Radio) (bool, error) {
	daemon, err := active(ctx, daemonUnit)
	if err != nil || daemon != "active" && daemon != "reloading" {
		return false, err
	}
	off, err := stopped(ctx, r)
	return !off && err == nil, err
}

// stopped says whether somebody has stopped a radio's unit on purpose. One that
// failed, or is about to be started again, was not stopped.
func stopped(ctx context.Context, r Radio) (bool, error) {
	state, err := active(ctx, r.unit())
	return state == "inactive" || state == "deactivating", err
}

// active is a unit's ActiveState.
func active(ctx context.Context, unit string) (string, error) {
	out, err := systemctl(ctx, 10*time.Second, "show", "--property=ActiveState", "--", unit)
	if err != nil {
		return "", err
	}
	state, ok := strings.CutPrefix(strings.TrimSpace(out), "ActiveState=")
	if !ok {
		return "", fmt.Errorf("systemctl says of %s: %q", unit, cut(out))
	}
	return state, nil
}

// restart has hostapd started afresh, and does not wait for it: its start waits for the
// daemon, which may be away just then. What became of it shows the next looks.
func (e *edge) restart(ctx context.Context, r Radio) error {
	_, err := systemctl(ctx, 30*time.Second, "restart", "--no-block", "--", r.unit())
	return err
}

// rebind has the driver begin anew, whatever hostapd makes of it. The radio's unit is
// not stopped for it: if this service ended in between, it would look like somebody's
// wish.
func (e *edge) rebind(ctx context.Context, r Radio, d device) error {
	return d.rebind(ctx, e.sys, r.Interface, &e.stuck)
}

func (e *edge) reboot(ctx context.Context) error {
	_, err := systemctl(ctx, time.Minute, "reboot")
	return err
}

// errLate says that it is not known whether something was done: it may still be.
var errLate = errors.New("has not ended within")

// systemctl runs it, and returns what it prints. What it complains is the error.
func systemctl(ctx context.Context, within time.Duration, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	var failed *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("systemctl %s %w %s", args[0], errLate, within)
	case errors.As(err, &failed) && len(failed.Stderr) > 0:
		return "", fmt.Errorf("systemctl %s: %s", args[0], cut(string(failed.Stderr)))
	case err != nil:
		return "", fmt.Errorf("systemctl %s: %w", args[0], err)
	}
	return string(out), nil
}

// cut is the first line of a text.
func cut(s string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return first
}
