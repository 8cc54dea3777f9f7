// Package carry moves bytes between pairs of TCP sockets with splice(2): they
// never enter the process. Each direction has a pipe of its own, so a byte is at
// any moment in one of three kernel queues (receive queue, pipe, send queue), and
// all three outlive the process when somebody else holds a copy of the
// descriptors: a pair can be taken over by the next one with nothing lost and
// nothing doubled.
//
// One goroutine and one epoll carry all pairs. A pair costs its descriptors and
// some hundred bytes; no goroutine waits for it.
//
// How a connection ends is carried, too. What one side has said is delivered
// before the other side hears that it hung up, and also before it hears of a
// reset, as long as it goes on taking it: a server that answers and closes with
// questions unread resets the connection, and its answer counts. Both endings
// are sent at once, whoever else holds a copy of the socket.
//
// The package leaves to others who may speak with whom, how long a pair may be
// silent, and who keeps the descriptors.
package carry

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Leg is one of the two connections of a pair.
type Leg int

// Legs. Up is the direction from Near to Far, down the other one.
const (
	Near Leg = iota // the one that was accepted
	Far             // the one that was dialled
)

// A Pipe is both ends of a pipe, non-blocking.
type Pipe struct{ Read, Write int }

// NewPipe opens a pipe for one direction.
func NewPipe() (Pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return Pipe{-1, -1}, fmt.Errorf("opening a pipe: %w", err)
	}
	p := Pipe{fds[0], fds[1]}
	p.resize(smallPipe()) // refused, it has the two places that the kernel gives at least
	return p, nil
}

// resize gives a pipe that many bytes, if the kernel does. A pipe is not made
// smaller than what is in it.
func (p Pipe) resize(size int) bool {
	_, err := unix.FcntlInt(uintptr(p.Write), unix.F_SETPIPE_SZ, size)
	return err == nil
}

// size is how many bytes a pipe has, 0 if that cannot be told.
func (p Pipe) size() int {
	n, _ := unix.FcntlInt(uintptr(p.Write), unix.F_GETPIPE_SZ, 0)
	return max(n, 0)
}

// Close closes both ends.
func (p Pipe) Close() {
	_ = unix.Close(p.Read)
	_ = unix.Close(p.Write)
}

// Counts are the bytes that were handed to the send queue of the other side.
// They may lie in memory that outlives the process.
type Counts struct{ Up, Down atomic.Int64 }

// An Ending is how a pair ended.
type Ending struct {
	// Leg is who ended it: who hung up first, or whose connection failed.
	Leg Leg
	// Err is nil when both sides hung up in good order; else what the kernel said
	// of that leg, or what Reset or Hangup was given, or a *Fault.
	Err error
	// Asked says that Reset or Hangup did it.
	Asked bool
}

// A Fault is a fault of ours that cost a pair.
type Fault struct {
	Value any    // what was panicked with
	Stack []byte // where
}

func (f *Fault) Error() string { return fmt.Sprintf("a fault of the gateway: %v", f.Value) }

// ErrUrgent says that a leg sent urgent data (RFC 9293 3.8.5), which no splice
// gets past and nobody on these ports uses.
var ErrUrgent = errors.New("urgent data is not carried")

// A Pair is two connections and the bytes between them. What is exported is set
// before Add and belongs to the Carrier from then on.
type Pair struct {
	Sockets  [2]int // by Leg
	Up, Down Pipe
	Counts   *Counts // nil: of its own
	// Glance is called once for each direction, before its first byte is moved,
	// with up to 8 of the bytes that come first (MSG_PEEK). nil: never. from is who
	// sends them.
	Glance func(from Leg, first []byte)
	// Moved is called after the first bytes that came from a leg were handed on.
	// nil: never.
	Moved func(from Leg)
	// Ended is called once, after the sockets were closed. The pipes serve another
	// pair afterwards, or are closed. nil: never.
	//
	// The three are called by the goroutine of Serve, which carries everybody
	// else's bytes too: they must be quick. They may ask for a Reset or Hangup.
	Ended func(Ending)

	// Under Carrier.mu; but for asked, the same as long as it is carried.
	slot    int
	gen     int32
	carrier *Carrier
	asked   bool // Reset or Hangup was asked for
	// opening is nil once the far connection is there.
	opening *opening

	// Of the goroutine of Serve.
	flows   [2]flow // by the Leg that they come from
	ready   [2]ready
	first   Leg // who hung up first
	queued  bool
	over    bool
	failing bool
	leaving bool      // it is in Carrier.leaving
	ending  Ending    // when failing
	until   time.Time // when failing: how long the other side may take nothing of what was said before
	last    time.Time // when failing: how long it may take in all
	taken   int64     // when failing: what it has taken

	half atomic.Bool
}

// Count returns the bytes that went each way so far.
func (p *Pair) Count() (up, down int64) { return p.Counts.Up.Load(), p.Counts.Down.Load() }

// Half reports whether one side has said all it had to say.
func (p *Pair) Half() bool { return p.half.Load() }

// A Carrier carries any number of pairs. It is safe for concurrent use.
type Carrier struct {
	epoll, wake int

	mu      sync.Mutex
	closed  bool
	serving bool
	slots   []slot
	free    []int
	asked   []request
	count   int
	spares  []Pipe // empty ones of pairs that have ended

	// Of the goroutine of Serve.
	queue   []*Pair // who has more to move than fits into one turn, in order
	leaving []*Pair // one side has failed; the other one is still told what was said before
	waiter  *waiter

	grown  atomic.Int32 // large pipes
	panics atomic.Int64
}

// A slot holds a pair. Its generation tells a late word about the pair before.
type slot struct {
	pair *Pair
	gen  int32
}

// A request asks the goroutine of Serve to end a pair.
type request struct {
	pair *Pair
	err  error
	how  manner
}

// New makes a carrier. It holds two descriptors until Close.
func New() (*Carrier, error) {
	w, err := newWaiter()
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		w.file.Close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}); err != nil {
		unix.Close(wake)
		w.file.Close()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	return &Carrier{waiter: w, epoll: w.epoll, wake: wake}, nil
}

// Close closes the descriptors of all pairs that are left, without a word to
// anybody, also not to Ended: what somebody else holds a copy of lives on. Serve
// must have returned.
func (c *Carrier) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	for _, s := range c.slots {
		if s.pair != nil {
			s.pair.close()
		}
	}
	c.slots, c.free, c.asked, c.count = nil, nil, nil, 0
	c.queue, c.leaving = nil, nil
	for _, spare := range c.spares {
		spare.Close()
	}
	c.spares = nil
	unix.Close(c.wake)
	c.waiter.file.Close()
}

// maxSpares is how many pipes are kept for the next pairs. Opening and closing a
// pipe costs as much as accepting a connection; a burst of short pairs (F-7) pays
// that no more than once.
const maxSpares = 64

// NewPipe returns a pipe that a pair has left behind empty, or opens one.
func (c *Carrier) NewPipe() (Pipe, error) {
	c.mu.Lock()
	if n := len(c.spares); n > 0 {
		defer c.mu.Unlock()
		spare := c.spares[n-1]
		c.spares = c.spares[:n-1]
		return spare, nil
	}
	c.mu.Unlock()
	return NewPipe()
}

// leftBehind keeps the pipes of a pair that has ended, or closes them: those that
// hold something, or are large. Whoever keeps copies has been told of
// the end by then, so that nobody knows a pipe for two pairs.
func (c *Carrier) leftBehind(p *Pair) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, pipe := range [...]Pipe{p.Up, p.Down} {
		if f := &p.flows[i]; c.closed || f.held > 0 || f.grown || len(c.spares) == maxSpares {
			pipe.Close()
			continue
		}
		c.spares = append(c.spares, pipe)
	}
}

// Copies returns copies of the descriptors of a pair: its sockets by Leg, and the
// writing ends of the pipes up and down. They are the caller's. nil: it has ended.
func (c *Carrier) Copies(p *Pair) ([]int, error) {
	c.mu.Lock() // keeps the loop from closing them
	defer c.mu.Unlock()
	if !c.holdsLocked(p) {
		return nil, nil
	}
	var all []int
	for _, fd := range []int{p.Sockets[Near], p.Sockets[Far], p.Up.Write, p.Down.Write} {
		c, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			for _, c := range all {
				unix.Close(c)
			}
			return nil, os.NewSyscallError("fcntl", err)
		}
		all = append(all, c)
	}
	return all, nil
}

// Open returns how many pairs there are.
func (c *Carrier) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// Panics returns how often a fault of ours was caught. It cost the pair, unless
// it was in Ended.
func (c *Carrier) Panics() int64 { return c.panics.Load() }

var errClosed = errors.New("the carrier is closed")

// Add takes a pair over, its descriptors and what is in its pipes; it makes the
// sockets non-blocking, for whoever holds a copy, too. With an error they are
// still the caller's. A pair is added once.
//
// A pair that another Carrier carried is as good as a new one, in whatever state
// its connections are.
func (c *Carrier) Add(p *Pair) error {
	if err := p.prepare(); err != nil {
		return err
	}
	c.mu.Lock() // also keeps the loop from closing what is being registered
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.takeLocked(p)
	if err := p.register(); err != nil {
		c.forgetLocked(p)
		return os.NewSyscallError("epoll_ctl", err)
	}
	return nil
}

// prepare finds out what there is of a pair.
func (p *Pair) prepare() error {
	if p.Counts == nil {
		p.Counts = &Counts{}
	}
	p.flows[Near] = flow{pipe: p.Up, count: &p.Counts.Up}
	p.flows[Far] = flow{pipe: p.Down, count: &p.Counts.Down}
	for leg := range p.flows {
		f := &p.flows[leg]
		held, err := unix.IoctlGetInt(f.pipe.Read, unix.TIOCINQ) // FIONREAD by its other name
		if err != nil {
			return fmt.Errorf("looking into the pipe: %w", err)
		}
		f.held = held
		if f.pipe.size() > smallPipe() && !f.pipe.resize(smallPipe()) { // it was a download of another carrier's
			f.grown, f.download = true, true
			p.ready[leg].in = true // so that it is found out whether that is over
		}
		p.ready[1-leg].out, p.ready[1-leg].watched = held == 0, held > 0 // so that an event begins it
		if err := unblock(p.Sockets[leg]); err != nil {
			return err
		}
	}
	return nil
}

// register has epoll tell of both legs, or of none and says why.
func (p *Pair) register() error {
	for leg := Near; leg <= Far; leg++ {
		events := uint32(interest)
		if p.ready[leg].watched {
			events |= unix.EPOLLOUT
		}
		if err := p.watch(leg, unix.EPOLL_CTL_ADD, events); err != nil {
			if leg == Far {
				_ = unix.EpollCtl(p.carrier.epoll, unix.EPOLL_CTL_DEL, p.Sockets[Near], nil)
			}
			return err
		}
	}
	return nil
}

// interest is what epoll tells of a socket, once for each change (EPOLLET).
// EPOLLOUT is added when there is something to wait for: nearly always a socket
// takes what there is, and nobody is woken to hear that it would.
const interest = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET&0xffffffff

// watch has epoll tell of one leg; what is so already is told at once.
func (p *Pair) watch(leg Leg, op int, interest uint32) error {
	return unix.EpollCtl(p.carrier.epoll, op, p.Sockets[leg], &unix.EpollEvent{
		Events: interest, Fd: int32(p.slot<<1 | int(leg)), Pad: p.gen,
	})
}

// takeLocked gives a pair a slot.
func (c *Carrier) takeLocked(p *Pair) {
	if n := len(c.free); n > 0 {
		p.slot, c.free = c.free[n-1], c.free[:n-1]
	} else {
		p.slot = len(c.slots)
		c.slots = append(c.slots, slot{})
	}
	s := &c.slots[p.slot]
	s.pair = p
	p.carrier, p.gen = c, s.gen
	c.count++
	c.grown.Add(p.grown())
}

// forgetLocked gives the slot of a pair free.
func (c *Carrier) forgetLocked(p *Pair) {
	s := &c.slots[p.slot]
	s.pair = nil
	s.gen++
	c.free = append(c.free, p.slot)
	c.count--
	c.grown.Add(-p.grown())
}

// grown is how many of its pipes are large.
func (p *Pair) grown() (n int32) {
	for i := range p.flows {
		if p.flows[i].grown {
			n++
		}
	}
	return n
}

func (c *Carrier) holdsLocked(p *Pair) bool {
	return p.slot < len(c.slots) && c.slots[p.slot].pair == p
}

// Reset resets both connections of a pair, for the reason given, soon. It does
// nothing when the pair has ended or its end was asked for before.
func (c *Carrier) Reset(p *Pair, reason error) { c.ask(request{p, reason, reset}) }

// Hangup closes both connections of a pair in good order, for the reason given,
// soon. It does nothing when the pair has ended or its end was asked for before.
func (c *Carrier) Hangup(p *Pair, reason error) { c.ask(request{p, reason, hangup}) }

func (c *Carrier) ask(r request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.askLocked(r)
}

func (c *Carrier) askLocked(r request) {
	if !c.holdsLocked(r.pair) || r.pair.asked || r.how == giveUp && r.pair.opening == nil {
		return
	}
	r.pair.asked = r.how != giveUp
	c.asked = append(c.asked, r)
	if len(c.asked) == 1 {
		c.pokeLocked()
	}
}

func (c *Carrier) pokeLocked() { _, _ = unix.Write(c.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }
