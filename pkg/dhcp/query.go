package dhcp

import (
	"errors"
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
	bootp
	notEthernet
	badHardware
	strangeRelay
	unknownType
	foreignServer
	notOurs
	wronglyAddressed
	foreignSender
	declinesTooMany
	bindingsTooMany
	naksTooMany
	ofChargegate
	noAddress
	standsDown
	reasons // how many there are
)

var reasonNames = [reasons]string{
	malformed:     "malformed",
	notRequest:    "not a request",
	bootp:         "BOOTP without DHCP",
	notEthernet:   "not Ethernet",
	badHardware:   "not the hardware address of a device",
	strangeRelay:  "relayed by nobody whom the configuration names",
	unknownType:   "of an unknown type",
	foreignServer: "for another server",
	notOurs:       "about an address that the client does not have",

	wronglyAddressed: "from or to an address that is not DHCP's",

	foreignSender:   "sent by somebody else",
	declinesTooMany: "one DECLINE too many",
	bindingsTooMany: "one new address too many",
	naksTooMany:     "one refusal too many",
	ofChargegate:    "a question of another chargegate",
	noAddress:       "the gateway's address is not on the interface",
	standsDown:      "another chargegate serves",
}

func (r reason) String() string { return reasonNames[r] }

// read is parse for a frame.
func read(frame []byte, n Network) (query, reason) {
	p, drop := unwrap(frame, n)
	if drop != fine {
		return query{}, drop
	}
	q, drop := parse(p.payload, n)
	if drop == fine && q.giaddr.IsValid() && !n.relays(p.from.Addr()) {
		drop = strangeRelay
	}
	q.sender = p.sender
	return q, drop
}

// parse reads a message that arrived on a network, and says why it is to be
// dropped if it is.
func parse(packet []byte, n Network) (query, reason) {
	m, err := dhcpv4.FromBytes(packet)
	if err != nil || unload(packet, m) != nil || !wellFormed(m.Options) {
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
	// 4.1). Whoever else writes one would speak for any charger.
	if q.giaddr.IsValid() && !n.relays(q.giaddr) {
		return query{}, strangeRelay
	}
	return q, fine
}

// Where the fields lie that may hold options (RFC 2131, figure 1).
const (
	snameAt = 44
	fileAt  = 108
	fileEnd = 236
)

// unload adds the options that stand in the fields file and sname, in this order
// (RFC 2131, 4.1). The parts of one that is split go together (RFC 3396, 5).
func unload(packet []byte, m *dhcpv4.DHCPv4) error {
	if !m.Options.Has(dhcpv4.OptionOptionOverload) {
		return nil
	}
	overload := m.Options.Get(dhcpv4.OptionOptionOverload)
	if len(overload) != 1 || overload[0] < 1 || overload[0] > 3 {
		return errors.New("an option overload of an unknown kind") // RFC 2132, 9.3
	}
	if overload[0]&1 != 0 {
		if err := m.Options.FromBytes(packet[fileAt:fileEnd]); err != nil {
			return err
		}
	}
	if overload[0]&2 != 0 {
		return m.Options.FromBytes(packet[snameAt:fileAt])
	}
	return nil
}

// wellFormed says whether the options that decide about the answer have their
// length (RFC 2132, 9.1, 9.6 and 9.7): one that cannot be read must not count as
// one that is missing.
func wellFormed(o dhcpv4.Options) bool {
	for code, length := range map[dhcpv4.OptionCode]int{
		dhcpv4.OptionDHCPMessageType: 1, dhcpv4.OptionRequestedIPAddress: 4, dhcpv4.OptionServerIdentifier: 4,
	} {
		if o.Has(code) && len(o.Get(code)) != length {
			return false
		}
	}
	return true
}

// A state is what a client is about when it sends a REQUEST.
type state int

const (
	unclear   state = iota
	selecting       // it was offered the address
	rebooting       // it remembers the address (INIT-REBOOT)
	renewing        // it uses the address (RENEWING, REBINDING)
)

// state tells them apart by what is filled in (RFC 2131, table 4). Some clients
// name the server in a renewal as well.
func (q query) state() state {
	switch {
	case q.server.IsValid() && q.wants.IsValid():
		return selecting
	case q.ciaddr.IsValid():
		return renewing
	case q.wants.IsValid() && !q.server.IsValid():
		return rebooting
	}
	return unclear
}

// uses returns the address that the client has and can be reached at. In other
// messages ciaddr must be zero, and is not believed (RFC 2131, table 5).
func (q query) uses() netip.Addr {
	if q.kind == dhcpv4.MessageTypeInform || q.kind == dhcpv4.MessageTypeRequest && q.state() == renewing {
		return q.ciaddr
	}
	return netip.Addr{}
}

// rapid says whether the client asks for an ACK at once (RFC 4039, 4: the option
// has no value).
func (q query) rapid() bool {
	return q.Options.Has(dhcpv4.OptionRapidCommit) && len(q.Options.Get(dhcpv4.OptionRapidCommit)) == 0
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
