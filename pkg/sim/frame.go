package sim

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// broadcastMAC is everybody on the network.
var broadcastMAC = [6]byte{255, 255, 255, 255, 255, 255}

// dhcpFrame wraps a DHCP message of a client that has no address yet: Ethernet,
// IPv4 (RFC 791) and UDP (RFC 768, with the checksum that IPv4 lets out).
func dhcpFrame(mac [6]byte, payload []byte) []byte {
	udp := 8 + len(payload)
	f := make([]byte, 0, 14+20+udp)
	f = append(f, broadcastMAC[:]...)
	f = append(f, mac[:]...)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_IP)
	f = append(f, 0x45, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(20+udp))
	f = append(f, 0, 0, 0, 0, 255, unix.IPPROTO_UDP, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255)
	binary.BigEndian.PutUint16(f[24:], checksum(f[14:34]))
	f = binary.BigEndian.AppendUint16(f, 68)
	f = binary.BigEndian.AppendUint16(f, 67)
	f = binary.BigEndian.AppendUint16(f, uint16(udp))
	f = append(f, 0, 0)
	return append(f, payload...)
}

// dhcpPayload returns what is inside a frame that carries a DHCP message to a
// client, or nil.
func dhcpPayload(f []byte) []byte {
	if len(f) < 14+20+8 || binary.BigEndian.Uint16(f[12:]) != unix.ETH_P_IP || f[14]>>4 != 4 || f[14+9] != unix.IPPROTO_UDP {
		return nil
	}
	head := 14 + int(f[14]&15)*4
	if head < 34 || len(f) < head+8 || binary.BigEndian.Uint16(f[head+2:]) != 68 {
		return nil
	}
	end := head + int(binary.BigEndian.Uint16(f[head+4:]))
	if end < head+8 || end > len(f) {
		return nil
	}
	return f[head+8 : end]
}

// checksum is the Internet checksum (RFC 1071) of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// An arp is what of an ARP packet (RFC 826) matters here.
type arp struct {
	op               uint16 // 1 asks, 2 answers
	senderMAC        [6]byte
	sender, searched netip.Addr
}

// arpFrame asks by broadcast. With sender unspecified it is a probe, with
// sender and searched equal an announcement (RFC 5227).
func arpFrame(mac [6]byte, sender, searched netip.Addr) []byte {
	f := append([]byte{}, broadcastMAC[:]...)
	f = append(f, mac[:]...)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_ARP)
	f = append(f, 0, 1, 8, 0, 6, 4, 0, 1)
	f = append(f, mac[:]...)
	f = append(f, sender.AsSlice()...)
	f = append(f, 0, 0, 0, 0, 0, 0)
	return append(f, searched.AsSlice()...)
}

// parseARP reads a frame; ok is false when it is not ARP for IPv4.
func parseARP(f []byte) (a arp, ok bool) {
	if len(f) < 42 || binary.BigEndian.Uint16(f[12:]) != unix.ETH_P_ARP || [6]byte(f[14:20]) != [6]byte{0, 1, 8, 0, 6, 4} {
		return a, false
	}
	return arp{
		op: binary.BigEndian.Uint16(f[20:]), senderMAC: [6]byte(f[22:28]),
		sender: netip.AddrFrom4([4]byte(f[28:32])), searched: netip.AddrFrom4([4]byte(f[38:42])),
	}, true
}

// bootFilter lets through what a charger without an address listens to: ARP,
// and UDP to port 68. What it sends itself does not come back.
func bootFilter() ([]bpf.RawInstruction, error) {
	const outgoing = 4 // PACKET_OUTGOING of linux/if_packet.h
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: outgoing, SkipTrue: 11},
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_ARP, SkipTrue: 8},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 8},
		bpf.LoadAbsolute{Off: 14 + 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 6},
		bpf.LoadAbsolute{Off: 14 + 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 4},
		bpf.LoadMemShift{Off: 14},
		bpf.LoadIndirect{Off: 14 + 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 68, SkipFalse: 1},
		bpf.RetConstant{Val: 65536},
		bpf.RetConstant{Val: 0},
	})
}
