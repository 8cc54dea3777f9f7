package egress

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A flow moves bytes in one direction with splice(2), through a pipe of its
// own: they never enter this process. A byte is at any moment in one of three
// kernel queues (receive queue, pipe, send queue).
type flow struct {
	from, to *net.TCPConn
	// first is called once, by the goroutine of run, when bytes have gone
	// through; nil: never.
	first func()

	moved atomic.Int64 // bytes handed to the send queue of to
	done  atomic.Bool  // the end of from was reached and passed on
}

// A legError is what went wrong on one of the two connections.
type legError struct {
	writing bool // on to; else on from
	err     error
}

func (e *legError) Error() string { return e.err.Error() }
func (e *legError) Unwrap() error { return e.err }

const (
	// spliceMost is the most that one call may move; the pipe is the real bound.
	spliceMost = 1 << 20
	// A flow that has moved growAfter is a download: its pipe grows from the
	// kernel's 64 KiB to pipeSize, so that one call moves more. An idle or chatty
	// conversation keeps the small one.
	growAfter = 1 << 20
	pipeSize  = 512 << 10
)

// run moves bytes until from ends, tells to so (half-close), and returns nil;
// or until one of the connections fails, with a *legError.
func (f *flow) run() error {
	in, err := f.from.SyscallConn()
	if err != nil {
		return &legError{false, err}
	}
	out, err := f.to.SyscallConn()
	if err != nil {
		return &legError{true, err}
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return &legError{false, fmt.Errorf("opening a pipe: %w", err)}
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	fill := mover{wait: in.Read, to: fds[1], incoming: true}
	empty := mover{wait: out.Write, from: fds[0]}
	return f.pump(&fill, &empty)
}

func (f *flow) pump(fill, empty *mover) error {
	var total int64
	grown := false
	for {
		n, err := fill.move(spliceMost)
		if err != nil {
			return &legError{false, err}
		}
		if n == 0 {
			break
		}
		for left := n; left > 0; {
			m, err := empty.move(left)
			if err != nil {
				return &legError{true, err}
			}
			left -= m
			f.moved.Add(int64(m))
		}
		if total == 0 && f.first != nil {
			f.first()
		}
		total += int64(n)
		if !grown && total >= growAfter {
			// Refused where the user's pipes hold much already (pipe(7),
			// pipe-user-pages-soft): then the small one does it.
			_, _ = unix.FcntlInt(uintptr(fill.to), unix.F_SETPIPE_SZ, pipeSize)
			grown = true
		}
	}
	f.done.Store(true)
	_ = f.to.CloseWrite() // if it fails, to has failed, and the other flow reads why
	return nil
}

// A mover calls splice(2) between a connection and a pipe, and lets the
// runtime's poller wait for the connection.
type mover struct {
	wait     func(func(fd uintptr) bool) error
	from, to int // the pipe's end; the other one is the connection
	incoming bool

	most int
	n    int64
	err  error
	try  func(fd uintptr) bool
}

// move moves up to most bytes and returns how many; 0 is the end. The pipe is
// empty before a call that fills it and holds most bytes before one that
// empties it, so it is always the connection that has to be waited for.
func (m *mover) move(most int) (int, error) {
	if m.try == nil {
		m.try = m.splice
	}
	m.most, m.n, m.err = most, 0, nil
	if err := m.wait(m.try); err != nil {
		return 0, err
	}
	if m.err != nil {
		return 0, m.err
	}
	return int(m.n), nil
}

func (m *mover) splice(fd uintptr) bool {
	from, to := m.from, int(fd)
	if m.incoming {
		from, to = int(fd), m.to
	}
	for {
		n, err := unix.Splice(from, nil, to, nil, m.most, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		m.n, m.err = int64(n), err // n is an int on machines of 32 bits
		if !errors.Is(m.err, unix.EINTR) {
			return !errors.Is(m.err, unix.EAGAIN)
		}
	}
}
