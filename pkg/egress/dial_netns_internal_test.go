package egress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The dialler in a network of its own: what the kernel says is this box, whatever
// its uplink's lease has made of it.
func TestOwnAddressesInNamespace(t *testing.T) {
	if inside() {
		t.Skip("inside already")
	}
	unshare := []string{"--net", "--mount"}
	if os.Getuid() != 0 {
		unshare = append(unshare, "--user", "--map-root-user")
	}
	if out, err := exec.Command("unshare", append(unshare, "ip", "link", "add", "probe", "type", "veth")...).CombinedOutput(); err != nil {
		t.Skipf("no namespaces here: %v: %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", append(unshare, os.Args[0], "-test.run=^TestInsideOwnAddresses$", "-test.v")...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: TestInsideOwnAddresses") {
		t.Error(err)
	}
}

// TestInsideOwnAddresses is the body of TestOwnAddressesInNamespace.
//
//	gateway (192.168.1.50, 203.0.113.2, .3) ---eth0--- the building's network (192.168.1.1)
func TestInsideOwnAddresses(t *testing.T) {
	if !inside() {
		t.Skip("runs within TestOwnAddressesInNamespace")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	gw, building := unix.Gettid(), newSpace(t)
	sh(t, gw, fmt.Sprintf(`
ip link set lo up
ip link add eth0 type veth peer name lan0
ip link set lan0 netns /proc/%[1]d/task/%[2]d/ns/net
ip addr add 192.168.1.50/24 brd + dev eth0
ip addr add 203.0.113.2/24 brd + dev eth0
ip addr add 203.0.113.3/24 brd + dev eth0
ip link set eth0 up
ip route add local 192.0.2.64/26 dev lo
ip route add prohibit 198.51.100.66/32
`, os.Getpid(), building.tid))
	sh(t, building.tid, "ip link set lo up; ip addr add 192.168.1.1/24 dev lan0; ip addr add 203.0.113.1/24 dev lan0; ip link set lan0 up")
	building.within(func() {
		newBackend(t, "192.168.1.1:443", echo)
		newBackend(t, "203.0.113.1:443", echo)
	})

	n := &names{addrs: map[string][]netip.Addr{}}
	d := newDialler(Config{
		DialTimeout: 2 * time.Second, AttemptTimeout: time.Second,
		Networks: []netip.Prefix{netip.MustParsePrefix("10.83.0.0/24")},
		Listen:   []netip.AddrPort{netip.MustParseAddrPort("10.83.0.1:18443")},
	}, n)
	dial := func(to string, rule ...netip.Prefix) string {
		t.Helper()
		n.resolve(apiName, netip.MustParseAddr(to))
		conn, err := d.dial(t.Context(), apiName, 443, rule)
		if err == nil {
			defer conn.Close()
			return "connected to " + conn.RemoteAddr().String()
		}
		var de *dialError
		if !errors.As(err, &de) {
			return err.Error()
		}
		return de.cause + ": " + de.Error()
	}
	office := netip.MustParsePrefix("192.168.0.0/16")
	for _, tt := range []struct {
		to   string
		rule []netip.Prefix
		want string
	}{
		{"203.0.113.1", nil, "connected to 203.0.113.1:443"},
		{"203.0.113.2", nil, "address: 203.0.113.2 is this box"},
		{"203.0.113.3", nil, "address: 203.0.113.3 is this box"}, // the second of a subnet has another one's source
		{"203.0.113.255", nil, "address: 203.0.113.255 is not the address of a single host"},
		{"192.0.2.70", nil, "address: 192.0.2.70 is this box"},
		{"192.168.1.1", nil, "address: 192.168.1.1 is private and the rule does not name it"},
		{"192.168.1.1", []netip.Prefix{office}, "connected to 192.168.1.1:443"},
		{"192.168.1.50", nil, "address: 192.168.1.50 is this box"},
		{"192.168.1.50", []netip.Prefix{office}, "address: 192.168.1.50 is this box"},
		{"192.168.1.255", []netip.Prefix{office}, "address: 192.168.1.255 is not the address of a single host"},
		{"10.83.0.9", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, "address: 10.83.0.9 is in the chargers' network 10.83.0.0/24"},
		{"169.254.169.254", []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, "address: 169.254.169.254 is a link-local address"},
		{"198.51.100.5", nil, "tcp: there is no way to 198.51.100.5 (network is unreachable)"},
		{"198.51.100.66", nil, "tcp: there is no way to 198.51.100.66 (permission denied)"},
	} {
		if got := dial(tt.to, tt.rule...); got != tt.want {
			t.Errorf("%s with %v: %q, want %q", tt.to, tt.rule, got, tt.want)
		}
	}
	// The uplink's lease changes: what was somebody else a moment ago is this box.
	sh(t, gw, "ip addr add 203.0.113.77/24 dev eth0")
	if got, want := dial("203.0.113.77"), "address: 203.0.113.77 is this box"; got != want {
		t.Errorf("a new address: %q, want %q", got, want)
	}
	sh(t, gw, "ip addr del 203.0.113.77/24 dev eth0")
	if got := dial("203.0.113.77"); strings.Contains(got, "this box") {
		t.Errorf("an address that is gone: %q", got)
	}
	// A closed port of a machine that is there.
	n.resolve(apiName, netip.MustParseAddr("203.0.113.1"))
	if _, err := d.dial(t.Context(), apiName, 444, nil); err == nil || err.Error() != "203.0.113.1 refused the connection" {
		t.Errorf("a closed port: %v", err)
	}
	// The cable is pulled.
	if hasWayOut() {
		t.Error("a way out without a default route")
	}
	sh(t, gw, "ip route add default via 203.0.113.1")
	if !hasWayOut() {
		t.Error("no way out with a default route")
	}
	sh(t, building.tid, "ip link set lan0 down")
	eventually(t, "the link to be gone", func() bool { return !hasWayOut() })
	sh(t, building.tid, "ip link set lan0 up")
	eventually(t, "the link to be back", hasWayOut)
	sh(t, gw, "ip link set eth0 down")
	if hasWayOut() {
		t.Error("a way out without an interface")
	}
	if got := dial("203.0.113.1"); got != "tcp: there is no way to 203.0.113.1 (network is unreachable)" {
		t.Errorf("without an uplink: %q", got)
	}
}
