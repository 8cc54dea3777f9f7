package carry

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// calling begins a connection.
func calling(t *testing.T, to *net.TCPAddr) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte(to.IP.To4()), Port: to.Port}); err != nil && err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	return fd
}

// deafAddr is where nobody takes a connection, and nobody refuses one: a listener's
// queue is full there.
func deafAddr(t *testing.T) *net.TCPAddr {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	sa := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(unix.Bind(fd, sa), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: at.(*unix.SockaddrInet4).Port}
	conn, err := net.DialTCP("tcp4", nil, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return addr
}

// A begun is what Begin told, and the near end.
type begun struct {
	wire
	pair  *Pair
	told  chan error
	ended chan Ending
}

// begin begins a pair to an address; it is carried if carry says so.
func begin(t *testing.T, c *Carrier, l *net.TCPListener, to *net.TCPAddr, patience time.Duration, carry func(*Pair) bool) *begun {
	t.Helper()
	b := &begun{wire: newWire(t, l), told: make(chan error, 1), ended: make(chan Ending, 1)}
	if err := unblock(b.fd); err != nil {
		t.Fatal(err)
	}
	b.pair = &Pair{Sockets: [2]int{b.fd, calling(t, to)}, Ended: func(e Ending) { b.ended <- e }}
	if err := c.Begin(b.pair, patience, func(err error) bool {
		b.told <- err
		return err == nil && carry(b.pair)
	}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *begun) want(t *testing.T, want error) {
	t.Helper()
	select {
	case err := <-b.told:
		if !errors.Is(err, want) {
			t.Fatalf("told %v, want %v", err, want)
		}
	case <-time.After(longEnough):
		t.Fatal("told nothing")
	}
}

// A pair can be given over before its far connection is there. What either side says
// at once is carried, what Reset asks is done, and its end is told as any other's.
func TestBegin(t *testing.T) {
	l, server := listenHere(t), listenHere(t)
	c := carry(t)
	b := begin(t, c.Carrier, l, server.Addr().(*net.TCPAddr), longEnough, func(p *Pair) bool {
		_, err := unix.Write(p.Sockets[Far], []byte("first "))
		return err == nil
	})
	say(t, b.end, "second")
	far, err := server.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	b.want(t, nil)
	hear(t, far, "first second")
	say(t, far, "answer")
	hear(t, b.end, "answer")
	c.GiveUp(b.pair, errClosed) // it is over: nothing happens
	say(t, far, "more")
	hear(t, b.end, "more")
	if up, down := b.pair.Count(); up != 6 || down != 10 {
		t.Errorf("counted %d up and %d down", up, down)
	}
	far.Close()
	hearEnd(t, b.end, nil)
	b.end.Close()
	if e := <-b.ended; e.Leg != Far || e.Err != nil {
		t.Errorf("it ended with %+v", e)
	}
}

// Who cannot be connected comes back whole, whatever the reason.
func TestBeginFails(t *testing.T) {
	l := listenHere(t)
	closed := listenHere(t)
	closed.Close()
	deaf := deafAddr(t)
	reason := errors.New("a test's own")
	for _, tt := range []struct {
		name     string
		to       *net.TCPAddr
		patience time.Duration
		then     func(*Carrier, *Pair)
		want     error
	}{
		{"nobody listens", closed.Addr().(*net.TCPAddr), longEnough, nil, unix.ECONNREFUSED},
		{"nobody answers", deaf, 50 * time.Millisecond, nil, os.ErrDeadlineExceeded},
		{"given up", deaf, longEnough, func(c *Carrier, p *Pair) { c.GiveUp(p, reason) }, reason},
		{"all given up", deaf, longEnough, func(c *Carrier, _ *Pair) { c.GiveUpAll(reason) }, reason},
		{"reset", deaf, longEnough, func(c *Carrier, p *Pair) { c.Reset(p, reason) }, reason},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := carry(t)
			b := begin(t, c.Carrier, l, tt.to, tt.patience, func(*Pair) bool { return true })
			if tt.then != nil {
				tt.then(c.Carrier, b.pair)
			}
			b.want(t, tt.want)
			if _, err := unix.Write(b.fd, []byte("still there")); err != nil {
				t.Error(err)
			}
			hear(t, b.end, "still there")
			eventually(t, "nothing is carried", func() bool { return c.Open() == 0 })
			for _, fd := range b.pair.Sockets {
				if err := unix.Close(fd); err != nil {
					t.Errorf("closing a socket that came back: %v", err)
				}
			}
		})
	}
}

// Who does not want the connection, or fails over it, has both reset.
func TestBeginIsTurnedDown(t *testing.T) {
	l, server := listenHere(t), listenHere(t)
	c := carry(t)
	for name, carry := range map[string]func(*Pair) bool{
		"turned down": func(*Pair) bool { return false },
		"a fault":     func(*Pair) bool { panic("a test's own") },
	} {
		b := begin(t, c.Carrier, l, server.Addr().(*net.TCPAddr), longEnough, carry)
		far, err := server.AcceptTCP()
		if err != nil {
			t.Fatal(name, err)
		}
		b.want(t, nil)
		hearEnd(t, far, unix.ECONNRESET)
		hearEnd(t, b.end, unix.ECONNRESET)
		far.Close()
	}
	if c.Panics() != 1 || c.Open() != 0 {
		t.Errorf("%d faults, %d open", c.Panics(), c.Open())
	}
}

// Somebody's first words are waited for, but not for ever.
func TestAwait(t *testing.T) {
	l := listenHere(t)
	c := carry(t)
	reason := errors.New("a test's own")
	for _, tt := range []struct {
		name     string
		patience time.Duration
		then     func(*net.TCPConn)
		want     error
	}{
		{"speaks", longEnough, func(conn *net.TCPConn) { say(t, conn, "words") }, nil},
		{"hangs up", longEnough, func(conn *net.TCPConn) { conn.Close() }, nil},
		{"resets", longEnough, func(conn *net.TCPConn) { abort(t, conn) }, nil},
		{"is silent", 20 * time.Millisecond, func(*net.TCPConn) {}, os.ErrDeadlineExceeded},
		{"given up", longEnough, func(*net.TCPConn) { c.GiveUpAll(reason) }, reason},
	} {
		w := newWire(t, l)
		told := make(chan error, 1)
		if err := c.Await(w.fd, tt.patience, func(err error) { told <- err }); err != nil {
			t.Fatal(err)
		}
		tt.then(w.end)
		select {
		case err := <-told:
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: told %v, want %v", tt.name, err, tt.want)
			}
		case <-time.After(longEnough):
			t.Fatalf("%s: told nothing", tt.name)
		}
		if err := unix.Close(w.fd); err != nil {
			t.Errorf("%s: closing what came back: %v", tt.name, err)
		}
	}
	eventually(t, "nothing is left", func() bool { return c.Open() == 0 })
}

// What is opening when the Carrier is closed is closed with it.
func TestCloseWhileOpening(t *testing.T) {
	l := listenHere(t)
	deaf := deafAddr(t)
	c := carry(t)
	w := newWire(t, l)
	if err := c.Await(w.fd, longEnough, func(error) { t.Error("told") }); err != nil {
		t.Fatal(err)
	}
	b := begin(t, c.Carrier, l, deaf, longEnough, func(*Pair) bool { return true })
	c.stop()
	hearEnd(t, w.end, nil)
	hearEnd(t, b.end, nil)
	if err := c.Begin(&Pair{}, time.Second, nil); !errors.Is(err, errClosed) {
		t.Errorf("begun with %v by a carrier that is closed", err)
	}
}

// A server that speaks first and then hangs up is heard, though all of it came
// before the wheel had looked: epoll tells that once.
func TestBeginHearsWhatCameAtOnce(t *testing.T) {
	l, server := listenHere(t), listenHere(t)
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, l)
	if err := unblock(w.fd); err != nil {
		t.Fatal(err)
	}
	p := &Pair{Sockets: [2]int{w.fd, calling(t, server.Addr().(*net.TCPAddr))}}
	if err := c.Begin(p, longEnough, func(err error) bool {
		if err != nil {
			t.Error(err)
			return false
		}
		_, err = unix.Write(p.Sockets[Far], []byte("first"))
		return err == nil
	}); err != nil {
		t.Fatal(err)
	}
	far, err := server.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	say(t, far, "greeting")
	if err := far.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	ready := []unix.PollFd{{Fd: int32(p.Sockets[Far]), Events: unix.POLLIN | unix.POLLRDHUP}}
	for ready[0].Revents&unix.POLLRDHUP == 0 {
		if n, err := unix.Poll(ready, int(longEnough.Milliseconds())); n == 0 && err == nil {
			t.Fatal("the end of what the server said did not arrive")
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Serve(ctx) }()
	defer func() { cancel(); <-done; c.Close() }()
	hear(t, far, "first")
	hear(t, w.end, "greeting")
}
