package denied

import (
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// tell says a refusal in the name of the charger whose MAC is on the frame.
func (s *Server) tell(n Network, r refusal, now time.Time) {
	if addr, ok := s.holder(r.mac); ok {
		if r.class == noise {
			s.book.Heard(addr, now)
		} else {
			s.book.Refused(addr, r.what, now)
		}
	}
	kind := kindOf(r.class)
	who := []event.Field{event.MAC(r.mac), event.Network(n.Name)}
	_, known := s.book.Known(r.mac)
	known = known || s.book.Inventory("") == 0 // without a list everybody is a charger
	switch s.budget.take(r.mac.String(), thing(kind, r), known, now) {
	case enough:
		return
	case crowd:
		s.log.Say(event.DeniedManyDevices, event.Network(n.Name), event.F("COUNT", maxStrangers))
		return
	case last:
		s.log.Say(event.DeniedManyRefusals, append(who, event.F("COUNT", maxThings))...)
		return
	}
	fields := append(who, event.F("WHAT", r.what), event.F("SRC", r.src), event.F("DST", r.dst), event.F("PROTO", r.proto))
	if r.port != 0 {
		fields = append(fields, event.F("PORT", r.port))
	}
	s.log.Say(kind, fields...)
}

func kindOf(c class) *event.Kind {
	switch c {
	case direct:
		return event.DeniedDirect
	case spoofed:
		return event.DeniedSpoofed
	case noise:
		return event.DeniedNoise
	}
	return event.DeniedRefused
}

// holder returns the address that the book has for a MAC, if the MAC still
// holds it: the address on the frame may be anybody's.
func (s *Server) holder(mac charger.MAC) (netip.Addr, bool) {
	_, addr := s.book.Where(mac)
	if !addr.IsValid() {
		return netip.Addr{}, false
	}
	holder, ok := s.book.At(addr)
	return addr, ok && holder == mac
}

// tellUplink says who was refused on the uplink.
func (s *Server) tellUplink(ifname string, r refusal, now time.Time) {
	if s.budget.take("uplink", r.src.String(), true, now) != written {
		return
	}
	s.log.Say(event.DeniedUplink, event.F("SRC", r.src), event.F("WHAT", r.what), event.F("INTERFACE", ifname),
		event.F("DST", r.dst), event.F("PROTO", r.proto), event.F("PORT", r.port))
}

// thing is what makes two refusals of one charger the same.
func thing(kind *event.Kind, r refusal) string {
	return fmt.Sprint(kind.ID, r.dst, r.proto, r.port)
}

// survive keeps a fault of ours to the frame it happened on.
func (s *Server) survive() {
	p := recover()
	if p == nil {
		return
	}
	s.panics.Add(1)
	s.log.Say(event.PanicRecovered, event.F("SERVICE", s.Name()), event.F("ERROR", fmt.Sprint(p)),
		event.F("STACK", string(debug.Stack())))
}
