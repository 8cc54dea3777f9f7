// Package egress lets permitted conversations out, and nothing else.
//
// The firewall redirects every allowed TCP port to this room. It learns where
// the caller wanted to go (SO_ORIGINAL_DST), reads whom it asks for (package
// hello), lets the list decide by name and port (package policy), dials that
// name itself at an address that our own resolver found, and then carries the
// bytes both ways unchanged: TLS is never opened. Whoever is refused learns it
// at once, by a TLS alert or a reset.
//
// What it carries outlives the process: both connections of a conversation, and
// the pipes with what is on its way between them, are kept by systemd from the
// moment on that the hello was replayed, and a ledger beside them says what they
// are. The next process goes on where this one ended, however it ended.
//
// It leaves to others the rules (policy), the addresses of names (Names), who
// a caller is and how far it has come (charger.Book), and everything that is
// not TCP on an allowed port (the firewall).
package egress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"chargegate/pkg/carry"
	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"
)

// Names knows the addresses of allowed names. The resolver does.
type Names interface {
	// LookupNetIP returns the addresses of host; network is "ip4". A host that is
	// not on the list is an error.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	// NamesAt returns which allowed names that caller was lately told to have that
	// address.
	NamesAt(caller, addr netip.Addr) []string
}

// Names that are remembering know some addresses without asking anybody.
type remembering interface {
	// Known returns the addresses of an allowed name that LookupNetIP would return
	// at once, or nothing. They must not be changed.
	Known(host string) []netip.Addr
}

// A Store keeps descriptors while the process is replaced, so that no call is
// turned away meanwhile and no conversation ends. Package handover has one.
type Store interface {
	// Take returns the descriptor that is kept under that name, if there is one:
	// by the process before, or by Keep of this one. It is the caller's to close,
	// and can be taken again.
	Take(name string) (*os.File, bool)
	// Keep gives a copy of the descriptor to whoever keeps them.
	Keep(name string, f *os.File) error
	// Managed reports whether there is somebody who keeps anything.
	Managed() bool
	// Give gives copies of descriptors that belong together to whoever keeps them,
	// all of them or none.
	Give(name string, fds ...int) error
	// Remove has closed what was given under a name.
	Remove(name string) error
	// Given returns, once, what the process before gave under names that begin with
	// prefix, in any order. The descriptors are the caller's.
	Given(prefix string) map[string][]int
}

// A Server is the room. It is safe for concurrent use.
type Server struct {
	cfg   Config
	list  *policy.List
	names Names
	book  *charger.Book
	store Store
	log   *event.Log

	// original tells where a redirected caller wanted to go. It is a field so
	// that tests can run without a firewall.
	original func(fd int) (netip.AddrPort, error)

	wayOut     func() bool // whether this box has a way out at all; a field for tests
	dialler    *dialler
	outages    *outages
	handshakes *handshakes
	refusals   *refusals
	places     *places
	past       *histories
	counts     counts
	accounts   Accounts // nil: nobody keeps any
	calls      calls
	// approaching are the calls that go straight and have no server yet.
	approaching sync.WaitGroup

	mu        sync.Mutex
	listeners []*door
	own       map[netip.AddrPort]bool // it was this process that listened there last
	open      map[*conversation]struct{}
	keeper    *keeper        // nil: what is open ends with the process. Never changed after the first Listen
	looked    bool           // what the process before had was taken over
	carrier   *carry.Carrier // nil while the room neither listens nor serves
}

// New makes the room. The configuration is taken as valid; store may be nil.
func New(cfg Config, list *policy.List, names Names, book *charger.Book, store Store, log *event.Log) *Server {
	cfg = cfg.withDefaults()
	return &Server{
		cfg: cfg, list: list, names: names, book: book, store: store, log: log,
		original: originalDestination,
		dialler:  newDialler(cfg, names),
		wayOut:   hasWayOut,
		outages:  newOutages(), handshakes: newHandshakes(),
		refusals: &refusals{said: map[share]*said{}},
		places:   newPlaces(cfg),
		past:     &histories{of: map[share][]Past{}},
		own:      map[netip.AddrPort]bool{},
		open:     map[*conversation]struct{}{},
	}
}

// withDefaults fills in what was left zero.
func (c Config) withDefaults() Config {
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{
		{&c.HelloTimeout, 10 * time.Second},
		{&c.DialTimeout, 8 * time.Second},
		{&c.AttemptTimeout, 3 * time.Second},
		{&c.IdleLasting, time.Hour},
		{&c.IdleShort, 5 * time.Minute},
	} {
		if *d.value == 0 {
			*d.value = d.or
		}
	}
	if c.PerCharger == 0 {
		c.PerCharger = 8
	}
	if c.Total == 0 {
		c.Total = 512
	}
	return c
}

// Name returns what the room is called in logs and metrics.
func (s *Server) Name() string { return "egress" }

// Listen takes every listening socket, or none and says why. When they are
// held already it does nothing.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listeners != nil {
		return nil
	}
	var taken []*door
	for _, addr := range s.cfg.Listen {
		l, err := s.listen(addr)
		if err != nil {
			for _, t := range taken {
				t.Close()
			}
			return fmt.Errorf("listening for conversations on %s: %w", addr, err)
		}
		taken = append(taken, l)
	}
	if s.carrier == nil {
		carrier, err := carry.New()
		if err != nil {
			for _, t := range taken {
				t.Close()
			}
			return fmt.Errorf("preparing to carry conversations: %w", err)
		}
		s.carrier = carrier
	}
	s.listeners = taken
	if !s.looked {
		s.looked = true
		s.takeOver()
	}
	return nil
}

// keepPatience is how long the manager may take, at the end, to be given what it
// has not been given yet, and again to be told what ended.
const keepPatience = time.Second

// Addrs returns where the room listens, in the order of Config.Listen; nothing
// before Listen.
func (s *Server) Addrs() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var addrs []netip.AddrPort
	for _, l := range s.listeners {
		addrs = append(addrs, l.at)
	}
	return addrs
}

// Serve lets conversations out until ctx is done. Then it leaves those that are
// kept to the next process, resets the others, waits for everything it started and
// returns nil.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	s.mu.Lock()
	listeners, carrier := s.listeners, s.carrier
	s.mu.Unlock()

	asked := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	carrying, stopCarrying := context.WithCancel(context.Background())
	defer stopCarrying()
	s.calls.open(ctx)
	var wheel sync.WaitGroup
	wheel.Go(func() {
		if err := carrier.Serve(carrying); err != nil {
			cancel(err)
		}
	})
	keeping, stopKeeping := context.WithCancel(context.Background())
	defer stopKeeping()
	if s.keeper != nil {
		wheel.Go(func() { s.keeper.run(keeping) })
	}
	var loops sync.WaitGroup
	for _, l := range listeners {
		loops.Go(func() {
			if err := s.accept(ctx, l); err != nil {
				cancel(err)
			}
		})
	}
	loops.Go(func() { s.watch(ctx) })

	<-ctx.Done()
	s.mu.Lock()
	s.listeners = nil
	s.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	loops.Wait()
	s.calls.shut() // each call has a watch on ctx of its own
	if asked.Err() != nil {
		carrier.GiveUpAll(errStops)
		s.approaching.Wait()
		listens := s.keeper.flush(keepPatience)
		s.endUnkept(errStops)
		if listens {
			s.keeper.flush(keepPatience)
		}
	}
	stopCarrying()
	stopKeeping()
	wheel.Wait()
	if asked.Err() != nil {
		s.leave(time.Now())
		s.keeper.beat()
		s.mu.Lock()
		s.carrier = nil
		s.mu.Unlock()
		carrier.Close()
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}
