package denied

import "net/netip"

// A Network is one charger interface that is watched.
type Network struct {
	Name      string
	Interface string
	// Gateway is the gateway's own address with the length of the subnet.
	Gateway netip.Prefix
}

// Config is what the watcher needs to know. It must be given the same ports as
// the firewall: what is on neither list is what the firewall refuses.
type Config struct {
	Networks []Network
	// Ports are the TCP ports that the firewall hands to egress.
	Ports []uint16
	// Uplink is the interface towards the Internet; empty: not watched.
	Uplink string
	// UplinkPorts are the inbound TCP ports that the site allows on it.
	UplinkPorts []uint16
}
