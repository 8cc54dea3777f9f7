package dhcp

import (
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// A way is how an answer travels.
type way int

const (
	toRelay   way = iota // to the relay agent's server port
	toAll                // broadcast
	toAddress            // to an address that the client already uses, in a frame to its hardware address
	toFrame              // to the client's hardware address: it has no address yet
)

// A route is where an answer goes.
type route struct {
	way way
	to  netip.AddrPort
}

// everybody is the limited broadcast address (RFC 919).
var everybody = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// tries is how many times a client may send the same DISCOVER before the OFFER
// is broadcast: it may be one that cannot take a frame for an address that it
// does not have yet, and does not say so.
const tries = 2

// routeOf follows RFC 2131, 4.1, in its order. The answer always goes to the
// client's port, whatever port it sent from.
func routeOf(q query, r *dhcpv4.DHCPv4) route {
	kind := r.MessageType()
	switch {
	case q.giaddr.IsValid():
		return route{toRelay, netip.AddrPortFrom(q.giaddr, dhcpv4.ServerPort)}
	case kind == dhcpv4.MessageTypeNak:
		return route{toAll, netip.AddrPortFrom(everybody, dhcpv4.ClientPort)}
	case q.uses().IsValid():
		return route{toAddress, netip.AddrPortFrom(q.uses(), dhcpv4.ClientPort)}
	case q.IsBroadcast() || q.repeats >= tries:
		return route{toAll, netip.AddrPortFrom(everybody, dhcpv4.ClientPort)}
	}
	return route{toFrame, netip.AddrPortFrom(address(r.YourIPAddr), dhcpv4.ClientPort)}
}
