package dhcp

import (
	"net/netip"
	"slices"
	"time"
)

// A Network is one interface that addresses are given on.
type Network struct {
	Name      string
	Interface string
	// Gateway is the gateway's own address with the length of the subnet:
	// 10.83.0.1/24. It is option 54, 3, 6 and 42 of every answer.
	Gateway netip.Prefix
	// OwnRadio says that the interface is an access point of this box. There no
	// other chargegate can be, and nobody can be a relay agent (RFC 2131, 4.1).
	OwnRadio bool
	// Relays are the addresses of the relay agents on the network. Nobody else is
	// believed to speak for others; empty: nobody is.
	Relays []netip.Addr
}

// relays says whether a relay agent of the network has an address.
func (n Network) relays(a netip.Addr) bool { return !n.OwnRadio && slices.Contains(n.Relays, a) }

// canHold says whether a device of the network can have an address.
func (n Network) canHold(a netip.Addr) bool {
	return n.Gateway.Contains(a) && a != n.Gateway.Addr() && a != n.Gateway.Masked().Addr() && a != lastOf(n.Gateway)
}

// Config is what the DHCP server needs to know.
type Config struct {
	Networks []Network
	// Lease is how long a charger may keep its address without asking again,
	// 1 h to 24 h (Z-6).
	Lease time.Duration
	// LockDir is where a lock file for each interface keeps a second chargegate
	// away; empty: no lock.
	LockDir string
}
