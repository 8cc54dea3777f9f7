package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// What kept a name from being reached, as the metrics and the log call it.
const (
	causeDNS     = "dns"     // its addresses could not be found
	causeAddress = "address" // it has addresses, but none that may be dialled
	causeTCP     = "tcp"     // no address took the connection
)

var causes = []string{causeDNS, causeAddress, causeTCP}

// causeInWords is what the charger's page says of each.
var causeInWords = map[string]string{
	causeDNS:     "its address cannot be found",
	causeAddress: "it has no address that may be dialled",
	causeTCP:     "no server takes the connection",
}

// A dialError says why an allowed name could not be reached.
type dialError struct {
	cause string
	err   error
}

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// A dialler connects to allowed names: never to an address that the caller
// chose, and never into the house.
type dialler struct {
	names          Names
	total, attempt time.Duration
	// mayDial and connect are fields so that tests can reach loopback servers and
	// make black holes.
	mayDial func(netip.Addr) error
	connect func(context.Context, netip.AddrPort) (*net.TCPConn, error)

	mu   sync.Mutex
	last map[string]netip.Addr // where each name answered last
}

func newDialler(cfg Config, names Names) *dialler {
	return &dialler{
		names: names, total: cfg.DialTimeout, attempt: cfg.AttemptTimeout,
		mayDial: func(a netip.Addr) error { return outside(cfg, a) },
		connect: connect,
		last:    map[string]netip.Addr{},
	}
}

// maxRemembered bounds how many names' last addresses are remembered: a
// pattern on the list allows any number of names.
const maxRemembered = 256

// outside reports why an address must not be dialled, or nil. A name may have
// any address that its owner likes; the answer must not turn the proxy against
// the networks it guards or against this box. Other private ranges are let
// through: laboratories and corporate clouds live there.
func outside(cfg Config, a netip.Addr) error {
	a = a.Unmap()
	switch {
	case !a.Is4():
		return fmt.Errorf("%s is not an IPv4 address", a)
	case a.IsLoopback():
		return fmt.Errorf("%s is a loopback address", a)
	case a.IsUnspecified() || a.As4()[0] == 0:
		return fmt.Errorf("%s is the address of nobody", a)
	case a.IsLinkLocalUnicast():
		return fmt.Errorf("%s is a link-local address", a)
	case a.As4()[0] >= 224: // multicast, reserved, broadcast
		return fmt.Errorf("%s is not the address of a single host", a)
	}
	for _, p := range cfg.Networks {
		if p.Contains(a) {
			return fmt.Errorf("%s is in the chargers' network %s", a, p)
		}
	}
	if slices.ContainsFunc(cfg.Listen, func(l netip.AddrPort) bool { return l.Addr() == a }) {
		return fmt.Errorf("%s is this box", a)
	}
	return nil
}

// dial connects to name on port. Its error is a *dialError, or ctx's.
func (d *dialler) dial(ctx context.Context, name string, port uint16) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.total)
	defer cancel()
	addrs, err := d.names.LookupNetIP(ctx, "ip4", name)
	if err != nil {
		return nil, &dialError{causeDNS, err}
	}
	if len(addrs) == 0 {
		return nil, &dialError{causeDNS, fmt.Errorf("%s has no IPv4 address", name)}
	}
	allowed, err := d.permitted(addrs)
	if len(allowed) == 0 {
		return nil, &dialError{causeAddress, err}
	}
	conn, err := d.race(ctx, d.order(name, allowed), port)
	if err != nil {
		return nil, &dialError{causeTCP, err}
	}
	d.remember(name, conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
	return conn, nil
}

// permitted returns the addresses that may be dialled, and why the others not.
func (d *dialler) permitted(addrs []netip.Addr) ([]netip.Addr, error) {
	var allowed []netip.Addr
	var refused []error
	for _, a := range addrs {
		if err := d.mayDial(a); err != nil {
			refused = append(refused, err)
			continue
		}
		allowed = append(allowed, a.Unmap())
	}
	return allowed, errors.Join(refused...)
}

// order puts the address that answered last in front.
func (d *dialler) order(name string, addrs []netip.Addr) []netip.Addr {
	d.mu.Lock()
	last := d.last[name]
	d.mu.Unlock()
	if i := slices.Index(addrs, last); i > 0 {
		addrs = slices.Insert(slices.Delete(slices.Clone(addrs), i, i+1), 0, last)
	}
	return addrs
}

func (d *dialler) remember(name string, addr netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.last[name]; !known && len(d.last) >= maxRemembered {
		clear(d.last)
	}
	d.last[name] = addr
}

// stagger is how long one address has the field to itself (RFC 8305, 5:
// Connection Attempt Delay).
const stagger = 250 * time.Millisecond

// race tries the addresses one after another, the next when one has failed or
// has let stagger pass, and returns the first connection.
func (d *dialler) race(ctx context.Context, addrs []netip.Addr, port uint16) (*net.TCPConn, error) {
	ctx, cancel := context.WithCancel(ctx)
	var tries sync.WaitGroup
	defer tries.Wait()
	defer cancel() // ends the losers

	type outcome struct {
		conn *net.TCPConn
		err  error
	}
	outcomes := make(chan outcome)
	try := func(addr netip.Addr) {
		attempt, cancel := context.WithTimeout(ctx, d.attempt)
		defer cancel()
		conn, err := d.connect(attempt, netip.AddrPortFrom(addr, port))
		select {
		case outcomes <- outcome{conn, err}:
		case <-ctx.Done():
			if conn != nil {
				conn.Close()
			}
		}
	}
	var errs []error
	running := 0
	for next := 0; next < len(addrs) || running > 0; {
		var wait <-chan time.Time
		if next < len(addrs) {
			addr := addrs[next]
			tries.Go(func() { try(addr) })
			next, running = next+1, running+1
			wait = time.After(stagger)
		}
		select {
		case o := <-outcomes:
			running--
			if o.err == nil {
				return o.conn, nil
			}
			errs = append(errs, o.err)
		case <-wait:
		case <-ctx.Done():
			return nil, errors.Join(append(errs, ctx.Err())...)
		}
	}
	return nil, errors.Join(errs...)
}

// connect makes one connection.
func connect(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	dialer := net.Dialer{KeepAlive: -1} // tune sets keep-alive
	dialer.SetMultipathTCP(false)
	conn, err := dialer.DialTCP(ctx, "tcp4", netip.AddrPort{}, to)
	if err != nil {
		return nil, err
	}
	// The kernel gives a connection to one of the machine's own addresses that
	// same address as its source. mayDial cannot know them all: the uplink's
	// comes and goes with its DHCP lease.
	here := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
	if here == to.Addr() && !here.IsLoopback() {
		reset(conn)
		return nil, fmt.Errorf("%s is this box", to.Addr())
	}
	return conn, nil
}
