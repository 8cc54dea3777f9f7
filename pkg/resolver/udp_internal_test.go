package resolver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/datagram"
	"chargegate/pkg/event"

	"github.com/miekg/dns"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// call opens a UDP socket that speaks to a server, from an address of its own.
func call(t testing.TB, from string, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)}, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// listen reads answers until there are so many, or none comes for long. It
// returns them by their ids.
func listen(t testing.TB, c *net.UDPConn, many int) map[uint16]*dns.Msg {
	t.Helper()
	heard := map[uint16]*dns.Msg{}
	in := make([]byte, 2*udpSize)
	for len(heard) < many {
		n, err := c.Read(in)
		if err != nil {
			t.Logf("after %d of %d answers: %v", len(heard), many, err)
			break
		}
		m := new(dns.Msg)
		if err := m.Unpack(in[:n]); err != nil {
			t.Fatal(err)
		}
		heard[m.Id] = m
	}
	return heard
}

// eventually waits until something is so, for 20 s at most.
func eventually(is func() bool) {
	pause := time.NewTicker(time.Millisecond)
	defer pause.Stop()
	for deadline := time.Now().Add(20 * time.Second); !is() && time.Now().Before(deadline); <-pause.C {
	}
}

// A garage after a power cut: every charger asks for three names at once, of
// which one has to be looked up first (F-1).
func TestAHerdIsAnswered(t *testing.T) {
	t.Parallel()
	const herd = 200
	var asked atomic.Int32
	answered := says(t, "api.zaptec.com. 60 IN A 192.0.2.1")
	g := open(t, zaptecAnd(t), upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		time.Sleep(50 * time.Millisecond)
		answered(w, q)
	}))
	var all sync.WaitGroup
	for i := range herd {
		c := call(t, fmt.Sprintf("127.0.%d.%d", 1+i/250, 1+i%250), g.at)
		all.Go(func() {
			for id, name := range []string{"api.zaptec.com.", "pool.ntp.org.", "example.com."} {
				if _, err := c.Write(wire(t, name, dns.TypeA, numbered(uint16(id)))); err != nil {
					t.Error(err)
				}
			}
			if heard := listen(t, c, 3); len(heard) != 3 || len(heard[0].Answer) != 1 || len(heard[1].Answer) != 1 || heard[2].Rcode != dns.RcodeNameError {
				t.Errorf("charger %d heard %v", i, heard)
			}
		})
	}
	all.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("the upstream was asked %d times, want once", n)
	}
}

// One who asks for what takes long has a share of the waiting; what is known is
// answered to everybody meanwhile, also to him.
func TestSlowQuestionsKeepNobodyWaiting(t *testing.T) {
	t.Parallel()
	g := open(t, zaptecAnd(t), upstream(t, nil, silent))
	greedy, other := call(t, "127.0.9.1", g.at), call(t, "127.0.9.2", g.at)
	for i := range 4 * maxEach {
		if _, err := greedy.Write(wire(t, "api.zaptec.com.", dns.TypeA, numbered(uint16(i)))); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	for id, c := range []*net.UDPConn{greedy, other} {
		if _, err := c.Write(wire(t, "pool.ntp.org.", dns.TypeA, numbered(uint16(1000+id)))); err != nil {
			t.Fatal(err)
		}
		if heard := listen(t, c, 1); heard[uint16(1000+id)] == nil {
			t.Errorf("asker %d heard %v", id, heard)
		}
	}
	if took := time.Since(began); took > budget/2 {
		t.Errorf("what is known took %v", took)
	}
	eventually(func() bool { return g.count.dropped.Load() >= 3*maxEach })
	if n := g.waiting.open(); n != maxEach {
		t.Errorf("%d questions wait, want %d", n, maxEach)
	}
	if n := g.count.dropped.Load(); n != 3*maxEach {
		t.Errorf("%d were dropped, want %d", n, 3*maxEach)
	}
}

// A flood from one charger, in a network of its own because loopback is exempt:
// the other charger's questions are all answered.
func TestAFloodFromOneChargerSlowsNoOther(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for a network of its own")
	}
	const flood, questions = 4000, 3 * DefaultRate
	gateway := netip.MustParseAddrPort("10.83.0.1:0")
	log := event.New(event.Options{Keep: flood})
	s := New(Config{Listen: []netip.AddrPort{gateway}, Gateways: []netip.Prefix{netip.MustParsePrefix("10.83.0.1/24")}}, zaptecAnd(t), charger.NewBook(nil, nil), log)
	var bad, good *net.UDPConn
	made := make(chan error)
	go func() { // what is opened on this thread stays in its network
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		_, err := netns.New()
		if err == nil {
			var out []byte
			if out, err = exec.Command("sh", "-ec", "ip link set lo up; for i in 1 7 8; do ip address add 10.83.0.$i/24 dev lo; done").CombinedOutput(); err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
		}
		if err == nil {
			err = s.Listen()
		}
		for from, c := range map[string]**net.UDPConn{"10.83.0.7": &bad, "10.83.0.8": &good} {
			if err == nil {
				*c, err = net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(from)}, net.UDPAddrFromAddrPort(s.Addrs()[0]))
			}
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Skip("no network of its own here:", err)
	}
	defer bad.Close()
	defer good.Close()
	serve(t, s)
	var flooding sync.WaitGroup
	flooding.Go(func() {
		for i := range flood {
			// No faster than the socket has room for, or the kernel drops some on a
			// busy machine, and nobody can count those.
			if i%64 == 63 {
				eventually(func() bool { return int(s.count.refused.Load()+s.count.limited.Load()) >= i-128 })
			}
			if _, err := bad.Write(wire(t, fmt.Sprintf("x%d.example.com.", i), dns.TypeA, numbered(uint16(i)))); err != nil {
				t.Error(err)
				return
			}
		}
	})
	_ = good.SetDeadline(time.Now().Add(20 * time.Second))
	in := make([]byte, udpSize)
	for i := range questions {
		if _, err := good.Write(wire(t, "pool.ntp.org.", dns.TypeA, numbered(uint16(i)))); err != nil {
			t.Fatal(err)
		}
		if _, err := good.Read(in); err != nil {
			t.Fatalf("question %d of the other charger: %v", i, err)
		}
	}
	flooding.Wait()
	eventually(func() bool { return s.count.refused.Load()+s.count.limited.Load() >= flood })
	if n := s.count.refused.Load(); n < 3*DefaultRate || n > flood/2 { // a quarter of what is over leaks
		t.Errorf("%d of %d questions of the flood were looked at", n, flood)
	}
	if n := s.count.refused.Load() + s.count.limited.Load(); n != flood {
		t.Errorf("%d of %d are counted", n, flood)
	}
	until(t, log, event.ResolverAskedTooMuch)
}

func TestWorkersAreBounded(t *testing.T) {
	defer goleak.VerifyNone(t)
	release, done := make(chan struct{}), new(atomic.Int32)
	w := newWorkers(func(j *job) {
		<-release
		if j.n != 1 || j.in[0] != 7 {
			t.Errorf("a job with %d bytes", j.n)
		}
		done.Add(1)
	})
	taken := 0
	for i := range maxBusy/maxBusyEach + 3 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 83, 0, byte(i)}), 1)
		mine := 0
		for range maxBusyEach + 10 {
			if w.take(nil, []byte{7}, from) {
				mine++
			}
		}
		if mine > maxBusyEach {
			t.Errorf("one asker has %d jobs, want at most %d", mine, maxBusyEach)
		}
		taken += mine
	}
	if taken != maxBusy {
		t.Errorf("%d jobs were taken, want %d", taken, maxBusy)
	}
	close(release)
	eventually(func() bool { return w.share.open() == 0 && w.crew.idle.Load() <= maxIdle })
	if w.share.open() > 0 || w.crew.idle.Load() > maxIdle {
		t.Fatalf("%d jobs are left, %d workers idle", w.share.open(), w.crew.idle.Load())
	}
	for range 3 { // those who stayed go on
		if !w.take(nil, []byte{7}, netip.MustParseAddrPort("10.83.0.1:1")) {
			t.Error("no job is taken any more")
		}
	}
	w.end()
	if n := done.Load(); int(n) != maxBusy+3 {
		t.Errorf("%d jobs were done, want %d", n, maxBusy+3)
	}
}

// A fault of our own costs one answer, on either path.
func TestAFaultOfOurOwnCostsOneAnswer(t *testing.T) {
	t.Parallel()
	so, err := take(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer so.close()
	s := depot(t)
	defer s.memory.shut()
	work := newWorkers(func(j *job) { s.answerUDP(t.Context(), j) })
	r := reader{Server: s, b: datagram.New(so.udp, udpBatch, udpSize, 0), udp: so.udp, work: work, fast: newFast(s)}
	quick, slow, good := wire(t, "one.depot.example.", dns.TypeA, numbered(1)), wire(t, "pool.ntp.org.", dns.TypeA, numbered(2)), wire(t, "one.depot.example.", dns.TypeAAAA, numbered(3))
	for range 2 {
		s.respondReady(t.Context(), quick, asker)
	}
	s.book = nil // the fault: whoever is told an address is noted there
	c := call(t, "127.0.0.1", so.at)
	for _, q := range [][]byte{quick, slow, good} {
		if _, err := c.Write(q); err != nil {
			t.Fatal(err)
		}
	}
	for read := 0; read < 3; {
		n, err := r.b.Read()
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			r.receive(i, time.Now())
		}
		r.b.Flush()
		read += n
	}
	work.end()
	heard := listen(t, c, 3)
	for id, want := range map[uint16]int{1: dns.RcodeServerFailure, 2: dns.RcodeServerFailure, 3: dns.RcodeSuccess} {
		if heard[id] == nil || heard[id].Rcode != want {
			t.Errorf("question %d was answered with %v, want %s", id, heard[id], dns.RcodeToString[want])
		}
	}
	// The first met it on both paths.
	if n := s.count.panics.Load(); n != 3 {
		t.Errorf("%d faults were counted, want 3", n)
	}
}

func TestTheReceiveBufferIsLarge(t *testing.T) {
	t.Parallel()
	so, err := take(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer so.close()
	rc, err := so.udp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = rc.Control(func(fd uintptr) {
		got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		if err != nil || os.Getuid() == 0 && got < udpBuffer {
			t.Errorf("the kernel keeps %d bytes, %v", got, err)
		}
	})
}

// Questions in flight, on the quick way and on the ordinary one, when Serve ends;
// and again.
func TestEndingUnderLoad(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("ends", func(t *testing.T) {
		u := upstream(t, nil, says(t, hub+" 60 IN A 192.0.2.1"))
		s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Upstreams: []Upstream{{Addr: u}}},
			zaptecAnd(t), charger.NewBook(nil, nil), event.New(event.Options{Keep: 10}))
		for range 5 {
			if err := s.Listen(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			end := make(chan error, 1)
			go func() { end <- s.Serve(ctx) }()
			c := call(t, "127.0.0.1", s.Addrs()[0])
			var sending sync.WaitGroup
			for range 2 {
				sending.Go(func() {
					for i := range 2000 {
						name := []string{hub, "pool.ntp.org.", "x.example.com."}[i%3]
						if _, err := c.Write(wire(t, name, dns.TypeA)); err != nil {
							return // it has ended
						}
						if i == 1000 {
							cancel()
						}
					}
				})
			}
			sending.Wait()
			cancel()
			if err := <-end; err != nil {
				t.Error(err)
			}
			c.Close()
		}
	})
}
