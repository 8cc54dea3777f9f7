package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Callers are devices of the garage that hold conversations with servers beyond
// the uplink, each from an address of its own, and those servers: for load, where
// a Charger each and a web server would be the bottleneck. Both ends of every
// conversation are on one thread and one epoll, so that what is measured is what
// lies between them.
//
// A conversation begins with a real ClientHello. The server answers to it with a
// record like a ServerHello, if every byte of the hello is as it was sent; then it
// sends back what it is sent, or all that the caller can take.
//
// Callers are one goroutine's at a time.
type Callers struct {
	stand           *Stand
	epoll, listener int
	endless         int // a file in memory, of what the servers send when they do not stop
	from            []unix.SockaddrInet4
	called          []server
	ends            []end // by descriptor
	events          [256]unix.EpollEvent
	buf             []byte
	sink            []byte // of what does not end; never written to
	next            int    // whose turn it is to call

	task   task
	tally  Called
	bytes  int64     // that callers heard of what does not end
	looked time.Time // for who waits too long
}

// A server is one name that can be called.
type server struct {
	to    unix.SockaddrInet4
	hello []byte
}

// A task says what callers do when something has happened. nil: nothing.
type task struct {
	answered func(e *end, now time.Time) // the server's first record is there
	echoed   func(e *end, now time.Time) // what was sent has come back
	ended    func(ok bool)               // a conversation is over
}

// Called is how calling went.
type Called struct {
	// Failed calls were refused, broken off or not answered in time. Wrong ones
	// were not carried byte for byte.
	Done, Failed, Wrong int
	// Wall is from the first call to the end of the last one.
	Wall time.Duration
	// Waits are from the hello to the first byte of the answer, and Setups from the
	// call to there; both ascending.
	Waits, Setups []time.Duration
}

const (
	callPort     = 443
	callPatience = 5 * time.Second
	// callNames is how many servers are called. Each has an address of its own, so
	// that the ports of the uplink's address do not run out.
	callNames = 8
	echoBytes = 32 // about what a PINGREQ in TLS has
	// gulp is the most that is sent or heard by one system call of what does not
	// end; it lies in a file of that size.
	gulp = 1 << 20
)

// benchNets are where the names of FastNames live: beside what is kept for
// benchmarks (198.18.0.0/15, RFC 2544), where the proxy never dials.
var benchNets = netip.MustParsePrefix("198.16.0.0/15")

// CalledNames are the servers that callers call, each in its turn.
func CalledNames() (names []string) {
	for n := range callNames {
		names = append(names, fmt.Sprintf("server%d.%s", n, BenchZone))
	}
	return names
}

// Callers opens the servers, for callers that Seat gives addresses. The stand must
// have names; it has one such crew at most.
func (s *Stand) Callers() (*Callers, error) {
	c := &Callers{stand: s, epoll: -1, listener: -1, endless: -1, buf: make([]byte, 64<<10), sink: make([]byte, gulp)}
	if err := s.serveCallers(c); err != nil {
		c.Close()
		return nil, fmt.Errorf("preparing callers: %w", err)
	}
	return c, nil
}

// Seat gives the callers these addresses, one each, in the place of those that they
// had. There must be one at least.
func (c *Callers) Seat(devices []netip.Addr) error {
	s := c.stand
	c.from = nil
	for _, addr := range devices {
		if err := s.site.address(s.Iface, netip.PrefixFrom(addr, s.Address.Bits()).String()); err != nil {
			return err
		}
		c.from = append(c.from, unix.SockaddrInet4{Addr: addr.As4()})
	}
	// With the first address there is a way out.
	return s.site.defaultRoute(s.Iface, s.Address.Addr().String())
}

func (s *Stand) serveCallers(c *Callers) (err error) {
	if err := s.beyond.Space.everywhere(benchNets); err != nil {
		return err
	}
	for _, name := range CalledNames() {
		wire := wireName(name)
		hello, err := clientHello(name)
		if err != nil {
			return err
		}
		c.called = append(c.called, server{unix.SockaddrInet4{Port: callPort, Addr: benchAddr(wire)}, hello})
	}
	if c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if err := c.fillEndless(); err != nil {
		return err
	}
	if err := s.beyond.Space.Do(func() (err error) { c.listener, err = listenForCalls(); return err }); err != nil {
		return err
	}
	return c.watch(c.listener, unix.EPOLLIN)
}

// everywhere makes a namespace answer for all addresses of a prefix.
func (s *Space) everywhere(p netip.Prefix) error {
	lo, err := s.nl.LinkByName("lo")
	if err == nil {
		var dst *net.IPNet
		if dst, err = netlink.ParseIPNet(p.String()); err == nil {
			err = s.nl.RouteReplace(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST})
		}
	}
	if err != nil {
		return fmt.Errorf("making %s answer for %s: %w", s.Name, p, err)
	}
	return nil
}

// routeTo sends what is for a prefix by way of an address.
func (s *Space) routeTo(name string, p netip.Prefix, via string) error {
	link, err := s.nl.LinkByName(name)
	if err == nil {
		var dst *net.IPNet
		if dst, err = netlink.ParseIPNet(p.String()); err == nil {
			err = s.nl.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: net.ParseIP(via)})
		}
	}
	if err != nil {
		return fmt.Errorf("routing %s of %s by %s: %w", p, s.Name, via, err)
	}
	return nil
}

func (c *Callers) fillEndless() (err error) {
	if c.endless, err = unix.MemfdCreate("endless", unix.MFD_CLOEXEC); err != nil {
		return fmt.Errorf("making a file in memory: %w", err)
	}
	_, err = unix.Write(c.endless, make([]byte, gulp))
	return err
}

// listenForCalls opens the servers' socket. A call is shown to it when its first
// bytes are there.
func listenForCalls() (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return fd, err
	}
	return fd, errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 5),
		unix.Bind(fd, &unix.SockaddrInet4{Port: callPort}),
		unix.Listen(fd, 4096))
}

// Close hangs up everything and gives all sockets back.
func (c *Callers) Close() {
	c.clear()
	for _, fd := range []int{c.listener, c.endless, c.epoll} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// clear resets all conversations.
func (c *Callers) clear() {
	c.task = task{}
	for fd := range c.ends {
		if c.ends[fd].state != nobody {
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			c.drop(fd)
		}
	}
}

// begin starts a measurement.
func (c *Callers) begin() (end func()) {
	runtime.LockOSThread() // a thread that waits for epoll, and not a scheduler
	c.tally, c.bytes, c.task, c.looked = Called{}, 0, task{}, time.Now()
	return func() {
		c.clear()
		runtime.UnlockOSThread()
	}
}

// Go calls until the pace or ctx ends it, as Askers ask: each call is ended by the
// caller as soon as it is answered, and is done when the server has hung up too.
func (c *Callers) Go(ctx context.Context, p Pace) (Called, error) {
	if p.Together < 1 || p.For == 0 && p.Most == 0 {
		return Called{}, fmt.Errorf("%d calls together; allowed is 1 or more, with an end", p.Together)
	}
	defer c.begin()()
	began, last := time.Now(), time.Time{}
	started, open := 0, 0
	c.task.answered = func(e *end, now time.Time) {
		c.tally.Waits = append(c.tally.Waits, now.Sub(e.spoke))
		c.tally.Setups = append(c.tally.Setups, now.Sub(e.since))
		c.hangUp(e)
	}
	c.task.ended = func(ok bool) { open--; last = time.Now() }
	over := func() bool {
		return ctx.Err() != nil || p.Most > 0 && started >= p.Most || p.For > 0 && time.Since(began) >= p.For
	}
	for !over() || open > 0 {
		for open < p.Together && !over() {
			if p.Every > 0 {
				time.Sleep(time.Until(began.Add(time.Duration(started) * p.Every)))
			}
			started, open = started+1, open+1
			if err := c.call(); err != nil {
				return c.tally, err
			}
		}
		if err := c.turn(cmp.Or(p.Patience, callPatience)); err != nil {
			return c.tally, err
		}
	}
	slices.Sort(c.tally.Waits)
	slices.Sort(c.tally.Setups)
	c.tally.Wall = last.Sub(began)
	return c.tally, nil
}

// Hold opens so many conversations, lets look see them when nothing moves in them
// any more, and sends some bytes there and back through each of them then. Done
// are those where they came back.
func (c *Callers) Hold(ctx context.Context, many int, look func() error) (Called, error) {
	defer c.begin()()
	began := time.Now()
	held, err := c.open(ctx, many)
	if err != nil {
		return c.tally, err
	}
	if err := look(); err != nil {
		return c.tally, err
	}
	waiting := 0
	c.task.echoed = func(*end, time.Time) { c.tally.Done++; waiting-- }
	c.task.ended = func(bool) { waiting-- }
	for _, fd := range held {
		if e := &c.ends[fd]; e.state == calling { // not dropped meanwhile
			waiting++
			c.say(e, time.Now())
		}
	}
	for waiting > 0 && ctx.Err() == nil {
		if err := c.turn(callPatience); err != nil {
			return c.tally, err
		}
	}
	c.tally.Wall = time.Since(began)
	c.tally.Failed = many - c.tally.Done
	return c.tally, ctx.Err()
}

// open opens conversations, a few at a time, and returns their callers' ends.
func (c *Callers) open(ctx context.Context, many int) (held []int, err error) {
	const together = 16
	waiting := 0
	c.task.answered = func(e *end, _ time.Time) { held = append(held, e.fd); waiting-- }
	c.task.ended = func(bool) { waiting-- }
	for started := 0; (started < many || waiting > 0) && ctx.Err() == nil; {
		for started < many && waiting < together {
			started, waiting = started+1, waiting+1
			if err := c.call(); err != nil {
				return held, err
			}
		}
		if err := c.turn(callPatience); err != nil {
			return held, err
		}
	}
	c.task = task{}
	return held, ctx.Err()
}

// Ping opens one conversation and sends so many times some bytes there and back,
// one after the other and every so often. Waits are how long each took.
func (c *Callers) Ping(ctx context.Context, many int, every time.Duration) (Called, error) {
	defer c.begin()()
	began := time.Now()
	held, err := c.open(ctx, 1)
	if err != nil || len(held) == 0 {
		return c.tally, err
	}
	c.task.echoed = func(e *end, now time.Time) { c.tally.Done++; c.tally.Waits = append(c.tally.Waits, now.Sub(e.spoke)) }
	over := false
	c.task.ended = func(bool) { over = true }
	for n := 0; n < many && !over && ctx.Err() == nil; n++ {
		time.Sleep(time.Until(began.Add(time.Duration(n) * every)))
		for c.say(&c.ends[held[0]], time.Now()); c.tally.Done == n && !over && ctx.Err() == nil; {
			if err := c.turn(callPatience); err != nil {
				return c.tally, err
			}
		}
	}
	slices.Sort(c.tally.Waits)
	c.tally.Wall = time.Since(began)
	return c.tally, ctx.Err()
}

// Bulk opens so many conversations and lets the servers send for that long all
// that the callers can take. measure is called when the bytes flow; it must run
// work, which returns how many bytes were heard and in what time.
func (c *Callers) Bulk(ctx context.Context, streams int, lasts time.Duration, measure func(work func() (bytes int64, wall time.Duration, err error)) error) (Called, error) {
	defer c.begin()()
	held, err := c.open(ctx, streams)
	if err != nil {
		return c.tally, err
	}
	for _, fd := range held {
		if _, err := unix.Write(fd, wantAll); err != nil {
			return c.tally, fmt.Errorf("asking for all: %w", err)
		}
		c.ends[fd].state = swallowing
	}
	flow := func(d time.Duration) error {
		for began := time.Now(); time.Since(began) < d && ctx.Err() == nil; {
			if err := c.turn(time.Hour); err != nil {
				return err
			}
		}
		return ctx.Err()
	}
	if err := flow(lasts / 4); err != nil { // windows open first
		return c.tally, err
	}
	return c.tally, measure(func() (int64, time.Duration, error) {
		before, began := c.bytes, time.Now()
		err := flow(lasts)
		return c.bytes - before, time.Since(began), err
	})
}
