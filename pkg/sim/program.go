package sim

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A Program is a real program that runs in the garage until it is stopped.
type Program struct {
	Name string
	// File is where everything that it says is kept.
	File  string
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // valid after ended
}

// debian names the package that brings each program, for whoever lacks it.
var debian = map[string]string{
	"chronyd": "chrony", "chronyc": "chrony", "mosquitto": "mosquitto", "mosquitto_sub": "mosquitto-clients",
	"mosquitto_pub": "mosquitto-clients", "nft": "nftables", "udhcpc": "udhcpc", "dhclient": "isc-dhcp-client",
	"dhcpcd": "dhcpcd-base", "dig": "bind9-dnsutils", "busybox": "busybox", "openssl": "openssl",
	"kdig": "knot-dnsutils", "drill": "ldnsutils", "gcc": "gcc", "musl-gcc": "musl-tools",
	"gnutls-cli": "gnutls-bin", "curl": "curl", "ip": "iproute2", "ping": "iputils-ping",
	"ntpdig": "ntpsec-ntpdig", "perfdhcp": "kea-admin", "dbus-daemon": "dbus-daemon",
	"networkctl": "systemd", "/usr/lib/systemd/systemd-networkd": "systemd",
	"dnsmasq": "dnsmasq-base", "kea-dhcp4": "kea-dhcp4-server", "strace": "strace", "unbound": "unbound", "nginx": "nginx", "haproxy": "haproxy", "perf": "linux-perf",
}

// Find returns the path of a program, also where an ordinary user's PATH does
// not look. The error names the Debian package that brings it.
func Find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	if pkg := debian[name]; pkg != "" {
		return "", fmt.Errorf("%s is missing: apt-get install %s", name, pkg)
	}
	return "", fmt.Errorf("%s is missing", name)
}

// launch starts cmd in the namespace, keeps what it says in a file of its name
// and waits for its end in the background.
func (s *Space) launch(name string, cmd *exec.Cmd, d disguise) (*Program, error) {
	p := &Program{Name: name, File: filepath.Join(Dir, name+".log"), cmd: cmd, ended: make(chan struct{})}
	out, err := os.OpenFile(p.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := d.wear(cmd); err != nil {
		return nil, err
	}
	if err := s.start(cmd); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Stop asks the program to end, waits three seconds, ends it, and waits.
func (p *Program) Stop() {
	if p == nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(3 * time.Second):
		p.Kill()
	}
}

// Kill ends the program as a crash would, and waits for its end.
func (p *Program) Kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// Signal sends a signal to the program.
func (p *Program) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Ended is closed when the program has ended.
func (p *Program) Ended() <-chan struct{} { return p.ended }

// Exit is how the program ended, as a shell would say it. It waits for the end.
func (p *Program) Exit() int {
	<-p.ended
	return exitCode(p.err)
}

// Said returns everything that the program has said so far.
func (p *Program) Said() string {
	text, err := os.ReadFile(p.File)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Last returns the last n lines that the program has said.
func (p *Program) Last(n int) string {
	lines := strings.Split(strings.TrimRight(p.Said(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// waitFor asks again and again until ok is true, the program has ended, or ctx
// is done. p may be nil.
func waitFor(ctx context.Context, what string, p *Program, ok func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var ended <-chan struct{}
	if p != nil {
		ended = p.ended
	}
	for !ok() {
		select {
		case <-tick.C:
		case <-ended:
			return fmt.Errorf("waiting for %s: %s ended with %d; its last words:\n%s", what, p.Name, p.Exit(), p.Last(10))
		case <-ctx.Done():
			last := ""
			if p != nil {
				last = fmt.Sprintf("; last words of %s:\n%s", p.Name, p.Last(10))
			}
			return fmt.Errorf("waiting for %s: %w%s", what, ctx.Err(), last)
		}
	}
	return nil
}

// Run runs a real program in the namespace until it ends or ctx is done, and
// returns everything that it printed.
func (s *Space) Run(ctx context.Context, name string, args ...string) (string, error) {
	cmd, err := command(name, args...)
	if err != nil {
		return "", err
	}
	return s.output(ctx, cmd)
}

// Launch starts a real program in the namespace that runs until it is stopped.
func (s *Space) Launch(name string, args ...string) (*Program, error) {
	cmd, err := command(name, args...)
	if err != nil {
		return nil, err
	}
	return s.launch(s.Name+"-"+name, cmd, disguise{})
}
