package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Askers are devices of the garage that ask a server over UDP, each from an
// address of its own, and all on one socket with one system call for many
// questions: for load, where a Charger each would be the bottleneck. They never
// ask again what was not answered.
//
// Askers are one goroutine's at a time. Two of one stand may ask at once.
type Askers struct {
	server net.Addr
	conn   *net.UDPConn
	batch  *ipv4.PacketConn
	from   [][]byte // the control data with each one's address
	in     []ipv4.Message
	out    []ipv4.Message
	turns  turns
	rounds [mostAskers]uint8
	until  time.Time // the socket's deadline
}

// Limits of askers.
const (
	mostAskers  = 256 // that have a question on its way, see mark
	askerBatch  = 64  // datagrams of a system call
	askerLength = 512 // bytes of the longest answer that is read whole
	askerBuffer = 4 << 20
	askPatience = 2 * time.Second
	// glance is how often the clock is looked at while nothing arrives.
	glance = 5 * time.Millisecond
)

// Askers opens so many devices, from 1 to 256, that ask the server at a port. The
// first one has the address after the server's.
func (s *Stand) Askers(devices int, port uint16) (*Askers, error) {
	a := &Askers{server: net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.Address.Addr(), port))}
	addr := s.Address.Addr()
	for range devices {
		if addr = addr.Next(); !s.Address.Contains(addr) {
			return nil, fmt.Errorf("%d devices have no room in %s", devices, s.Address)
		}
		if err := s.site.address(s.Iface, netip.PrefixFrom(addr, s.Address.Bits()).String()); err != nil {
			return nil, err
		}
		a.from = append(a.from, (&ipv4.ControlMessage{Src: addr.AsSlice()}).Marshal())
	}
	c, err := s.site.listenUDP("0.0.0.0:0")
	if err != nil {
		return nil, err
	}
	a.conn = c.(*net.UDPConn)
	a.batch = ipv4.NewPacketConn(a.conn)
	a.in, a.out = make([]ipv4.Message, askerBatch), make([]ipv4.Message, 0, askerBatch)
	for i := range a.in {
		a.in[i] = ipv4.Message{Buffers: [][]byte{make([]byte, askerLength)}, OOB: make([]byte, 64)}
	}
	if err := a.listen(); err != nil {
		a.Close()
		return nil, fmt.Errorf("asking %s: %w", a.server, err)
	}
	return a, nil
}

// listen makes the kernel stamp what arrives, and keep what nobody has read yet.
func (a *Askers) listen() error {
	raw, err := a.conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, askerBuffer) != nil {
			set = errors.Join(set, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, askerBuffer))
		}
	})
	return errors.Join(err, set)
}

// Close gives the socket back.
func (a *Askers) Close() { a.conn.Close() }

// A Pace is how quickly askers ask.
type Pace struct {
	// Together is how many questions are on their way at most; with an answer the
	// next one goes. 1 to 256.
	Together int
	// Every is the least time between two questions; 0: none.
	Every time.Duration
	// For is how long they ask, and Most how many questions; 0: no such end. One of
	// them must be there.
	For  time.Duration
	Most int
	// Patience is how long an answer may take before it counts as lost; 0: 2 s.
	Patience time.Duration
}

// Go asks what the script says until the pace or ctx ends it, waits for what is
// on its way, and returns how it went. A server that does not answer is no error.
func (a *Askers) Go(ctx context.Context, s Script, p Pace) (Asked, error) {
	if p.Together < 1 || p.Together > mostAskers || p.For == 0 && p.Most == 0 {
		return Asked{}, fmt.Errorf("%d questions on their way; allowed are 1 to %d, with an end", p.Together, mostAskers)
	}
	began := time.Now()
	a.turns = newTurns(s, p.Together, cmp.Or(p.Patience, askPatience), &a.rounds)
	asked := 0
	over := func(now time.Time) bool {
		return ctx.Err() != nil || p.Most > 0 && asked >= p.Most || p.For > 0 && now.Sub(began) >= p.For
	}
	for now := began; !over(now) || a.turns.waiting() > 0; now = time.Now() {
		for !over(now) && a.turns.idle() && len(a.out) < askerBatch {
			if p.Every > 0 {
				if len(a.out) > 0 {
					break
				}
				time.Sleep(time.Until(began.Add(time.Duration(asked) * p.Every)))
				now = time.Now()
			}
			a.ask(now)
			asked++
		}
		a.send()
		if err := a.hear(now); err != nil {
			return a.turns.end(), err
		}
	}
	return a.turns.end(), nil
}

// ask puts the question of the next free device in line.
func (a *Askers) ask(now time.Time) {
	device, question := a.turns.ask(now)
	a.out = append(a.out, ipv4.Message{Buffers: [][]byte{question}, OOB: a.from[device%len(a.from)], Addr: a.server})
}

// send sends what is in line. What the kernel does not take is lost on the way.
func (a *Askers) send() {
	for left := a.out; len(left) > 0; {
		n, err := a.batch.WriteBatch(left, 0)
		left = left[max(n, 0):]
		if err != nil && len(left) > 0 {
			left = left[1:]
		}
	}
	a.out = a.out[:0]
}

// hear waits for answers, a short time only, and reads all that are there.
func (a *Askers) hear(now time.Time) error {
	if a.turns.waiting() == 0 {
		return nil
	}
	if now.After(a.until.Add(-glance / 2)) { // a deadline costs more than an answer
		a.until = now.Add(glance)
		if err := a.conn.SetReadDeadline(a.until); err != nil {
			return err
		}
	}
	n, err := a.batch.ReadBatch(a.in, 0)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		a.until = time.Time{}
		a.turns.giveUp(now)
		return nil
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
		return nil
	case err != nil:
		return fmt.Errorf("listening: %w", err)
	}
	for i := range n {
		m := &a.in[i]
		a.turns.hear(m.Buffers[0][:m.N], stamp(m.OOB[:m.NN]))
	}
	if a.turns.overdue(now) {
		a.turns.giveUp(now)
	}
	return nil
}

// stamp is when the kernel had a datagram (SO_TIMESTAMPNS); now, when it does not
// say.
func stamp(control []byte) time.Time {
	h, data, _, err := unix.ParseOneSocketControlMessage(control)
	if err != nil || h.Type != unix.SCM_TIMESTAMPNS {
		return time.Now()
	}
	return fromTimespec(data)
}
