package render_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"chargegate/pkg/render"
)

// inside is set for the test binary that runs in namespaces of its own.
const inside = "CHARGEGATE_RENDER_INSIDE"

// apart starts this test again in user, network, mount and process namespaces
// of its own, which end with it. It returns true in there.
func apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		return true
	}
	args := []string{"--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if os.Getuid() != 0 { // root needs no user namespace, and within a chroot may not make one
		args = append(args, "--user", "--map-root-user")
	}
	for _, tool := range []string{"unshare", "nft", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("without %s there is nothing to try: %v", tool, err)
		}
	}
	if out, err := exec.Command("unshare", append(args, "true")...).CombinedOutput(); err != nil {
		t.Skipf("namespaces are not allowed here: %v %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", append(args, self, "-test.v", "-test.run=^"+t.Name()+"$")...)
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("inside: %v\n%s", err, out)
	} else {
		t.Logf("inside:\n%s", out)
	}
	return false
}

func command(t *testing.T, line string) string {
	t.Helper()
	words := strings.Fields(line)
	out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// loadRules writes the ruleset of a configuration and lets the real nft check
// and load it, twice: the second time it replaces itself.
func loadRules(t *testing.T, text string) {
	t.Helper()
	dir := t.TempDir()
	if _, err := render.Write(dir, files(t, text)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "nftables.conf")
	command(t, "nft -c -f "+path)
	command(t, "nft -f "+path)
	command(t, "nft -f "+path)
}

func TestRulesetIsTakenByTheRealNft(t *testing.T) {
	if !apart(t) {
		return
	}
	for _, text := range []string{small, wide, strings.Replace(small, "chargers = 4", "chargers = 1000", 1)} {
		loadRules(t, text)
		list := command(t, "nft list ruleset")
		if strings.Count(list, "\ntable ")+strings.Count(list[:6], "table ") != 2 || !strings.Contains(list, "redirect to :18443") || strings.Count(list, "policy drop") != 2 {
			t.Errorf("nft understood something else:\n%s", list)
		}
	}
}

// The garage of TestFirewallRefusesAtOnce:
//
//	charger 10.83.0.5 --- eth1 10.83.0.1 [this namespace] eth0 192.168.1.20 --- world 192.168.1.1
func garage(t *testing.T) {
	t.Helper()
	command(t, "mount -t tmpfs run /run")
	for _, line := range []string{
		"ip link set lo up", "ip netns add charger", "ip netns add world",
		"ip link add eth1 type veth peer name c0 netns charger", "ip link add eth0 type veth peer name w0 netns world",
		"ip addr add 10.83.0.1/26 dev eth1", "ip addr add 192.168.1.20/24 dev eth0",
		"ip link set eth1 up", "ip link set eth0 up", "ip route add default via 192.168.1.1",
		"ip -n charger addr add 10.83.0.5/26 dev c0", "ip -n charger addr add 198.51.100.7/32 dev c0",
		"ip -n charger link set c0 up", "ip -n charger link set lo up", "ip -n charger route add default via 10.83.0.1",
		"ip -n world addr add 192.168.1.1/24 dev w0", "ip -n world addr add 203.0.113.9/32 dev w0",
		"ip -n world link set w0 up", "ip -n world link set lo up", "ip -n world route add 10.83.0.0/26 via 192.168.1.20",
	} {
		command(t, line)
	}
	forwarding(t, "0")
	// As sysctl.d has it: the firewall limits refusals itself.
	if err := os.WriteFile("/proc/sys/net/ipv4/icmp_ratelimit", []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func forwarding(t *testing.T, on string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte(on), 0o644); err != nil {
		t.Fatal(err)
	}
}

// in runs f in a named network namespace: sockets that it makes belong there.
func in(t *testing.T, ns string, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	there, err := os.Open("/run/netns/" + ns)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // the thread is lost
		}
	}()
	f()
}

// serve listens as the rooms would, and answers "here ADDRESS".
func serve(t *testing.T) {
	t.Helper()
	for _, addr := range []string{"10.83.0.1:53", "10.83.0.1:18443", "0.0.0.0:22"} {
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintf(c, "here %s", addr)
				c.Close()
			}
		}()
	}
	serveNames(t)
}

// serveNames is serve for what comes in single datagrams.
func serveNames(t *testing.T) {
	t.Helper()
	for _, addr := range []string{"10.83.0.1:53", "10.83.0.1:123"} {
		pc, err := net.ListenPacket("udp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pc.Close() })
		go func() {
			buf := make([]byte, 100)
			for {
				_, from, err := pc.ReadFrom(buf)
				if err != nil {
					return
				}
				pc.WriteTo([]byte("here "+addr), from)
			}
		}()
	}
}

// echo is an ICMP echo request (RFC 792) with its checksum.
var echo = []byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1}

// ask sends something and returns what comes back: the first bytes, or a word
// for how it was refused.
func ask(network, local, remote string) string {
	d := net.Dialer{Timeout: time.Second}
	if local != "" && strings.HasPrefix(network, "tcp") {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
	} else if local != "" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(local)}
	}
	c, err := d.Dial(network, remote)
	if err != nil {
		return word(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	if !strings.HasPrefix(network, "tcp") {
		if _, err := c.Write(echo); err != nil {
			return word(err)
		}
	}
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	switch {
	case err != nil:
		return word(err)
	case strings.HasPrefix(network, "ip") && n >= 28:
		// An IPv4 header, and the ICMP type and code behind it.
		buf = buf[int(buf[0]&15)*4:]
		return fmt.Sprintf("icmp %d/%d", buf[0], buf[1])
	}
	return string(buf[:n])
}

func word(err error) string {
	var ne net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "reset"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "prohibited"
	case errors.As(err, &ne) && ne.Timeout():
		return "silence"
	}
	return err.Error()
}

// A way is one thing that somebody tries, and what becomes of it.
type way struct{ what, from, network, local, remote, want string }

var ways = []way{
	{"DNS at the gateway", "charger", "udp4", "", "10.83.0.1:53", "here 10.83.0.1:53"},
	{"DNS anywhere else", "charger", "udp4", "", "8.8.8.8:53", "here 10.83.0.1:53"},
	{"DNS over TCP at the gateway", "charger", "tcp4", "", "10.83.0.1:53", "here 10.83.0.1:53"},
	{"DNS over TCP anywhere else", "charger", "tcp4", "", "1.1.1.1:53", "here 10.83.0.1:53"},
	{"the time at the gateway", "charger", "udp4", "", "10.83.0.1:123", "here 10.83.0.1:123"},
	{"the time anywhere else", "charger", "udp4", "", "203.0.113.9:123", "here 10.83.0.1:123"},
	{"the cloud", "charger", "tcp4", "", "203.0.113.9:8883", "here 10.83.0.1:18443"},
	{"the API", "charger", "tcp4", "", "203.0.113.9:443", "here 10.83.0.1:18443"},
	{"the gateway on an allowed port", "charger", "tcp4", "", "10.83.0.1:443", "here 10.83.0.1:18443"},
	{"a ping of the gateway", "charger", "ip4:icmp", "", "10.83.0.1", "icmp 0/0"},

	{"the proxy itself", "charger", "tcp4", "", "10.83.0.1:18443", "reset"},
	{"another port", "charger", "tcp4", "", "203.0.113.9:80", "reset"},
	{"the gateway's ssh", "charger", "tcp4", "", "10.83.0.1:22", "reset"},
	{"the gateway's ssh at its other address", "charger", "tcp4", "", "192.168.1.20:22", "reset"},
	{"QUIC", "charger", "udp4", "", "203.0.113.9:443", "prohibited"},
	{"the gateway on another port", "charger", "udp4", "", "10.83.0.1:161", "reset or prohibited"},
	{"a ping beyond the gateway", "charger", "ip4:icmp", "", "203.0.113.9", "prohibited"},
	{"the uplink's neighbours", "charger", "tcp4", "", "192.168.1.1:22", "reset"},
	{"the cloud with a forged source", "charger", "tcp4", "198.51.100.7", "203.0.113.9:443", "silence"},
	{"DNS with a forged source", "charger", "udp4", "198.51.100.7", "10.83.0.1:53", "silence"},

	{"what the site allows", "world", "tcp4", "", "192.168.1.20:22", "here 0.0.0.0:22"},
	{"the proxy from outside", "world", "tcp4", "", "192.168.1.20:18443", "reset"},
	{"the gateway's DNS from outside", "world", "udp4", "", "10.83.0.1:53", "prohibited"},
	{"the gateway's proxy from outside", "world", "tcp4", "", "10.83.0.1:18443", "reset"},
	{"a charger from outside", "world", "tcp4", "", "10.83.0.5:80", "reset"},
	{"a ping from outside", "world", "ip4:icmp", "", "192.168.1.20", "prohibited"},
}

func (w way) try(t *testing.T) {
	in(t, w.from, func() {
		began := time.Now()
		got := ask(w.network, w.local, w.remote)
		if !strings.Contains(w.want, got) || got == "" {
			t.Errorf("%s %s: got %q, want %q", w.network, w.remote, got, w.want)
		}
		if took := time.Since(began); w.want != "silence" && took > 500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

func TestFirewallRefusesAtOnce(t *testing.T) {
	if !apart(t) {
		return
	}
	garage(t)
	loadRules(t, strings.Replace(small, "[uplink]", "[uplink]\nallow = [\"ssh\"]", 1))
	serve(t)
	for _, w := range ways {
		t.Run(w.what, w.try)
	}
	// Nothing changes when somebody turns forwarding on.
	forwarding(t, "1")
	for _, w := range ways {
		t.Run(w.what+", forwarding", w.try)
	}
	list := command(t, "nft list chain inet chargegate source")
	if strings.Contains(list, `counter packets 0 bytes 0 drop comment "P1: source is not of this network"`) {
		t.Errorf("forged sources were not counted:\n%s", list)
	}
}

func TestFirewallIsNoWeapon(t *testing.T) {
	if !apart(t) {
		return
	}
	garage(t)
	loadRules(t, small)
	in(t, "charger", func() {
		resets := 0
		for range 300 {
			d := net.Dialer{Timeout: 20 * time.Millisecond}
			if _, err := d.Dial("tcp4", "203.0.113.9:80"); errors.Is(err, syscall.ECONNREFUSED) {
				resets++
			}
		}
		// 50 at once, then 20 a second; each of the others took 20 ms.
		if resets < 50 || resets > 200 {
			t.Errorf("%d of 300 were answered", resets)
		}
	})
}
