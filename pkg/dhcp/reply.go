package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// minMessage is what every client can take: an IP packet of 576 bytes without
// its headers (RFC 2131, 2).
const minMessage = 576 - headers

// maxMessage is what fits into a packet on Ethernet and Wi-Fi, whatever a client
// says that it can take. Answers are not fragmented.
const maxMessage = 1500 - headers

// broadcastFlag asks for an answer to everybody (RFC 2131, figure 2).
const broadcastFlag = 1 << 15

// reply begins an answer (RFC 2131, table 3). It is written as a literal: the
// library's constructors draw a random transaction id, for which a machine that
// has just booted may have to wait.
func (d *desk) reply(q query, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	r := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootReply,
		HWType:        iana.HWTypeEthernet,
		TransactionID: q.TransactionID,
		Flags:         q.Flags & broadcastFlag, // the others must be zero (RFC 2131, 2)
		GatewayIPAddr: netIP(q.giaddr),
		ClientHWAddr:  q.ClientHWAddr,
		Options: dhcpv4.OptionsFromList(
			dhcpv4.OptMessageType(kind),
			dhcpv4.OptServerIdentifier(netIP(d.Gateway.Addr())),
		),
	}
	// RFC 6842, 3: the client identifier comes back as it was sent, in a DHCPNAK
	// as well. RFC 3046, 2.2: so does what a relay agent added.
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionClientIdentifier, dhcpv4.OptionRelayAgentInformation} {
		if q.Options.Has(code) {
			r.Options[code.Code()] = q.Options.Get(code)
		}
	}
	// RFC 2131, table 3: the client's own address, or none.
	if kind == dhcpv4.MessageTypeAck {
		r.ClientIPAddr = netIP(q.uses())
	}
	return r
}

// nak makes a DHCPNAK, which tells nothing but why (RFC 2132, 9.9).
func (d *desk) nak(q query, why string) *dhcpv4.DHCPv4 {
	r := d.reply(q, dhcpv4.MessageTypeNak)
	if q.giaddr.IsValid() {
		r.SetBroadcast() // RFC 2131, 4.3.2: the relay must broadcast it
	}
	r.UpdateOption(dhcpv4.OptMessage(why))
	return r
}

// leastTerm is the shortest lease that a client gets because it asks for it
// (Z-6).
const leastTerm = time.Hour

// termFor is how long a client is told that it may keep an address: this
// server's term, or less if it asks for less (RFC 2131, 4.3.1).
func (d *desk) termFor(q query) time.Duration {
	wish := q.IPAddressLeaseTime(d.term).Truncate(time.Second)
	return min(d.term, max(wish, leastTerm))
}

// lend makes an OFFER or ACK of an address.
func (d *desk) lend(q query, kind dhcpv4.MessageType, addr netip.Addr) *dhcpv4.DHCPv4 {
	r := d.reply(q, kind)
	r.YourIPAddr = netIP(addr)
	term := d.termFor(q)
	sooner := fuzz(q, term)
	for _, o := range []dhcpv4.Option{
		dhcpv4.OptIPAddressLeaseTime(term),
		dhcpv4.OptRenewTimeValue(term/2 - sooner), // RFC 2131, 4.4.5: T1 and T2
		dhcpv4.OptRebindingTimeValue((term * 7 / 8).Truncate(time.Second) - sooner),
	} {
		r.UpdateOption(o)
	}
	d.describe(q, r)
	return r
}

// fuzz is how much sooner than others a client renews, up to a twentieth of the
// lease (RFC 2131, 4.4.5): those that came back together after a power cut (F-1)
// do not ask together from then on. It follows from the MAC, so that the OFFER
// and each ACK say the same.
func fuzz(q query, term time.Duration) time.Duration {
	return (term / 20 * time.Duration(q.hw[5]) / 255).Truncate(time.Second)
}

// describe tells what the network is like: its mask, without which an address
// is of no use, and of the rest what the client asked for (RFC 2131, 4.3.1). The
// router, the name server and the clock are this box.
func (d *desk) describe(q query, r *dhcpv4.DHCPv4) {
	self := netIP(d.Gateway.Addr())
	r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(d.Gateway.Bits(), 32)))
	for _, o := range []dhcpv4.Option{
		dhcpv4.OptRouter(self),
		dhcpv4.OptDNS(self),
		dhcpv4.OptBroadcastAddress(netIP(lastOf(d.Gateway))),
		dhcpv4.OptNTPServers(self),
	} {
		if q.IsOptionRequested(o.Code) { // true as well when the client has no list
			r.UpdateOption(o)
		}
	}
}

// fit leaves out what does not fit into the longest message that the client
// takes, the least needed first. What may be as long as its sender likes is among
// that, so the rest always fits. What a relay agent added is taken away again
// before the client sees it (RFC 3046, 2.1) and must only fit into a packet.
func fit(q query, r *dhcpv4.DHCPv4) {
	limit := minMessage
	if size, err := q.MaxMessageSize(); err == nil {
		limit = min(max(limit, int(size)-headers), maxMessage) // RFC 2132, 9.10: with the headers
	}
	agent := 0
	if code := dhcpv4.OptionRelayAgentInformation; r.Options.Has(code) {
		agent = len(dhcpv4.Options{code.Code(): r.Options.Get(code)}.ToBytes())
	}
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionNTPServers, dhcpv4.OptionBroadcastAddress, dhcpv4.OptionMessage,
		dhcpv4.OptionClientIdentifier, dhcpv4.OptionRelayAgentInformation} {
		if size := len(r.ToBytes()); size-agent <= limit && size <= maxMessage {
			return
		}
		r.Options.Del(code)
	}
}

// lastOf returns a subnet's broadcast address.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|(1<<(32-p.Bits())-1))
	return netip.AddrFrom4(b)
}
