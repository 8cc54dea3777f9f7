package resolver

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// How long a port is used: for so many questions, one after the other, and for so
// long since it was opened. A single question may wait longer for its answer
// (budget), so whoever looks for open ports from afar gains nothing.
const (
	portUses = 32
	portFor  = time.Second
)

// A port is drawn from at least minDrawn, else a new one is opened: in a garage,
// where questions are seldom, every question has a new one. At most maxDrawn of a
// server wait to be drawn.
const (
	minDrawn = 64
	maxDrawn = 256
)

// ports keeps sockets between questions: to open and to close one costs as much as
// all else that the kernel does for a question, and each new port an entry in its
// table of connections, for 30 s.
//
// Whoever forges answers must hit the port of a question. It is one of all that the
// kernel gives, as if it were new: which ones are open nobody has been told but the
// server itself, and which of them is next not even the server. Each has one
// question at a time, and is used again only after a right answer with nothing wrong
// beside it.
//
// The zero value is ready; it is safe for concurrent use.
type ports struct {
	mu    sync.Mutex
	idle  map[netip.AddrPort][]*port
	sweep *time.Timer // runs while there are idle ones; nil: there never were
}

// A port is a socket that is connected to a server.
type port struct {
	*os.File
	fd     int // of the file, for whoever has the port
	at     netip.AddrPort
	opened time.Time
	uses   int
}

// worn reports whether a port has been used for long enough.
func (p *port) worn(now time.Time) bool {
	return p.uses >= portUses || now.Sub(p.opened) >= portFor
}

// write sends a message, now or not at all: File would wait for room.
func (p *port) write(m []byte) error {
	_, err := unix.Write(p.fd, m)
	return os.NewSyscallError("sending", err)
}

// draw returns a port for a question to a server, which is to be given back or
// closed.
func (ps *ports) draw(at netip.AddrPort, now time.Time) (*port, error) {
	p := ps.drawIdle(at)
	if p != nil && p.worn(now) {
		p.Close()
		p = nil
	}
	if p == nil {
		var err error
		if p, err = openPort(at, now); err != nil {
			return nil, err
		}
	}
	p.uses++
	return p, nil
}

// drawIdle takes one out by chance, if there are enough of them.
func (ps *ports) drawIdle(at netip.AddrPort) *port {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	idle := ps.idle[at]
	if len(idle) < minDrawn {
		return nil
	}
	i, last := rand.IntN(len(idle)), len(idle)-1
	p := idle[i]
	idle[i], idle[last] = idle[last], nil
	ps.idle[at] = idle[:last]
	return p
}

// give keeps a port for other questions.
func (ps *ports) give(p *port) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	idle := ps.idle[p.at]
	if len(idle) >= maxDrawn {
		p.Close()
		return
	}
	if len(ps.idle) == 0 {
		ps.idle = map[netip.AddrPort][]*port{}
		ps.sweepLater()
	}
	ps.idle[p.at] = append(idle, p)
}

func (ps *ports) sweepLater() {
	if ps.sweep == nil {
		ps.sweep = time.AfterFunc(portFor, ps.closeWorn)
		return
	}
	ps.sweep.Reset(portFor)
}

// closeWorn closes the idle ones that are not used any more.
func (ps *ports) closeWorn() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	now := time.Now()
	for at, idle := range ps.idle {
		idle = slices.DeleteFunc(idle, func(p *port) bool {
			if p.worn(now) {
				p.Close()
			}
			return p.worn(now)
		})
		if ps.idle[at] = idle; len(idle) == 0 {
			delete(ps.idle, at)
		}
	}
	if len(ps.idle) > 0 {
		ps.sweepLater()
	}
}

// shut closes the idle ones. Those that are given back later are closed by and by.
func (ps *ports) shut() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, idle := range ps.idle {
		for _, p := range idle {
			p.Close()
		}
	}
	ps.idle = nil
	if ps.sweep != nil {
		ps.sweep.Stop()
	}
}

// openPort opens the socket by hand: a Dialer asks the kernel for much that nobody
// wants to know here. The kernel lets nothing through to it but what comes from the
// server's address and port.
func openPort(at netip.AddrPort, now time.Time) (*port, error) {
	family, to, err := sockaddr(at)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, to); err != nil {
		_ = unix.Close(fd) // what went wrong has been said
		return nil, os.NewSyscallError("connecting", err)
	}
	return &port{File: os.NewFile(uintptr(fd), "udp"), fd: fd, at: at, opened: now}, nil
}
