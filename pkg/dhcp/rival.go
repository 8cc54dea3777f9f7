package dhcp

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// Two chargegates on one segment would give the same addresses to different
// chargers. So each asks first: its DISCOVER, with which it looks for any other
// server, carries vendorClass in option 60, and a chargegate that gives addresses
// answers that with a DHCPNAK, which offers nothing and no client takes for its
// own. The NAK carries vendorClass as well, and a mark in option 56 (RFC 2131,
// table 3, allows both).
//
//   - Who serves already stays, and who starts stands down when it hears that.
//   - Of two that start within the same second the one with the lower MAC stays.
//   - Who stands down looks again every half minute, and serves when nobody
//     has answered twice.
//   - Who has given somebody an address of the network, and knows it from its disk,
//     serves from its start and never stands down. If another answers it says so.
//   - Two that both serve when their segments are joined go on, and both say that
//     there is another server: which of the two is in the right is not for a
//     program to say.
//
// Nothing on a network without keys proves who wrote a mark. A forged one can do
// nothing to a chargegate that serves or has served. It can keep a new one from its
// first address, for as long as the forger is there and answers; the event names
// its MAC. On a radio of its own a chargegate never stands down: no other box can be
// there.
const vendorClass = "chargegate"

// A mark is what a chargegate says of itself.
type mark string

const (
	unmarked mark = ""
	starting mark = "starting"
	serving  mark = "serving"
)

// isProbe says whether a query is another chargegate's question who is there.
func (q query) isProbe() bool {
	return q.kind == dhcpv4.MessageTypeDiscover && q.ClassIdentifier() == vendorClass
}

// probe is the question who gives addresses here.
func probe(self charger.MAC, xid dhcpv4.TransactionID) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootRequest, HWType: iana.HWTypeEthernet, TransactionID: xid, ClientHWAddr: self[:],
		Options: dhcpv4.OptionsFromList(dhcpv4.OptMessageType(dhcpv4.MessageTypeDiscover), dhcpv4.OptClassIdentifier(vendorClass))}
	m.SetBroadcast()
	return m
}

// marked is the answer to another chargegate's question.
func (l *link) marked(q query, says mark) *dhcpv4.DHCPv4 {
	r := l.reply(q, dhcpv4.MessageTypeNak)
	r.UpdateOption(dhcpv4.OptClassIdentifier(vendorClass))
	r.UpdateOption(dhcpv4.OptMessage(string(says)))
	return r
}

// newXID draws a transaction id. It need not be hard to guess: everybody hears it.
func newXID() dhcpv4.TransactionID {
	n := rand.Uint32()
	return dhcpv4.TransactionID{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// A place is whether a chargegate serves a network or leaves it to another.
type place struct {
	mu    sync.Mutex
	stage stage
	xid   dhcpv4.TransactionID // of the last question
	other rogue                // for whom it stands down
	heard bool                 // since the last look
	quiet int                  // looks in a row that found nobody
}

type stage int

const (
	isStarting stage = iota // serves, and gives way
	isServing               // serves, and stays
	isDown                  // leaves it to another
)

// A verdict is what another server's message means for the place.
type verdict int

const (
	aRogue verdict = iota // there is another server
	nothingNew
	givesWay // this one stands down
)

// begin starts anew, when the interface is there; who had stood down still does.
func (p *place) begin(steadfast bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stage == isDown:
	case steadfast:
		p.stage = isServing
	default:
		p.stage = isStarting
	}
}

// settle ends the start: whoever still serves stays.
func (p *place) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stage == isStarting {
		p.stage = isServing
	}
}

// asks notes the question that is being asked.
func (p *place) asks(xid dhcpv4.TransactionID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.xid = xid
}

// hear weighs what another server says to self.
func (p *place) hear(f foreign, self charger.MAC) verdict {
	if f.mark == unmarked {
		return aRogue
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case f.to != self || f.xid != p.xid:
		return nothingNew
	case p.stage == isDown:
		p.heard, p.other = true, rogue{mac: f.from, server: f.server}
		return nothingNew
	case p.stage == isStarting && (f.mark == serving || bytes.Compare(f.from[:], self[:]) < 0):
		p.stage, p.heard, p.quiet = isDown, true, 0
		p.other = rogue{mac: f.from, server: f.server}
		return givesWay
	case f.mark == starting:
		return nothingNew // it will give way
	}
	return aRogue
}

// looked ends a look, and says whether the other has gone and this one serves.
func (p *place) looked() (resumed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stage != isDown {
		return false
	}
	p.quiet++
	if p.heard {
		p.quiet = 0
	}
	p.heard = false
	if p.quiet < goneAfter {
		return false
	}
	p.stage = isServing
	return true
}

// down says whether another serves instead, and who.
func (p *place) down() (other rogue, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.other, p.stage == isDown
}

// says is what another chargegate is told: unmarked is nothing.
func (p *place) says() mark {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.stage {
	case isStarting:
		return starting
	case isServing:
		return serving
	}
	return unmarked
}

// meet answers the question of another chargegate. Our own, which a switch may
// bring back, is not answered, and neither is one that was relayed: the answer is a
// DHCPNAK, which must reach nobody but who asked.
func (s *Server) meet(l *link, q query, now time.Time) {
	l.drop(ofChargegate)
	says := l.place.says()
	socket := l.current()
	if says == unmarked || socket == nil || l.bare.Load() || q.giaddr.IsValid() || s.owns(q.hw) || !l.marks.AllowN(now, 1) {
		return
	}
	self := netip.AddrPortFrom(l.Gateway.Addr(), dhcpv4.ServerPort)
	to := netip.AddrPortFrom(everybody, dhcpv4.ClientPort)
	if err := socket.sendFrame(q.hw, self, to, l.marked(q, says).ToBytes()); err != nil {
		l.unsent(answer{hw: q.hw}, err)
	}
}

// owns says whether a MAC is that of one of this box's networks.
func (s *Server) owns(hw charger.MAC) bool {
	for _, l := range s.links {
		if c := l.current(); c != nil && c.hw == hw {
			return true
		}
	}
	return false
}

// hearForeign handles a frame to a client.
func (s *Server) hearForeign(l *link, frame []byte, now time.Time) {
	if f, ok := parseForeign(frame); ok {
		s.overhear(l, f, now)
	}
}

// overhear does whatever follows from what another server says.
func (s *Server) overhear(l *link, f foreign, now time.Time) {
	socket := l.current()
	if socket == nil || s.owns(f.from) || l.relays(f.relay) && f.server == l.Gateway.Addr() {
		return // ours, brought back by a switch or passed on by a relay agent of the network
	}
	who := []event.Field{event.MAC(f.from), event.Network(l.Name), event.F("SERVER", f.server)}
	switch l.place.hear(f, socket.hw) {
	case givesWay:
		s.log.Say(event.AnotherChargegate, who...)
	case aRogue:
		l.foreignReplies[index(f.kind)].Add(1)
		if l.rogues.hear(f, now) && l.foreignQuota.take(matter{who: f.from}, now) {
			s.log.Say(event.RogueServer, who...)
		}
	}
}
