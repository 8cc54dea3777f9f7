// Package denied watches what the firewall refuses, and says it in the name of
// the charger that was refused.
//
// The daemon may not read what the firewall itself could log: to listen to nflog
// needs CAP_NET_ADMIN, the kernel's log CAP_SYSLOG, and neither is needed for
// anything else. So it looks where the firewall looks, with the CAP_NET_RAW that
// DHCP needs anyway: at the frames that come in on each charger interface, and on
// the uplink, through a filter in the kernel that passes only what the rules
// refuse. The frame also tells the MAC, which is who a charger is, whatever address
// it writes on its packets. The rules themselves log nothing: what they refused is
// counted with a comment, and a line of the kernel's for the same packet would only
// take room from the others (docs/security.md, 4).
//
// The room refuses nothing itself and lets nothing through: that is the
// firewall's. What egress refuses, egress says.
package denied

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// A Server is the room. It is safe for concurrent use.
type Server struct {
	book    *charger.Book
	log     *event.Log
	watches []*watch
	budget  budget
	panics  atomic.Int64
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
