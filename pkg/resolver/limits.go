package resolver

import (
	"net/netip"
	"time"

	"chargegate/pkg/event"
)

// mayAsk reports whether a device may ask now, and counts the question if so.
// The transports ask it once for each message; who asks too much hears nothing,
// because an answer of any kind would cost as much as the question. Some of that
// leaks, so that whoever asks under a charger's address does not silence it: a name
// that is asked for three or four times is heard. The house itself, on loopback, may
// always ask. now carries the monotonic clock.
func (s *Server) mayAsk(from netip.Addr, now time.Time) bool {
	if from.IsLoopback() || s.limit.Allow(from, now) || s.limit.Leak(now) {
		return true
	}
	s.count.limited.Add(1)
	if s.scold.Allow(from, now) { // a flood must not cost the log more than a look now and then
		s.log.Say(event.ResolverAskedTooMuch, event.IP(from), event.F("RATE", s.cfg.Rate))
	}
	return false
}
