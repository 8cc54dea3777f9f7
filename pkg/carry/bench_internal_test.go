package carry

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The benchmarks measure the carrier beside a direct connection and beside two
// io.Copy goroutines (Go's own splice), in turns, so that what else the machine
// does hits all of them. The two ends are a process of their own.

// peersEnv makes the test binary the two ends of a benchmark.
const peersEnv = "CARRY_BENCH_PEERS"

func TestMain(m *testing.M) {
	if os.Getenv(peersEnv) != "" {
		peers()
		return
	}
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

// ways are how bytes get from one end to the other.
var ways = []string{"direct", "carrier", "copy"}

// peers serves and calls: it says where it listens, is told where to call, and
// then does what each line asks for: "ping WAY n", "bulk WAY streams bytes",
// "load WAY streams" (until the next line).
func peers() {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answerPeer(conn)
		}
	}()
	in := bufio.NewScanner(os.Stdin)
	in.Scan()
	addrs := map[string]string{}
	for i, addr := range strings.Fields(in.Text()) {
		addrs[ways[i]] = addr
	}
	stop := func() {}
	pinging := map[string]net.Conn{}
	for in.Scan() {
		var what, way string
		var n, size int
		_, _ = fmt.Sscan(in.Text(), &what, &way, &n, &size)
		switch what {
		case "ping":
			if pinging[way] == nil {
				pinging[way] = callPeer(addrs[way], 'p')
			}
			fmt.Println(pings(pinging[way], n))
		case "bulk":
			began := time.Now()
			download(addrs[way], n, size)
			fmt.Println(time.Since(began).Nanoseconds())
		case "load":
			stop()
			var conns []net.Conn
			for range n {
				conn := callPeer(addrs[way], 'l')
				conns = append(conns, conn)
				go func() {
					_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 256<<10))
				}()
			}
			stop = func() {
				for _, c := range conns {
					c.Close()
				}
			}
			fmt.Println("loaded")
		}
	}
}

func callPeer(addr string, what byte) net.Conn {
	conn, err := net.Dial("tcp4", addr)
	if err != nil {
		panic(err)
	}
	if _, err := conn.Write([]byte{what}); err != nil {
		panic(err)
	}
	return conn
}

// pings asks for 32 bytes n times and returns median and 99th percentile in ns.
func pings(conn net.Conn, n int) string {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd := blockingCopy(conn)
	defer unix.Close(fd)
	b := make([]byte, 32)
	took := make([]time.Duration, n)
	for i := range took {
		began := time.Now()
		if _, err := unix.Write(fd, b); err != nil {
			panic(err)
		}
		for got := 0; got < len(b); {
			k, err := unix.Read(fd, b[got:])
			if err != nil || k == 0 {
				panic(fmt.Sprint(k, err))
			}
			got += k
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return fmt.Sprint(took[n/2].Nanoseconds(), took[n*99/100].Nanoseconds())
}

// blockingCopy is a descriptor that waits in the kernel: no scheduler of Go
// takes part in what is measured.
func blockingCopy(conn net.Conn) int {
	f, err := conn.(*net.TCPConn).File()
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		panic(err)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		panic(err)
	}
	return fd
}

func answerPeer(conn net.Conn) {
	defer conn.Close()
	what := make([]byte, 9)
	if _, err := io.ReadFull(conn, what[:1]); err != nil {
		return
	}
	switch what[0] {
	case 'p':
		runtime.LockOSThread()
		fd := blockingCopy(conn)
		defer unix.Close(fd)
		b := make([]byte, 4096)
		for {
			n, err := unix.Read(fd, b)
			if err != nil || n == 0 {
				return
			}
			if _, err := unix.Write(fd, b[:n]); err != nil {
				return
			}
		}
	case 'b', 'l':
		size := -1
		if what[0] == 'b' {
			if _, err := io.ReadFull(conn, what[1:]); err != nil {
				return
			}
			_, _ = fmt.Sscan(string(what[1:]), &size)
			size <<= 20
		}
		chunk := make([]byte, 128<<10)
		for sent := 0; size < 0 || sent < size; sent += len(chunk) {
			if _, err := conn.Write(chunk); err != nil {
				return
			}
		}
	}
}

// download fetches size MiB in each of n streams.
func download(addr string, n, size int) {
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			conn := callPeer(addr, 'b')
			defer conn.Close()
			_, _ = fmt.Fprintf(conn, "%8d", size)
			got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 256<<10))
			if err != nil || got != int64(size)<<20 {
				panic(fmt.Sprint(got, err))
			}
		})
	}
	all.Wait()
}

// A rig is the peers and what is between them.
type rig struct {
	in  io.Writer
	out *bufio.Scanner
}

func newRig(b *testing.B) *rig {
	b.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), peersEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err, err2, cmd.Start()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	r := &rig{in, bufio.NewScanner(out)}
	to := r.line(b)
	fmt.Fprintln(in, to, between(b, to, carryWire(b)), between(b, to, copyWire))
	return r
}

func (r *rig) line(b *testing.B) string {
	b.Helper()
	if !r.out.Scan() {
		b.Fatal("the peers are gone: ", r.out.Err())
	}
	return r.out.Text()
}

// ask has the peers do something; it returns what they say and how much CPU
// this process took meanwhile.
func (r *rig) ask(b *testing.B, format string, args ...any) (said string, cpu time.Duration) {
	b.Helper()
	before := cpuTime()
	fmt.Fprintf(r.in, format+"\n", args...)
	said = r.line(b)
	return said, cpuTime() - before
}

func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// between listens, dials to for each caller and hands both to carry.
func between(b *testing.B, to string, carry func(near, far *net.TCPConn)) string {
	b.Helper()
	l := listenHere(b)
	var serve sync.WaitGroup
	b.Cleanup(serve.Wait)
	serve.Go(func() {
		for {
			near, err := l.AcceptTCP()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp4", to)
			if err != nil {
				near.Close()
				continue
			}
			carry(near, far.(*net.TCPConn))
		}
	})
	b.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func carryWire(b *testing.B) func(near, far *net.TCPConn) {
	c := carry(b)
	return func(near, far *net.TCPConn) {
		p := &Pair{Sockets: [2]int{descriptor(b, near), descriptor(b, far)}}
		p.Up, _ = NewPipe()
		p.Down, _ = NewPipe()
		near.Close()
		far.Close()
		if err := c.Add(p); err != nil {
			b.Error(err)
		}
	}
}

func copyWire(near, far *net.TCPConn) {
	go func() {
		defer near.Close()
		defer far.Close()
		done := make(chan struct{})
		go func() {
			_, _ = io.Copy(far, near)
			_ = far.CloseWrite()
			close(done)
		}()
		_, _ = io.Copy(near, far)
		_ = near.CloseWrite()
		<-done
	}()
}

// A figure collects what was measured of each way, in rounds.
type figure map[string][]float64

func (f figure) add(name string, v float64) { f[name] = append(f[name], v) }

// report gives the medians, and how two ways compare in the same rounds: the
// median of the ratios, and what half of them lie between.
func (f figure) report(b *testing.B, unit string, compared ...[2]string) {
	for _, way := range ways {
		if way != "direct" || !strings.HasPrefix(unit, "cpu") { // nothing of ours carries the direct one
			b.ReportMetric(median(f[way]), way+"-"+unit)
		}
	}
	for _, c := range compared {
		var ratios []float64
		for i, v := range f[c[0]] {
			ratios = append(ratios, v/f[c[1]][i])
		}
		slices.Sort(ratios)
		n := len(ratios)
		b.Logf("%s: %s is %.2f of %s (%.2f to %.2f, %d rounds)", unit, c[0], median(ratios), c[1], ratios[n/4], ratios[n*3/4], n)
	}
	b.ReportMetric(0, "ns/op")
}

var (
	carrierToDirect = [2]string{"carrier", "direct"}
	copyToDirect    = [2]string{"copy", "direct"}
	carrierToCopy   = [2]string{"carrier", "copy"}
)

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v) == 0 {
		return 0
	}
	return v[len(v)/2]
}

// BenchmarkPing is the round trip of 32 bytes, and what a download through the
// same process does to it.
func BenchmarkPing(b *testing.B) {
	for _, load := range []int{0, 1, 4} {
		b.Run(fmt.Sprintf("beside-%d-downloads", load), func(b *testing.B) {
			r := newRig(b)
			p50, p99, cpu := figure{}, figure{}, figure{}
			for b.Loop() {
				for _, way := range ways {
					if load > 0 {
						r.ask(b, "load %s %d", way, load)
					}
					const n = 300
					said, took := r.ask(b, "ping %s %d", way, n)
					var half, most float64
					_, _ = fmt.Sscan(said, &half, &most)
					p50.add(way, half/1000)
					p99.add(way, most/1000)
					cpu.add(way, float64(took.Microseconds())/n)
				}
			}
			p50.report(b, "p50-µs", carrierToDirect, copyToDirect, carrierToCopy)
			p99.report(b, "p99-µs", carrierToDirect, copyToDirect, carrierToCopy)
			if load == 0 {
				cpu.report(b, "cpu-µs", carrierToCopy)
			}
		})
	}
}

// BenchmarkBulk is downloads at full speed.
func BenchmarkBulk(b *testing.B) {
	for _, streams := range []int{1, 8} {
		b.Run(fmt.Sprintf("%d-streams", streams), func(b *testing.B) {
			r := newRig(b)
			speed, cpu := figure{}, figure{}
			size := 256 / streams
			for b.Loop() {
				for _, way := range ways {
					said, took := r.ask(b, "bulk %s %d %d", way, streams, size)
					var ns float64
					_, _ = fmt.Sscan(said, &ns)
					speed.add(way, float64(size*streams)*(1<<20)/ns)
					cpu.add(way, took.Seconds()*1e3/(float64(size*streams)/1024))
				}
			}
			speed.report(b, "GB/s", carrierToDirect, copyToDirect, carrierToCopy)
			cpu.report(b, "cpu-ms/GiB", carrierToCopy)
		})
	}
}

// BenchmarkPair is a pair that is added and ends, and BenchmarkIdle what one
// costs that stays.
func BenchmarkPair(b *testing.B) {
	c, l := carry(b), listenHere(b)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		k := newLink(b, l)
		b.StartTimer()
		if err := c.Add(k.pair); err != nil {
			b.Fatal(err)
		}
		c.Reset(k.pair, io.EOF)
		k.ending(b)
		b.StopTimer()
		k.near.Close()
		k.far.Close()
		b.StartTimer()
	}
}
