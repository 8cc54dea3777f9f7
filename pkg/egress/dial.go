package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A dialler connects to allowed names: never to an address that the caller
// chose, and never into the house.
//
// It learns. Whoever calls a name that answered the last caller goes straight to
// that address: one packet, no search. Where nothing is known, or what was known
// has failed, a few callers search through all addresses (RFC 8305) and the
// others wait for what they find, a second or two and not eight: after a power cut
// everybody calls at once, and a name that is dead is not asked by each of
// them for each of its addresses. Only what was found out is shared. Every caller
// has a connection of its own.
type dialler struct {
	names          Names
	total, attempt time.Duration
	// mayDial and connect are fields so that tests can reach loopback servers and
	// make black holes. connect gives up at by.
	mayDial, outside func(netip.Addr) error
	connect          func(ctx context.Context, to netip.AddrPort, by time.Time) (*net.TCPConn, error)
	start            func(to netip.AddrPort) (fd int, err error)

	mu   sync.Mutex
	ways map[target]*way
	kept map[string]netip.Addr // where a name answered the process before us
}

func newDialler(cfg Config, names Names) *dialler {
	return &dialler{
		names: names, total: cfg.DialTimeout, attempt: cfg.AttemptTimeout,
		mayDial: func(a netip.Addr) error {
			if err := outside(cfg, a); err != nil {
				return err
			}
			return elsewhere(a)
		},
		outside: func(a netip.Addr) error { return outside(cfg, a) },
		connect: connect, start: start,
		ways: map[target]*way{},
		kept: map[string]netip.Addr{},
	}
}

const (
	// stagger is how long one address has the field to itself (RFC 8305, 5:
	// Connection Attempt Delay).
	stagger = 250 * time.Millisecond
	// maxSearches is how many callers search for the same name at once. More than
	// one, so that a lost packet of one of them does not hold up the garage.
	maxSearches = 4
	// maxJoins is how often a caller waits for what others find.
	maxJoins = 3
)

// dial connects to name on port. private are the private addresses that the rule
// lets the name have. Its error is a *dialError, or ctx's.
func (d *dialler) dial(ctx context.Context, name string, port uint16, private []netip.Prefix) (*net.TCPConn, error) {
	return d.dialSince(ctx, time.Now(), name, port, private)
}

// dialSince is dial for who was tried to be connected since then.
func (d *dialler) dialSince(ctx context.Context, since time.Time, name string, port uint16, private []netip.Prefix) (*net.TCPConn, error) {
	e := &errand{dialler: d, target: target{name, port}, private: private}
	e.within = within{Context: ctx, by: since.Add(d.total)}
	defer e.within.end()
	addrs, err := e.lookup()
	if err != nil {
		return nil, err
	}
	if addr, patience, known := d.straight(e.target, addrs); known {
		conn, err := e.try(ctx, addr, patience)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		e.note(addr, err)
		if !silent(err) && len(addrs) == 1 { // it said no: there is nothing to search
			return nil, newTCPError(e.errs)
		}
	}
	for range maxJoins {
		found, mine := d.enlist(e.target)
		if mine {
			return e.lead(addrs)
		}
		select {
		case <-found.done:
		case <-e.within.Done():
			return nil, e.over(ctx, nil)
		}
		if found.err != nil {
			return nil, e.unless(ctx, found.err)
		}
		if err = e.allowed(found.addr); err == nil {
			var conn *net.TCPConn
			if conn, err = e.try(ctx, found.addr, d.attempt); err == nil {
				return conn, nil
			}
		}
	}
	return nil, e.over(ctx, err)
}

// An errand is one caller's way to a connection.
type errand struct {
	*dialler
	target  target
	private []netip.Prefix
	within  within
	refused []netip.Addr // said no to this caller already
	waited  netip.Addr   // did not answer this caller in the time that it mostly needs
	errs    []error
}

// lookup returns the addresses that the name has now and may have.
func (e *errand) lookup() ([]netip.Addr, error) {
	addrs, err := e.names.LookupNetIP(&e.within, "ip4", e.target.name)
	if err == nil && len(addrs) == 0 {
		err = fmt.Errorf("%s has no IPv4 address", e.target.name)
	}
	if err != nil {
		return nil, e.unfound(err)
	}
	return e.permitted(addrs)
}

// unfound is the error of a name whose addresses were not found, or are false.
func (e *errand) unfound(err error) error {
	var bad interface{ Unusable() []netip.Addr } // see the resolver's LookupNetIP
	if errors.As(err, &bad) {
		if _, why := e.permitted(bad.Unusable()); why != nil {
			return why
		}
	}
	return newDNSError(err)
}

// permitted returns those of the addresses that may be dialled, or why there is
// none.
func (e *errand) permitted(addrs []netip.Addr) ([]netip.Addr, error) {
	allowed := make([]netip.Addr, 0, len(addrs))
	var refused []error
	var nameable []netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		err := e.allowed(a)
		if err == nil {
			allowed = append(allowed, a)
			continue
		}
		refused = append(refused, err)
		if errors.Is(err, errPrivate) {
			nameable = append(nameable, a)
		}
	}
	if len(allowed) == 0 {
		return nil, newAddressError(refused, nameable)
	}
	return allowed, nil
}

// allowed reports why an address must not be dialled for this rule, or nil.
func (e *errand) allowed(a netip.Addr) error { return e.permits(a, e.mayDial) }

// permits is allowed with another judge of where anybody may dial.
func (e *errand) permits(a netip.Addr, mayDial func(netip.Addr) error) error {
	if err := mayDial(a); err != nil {
		return err
	}
	if isPrivate(a) && !contains(e.private, a) {
		return fmt.Errorf("%s %w", a, errPrivate)
	}
	return nil
}

// try connects to one address, and notes how that went.
func (e *errand) try(ctx context.Context, addr netip.Addr, patience time.Duration) (*net.TCPConn, error) {
	began := time.Now()
	by := began.Add(patience)
	if e.within.by.Before(by) {
		by = e.within.by
	}
	conn, err := e.connect(ctx, netip.AddrPortFrom(addr, e.target.port), by)
	switch now := time.Now(); {
	case err == nil:
		e.worked(e.target, addr, now.Sub(began), now)
	case ctx.Err() == nil:
		e.stumbled(e.target, addr, err, now)
		err = &tryError{addr, now.Sub(began), err}
	}
	return conn, err
}

// note keeps what an address said to this caller.
func (e *errand) note(addr netip.Addr, err error) {
	if silent(err) {
		e.waited = addr
		return
	}
	e.refused = append(e.refused, addr)
	e.errs = append(e.errs, err)
}

// over is the error of an errand that has tried everything there was time for.
func (e *errand) over(ctx context.Context, err error) error {
	return e.unless(ctx, newTCPError(append(e.errs, err)))
}

// unless is err, or ctx's where the room stops.
func (e *errand) unless(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// lead searches, and tells those who wait what was found.
func (e *errand) lead(addrs []netip.Addr) (*net.TCPConn, error) {
	s := &search{errand: e}
	var conn *net.TCPConn
	var addr netip.Addr
	var err error
	defer func() { e.found(e.target, addr, err) }()
	conn, addr, err = s.run(addrs)
	return conn, err
}

// connect makes one connection. Its wait costs neither a goroutine nor a timer of
// its own.
func connect(ctx context.Context, to netip.AddrPort, by time.Time) (*net.TCPConn, error) {
	dialer := net.Dialer{KeepAlive: -1} // tune sets keep-alive
	dialer.SetMultipathTCP(false)
	conn, err := dialer.DialTCP(until{ctx, by}, "tcp4", netip.AddrPort{}, to)
	if err != nil {
		return nil, err
	}
	// The kernel gives a connection to one of the machine's own addresses that
	// same address as its source. elsewhere has asked before, but addresses come
	// and go with the uplink's lease.
	here := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	if here == to.Addr() && !here.IsLoopback() {
		reset(conn)
		return nil, fmt.Errorf("%s is this box", to.Addr())
	}
	return conn, nil
}

// until is a context whose deadline is for the poller alone: package net sets it
// on the socket, and nothing has to watch the clock.
type until struct {
	context.Context
	by time.Time
}

func (u until) Deadline() (time.Time, bool) { return u.by, true }

// within is a context that ends at by. It sets its timer when somebody waits for
// it, which nobody does for a name that is remembered.
type within struct {
	context.Context
	by time.Time

	mu     sync.Mutex
	timed  context.Context
	cancel context.CancelFunc
}

func (w *within) Deadline() (time.Time, bool) { return w.by, true }

func (w *within) Done() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timed == nil {
		w.timed, w.cancel = context.WithDeadline(w.Context, w.by)
	}
	return w.timed.Done()
}

func (w *within) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timed != nil {
		return w.timed.Err()
	}
	return w.Context.Err()
}

// Value is that of the timed context where there is one, so that package context
// finds it and needs no goroutine to hear of its end.
func (w *within) Value(key any) any {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timed != nil {
		return w.timed.Value(key)
	}
	return w.Context.Value(key)
}

func (w *within) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel != nil {
		w.cancel()
	}
}
