package hostapd_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"chargegate/pkg/hostapd"
)

// A radio is a real hostapd without a radio (driver=none): it speaks, and nobody is
// on it.
type radio struct {
	t      *testing.T
	dir    string
	socket string
	cmd    *exec.Cmd
}

func newRadio(t *testing.T) *radio {
	t.Helper()
	if _, err := exec.LookPath("hostapd"); err != nil {
		t.Skip("hostapd is not installed; test/need test installs it")
	}
	if os.Getuid() != 0 {
		t.Skip("hostapd wants root")
	}
	dir, err := os.MkdirTemp("", "hostapd") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	r := &radio{t: t, dir: dir, socket: filepath.Join(dir, "s", "test0")}
	t.Cleanup(func() { r.kill(); os.RemoveAll(dir) })
	if err := os.WriteFile(r.conf(), []byte("interface=test0\ndriver=none\nctrl_interface="+dir+"/s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	return r
}

func (r *radio) conf() string { return filepath.Join(r.dir, "conf") }

// start runs hostapd and waits until it answers.
func (r *radio) start() {
	r.t.Helper()
	r.cmd = exec.Command("hostapd", r.conf())
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if c, err := hostapd.Dial(r.socket); err == nil {
			_, err = c.Ask(r.t.Context(), "PING")
			c.Close()
			if err == nil {
				return
			}
		}
	}
	r.t.Fatal("hostapd does not answer within ten seconds")
}

// kill ends hostapd without giving it a chance to say goodbye.
func (r *radio) kill() {
	if r.cmd != nil {
		r.cmd.Process.Kill()
		r.cmd.Wait()
		r.cmd = nil
	}
}

func (r *radio) ask(command string) string {
	r.t.Helper()
	c, err := hostapd.Dial(r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	answer, err := c.Ask(r.t.Context(), command)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer
}

// An ear keeps the names of what it hears.
type ear struct{ names []string }

func (e *ear) hear(ev hostapd.Event) bool {
	e.names = append(e.names, ev.Name)
	return ev.Name != hostapd.Terminating
}

func (e *ear) heard(name string) bool {
	for _, n := range e.names {
		if n == name {
			return true
		}
	}
	return false
}

func (r *radio) attach(e *ear) *hostapd.Monitor {
	r.t.Helper()
	m, err := hostapd.Attach(r.t.Context(), r.socket, e.hear)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { m.Close() })
	return m
}

func TestAsking(t *testing.T) {
	t.Parallel()
	r := newRadio(t)
	if got := r.ask("PING"); got != "PONG\n" {
		t.Errorf("PING was answered %q", got)
	}
	if got := hostapd.Values(r.ask("STATUS")); got["state"] != "ENABLED" || got["num_sta[0]"] != "0" {
		t.Errorf("the state is %q with %q stations, want ENABLED with none", got["state"], got["num_sta[0]"])
	}
	c, err := hostapd.Dial(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for command, want := range map[string]error{"LEVEL 2": hostapd.ErrFailed, "FLY": hostapd.ErrUnknown} {
		if _, err := c.Ask(t.Context(), command); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", command, err, want)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	if _, err := hostapd.Dial(filepath.Join(t.TempDir(), "wlan0")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that it does not exist", err)
	}
}

func TestEventsAreHeard(t *testing.T) {
	t.Parallel()
	r := newRadio(t)
	var e ear
	m := r.attach(&e)
	r.ask("DISABLE")
	r.ask("ENABLE")
	if err := m.Listen(t.Context(), 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if !e.heard(hostapd.Disabled) || !e.heard(hostapd.Enabled) {
		t.Errorf("heard %q, want that the radio went off and on", e.names)
	}

	// What comes between a question and its answer is heard as well.
	e.names = nil
	if _, err := m.Ask(t.Context(), "DISABLE"); err != nil {
		t.Fatal(err)
	}
	if !e.heard(hostapd.Disabled) {
		t.Errorf("heard %q while asking, want that the radio went off", e.names)
	}
	if status, err := m.Ask(t.Context(), "STATUS"); err != nil || hostapd.Values(status)["state"] != "DISABLED" {
		t.Errorf("the status is %q, %v; want DISABLED", status, err)
	}
	if err := m.Attached(t.Context()); err != nil {
		t.Errorf("still attached, and yet: %v", err)
	}
}

func TestHostapdStartedAnew(t *testing.T) {
	t.Parallel()
	r := newRadio(t)
	var e ear
	m := r.attach(&e)
	r.kill()
	if err := m.Attached(t.Context()); err == nil {
		t.Error("hostapd was killed, and it counts as there")
	}
	r.start()
	if err := m.Attached(t.Context()); err == nil {
		t.Error("hostapd was started anew, and the old socket counts as attached")
	}
	m = r.attach(&e)
	r.ask("DISABLE")
	if err := m.Listen(t.Context(), 100*time.Millisecond); err != nil || !e.heard(hostapd.Disabled) {
		t.Errorf("heard %q, %v; want that the radio went off", e.names, err)
	}

	// One that ends in order says so.
	r.cmd.Process.Signal(syscall.SIGTERM)
	began := time.Now()
	if err := m.Listen(t.Context(), 10*time.Second); err != nil || !e.heard(hostapd.Terminating) {
		t.Errorf("heard %q, %v; want that hostapd ends", e.names, err)
	}
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("listened for %v, though one had heard enough", took)
	}
}

func TestHangingHostapdIsFoundOut(t *testing.T) {
	t.Parallel()
	r := newRadio(t)
	var e ear
	m := r.attach(&e)
	r.cmd.Process.Signal(syscall.SIGSTOP)
	defer r.cmd.Process.Signal(syscall.SIGCONT)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := m.Attached(ctx); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v, want that the time is over", err)
	}
}

func TestListeningEnds(t *testing.T) {
	t.Parallel()
	r := newRadio(t)
	var e ear
	m := r.attach(&e)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := m.Listen(ctx, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was called off", err)
	}
}

// hostapd waits for whoever does not read: that is why nothing here may wait. When
// the one that hangs is gone it goes on by itself.
func TestWhoDoesNotReadHoldsHostapdUp(t *testing.T) {
	t.Parallel()
	r := newRadio(t)
	var e ear
	m := r.attach(&e)
	c, err := hostapd.Dial(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	toggled, held := 0, false
	for ; toggled < 1000 && !held; toggled++ {
		command := "DISABLE"
		if toggled%2 == 1 {
			command = "ENABLE"
		}
		_, err := c.Ask(t.Context(), command)
		held = errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !held {
			t.Fatal(err)
		}
	}
	if !held {
		t.Skip("this hostapd does not wait for who does not read")
	}
	if toggled < 50 {
		t.Errorf("hostapd was held up by %d events, which is fewer than a busy minute has", toggled)
	}
	m.Close()
	if got := r.ask("PING"); !strings.HasPrefix(got, "PONG") {
		t.Errorf("PING was answered %q", got)
	}
}
