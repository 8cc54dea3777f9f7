package dhcp

import (
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"chargegate/pkg/charger"
)

// A query is a client's message, with the fields that decide about the answer
// already looked at.
type query struct {
	*dhcpv4.DHCPv4
	kind dhcpv4.MessageType
	hw   charger.MAC
	// sender is whose frame it came in: the client's, or a relay agent's.
	sender charger.MAC
	ciaddr netip.Addr // invalid: 0.0.0.0
	giaddr netip.Addr // invalid: not relayed
	wants  netip.Addr // option 50; invalid: none
	server netip.Addr // option 54; invalid: none
	// known says whether the client is of the chargers, and listed whether the
	// inventory names it.
	known, listed bool
	// repeats counts the same message before this one.
	repeats int
}

// The reasons for which a packet is dropped.
type reason int

const (
	fine      reason = iota
	malformed        // not a DHCP message
	notRequest
	notEthernet
	badHardware
	foreignRelay
	unknownType
	foreignServer
	notOurs
	wronglyAddressed
	foreignSender
	declinesTooMany
	bindingsTooMany
	ofChargegate
	noAddress
	standsDown
	reasons // how many there are
)

var reasonNames = [reasons]string{
	malformed:     "malformed",
	notRequest:    "not a request",
	notEthernet:   "not Ethernet",
	badHardware:   "not the hardware address of a device",
	foreignRelay:  "relayed from another network",
	unknownType:   "of an unknown type",
	foreignServer: "for another server",
	notOurs:       "about an address that the client does not have",

	wronglyAddressed: "from or to an address that is not DHCP's",

	foreignSender:   "sent by somebody else",
	declinesTooMany: "one DECLINE too many",
	bindingsTooMany: "one new address too many",

	ofChargegate: "a question of another chargegate",
	noAddress:    "the gateway's address is not on the interface",
	standsDown:   "another chargegate serves",
}

func (r reason) String() string { return reasonNames[r] }

// read is parse for a frame.
func read(frame []byte, n Network) (query, reason) {
	sender, message, drop := unwrap(frame, n)
	if drop != fine {
		return query{}, drop
	}
	q, drop := parse(message, n)
	q.sender = sender
	return q, drop
}

// parse reads a message that arrived on a network, and says why it is to be
// dropped if it is.
func parse(packet []byte, n Network) (query, reason) {
	m, err := dhcpv4.FromBytes(packet)
	if err != nil {
		return query{}, malformed
	}
	if m.OpCode != dhcpv4.OpcodeBootRequest {
		return query{}, notRequest
	}
	if m.HWType != iana.HWTypeEthernet || len(m.ClientHWAddr) != len(charger.MAC{}) {
		return query{}, notEthernet
	}
	q := query{DHCPv4: m, kind: m.MessageType(), hw: charger.MAC(m.ClientHWAddr),
		ciaddr: address(m.ClientIPAddr), giaddr: address(m.GatewayIPAddr),
		wants: address(m.RequestedIPAddress()), server: address(m.ServerIdentifier())}
	if q.hw == (charger.MAC{}) || q.hw[0]&1 != 0 {
		return query{}, badHardware
	}
	// A relay agent puts its own address on the clients' side there (RFC 2131,
	// 4.1): that of another subnet asks for addresses that we do not have.
	if q.giaddr.IsValid() && (!n.Gateway.Contains(q.giaddr) || q.giaddr == n.Gateway.Addr()) {
		return query{}, foreignRelay
	}
	return q, fine
}

// forged says whether somebody speaks for another. A client sends its own
// frames, and Wi-Fi vouches for who that is; a relay agent sends for others.
func (q query) forged() bool { return !q.giaddr.IsValid() && q.sender != q.hw }

// address converts what the library gives; 0.0.0.0 and whatever is not IPv4
// become the invalid address.
func address(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// netIP converts to what the library wants: four bytes, or nil for 0.0.0.0. Any
// other length would make it panic.
func netIP(a netip.Addr) net.IP {
	if !a.Is4() {
		return nil
	}
	b := a.As4()
	return net.IP(b[:])
}
