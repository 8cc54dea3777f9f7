package sim

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// An Attempt is one thing that a charger has no business doing, and what came
// of it.
type Attempt struct {
	What string // what was tried, in words
	Got  string // what came back, in words
	Took time.Duration
	// Reached says that somebody other than the gateway answered.
	Reached bool
	// Waited says that nothing came back within patience, which is a refusal
	// that the charger had to wait for.
	Waited bool
}

// patience is how long an attempt waits for anything to come back.
const patience = 3 * time.Second

// A mischief is something to try. It returns what came back, and whether it was
// somebody other than the gateway.
type mischief struct {
	what string
	try  func(ctx context.Context, c *Charger) (got string, reached bool, err error)
}

// mischiefs are what a device tries that has been taken over, or is no charger
// at all.
func mischiefs(gateway netip.Addr) []mischief {
	return []mischief{
		{Elsewhere + " on port 443", tlsTo(ElsewhereIP+":443", Elsewhere)},
		{API + " on the hub's port 8883", tlsTo(HubAddr+":8883", API)},
		{"port 8080 of " + API, tcpTo(APIAddr + ":8080")},
		{"port 443 of " + ElsewhereIP + ", with no name", tlsTo(ElsewhereIP+":443", "")},
		{Elsewhere + " of the resolver 8.8.8.8", askOf("8.8.8.8", Elsewhere)},
		{API + " of the resolver 1.1.1.1", askOf("1.1.1.1", API)},
		{"the time of " + BystanderIP, timeOf(BystanderIP)},
		{"UDP port 443 of " + ElsewhereIP + ", like QUIC", udpTo(ElsewhereIP + ":443")},
		{"a ping of " + ElsewhereIP, pingTo(ElsewhereIP)},
		{"the proxy's own port on the gateway", tcpTo(netip.AddrPortFrom(gateway, 18443).String())},
		{"port 22 of the gateway", tcpTo(netip.AddrPortFrom(gateway, 22).String())},
	}
}

// Misbehave tries everything that a charger has no business doing, one after
// the other. The charger must have an address.
func (c *Charger) Misbehave(ctx context.Context, gateway netip.Addr) []Attempt {
	var all []Attempt
	for _, m := range mischiefs(gateway) {
		all = append(all, c.attempt(ctx, m))
	}
	return all
}

func (c *Charger) attempt(ctx context.Context, m mischief) Attempt {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	got, reached, err := m.try(ctx, c)
	a := Attempt{What: m.what, Got: got, Reached: reached, Took: time.Since(began)}
	if err != nil {
		a.Got, a.Waited = inWords(err)
	}
	return a
}

// inWords says what an error means to whoever tried, and whether it means that
// nothing came back.
func inWords(err error) (got string, waited bool) {
	var op *net.OpError
	var ne net.Error
	switch {
	case errors.As(err, &op) && op.Op == "remote error": // so crypto/tls tells an alert
		return "a TLS alert: " + strings.TrimPrefix(op.Err.Error(), "tls: "), false
	case errors.Is(err, syscall.ECONNREFUSED):
		return "a reset: refused", false
	case errors.Is(err, syscall.ECONNRESET):
		return "a reset", false
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EACCES):
		return "an ICMP error: prohibited", false
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return "nothing", true
	}
	return err.Error(), false
}

// tlsTo begins a TLS conversation with an address, under a name or none.
func tlsTo(addr, name string) func(context.Context, *Charger) (string, bool, error) {
	return func(ctx context.Context, c *Charger) (string, bool, error) {
		raw, err := c.device.dialer(patience).DialContext(ctx, "tcp4", addr)
		if err != nil {
			return "", false, err
		}
		defer raw.Close()
		config := c.secure(name)
		config.InsecureSkipVerify = true // whoever answers was reached, whatever the certificate says
		conn := tls.Client(raw, config)
		if err := conn.HandshakeContext(ctx); err != nil {
			return "", false, err
		}
		return "a TLS conversation with " + conn.ConnectionState().PeerCertificates[0].Subject.CommonName, true, nil
	}
}

// tcpTo connects to an address.
func tcpTo(addr string) func(context.Context, *Charger) (string, bool, error) {
	return func(ctx context.Context, c *Charger) (string, bool, error) {
		conn, err := c.device.dialer(patience).DialContext(ctx, "tcp4", addr)
		if err != nil {
			return "", false, err
		}
		defer conn.Close()
		// A redirected connection is accepted before it is refused.
		conn.SetReadDeadline(deadline(ctx))
		_, err = conn.Read(make([]byte, 1))
		if err == nil {
			return "an answer", true, nil
		}
		return "", false, err
	}
}

// udpTo sends a datagram and waits for an answer.
func udpTo(addr string) func(context.Context, *Charger) (string, bool, error) {
	return func(ctx context.Context, c *Charger) (string, bool, error) {
		conn, err := c.device.dialer(patience).DialContext(ctx, "udp4", addr)
		if err != nil {
			return "", false, err
		}
		defer conn.Close()
		conn.SetDeadline(deadline(ctx))
		if _, err := conn.Write([]byte("is anybody there?")); err != nil {
			return "", false, err
		}
		if _, err := conn.Read(make([]byte, 1500)); err != nil {
			return "", false, err
		}
		return "an answer", true, nil
	}
}

// askOf asks a resolver of one's own choice. The public ones of the garage lie,
// so a true answer comes from the gateway.
func askOf(server, name string) func(context.Context, *Charger) (string, bool, error) {
	return func(ctx context.Context, c *Charger) (string, bool, error) {
		addr, err := c.ask(ctx, netip.MustParseAddr(server), name)
		var refused *refusedName
		switch {
		case errors.As(err, &refused):
			return "the gateway's own answer: " + dnsWord(refused.rcode), false, nil
		case err != nil:
			return "", false, err
		case addr.String() == BystanderIP:
			return "the answer of " + server, true, nil
		}
		return "the gateway's own answer: " + addr.String(), false, nil
	}
}

func dnsWord(rcode string) string {
	if rcode == dns.RcodeToString[dns.RcodeNameError] {
		return "no such name"
	}
	return rcode
}

// timeOf asks a time server of one's own choice. Who answered, only the witness
// can tell.
func timeOf(server string) func(context.Context, *Charger) (string, bool, error) {
	return func(ctx context.Context, c *Charger) (string, bool, error) {
		_, err := c.poll(ctx, netip.MustParseAddr(server), patience)
		return "the gateway's own time", false, err
	}
}

// pingTo sends an ICMP echo request (RFC 792) and waits for what concerns it.
func pingTo(addr string) func(context.Context, *Charger) (string, bool, error) {
	return func(ctx context.Context, c *Charger) (string, bool, error) {
		lc := net.ListenConfig{Control: c.device.bind}
		conn, err := lc.ListenPacket(ctx, "ip4:icmp", "0.0.0.0")
		if err != nil {
			return "", false, err
		}
		defer conn.Close()
		conn.SetDeadline(deadline(ctx))
		to := netip.MustParseAddr(addr)
		if _, err := conn.WriteTo(echoRequest(), &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return "", false, err
		}
		buf := make([]byte, 1500)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return "", false, err
			}
			switch {
			case n >= 8 && buf[0] == 0:
				return "an echo", true, nil
			case n >= 8+20 && buf[0] == 3 && netip.AddrFrom4([4]byte(buf[8+16:])) == to:
				return "", false, syscall.EHOSTUNREACH
			}
		}
	}
}

func echoRequest() []byte {
	p := []byte{8, 0, 0, 0, 0x5a, 0x50, 0, 1, 'c', 'h', 'a', 'r', 'g', 'e'}
	binary.BigEndian.PutUint16(p[2:], checksum(p))
	return p
}

func deadline(ctx context.Context) time.Time {
	if d, ok := ctx.Deadline(); ok {
		return d
	}
	return time.Now().Add(patience)
}

// String is the attempt in one line.
func (a Attempt) String() string {
	return fmt.Sprintf("%s: %s, after %s", a.What, a.Got, a.Took.Round(100*time.Microsecond))
}
