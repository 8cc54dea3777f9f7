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
func requests() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 8},
		bpf.LoadAbsolute{Off: etherHeader + 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoUDP, SkipTrue: 6},
		bpf.LoadAbsolute{Off: etherHeader + 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: fragmented, SkipTrue: 4},
		bpf.LoadMemShift{Off: etherHeader}, // X is the length of the IP header
		bpf.LoadIndirect{Off: etherHeader + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: dhcpv4.ServerPort, SkipTrue: 1},
		bpf.RetConstant{Val: maxPacket},
		bpf.RetConstant{Val: 0},
	}
}

// unwrap takes a message out of its frame, and tells whose frame it was. It
// checks what the kernel would have checked on the way to an ordinary socket, and
// the firewall: that the packet is whole and is for this server. The source may
// be of another network, as that of a client whose network was changed; it only
// must be one that a device can have. The checksum of UDP is not looked at: what
// comes over a virtual cable may not have one yet.
func unwrap(frame []byte, n Network) (sender charger.MAC, message []byte, why reason) {
	if len(frame) < etherHeader+headers || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP {
		return sender, nil, malformed
	}
	sender = charger.MAC(frame[6:12])
	ip := frame[etherHeader:]
	head, size := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	switch {
	case ip[0]>>4 != 4 || head < ipHeader || size < head+udpHeader || size > len(ip),
		ip[9] != protoUDP,
		binary.BigEndian.Uint16(ip[6:])&fragmented != 0,
		sum(0, ip[:head]) != 0:
		return sender, nil, malformed
	}
	udp := ip[head:size]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if length < udpHeader || length > len(udp) {
		return sender, nil, malformed
	}
	from, to := netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	if binary.BigEndian.Uint16(udp[2:]) != dhcpv4.ServerPort || !n.hears(to) || !n.possible(from) {
		return sender, nil, wronglyAddressed
	}
	return sender, udp[udpHeader:length], fine
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
