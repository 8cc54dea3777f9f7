package dhcp

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

// What is in an ARP message for IPv4 over Ethernet, where (RFC 826).
const (
	arpKind    = 0x00010800 // Ethernet, IPv4
	arpLengths = 0x0604     // of their addresses
	arpRequest = 1
	arpSender  = etherHeader + 8
	arpAddress = etherHeader + 14
	arpEnd     = etherHeader + 28
)

// claims passes ARP that came in and whose sender has an address. The probe of a
// device that looks whether its new one is free has none (RFC 5227, 2.1.1).
func claims() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: unix.PACKET_MULTICAST, SkipTrue: 10},
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_ARP, SkipTrue: 8},
		bpf.LoadAbsolute{Off: etherHeader, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: arpKind, SkipTrue: 6},
		bpf.LoadAbsolute{Off: etherHeader + 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: arpLengths, SkipTrue: 4},
		bpf.LoadAbsolute{Off: arpEnd - 1, Size: 1}, // a message that is cut off is dropped
		bpf.LoadAbsolute{Off: arpAddress, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
		bpf.RetConstant{Val: arpEnd},
		bpf.RetConstant{Val: 0},
	}
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
// that claims anything, or when no device can have sent it.
func parseClaim(frame []byte) (c claim, ok bool) {
	if len(frame) < arpEnd || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_ARP ||
		binary.BigEndian.Uint32(frame[etherHeader:]) != arpKind || binary.BigEndian.Uint16(frame[etherHeader+4:]) != arpLengths {
		return claim{}, false
	}
	c = claim{
		from: charger.MAC(frame[6:12]), sender: charger.MAC(frame[arpSender:]),
		addr: netip.AddrFrom4([4]byte(frame[arpAddress:])),
	}
	return c, !c.addr.IsUnspecified() && c.from[0]&1 == 0 && c.from != (charger.MAC{})
}

// question is the frame that asks who uses an address. It says nothing about the
// asker's own address, so that nobody remembers anything because of it (RFC 5227,
// 2.1.1).
func question(asker charger.MAC, addr netip.Addr) []byte {
	target := addr.As4()
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, asker[:]...)
	f = binary.BigEndian.AppendUint16(f, unix.ETH_P_ARP)
	f = binary.BigEndian.AppendUint32(f, arpKind)
	f = binary.BigEndian.AppendUint16(f, arpLengths)
	f = binary.BigEndian.AppendUint16(f, arpRequest)
	f = append(f, asker[:]...)
	f = append(f, make([]byte, 4+6)...)
	f = append(f, target[:]...)
	return append(f, make([]byte, 60-len(f))...) // the shortest frame of Ethernet
}

// A meaning is what a claim means.
type meaning int

const (
	ofOwner     meaning = iota // of the address that it has from here: a sign of life
	ofAnother                  // of an address that another has from here
	ofGateway                  // of the gateway's own
	ofStranger                 // of an address that it does not have from here, nor anybody
	ofMany                     // the same, and too many of them are claimed
	ofElsewhere                // of an address that is nothing to us
	meanings
)

var meaningNames = [meanings]string{"own address", "another's address", "gateway's address", "nobody's address", "one of too many", "not given here"}

// hearARP handles a frame of ARP.
func (s *Server) hearARP(l *link, frame []byte, now time.Time) {
	if c, ok := parseClaim(frame); ok {
		l.claims[s.weigh(l, c, now)].Add(1)
	}
}

// weigh does whatever follows from a claim. An ESP32 announces its address every
// minute, which makes it a heartbeat (F-2).
func (s *Server) weigh(l *link, c claim, now time.Time) meaning {
	if c.addr == l.Gateway.Addr() { // our own frames do not come in
		l.impostor.Store(&impostor{c.from, now})
		s.accuse(l, event.GatewayClaimed, c.from, c.addr, charger.MAC{}, now)
		return ofGateway
	}
	l.asking.answered(c.addr)
	if c.from != c.sender {
		return s.weighForged(l, c, now)
	}
	listed := l.listed(c.sender)
	switch sighting, owner := s.leases.Seen(l.Name, c.addr, c.sender, listed, now); sighting {
	case lease.Owner:
		if at, ok := s.book.At(c.addr); ok && at == c.sender {
			s.book.Heard(c.addr, now)
		}
		return ofOwner
	case lease.Intruder:
		s.accuse(l, event.AddressClaimed, c.sender, c.addr, owner, now)
		return ofAnother
	case lease.Squatter, lease.KnownSquatter:
		kind := event.AddressInUse
		if listed { // it is worth its place in the log, whatever others say
			kind = event.AddressRemembered
			s.book.Uses(c.sender, l.Name, c.addr, now)
		}
		if listed || l.squatting.take(matter{addr: c.addr}, now) {
			s.log.Say(kind, event.MAC(c.sender), event.Network(l.Name), event.IP(c.addr))
		}
		return ofStranger
	case lease.Doubted:
		if l.doubting.take(matter{who: c.sender}, now) {
			s.log.Say(event.ProxyARP, event.MAC(c.sender), event.Network(l.Name), event.F("ADDRESS", c.addr))
		}
		return ofMany
	}
	return ofElsewhere
}

// weighForged is weigh for a message in one device's name and another's frame.
// It proves nothing about who uses the address, and only accuses.
func (s *Server) weighForged(l *link, c claim, now time.Time) meaning {
	b, ok := s.leases.At(c.addr)
	if !ok || b.Network != l.Name || !b.Live(now) {
		return ofElsewhere
	}
	who := c.from
	if who == b.HW {
		who = c.sender
	}
	s.accuse(l, event.AddressClaimed, who, c.addr, b.HW, now)
	return ofAnother
}

// accuse says who claims an address. owner is zero for the gateway's.
func (s *Server) accuse(l *link, kind *event.Kind, who charger.MAC, addr netip.Addr, owner charger.MAC, now time.Time) {
	if !l.accusing.take(matter{who, addr}, now) {
		return
	}
	fields := []event.Field{event.MAC(who), event.Network(l.Name), event.F("ADDRESS", addr)}
	if owner != (charger.MAC{}) {
		fields = append(fields, event.F("OWNER", s.book.NameOf(owner)))
	}
	s.log.Say(kind, fields...)
}

// An impostor claimed the gateway's address.
type impostor struct {
	mac charger.MAC
	at  time.Time
}

// otherDevice names who was seen with an address that another was given, as far
// as it is known.
func (s *Server) otherDevice(hw charger.MAC) event.Field {
	c, listed := s.book.Known(hw)
	switch {
	case hw == (charger.MAC{}):
		return event.F("OTHER", "another device")
	case listed:
		return event.F("OTHER", c.Name)
	}
	return event.F("OTHER", hw)
}
