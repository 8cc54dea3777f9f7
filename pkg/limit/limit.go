// Package limit lets each device ask only so often, in bounded memory whoever
// asks. What becomes of those who ask too often it leaves to the room.
package limit

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxAskers bounds the devices that are told apart: twice what the largest
	// configuration has.
	maxAskers = 4096
	// looked is how many of them are looked at when one must be forgotten.
	looked = 8
	// leaking is of how many that are over the rate one leaks, by chance.
	leaking = 4
	// leakEvery is the time between two that leak, of all devices together: 2000 a
	// second, which any machine answers beside its work; leakBurst is how far ahead
	// of that they may come.
	leakEvery = time.Second / 2000
	leakBurst = 200 * leakEvery
)

// A Limiter counts for each device by the generic cell rate algorithm (ITU-T
// I.371): it keeps the moment until which the device has used up what it may
// have, and nothing else. It is safe for concurrent use.
type Limiter struct {
	interval time.Duration // between two, at the steady rate
	burst    time.Duration // what may be used up ahead of the rate

	mu    sync.Mutex
	until map[netip.Addr]time.Time
	leaks time.Time // until when the leak is used up
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
		l.makeRoom()
	}
	if ahead := until.Sub(now); ahead > l.burst {
		return false
	} else if ahead < 0 {
		until = now
	}
	l.until[who] = until.Add(l.interval)
	return true
}

// makeRoom forgets the one of some, taken by chance, that has rested longest: made-up
// addresses, as a rule. A device that asks too much is the last to be forgotten, and
// a newcomer is never kept out by however many others.
func (l *Limiter) makeRoom() {
	var rested netip.Addr
	var least time.Time
	n := 0
	for other, until := range l.until { // begins somewhere each time
		if n == 0 || until.Before(least) {
			rested, least = other, until
		}
		if n++; n >= looked {
			break
		}
	}
	delete(l.until, rested)
}

// Leak reports whether one that Allow refused is let through all the same: a quarter
// of them by chance, and 2000 a second of all devices. Whoever sends under another
// device's address uses up what that device may ask; it gets an answer all the same
// when it asks again.
func (l *Limiter) Leak(now time.Time) bool {
	if rand.N(leaking) != 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leaks.Sub(now) > leakBurst {
		return false
	}
	if l.leaks.Before(now) {
		l.leaks = now
	}
	l.leaks = l.leaks.Add(leakEvery)
	return true
}

// Known returns how many devices are remembered.
func (l *Limiter) Known() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.until)
}
