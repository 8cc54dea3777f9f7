package dhcp

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// work answers what is queued in a lane of a network until stop is closed and
// nothing waits.
func (s *Server) work(l *link, waits lane, stop <-chan struct{}) {
	for {
		p := waits.next()
		if p == nil {
			select {
			case p = <-waits.regulars:
			case p = <-waits.queue:
			case <-stop:
				if p = waits.next(); p == nil {
					return
				}
			}
		}
		s.safely(l, func() { s.handle(l, p) })
	}
}

// next takes a packet that waits, the regulars' first; nil if none does.
func (l lane) next() *packet {
	select {
	case p := <-l.regulars:
		return p
	default:
	}
	select {
	case p := <-l.queue:
		return p
	default:
		return nil
	}
}

// settle sends the answers that wait for the disk. While it waits for the first
// the others line up, and the one write of the first serves them all. It ends
// when end is closed and nothing waits.
func (s *Server) settle(end <-chan struct{}) {
	for {
		select {
		case p := <-s.promises:
			s.safely(p.link, func() { s.deliver(p.link, p.answer, time.Now()) })
		case <-end:
			for {
				select {
				case p := <-s.promises:
					s.safely(p.link, func() { s.deliver(p.link, p.answer, time.Now()) })
				default:
					return
				}
			}
		}
	}
}

// safely keeps a fault that a packet brings to light from ending the daemon.
func (s *Server) safely(l *link, f func()) {
	defer func() {
		if r := recover(); r != nil {
			l.panics.Add(1)
			s.log.Say(event.PanicRecovered, event.F("SERVICE", s.Name()), event.Network(l.Name),
				event.F("ERROR", fmt.Sprint(r)), event.F("STACK", string(debug.Stack())))
		}
	}()
	f()
}

// handle answers one packet.
func (s *Server) handle(l *link, p *packet) {
	q, drop := read(p.bytes(), l.Network)
	l.packets.Put(p)
	now := time.Now()
	if drop != fine {
		l.drop(drop)
		if drop == strangeRelay && l.relaying.take(matter{who: q.sender}, now) {
			s.log.Say(event.RelayUnknown, event.MAC(q.sender), event.Network(l.Name))
		}
		return
	}
	l.count(q.kind)
	q.known, q.listed = s.known(l, q.hw)
	if q.forged() {
		s.deliver(l, forgery(q), now)
		return
	}
	if q.isProbe() {
		s.meet(l, q, now)
		return
	}
	if q.kind == dhcpv4.MessageTypeDiscover { // it has just booted, or lost its address
		s.book.Asked(q.hw, l.Name, q.HostName(), now)
		s.strayed(l, q)
	}
	if why := l.closed(); why != fine {
		l.drop(why)
		return
	}
	q.repeats = l.repeats.count(q, now)
	a := l.answer(q, now)
	if !s.leases.Pending(a.ticket) {
		s.deliver(l, a, now)
		return
	}
	select {
	case s.promises <- promise{l, a}:
	default:
		l.full() // the disk hangs; the client asks again
	}
}

// known says whether a MAC gets a charger's address on a network, and whether the
// inventory names it there. Without an inventory every device may be a charger.
func (s *Server) known(l *link, hw charger.MAC) (known, listed bool) {
	if l.listed(hw) {
		return true, true
	}
	return s.book.Inventory("") == 0, false
}

// listedOn says whether the inventory names a MAC as a charger of a network. One
// of another network is a stranger: anybody can write it.
func listedOn(book *charger.Book, network string, hw charger.MAC) bool {
	c, ok := book.Known(hw)
	return ok && c.On(network)
}

// strayed says that somebody asks with the MAC of another network's charger.
func (s *Server) strayed(l *link, q query) {
	if c, ok := s.book.Known(q.hw); ok && !c.On(l.Name) {
		s.log.Say(event.ChargerElsewhere, event.MAC(q.hw), event.Network(l.Name), event.F("NAME", c.Name), event.F("HOME", c.Network))
	}
}

// teach tells the book what the table says of a client now. A RELEASE is done at
// once, while the ACK before it may still wait for the disk: whichever comes last,
// the book ends up with what is.
func (s *Server) teach(l *link, hw charger.MAC) {
	l.lessons.Lock()
	defer l.lessons.Unlock()
	now := time.Now() // and not when the message came, which may be before what the table says
	if b, ok := s.leases.Lookup(l.Name, hw); ok && b.Live(now) {
		s.book.Leased(hw, l.Name, b.Addr, true, now)
	} else {
		s.book.Unleased(hw, l.Name, now)
	}
}

// deliver makes an answer durable, and then does everything that follows from
// it.
func (s *Server) deliver(l *link, a answer, now time.Time) {
	if err := s.leases.Commit(a.ticket); err != nil {
		s.disk.failed(s.log, err) // it is in force all the same
	}
	if a.learn != nothing {
		s.teach(l, a.hw)
	}
	if a.drop != fine {
		l.drop(a.drop)
	}
	if a.kind == event.LeaseDeclined {
		a.fields = append(a.fields, s.otherDevice(a.other))
		l.asking.nudge() // whoever uses the address is looked for at once
	}
	if a.reply != nil {
		l.send(a)
	}
	if a.kind == nil || a.crowd && !l.crowd.AllowN(now, 1) {
		return
	}
	s.log.Say(a.kind, append(a.fields, event.MAC(a.hw), event.Network(l.Name))...)
}
