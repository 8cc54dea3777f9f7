// Package ntprelay gives the time to the chargers, over NTP (RFC 5905, as a
// server to clients in mode 3), from the clock of the kernel.
//
// The clock is disciplined by somebody else, chronyd as a rule. The relay asks
// chronyd how right the clock is and passes that on: stratum, reference, root
// delay, root dispersion and leap are chronyd's own, aged to the moment of the
// answer, because it is the same clock. While the clock is not known to be right
// there is silence: a charger believes whatever it is told (F-4), and a charger
// with a wrong clock cannot log in to the portal (Z-11).
//
// Whether the clock is right is chronyd's word, and not ours:
//
//   - After a boot there is silence until chronyd, or the kernel, says that the
//     clock is synchronised.
//   - While chronyd runs and hears nothing of its sources, it goes on saying how
//     wrong the clock can be by now. The time is given until that passes
//     Config.MaxDistance: this is the holdover.
//   - A chronyd that says that it does not know (leap 3, stratum 0), goes by
//     nothing but this machine's clock, or says what cannot be, is believed in
//     that at once. One that was restarted says so for some seconds, too; nothing
//     tells the two apart, and a charger that is not answered asks again.
//   - A chronyd that is gone, or is too slow, leaves a clock that nobody looks
//     after, and perhaps a correction that nobody stops. Its last word counts for
//     the few seconds that a restart takes, and the possible error grows faster
//     meanwhile; then there is silence until it is back.
//   - Whoever sets the clock is noticed with the next request, because the wall
//     clock and the monotonic clock then part. Nothing is answered until chronyd
//     has heard of its sources again, and no answer has one stamp from before and
//     one from after. A clock that is a year wrong is given to nobody. A step of less
//     than some ten seconds chronyd does not notice: it finds out in the course of
//     several updates and says too little meanwhile. Until it has heard of its source
//     eight times since, the step is added to what it says, and one that is larger
//     than Config.MaxDistance is silence until then.
//
// Each beginning and end of the giving of time is an event. Every answer tells
// how wrong it can be (root delay and root dispersion), and is not more wrong.
//
// Malformed requests, other modes (6 and 7 above all) and everything else that
// is not a client's request get silence too, and no answer is longer than its
// request. What it leaves to others: the firewall brings every request here
// wherever it was sent (Z-10), and the resolver gives our own address for every
// name of the NTP pool.
package ntprelay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/datagram"
	"chargegate/pkg/event"
	"chargegate/pkg/limit"

	"golang.org/x/sys/unix"
)

// DefaultMaxDistance is the greatest possible error with which the time is
// still given: a charger needs its clock for certificates and passwords, whose
// bounds are minutes.
const DefaultMaxDistance = time.Second

// A Server gives the time. It is safe for concurrent use.
type Server struct {
	cfg   Config
	book  *charger.Book
	log   *event.Log
	count counters
	watch func(ctx context.Context) (reading, error) // how right the clock is
	look  look
	now   atomic.Pointer[state]
	again chan struct{} // asks for a reading soon

	stepped atomic.Pointer[Step] // the last one; nil: none was seen
	sources sources

	limit  *limit.Limiter // what each device may ask
	kisses *limit.Limiter // how often it is told that it asks too much

	mu   sync.Mutex
	held []*net.UDPConn
}

// New makes a relay. Nothing is taken or started before Listen and Serve.
func New(cfg Config, book *charger.Book, log *event.Log) *Server {
	if cfg.MaxDistance == 0 {
		cfg.MaxDistance = DefaultMaxDistance
	}
	if !cfg.Chronyd.IsValid() {
		cfg.Chronyd = netip.MustParseAddrPort("127.0.0.1:323")
	}
	if cfg.Rate == 0 {
		cfg.Rate = DefaultRate
	}
	s := &Server{cfg: cfg, book: book, log: log, look: lookFrom(time.Now()), again: make(chan struct{}, 1),
		limit: limit.New(cfg.Rate, burst*cfg.Rate), kisses: limit.Every(everyKiss, 1)}
	s.watch = func(ctx context.Context) (reading, error) { return askChronyd(ctx, cfg.Chronyd) }
	s.sources.ask = func(ctx context.Context) ([]Source, error) { return askSources(ctx, cfg.Chronyd) }
	if cfg.Source == Kernel {
		s.watch, s.sources.ask = askKernel, nil
	}
	s.now.Store(&state{reason: "the clock has not been asked about yet", since: time.Now()})
	return s
}

// Name is what the supervisor and the log call this room.
func (s *Server) Name() string { return "ntprelay" }

// Listen takes every address of the configuration, or none and says which one
// could not be had. Addresses that the machine does not have yet are taken all
// the same (IP_FREEBIND).
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		return nil
	}
	held := []*net.UDPConn{}
	for _, at := range s.cfg.Listen {
		lc := net.ListenConfig{Control: prepare}
		pc, err := lc.ListenPacket(context.Background(), "udp4", at.String())
		if err != nil {
			for _, c := range held {
				c.Close()
			}
			return fmt.Errorf("listening on udp %s: %w", at, err)
		}
		held = append(held, pc.(*net.UDPConn))
	}
	s.held = held
	return nil
}

const (
	// askBuffer is how many bytes of requests the kernel shall keep for us: those
	// of a large garage that comes back at once (F-1). A request that waits longer
	// than maxWait is not answered anyway.
	askBuffer = 1 << 20
	// answerBuffer is how many bytes of answers may be on their way through the air:
	// a device that sleeps takes none, and the others must not wait for it.
	answerBuffer = 1 << 20
	// burst is how many seconds' worth of its rate a device may ask at once.
	burst = 16
	// everyKiss is the time between two hints to a device that it asks too often.
	everyKiss = 8 * time.Second
)

// prepare lets a socket have an address that does not exist yet, asks the kernel
// to stamp what arrives, and for a buffer. Where it may not have that, a smaller
// one does: whoever is not heard asks again.
func prepare(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1),
			stampArrivals(int(fd)))
	}); e != nil {
		return e
	}
	return errors.Join(err, datagram.Room(c, askBuffer, answerBuffer))
}

// stampArrivals asks the kernel to stamp what arrives, in 64 bits on every machine: a
// stamp of 32 bits ends in 2038. Kernels before 5.1 have the old kind only.
func stampArrivals(fd int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
}

// Addrs returns the addresses that are held, in the order of Config.Listen, with
// the real ports where the configuration said 0.
func (s *Server) Addrs() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var at []netip.AddrPort
	for _, c := range s.held {
		a := c.LocalAddr().(*net.UDPAddr).AddrPort()
		at = append(at, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	}
	return at
}

// Serve gives the time until ctx is done, then closes every socket, waits for
// all it started and returns nil. It takes the sockets itself when Listen was
// not called. Any other end is an error, and Serve may then be called again.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	s.mu.Lock()
	sockets := s.held
	s.mu.Unlock()

	asked := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	precision := measurePrecision()
	var wg sync.WaitGroup
	wg.Go(func() { s.follow(ctx) })
	for _, c := range sockets {
		wg.Go(func() {
			if err := s.answerAll(ctx, c, precision); err != nil {
				cancel(fmt.Errorf("giving the time on %s: %w", c.LocalAddr(), err))
			}
		})
	}
	<-ctx.Done()
	for _, c := range sockets {
		c.Close()
	}
	wg.Wait()
	s.mu.Lock()
	s.held = nil
	s.mu.Unlock()
	if asked.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

// A Clock says how well the time is known.
type Clock struct {
	Synchronised bool
	Stratum      int
	RefID        string // the reference as chronyd writes it: an address or a word
	// RootDistance is the greatest possible error of the clock (RFC 5905,
	// section 10) now; it grows until chronyd hears of its source again.
	RootDistance time.Duration
	// Offset is what chronyd is still correcting: positive when the clock is
	// slow.
	Offset time.Duration
	Since  time.Time // when Synchronised last changed
	Reason string    // why no time is given; empty when it is
	// LastStep is the last time that the clock was set since the relay began, and
	// zero if it was not.
	LastStep Step
}

// A Step is that somebody set the clock: chronyd after a start, as a rule.
type Step struct {
	At time.Time     // when it was noticed, on the new clock
	By time.Duration // positive: forward
}

// Clock returns how well the time is known now.
func (s *Server) Clock() Clock {
	st, now := s.now.Load(), time.Now()
	c := Clock{Since: st.since, Reason: st.silence(now)}
	c.Synchronised = c.Reason == ""
	if !st.read.at.IsZero() {
		c.Stratum, c.RefID, c.Offset = int(st.read.stratum), st.read.reference, st.read.offset
		c.RootDistance = st.read.distance(now)
	}
	if step := s.stepped.Load(); step != nil {
		c.LastStep = *step
	}
	return c
}
