package dhcp

import (
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"chargegate/pkg/event"
)

// send sends an answer the way it is to travel. A relay agent is sent an ordinary
// datagram. Everybody else gets a frame, broadcast or to one, which needs neither
// an address on our interface nor a neighbour that answers. That goes for clients
// that have an address, too: the kernel knows where it is from whoever said so
// last by ARP, while the request has come in a frame of the client's own.
func (l *link) send(a answer) {
	s := l.current()
	if s == nil {
		l.unsent(a, errNoInterface)
		return
	}
	payload, self := a.reply.ToBytes(), netip.AddrPortFrom(l.Gateway.Addr(), dhcpv4.ServerPort)
	var err error
	switch a.route.way {
	case toAll:
		err = s.sendFrame([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, self, a.route.to, payload)
	case toRelay:
		err = s.sendDatagram(a.route.to, payload)
	default:
		err = s.sendFrame(a.hw, self, a.route.to, payload)
	}
	if err != nil {
		l.unsent(a, err)
		return
	}
	l.sent[kindOf(a.reply)].Add(1)
}

// unsent notes that an answer could not be sent. The client asks again.
func (l *link) unsent(a answer, err error) {
	if noRoom(err) {
		l.stuck.Add(1)
		l.log.Say(event.DHCPSendFull, event.Network(l.Name), event.F("INTERFACE", l.Interface))
		return
	}
	l.unsentReplies.Add(1)
	if l.crowd.Allow() {
		l.log.Say(event.DHCPSendFailed, event.MAC(a.hw), event.Network(l.Name), event.Err(err))
	}
}
