package resolver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxMessage is more than any upstream sends over UDP after we have told it
// what we take.
const maxMessage = 4096

// isReply reports whether m answers q: its id and its question. Over UDP nothing
// else tells a true answer from a forged or a late one (RFC 5452, 9.1). Only a
// server that could not read the question may leave it out.
func isReply(q, m *dns.Msg) bool {
	if !m.Response || m.Id != q.Id || m.Opcode != q.Opcode {
		return false
	}
	if m.Rcode == dns.RcodeFormatError && len(m.Question) == 0 {
		return true
	}
	return len(m.Question) == 1 && m.Question[0].Qtype == q.Question[0].Qtype && m.Question[0].Qclass == q.Question[0].Qclass &&
		strings.EqualFold(m.Question[0].Name, q.Question[0].Name)
}

// exchangeUDP asks over UDP from a port of its own. What does not answer the
// question is passed over, counted by ignored, and waiting goes on until ctx is
// done: whoever can send a wrong answer first must not win by it. A message cut
// short comes back with Truncated set.
func exchangeUDP(ctx context.Context, at netip.AddrPort, q *dns.Msg, ignored func()) (*dns.Msg, error) {
	c, end, err := dial(ctx, "udp", at)
	if err != nil {
		return nil, err
	}
	defer end()
	out, err := q.Pack()
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(out); err != nil {
		return nil, err
	}
	in := make([]byte, maxMessage)
	for {
		n, err := c.Read(in)
		if err != nil {
			return nil, err
		}
		m := new(dns.Msg)
		err = m.Unpack(in[:n])
		if isReply(q, m) && (err == nil || m.Truncated) {
			return m, nil
		}
		if ignored != nil {
			ignored()
		}
	}
}

// exchangeTCP asks over TCP, or over TLS (RFC 7858) when conf is given.
func exchangeTCP(ctx context.Context, at netip.AddrPort, q *dns.Msg, conf *tls.Config) (*dns.Msg, error) {
	c, end, err := dial(ctx, "tcp", at)
	if err != nil {
		return nil, err
	}
	defer end()
	if conf != nil {
		t := tls.Client(c, conf)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, clockHint(err, time.Now())
		}
		c = t
	}
	dc := &dns.Conn{Conn: c}
	if err := dc.WriteMsg(q); err != nil {
		return nil, err
	}
	m, err := dc.ReadMsg()
	if err != nil {
		return nil, err
	}
	if !isReply(q, m) {
		return nil, fmt.Errorf("%w: it belongs to another question", errAnswer)
	}
	return m, nil
}

// dial connects, with ctx's deadline on everything that follows. end closes.
func dial(ctx context.Context, network string, at netip.AddrPort) (c net.Conn, end func(), err error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	c, err = d.DialContext(ctx, network, at.String())
	if err != nil {
		return nil, nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline) // fails only on a closed connection, and so does what follows
	}
	// A deadline in the past breaks off what is being waited for.
	release := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return c, func() { release(); c.Close() }, nil
}

// clockHint names the likely cause of a certificate whose dates do not fit: a
// machine that booted without a clock (F-12).
func clockHint(err error, now time.Time) error {
	var bad x509.CertificateInvalidError
	if errors.As(err, &bad) && bad.Reason == x509.Expired {
		return fmt.Errorf("%w (this box believes that it is %s; if that is wrong, its clock is not set yet)",
			err, now.UTC().Format("2006-01-02"))
	}
	return err
}
