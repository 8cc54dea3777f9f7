package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// losses numbers the tables of Lose.
var losses atomic.Int64

// Lose makes packets that arrive in the namespace vanish before anybody there
// sees them, as on a wire: those that an nft expression matches, "tcp sport
// 8883" or "numgen random mod 100 < 5". heal ends it, and says how many there
// were.
func (s *Space) Lose(ctx context.Context, match string) (heal func(context.Context) (int, error), err error) {
	table := fmt.Sprintf("lost%d", losses.Add(1))
	if _, err := s.nft(ctx, fmt.Sprintf(`table inet %s {
	counter lost { }
	chain arriving {
		type filter hook prerouting priority -400; policy accept;
		%s counter name lost drop
	}
}
`, table, match)); err != nil {
		return nil, fmt.Errorf("losing %q in %s: %w", match, s.Name, err)
	}
	return func(ctx context.Context) (int, error) {
		said, err := s.nft(ctx, "list counter inet "+table+" lost\n")
		if err == nil {
			_, err = s.nft(ctx, "delete table inet "+table+"\n")
		}
		if err != nil {
			return 0, fmt.Errorf("ending the loss of %q in %s: %w", match, s.Name, err)
		}
		var n int
		if _, rest, ok := strings.Cut(said, "packets "); ok {
			_, err = fmt.Sscan(rest, &n)
		}
		return n, err
	}, nil
}

// nft has the real nft do what a script says.
func (s *Space) nft(ctx context.Context, script string) (string, error) {
	cmd, err := command("nft", "-f", "-")
	if err != nil {
		return "", err
	}
	cmd.Stdin = strings.NewReader(script)
	said, err := s.output(ctx, cmd)
	if err != nil {
		return said, fmt.Errorf("%w: %s", err, said)
	}
	return said, nil
}

// Plug switches an interface on or off, as a cable does that is put in and
// pulled out. The routes by way of it go with it and do not come back by
// themselves.
func (s *Space) Plug(name string, in bool) error {
	if in {
		return s.up(name)
	}
	link, err := s.nl.LinkByName(name)
	if err == nil {
		err = s.nl.LinkSetDown(link)
	}
	if err != nil {
		return fmt.Errorf("switching %s of %s off: %w", name, s.Name, err)
	}
	return nil
}

// MTU sets how long a packet may be that leaves by an interface.
func (s *Space) MTU(name string, n int) error {
	link, err := s.nl.LinkByName(name)
	if err == nil {
		err = s.nl.LinkSetMTU(link, n)
	}
	if err != nil {
		return fmt.Errorf("setting the MTU of %s of %s: %w", name, s.Name, err)
	}
	return nil
}

// Route gives the gateway its default route back.
func (g *Gateway) Route() error { return g.Space.defaultRoute(uplink, RouterAddr) }

// Renumber takes an address of the uplink from the gateway and gives it another
// one, as a DHCP server does that has forgotten who had which.
func (g *Gateway) Renumber(from, to string) error {
	link, err := g.Space.nl.LinkByName(uplink)
	if err == nil {
		err = g.Space.nl.AddrDel(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(netip.MustParseAddr(from), 24))})
	}
	if err != nil {
		return fmt.Errorf("taking %s from the gateway: %w", from, err)
	}
	if err := g.Space.address(uplink, to+"/24"); err != nil {
		return err
	}
	return g.Route()
}

// Beyond makes a place behind a router of the cloud, which is reached by way of
// a link that takes packets of at most mtu bytes, and gives it an address. Servers
// there do not know how narrow the way is beyond their own wire: they promise to
// take full segments. It can be made once, and ends with the cloud.
func (c *Cloud) Beyond(mtu int, addr string) (*Space, error) {
	const wire = "narrow"
	if err := c.Space.sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return nil, err
	}
	beyond, err := newSpace("beyond")
	if err != nil {
		return nil, err
	}
	c.beyond = beyond
	for _, step := range []func() error{
		func() error {
			return beyond.wire(uplink, c.Space, wire, [6]byte{2, 0, 0, 2, 0, 1}, [6]byte{2, 0, 0, 2, 0, 2})
		},
		func() error { return beyond.MTU(uplink, mtu) },
		func() error { return c.Space.MTU(wire, mtu) },
		func() error { return c.Space.address(wire, "192.0.2.1/30") },
		func() error { return beyond.address(uplink, "192.0.2.2/30", addr+"/32") },
		func() error { return beyond.promisingRoute(uplink, "192.0.2.1", 1460) },
		func() error {
			return c.Space.nl.RouteReplace(&netlink.Route{Dst: ipNet(netip.PrefixFrom(netip.MustParseAddr(addr), 32)), Gw: net.ParseIP("192.0.2.2")})
		},
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return beyond, nil
}

// promisingRoute is a default route by way of which connections promise to take
// segments of mss bytes.
func (s *Space) promisingRoute(name, via string, mss int) error {
	link, err := s.nl.LinkByName(name)
	if err == nil {
		err = s.nl.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(via), AdvMSS: mss})
	}
	if err != nil {
		return fmt.Errorf("routing %s by %s: %w", s.Name, via, err)
	}
	return nil
}

// PuppetAddrs are where puppets may stand, with port 443.
var PuppetAddrs = [...]string{
	"198.51.100.30", "198.51.100.31", "198.51.100.32", "198.51.100.33", "198.51.100.34",
	"198.51.100.35", "198.51.100.36", "198.51.100.37", "198.51.100.38", "198.51.100.39",
}

// A Puppet is a server of the cloud whose connections a test moves by hand.
type Puppet struct {
	// TLS shows a certificate for the names of the puppet.
	TLS *tls.Config

	l     net.Listener
	calls chan *net.TCPConn
	done  sync.WaitGroup
}

// Puppet opens a server at an address of the cloud, which is made for it. The
// names lead to that address from then on.
func (c *Cloud) Puppet(at netip.AddrPort, names ...string) (*Puppet, error) {
	if err := c.Space.address(uplink, at.Addr().String()+"/32"); err != nil {
		return nil, err
	}
	return c.PuppetIn(c.Space, at, names...)
}

// PuppetIn is Puppet for a namespace that has the address.
func (c *Cloud) PuppetIn(s *Space, at netip.AddrPort, names ...string) (*Puppet, error) {
	cert, err := c.Authority.certify(names...)
	if err != nil {
		return nil, err
	}
	l, err := s.listenTCP(at.String())
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		c.Names.Set(name, ttl, at.Addr().String())
	}
	p := &Puppet{
		TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		l:   l, calls: make(chan *net.TCPConn, 100),
	}
	p.done.Go(func() {
		defer close(p.calls)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.calls <- conn.(*net.TCPConn)
		}
	})
	return p, nil
}

// Close stops listening, and forgets who called and was not taken.
func (p *Puppet) Close() {
	p.l.Close()
	for conn := range p.calls {
		conn.Close()
	}
	p.done.Wait()
}

// Take returns the next connection.
func (p *Puppet) Take(ctx context.Context) (*net.TCPConn, error) {
	select {
	case conn, ok := <-p.calls:
		if !ok {
			return nil, net.ErrClosed
		}
		return conn, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Serve has every connection served in a goroutine of its own, until the puppet
// is closed. It waits for all of them.
func (p *Puppet) Serve(serve func(*net.TCPConn)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for conn := range p.calls {
		wg.Go(func() { defer conn.Close(); serve(conn) })
	}
}

// Reset ends a connection with a TCP reset.
func Reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

// Forget ends a connection without a word to the other side, as a machine does
// that loses its power: from then on it answers with a reset, if at all.
func Forget(conn *net.TCPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
	})
	return errors.Join(err, failed, conn.Close())
}

// Call connects and sets up TLS with a host as the charger's firmware does, from
// its address, beside whatever else it does. The charger must have an address.
func (c *Charger) Call(ctx context.Context, host string, port uint16) (*tls.Conn, error) {
	b := c.View().Binding
	if !b.Addr.IsValid() {
		return nil, fmt.Errorf("%s has no address", c.Name)
	}
	return c.dial(ctx, b, host, port)
}

// CallFrom is Call from a port of one's choice, to an address that is known. A
// charger that has started anew may begin with the port that it had before.
func (c *Charger) CallFrom(ctx context.Context, port int, to netip.AddrPort, host string) (*tls.Conn, error) {
	d := c.device.dialer(c.habits.Dial)
	d.LocalAddr = &net.TCPAddr{IP: c.View().Binding.Addr.Addr().AsSlice(), Port: port}
	raw, err := d.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return nil, err
	}
	raw.SetDeadline(time.Now().Add(c.habits.Dial))
	defer raw.SetDeadline(time.Time{})
	conn := tls.Client(raw, c.secure(host))
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

// Wire is the name of the charger's interface in the site's namespace.
func (c *Charger) Wire() string { return c.device.name }

// Site is where the chargers live.
func (g *Garage) Site() *Space { return g.site }
