package status

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"
)

// attemptTimeout bounds each address of a name.
const attemptTimeout = 4 * time.Second

// ways lists the checks of every allowed name: that it resolves, and that it
// can be reached on each of its ports. Patterns name nothing that could be
// asked for. sure says whether the clock is right, without which no
// certificate can be judged.
func (s *Server) ways(rules []policy.Rule, sure bool) []examination {
	if s.src.LookupNetIP == nil {
		return nil
	}
	var names, out []examination
	had := map[string]bool{}
	for _, r := range rules {
		if strings.HasPrefix(r.Name, "*.") {
			continue
		}
		if !had[r.Name] {
			had[r.Name] = true
			names = append(names, examination{"name " + r.Name, func(ctx context.Context) finding { return s.checkName(ctx, r.Name) }})
		}
		for _, port := range r.Ports {
			at := net.JoinHostPort(r.Name, strconv.Itoa(int(port)))
			if !had[at] {
				had[at] = true
				out = append(out, examination{"way " + at, func(ctx context.Context) finding { return s.checkWay(ctx, r, port, sure) }})
			}
		}
	}
	return append(names, out...)
}

func (s *Server) checkName(ctx context.Context, name string) finding {
	addrs, err := s.src.LookupNetIP(ctx, "ip4", name)
	if err == nil && len(addrs) == 0 {
		err = errors.New("it has no IPv4 address")
	}
	if err != nil {
		return fail("Is the uplink up, and may this box ask its DNS servers? Chargers can only be let out to names that resolve.", "it cannot be resolved: %v", err)
	}
	return pass("%s", listed(texts(addrs)))
}

// checkWay reaches a name on a port, and with TLS looks at the certificate as a
// charger would (Z-8).
func (s *Server) checkWay(ctx context.Context, r policy.Rule, port uint16, sure bool) finding {
	addrs, err := s.src.LookupNetIP(ctx, "ip4", r.Name)
	if err != nil || len(addrs) == 0 {
		return fail("See the check of the name.", "the name does not resolve, so it was not tried")
	}
	began := time.Now()
	conn, err := s.reach(ctx, addrs, port)
	if err != nil {
		return fail(fmt.Sprintf("Outgoing TCP port %d must be open in the site's firewall and router, for this box (%s).", port, r.Reason),
			"it cannot be reached from here: %v", err)
	}
	defer conn.Close()
	answers := fmt.Sprintf("answers at %s after %s", conn.RemoteAddr(), event.Duration(time.Since(began)))
	if r.Plain {
		return pass("%s", answers)
	}
	return checkTLS(ctx, conn, r.Name, answers, sure)
}

// reach connects to the first address that answers.
func (s *Server) reach(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	var faults []error
	for _, addr := range addrs {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		conn, err := s.src.Dial(attempt, "tcp", netip.AddrPortFrom(addr, port).String())
		cancel()
		if err == nil {
			return conn, nil
		}
		faults = append(faults, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, joined(faults)
}

// checkTLS shakes hands and verifies the chain against the system's roots.
func checkTLS(ctx context.Context, conn net.Conn, name, answers string, sure bool) finding {
	c := tls.Client(conn, &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12})
	err := c.HandshakeContext(ctx)
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &cert) && !sure:
		return warn("Run it again once the clock is right: without it nobody can judge a certificate (F-12).", "%s; its certificate does not verify, but this box does not know the time: %v", answers, cert.Err)
	case errors.As(err, &cert):
		return fail("Somebody between here and the cloud opens TLS (a firewall with inspection, a captive portal): exempt this box, for chargers refuse that too. If there is nobody, is the package ca-certificates installed and fresh?",
			"%s; its certificate does not verify: %v", answers, cert.Err)
	case err != nil:
		return fail("Something between here and the cloud cuts the conversation: look for inspection or filtering of TLS in the site's firewall.", "%s; but TLS fails: %v", answers, err)
	}
	leaf := c.ConnectionState().PeerCertificates[0]
	return pass("%s; its certificate verifies, until %s", answers, leaf.NotAfter.Format(time.DateOnly))
}

// joined writes several errors on one line.
func joined(faults []error) error {
	text := make([]string, len(faults))
	for i, err := range faults {
		text[i] = err.Error()
	}
	return errors.New(strings.Join(text, "; "))
}

func texts(addrs []netip.Addr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}
