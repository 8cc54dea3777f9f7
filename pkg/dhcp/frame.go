package dhcp

import (
	"encoding/binary"
	"net/netip"
)

const (
	ipHeader  = 20
	udpHeader = 8
	headers   = ipHeader + udpHeader
	protoUDP  = 17
	ttl       = 64
)

// datagram wraps a payload in IPv4 and UDP headers (RFC 791, RFC 768), for a
// client that cannot be reached by its address yet. Both addresses are IPv4.
func datagram(from, to netip.AddrPort, payload []byte) []byte {
	b := make([]byte, headers, headers+len(payload))
	b = append(b, payload...)
	ip, udp := b[:ipHeader], b[ipHeader:]
	src, dst := from.Addr().As4(), to.Addr().As4()

	ip[0] = 4<<4 | ipHeader/4
	binary.BigEndian.PutUint16(ip[2:], uint16(len(b)))
	ip[6] = 0x40 // don't fragment
	ip[8], ip[9] = ttl, protoUDP
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(ip[10:], sum(0, ip))

	binary.BigEndian.PutUint16(udp[0:], from.Port())
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	pseudo := uint32(protoUDP) + uint32(len(udp)) + halves(src) + halves(dst)
	check := sum(pseudo, udp)
	if check == 0 {
		check = 0xffff // RFC 768: zero means that there is none
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return b
}

func halves(a [4]byte) uint32 {
	return uint32(binary.BigEndian.Uint16(a[:2])) + uint32(binary.BigEndian.Uint16(a[2:]))
}

// sum is the Internet checksum (RFC 1071) of b, begun with a partial sum.
func sum(n uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		n += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		n += uint32(b[0]) << 8
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return ^uint16(n)
}
