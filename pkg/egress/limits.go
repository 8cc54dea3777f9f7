package egress

import (
	"net/netip"
	"sync"
	"time"
)

// A place is what came of asking for one.
type place int

const (
	placeTaken  place = iota
	chargerFull       // the charger has its share: its newest is refused, never another's
	houseFull         // there is none left for anybody
)

// places bounds how many calls are open, for each charger and in all. A call
// counts from its first packet, so that silent ones are bounded too.
type places struct {
	perCharger, total int

	mu   sync.Mutex
	held map[netip.Addr]int
	sum  int
}

func (p *places) take(caller netip.Addr) place {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.held[caller] >= p.perCharger:
		return chargerFull
	case p.sum >= p.total:
		return houseFull
	}
	p.held[caller]++
	p.sum++
	return placeTaken
}

func (p *places) give(caller netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sum--
	if p.held[caller]--; p.held[caller] == 0 {
		delete(p.held, caller)
	}
}

// open returns how many places are taken.
func (p *places) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sum
}

// maxRefusals is how many refusals of one charger are written in an hour. What
// a stranger asks for it can make up without end; the log has one.
const maxRefusals = 30

// refusals counts what was said of each caller within the hour.
type refusals struct {
	mu   sync.Mutex
	said map[netip.Addr]*said
}

type said struct {
	since time.Time
	n     int
}

// note counts a refusal and returns how many there were within the hour that
// runs. Callers come from the chargers' subnets only, which bounds the map;
// those that were quiet for an hour are forgotten all the same.
func (r *refusals) note(caller netip.Addr, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.said[caller]
	if s == nil {
		if len(r.said) >= 256 {
			for a, old := range r.said {
				if now.Sub(old.since) >= time.Hour {
					delete(r.said, a)
				}
			}
		}
		s = &said{since: now}
		r.said[caller] = s
	}
	if now.Sub(s.since) >= time.Hour {
		*s = said{since: now}
	}
	s.n++
	return s.n
}
