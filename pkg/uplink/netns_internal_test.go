package uplink

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// insideEnv marks the test binary that runs in a network namespace of its own.
const insideEnv = "CHARGEGATE_UPLINK_INSIDE"

// The kernel itself, in a namespace that ends with the test.
func TestInNamespace(t *testing.T) {
	if os.Getenv(insideEnv) != "" {
		t.Skip("inside already")
	}
	unshare := []string{"--net"}
	if os.Getuid() != 0 {
		unshare = append(unshare, "--user", "--map-root-user")
	}
	if out, err := exec.Command("unshare", append(unshare, "ip", "link", "add", "probe", "type", "veth", "peer", "name", "probe2")...).CombinedOutput(); err != nil {
		t.Skipf("no namespaces with veth here: %v: %s", err, out)
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

// TestInside is the body of TestInNamespace: each step changes one thing, as a
// technician or a router would.
func TestInside(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		t.Skip("runs in a namespace, by TestInNamespace")
	}
	for _, step := range []struct{ do, missing, address string }{
		{"true", "no such interface", ""},
		{"ip link add eth0 type veth peer name router", "switched off", ""},
		{"ip link set eth0 up", "no cable", ""},
		{"ip link set router up", "no address", ""},
		{"ip address add 169.254.7.7/16 dev eth0 scope link", "no address", ""},
		{"ip address add 203.0.113.2/24 dev eth0", "no default route", "203.0.113.2"},
		{"ip route add 198.51.100.0/24 via 203.0.113.1", "no default route", "203.0.113.2"},
		{"ip route add blackhole default metric 9999", "no default route", "203.0.113.2"},
		{"ip route add default via 203.0.113.1", "", "203.0.113.2"},
		{"ip link set router down", "no cable", "203.0.113.2"},
		{"ip link set router up", "", "203.0.113.2"},
		{"ip link set eth0 down", "switched off", "203.0.113.2"},
		{"ip link set eth0 up", "no default route", "203.0.113.2"},
		{"ip link add eth1 type veth peer name router1; ip link set router1 up; ip link set eth1 up; ip address add 192.0.2.2/24 dev eth1; ip route add default via 192.0.2.1",
			"no default route; it leads over eth1", "203.0.113.2"},
		{"ip route replace default nexthop via 192.0.2.1 nexthop via 203.0.113.1", "", "203.0.113.2"},
		{"ip address del 203.0.113.2/24 dev eth0", "no address", ""},
		{"ip link del eth0", "no such interface", ""},
		{"ip link add eth0 type veth peer name router; ip link set eth0 up; ip link set router up; " +
			"ip address add 2001:db8::2/64 dev eth0 nodad; ip -6 route add default via 2001:db8::1 dev eth0", "", "2001:db8::2"},
	} {
		if out, err := exec.Command("sh", "-ec", step.do).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", step.do, err, out)
		}
		deadline := time.Now().Add(5 * time.Second) // the kernel tells of a carrier a moment later
		for {
			v, err := look("eth0")
			if err != nil {
				t.Fatal(err)
			}
			missing, _ := judge("eth0", v)
			address := ""
			if a := v.address(); a.IsValid() {
				address = a.String()
			}
			if missing == step.missing && address == step.address {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("after %s: missing %q at %q, want %q at %q", step.do, missing, address, step.missing, step.address)
			}
		}
	}
}
