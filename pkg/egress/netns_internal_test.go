package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// insideEnv marks the test binary that runs in namespaces of its own.
const insideEnv = "CHARGEGATE_EGRESS_INSIDE"

func inside() bool { return os.Getenv(insideEnv) != "" }

// The whole room behind a real redirect, with nothing injected.
func TestInNamespace(t *testing.T) {
	if inside() {
		t.Skip("inside already")
	}
	unshare := []string{"--net", "--mount"}
	if os.Getuid() != 0 {
		unshare = append(unshare, "--user", "--map-root-user")
	}
	probe := append(append([]string{}, unshare...), "nft", "add table inet probe")
	if out, err := exec.Command("unshare", probe...).CombinedOutput(); err != nil {
		t.Skipf("no namespaces with nftables here: %v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", append(unshare, os.Args[0], "-test.run=^TestInside$", "-test.v")...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: TestInside") {
		t.Error(err)
	}
}

// A space is a network namespace with a thread in it.
type space struct {
	do  chan func()
	tid int
}

// newSpace makes a namespace that lives as long as the test.
func newSpace(t *testing.T) *space {
	t.Helper()
	s := &space{do: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		_, err := netns.New()
		s.tid = unix.Gettid()
		made <- err
		for f := range s.do {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(s.do) })
	return s
}

// within runs f on the thread of the space: sockets made there are in it.
func (s *space) within(f func()) {
	done := make(chan struct{})
	s.do <- func() { defer close(done); f() }
	<-done
}

// sh runs commands, one on each line, in the namespace of the thread tid.
func sh(t *testing.T, tid int, lines string) {
	t.Helper()
	cmd := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/task/%d/ns/net", os.Getpid(), tid), "sh", "-ec", lines)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", lines, err, out)
	}
}

const redirect = `
table inet gate {
	chain nat { type nat hook prerouting priority dstnat; policy accept;
		iifname "wlan0" ip saddr 10.83.0.0/24 tcp dport { 443, 8883 } redirect to :18443
	}
}
`

// TestInside is the body of TestInNamespace.
//
//	site (10.83.0.57) ---wlan0--- gateway (10.83.0.1; 203.0.113.2) ---eth0--- cloud (198.51.100.5)
func TestInside(t *testing.T) {
	if !inside() {
		t.Skip("runs within TestInNamespace")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	gw := unix.Gettid()
	site, cloud := newSpace(t), newSpace(t)
	sh(t, gw, fmt.Sprintf(`
ip link set lo up
ip link add wlan0 type veth peer name site0
ip link add eth0 type veth peer name cloud0
ip link set site0 netns /proc/%[1]d/task/%[2]d/ns/net
ip link set cloud0 netns /proc/%[1]d/task/%[3]d/ns/net
ip addr add 10.83.0.1/24 dev wlan0
ip addr add 203.0.113.2/24 dev eth0
ip link set wlan0 up
ip link set eth0 up
ip route add default via 203.0.113.1
nft -f - <<'EOF'
%[4]s
EOF`, os.Getpid(), site.tid, cloud.tid, redirect))
	sh(t, site.tid, "ip link set lo up; ip addr add 10.83.0.57/24 dev site0; ip link set site0 up; ip route add default via 10.83.0.1")
	sh(t, cloud.tid, "ip link set lo up; ip addr add 203.0.113.1/24 dev cloud0; ip addr add 198.51.100.5/32 dev lo; ip link set cloud0 up")

	server, roots := authority(t, apiName)
	cloud.within(func() { newBackend(t, "198.51.100.5:443", tlsEcho(server)) })

	// The gateway, with nothing replaced.
	h := newHouse(t, 443, func(c *Config, _ *[]policy.Rule) {
		c.Listen = []netip.AddrPort{netip.MustParseAddrPort("10.83.0.1:18443")}
		c.Networks = []netip.Prefix{netip.MustParsePrefix("10.83.0.0/24")}
	})
	real := newDialler(h.cfg, h.names)
	h.original, h.dialler = originalDestination, real
	h.names.resolve(apiName, netip.MustParseAddr("198.51.100.5"))
	h.book.Leased(p107, "P1", netip.MustParseAddr("10.83.0.57"), true, time.Now())
	if err := h.Listen(); err != nil {
		t.Fatal(err)
	}
	// Dialling happens on threads that the runtime chooses. All but the two
	// locked ones are in the gateway's namespace.
	h.open()

	dial := func(to string) (conn net.Conn, err error) {
		site.within(func() { conn, err = net.DialTimeout("tcp4", to, patient) })
		if err == nil {
			deadline(t, conn)
			t.Cleanup(func() { conn.Close() })
		}
		return conn, err
	}
	talk := func(to, name string) error {
		conn, err := dial(to)
		if err != nil {
			return err
		}
		c := tls.Client(conn, &tls.Config{ServerName: name, RootCAs: roots})
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		got := make([]byte, 5)
		_, err = io.ReadFull(c, got)
		if err == nil && !bytes.Equal(got, []byte("hello")) {
			err = fmt.Errorf("heard %q", got)
		}
		return err
	}
	// An allowed name, whatever address the charger dials for it.
	for _, to := range []string{"198.51.100.5:443", "192.0.2.99:443", "10.83.0.1:443"} {
		if err := talk(to, apiName); err != nil {
			t.Errorf("%s at %s: %v", apiName, to, err)
		}
	}
	// Another name, and an allowed one on the wrong port.
	for _, c := range []struct{ to, name string }{{"198.51.100.5:443", "evil.example"}, {"198.51.100.5:8883", apiName}} {
		if err := talk(c.to, c.name); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%s at %s: %v, want unrecognized name", c.name, c.to, err)
		}
	}
	// Without a name: by the address it asked for.
	h.names.remember(netip.MustParseAddr("198.51.100.5"), apiName)
	conn, err := dial("198.51.100.5:443")
	if err != nil {
		t.Fatal(err)
	}
	nameless := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: apiName})
		return err
	}})
	if err := nameless.Handshake(); err != nil {
		t.Errorf("without a name: %v", err)
	}
	// The proxy itself.
	if conn, err = dial("10.83.0.1:18443"); err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the proxy itself: %v, want a reset", err)
	}
	h.says(event.EgressDirectRefused)
	// A name that leads into the house: the gateway's address on the uplink,
	// which the configuration does not know.
	h.names.resolve(apiName, netip.MustParseAddr("203.0.113.2"))
	l, err := net.Listen("tcp4", "203.0.113.2:443")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := talk("198.51.100.5:443", apiName); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a name that leads to this box: %v, want a reset", err)
	}
	if r := h.says(event.EgressUnreachable); !strings.Contains(r.Message, "203.0.113.2 is this box") {
		t.Errorf("said %q", r.Message)
	}
	// openssl, whose idea of TLS is not ours.
	if _, err := exec.LookPath("openssl"); err == nil {
		cmd := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/task/%d/ns/net", os.Getpid(), site.tid),
			"openssl", "s_client", "-connect", "198.51.100.5:443", "-servername", "evil.example")
		out, _ := cmd.CombinedOutput()
		if !strings.Contains(string(out), "unrecognized name") {
			t.Errorf("openssl was told:\n%s", out)
		}
	}
}
