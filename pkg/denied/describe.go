package denied

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"chargegate/pkg/charger"
)

// A class is which kind of refusal a frame is. The zero value is an ordinary
// one.
type class int

const (
	refused class = iota // asked for something that is not allowed
	direct               // called the proxy's own port
	spoofed              // came from an address outside the subnet
	noise                // was meant for everybody and for nobody here
	classes
)

var classNames = [classes]string{"refused", "direct", "spoofed", "noise"}

// A refusal is a frame that the firewall refuses, in words.
type refusal struct {
	class class
	mac   charger.MAC
	src   netip.Addr
	dst   netip.Addr
	proto string // TCP, UDP, ICMP, IPv6 or a number
	port  uint16 // 0 where there is none
	what  string // "UDP port 443 of 192.0.2.1"
}

// describe says what the firewall of network n refuses about an inbound frame;
// ok is false when it refuses nothing, or when the frame is no whole header.
// ports are the TCP ports that are handed to egress.
func describe(frame []byte, n Network, ports []uint16) (r refusal, ok bool) {
	p, ok := parse(frame)
	if !ok {
		return refusal{}, false
	}
	r = refusal{mac: p.mac, src: p.src, dst: p.dst, proto: p.protoName(), port: p.port}
	switch {
	case p.v6:
		r.what, r.class = describeIPv6(p)
		return r, true
	case p.fragment:
		r.what, r.class = fmt.Sprintf("a fragment of a packet to %s", p.dst), noise
		return r, true
	case answered(p, n, ports):
		return refusal{}, false
	}
	r.what = inWords(p, n)
	switch {
	case toEverybody(p.dst, n), p.proto == protoIGMP:
		r.class = noise
	case !maySend(p.src, n):
		r.class = spoofed
	case p.proto == protoTCP && p.port == portProxy && p.dst == n.Gateway.Addr():
		r.class = direct
	}
	return r, true
}

// answered reports whether the house answers a packet, or the firewall has no
// quarrel with it.
func answered(p header, n Network, ports []uint16) bool {
	gateway := n.Gateway.Addr()
	if p.proto == protoUDP && p.port == portDHCP {
		return p.dst == gateway || p.dst == broadcast(n.Gateway) || p.dst == netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	if !maySend(p.src, n) {
		return false
	}
	switch p.proto {
	case protoUDP:
		return p.port == portDNS || p.port == portNTP
	case protoTCP:
		if p.flags&(flagSYN|flagACK) != flagSYN {
			return true // part of a connection that was decided about
		}
		if p.dst == gateway && p.port == portProxy {
			return false
		}
		return p.port == portDNS || slices.Contains(ports, p.port)
	case protoICMP:
		return p.kind == icmpEcho && p.dst == gateway || slices.Contains(icmpAnswers(), p.kind)
	}
	return false
}

// maySend reports whether a charger of the network can have that address.
func maySend(src netip.Addr, n Network) bool {
	subnet := n.Gateway.Masked()
	return subnet.Contains(src) && src != n.Gateway.Addr() && src != subnet.Addr() && src != broadcast(n.Gateway)
}

// describeUplink is describe for the uplink: what opens a connection to this
// box on a port that is not allowed, and pings.
func describeUplink(frame []byte, ports []uint16) (r refusal, ok bool) {
	p, ok := parse(frame)
	if !ok || p.v6 || p.fragment || frame[0]&1 != 0 {
		return refusal{}, false
	}
	r = refusal{mac: p.mac, src: p.src, dst: p.dst, proto: p.protoName(), port: p.port}
	switch {
	case p.proto == protoTCP && p.flags&(flagSYN|flagACK) == flagSYN && !slices.Contains(ports, p.port):
		r.what = fmt.Sprintf("TCP port %d", p.port)
	case p.proto == protoICMP && p.kind == icmpEcho:
		r.what = "a ping"
	default:
		return refusal{}, false
	}
	return r, true
}

// describeIPv6 says what an IPv6 frame wanted. Nothing here speaks IPv6;
// neighbour discovery and group memberships are what every stack sends by
// itself.
func describeIPv6(p header) (string, class) {
	c := refused
	if p.dst.IsMulticast() || p.proto == protoICMPv6 && p.kind >= 130 && p.kind <= 137 {
		c = noise
	}
	switch {
	case p.proto == protoICMPv6:
		return fmt.Sprintf("IPv6: ICMP type %d to %s", p.kind, p.dst), c
	case p.port != 0:
		return fmt.Sprintf("IPv6: port %d of %s", p.port, p.dst), c
	}
	return fmt.Sprintf("IPv6 to %s", p.dst), c
}

func inWords(p header, n Network) string {
	to := p.dst.String()
	switch {
	case p.dst == n.Gateway.Addr():
		to = "the gateway"
	case n.Gateway.Masked().Contains(p.dst) && !toEverybody(p.dst, n):
		to = fmt.Sprintf("%s in its own network", p.dst)
	}
	switch p.proto {
	case protoTCP, protoUDP:
		return fmt.Sprintf("%s port %d of %s", p.protoName(), p.port, to)
	case protoICMP:
		if p.kind == icmpEcho {
			return "a ping to " + to
		}
		return fmt.Sprintf("ICMP type %d to %s", p.kind, to)
	}
	return fmt.Sprintf("IP protocol %d to %s", p.proto, to)
}

func toEverybody(a netip.Addr, n Network) bool {
	return a.IsMulticast() || a == broadcast(n.Gateway) || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// A header is what the headers of a frame say.
type header struct {
	mac      charger.MAC
	v6       bool
	src, dst netip.Addr
	proto    byte
	fragment bool // not the first one: nothing below is known
	port     uint16
	flags    byte // of TCP
	kind     byte // of ICMP
}

func (p header) protoName() string {
	switch {
	case p.v6:
		return "IPv6"
	case p.proto == protoTCP:
		return "TCP"
	case p.proto == protoUDP:
		return "UDP"
	case p.proto == protoICMP:
		return "ICMP"
	}
	return fmt.Sprint(p.proto)
}

// parse reads the headers of a frame; ok is false when they are not whole.
func parse(frame []byte) (p header, ok bool) {
	if len(frame) < ipAt {
		return header{}, false
	}
	p.mac = charger.MAC(frame[6:12])
	ip := frame[ipAt:]
	switch binary.BigEndian.Uint16(frame[etherTypeAt:]) {
	case etherIPv4:
		return parseIPv4(p, ip)
	case etherIPv6:
		return parseIPv6(p, ip)
	}
	return header{}, false
}

func parseIPv4(p header, ip []byte) (header, bool) {
	if len(ip) < 20 || ip[0]>>4 != 4 {
		return header{}, false
	}
	length := int(ip[0]&0xf) * 4
	if length < 20 || len(ip) < length {
		return header{}, false
	}
	p.src, p.dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	p.proto = ip[9]
	if binary.BigEndian.Uint16(ip[6:])&0x1fff != 0 {
		p.fragment = true
		return p, true
	}
	return parseTransport(p, ip[length:])
}

func parseIPv6(p header, ip []byte) (header, bool) {
	if len(ip) < 40 || ip[0]>>4 != 6 {
		return header{}, false
	}
	p.v6 = true
	p.src, p.dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
	p.proto = ip[6]
	rest := ip[40:]
	if p.proto == 0 && len(rest) >= 8 { // hop-by-hop options, as group reports have
		p.proto = rest[0]
		rest = rest[min(len(rest), 8+8*int(rest[1])):]
	}
	if q, ok := parseTransport(p, rest); ok {
		return q, true
	}
	return p, true
}

// parseTransport reads what is behind the IP header.
func parseTransport(p header, b []byte) (header, bool) {
	switch p.proto {
	case protoTCP:
		if len(b) < 14 {
			return header{}, false
		}
		p.port, p.flags = binary.BigEndian.Uint16(b[2:]), b[13]
	case protoUDP:
		if len(b) < 4 {
			return header{}, false
		}
		p.port = binary.BigEndian.Uint16(b[2:])
	case protoICMP, protoICMPv6:
		if len(b) < 1 {
			return header{}, false
		}
		p.kind = b[0]
	}
	return p, true
}
