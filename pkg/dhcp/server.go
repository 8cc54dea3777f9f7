// Package dhcp gives addresses (RFC 2131): the same one to the same MAC, for
// ever, and a new one only after it is on disk. It tells nothing but the gateway
// itself as router, name server and clock.
//
// Requests are heard with their frames: nobody may speak for another device,
// whose MAC the request names, but a relay agent that the configuration names.
//
// On each network a reader only queues what arrives, so that the wave after a
// power cut (F-1) waits in memory and not in the kernel's small buffer. Workers
// decide, which never takes a disk, each for its own share of the devices. An
// answer that promises something new waits in a line of its own until the promise
// is on disk; everything else leaves at once. A client is answered with a frame to
// its hardware address, and never waited for: what the air does not take is dropped.
//
// Who else is on the network is found out in the background: which addresses are
// used by somebody who does not have them from here, by listening to ARP and
// asking ahead of need, so that no OFFER ever waits for it (F-2); and which other
// servers there are. Of two chargegates on one segment one stands down (rival.go).
//
// An interface that is missing, without carrier or made anew is waited for.
// Without the gateway's address on it nobody is answered: a charger could do
// nothing with what it is told.
//
// The package leaves to lease which address it is, to charger who is who, and to
// the firewall to let port 67 in.
package dhcp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

const (
	// queued bounds the packets of one network that wait in each of the two lines
	// before its workers, and the answers that wait for the disk on all.
	queued = 4096
	// workers decide, for each network. It is computing only, a few microseconds
	// each: the second is for a scheduler that is busy with the first.
	workers = 2
	// tidyEvery is the time between looks at the disk and the pools.
	tidyEvery = 5 * time.Second
	// lookEvery is the time between looks at an interface.
	lookEvery = time.Second
)

// A Server gives addresses on every network of its Config.
type Server struct {
	links   []*link
	leases  *lease.Table
	book    *charger.Book
	log     *event.Log
	lockDir string
	disk    diskWatch

	promises chan promise // answers that wait for the disk

	mu    sync.Mutex
	locks []*os.File
	held  bool // Listen has succeeded
}

// A promise is an answer with the network that it belongs to.
type promise struct {
	link *link
	answer
}

// New makes a server and tells the book who had which address before the start.
func New(cfg Config, leases *lease.Table, book *charger.Book, log *event.Log) *Server {
	s := &Server{leases: leases, book: book, log: log, lockDir: cfg.LockDir, promises: make(chan promise, queued)}
	small := new(atomic.Bool)
	for _, n := range cfg.Networks {
		l := &link{
			desk:   newDesk(n, cfg.Networks, leases, cfg.Lease),
			log:    log,
			small:  small,
			listed: func(hw charger.MAC) bool { return listedOn(book, n.Name, hw) },
			crowd:  rate.NewLimiter(rate.Every(10*time.Second), 10),
		}
		for i := range l.lanes {
			l.lanes[i] = newLane()
		}
		l.settleIn(leases)
		l.heardARP = func(frame []byte, now time.Time) { s.safely(l, func() { s.hearARP(l, frame, now) }) }
		l.heardForeign = func(frame []byte, now time.Time) { s.safely(l, func() { s.hearForeign(l, frame, now) }) }
		s.links = append(s.links, l)
	}
	now := time.Now()
	for _, b := range leases.All(now) {
		book.Leased(b.HW, b.Network, b.Addr, false, now)
		book.Called(b.HW, b.Network, b.Host, now)
	}
	return s
}

// Name is "dhcp".
func (s *Server) Name() string { return "dhcp" }

// Listen takes a lock and the sockets of each interface. An interface that does
// not exist is no error: Serve waits for it. That the sockets may not be had, or
// that another chargegate has the interface, is one.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held {
		return nil
	}
	for _, l := range s.links {
		if err := s.takeLocked(l); err != nil {
			s.dropLocked()
			return fmt.Errorf("giving addresses on %s: %w", l.Interface, err)
		}
	}
	s.held = true
	return nil
}

func (s *Server) takeLocked(l *link) error {
	if s.lockDir != "" {
		f, err := lock(s.lockDir, l.Interface)
		if err != nil {
			return err
		}
		s.locks = append(s.locks, f)
	}
	err := l.bind()
	if errors.Is(err, errNoInterface) {
		l.sayMissing()
		return permitted()
	}
	return err
}

// dropLocked lets go whatever Listen took.
func (s *Server) dropLocked() {
	for _, l := range s.links {
		l.unbind()
	}
	for _, f := range s.locks {
		f.Close()
	}
	s.locks, s.held = nil, false
}

// Serve answers until ctx is done. What had been decided then is still made
// durable and sent.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dropLocked()
	}()
	var readers, deciders, others sync.WaitGroup
	stop := make(chan struct{})
	for _, l := range s.links {
		readers.Go(func() { l.tend(ctx) })
		for i := range l.lanes {
			deciders.Go(func() { s.work(l, l.lanes[i], stop) })
		}
	}
	settled := make(chan struct{})
	others.Go(func() { s.settle(settled) })
	others.Go(func() { s.watch(ctx) })

	readers.Wait() // they end with ctx
	close(stop)
	deciders.Wait()
	close(settled)
	others.Wait()
	return nil
}
