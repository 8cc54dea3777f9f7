// Package limit lets each device ask only so often, in bounded memory whoever
// asks. What becomes of those who ask too often it leaves to the room.
package limit

import (
	"net/netip"
	"sync"
	"time"
)

// maxAskers bounds the devices that are told apart: twice what the largest
// configuration has. Those beyond share what one may have.
const maxAskers = 4096

// A Limiter counts for each device by the generic cell rate algorithm (ITU-T
// I.371): it keeps the moment until which the device has used up what it may
// have, and nothing else. It is safe for concurrent use.
type Limiter struct {
	interval time.Duration // between two, at the steady rate
	burst    time.Duration // what may be used up ahead of the rate

	mu    sync.Mutex
	until map[netip.Addr]time.Time
	swept time.Time
}

// New makes a limiter that lets each device through so many times a second on
// average, and so many times at once after a rest. Both are at least 1.
func New(perSecond, burst int) *Limiter {
	return Every(time.Second/time.Duration(max(perSecond, 1)), burst)
}

// Every makes a limiter that lets each device through once in an interval on
// average.
func Every(interval time.Duration, burst int) *Limiter {
	return &Limiter{interval: interval, burst: interval * time.Duration(max(burst, 1)-1), until: map[netip.Addr]time.Time{}}
}

// Allow reports whether a device may ask now, and counts it if so. now carries
// the monotonic clock.
func (l *Limiter) Allow(who netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, known := l.until[who]
	if !known && len(l.until) >= maxAskers {
		who = l.makeRoom(who, now)
		until = l.until[who]
	}
	if ahead := until.Sub(now); ahead > l.burst {
		return false
	} else if ahead < 0 {
		until = now
	}
	l.until[who] = until.Add(l.interval)
	return true
}

// makeRoom forgets those who have rested, at most once a second, and returns
// under which address the newcomer is counted.
func (l *Limiter) makeRoom(who netip.Addr, now time.Time) netip.Addr {
	if now.Sub(l.swept) >= time.Second {
		l.swept = now
		for other, until := range l.until {
			if !until.After(now) {
				delete(l.until, other)
			}
		}
	}
	if len(l.until) >= maxAskers {
		return netip.Addr{}
	}
	return who
}

// Known returns how many devices are remembered.
func (l *Limiter) Known() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.until)
}
