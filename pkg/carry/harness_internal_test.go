package carry

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// longEnough is how long a test waits for what must happen.
const longEnough = 10 * time.Second

// A wire is a TCP connection: one end for the test, and the descriptor of the
// other one for a pair.
type wire struct {
	end *net.TCPConn
	fd  int
}

// listenHere opens a listener on loopback.
func listenHere(t testing.TB) *net.TCPListener {
	t.Helper()
	return listen(t, net.ListenConfig{})
}

// listenAsOnEthernet opens a listener whose connections have segments of an
// Ethernet's size. Those of loopback are larger than the window of a receiver that
// has little room: the sender then waits 200 ms each time that it is full, whoever
// it is (RFC 9293 3.8.6.2.1).
func listenAsOnEthernet(t testing.TB) *net.TCPListener {
	t.Helper()
	return listen(t, net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1448)
		}), err)
	}})
}

func listen(t testing.TB, lc net.ListenConfig) *net.TCPListener {
	t.Helper()
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// newWire connects through l.
func newWire(t testing.TB, l *net.TCPListener) wire {
	t.Helper()
	dialled, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	fd := descriptor(t, accepted)
	accepted.Close()
	t.Cleanup(func() { dialled.Close() })
	return wire{dialled.(*net.TCPConn), fd}
}

// descriptor returns a descriptor of a connection that the runtime does not
// know.
func descriptor(t testing.TB, conn syscall.Conn) (fd int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var derr error
	if err := errors.Join(raw.Control(func(s uintptr) { fd, derr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }), derr); err != nil {
		t.Fatal(err)
	}
	return fd
}

// A link is a pair and its two ends: what is written to one comes out of the
// other.
type link struct {
	pair      *Pair
	near, far *net.TCPConn
	ended     chan Ending
}

// newLink makes a pair that no carrier has yet.
func newLink(t testing.TB, l *net.TCPListener) *link {
	t.Helper()
	near, far := newWire(t, l), newWire(t, l)
	p := &Pair{Sockets: [2]int{near.fd, far.fd}}
	for _, pipe := range []*Pipe{&p.Up, &p.Down} {
		var err error
		if *pipe, err = NewPipe(); err != nil {
			t.Fatal(err)
		}
	}
	k := &link{pair: p, near: near.end, far: far.end, ended: make(chan Ending, 1)}
	p.Ended = func(e Ending) { k.ended <- e }
	return k
}

// end returns the connection of one leg's other end.
func (k *link) end(leg Leg) *net.TCPConn { return [...]*net.TCPConn{k.near, k.far}[leg] }

// ending waits for the pair to end.
func (k *link) ending(t testing.TB) Ending {
	t.Helper()
	select {
	case e := <-k.ended:
		return e
	case <-time.After(longEnough):
		t.Fatal("the pair did not end")
		panic("unreached")
	}
}

// open says that the pair has not ended.
func (k *link) open(t testing.TB) {
	t.Helper()
	select {
	case e := <-k.ended:
		t.Fatalf("the pair ended: %+v", e)
	default:
	}
}

// carrying is a carrier that is served, until the test ends.
type carrying struct {
	*Carrier
	stop func()
}

func carry(t testing.TB) carrying {
	t.Helper()
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serve sync.WaitGroup
	serve.Go(func() {
		if err := c.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	stop := sync.OnceFunc(func() {
		cancel()
		serve.Wait()
		c.Close()
	})
	t.Cleanup(stop)
	return carrying{c, stop}
}

// carried makes a link that c carries.
func carried(t testing.TB, c *Carrier, l *net.TCPListener, with ...func(*Pair)) *link {
	t.Helper()
	k := newLink(t, l)
	for _, f := range with {
		f(k.pair)
	}
	if err := c.Add(k.pair); err != nil {
		t.Fatal(err)
	}
	return k
}

// copyOf duplicates the descriptors of a pair, as a store would hold them: the
// read ends of the pipes are opened again from the write ends.
func copyOf(t testing.TB, p *Pair) *Pair {
	t.Helper()
	q := &Pair{Counts: p.Counts}
	for leg, fd := range p.Sockets {
		q.Sockets[leg] = duplicate(t, fd)
	}
	q.Up, q.Down = Pipe{-1, duplicate(t, p.Up.Write)}, Pipe{-1, duplicate(t, p.Down.Write)}
	return q
}

func duplicate(t testing.TB, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// reopen opens the read ends of a copy again.
func reopen(t testing.TB, p *Pair) {
	t.Helper()
	for _, pipe := range []*Pipe{&p.Up, &p.Down} {
		fd, err := unix.Open("/proc/self/fd/"+itoa(pipe.Write), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		pipe.Read = fd
	}
}

func itoa(n int) string {
	b := []byte{}
	for ; n > 0 || len(b) == 0; n /= 10 {
		b = append(b, byte('0'+n%10))
	}
	slices.Reverse(b)
	return string(b)
}

// say writes, hear reads exactly that.
func say(t testing.TB, conn *net.TCPConn, words string) {
	t.Helper()
	_ = conn.SetWriteDeadline(time.Now().Add(longEnough))
	if _, err := io.WriteString(conn, words); err != nil {
		t.Fatal(err)
	}
}

func hear(t testing.TB, conn *net.TCPConn, words string) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(longEnough))
	b := make([]byte, len(words))
	if n, err := io.ReadFull(conn, b); err != nil || string(b) != words {
		t.Fatalf("heard %.100q (%d, %v), want %.100q (%d)", b[:n], n, err, words, len(words))
	}
}

// hearEnd reads until the end, which must be a FIN (nil) or what is given.
func hearEnd(t testing.TB, conn *net.TCPConn, want error) (read int) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(longEnough))
	n, err := io.Copy(io.Discard, struct{ io.Reader }{conn})
	if !errors.Is(err, want) {
		t.Fatalf("the end was %v after %d bytes, want %v", err, n, want)
	}
	return int(n)
}

// reset resets a connection.
func abort(t testing.TB, conn *net.TCPConn) {
	t.Helper()
	if err := errors.Join(conn.SetLinger(0), conn.Close()); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until what holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(longEnough); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never came about: " + what)
		}
	}
}

// descriptors counts what this process has open.
func descriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names) - 1
}

// descriptorOnce returns the descriptor of a connection, to look at at once.
func descriptorOnce(t testing.TB, conn syscall.Conn) (fd int) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(s uintptr) { fd = int(s) })
	return fd
}
