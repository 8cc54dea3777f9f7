package denied

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"chargegate/pkg/event"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A watch is one interface that is looked at.
type watch struct {
	ifname string
	filter []bpf.Instruction
	// look handles one frame.
	look func(frame []byte, now time.Time)

	frames  atomic.Int64          // looked at
	missed  atomic.Int64          // passed over in a flood, by the kernel's count
	results [classes]atomic.Int64 // by class
	seeing  atomic.Bool

	mu   sync.Mutex
	conn *packet.Conn // opened by Listen, not used yet
	told bool         // that there is nothing to see yet
}

// reopenAfter is how often a missing interface is looked for.
const reopenAfter = time.Second

// watch looks at one interface for as long as ctx lives, through all its
// comings and goings.
func (s *Server) watch(ctx context.Context, w *watch) error {
	for ctx.Err() == nil {
		conn, err := w.take()
		if err == nil {
			err = s.read(ctx, w, conn)
			conn.Close()
			w.seeing.Store(false)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !awaited(err) {
			return err
		}
		if !w.told {
			w.told = true
			s.log.Say(event.DeniedWaiting, event.F("INTERFACE", w.ifname), event.Err(err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(reopenAfter):
		}
	}
	return nil
}

// take returns the socket that Listen opened, or a new one.
func (w *watch) take() (*packet.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if conn := w.conn; conn != nil {
		w.conn = nil
		return conn, nil
	}
	return w.open()
}

// open opens a packet socket on the interface, with the filter in force before
// the first frame.
func (w *watch) open() (*packet.Conn, error) {
	raw, err := bpf.Assemble(append(inbound(), w.filter...))
	if err != nil {
		return nil, fmt.Errorf("assembling the filter for %s: %w", w.ifname, err)
	}
	ifi, err := net.InterfaceByName(w.ifname)
	if err != nil {
		return nil, fmt.Errorf("looking for %s: %w: %w", w.ifname, errMissing, err)
	}
	if ifi.Flags&net.FlagUp == 0 {
		return nil, fmt.Errorf("looking at %s: %w", w.ifname, unix.ENETDOWN)
	}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: raw})
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", w.ifname, err)
	}
	// What this box sends is not even shown to the filter, where the kernel knows
	// how (4.20).
	if rc, err := conn.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		})
	}
	return conn, nil
}

// errMissing says that there is no such interface now.
var errMissing = errors.New("there is no such interface")

// awaited reports whether an error is about an interface that will come.
func awaited(err error) bool {
	for _, e := range []error{errMissing, unix.ENETDOWN, unix.ENODEV, unix.ENXIO, fs.ErrNotExist} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

const (
	// frameRate bounds how many frames a second of each interface are looked at;
	// the others stay in the kernel, which drops and counts them.
	frameRate = 200
)

// read looks at frames until the interface goes or ctx ends.
func (s *Server) read(ctx context.Context, w *watch, conn *packet.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	w.seeing.Store(true)
	if w.told {
		w.told = false
		s.log.Say(event.DeniedWatching, event.F("INTERFACE", w.ifname))
	}
	frame := make([]byte, snap)
	var second pace
	for {
		n, _, err := conn.ReadFrom(frame)
		if err != nil {
			return fmt.Errorf("reading from %s: %w", w.ifname, err)
		}
		s.handle(w, frame[:n])
		if rest := second.next(time.Now()); rest > 0 {
			s.flood(w, conn)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(rest):
			}
			s.flood(w, conn)
		}
	}
}

// handle looks at one frame and survives it.
func (s *Server) handle(w *watch, frame []byte) {
	defer s.survive()
	w.frames.Add(1)
	w.look(frame, time.Now())
}

// flood takes over the kernel's count of what did not fit into the socket. If
// there is any, more was refused than was looked at.
func (s *Server) flood(w *watch, conn *packet.Conn) {
	stats, err := conn.Stats() // resets the kernel's count
	if err != nil || stats.Drops == 0 {
		return
	}
	w.missed.Add(int64(stats.Drops))
	s.log.Say(event.DeniedFlood, event.F("INTERFACE", w.ifname), event.F("RATE", frameRate))
}

// A pace lets frameRate frames through in a second. The zero value is ready.
type pace struct {
	since time.Time
	n     int
}

// next counts a frame and returns how long to rest before the next one.
func (p *pace) next(now time.Time) time.Duration {
	if now.Sub(p.since) >= time.Second {
		*p = pace{since: now}
	}
	p.n++
	if p.n < frameRate {
		return 0
	}
	return max(0, p.since.Add(time.Second).Sub(now))
}
