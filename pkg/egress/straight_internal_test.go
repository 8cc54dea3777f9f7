package egress

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// straightened counts the connections that are begun the short way.
func (h *house) straightened() *atomic.Int64 {
	var n atomic.Int64
	begin := h.dialler.start
	h.dialler.start = func(to netip.AddrPort) (int, error) {
		n.Add(1)
		return begin(to)
	}
	return &n
}

// talk has one whole conversation with an echo.
func (h *house) talk(t *testing.T, hello []byte, pause time.Duration) {
	t.Helper()
	conn := h.call()
	time.Sleep(pause)
	if _, err := conn.Write(hello); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len(hello))); err != nil {
		t.Fatal(err)
	}
	_ = conn.CloseWrite()
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	eventually(t, "its end", func() bool { return h.places.open() == 0 })
}

// told is what a room has said, counted and remembered of its conversations.
type told struct {
	Events   []string
	Up, Down int64
	Past     Past
}

func (h *house) tells(t *testing.T) (got told) {
	t.Helper()
	for _, r := range h.log.Recent(0, "") {
		line := r.Kind.ID
		for _, f := range r.Fields {
			if f.Key != "LASTED" && f.Key != "REMOTE" {
				line += " " + f.Key + "=" + f.Value
			}
		}
		got.Events = append(got.Events, line)
	}
	got.Up, got.Down = h.counts.up.Load(), h.counts.down.Load()
	if past := h.past.last(func(share) bool { return true }); len(past) == 1 {
		got.Past = past[0]
		got.Past.First, got.Past.At, got.Past.Lasted = time.Time{}, time.Time{}, 0
	} else {
		t.Errorf("%d things remembered, want one", len(past))
	}
	return got
}

// Whichever way a call goes, the same is said, counted and remembered. The first one
// has to search; those after it go straight, whether what they say is there with
// them or comes later.
func TestBothWaysAreTheSame(t *testing.T) {
	if *long {
		t.Skip("no call goes straight")
	}
	b := newBackend(t, "127.0.0.1:0", echo)
	hello := helloTo(t, apiName)
	var all []told
	for _, straight := range []bool{true, false} {
		h := newHouse(t, b.port)
		n := h.straightened()
		if !straight {
			h.dialler.names = struct{ Names }{h.names}
		}
		h.open()
		for i, pause := range []time.Duration{0, 0, 20 * time.Millisecond} {
			h.talk(t, hello, pause)
			if want := int64(i); straight && n.Load() != want || !straight && n.Load() != 0 {
				t.Fatalf("%d went straight after %d calls", n.Load(), i+1)
			}
		}
		if p := h.places; p.listening != 0 || p.sum != 0 || len(p.held) != 0 {
			t.Errorf("places that nobody gave back: %d listening, %d in all", p.listening, p.sum)
		}
		all = append(all, h.tells(t))
		if err := h.stop(); err != nil {
			t.Fatal(err)
		}
	}
	b.l.Close()
	if diff := cmp.Diff(all[1], all[0], cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("the straight way differs (-long +straight):\n%s", diff)
	}
	if len(all[0].Events) != 6 || all[0].Past.Count != 3 {
		t.Errorf("told %+v", all[0])
	}
}

// Where the address that took the last connection takes this one no longer, the call
// goes the long way with what it said: to another address, or to the end that it would
// have had.
func TestStraightFails(t *testing.T) {
	if *long {
		t.Skip("no call goes straight")
	}
	b := newBackend(t, "127.0.0.1:0", echo)
	hello := helloTo(t, apiName)
	h := newHouse(t, b.port)
	n := h.straightened()
	h.open()
	h.talk(t, hello, 0)
	b.l.Close()
	eventually(t, "nobody listens", func() bool {
		conn, err := net.Dial("tcp4", b.l.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	for range inRow {
		conn := h.call()
		if _, err := conn.Write(hello); err != nil {
			t.Fatal(err)
		}
		wantReset(t, conn)
	}
	if n.Load() != 1 {
		t.Errorf("%d went straight", n.Load())
	}
	h.says(event.EgressUnreachable)
	other := newBackend(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), b.port).String(), echo)
	h.names.resolve(apiName, home, netip.MustParseAddr("127.0.0.2"))
	h.talk(t, hello, 0) // searches, and finds the other one
	h.talk(t, hello, 0)
	if n.Load() != 2 {
		t.Errorf("%d went straight", n.Load())
	}
	other.l.Close()
}

// A server that answers the connection late, or never, holds up nobody else, and the
// caller's other calls do not count as unsaid.
func TestStraightIsSlow(t *testing.T) {
	if *long {
		t.Skip("no call goes straight")
	}
	b := newBackend(t, "127.0.0.1:0", echo)
	hello := helloTo(t, apiName)
	h := newHouse(t, b.port)
	deaf := newDeaf(t)
	var lost atomic.Bool
	begin := h.dialler.start
	h.dialler.start = func(to netip.AddrPort) (int, error) {
		if lost.Load() {
			to = deaf
		}
		return begin(to)
	}
	h.open()
	h.talk(t, hello, 0)
	lost.Store(true)
	slow := h.call()
	began := time.Now()
	if _, err := slow.Write(hello); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is on its way", func() bool { return h.places.open() == 1 && h.carrier.Open() == 1 })
	h.places.mu.Lock()
	listening := h.places.listening
	h.places.mu.Unlock()
	if listening != 0 {
		t.Error("it counts as unsaid")
	}
	if _, err := io.ReadFull(slow, make([]byte, len(hello))); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < stagger/2 {
		t.Errorf("it took %v: it never was slow", took)
	}
	slow.Close()
}

// newDeaf is an address where nobody takes a connection, and nobody refuses one.
func newDeaf(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	at := cameIn(t, fd)
	conn, err := net.Dial("tcp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return at
}

// A stop ends calls that have said nothing, and those whose server has not answered.
func TestStopWhileApproaching(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	hello := helloTo(t, apiName)
	h := newHouse(t, b.port)
	deaf := newDeaf(t)
	var lost atomic.Bool
	begin := h.dialler.start
	h.dialler.start = func(to netip.AddrPort) (int, error) {
		if lost.Load() {
			to = deaf
		}
		return begin(to)
	}
	h.open()
	h.talk(t, hello, 0)
	lost.Store(true)
	silent, slow := h.call(), h.call()
	if !*long {
		if _, err := slow.Write(hello); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both are there", func() bool { return h.places.open() == 2 })
	began := time.Now()
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("stopping took %v", took)
	}
	wantReset(t, silent)
	wantReset(t, slow)
	if h.places.open() != 0 || h.places.listening != 0 {
		t.Errorf("%d places and %d unsaid ones are still taken", h.places.open(), h.places.listening)
	}
}

// A call that comes while the room stops, after all others were told to give up,
// gives up as well.
func TestStopWhileSettingOut(t *testing.T) {
	if *long {
		t.Skip("no call goes straight")
	}
	b := newBackend(t, "127.0.0.1:0", echo)
	hello := helloTo(t, apiName)
	h := newHouse(t, b.port)
	deaf := newDeaf(t)
	var lost atomic.Bool
	in, goOn := make(chan struct{}), make(chan struct{})
	begin := h.dialler.start
	h.dialler.start = func(to netip.AddrPort) (int, error) {
		if lost.Load() {
			to = deaf
			in <- struct{}{}
			<-goOn
		}
		return begin(to)
	}
	h.open()
	h.talk(t, hello, 0)
	h.dialler.mu.Lock()
	for _, w := range h.dialler.ways {
		w.took = time.Second
	}
	h.dialler.mu.Unlock()
	lost.Store(true)
	slow := h.call()
	eventually(t, "it is awaited", func() bool { return h.carrier.Open() == 1 })
	if _, err := slow.Write(hello); err != nil {
		t.Fatal(err)
	}
	<-in
	stopped := make(chan error, 1)
	began := time.Now()
	go func() { stopped <- h.stop() }()
	eventually(t, "no calls are taken", func() bool { return !h.calls.taken() })
	close(goOn)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("stopping took %v", took)
	}
}

// Names that nobody knows push out nothing of what is known of real ones.
func TestUnknownNamesTakeNobodysWay(t *testing.T) {
	if *long {
		t.Skip("no call goes straight")
	}
	h := newHouse(t, 443)
	known := target{apiName, 443}
	h.dialler.worked(known, home, time.Millisecond, time.Now())
	for i := range 2 * maxWays {
		h.dialler.begin(target{fmt.Sprintf("x%d.example.com", i), 443}, nil)
	}
	if _, _, ok := h.dialler.straight(known, []netip.Addr{home}); !ok || len(h.dialler.ways) != 1 {
		t.Errorf("the real one is known: %t, beside %d", ok, len(h.dialler.ways)-1)
	}
}

// What came of the straight way counts as part of the attempt: 8 s are 8 s in all.
func TestStraightIsPartOfTheAttempt(t *testing.T) {
	if *long {
		t.Skip("no call goes straight")
	}
	b := newBackend(t, "127.0.0.1:0", echo)
	h := newHouse(t, b.port, func(c *Config, _ *[]policy.Rule) { c.DialTimeout, c.AttemptTimeout = time.Second, time.Second })
	deaf := newDeaf(t)
	begin := h.dialler.start
	h.dialler.start = func(netip.AddrPort) (int, error) { return begin(deaf) }
	var left time.Duration
	h.dialler.connect = func(ctx context.Context, _ netip.AddrPort, by time.Time) (*net.TCPConn, error) {
		left = max(left, time.Until(by))
		return nil, unix.ETIMEDOUT
	}
	h.dialler.worked(target{apiName, b.port}, home, time.Second, time.Now())
	h.open()
	c := h.call()
	if _, err := c.Write(helloTo(t, apiName)); err != nil {
		t.Fatal(err)
	}
	wantReset(t, c)
	h.says(event.EgressUnreachable)
	if left > 100*time.Millisecond {
		t.Errorf("after the straight way %s were left of a second", left)
	}
}

// A fault of ours in the middle of an opening costs that call, and nothing else: not
// its place, and not the stop.
func TestFaultWhileOpening(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	hello := helloTo(t, apiName)
	h := newHouse(t, b.port)
	h.KeepAccounts(&faultyAccounts{})
	h.open()
	h.talk(t, hello, 0)
	c := h.call()
	if _, err := c.Write(hello); err != nil {
		t.Fatal(err)
	}
	wantReset(t, c)
	eventually(t, "its place", func() bool { return h.places.open() == 0 })
	if n := h.counts.panics.Load(); n != 1 {
		t.Errorf("%d faults are counted", n)
	}
	h.talk(t, hello, 0)
	if err := h.stop(); err != nil {
		t.Error(err)
	}
}

// faultyAccounts fail at the second conversation.
type faultyAccounts struct{ begun atomic.Int64 }

func (f *faultyAccounts) Moved(_ [6]byte, _ string, _, _ int64, sessions int, _ time.Time) {
	if sessions == 1 && f.begun.Add(1) == 2 {
		panic("a fault of the test's own")
	}
}
