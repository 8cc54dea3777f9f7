package dhcp

import (
	"net"
	"net/netip"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// lasts is how long something has to be missing before it is said: an interface
// that comes up, or is made anew, goes through it.
const lasts = 10 * time.Second

// A condition is something that an interface needs and may lack.
type condition struct {
	since time.Time // zero: nothing is missing
	said  bool
}

// next takes a look, and returns whether to say now that it is missing, or that
// it is there again after that had been said.
func (c *condition) next(missing bool, now time.Time) (sayMissing, sayBack bool) {
	switch {
	case !missing:
		sayBack = c.said
		*c = condition{}
	case c.since.IsZero():
		c.since = now
	case !c.said && now.Sub(c.since) >= lasts:
		c.said, sayMissing = true, true
	}
	return sayMissing, sayBack
}

// look looks whether the interface has a carrier and the gateway's address.
func (l *link) look(s *sockets, now time.Time) {
	ifi, err := net.InterfaceByIndex(s.index)
	if err != nil {
		return // it is just going
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return
	}
	l.off.Store(ifi.Flags&net.FlagUp == 0)
	l.judge(ifi.Flags&net.FlagRunning != 0, holds(addrs, l.Gateway.Addr()), now)
}

// judge draws the conclusions. Without a carrier nothing is said about the
// address: who sets it may wait for the carrier.
func (l *link) judge(carrier, address bool, now time.Time) {
	l.bare.Store(!address)
	if l.dark.Swap(!carrier) == carrier {
		l.blindness.Add(1)
	}
	about := []event.Field{event.Network(l.Name), event.F("INTERFACE", l.Interface), event.F("ADDRESS", l.Gateway.Addr())}
	tell := func(c *condition, missing bool, gone, back *event.Kind) {
		switch sayMissing, sayBack := c.next(missing, now); {
		case sayMissing:
			l.log.Say(gone, about...)
		case sayBack:
			l.log.Say(back, about...)
		}
	}
	tell(&l.carrier, !carrier, event.NoCarrier, event.CarrierBack)
	if carrier {
		tell(&l.address, !address, event.NoAddress, event.AddressBack)
	}
}

func holds(addrs []net.Addr, want netip.Addr) bool {
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if has, ok := netip.AddrFromSlice(n.IP); ok && has.Unmap() == want {
				return true
			}
		}
	}
	return false
}

// closed says why nobody is answered on the network now; fine: everybody is.
func (l *link) closed() reason {
	if l.bare.Load() {
		return noAddress
	}
	if _, down := l.place.down(); down {
		return standsDown
	}
	return fine
}

// hardware returns an interface's MAC, zero if it has none.
func hardware(index int) charger.MAC {
	ifi, err := net.InterfaceByIndex(index)
	if err != nil || len(ifi.HardwareAddr) != len(charger.MAC{}) {
		return charger.MAC{}
	}
	return charger.MAC(ifi.HardwareAddr)
}
