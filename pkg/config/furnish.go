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
	for _, n := range c.Networks {
		at := n.Gateway.Addr()
		c.DHCP.Networks = append(c.DHCP.Networks, dhcp.Network{Name: n.Name, Interface: n.Interface, Gateway: n.Gateway})
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
	c.DNS.Listen = append(c.DNS.Listen, resolver.House)
	c.Denied.Ports = policy.Ports(c.Rules)
	c.Denied.Uplink = c.Uplink.Interface
	for _, s := range c.Uplink.Allow {
		c.Denied.UplinkPorts = append(c.Denied.UplinkPorts, s.Port)
	}
}
