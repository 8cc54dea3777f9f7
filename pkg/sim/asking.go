package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/facebook/time/ntp/protocol"
	"github.com/miekg/dns"
)

// poolName is what a Go asks for the time (Z-10).
const poolName = "pool.ntp.org"

// resolve finds a name's address as the firmware does: two questions to the
// resolver of DHCP, and then the public ones (Z-12).
func (c *Charger) resolve(ctx context.Context, b Binding, name string) (netip.Addr, error) {
	servers := []netip.Addr{b.DNS, b.DNS}
	for _, s := range publicResolvers {
		servers = append(servers, netip.MustParseAddr(s))
	}
	var last error
	for i, server := range servers {
		if i >= 2 {
			c.update(func(v *View) { v.AskedElsewhere++ })
		}
		addr, err := c.ask(ctx, server, name)
		var refused *refusedName
		if err == nil || errors.As(err, &refused) || ctx.Err() != nil {
			return addr, err
		}
		last = err
	}
	return netip.Addr{}, last
}

// A refusedName is an answer that says no.
type refusedName struct{ name, rcode string }

func (r *refusedName) Error() string { return fmt.Sprintf("resolving %s: %s", r.name, r.rcode) }

// ask sends one question and waits for one answer.
func (c *Charger) ask(ctx context.Context, server netip.Addr, name string) (netip.Addr, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), dns.TypeA)
	conn, err := c.device.dial(ctx, c.habits.NameWait, "udp4", netip.AddrPortFrom(server, 53))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("resolving %s: %w", name, err)
	}
	defer conn.Close()
	client := dns.Client{Net: "udp4", Timeout: c.habits.NameWait}
	m, _, err := client.ExchangeWithConnContext(ctx, q, &dns.Conn{Conn: conn})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("resolving %s: %w", name, err)
	}
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			addr, _ := netip.AddrFromSlice(a.A.To4())
			return addr, nil
		}
	}
	return netip.Addr{}, &refusedName{name, dns.RcodeToString[m.Rcode]}
}

// learnTime asks for the time until it is told. It reports false when ctx ended
// first.
func (c *Charger) learnTime(ctx context.Context, b Binding) bool {
	var at netip.Addr
	wait := func(int) time.Duration { return 2 * time.Second }
	ok := again(ctx, wait, func() (err error) {
		at, err = c.resolve(ctx, b, poolName)
		return err
	}, func(err error) { c.trouble("%v", err) })
	if !ok {
		return false
	}
	c.pass(Time, func(t *Timing) *time.Duration { return &t.Resolved })
	patience := c.habits.TimeWait
	ok = again(ctx, func(int) time.Duration { patience *= 2; return 0 }, func() error {
		offset, err := c.poll(ctx, at, patience)
		if err == nil {
			c.update(func(v *View) { v.Clock = offset })
		}
		return err
	}, func(err error) { c.trouble("%v", err) })
	if ok {
		c.pass(Talk, func(t *Timing) *time.Duration { return &t.Timed })
	}
	return ok
}

// poll asks a server for the time once. Like the firmware it takes any answer
// of a server whose stratum is not 0 (F-4).
func (c *Charger) poll(ctx context.Context, server netip.Addr, patience time.Duration) (offset time.Duration, err error) {
	conn, err := c.device.dial(ctx, patience, "udp4", netip.AddrPortFrom(server, 123))
	if err != nil {
		return 0, fmt.Errorf("asking for the time: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(patience))
	return exchangeTime(conn)
}

// exchangeTime sends an SNTP request (RFC 4330) and reads answers until one
// counts.
func exchangeTime(conn net.Conn) (offset time.Duration, err error) {
	sec, frac := protocol.Time(time.Now())
	request, err := (&protocol.Packet{Settings: 4<<3 | 3, TxTimeSec: sec, TxTimeFrac: frac}).Bytes()
	if err != nil {
		return 0, err
	}
	sent := time.Now()
	if _, err := conn.Write(request); err != nil {
		return 0, fmt.Errorf("asking for the time: %w", err)
	}
	buf := make([]byte, 512)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return 0, fmt.Errorf("waiting for the time: %w", err)
		}
		got := time.Now()
		if n < protocol.PacketSizeBytes {
			continue
		}
		p, err := protocol.BytesToPacket(buf[:protocol.PacketSizeBytes])
		if err != nil || p.Settings&7 != 4 || p.Stratum == 0 || p.OrigTimeSec != sec || p.OrigTimeFrac != frac {
			continue
		}
		told := protocol.Unix(p.TxTimeSec, p.TxTimeFrac)
		return told.Sub(sent.Add(got.Sub(sent) / 2)), nil
	}
}
