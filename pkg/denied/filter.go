package denied

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/bpf"
)

// What is in a frame, where (IEEE 802.3, RFC 791, RFC 793, RFC 768, RFC 792).
const (
	etherTypeAt = 12
	ipAt        = 14
	etherIPv4   = 0x0800
	etherIPv6   = 0x86dd

	protoICMP   = 1
	protoIGMP   = 2
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58

	flagSYN, flagACK = 0x02, 0x10
)

// Ports that are answered wherever they are asked for (Z-10, Z-12), and DHCP's.
const (
	portDNS, portDHCP, portNTP = 53, 67, 123
	// portProxy is egress's own: nobody is redirected who calls it directly.
	portProxy = 18443
)

// snap is how much of a frame is looked at: every header that matters.
const snap = 192

// Verdicts of a filter.
var (
	pass = bpf.RetConstant{Val: snap}
	drop = bpf.RetConstant{Val: 0}
)

// when runs block if the accumulator compares so with value; else it goes on
// behind it. Blocks may be of any length: they are jumped over in one piece.
func when(test bpf.JumpTest, value uint32, block ...bpf.Instruction) []bpf.Instruction {
	head := []bpf.Instruction{
		bpf.JumpIf{Cond: test, Val: value, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(block))},
	}
	return append(head, block...)
}

// program joins instructions and blocks.
func program(parts ...any) []bpf.Instruction {
	var out []bpf.Instruction
	for _, p := range parts {
		switch p := p.(type) {
		case []bpf.Instruction:
			out = append(out, p...)
		case bpf.Instruction:
			out = append(out, p)
		}
	}
	return out
}

// inbound lets only frames through that came in for this machine or for all:
// not what it sends itself, and not what it overhears (packet(7), sll_pkttype).
func inbound() []bpf.Instruction {
	const packetMulticast = 2
	return program(bpf.LoadExtension{Num: bpf.ExtType}, when(bpf.JumpGreaterThan, packetMulticast, drop))
}

// filter passes the frames on a charger interface that the firewall refuses,
// and a few more that describe sorts out. It begins where inbound ends.
func filter(n Network, ports []uint16) []bpf.Instruction {
	return program(
		bpf.LoadAbsolute{Off: etherTypeAt, Size: 2},
		when(bpf.JumpEqual, etherIPv6, pass),
		when(bpf.JumpNotEqual, etherIPv4, drop),
		bpf.LoadAbsolute{Off: ipAt + 6, Size: 2},
		when(bpf.JumpBitsSet, 0x1fff, pass), // a later fragment: it has no ports
		bpf.LoadMemShift{Off: ipAt},         // X is the length of the IP header from here on
		bpf.LoadAbsolute{Off: ipAt + 9, Size: 1},
		when(bpf.JumpEqual, protoUDP, dhcpFilter(n)...),
		bpf.LoadAbsolute{Off: ipAt + 12, Size: 4},
		when(bpf.JumpEqual, number(n.Gateway.Addr()), pass), // a source that no charger has
		when(bpf.JumpEqual, number(n.Gateway.Masked().Addr()), pass),
		when(bpf.JumpEqual, number(broadcast(n.Gateway)), pass),
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask(n.Gateway)},
		when(bpf.JumpNotEqual, number(n.Gateway.Masked().Addr()), pass), // nor one of another network
		bpf.LoadAbsolute{Off: ipAt + 9, Size: 1},
		when(bpf.JumpEqual, protoTCP, tcpFilter(n.Gateway.Addr(), ports)...),
		when(bpf.JumpEqual, protoUDP, program(
			bpf.LoadIndirect{Off: ipAt + 2, Size: 2},
			when(bpf.JumpEqual, portDNS, drop),
			when(bpf.JumpEqual, portNTP, drop),
			pass,
		)...),
		when(bpf.JumpEqual, protoICMP, icmpFilter(n.Gateway.Addr())...),
		pass,
	)
}

// dhcpFilter decides about DHCP, which may come from any address, and leaves
// other UDP alone.
func dhcpFilter(n Network) []bpf.Instruction {
	return program(
		bpf.LoadIndirect{Off: ipAt + 2, Size: 2},
		when(bpf.JumpEqual, portDHCP, program(
			bpf.LoadAbsolute{Off: ipAt + 16, Size: 4},
			when(bpf.JumpEqual, 0xffffffff, drop),
			when(bpf.JumpEqual, number(n.Gateway.Addr()), drop),
			when(bpf.JumpEqual, number(broadcast(n.Gateway)), drop),
			pass,
		)...),
	)
}

// tcpFilter decides about TCP from the chargers' subnet: only what opens a
// connection counts.
func tcpFilter(gateway netip.Addr, ports []uint16) []bpf.Instruction {
	return program(
		opening(),
		bpf.LoadAbsolute{Off: ipAt + 16, Size: 4},
		when(bpf.JumpEqual, number(gateway), program(
			bpf.LoadIndirect{Off: ipAt + 2, Size: 2},
			when(bpf.JumpEqual, portProxy, pass),
		)...),
		bpf.LoadIndirect{Off: ipAt + 2, Size: 2},
		when(bpf.JumpEqual, portDNS, drop),
		unless(ports),
		pass,
	)
}

// opening drops TCP segments that do not open a connection. X is the length of
// the IP header.
func opening() []bpf.Instruction {
	return program(
		bpf.LoadIndirect{Off: ipAt + 13, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: flagSYN | flagACK},
		when(bpf.JumpNotEqual, flagSYN, drop),
	)
}

// unless drops if the accumulator is one of the ports.
func unless(ports []uint16) []bpf.Instruction {
	var out []bpf.Instruction
	for _, p := range ports {
		out = append(out, when(bpf.JumpEqual, uint32(p), drop)...)
	}
	return out
}

// icmpFilter decides about ICMP from the chargers' subnet: the gateway answers
// pings, and answers and errors are part of other conversations.
func icmpFilter(gateway netip.Addr) []bpf.Instruction {
	parts := []any{bpf.LoadIndirect{Off: ipAt, Size: 1}}
	for _, answer := range icmpAnswers() {
		parts = append(parts, when(bpf.JumpEqual, uint32(answer), drop))
	}
	parts = append(parts,
		when(bpf.JumpEqual, icmpEcho, program(
			bpf.LoadAbsolute{Off: ipAt + 16, Size: 4},
			when(bpf.JumpEqual, number(gateway), drop),
		)...),
		pass)
	return program(parts...)
}

const icmpEcho = 8

// icmpAnswers are the types that ask for nothing: echo reply, unreachable, time
// exceeded, parameter problem, timestamp reply (RFC 792).
func icmpAnswers() []byte { return []byte{0, 3, 11, 12, 14} }

// uplinkFilter passes what opens a connection to this box on a port that the
// site does not allow, and pings. It begins where inbound ends; broadcasts are
// passed over by describeUplink.
func uplinkFilter(ports []uint16) []bpf.Instruction {
	return program(
		bpf.LoadAbsolute{Off: etherTypeAt, Size: 2},
		when(bpf.JumpNotEqual, etherIPv4, drop),
		bpf.LoadAbsolute{Off: ipAt + 6, Size: 2},
		when(bpf.JumpBitsSet, 0x1fff, drop),
		bpf.LoadMemShift{Off: ipAt},
		bpf.LoadAbsolute{Off: ipAt + 9, Size: 1},
		when(bpf.JumpEqual, protoTCP, program(
			opening(),
			bpf.LoadIndirect{Off: ipAt + 2, Size: 2},
			unless(ports),
			pass,
		)...),
		when(bpf.JumpNotEqual, protoICMP, drop),
		bpf.LoadIndirect{Off: ipAt, Size: 1},
		when(bpf.JumpNotEqual, icmpEcho, drop),
		pass,
	)
}

// number is an IPv4 address as the filter sees it.
func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func mask(p netip.Prefix) uint32 { return ^uint32(0) << (32 - p.Bits()) }

// broadcast is the last address of a subnet: to everybody in it.
func broadcast(p netip.Prefix) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], number(p.Addr())|^mask(p))
	return netip.AddrFrom4(b)
}
