package resolver

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// apiLately is for how long after api.zaptec.com a refused name may be the one
	// that its answer sent the charger to (F-7).
	apiLately = 2 * time.Minute
	// maxLately bounds the devices that are remembered.
	maxLately = 4096
	// hintedFor is how long a name that was pointed out as one that firmware may come
	// from is not pointed out again, whoever asks for it, and maxHinted bounds these
	// names.
	hintedFor = time.Hour
	maxHinted = 256
)

// lately remembers who was told not long ago where Zaptec's API is, which names
// the host that firmware comes from. It is safe for concurrent use.
type lately struct {
	shouted atomic.Bool // some name was refused right after

	mu     sync.Mutex
	told   *lru[netip.Addr, time.Time]
	hinted *lru[string, time.Time]
}

func newLately() *lately {
	return &lately{told: newLRU[netip.Addr, time.Time](maxLately), hinted: newLRU[string, time.Time](maxHinted)}
}

// hint reports whether a name is to be pointed out now: once for the whole garage.
func (l *lately) hint(name string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.hinted.get(name); ok && now.Sub(at) < hintedFor {
		return false
	}
	l.hinted.put(name, now)
	return true
}

// note remembers that a device was told.
func (l *lately) note(who netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told.put(who, now)
}

// was reports whether a device was told within apiLately.
func (l *lately) was(who netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.told.get(who)
	return ok && now.Sub(at) < apiLately
}
