package egress

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"chargegate/pkg/charger"
)

// A share is who counts as one caller: the device that holds the lease, whatever
// addresses it writes on its packets, or all callers of one network together
// that hold none. A device can take any free address of its subnet, but only
// one lease; who copies its MAC on another network does not take its places. The zero value is everybody from elsewhere.
type share struct {
	mac     charger.MAC
	network netip.Prefix
}

// leased reports whether it is the share of one device.
func (sh share) leased() bool { return sh.mac != charger.MAC{} }

// shareOf returns the share that a caller counts to now.
func (s *Server) shareOf(caller netip.Addr) share {
	mac, _ := s.book.At(caller)
	if i := slices.IndexFunc(s.cfg.Networks, func(p netip.Prefix) bool { return p.Contains(caller) }); i >= 0 {
		return share{mac, s.cfg.Networks[i].Masked()}
	}
	return share{mac: mac}
}

// A place is what came of asking for one.
type place int

const (
	placeTaken place = iota
	shareFull        // the caller's share is taken: its newest is refused, never another's
	houseFull        // there is none left for anybody
)

// places bounds how many calls are open, of each share and in all. A call
// counts from its first packet, so that silent ones are bounded too.
type places struct {
	perShare, total int

	mu   sync.Mutex
	held map[share]int
	sum  int
}

func (p *places) take(sh share) place {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.held[sh] >= p.perShare:
		return shareFull
	case p.sum >= p.total:
		return houseFull
	}
	p.held[sh]++
	p.sum++
	return placeTaken
}

// give returns a place to the share that it was taken from.
func (p *places) give(sh share) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sum--
	if p.held[sh]--; p.held[sh] == 0 {
		delete(p.held, sh)
	}
}

// open returns how many places are taken.
func (p *places) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sum
}

// maxRefusals is how many refusals of one share are written in an hour. What
// a stranger asks for it can make up without end; the log has one.
const maxRefusals = 30

// refusals counts what was said of each share within the hour.
type refusals struct {
	mu   sync.Mutex
	said map[share]*said
}

type said struct {
	since time.Time
	n     int
}

// note counts a refusal and returns how many there were within the hour that
// runs. There are as many shares as leases and networks, which bounds the map;
// those that were quiet for an hour are forgotten all the same.
func (r *refusals) note(sh share, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.said[sh]
	if s == nil {
		if len(r.said) >= 256 {
			for quiet, old := range r.said {
				if now.Sub(old.since) >= time.Hour {
					delete(r.said, quiet)
				}
			}
		}
		s = &said{since: now}
		r.said[sh] = s
	}
	if now.Sub(s.since) >= time.Hour {
		*s = said{since: now}
	}
	s.n++
	return s.n
}
