package dhcp

import (
	"encoding/binary"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"chargegate/pkg/charger"
)

// etherHeader is the length of an Ethernet header without a VLAN tag.
const etherHeader = 14

// fragmented masks what makes an IPv4 packet a fragment: that more follow, and
// the offset.
const fragmented = 0x3fff

// arrived passes what came in for this machine or for all, and not what is
// overheard (packet(7), sll_pkttype).
func arrived() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: unix.PACKET_BROADCAST, SkipFalse: 1},
		bpf.RetConstant{Val: 0},
	}
}

// requests passes whole IPv4 datagrams to the server's port. It begins where
// arrived ends.
func requests() []bpf.Instruction { return datagramsTo(dhcpv4.ServerPort) }

// replies is requests for what is sent to the clients' port.
func replies() []bpf.Instruction { return datagramsTo(dhcpv4.ClientPort) }

// datagramsTo passes whole IPv4 datagrams to a UDP port.
func datagramsTo(port uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 8},
		bpf.LoadAbsolute{Off: etherHeader + 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoUDP, SkipTrue: 6},
		bpf.LoadAbsolute{Off: etherHeader + 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: fragmented, SkipTrue: 4},
		bpf.LoadMemShift{Off: etherHeader}, // X is the length of the IP header
		bpf.LoadIndirect{Off: etherHeader + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: port, SkipTrue: 1},
		bpf.RetConstant{Val: maxPacket},
		bpf.RetConstant{Val: 0},
	}
}

// A parcel is a UDP datagram out of its frame.
type parcel struct {
	sender   charger.MAC // of the frame
	from, to netip.AddrPort
	payload  []byte
}

// unpack takes a datagram out of its frame; ok is false when it is not whole. It
// checks what the kernel would have checked on the way to an ordinary socket. The
// checksum of UDP is not looked at: what comes over a virtual cable may not have
// one yet.
func unpack(frame []byte) (p parcel, ok bool) {
	if len(frame) < etherHeader+headers || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP {
		return p, false
	}
	ip := frame[etherHeader:]
	head, size := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	switch {
	case ip[0]>>4 != 4 || head < ipHeader || size < head+udpHeader || size > len(ip),
		ip[9] != protoUDP,
		binary.BigEndian.Uint16(ip[6:])&fragmented != 0,
		sum(0, ip[:head]) != 0:
		return p, false
	}
	udp := ip[head:size]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if length < udpHeader || length > len(udp) {
		return p, false
	}
	return parcel{
		sender:  charger.MAC(frame[6:12]),
		from:    netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:16])), binary.BigEndian.Uint16(udp)),
		to:      netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), binary.BigEndian.Uint16(udp[2:])),
		payload: udp[udpHeader:length],
	}, true
}

// unwrap takes a message out of its frame. It checks what the firewall would have
// checked: that the packet is for this server. The source may be of another
// network, as that of a client whose network was changed; it only must be one that
// a device can have.
func unwrap(frame []byte, n Network) (p parcel, why reason) {
	p, ok := unpack(frame)
	switch {
	case !ok:
		return p, malformed
	case p.to.Port() != dhcpv4.ServerPort || !n.hears(p.to.Addr()) || !n.possible(p.from.Addr()):
		return p, wronglyAddressed
	}
	return p, fine
}

// hears says whether what is sent to an address is for the server: a client
// broadcasts, or asks the server that it has its address from.
func (n Network) hears(to netip.Addr) bool {
	return to == everybody || to == n.Gateway.Addr() || to == lastOf(n.Gateway)
}

// possible says whether a device can send from an address (RFC 1122, 3.2.1.3).
func (n Network) possible(from netip.Addr) bool {
	return !from.IsMulticast() && !from.IsLoopback() && from != everybody && from != lastOf(n.Gateway) && from != n.Gateway.Addr()
}
