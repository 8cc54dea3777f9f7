package denied

import (
	"encoding/binary"
	"net/netip"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"

	"golang.org/x/net/bpf"
)

// What is in an ARP message for IPv4 over Ethernet, where (RFC 826).
const (
	arpKind    = 0x00010800 // Ethernet, IPv4
	arpLengths = 0x0604     // of their addresses
	arpSender  = ipAt + 8
	arpAddress = ipAt + 14
	arpEnd     = ipAt + 28
)

// arpFilter passes ARP whose sender has an address. The probe of a device that
// looks whether its new one is free has none (RFC 5227, 2.1.1).
func arpFilter() []bpf.Instruction {
	return program(
		bpf.LoadAbsolute{Off: ipAt, Size: 4},
		when(bpf.JumpNotEqual, arpKind, drop),
		bpf.LoadAbsolute{Off: ipAt + 4, Size: 2},
		when(bpf.JumpNotEqual, arpLengths, drop),
		bpf.LoadAbsolute{Off: arpEnd - 1, Size: 1}, // a message that is cut off is dropped
		bpf.LoadAbsolute{Off: arpAddress, Size: 4},
		when(bpf.JumpEqual, 0, drop),
		pass,
	)
}

// A claim is an ARP message in which somebody says that an address is its own.
// Every kind of message says so, and whoever hears one may believe it: requests
// and replies, to one or to all.
type claim struct {
	from   charger.MAC // who sent the frame
	sender charger.MAC // where packets for the address are to go, it says
	addr   netip.Addr
}

// parseClaim reads an ARP message; ok is false when the frame is none, or none
// that claims anything.
func parseClaim(frame []byte) (c claim, ok bool) {
	if len(frame) < arpEnd || binary.BigEndian.Uint16(frame[etherTypeAt:]) != etherARP ||
		binary.BigEndian.Uint32(frame[ipAt:]) != arpKind || binary.BigEndian.Uint16(frame[ipAt+4:]) != arpLengths {
		return claim{}, false
	}
	c = claim{
		from: charger.MAC(frame[6:12]), sender: charger.MAC(frame[arpSender:]),
		addr: netip.AddrFrom4([4]byte(frame[arpAddress:])),
	}
	return c, !c.addr.IsUnspecified()
}

// claimant returns who claims an address that belongs to owner; ok is false when
// owner speaks for itself.
func (c claim) claimant(owner charger.MAC) (who charger.MAC, ok bool) {
	switch {
	case c.from != owner:
		return c.from, true
	case c.sender != owner:
		return c.sender, true
	}
	return charger.MAC{}, false
}

// hear weighs a claim: a sign of life of who holds the address, an attempt to
// take it, or nothing to us. It reports whether it was an attempt.
func (s *Server) hear(n Network, c claim, now time.Time) bool {
	if c.addr == n.Gateway.Addr() { // our own frames do not come in
		s.accuse(n, event.DeniedGatewayClaimed, c.from, c.addr, "", now)
		return true
	}
	owner, held := s.book.At(c.addr)
	if !held {
		return false
	}
	who, another := c.claimant(owner)
	if !another {
		s.book.Heard(c.addr, now)
		return false
	}
	s.accuse(n, event.DeniedAddressClaimed, who, c.addr, s.book.NameOf(owner), now)
	return true
}

// accuse says who claims an address. The kinds say it once an hour for each
// pair and bound what one device can cause; claims has a bound for all, apart
// from that of refusals, so that those cannot hide a claim.
func (s *Server) accuse(n Network, kind *event.Kind, who charger.MAC, addr netip.Addr, owner string, now time.Time) {
	if s.claims.take(who.String(), addr.String(), now) != written {
		return
	}
	fields := []event.Field{event.MAC(who), event.Network(n.Name), event.F("ADDRESS", addr)}
	if owner != "" {
		fields = append(fields, event.F("OWNER", owner))
	}
	s.log.Say(kind, fields...)
}
