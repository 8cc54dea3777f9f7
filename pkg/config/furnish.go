package config

import (
	"net/netip"

	"chargegate/pkg/denied"
	"chargegate/pkg/dhcp"
	"chargegate/pkg/egress"
	"chargegate/pkg/policy"
	"chargegate/pkg/radio"
	"chargegate/pkg/resolver"
)

// Ports of the services that every network has at its gateway.
const (
	dnsPort = 53
	ntpPort = 123
)

// furnish says to each room what follows from the file for it. What only the
// command line knows (sockets, locks) is left to main.
func (c *Config) furnish() {
	chargers := 0
	for _, n := range c.Networks {
		chargers += n.Chargers
		at := n.Gateway.Addr()
		c.DHCP.Networks = append(c.DHCP.Networks, dhcp.Network{Name: n.Name, Interface: n.Interface, Gateway: n.Gateway, OwnRadio: n.Radio != nil, Relays: n.Relays})
		c.DNS.Listen = append(c.DNS.Listen, netip.AddrPortFrom(at, dnsPort))
		c.DNS.Gateways = append(c.DNS.Gateways, n.Gateway)
		c.NTP.Listen = append(c.NTP.Listen, netip.AddrPortFrom(at, ntpPort))
		c.Egress.Listen = append(c.Egress.Listen, netip.AddrPortFrom(at, egress.Port))
		c.Egress.Networks = append(c.Egress.Networks, n.Gateway.Masked())
		c.Denied.Networks = append(c.Denied.Networks, denied.Network{Name: n.Name, Interface: n.Interface, Gateway: n.Gateway})
		if n.Radio != nil {
			c.Radio.Networks = append(c.Radio.Networks, radio.Network{Name: n.Name, Interface: n.Interface, MaxStations: n.Radio.MaxStations})
		}
	}
	c.Egress.Total = conversations(chargers)
	c.DNS.Listen = append(c.DNS.Listen, resolver.House)
	c.Denied.Ports = policy.Ports(c.Rules)
	c.Denied.Uplink = c.Uplink.Interface
	for _, s := range c.Uplink.Allow {
		c.Denied.UplinkPorts = append(c.Denied.UplinkPorts, s.Port)
	}
}

// conversations is how many may be open at once: after a power cut each charger
// has its lasting one and calls the API beside it (F-1), and 512 is the least.
// The unit's LimitNOFILE allows for 1000 chargers at six descriptors each.
func conversations(chargers int) int { return max(512, 2*chargers+128) }
