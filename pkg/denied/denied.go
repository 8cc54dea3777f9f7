// Package denied watches what the firewall refuses, and says it in the name of
// the charger that was refused.
//
// The daemon may not read the firewall's own log (that needs CAP_NET_ADMIN), so
// it looks where the firewall looks: at the frames that come in on each charger
// interface, and on the uplink, through a filter in the kernel that passes only
// what the rules refuse. The frame also tells the MAC, which is who a charger
// is, whatever address it writes on its packets.
//
// The room refuses nothing itself and lets nothing through: that is the
// firewall's. What egress refuses, egress says.
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

	"chargegate/pkg/charger"
	"chargegate/pkg/event"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A Server is the room. It is safe for concurrent use.
type Server struct {
	book    *charger.Book
	log     *event.Log
	watches []*watch
	budget  budget
	panics  atomic.Int64
}

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

// New makes the room. The configuration is taken as valid.
func New(cfg Config, book *charger.Book, log *event.Log) *Server {
	s := &Server{book: book, log: log, budget: budget{said: map[string]*said{}}}
	for _, n := range cfg.Networks {
		w := &watch{ifname: n.Interface, filter: filter(n, cfg.Ports)}
		w.look = func(frame []byte, now time.Time) {
			if r, ok := describe(frame, n, cfg.Ports); ok {
				w.results[r.class].Add(1)
				s.tell(n, r, now)
			}
		}
		s.watches = append(s.watches, w)
	}
	if cfg.Uplink != "" {
		w := &watch{ifname: cfg.Uplink, filter: uplinkFilter(cfg.UplinkPorts)}
		w.look = func(frame []byte, now time.Time) {
			if r, ok := describeUplink(frame, cfg.UplinkPorts); ok {
				w.results[r.class].Add(1)
				s.tellUplink(cfg.Uplink, r, now)
			}
		}
		s.watches = append(s.watches, w)
	}
	return s
}

// Name returns what the room is called in logs and metrics.
func (s *Server) Name() string { return "denied" }

// Listen takes a socket on each interface that is there. One that is missing
// or down is waited for by Serve; a missing permission fails now.
func (s *Server) Listen() error {
	for _, w := range s.watches {
		w.mu.Lock()
		if w.conn == nil {
			conn, err := w.open()
			if err != nil && !awaited(err) {
				w.mu.Unlock()
				s.close()
				return err
			}
			w.conn = conn
		}
		w.mu.Unlock()
	}
	return nil
}

// close gives back what Listen took.
func (s *Server) close() {
	for _, w := range s.watches {
		w.mu.Lock()
		if w.conn != nil {
			w.conn.Close()
			w.conn = nil
		}
		w.mu.Unlock()
	}
}

// Serve watches every interface until ctx is done, and returns nil when all of
// it has ended.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for _, w := range s.watches {
		all.Go(func() {
			if err := s.watch(ctx, w); err != nil {
				cancel(err)
			}
		})
	}
	<-ctx.Done()
	all.Wait()
	s.close()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
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
