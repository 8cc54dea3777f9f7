package status

import (
	"context"
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
const attemptTimeout = 3 * time.Second

// ways lists the checks of every allowed name: that it resolves, and that it
// can be reached on each of its ports. Patterns name nothing that could be
// asked for. sure says whether the clock is right, without which no
// certificate can be judged.
func (s *Server) ways(rules []policy.Rule, sure bool) (names, ways []examination) {
	if s.src.LookupNetIP == nil {
		return nil, nil
	}
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
				ways = append(ways, examination{"way " + at, func(ctx context.Context) finding { return s.checkWay(ctx, r, port, sure) }})
			}
		}
	}
	return names, ways
}

func (s *Server) checkName(ctx context.Context, name string) finding {
	addrs, err := s.src.LookupNetIP(ctx, "ip4", name)
	if err == nil && len(addrs) == 0 {
		err = errors.New("it has no IPv4 address")
	}
	if err != nil {
		return fail(unresolvedAdvice(err), "it cannot be resolved: %s", whyUnresolved(err))
	}
	if s.src.Confirmed != nil {
		if ago, old := s.src.Confirmed(name); old {
			return warn("Chargers get this for up to three days. See the check of the DNS servers.",
				"%s, from memory, confirmed %s ago", listed(texts(addrs)), event.Duration(ago))
		}
	}
	return pass("%s", listed(texts(addrs)))
}

// unresolvedAdvice tells a name that does not exist, and false answers, from servers
// that do not answer.
func unresolvedAdvice(err error) string {
	var bad interface{ Unusable() []netip.Addr } // see the resolver's LookupNetIP
	var e *net.DNSError
	switch {
	case errors.As(err, &bad):
		return "The DNS server gives a false answer, as filters do for names they block. Have it let the name through, or name another one under [dns] upstreams."
	case errors.As(err, &e) && e.IsNotFound:
		return "Check its spelling under [[egress.allow]]; Zaptec's own names exist, and then the DNS server gives a false answer."
	}
	return "See the check of the DNS servers. Chargers can only be let out to names that resolve."
}

// whyUnresolved leaves out the name, which stands before it already.
func whyUnresolved(err error) string {
	if e := (*net.DNSError)(nil); errors.As(err, &e) {
		return plainText(e.Err)
	}
	return plainText(err.Error())
}

// checkWay reaches a name on a port, and with TLS looks at the certificate as a
// charger would (Z-8).
func (s *Server) checkWay(ctx context.Context, r policy.Rule, port uint16, sure bool) finding {
	addrs, err := s.src.LookupNetIP(ctx, "ip4", r.Name)
	if err != nil || len(addrs) == 0 {
		return fail("See the check of the name.", "the name does not resolve, so it was not tried")
	}
	began := time.Now()
	addrs, why, do := s.dialable(r.Name, port, addrs)
	if why != "" {
		return fail(do, "%s", why)
	}
	conn, why := s.reach(ctx, addrs, port)
	if why != "" {
		return fail(openPort(port, r.Reason), "it cannot be reached from here: %s", why)
	}
	defer conn.Close()
	answers := fmt.Sprintf("answers at %s after %s", conn.RemoteAddr(), event.Duration(time.Since(began)))
	if r.Plain {
		return pass("%s", answers)
	}
	return s.checkTLS(ctx, conn, r.Name, answers, sure)
}

// openPort says what to do about a port that does not answer, the commonest
// cause first.
func openPort(port uint16, reason string) string {
	if port == policy.HubPort {
		return fmt.Sprintf("Most often the building's firewall blocks outgoing TCP %d: have it opened for this box (%s).", port, reason)
	}
	return fmt.Sprintf("Outgoing TCP port %d must be open in the site's firewall and router, for this box (%s).", port, reason)
}

// dialable returns those of a name's addresses that chargers would be let out to.
func (s *Server) dialable(name string, port uint16, addrs []netip.Addr) (may []netip.Addr, why, do string) {
	if s.src.Dialable == nil {
		return addrs, "", ""
	}
	return s.src.Dialable(name, port, addrs)
}

// reach connects to the first address that answers, or says why none did. The addresses
// must be dialable.
func (s *Server) reach(ctx context.Context, addrs []netip.Addr, port uint16) (conn net.Conn, why string) {
	var at, whys []string
	for _, addr := range addrs {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		began := time.Now()
		conn, err := s.src.Dial(attempt, "tcp", netip.AddrPortFrom(addr, port).String())
		cancel()
		if err == nil {
			return conn, ""
		}
		at, whys = append(at, addr.String()), append(whys, inWords(err, time.Since(began)))
		if ctx.Err() != nil {
			break
		}
	}
	if len(whys) == 0 {
		return nil, "it has no address"
	}
	return nil, joined(at, whys)
}

func texts(addrs []netip.Addr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}
