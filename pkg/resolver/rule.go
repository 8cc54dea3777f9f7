package resolver

import (
	"net/netip"
	"strings"

	"chargegate/pkg/policy"

	"github.com/miekg/dns"
)

// A ruling is what becomes of a question.
type ruling int

// Rulings. The zero value refuses.
const (
	refused  ruling = iota // no rule holds the name: it does not exist
	foreign                // another class than the Internet's: nothing to say
	gateway                // an address in the NTP pool: the gateway's own (Z-10)
	empty                  // the name may be asked, but has none of this type
	lookup                 // an address of an allowed name: the cache, else an upstream
	own                    // a name of ours, which has none of this type
	pointer                // the reverse of the gateway's own address
	loopback               // an address of localhost
	nowhere                // a name of which everybody knows that it does not exist
)

// rule decides about a question. AAAA, HTTPS and SVCB of a name that may be
// asked are empty at once: the gateway speaks IPv4 only, and with no HTTPS
// record the name in the ClientHello stays readable (no ECH).
func rule(list *policy.List, q dns.Question) ruling {
	if q.Qclass != dns.ClassINET {
		return foreign
	}
	// A name with an escape has a dot or another odd byte inside a label. No
	// host is called so, and it must not pass for the name that it resembles.
	if strings.IndexByte(q.Name, '\\') >= 0 {
		return refused
	}
	isTime := policy.IsTime(q.Name)
	switch {
	case !isTime && !list.Holds(q.Name):
		return refused
	case q.Qtype != dns.TypeA && q.Qtype != dns.TypeANY: // RFC 8482, 4.1: of everything, the addresses
		if isTime {
			return own
		}
		return empty
	case isTime:
		return gateway
	}
	return lookup
}

// rule decides about a question to this server: what it answers for by itself,
// then what the list says.
func (s *Server) rule(q dns.Question) ruling {
	if q.Qclass != dns.ClassINET {
		return foreign
	}
	r, ok := ruleLocal(s.cfg.Gateways, key(q.Name), q.Qtype)
	if ok && (r != nowhere || !s.list.Holds(q.Name)) { // a site may have an OCPP server at ocpp.lan
		return r
	}
	return rule(s.list, q)
}

// gatewayFor returns the gateway's own address in the asker's subnet. An asker
// from elsewhere (the box itself) gets the first one. It is invalid when there
// is none.
func gatewayFor(gateways []netip.Prefix, asker netip.Addr) netip.Addr {
	for _, g := range gateways {
		if g.Contains(asker) {
			return g.Addr()
		}
	}
	if len(gateways) == 0 {
		return netip.Addr{}
	}
	return gateways[0].Addr()
}
