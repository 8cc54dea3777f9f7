package resolver

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// gatewayName is what this box calls itself on its networks.
const gatewayName = "gateway."

// special are names that no server of the Internet answers for. Devices ask for
// them by themselves, and a technician can do nothing about it: they do not
// exist, and nothing is said (RFC 6761, 6762, 7686, 8375, 9476; "lan", "home",
// "corp" and the like are widely used without a register).
var special = []string{
	"alt.", "arpa.", "corp.", gatewayName, "home.", "internal.", "intranet.", "invalid.", "lan.", "local.", "localdomain.",
	"onion.", "private.", "test.", "workgroup.",
}

// ruleLocal decides about a name that this box answers for by itself, whatever
// the list says: its own, those of the loopback, reverse names, and those of
// which everybody knows that they do not exist. It is not ok for all others.
// key is the name in lower case with its final dot.
func ruleLocal(gateways []netip.Prefix, key string, qtype uint16) (ruling, bool) {
	address := qtype == dns.TypeA || qtype == dns.TypeANY
	switch {
	case strings.IndexByte(key, '\\') >= 0:
		return refused, false
	case key == gatewayName && address:
		return gateway, true
	case isBelow(key, "localhost.") && address: // RFC 6761, 6.3
		return loopback, true
	case key == gatewayName || isBelow(key, "localhost."):
		return own, true
	case isOwnReverse(gateways, key) && (qtype == dns.TypePTR || qtype == dns.TypeANY):
		return pointer, true
	case isOwnReverse(gateways, key):
		return own, true
	case strings.IndexByte(key, '.') == len(key)-1: // one label, or the root: a host name without its domain
		return nowhere, true
	}
	if slices.ContainsFunc(special, func(top string) bool { return isBelow(key, top) }) {
		return nowhere, true
	}
	return refused, false
}

// isBelow reports whether a name is another one or lies below it. Both are in
// lower case with the final dot.
func isBelow(name, top string) bool {
	rest, ok := strings.CutSuffix(name, top)
	return ok && (rest == "" || rest[len(rest)-1] == '.')
}

// reverse is the name under which an IPv4 address is looked up (RFC 1035, 3.5).
func reverse(addr netip.Addr) string {
	a := addr.As4()
	return fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", a[3], a[2], a[1], a[0])
}

// isOwnReverse reports whether a name is the reverse of an address of ours.
func isOwnReverse(gateways []netip.Prefix, key string) bool {
	return strings.HasSuffix(key, ".in-addr.arpa.") &&
		slices.ContainsFunc(gateways, func(g netip.Prefix) bool { return reverse(g.Addr()) == key })
}

// isAbove reports whether a name lies above one that is answered here. Such a
// name has nothing, but must not be said not to exist: whoever believes RFC 8020
// would then not ask for what lies below it.
func (s *Server) isAbove(key string) bool {
	if key == "." || s.list.Above(key) || isBelow("pool.ntp.org.", key) || isBelow("in-addr.arpa.", key) {
		return true
	}
	return strings.HasSuffix(key, ".in-addr.arpa.") &&
		slices.ContainsFunc(s.cfg.Gateways, func(g netip.Prefix) bool { return isBelow(reverse(g.Addr()), key) })
}
