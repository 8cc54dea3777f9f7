package sim

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTestCallers makes callers whose conversations are forwarded by a namespace.
func openTestCallers(t *testing.T) (*Callers, *Stand) {
	t.Helper()
	s := &Stand{Iface: ifaceOf("P1"), Address: netip.MustParsePrefix("10.83.0.1/21")}
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.Close)
	s.site, err = home("site")
	must()
	err = s.site.up("lo")
	must()
	s.Space, err = newSpace("gw")
	must()
	err = s.site.wire(s.Iface, s.Space, s.Iface, [6]byte{2, 0, 0, 1, 0, 0}, [6]byte{0xdc, 0xa6, 0x32, 1, 0, 0})
	must()
	err = s.Space.address(s.Iface, s.Address.String())
	must()
	err = s.lead(t.Context(), StandOptions{Names: true})
	must()
	err = s.Space.address(uplink, UplinkAddr+"/24")
	must()
	err = s.Space.defaultRoute(uplink, RouterAddr)
	must()
	err = s.Forward(t.Context())
	must()
	c, err := s.Callers()
	must()
	t.Cleanup(c.Close)
	err = c.Seat([]netip.Addr{netip.MustParseAddr("10.83.0.2"), netip.MustParseAddr("10.83.0.3")})
	must()
	return c, s
}

func TestCallersHoldConversations(t *testing.T) {
	c, s := openTestCallers(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	called, err := c.Go(ctx, Pace{Together: 7, Most: 50})
	if err != nil || called.Done != 50 || called.Failed+called.Wrong > 0 || len(called.Waits) != 50 || called.Setups[49] < called.Waits[0] {
		t.Errorf("of 50 calls %d are done, %d failed, %d are wrong, %v", called.Done, called.Failed, called.Wrong, err)
	}
	looked := false
	called, err = c.Hold(ctx, 20, func() error { looked = true; return nil })
	if err != nil || called.Done != 20 || !looked {
		t.Errorf("of 20 idle conversations %d live, %v; looked at: %t", called.Done, err, looked)
	}
	called, err = c.Ping(ctx, 30, time.Millisecond)
	if err != nil || called.Done != 30 || len(called.Waits) != 30 || called.Wall < 29*time.Millisecond {
		t.Errorf("%d pings came back in %s, %v", called.Done, called.Wall, err)
	}
	var heard int64
	called, err = c.Bulk(ctx, 2, 50*time.Millisecond, func(work func() (int64, time.Duration, error)) (err error) {
		heard, _, err = work()
		return err
	})
	if err != nil || heard < gulp || called.Failed > 0 {
		t.Errorf("%d bytes were heard, %d failed, %v", heard, called.Failed, err)
	}
	for fd := range c.ends {
		if c.ends[fd].state != nobody {
			t.Errorf("an end in state %d is left", c.ends[fd].state)
		}
	}

	// Without a way through, each call fails in time.
	if err := s.Space.sysctl("net/ipv4/ip_forward", "0"); err != nil {
		t.Fatal(err)
	}
	called, err = c.Go(ctx, Pace{Together: 3, Most: 3, Patience: 50 * time.Millisecond})
	if err != nil || called.Failed != 3 || called.Done > 0 {
		t.Errorf("of 3 calls into nothing %d failed and %d are done, %v", called.Failed, called.Done, err)
	}
}

// What is not carried as it was sent is counted: a server that hears another hello,
// and a caller that hears another answer.
func TestCallersNoticeWhatIsChanged(t *testing.T) {
	for _, side := range []string{"hello", "answer"} {
		c := &Callers{epoll: -1, listener: -1, endless: -1, buf: make([]byte, 4096)}
		hello, err := clientHello("server0.bench.example")
		if err != nil {
			t.Fatal(err)
		}
		c.called = []server{{hello: hello}}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[1])
		e := &end{fd: fds[0], state: hearing}
		sent := append([]byte(nil), hello...)
		hear := c.hearCaller
		if side == "answer" {
			sent, e.state, hear = append([]byte(nil), callAnswer...), greeting, c.hearServer
		}
		c.ends = make([]end, fds[0]+1)
		c.ends[fds[0]] = *e
		sent[len(sent)-1] ^= 1
		if _, err := unix.Write(fds[1], sent); err != nil {
			t.Fatal(err)
		}
		if err := hear(&c.ends[fds[0]]); err != nil || c.tally.Wrong != 1 {
			t.Errorf("a changed %s: %d are wrong, %v", side, c.tally.Wrong, err)
		}
	}
}

func TestEachNameHasAnAddressOfItsOwn(t *testing.T) {
	seen := map[[4]byte]string{}
	for _, name := range CalledNames() {
		addr := benchAddr(wireName(name))
		if other := seen[addr]; other != "" {
			t.Errorf("%s and %s are both at %v", name, other, addr)
		}
		if !benchNets.Contains(netip.AddrFrom4(addr)) {
			t.Errorf("%s is at %v, which nobody answers for", name, addr)
		}
		seen[addr] = name
	}
}
