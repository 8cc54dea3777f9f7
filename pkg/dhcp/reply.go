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
		if value := q.Options.Get(code); value != nil {
			r.Options[code.Code()] = value
		}
	}
	if kind == dhcpv4.MessageTypeNak && q.giaddr.IsValid() {
		r.SetBroadcast() // RFC 2131, 4.3.2: the relay must broadcast it
	}
	return r
}

// lend makes an OFFER or ACK of an address.
func (d *desk) lend(q query, kind dhcpv4.MessageType, addr netip.Addr) *dhcpv4.DHCPv4 {
	r := d.reply(q, kind)
	r.YourIPAddr = netIP(addr)
	if kind == dhcpv4.MessageTypeAck {
		r.ClientIPAddr = netIP(q.ciaddr)
	}
	for _, o := range []dhcpv4.Option{
		dhcpv4.OptIPAddressLeaseTime(d.term),
		dhcpv4.OptRenewTimeValue(d.term / 2), // RFC 2131, 4.4.5: T1 and T2
		dhcpv4.OptRebindingTimeValue((d.term * 7 / 8).Truncate(time.Second)),
	} {
		r.UpdateOption(o)
	}
	d.describe(q, r)
	return r
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
// that, so the rest always fits.
func fit(q query, r *dhcpv4.DHCPv4) {
	limit := minMessage
	if size, err := q.MaxMessageSize(); err == nil {
		limit = min(max(limit, int(size)-headers), maxMessage) // RFC 2132, 9.10: with the headers
	}
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionNTPServers, dhcpv4.OptionBroadcastAddress,
		dhcpv4.OptionRelayAgentInformation, dhcpv4.OptionClientIdentifier} {
		if len(r.ToBytes()) <= limit {
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
