package sim

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// packet4 is a frame with an IPv4 packet; the body begins with the ports, or
// with the ICMP type.
func packet4(src, dst string, proto byte, body ...byte) []byte {
	f := make([]byte, 14, 60)
	binary.BigEndian.PutUint16(f[12:], unix.ETH_P_IP)
	p := make([]byte, 20)
	p[0], p[9] = 0x45, proto
	copy(p[12:], netip.MustParseAddr(src).AsSlice())
	copy(p[16:], netip.MustParseAddr(dst).AsSlice())
	return append(append(append(f, p...), body...), make([]byte, max(0, 20-len(body)))...)
}

// ports is the beginning of TCP and UDP; flags are TCP's.
func ports(dst uint16, flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b[2:], dst)
	b[13] = flags
	return b
}

func TestJudge(t *testing.T) {
	const syn, synAck, ack, rst, udp, tcp, icmp = 2, 18, 16, 4, unix.IPPROTO_UDP, unix.IPPROTO_TCP, unix.IPPROTO_ICMP
	const charger = "10.83.0.7"
	for name, c := range map[string]struct {
		frame []byte
		ok    bool
	}{
		"arp":                                    {arpFrame(testMAC, netip.IPv4Unspecified(), netip.IPv4Unspecified()), true},
		"the gateway calls the hub":              {packet4(UplinkAddr, HubAddr, tcp, ports(8883, syn)...), true},
		"the gateway goes on talking":            {packet4(UplinkAddr, ElsewhereIP, tcp, ports(443, ack)...), true},
		"the gateway asks its resolver":          {packet4(UplinkAddr, ResolverAddr, udp, ports(53, 0)...), true},
		"the gateway asks another resolver":      {packet4(UplinkAddr, "8.8.8.8", udp, ports(53, 0)...), false},
		"the gateway asks for the time":          {packet4(UplinkAddr, TimeAddr, udp, ports(123, 0)...), true},
		"the gateway calls the hub on port 443":  {packet4(UplinkAddr, HubAddr, tcp, ports(443, syn)...), false},
		"the gateway calls somebody else":        {packet4(UplinkAddr, ElsewhereIP, tcp, ports(443, syn)...), false},
		"the gateway refuses us":                 {packet4(UplinkAddr, RouterAddr, tcp, ports(40000, rst|ack)...), true},
		"the gateway refuses us for a charger":   {packet4(charger, RouterAddr, tcp, ports(40000, rst|ack)...), true},
		"the gateway tells us that it prohibits": {packet4(UplinkAddr, RouterAddr, icmp, 3, 13), true},
		"the gateway pings":                      {packet4(UplinkAddr, ElsewhereIP, icmp, 8), false},
		"a charger calls the hub":                {packet4(charger, HubAddr, tcp, ports(8883, syn)...), false},
		"a charger answers us":                   {packet4(charger, RouterAddr, tcp, ports(40000, synAck)...), false},
		"a charger asks a resolver":              {packet4(charger, ResolverAddr, udp, ports(53, 0)...), false},
		"another protocol":                       {packet4(UplinkAddr, HubAddr, 47), false},
		"something that is not ip":               {make([]byte, 60), false},
		"nothing":                                {nil, false},
	} {
		if what, ok := judge(c.frame); ok != c.ok || what == "" {
			t.Errorf("%s: judged %q in order %v, want %v", name, what, ok, c.ok)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(packet4(UplinkAddr, HubAddr, unix.IPPROTO_TCP, ports(8883, 2)...))
	f.Add(arpFrame(testMAC, netip.IPv4Unspecified(), netip.IPv4Unspecified()))
	f.Add(dhcpFrame(testMAC, []byte("payload")))
	v6 := make([]byte, 80)
	binary.BigEndian.PutUint16(v6[12:], unix.ETH_P_IPV6)
	f.Add(v6)
	f.Fuzz(func(t *testing.T, frame []byte) {
		parseARP(frame)
		if p := dhcpPayload(frame); len(p) > len(frame) {
			t.Errorf("%d bytes out of %d", len(p), len(frame))
		}
		if what, _ := judge(frame); what == "" || strings.Contains(what, "\n") {
			t.Errorf("judged %q", what)
		}
	})
}
