package denied

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/event"

	"go.uber.org/goleak"
)

// insideEnv marks the test binary that runs in namespaces of its own.
const insideEnv = "CHARGEGATE_DENIED_INSIDE"

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// serve runs the room until stop, which expects a clean end.
func serve(t *testing.T, s *Server) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	return func() {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Serve did not end")
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// In a network namespace of its own, with a real interface and a real filter.
func TestInNamespace(t *testing.T) {
	if os.Getenv(insideEnv) != "" {
		t.Skip("inside already")
	}
	unshare := []string{"--net", "--mount"}
	if os.Getuid() != 0 {
		unshare = append(unshare, "--user", "--map-root-user")
	}
	if out, err := exec.Command("unshare", append(unshare, "true")...).CombinedOutput(); err != nil {
		t.Skipf("no namespaces here: %v: %s", err, out)
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

// TestInside is the body of TestInNamespace.
//
//	wlan0 (10.83.0.1/24, the room) ---veth--- site0 (frames are written here)
func TestInside(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		t.Skip("runs within TestInNamespace")
	}
	run := func(line string) {
		t.Helper()
		args := strings.Fields(line)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	up := func() {
		t.Helper()
		run("ip link add wlan0 address 02:00:00:00:00:01 type veth peer name site0")
		run("ip addr add 10.83.0.1/24 dev wlan0")
		run("ip link set wlan0 up")
		run("ip link set site0 up")
	}
	up()
	h := newHouse(Config{Networks: []Network{p1}, Ports: ports})
	if err := h.Listen(); err != nil {
		t.Fatal(err)
	}
	stop := serve(t, h.Server)
	defer stop()
	refusals := func() (got []string) {
		for _, r := range h.log.Recent(0, "P1-07") {
			if r.Kind == event.DeniedRefused {
				got = append(got, r.Field("WHAT"))
			}
		}
		return got
	}
	write := func(frames ...[]byte) {
		t.Helper()
		if err := inject("site0", frames...); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the watch", h.watches[0].seeing.Load)
	// What the gateway sends itself, to the same port, is not refused to anybody.
	own, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.83.0.99:443")))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	_, _ = own.Write([]byte("x"))
	write(tcp(me, foreign, 443, flagSYN), udp(me, "8.8.8.8", 53), udp(me, foreign, 443))
	eventually(t, "the refusal", func() bool { return len(refusals()) == 1 })
	if got := refusals(); got[0] != "UDP port 443 of 192.0.2.1" {
		t.Errorf("said %q", got)
	}
	if n := h.watches[0].frames.Load(); n > 20 {
		t.Errorf("%d frames came through the filter", n)
	}

	// The interface goes and comes back as another one.
	run("ip link del wlan0")
	eventually(t, "the loss", func() bool { return !h.watches[0].seeing.Load() })
	up()
	eventually(t, "the return", h.watches[0].seeing.Load)
	write(udp(me, foreign, 80))
	eventually(t, "the next refusal", func() bool { return len(refusals()) == 2 })

	// A flood is looked at in part, and counted.
	flood := make([][]byte, 20000)
	for i := range flood {
		flood[i] = udp(me, foreign, uint16(1000+i))
	}
	before := h.watches[0].frames.Load()
	write(flood...)
	eventually(t, "the count of the flood", func() bool { return h.watches[0].missed.Load() > 0 })
	if n := h.watches[0].frames.Load() - before; n > 4*frameRate {
		t.Errorf("%d frames of a flood were looked at", n)
	}
	t.Logf("of a flood of %d frames %d were looked at, %d dropped", len(flood), h.watches[0].frames.Load()-before, h.watches[0].missed.Load())
}
