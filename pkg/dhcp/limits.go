package dhcp

import (
	"sync"
	"time"

	"chargegate/pkg/charger"
)

const (
	// maxDeclines is how many DECLINEs of a client are believed within declinesEvery,
	// and after that one each time that it has passed. A charger that met a conflict
	// has had three other addresses then.
	maxDeclines   = 3
	declinesEvery = time.Hour
	// maxBindings is how many new bindings a client gets at once, and after that
	// one every bindingsEvery. A charger needs one in its life, and one more for
	// each DECLINE that is believed; renewals, repeats and restarts are not new.
	maxBindings   = maxDeclines + 3
	bindingsEvery = 20 * time.Second
	// perAddress is how many new bindings all clients that are not listed get at
	// once for each address that is kept for them, so that a whole garage without
	// an inventory comes online in one go (F-1); after that one every
	// bindingsEvery, together.
	perAddress = 2
	// maxNobodysDeclines and nobodysDeclinesEvery are the same for their DECLINEs.
	maxNobodysDeclines   = 12
	nobodysDeclinesEvery = 10 * time.Minute
	// maxNaks is how many DHCPNAKs a client gets at once, and after that one every
	// naksEvery. A charger needs one when it comes from another network; each is
	// broadcast, at the slowest rate of the radio.
	maxNaks   = 10
	naksEvery = time.Second
	// maxClients bounds how many clients a limit remembers: a network's chargers
	// several times over.
	maxClients = 4096
	// sweepEvery bounds how often a limit that is full looks for clients that can
	// be forgotten.
	sweepEvery = time.Second
)

// A limit lets every client do something a number of times at once, and then
// once in a while. It remembers a bounded number of clients. When made-up MACs
// have filled it, those that are not listed share one more allowance; a listed
// one always has its own.
type limit struct {
	most  int
	every time.Duration // one more is allowed each time that this has passed

	mu      sync.Mutex
	clients map[charger.MAC]*allowance
	crowd   allowance
	swept   time.Time
}

// An allowance is when it was used, as far back as matters.
type allowance struct {
	// full is when all of it can be used again, if none is used until then.
	full   time.Time
	listed bool
}

func newLimit(most int, every time.Duration) *limit {
	return &limit{most: most, every: every, clients: map[charger.MAC]*allowance{}}
}

// allows says whether a client may do it now. It changes nothing.
func (l *limit) allows(hw charger.MAC, listed bool, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.clients[hw]
	switch {
	case a == nil && (listed || l.roomLocked(now)):
		return true
	case a == nil:
		a = &l.crowd
	}
	return a.full.Sub(now) <= time.Duration(l.most-1)*l.every
}

// use notes that a client has done it.
func (l *limit) use(hw charger.MAC, listed bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.clients[hw]
	if a == nil {
		a = l.admitLocked(hw, listed, now)
	}
	if a.full.Before(now) {
		a.full = now
	}
	a.full = a.full.Add(l.every)
}

// admitLocked begins to remember a client, if there is room for it.
func (l *limit) admitLocked(hw charger.MAC, listed bool, now time.Time) *allowance {
	if !l.roomLocked(now) && !(listed && l.evictLocked()) {
		return &l.crowd
	}
	a := &allowance{listed: listed}
	l.clients[hw] = a
	return a
}

// roomLocked says whether one more client can be remembered. It forgets those
// of whom there is nothing left to remember.
func (l *limit) roomLocked(now time.Time) bool {
	if len(l.clients) < maxClients {
		return true
	}
	if now.Sub(l.swept) < sweepEvery {
		return false
	}
	l.swept = now
	for hw, a := range l.clients {
		if !now.Before(a.full) {
			delete(l.clients, hw)
		}
	}
	return len(l.clients) < maxClients
}

// evictLocked forgets one client that is not listed.
func (l *limit) evictLocked() bool {
	for hw, a := range l.clients {
		if !a.listed {
			delete(l.clients, hw)
			return true
		}
	}
	return false
}
