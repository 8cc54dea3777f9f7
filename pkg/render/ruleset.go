package render

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"chargegate/pkg/config"
	"chargegate/pkg/egress"
	"chargegate/pkg/policy"
)

// A ruleset is what the firewall is made of. Lists are written as nftables
// writes them, with commas.
type ruleset struct {
	Networks []side
	// Interfaces of the chargers, in quotation marks, and their Subnets.
	Interfaces, Subnets string
	// Ports are the TCP ports that are handed to egress, which listens on Proxy.
	Ports string
	Proxy uint16
	// Uplink is the interface on which the services AllowNames, at AllowPorts,
	// may be reached.
	Uplink, AllowNames, AllowPorts string
}

// A side is one network of chargers.
type side struct {
	Name, Interface string
	Subnet          netip.Prefix
	Gateway         netip.Addr
	// First and Last of the subnet belong to no machine.
	First, Last netip.Addr
}

func newRuleset(cfg *config.Config) ruleset {
	r := ruleset{Ports: commas(policy.Ports(cfg.Rules)), Proxy: egress.Port, Uplink: cfg.Uplink.Interface}
	var interfaces, names []string
	var subnets []netip.Prefix
	var ports []uint16
	for _, n := range cfg.Networks {
		subnet := n.Gateway.Masked()
		r.Networks = append(r.Networks, side{
			Name: n.Name, Interface: n.Interface, Subnet: subnet,
			Gateway: n.Gateway.Addr(), First: subnet.Addr(), Last: last(subnet),
		})
		interfaces = append(interfaces, strconv.Quote(n.Interface))
		subnets = append(subnets, subnet)
	}
	for _, s := range cfg.Uplink.Allow {
		names, ports = append(names, s.Name), append(ports, s.Port)
	}
	r.Interfaces, r.Subnets = commas(interfaces), commas(subnets)
	r.AllowNames, r.AllowPorts = commas(names), commas(ports)
	return r
}

func commas[T any](values []T) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprint(v)
	}
	return strings.Join(out, ", ")
}

// last is the broadcast address of an IPv4 subnet.
func last(subnet netip.Prefix) netip.Addr {
	b := subnet.Addr().As4()
	v := binary.BigEndian.Uint32(b[:]) | 1<<(32-subnet.Bits()) - 1
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}
