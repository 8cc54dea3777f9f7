package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"chargegate/pkg/carry"
	"chargegate/pkg/hello"

	"golang.org/x/sys/unix"
)

// Nearly every call is like the one before: a usual hello that has come whole asks
// for a name whose addresses are remembered, and one of them took the last
// connection. Such a call goes straight: nothing of it waits, so it needs no
// goroutine, and the carrier has both its connections from the moment that the
// second one has begun. Everything else goes the long way (call), which is the judge
// of all that is refused, sought or odd; also whatever did not come off here, with
// what was read of it.

// usualHello is how much is read of a caller that may go straight, in bytes.
const usualHello = 2048

// A visit is a call as it comes in.
type visit struct {
	fd     int
	caller netip.Addr
	share  share
	at     netip.AddrPort // where it came in
	came   time.Time
	to     netip.AddrPort // where it wanted to go; invalid: not known yet
	first  []byte         // what it has said
	err    error          // and what came then
	heard  bool           // what it wants is known
	began  time.Time      // when its server was first called; zero: not yet
}

// straight takes a call the short way, or says that it is one for the long way.
func (s *Server) straight(v *visit) bool {
	h, ok := v.hear()
	if !ok || h.ServerName == "" || !s.calls.taken() {
		return false
	}
	d := decideName(s.list, h.ServerName, v.to.Port(), bySNI)
	if !d.allowed() {
		return false
	}
	t := target{d.name, v.to.Port()}
	far, addr, patience, ok := s.dialler.begin(t, d.rule.Addresses)
	if !ok {
		return false
	}
	s.places.heard(v.share)
	v.heard = true
	o := &approach{Server: s, visit: *v, target: t, decision: d, addr: addr, began: time.Now(),
		pair: &carry.Pair{Sockets: [2]int{v.fd, far}}}
	s.approaching.Add(1)
	if err := s.carrier.Begin(o.pair, patience, o.opened); err != nil {
		s.approaching.Done()
		unix.Close(far)
		return false
	}
	if !s.calls.taken() { // the stop has told those before to give up, and not this one
		s.carrier.GiveUp(o.pair, errStops)
	}
	return true
}

// setOut sends a call that has its place on its way.
func (s *Server) setOut(v visit) {
	defer s.survives(&v)
	var err error
	if v.to, err = s.destination(v.fd, v.caller, v.at); err != nil {
		s.longWay(v)
		return
	}
	if s.straight(&v) {
		return
	}
	if !v.silent() || !s.await(v) {
		s.longWay(v)
	}
}

// await has the carrier wait for the first words of a caller.
func (s *Server) await(v visit) bool {
	s.approaching.Add(1)
	err := s.carrier.Await(v.fd, s.cfg.HelloTimeout, func(err error) {
		defer s.approaching.Done()
		defer s.survives(&v)
		v.err = err
		if err != nil || !s.straight(&v) {
			s.longWay(v)
		}
	})
	if err != nil {
		s.approaching.Done()
	}
	return err == nil
}

// survives keeps a fault of ours to the call it happened in.
func (s *Server) survives(v *visit) {
	if p := recover(); p != nil {
		s.panicked(p, debug.Stack())
		s.drop(*v)
		resetSocket(v.fd)
	}
}

// silent reports whether the caller has not begun to say what it wants.
func (v *visit) silent() bool { return len(v.first) == 0 && v.err == nil }

// hear reads what the caller has said already, if that is a usual hello.
func (v *visit) hear() (hello.Hello, bool) {
	b := make([]byte, usualHello)
	n, err := unix.Read(v.fd, b)
	switch {
	case err == unix.EAGAIN, err == unix.EINTR:
		return hello.Hello{}, false
	case err != nil:
		v.err = os.NewSyscallError("read", err)
		return hello.Hello{}, false
	case n == 0:
		v.err = io.EOF
		return hello.Hello{}, false
	}
	v.first = b[:n]
	return hello.Usual(v.first)
}

// begin starts a connection to where the target answered last. It is not asked
// again whether that is another machine: it was, and what became of the address is
// seen by where the connection leaves from.
func (d *dialler) begin(t target, private []netip.Prefix) (fd int, addr netip.Addr, patience time.Duration, ok bool) {
	names, ok := d.names.(remembering)
	if !ok {
		return -1, netip.Addr{}, 0, false
	}
	addrs := names.Known(t.name)
	if len(addrs) == 0 { // a name that nobody knows finds no way, and takes nobody's place
		return -1, netip.Addr{}, 0, false
	}
	addr, patience, ok = d.straight(t, addrs)
	e := errand{dialler: d, private: private}
	if !ok || e.permits(addr, d.outside) != nil {
		return -1, netip.Addr{}, 0, false
	}
	fd, err := d.start(netip.AddrPortFrom(addr, t.port))
	return fd, addr, patience, err == nil
}

// start begins a connection.
func start(to netip.AddrPort) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	tune(fd)
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if err == unix.EINPROGRESS {
		err = nil
	}
	if err == nil && thisBox(fd, to.Addr()) {
		err = unix.EINVAL
	}
	if err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
}

// thisBox reports whether a connection leads back into this machine: the kernel
// gives it the address that it leads to.
func thisBox(fd int, to netip.Addr) bool {
	here, err := unix.Getsockname(fd)
	in, ok := here.(*unix.SockaddrInet4)
	return err != nil || !ok || netip.AddrFrom4(in.Addr) == to && !to.IsLoopback()
}

// An approach is a call that goes straight, until its server has answered.
type approach struct {
	*Server
	visit
	target   target
	decision decision
	addr     netip.Addr
	began    time.Time
	pair     *carry.Pair
}

// opened is told by the carrier how the connection to the server went.
func (o *approach) opened(err error) (carried bool) {
	s := o.Server
	defer s.approaching.Done()
	now := time.Now()
	if err != nil {
		unix.Close(o.pair.Sockets[carry.Far])
		if !errors.Is(err, errStops) {
			s.dialler.stumbled(o.target, o.addr, err, now)
		}
		o.visit.began = o.began // all of it counts as one attempt
		s.longWay(o.visit)
		return false
	}
	var c *conversation
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p, debug.Stack())
			s.abandon(c, o.share)
			carried = false
		}
	}()
	s.dialler.worked(o.target, o.addr, now.Sub(o.began), now)
	s.reached(o.target.name, o.target.port)
	c = s.conversation(o.caller, o.share, netip.AddrPortFrom(o.addr, o.target.port), o.target.port, o.decision, now)
	if err := send(o.pair.Sockets[carry.Far], o.first); err != nil {
		s.failed(c, len(o.first), "the server took no bytes: "+err.Error())
		s.places.give(o.share)
		return false
	}
	s.pairUp(c, o.pair, o.first)
	s.keeper.offer(c.kept)
	return true
}

// abandon gives back what a call held that a fault of ours cost.
func (s *Server) abandon(c *conversation, sh share) {
	if c != nil && c.pair != nil { // it is among the open ones, or about to be
		s.letGo(c)
		return
	}
	s.places.give(sh)
}

// send hands bytes to a fresh connection, whose queue has room for them.
func send(fd int, b []byte) error {
	n, err := unix.Write(fd, b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// longWay starts a call that does not go straight.
func (s *Server) longWay(v visit) {
	if !s.calls.start(func(ctx context.Context) {
		conn, err := connection(v.fd)
		if err != nil {
			s.acceptFailed(err)
			s.drop(v)
			return
		}
		if !s.call(ctx, conn, v) {
			s.places.give(v.share)
		}
	}) {
		s.drop(v)
		resetSocket(v.fd)
	}
}

// drop gives back the place of a call that came to nothing.
func (s *Server) drop(v visit) {
	if !v.heard {
		s.places.heard(v.share)
	}
	s.places.give(v.share)
}

// calls are those that go the long way.
type calls struct {
	mu    sync.Mutex
	ctx   context.Context // nil: none is taken
	group sync.WaitGroup
}

func (c *calls) open(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ctx = ctx
}

// start runs a call, unless the room stops.
func (c *calls) start(call func(context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx := c.ctx
	if ctx == nil {
		return false
	}
	c.group.Go(func() { call(ctx) })
	return true
}

// taken reports whether the room takes calls.
func (c *calls) taken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ctx != nil
}

// shut takes no more calls, and waits for those that there are.
func (c *calls) shut() {
	c.mu.Lock()
	c.ctx = nil
	c.mu.Unlock()
	c.group.Wait()
}

// A replay is a connection of which something was read before.
type replay struct {
	net.Conn
	first []byte
	err   error
}

func (r *replay) Read(b []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(b, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	if r.err != nil {
		return 0, r.err
	}
	return r.Conn.Read(b)
}
