package egress

import (
	"fmt"
	"net/netip"
	"strings"

	"chargegate/pkg/hello"
	"chargegate/pkg/policy"
)

// What to do about a name that cannot be reached, and about what was refused. It is
// said in the log, by status and by doctor, in the same words. An advice is a field of
// an event and must fit into one: 255 bytes.

// isZaptecs reports whether a name is one that every Zaptec charger needs, which stand
// in no configuration.
func isZaptecs(name string) bool {
	for _, r := range policy.Zaptec() {
		if policy.Normal(r.Name) == policy.Normal(name) {
			return true
		}
	}
	return false
}

// unreachableAdvice is what to do about a name that cannot be reached.
func unreachableAdvice(t target, f fault) string {
	switch f.cause {
	case causeAddress:
		return addressAdvice(t.name, f.private)
	case causeTLS:
		return "Run: sudo chargegate doctor. It says whose certificate answers. A firewall or login page of the building may answer in the server's place: ask for the name to be let through unopened."
	}
	switch f.way {
	case wayOut:
		return "Is the uplink connected? The event uplink-lost says what is missing."
	case wayUnknown:
		if isZaptecs(t.name) {
			return "Every Zaptec charger needs this name, and it exists: the DNS server gives a false answer, or filters. Name another one under [dns] upstreams, then: sudo systemctl restart chargegate-prepare."
		}
		return "Check its spelling under [[egress.allow]], then: sudo systemctl reload chargegated. If it is right, ask whoever runs the server."
	case wayNone:
		return "A router on the way knows no way there. Run: sudo chargegate doctor. Where no name answers, look at the router that the uplink leads to; where this one fails alone, ask whoever runs the server."
	}
	if f.cause == causeDNS {
		return "Run: sudo chargegate doctor. It asks every DNS server and says which of them fails."
	}
	if f.way == waySilent {
		return fmt.Sprintf("Most often a firewall of the building blocks outgoing TCP %d: have it opened for this box. Run: sudo chargegate doctor. Where no name answers, it is the uplink.", t.port)
	}
	return fmt.Sprintf("The server does not take calls, or a firewall of the building refuses outgoing TCP %d for it. Run: sudo chargegate doctor. Where the other names on this port answer, ask whoever runs the server.", t.port)
}

// addressAdvice is what to do about a name that has no address which may be dialled.
// private are those that its rule could name.
func addressAdvice(name string, private []netip.Addr) string {
	const most = 3
	if len(private) == 0 || isZaptecs(name) {
		return "No server on the Internet has such an address: the DNS server gives a false answer, as filters do for names they block. Have it let the name through, or name another one under [dns] upstreams."
	}
	var list []string
	for _, a := range private[:min(len(private), most)] {
		list = append(list, `"`+a.String()+`"`)
	}
	return fmt.Sprintf("If the server stands inside the building, add addresses = [%s] to its rule under [[egress.allow]], then: sudo systemctl reload chargegated. If not, the DNS server gives a false answer.",
		strings.Join(list, ", "))
}

const (
	reload   = "then: sudo systemctl reload chargegated; for a port that no rule had: sudo systemctl restart chargegate-prepare"
	stranger = "find out what this device is"
)

// portAdvice is what to do about an allowed name that was refused on another port.
func portAdvice(name string, port uint16) string {
	if isZaptecs(name) {
		return "No Zaptec charger needs this port of that name: " + stranger + "."
	}
	return fmt.Sprintf("If the charger needs it, add %d to the ports of the rule under [[egress.allow]], %s. If not, %s.", port, reload, stranger)
}

// plainAdvice is what to do about a caller that does not speak TLS.
func plainAdvice(name string, port uint16, h hello.Hello) string {
	if h.Protocol != hello.HTTP {
		return "Chargers speak TLS, or OCPP over ws://: " + stranger + "."
	}
	if isZaptecs(name) {
		return "Zaptec's servers speak TLS only, and so do its chargers: " + stranger + "."
	}
	return fmt.Sprintf("If it is OCPP over ws://, allow the server under [[egress.allow]] with plain = true and ports = [%d], %s. If not, %s.", port, reload, stranger)
}

// trustAdvice is what to do when the chargers refuse a certificate.
const trustAdvice = "Run: sudo chargegate doctor. If the certificate is not the server's own, ask the building's IT to let the name pass unopened. If it is, the chargers' list of authorities is old: see that devices.zaptec.com is reachable (Z-9)."
