package resolver

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// maxStreams is how many connections one server has at most, and manyPending
	// how many questions one carries before there is another.
	maxStreams  = 2
	manyPending = 32
	// streamIdle is how long a connection is kept without a question (RFC 7858,
	// 3.4): less than a mobile uplink's NAT forgets it in.
	streamIdle = 20 * time.Second
	// streamStuck is how long a connection that was used before may leave a
	// question without a sign before a new one is tried.
	streamStuck = time.Second
	// padTo is the block that questions are filled up to, so that their length
	// says little (RFC 8467, 4.1).
	padTo = 128
)

// errStream marks a connection that ended before the answer came.
var errStream = errors.New("the connection ended before the answer")

// A dot asks over TLS (RFC 7858), with connections that are kept and carry many
// questions at once. It is safe for concurrent use.
type dot struct {
	f    *forwarder
	cert *certificates

	mu      sync.Mutex
	streams map[target][]*stream
	opening map[target]*opening
}

// An opening is a connection that is being made, for all who wait for it. Its
// fields may be read once done is closed.
type opening struct {
	done   chan struct{}
	stream *stream
	err    error
}

func newDot(f *forwarder, synchronised func() bool) *dot {
	return &dot{f: f, cert: newCertificates(synchronised, f.log),
		streams: map[target][]*stream{}, opening: map[target]*opening{}}
}

// ask asks a server. When a connection that was kept ends before the answer, the
// question goes once more over a fresh one (RFC 7766, 6.2.4: such an end is
// nobody's fault).
func (d *dot) ask(ctx context.Context, t target, name string) report {
	s, kept, err := d.stream(ctx, t)
	if err != nil {
		return report{err: err}
	}
	in, q, took, err := s.ask(ctx, name, kept)
	if kept && errors.Is(err, errStream) {
		if s, err = d.fresh(ctx, t); err != nil {
			return report{err: err}
		}
		in, q, took, err = s.ask(ctx, name, false)
	}
	if err != nil {
		return report{err: err}
	}
	a, err := d.f.understand(name, q, in)
	return report{a, took, err}
}

// stream returns a connection to a server, and whether it was there before.
func (d *dot) stream(ctx context.Context, t target) (s *stream, kept bool, err error) {
	d.mu.Lock()
	for _, x := range d.usableLocked(t) {
		if s == nil || x.pending() < s.pending() {
			s = x
		}
	}
	full := s != nil && s.pending() >= manyPending && len(d.streams[t]) < maxStreams
	if s != nil && full {
		d.openLocked(t) // for those who come later
	}
	d.mu.Unlock()
	if s != nil {
		return s, true, nil
	}
	s, err = d.fresh(ctx, t)
	return s, false, err
}

// usableLocked drops the connections that have ended, and those whose certificate
// has to be looked at again, and returns the others.
func (d *dot) usableLocked(t target) []*stream {
	var usable []*stream
	for _, s := range d.streams[t] {
		switch {
		case s.over():
		case d.cert.outdated(s.undated):
			s.close(errors.New("the clock is set now, so the certificate is looked at again"))
		default:
			usable = append(usable, s)
		}
	}
	if len(usable) == 0 {
		delete(d.streams, t)
	} else {
		d.streams[t] = usable
	}
	return usable
}

// fresh returns a new connection to a server, the same for all who want one now.
func (d *dot) fresh(ctx context.Context, t target) (*stream, error) {
	d.mu.Lock()
	o := d.openLocked(t)
	d.mu.Unlock()
	select {
	case <-o.done:
		return o.stream, o.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, ctx.Err()
		}
		return nil, errSilent
	}
}

// openLocked begins a connection unless one is begun already.
func (d *dot) openLocked(t target) *opening {
	if o := d.opening[t]; o != nil {
		return o
	}
	o := &opening{done: make(chan struct{}), err: errShut}
	d.opening[t] = o
	begun := d.f.spawn(func(life context.Context) {
		defer func() {
			d.mu.Lock()
			delete(d.opening, t)
			if o.stream != nil {
				d.streams[t] = append(d.streams[t], o.stream)
			}
			d.mu.Unlock()
			close(o.done)
		}()
		o.err = errStream // if it does not come to an end
		o.stream, o.err = d.dial(life, t)
	})
	if !begun {
		delete(d.opening, t)
		close(o.done)
	}
	return o
}

// dial makes a connection and starts its reader.
func (d *dot) dial(life context.Context, t target) (*stream, error) {
	ctx, cancel := context.WithTimeout(life, tryTLS)
	defer cancel()
	var dialer net.Dialer
	dialer.SetMultipathTCP(false)
	raw, err := dialer.DialContext(ctx, "tcp", t.addr.String())
	if err != nil {
		return nil, err
	}
	conf, undated := d.cert.config(t)
	c := tls.Client(raw, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, inWords(err, time.Now())
	}
	s := &stream{c: c, undated: undated, waiting: map[uint16]*waiter{}, ignored: d.f.ignored,
		outdated: func() bool { return d.cert.outdated(undated) }}
	if !d.f.spawn(s.serve) {
		raw.Close()
		return nil, errShut
	}
	return s, nil
}

// A stream is one connection with the questions that it carries. Answers may come
// in any order (RFC 7766, 6.2.1.1).
type stream struct {
	c        net.Conn
	undated  bool // the dates of its certificate were not checked
	outdated func() bool
	ignored  func()

	writing sync.Mutex

	mu      sync.Mutex
	waiting map[uint16]*waiter
	heard   time.Time // when the last answer came
	err     error     // why it has ended
}

// A waiter is one question on a stream. in and err may be read once done is
// closed.
type waiter struct {
	query
	sent time.Time
	done chan struct{}
	in   []byte
	took time.Duration
	err  error
}

// serve reads answers until the connection ends or life does.
func (s *stream) serve(life context.Context) {
	defer context.AfterFunc(life, func() { s.close(errShut) })()
	err := errStream // also after a panic
	defer func() { s.close(err) }()
	for wrongs := 0; wrongs < maxWrong; {
		_ = s.c.SetReadDeadline(time.Now().Add(streamIdle)) // fails only on a closed connection
		in, e := readFrame(s.c)
		if e != nil {
			err = e
			return
		}
		if !s.deliver(in, time.Now()) {
			s.ignored()
			wrongs++
		}
		if s.outdated() {
			return
		}
	}
}

// deliver hands an answer to the one who asked, and reports whether there is one.
func (s *stream) deliver(in []byte, now time.Time) bool {
	if len(in) < messageHeader {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := binary.BigEndian.Uint16(in)
	w := s.waiting[id]
	if w == nil {
		return false
	}
	if v := w.judge(in); v != right && v != folded {
		return false
	}
	delete(s.waiting, id)
	s.heard = now
	w.in, w.took = in, now.Sub(w.sent)
	close(w.done)
	return true
}

// ask puts a question on the stream and waits for its answer.
func (s *stream) ask(ctx context.Context, name string, kept bool) (in []byte, q query, took time.Duration, err error) {
	w, err := s.enter(name)
	if err != nil {
		return nil, query{}, 0, err
	}
	defer s.forget(w)
	if err := s.write(w.wire); err != nil {
		s.close(err)
		return nil, w.query, 0, fmt.Errorf("%w: %w", errStream, err)
	}
	if kept {
		alarm := time.AfterFunc(streamStuck, func() { s.giveUp(w) })
		defer alarm.Stop()
	}
	select {
	case <-w.done:
		return w.in, w.query, w.took, w.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, w.query, 0, ctx.Err()
		}
		return nil, w.query, 0, errSilent
	}
}

// giveUp ends a connection on which nothing has come since a question was sent:
// the other side has forgotten it, or somebody in between has.
func (s *stream) giveUp(w *waiter) {
	s.mu.Lock()
	stuck := s.waiting[w.id()] == w && s.heard.Before(w.sent)
	s.mu.Unlock()
	if stuck {
		s.close(errors.New("it was silent"))
	}
}

// enter makes a question with an id that no other on this stream has.
func (s *stream) enter(name string) (*waiter, error) {
	q, err := writeQuery(nil, name, manners{sameCase: true})
	if err != nil {
		return nil, err
	}
	q.wire = padded(q.wire)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, fmt.Errorf("%w: %w", errStream, s.err)
	}
	for s.waiting[q.id()] != nil { // there are far fewer than ids
		_, _ = rand.Read(q.wire[:2]) // never fails
	}
	w := &waiter{query: q, sent: time.Now(), done: make(chan struct{})}
	s.waiting[q.id()] = w
	_ = s.c.SetReadDeadline(time.Now().Add(streamIdle)) // the reader's may be nearly over
	return w, nil
}

func (s *stream) forget(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[w.id()] == w {
		delete(s.waiting, w.id())
	}
}

// write sends one message whole.
func (s *stream) write(wire []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	_ = s.c.SetWriteDeadline(time.Now().Add(tryPlain)) // fails only on a closed connection
	_, err := s.c.Write(withLength(wire))
	return err
}

// close ends the connection and everybody's waiting.
func (s *stream) close(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = why
	for id, w := range s.waiting {
		w.err = fmt.Errorf("%w: %w", errStream, why)
		close(w.done)
		delete(s.waiting, id)
	}
	// Without the polite end of TLS, which waits for the other side to take it.
	if t, ok := s.c.(*tls.Conn); ok {
		t.NetConn().Close()
		return
	}
	s.c.Close()
}

func (s *stream) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil
}

// pending returns how many questions wait.
func (s *stream) pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

func (q query) id() uint16 { return binary.BigEndian.Uint16(q.wire) }

// padded fills a query with an empty OPT up to a whole block (RFC 7830).
func padded(wire []byte) []byte {
	const option = 4 // its code and its length
	fill := (padTo - (len(wire)+option)%padTo) % padTo
	binary.BigEndian.PutUint16(wire[len(wire)-2:], uint16(option+fill))
	wire = binary.BigEndian.AppendUint16(wire, dns.EDNS0PADDING)
	wire = binary.BigEndian.AppendUint16(wire, uint16(fill))
	return append(wire, make([]byte, fill)...)
}
