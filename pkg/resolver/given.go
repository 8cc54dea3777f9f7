package resolver

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// maxGiven bounds the addresses, and maxSharing the names of each, whose
	// connection is remembered. Many hubs share one address.
	maxGiven   = 4096
	maxSharing = 16
	// givenFor is how long a connection is remembered after it was last given
	// out: far beyond any TTL, because a charger goes on with the address it has.
	givenFor = 7 * 24 * time.Hour
)

// A given remembers which names had which address. The exact names of the list have
// room of their own: whoever owns a name that a pattern holds can give it any
// address, and as many as he likes. It is safe for concurrent use.
type given struct {
	mu            sync.Mutex
	exact, others *lru[netip.Addr, []gift]
}

type gift struct {
	name string // lower case, without the final dot
	last time.Time
}

func newGiven() *given {
	return &given{exact: newLRU[netip.Addr, []gift](maxGiven), others: newLRU[netip.Addr, []gift](maxGiven)}
}

// note remembers that the name, a key, has these addresses now. exact means that the
// list holds the name itself.
func (g *given) note(name string, exact bool, addrs []netip.Addr, now time.Time) {
	name = plain(name)
	names := g.others
	if exact {
		names = g.exact
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, addr := range addrs {
		gifts, _ := names.get(addr)
		i := slices.IndexFunc(gifts, func(x gift) bool { return x.name == name })
		switch {
		case i >= 0:
			gifts[i].last = now
		case len(gifts) < maxSharing:
			gifts = append(gifts, gift{name, now})
		default: // the one that was silent longest makes room
			oldest := slices.MinFunc(gifts, func(a, b gift) int { return a.last.Compare(b.last) })
			gifts[slices.Index(gifts, oldest)] = gift{name, now}
		}
		names.put(addr, gifts)
	}
}

// at returns the names that had the address, in alphabetical order.
func (g *given) at(addr netip.Addr, now time.Time) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var names []string
	for _, l := range []*lru[netip.Addr, []gift]{g.exact, g.others} {
		gifts, _ := l.get(addr)
		for _, x := range gifts {
			if now.Sub(x.last) < givenFor {
				names = append(names, x.name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names) // one may have moved from a pattern to a name
}
