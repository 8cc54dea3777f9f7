package carry

import (
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ready is what is known of a socket and no call has contradicted yet.
type ready struct {
	in, out bool
	watched bool // epoll tells when it takes more
}

// A flow is one direction.
type flow struct {
	pipe  Pipe
	count *atomic.Int64
	held  int  // bytes in the pipe
	run   int  // bytes since the source last had nothing
	began bool // its first bytes were handed on
	grown bool // its pipe is a large one
	eof   bool // the source has ended
	done  bool // and the destination was told
	// download says that it has been one: its pair takes turns from then on.
	download bool
}

// A user's pipes may have 16384 places in all before the kernel gives new ones
// two places each, and lets none grow (pipe(7), pipe-user-pages-soft: the daemon
// has no privilege there). With the kernel's own 16 places that were 512
// conversations. So a pipe is a small one, and some are large for a while: 1000
// conversations and everything else together need
// 2000 x 4 + maxGrown x 256 + maxSpares x 4 = 12352 places.
const (
	// A place takes one piece of what a socket has, of a page at the most in the
	// worst case. Four of them carry every message of a charger in one piece, and
	// two would do, too: on an Ethernet nothing stalls, it is only more calls.
	smallPlaces = 4
	// A flow whose source does not run dry for growAfter is a download: its pipe
	// grows to pipeSize, so that one call moves more and the sender is not woken for
	// every little. When the source has nothing more it is small again. An idle or
	// chatty pair keeps the small one, however much it moves in the course of a day.
	// pipeSize is what the kernel grants everybody (pipe(7), pipe-max-size).
	growAfter = 512 << 10
	pipeSize  = 1 << 20
	// maxGrown is how many pipes are large at a time. The downloads beyond have small
	// ones, until there is room.
	maxGrown = 16
)

// smallPipe is the size of a pipe that is not grown. A page has 4 or 16 KiB
// (Raspberry Pi 5).
func smallPipe() int { return smallPlaces * os.Getpagesize() }

// errEmpty says that a pipe holds less than was put into it.
var errEmpty = errors.New("somebody else reads from the pipe")

// pump moves what comes from one leg to the other until one of them has to be
// waited for, or its turn is over (more). With an error it says whose it is.
func (p *Pair) pump(from Leg) (more bool, failed Leg, err error) {
	f, to := &p.flows[from], 1-from
	for moved := 0; !f.done; {
		if f.held > 0 {
			n, err := p.pour(f, to)
			if err != nil || n == 0 {
				return false, to, err
			}
			moved += n
			p.passed(f, from)
			continue
		}
		if f.eof {
			f.done = true
			if !p.failing {
				_ = unix.Shutdown(p.Sockets[to], unix.SHUT_WR) // if it fails, epoll tells why
			}
			break
		}
		if !p.ready[from].in {
			break
		}
		if moved >= turn {
			return true, 0, nil
		}
		if err := p.fill(f, from); err != nil {
			return false, from, err
		}
	}
	return false, 0, nil
}

// pour moves what is in the pipe to its destination. It returns 0 when that has
// to be waited for.
func (p *Pair) pour(f *flow, to Leg) (int, error) {
	if !p.ready[to].out {
		return 0, nil
	}
	n, err := splice(f.pipe.Read, p.Sockets[to], f.held)
	switch {
	case err == unix.EAGAIN:
		p.ready[to].out = false
		return 0, p.watchOut(to)
	case err != nil:
		return 0, err
	case n == 0:
		return 0, errEmpty
	}
	f.held -= n
	f.count.Add(int64(n))
	return n, nil
}

// watchOut has epoll tell when a leg takes more.
func (p *Pair) watchOut(leg Leg) error {
	if p.ready[leg].watched {
		return nil
	}
	p.ready[leg].watched = true
	return p.watch(leg, unix.EPOLL_CTL_MOD, interest|unix.EPOLLOUT)
}

// fill moves what has come from a leg into its empty pipe.
func (p *Pair) fill(f *flow, from Leg) error {
	if !f.began && p.Glance != nil {
		if err := p.glance(from); err != nil && !p.failing {
			return err
		}
	}
	n, err := splice(p.Sockets[from], f.pipe.Write, pipeSize)
	switch {
	case err == unix.EAGAIN: // the pipe is empty, so it is the socket that has nothing
		p.ready[from].in = false
		f.run = 0
		p.shrink(f)
	case err == nil && n > 0:
		f.held = n
		f.run += n
	case p.failing: // that was all it said before
		f.eof = true
	case err != nil:
		return err
	case condemned(p.Sockets[1-from]),
		!p.flows[1-from].done && dead(p.Sockets[from]) && !ended(p.Sockets[1-from]):
		return unix.ECONNRESET
	default:
		f.eof = true
		if !p.half.Swap(true) {
			p.first = from
		}
	}
	return nil
}

// passed notes that bytes of a flow were handed on.
func (p *Pair) passed(f *flow, from Leg) {
	if !f.began {
		f.began = true
		if p.Moved != nil {
			p.Moved(from)
		}
	}
	if !f.grown && f.run >= growAfter {
		f.run, f.download = 0, true // if there is no room now, it asks again later
		p.grow(f)
	}
}

// grow makes the pipe of a flow a large one, if there is room for one more.
func (p *Pair) grow(f *flow) {
	if p.carrier.grown.Add(1) > maxGrown || !f.pipe.resize(pipeSize) {
		p.carrier.grown.Add(-1)
		return
	}
	f.grown = true
}

// shrink makes the empty pipe of a flow a small one again.
func (p *Pair) shrink(f *flow) {
	if f.grown && f.pipe.resize(smallPipe()) {
		f.grown = false
		p.carrier.grown.Add(-1)
	}
}

// glance shows the first bytes that are there. An error that it meets is told
// once only by the kernel: splice would take it for the end.
func (p *Pair) glance(from Leg) error {
	var b [8]byte
	n, _, err := unix.Recvfrom(p.Sockets[from], b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err == nil && n > 0 {
		p.Glance(from, b[:n])
	}
	if err == unix.EAGAIN || err == unix.EINTR {
		return nil
	}
	return err
}
