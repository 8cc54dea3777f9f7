package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"chargegate/pkg/egress"
	"chargegate/pkg/policy"
)

const (
	allowName      = `write the name in full, like "ocpp.example.com", or "*.example.com" for everything below it`
	allowPorts     = "write the TCP ports as a list of whole numbers from 1 to 65535, like [443]"
	allowReason    = "write why it may be reached, for whoever reads the list in ten years"
	allowPlain     = "write true where the conversation is not TLS (OCPP over ws://), else leave it out"
	allowAddresses = `write the private addresses that the name may have as a list of text, like ["10.1.2.3"] or ["10.1.2.0/24"], or leave it out: public ones need not be named`
	allowForce     = "write true to allow a name that anybody can rent a part of, else leave it out"
)

// shared are names below which anybody can rent one for himself: a pattern
// over them would let everything out.
var shared = [...]string{"azure-devices.net", "azurewebsites.net", "cloudapp.azure.com", "core.windows.net"}

// egress reads the site's own rules behind those of the Zaptec profile.
func (r *reader) egress(s *section, c *Config) {
	for _, s := range s.sections("allow") {
		rule, forced, ok := s.rule()
		if !ok {
			continue
		}
		if err := rule.Check(); err != nil {
			s.bad("name", "%v", err)
			continue
		}
		if at, tenant := tenants(rule.Name); tenant && !forced {
			s.bad("name", "%s would allow whatever anybody rents below %s; write the names in full, or force = true if it must be", quote(rule.Name), at)
		} else if tenant {
			c.forced = append(c.forced, rule.Name)
		}
		s.twice(rule, c.Rules)
		c.Rules = append(c.Rules, rule)
	}
	s.close()
}

// rule reads one [[egress.allow]]. It is not ok when a key has a fault of its
// own.
func (s *section) rule() (rule policy.Rule, forced, ok bool) {
	before := len(s.faults)
	rule.Name, _ = s.text("name", allowName, true)
	rule.Ports = s.ports()
	rule.Plain = s.yesNo("plain", allowPlain)
	rule.Addresses = s.addresses()
	rule.Reason, _ = s.text("reason", allowReason, true)
	forced = s.yesNo("force", allowForce)
	if v := rule.Reason; v != "" && !isReason(v) {
		s.bad("reason", "%s is not allowed; %s, on one line of at most 200 characters", quote(v), allowReason)
	}
	if policy.IsTime(strings.TrimPrefix(rule.Name, "*.")) {
		s.bad("name", "%s is answered by the gateway itself (Z-10); remove the section", quote(rule.Name))
	}
	s.close()
	return rule, forced, len(s.faults) == before
}

func isReason(s string) bool {
	return len(s) <= 200 && !strings.ContainsAny(s, "\n\r\t\x00")
}

// ports reads a rule's ports.
func (s *section) ports() []uint16 {
	n := s.table.keys["ports"]
	if n == nil || n.kind == isList && len(n.list) == 0 {
		s.find("ports")
		what := "is missing"
		if n != nil {
			what = "is empty"
		}
		s.bad("ports", "%s; %s", what, allowPorts)
		return nil
	}
	var ports []uint16
	seen := map[int64]bool{}
	for _, it := range s.items("ports", allowPorts, isWhole) {
		if why := portFault(it.whole); why != "" {
			s.fault(it.at, it.key, "%d %s; %s", it.whole, why, allowPorts)
			continue
		}
		if seen[it.whole] {
			s.fault(it.at, it.key, "%d stands twice", it.whole)
			continue
		}
		seen[it.whole] = true
		ports = append(ports, uint16(it.whole))
	}
	return ports
}

// carrier is what a provider's own network uses (RFC 6598): private like RFC 1918,
// but no garage's own.
var carrier = netip.MustParsePrefix("100.64.0.0/10")

// addresses reads the private addresses that a rule's name may have.
func (s *section) addresses() []netip.Prefix {
	var list []netip.Prefix
	for _, it := range s.items("addresses", allowAddresses, isText) {
		p, why := privatePrefix(it.text)
		if why == "" && slices.Contains(list, p) {
			why = "stands twice"
		}
		if why != "" {
			s.fault(it.at, it.key, "%s %s", quote(it.text), why)
			continue
		}
		list = append(list, p)
		s.named = append(s.named, named{p, it})
	}
	return list
}

// privatePrefix reads an address or a subnet, or says why it cannot stand there.
func privatePrefix(text string) (p netip.Prefix, why string) {
	if a, err := netip.ParseAddr(text); err == nil {
		p = netip.PrefixFrom(a, a.BitLen())
	} else if p, err = netip.ParsePrefix(text); err != nil {
		return p, "is neither an address nor a subnet; " + allowAddresses
	}
	switch a := p.Addr(); {
	case !a.Is4():
		return p, "is not IPv4; " + allowAddresses
	case p != p.Masked():
		return p, fmt.Sprintf("is an address within a subnet; write the subnet, %q, or the address alone, %q", p.Masked(), a)
	case a.IsLoopback() || a.IsLinkLocalUnicast() || a.As4()[0] == 0 && p.Bits() >= 8 || a.As4()[0] >= 224:
		return p, "is no server's address on any network and is never dialled; " + allowAddresses
	case isPrivate(p), carrier.Bits() <= p.Bits() && carrier.Contains(a):
		return p, ""
	}
	return p, "is not private; allowed are addresses within 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 (RFC 1918) and 100.64.0.0/10 (RFC 6598), and public ones need not be named"
}

// A named is an address or subnet that a rule's name may have.
type named struct {
	netip.Prefix
	item
}

// housed says which of them lie in the chargers' networks, which are never dialled.
// Those with address = "auto" do not go out of their way: a line about a server must
// not give every charger another address.
func (r *reader) housed(c *Config) {
	for _, n := range r.named {
		for _, network := range c.Networks {
			at := network.Gateway.Masked()
			switch {
			case !network.Gateway.IsValid() || !at.Overlaps(n.Prefix):
			case n.IsSingleIP():
				r.fault(n.at, n.key, "%s lies in network %s, %s, the chargers' own, where nothing is ever dialled; write the server's own address, or give %[2]s another subnet",
					quote(n.text), network.Name, at)
			default:
				r.fault(n.at, n.key, "%s overlaps network %s, where nothing is ever dialled; write the server's own address instead: a wide subnet collides with the chargers' network %s",
					quote(n.text), network.Name, at)
			}
		}
	}
}

// portFault says why a port cannot be handed to egress, or nothing.
func portFault(port int64) string {
	switch {
	case port < 1 || port > 65535:
		return "is not a port"
	case port == egress.Port:
		return "is where the gateway itself listens for redirected conversations"
	case port == 53:
		return "is answered by the gateway's own DNS, wherever it is sent"
	}
	return ""
}

// twice says which of a rule's ports another rule allows already.
func (s *section) twice(rule policy.Rule, before []policy.Rule) {
	for _, other := range before {
		if policy.Normal(other.Name) != policy.Normal(rule.Name) {
			continue
		}
		for _, port := range rule.Ports {
			for _, had := range other.Ports {
				if had == port {
					s.bad("name", "%s", fmt.Sprintf("%s on port %d is allowed already (%s)", quote(rule.Name), port, shorten(other.Reason)))
				}
			}
		}
	}
}

// tenants says whether a pattern reaches over names that anybody can rent, and
// which.
func tenants(pattern string) (string, bool) {
	base, isPattern := strings.CutPrefix(policy.Normal(pattern), "*.")
	if !isPattern {
		return "", false
	}
	for _, s := range shared {
		if base == s || strings.HasSuffix(s, "."+base) || strings.HasSuffix(base, "."+s) {
			return s, true
		}
	}
	return "", false
}
