package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	// maxMessage is more than any upstream sends over UDP after we have told it
	// what we take.
	maxMessage = 4096
	// maxWrong is how many messages that belong to another question are passed
	// over for one question. Late ones come in ones and twos.
	maxWrong = 32
)

// A letter is a question on its way over UDP, from a port that no other question
// has meanwhile and that nobody can guess (RFC 5452, 9.2).
type letter struct {
	query
	port    *port
	home    *ports // where the port comes from
	sent    time.Time
	verdict verdict
	in      []byte        // what came, when the verdict is right
	took    time.Duration // until it came
	space   *space
	wrong   int
	// broken means that the waiting may be broken off yet.
	broken bool
}

// A space is where a letter and its answer are written.
type space struct {
	out [512]byte
	in  [maxMessage]byte
}

var spaces = sync.Pool{New: func() any { return new(space) }}

// post sends a question to a server. What it returns must be ended.
func (ps *ports) post(at netip.AddrPort, name string, m manners) (*letter, error) {
	l := &letter{home: ps, space: spaces.Get().(*space), sent: time.Now()}
	err := l.write(name, m)
	if err == nil {
		err = l.send(at)
	}
	if err != nil {
		spaces.Put(l.space)
		return nil, err
	}
	return l, nil
}

func (l *letter) write(name string, m manners) (err error) {
	l.query, err = writeQuery(l.space.out[:], name, m)
	return err
}

func (l *letter) send(at netip.AddrPort) (err error) {
	if l.port, err = l.home.draw(at, l.sent); err != nil {
		return err
	}
	if err = l.port.write(l.wire); err != nil {
		l.port.Close()
	}
	return err
}

func sockaddr(at netip.AddrPort) (family int, to unix.Sockaddr, err error) {
	addr := at.Addr().Unmap()
	if addr.Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: addr.As4()}, nil
	}
	zone, err := zoneOf(addr)
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: addr.As16(), ZoneId: zone}, err
}

// zoneOf returns the number of the interface that a link-local address is on.
func zoneOf(addr netip.Addr) (uint32, error) {
	if addr.Zone() == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(addr.Zone(), 10, 31); err == nil {
		return uint32(n), nil
	}
	ifi, err := net.InterfaceByName(addr.Zone())
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", addr.Zone(), err)
	}
	return uint32(ifi.Index), nil
}

// end gives back the port and the space. A port on which anything else is to be
// expected, or has come, is closed.
func (l *letter) end() {
	if l.verdict == right && l.wrong == 0 && !l.broken {
		l.home.give(l.port)
	} else {
		l.port.Close()
	}
	spaces.Put(l.space)
}

// await waits for the answer until a moment or until ctx is done, and then
// returns os.ErrDeadlineExceeded or ctx's error; it may be called again. What
// does not answer the question is passed over, counted by ignored, and waiting
// goes on: whoever can send a wrong answer first must not win by it. After
// maxWrong of them, or one that only lacks the case, waiting is over, and the
// verdict says why.
func (l *letter) await(ctx context.Context, until time.Time, ignored func()) error {
	// A deadline in the past breaks off what is being waited for.
	stop := context.AfterFunc(ctx, func() { _ = l.port.SetReadDeadline(time.Unix(1, 0)) })
	defer func() { l.broken = !stop() || l.broken }()
	if err := l.port.SetReadDeadline(until); err != nil {
		return err
	}
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := l.port.Read(l.space.in[:])
		if err != nil && !errors.Is(err, io.EOF) { // which is what an empty datagram looks like
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return bare(err)
		}
		in := l.space.in[:n]
		switch v := l.judge(in); v {
		case right:
			l.verdict, l.in, l.took = v, in, time.Since(l.sent)
			return nil
		case folded:
			l.verdict, l.took = v, time.Since(l.sent)
			l.wrong++
			ignored()
			return nil
		}
		ignored()
		if l.wrong++; l.wrong >= maxWrong {
			l.verdict = flooded
			return nil
		}
	}
}

// bare takes off what package os says of files.
func bare(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// exchangeUDP asks a server and waits for its answer until ctx is done: for our
// own sign of life.
func exchangeUDP(ctx context.Context, at netip.AddrPort, q *dns.Msg, ignored func()) (*dns.Msg, error) {
	if ignored == nil {
		ignored = func() {}
	}
	var own ports
	defer own.shut()
	l, err := own.post(at, q.Question[0].Name, manners{noEDNS: true})
	if err != nil {
		return nil, err
	}
	defer l.end()
	until, ok := ctx.Deadline()
	if !ok {
		until = time.Now().Add(tryPlain)
	}
	for {
		if err := l.await(ctx, until, ignored); err != nil {
			return nil, err
		}
		switch l.verdict {
		case right:
			return l.read(l.in)
		case flooded:
			return nil, fmt.Errorf("%d messages belonged to another question", maxWrong)
		}
	}
}

// dialTCP connects, with ctx's deadline on everything that follows. end closes.
func dialTCP(ctx context.Context, at netip.AddrPort) (c net.Conn, end func(), err error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	c, err = d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline) // fails only on a closed connection, and so does what follows
	}
	release := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return c, func() { release(); c.Close() }, nil
}

// exchangeTCP asks over TCP. Whether the server repeats the letters' case is in
// the verdict, which is right or folded: nobody can forge a conversation that he
// cannot see.
func exchangeTCP(ctx context.Context, at netip.AddrPort, name string, m manners) (*dns.Msg, verdict, error) {
	c, end, err := dialTCP(ctx, at)
	if err != nil {
		return nil, nothing, err
	}
	defer end()
	q, err := writeQuery(nil, name, m)
	if err != nil {
		return nil, nothing, err
	}
	if _, err := c.Write(withLength(q.wire)); err != nil {
		return nil, nothing, err
	}
	in, err := readFrame(c)
	if err != nil {
		return nil, nothing, err
	}
	v := q.judge(in)
	if v != right && v != folded {
		return nil, v, fmt.Errorf("%w: over TCP it belongs to another question", errAnswer)
	}
	reply, err := q.read(in)
	if err != nil {
		return nil, v, fmt.Errorf("%w: it cannot be read: %w", errAnswer, err)
	}
	return reply, v, nil
}

// withLength puts the length before a message (RFC 1035, 4.2.2), to be written at
// once (RFC 7766, 8).
func withLength(wire []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(wire)), uint16(len(wire))), wire...)
}

// readFrame reads one message with its length, however it was cut on its way.
func readFrame(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	in := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(r, in); err != nil {
		return nil, err
	}
	return in, nil
}

// isOurFault reports whether an error speaks of this box and of no server.
func isOurFault(err error) bool {
	for _, e := range []syscall.Errno{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EAGAIN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
