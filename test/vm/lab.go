package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"chargegate/test/vm/image"
	"chargegate/test/vm/wire"
)

// A Lab is what a scenario has: at most one guest at a time, and a directory for
// what is worth keeping when it fails.
type Lab struct {
	Image  image.Built
	Source string // the checkout
	Dir    string // kept when the scenario fails
	Update bool   // screens in docs are written anew

	ctx   context.Context // of the scenario: whatever it waits for
	life  context.Context // of its guest
	guest *machine

	mu    sync.Mutex
	notes []string
	ends  []func()
}

// AtEnd has something done when the scenario and its guest are over, also after a
// failure.
func (l *Lab) AtEnd(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = append(l.ends, f)
}

// Context ends with the scenario's time.
func (l *Lab) Context() context.Context { return l.ctx }

// Note says a figure or a finding, shown below the scenario's line.
func (l *Lab) Note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes = append(l.notes, fmt.Sprintf(format, args...))
}

// told is what was noted.
func (l *Lab) told() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.notes)
}

// Power starts a guest from its power switch and returns when its agent answers.
// One that runs is cut first.
func (l *Lab) Power(m Machine) error {
	l.Cut()
	overlay := ""
	if m.Root == "" {
		overlay = filepath.Join(l.Dir, "root.qcow2")
		if err := command(l.ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", l.Image.Root, overlay); err != nil {
			return err
		}
	}
	return l.begin(overlay, "", m)
}

func (l *Lab) begin(overlay, snapshot string, m Machine) (err error) {
	if l.guest, err = start(l.life, l.Image, l.Dir, overlay, snapshot, m); err != nil {
		return err
	}
	return l.answers(120 * time.Second)
}

// answers waits for the agent's first word. What it is asked while it is not there
// yet may be lost.
func (l *Lab) answers(limit time.Duration) error {
	return l.Until(limit, "the guest's agent answers", func() (bool, error) {
		ctx, end := context.WithTimeout(l.ctx, time.Second)
		defer end()
		err := l.guest.wire.Call(ctx, "shell", wire.Shell{Script: ":"}, nil)
		if l.Over() {
			return false, fmt.Errorf("the guest has ended: %w", l.guest.err)
		}
		return err == nil, nil
	})
}

// Cut is a power cut: the guest's QEMU is killed. It does nothing where none runs.
func (l *Lab) Cut() {
	if l.guest != nil {
		l.guest.kill()
		l.guest = nil
	}
}

// Over is whether the guest has ended by itself.
func (l *Lab) Over() bool {
	if l.guest == nil {
		return true
	}
	select {
	case <-l.guest.ended:
		return true
	default:
		return false
	}
}

// Uptime is how long ago the guest was switched on, or its snapshot loaded.
func (l *Lab) Uptime() time.Duration { return time.Since(l.guest.began) }

// Call asks the agent for an op and decodes its answer into out, where that is not nil.
func (l *Lab) Call(op string, args, out any) error {
	if l.guest == nil {
		return errors.New(op + ": no guest runs")
	}
	return l.guest.wire.Call(l.ctx, op, args, out)
}

// Sh runs a script in the guest, a minute long at most; what it printed is given
// back, and is part of the error, too.
func (l *Lab) Sh(format string, args ...any) (string, error) {
	script := format
	if len(args) > 0 {
		script = fmt.Sprintf(format, args...)
	}
	var out string
	err := l.Call("shell", wire.Shell{Script: script}, &out)
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", firstLine(script), err, strings.TrimSpace(out))
	}
	return strings.TrimRight(out, "\n"), err
}

// QMP has QEMU do something: see its QMP reference.
func (l *Lab) QMP(command string, args any) error {
	_, err := l.guest.qmp.ask(l.ctx, command, args)
	return err
}

// Until asks again and again until done, or until an error, or until the limit:
// then the error says what did not happen.
func (l *Lab) Until(limit time.Duration, what string, f func() (done bool, err error)) error {
	for end := time.Now().Add(limit); ; {
		done, err := f()
		if done || err != nil {
			return err
		}
		if l.ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, context.Cause(l.ctx))
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %v: %s", limit, what)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// UntilSh is Until for a script that ends with status 0.
func (l *Lab) UntilSh(limit time.Duration, what, script string) error {
	said := ""
	err := l.Until(limit, what, func() (bool, error) {
		out, err := l.Sh("%s", script)
		said = out
		return err == nil, nil
	})
	if err != nil && said != "" {
		err = fmt.Errorf("%w; last: %s", err, said)
	}
	return err
}

// Ready waits until the daemon has told systemd READY.
func (l *Lab) Ready(limit time.Duration) error {
	return l.UntilSh(limit, "chargegated is ready", "systemctl is-active chargegated")
}

// save keeps the guest as it is under a name, and ends it.
func (l *Lab) save(name, to string) error {
	if l.guest == nil || l.guest.overlay == "" {
		return errors.New("there is no guest to keep")
	}
	if err := l.guest.qmp.monitor(l.ctx, "savevm "+name); err != nil {
		return err
	}
	overlay := l.guest.overlay
	l.Cut()
	return os.Rename(overlay, to)
}

// load starts a guest from a copy of what was kept.
func (l *Lab) load(name, from string) error {
	overlay := filepath.Join(l.Dir, "root.qcow2")
	if err := command(l.ctx, "cp", "--sparse=auto", from, overlay); err != nil {
		return err
	}
	return l.begin(overlay, name, Machine{})
}

// artefacts fetches what tells why a scenario failed, from a guest that still runs,
// and says what could not be had.
func (l *Lab) artefacts() error {
	if l.guest == nil {
		return errors.New("no guest ran, so there is no journal")
	}
	if l.Over() {
		return fmt.Errorf("the guest had ended (%w), so there is no journal: see console.log", l.guest.err)
	}
	var errs []error
	for _, a := range []struct{ name, script string }{
		{"journal.log", "journalctl --no-pager -b -o short-monotonic"},
		{"status.log", "chargegate status; ip addr; nft list ruleset; iw dev"},
		{"units.log", "systemctl --no-pager list-units --all; systemctl --no-pager --failed; systemctl list-jobs"},
	} {
		if err := l.artefact(a.name, a.script); err != nil {
			errs = append(errs, fmt.Errorf("%s is not whole: %w", a.name, err))
		}
	}
	return errors.Join(errs...)
}

// artefact keeps what a script prints, however it ends.
func (l *Lab) artefact(name, script string) error {
	ctx, end := context.WithTimeoutCause(l.life, 60*time.Second, errors.New("it took too long"))
	defer end()
	var out string
	// What fails here has told so in what it printed.
	err := l.guest.wire.Call(ctx, "shell", wire.Shell{Script: script + "\ntrue", Timeout: 50 * time.Second}, &out)
	return errors.Join(err, os.WriteFile(filepath.Join(l.Dir, name), []byte(out), 0o644))
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}
