package egress

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"chargegate/pkg/carry"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"golang.org/x/sys/unix"
)

// A pairOfEnds is a conversation that is open, seen from its two ends.
type pairOfEnds struct{ near, far *net.TCPConn }

var parlours atomic.Int32

// parlour is a room with servers behind it that never say anything by
// themselves: one at apiName, with the port of its own, and the hub.
type parlour struct {
	*house
	short, lasting chan *net.TCPConn // the servers' ends
	hubAt          netip.Addr
	byEnd          map[netip.AddrPort]*conversation // see of
	port           uint16
}

func newParlour(t *testing.T, changes ...change) *parlour {
	t.Helper()
	p := &parlour{short: make(chan *net.TCPConn, 2000), lasting: make(chan *net.TCPConn, 2000)}
	keep := func(to chan *net.TCPConn) func(*net.TCPConn) { return func(conn *net.TCPConn) { to <- conn } }
	p.port = newBackend(t, "127.0.0.1:0", keep(p.short)).port
	p.hubAt = netip.AddrFrom4([4]byte{127, byte(202 + parlours.Add(1)), byte(os.Getpid() >> 8), byte(os.Getpid())})
	newBackend(t, netip.AddrPortFrom(p.hubAt, policy.HubPort).String(), keep(p.lasting))
	p.house = newHouse(t, p.port, changes...)
	p.names.resolve(policy.Hub, p.hubAt)
	p.open()
	return p
}

// begin opens a conversation with the hub, or with apiName, and waits until the
// server has heard the hello. The ends are the caller's to close.
func (p *parlour) begin(hello []byte, lasting bool) pairOfEnds {
	p.t.Helper()
	to, far := p.port, p.short
	if lasting {
		to, far = policy.HubPort, p.lasting
	}
	p.to.Store(new(netip.AddrPortFrom(asked, to)))
	conn, err := net.Dial("tcp4", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	e := pairOfEnds{near: conn.(*net.TCPConn)}
	if _, err := e.near.Write(hello); err != nil {
		p.t.Fatal(err)
	}
	select {
	case e.far = <-far:
	case <-time.After(patient):
		p.t.Fatal("no conversation came about")
	}
	deadline(p.t, e.far)
	if _, err := io.ReadFull(e.far, make([]byte, len(hello))); err != nil {
		p.t.Fatal(err)
	}
	_ = e.far.SetDeadline(time.Time{})
	return e
}

// ping sends a byte each way, and waits for both.
func (e pairOfEnds) ping(t testing.TB) {
	t.Helper()
	for _, way := range []pairOfEnds{e, {e.far, e.near}} {
		deadline(t, way.far)
		if _, err := way.near.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(way.far, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		_ = way.far.SetDeadline(time.Time{})
	}
}

// speak lets conversations speak at a moment of the test's own time. The room
// looks by its own clock, too, and may be the one who sees the bytes: then it is
// said again.
func (p *parlour) speak(ends []pairOfEnds, now time.Time) {
	p.t.Helper()
	for _, e := range ends {
		c := p.of(e)
		eventually(p.t, "somebody heard at "+now.String(), func() bool {
			up, down := c.pair.Count()
			e.ping(p.t)
			eventually(p.t, "the ping in the counts", func() bool {
				nowUp, nowDown := c.pair.Count()
				return nowUp == up+1 && nowDown == down+1
			})
			p.report(c, now)
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.meter.moved.Equal(now)
		})
	}
}

// of is the conversation that has these ends.
func (p *parlour) of(e pairOfEnds) *conversation {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byEnd == nil {
		p.byEnd = map[netip.AddrPort]*conversation{}
		for c := range p.Server.open {
			sa, err := unix.Getpeername(c.pair.Sockets[carry.Near])
			if err != nil {
				p.t.Fatal(err)
			}
			in := sa.(*unix.SockaddrInet4)
			p.byEnd[netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))] = c
		}
	}
	c := p.byEnd[e.near.LocalAddr().(*net.TCPAddr).AddrPort()]
	if c == nil {
		p.t.Fatal("a conversation that was open is none of the room's")
	}
	return c
}

// over reports whether the near end has been told that the conversation is
// over.
func (e pairOfEnds) over() bool {
	_ = e.near.SetReadDeadline(time.Now().Add(time.Millisecond))
	defer func() { _ = e.near.SetReadDeadline(time.Time{}) }()
	_, err := e.near.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// ownDescriptors counts the descriptors of this process.
func ownDescriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// heap is what is in use when nobody needs anything any more.
func heap() int64 {
	var m runtime.MemStats
	for range 2 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A thousand conversations and the clock: lasting ones may be silent for an
// hour, short ones for five minutes, and who speaks now and then lives for ever.
func TestAThousandForAnHour(t *testing.T) {
	many := 1000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if most := int(min(limit.Cur, 1<<20)) / 10; most < many { // each has eight, with both ends
		many = most / 10 * 10
		t.Logf("%d conversations: there may be no more than %d open files", many, limit.Cur)
	}
	p := newParlour(t, func(c *Config, _ *[]policy.Rule) { c.PerCharger, c.Total = many+10, many+10 })
	helloAPI, helloHub := helloTo(t, apiName), helloTo(t, policy.Hub)
	e := p.begin(helloAPI, false) // what is made once is there
	reset(e.near)
	e.far.Close()
	eventually(t, "nobody", func() bool { return p.places.open() == 0 })
	files, sockets, memory := ownDescriptors(t), openSockets(t), heap()

	const (
		quietShort  = iota // of ten: two on 443 that say nothing
		chattyShort = 2    // one on 443 that speaks every four minutes
		chattyHub   = 3    // one on 8883 that pings at half of 2200 s (F-5)
		quietHub    = 4    // six on 8883 that say nothing
	)
	var all [5][]pairOfEnds
	for i := range many {
		kind := []int{quietShort, quietShort, chattyShort, chattyHub, quietHub, quietHub, quietHub, quietHub, quietHub, quietHub}[i%10]
		hello, lasting := helloAPI, kind >= chattyHub
		if lasting {
			hello = helloHub
		}
		all[kind] = append(all[kind], p.begin(hello, lasting))
	}
	eventually(t, "all conversations", func() bool { return p.carrier.Open() == many })
	t.Logf("%d conversations: %d descriptors with both ends, %.1f KiB of heap each", many, ownDescriptors(t)-files, float64(heap()-memory)/float64(many)/1024)

	start := time.Now()
	p.look(start)
	begun := p.carrier.Open()
	alive := func(kind int) (n int) {
		for _, e := range all[kind] {
			if !e.over() {
				n++
			}
		}
		return n
	}
	at := func(minutes float64) time.Time { return start.Add(time.Duration(minutes * float64(time.Minute))) }
	const step = time.Minute / 3
	for now := start; now.Before(at(59.9)); now = now.Add(step) {
		since := now.Sub(start)
		if since > 0 && since%(4*time.Minute) == 0 {
			p.speak(all[chattyShort], now)
		}
		if since > 0 && since%(1100*time.Second) == 0 {
			p.speak(all[chattyHub], now)
		}
		p.look(now)
		want := begun
		if since >= 5*time.Minute {
			want -= len(all[quietShort])
		}
		if since == 4*time.Minute || since == 5*time.Minute || since == 59*time.Minute {
			eventually(t, fmt.Sprintf("%d conversations after %s", want, since), func() bool { return p.carrier.Open() == want })
		}
		if got := p.carrier.Open(); got > begun || since < 5*time.Minute && got != begun || since > 5*time.Minute && got != want {
			t.Fatalf("%d conversations after %s, want %d", got, since, want)
		}
	}
	if n := alive(quietShort); n != 0 {
		t.Errorf("%d short conversations are open after an hour of silence", n)
	}
	for _, kind := range []int{chattyShort, chattyHub, quietHub} {
		if n := alive(kind); n != len(all[kind]) {
			t.Errorf("of %d conversations of kind %d only %d are open just before an hour is over", len(all[kind]), kind, n)
		}
	}
	// The hour is over.
	p.speak(all[chattyShort], at(60.1))
	p.speak(all[chattyHub], at(60.1))
	p.look(at(60.1))
	left := len(all[chattyShort]) + len(all[chattyHub])
	eventually(t, "the silent ones ended", func() bool { return p.carrier.Open() == left })
	if n := alive(quietHub); n != 0 {
		t.Errorf("%d lasting conversations are open after more than an hour of silence", n)
	}
	// Two more days of pings.
	for since := 61 * time.Minute; since < 50*time.Hour; since += 1100 * time.Second {
		p.speak(all[chattyHub][:3], start.Add(since))
		p.look(start.Add(since))
	}
	for _, e := range all[chattyHub][:3] {
		e.ping(t)
	}
	for _, kind := range all {
		for _, e := range kind {
			e.near.Close()
			e.far.Close()
		}
	}
	eventually(t, "nobody left", func() bool { return p.carrier.Open() == 0 && p.places.open() == 0 })
	all, p.byEnd = [5][]pairOfEnds{}, nil
	const spares = 2 * 64 // pipes that the carrier keeps for the next pairs
	eventually(t, "the sockets from before", func() bool { return openSockets(t) <= sockets })
	eventually(t, "the descriptors from before", func() bool { return ownDescriptors(t) <= files+spares })
	if grown := heap() - memory; grown > int64(many)*1024+256<<10 {
		t.Errorf("%d KiB more are in use than before", grown>>10)
	} else {
		t.Logf("afterwards: %d KiB of heap more than before, and as many descriptors but for spare pipes", grown>>10)
	}
}

// Black holes under real connections, in a network of their own.
func TestBlackHoles(t *testing.T) {
	if inside() {
		t.Skip("inside already")
	}
	unshare := []string{"--net"}
	if os.Getuid() != 0 {
		unshare = append(unshare, "--user", "--map-root-user")
	}
	if out, err := exec.Command("unshare", append(unshare, "nft", "add table inet probe")...).CombinedOutput(); err != nil {
		t.Skipf("no namespaces with nftables here: %v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", append(unshare, "sh", "-ec", `ip link set lo up; exec "$@"`, "sh",
		os.Args[0], "-test.run=^TestBlackHolesInside$", "-test.v", "-test.timeout=1m", "-test.parallel=4")...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: TestBlackHolesInside") {
		t.Error(err)
	}
}

// TestBlackHolesInside is the body of TestBlackHoles. What TestBothLegsAreTuned
// sees is made short here: a second of silence and two probes a second apart, or
// three seconds for bytes.
func TestBlackHolesInside(t *testing.T) {
	if !inside() {
		t.Skip("runs within TestBlackHoles")
	}
	if nowhere := netip.MustParseAddrPort("198.51.100.1:443"); replaced(netip.MustParseAddr("192.0.2.77"), nowhere) {
		t.Error("an address that is gone, with no other in its place, is taken for one that was replaced")
	}
	const server, charger = "the server does not answer any more", "the charger does not answer any more"
	for _, h := range []struct {
		what   string
		lost   carry.Leg // whose packets vanish, both ways
		speaks bool      // whether somebody has just spoken to the lost one
		reason string
	}{
		{"the server, silent", carry.Far, false, server},
		{"the server, with bytes on the way", carry.Far, true, server},
		{"the charger, silent", carry.Near, false, charger},
		{"the charger, with bytes on the way", carry.Near, true, charger},
	} {
		t.Run(h.what, func(t *testing.T) {
			t.Parallel()
			p := newParlour(t)
			e := p.begin(helloTo(t, policy.Hub), true)
			other, lost := e.near, e.far.RemoteAddr()
			if h.lost == carry.Near {
				other, lost = e.far, e.near.LocalAddr()
			}
			e.ping(t)
			p.hurry(t)
			e.ping(t) // the kernel looks at its timers when something moves
			swallow(t, lost.(*net.TCPAddr).Port)
			began := time.Now()
			if h.speaks {
				if _, err := other.Write([]byte("ping")); err != nil {
					t.Fatal(err)
				}
			}
			deadline(t, other)
			_, err := io.Copy(io.Discard, other)
			took := time.Since(began)
			if !errors.Is(err, unix.ECONNRESET) || took < 2*time.Second || took > 6*time.Second {
				t.Errorf("after %s the other side had %v, want a reset after some 3 s", took, err)
			}
			if r := p.says(event.EgressEnded); r.Field("REASON") != h.reason || !strings.HasPrefix(r.Message, "P1-07 ") {
				t.Errorf("said %q, want that %q of P1-07", r.Message, h.reason)
			}
			eventually(t, "the place is free", func() bool { return p.places.open() == 0 })
			t.Logf("given up after %s", took.Round(10*time.Millisecond))
		})
	}
}

// hurry shortens the timers of every conversation.
func (p *parlour) hurry(t *testing.T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.Server.open {
		for _, fd := range c.pair.Sockets {
			for opt, v := range map[int]int{unix.TCP_KEEPIDLE: 1, unix.TCP_KEEPINTVL: 1, unix.TCP_USER_TIMEOUT: 3000} {
				if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, opt, v); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// swallow makes the packets of one connection vanish, both ways. It is told by
// the port that nobody else has.
func swallow(t *testing.T, port int) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`table inet hole%d {
	chain arriving { type filter hook input priority 0; policy accept;
		tcp sport %[1]d drop
		tcp dport %[1]d drop
	}
}
`, port))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// An address of the uplink that was replaced takes its conversations with it.
// One that is only gone does not (see TestBlackHolesInside).
func TestReplaced(t *testing.T) {
	lost := netip.MustParseAddr("192.0.2.77") // nobody's
	server := netip.AddrPortFrom(home, 443)
	if replaced(home, server) {
		t.Error("our own address is taken for one that was lost")
	}
	if !replaced(lost, server) {
		t.Error("an address that was replaced is taken for our own")
	}
}

func TestConversationsFollowTheUplink(t *testing.T) {
	p := newParlour(t)
	stays, leaves := p.begin(helloTo(t, apiName), false), p.begin(helloTo(t, policy.Hub), true)
	eventually(t, "both conversations", func() bool { return p.said(event.EgressOpened) == 2 })
	p.mu.Lock()
	for c := range p.Server.open {
		if c.cloud {
			c.mu.Lock()
			c.local = netip.MustParseAddr("192.0.2.77")
			c.mu.Unlock()
		}
	}
	p.mu.Unlock()
	p.look(time.Now())
	deadline(t, leaves.near)
	wantReset(t, leaves.near)
	if r := p.says(event.EgressEnded); r.Field("REASON") != errMoved.Error() {
		t.Errorf("said %q", r.Message)
	}
	stays.ping(t)
	for _, e := range []pairOfEnds{stays, leaves} {
		e.near.Close()
		e.far.Close()
	}
}
