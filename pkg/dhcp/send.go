package dhcp

import (
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"chargegate/pkg/event"
)

// send sends an answer the way it is to travel. Whoever has an address is sent
// an ordinary datagram. Everybody else gets a frame, broadcast or to one, which
// needs neither an address on our interface nor a neighbour that answers.
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
	case toFrame:
		err = s.sendFrame(a.hw, self, a.route.to, payload)
	default:
		_, err = s.udp.WriteToUDPAddrPort(payload, a.route.to)
	}
	if err != nil {
		l.unsent(a, err)
		return
	}
	l.sent[kindOf(a.reply)].Add(1)
}

func (l *link) unsent(a answer, err error) {
	l.unsentReplies.Add(1)
	if l.crowd.Allow() {
		l.log.Say(event.DHCPSendFailed, event.MAC(a.hw), event.Network(l.Name), event.Err(err))
	}
}
