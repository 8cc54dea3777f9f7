package egress

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// A target is a name and a port.
type target struct {
	name string
	port uint16
}

// A way is what is known of how to reach a target.
type way struct {
	good     netip.Addr    // took the last connection; invalid: none is known, or it failed since
	took     time.Duration // and how long it needed
	bad      []stumble     // addresses that failed lately
	searches int           // going on now
	wanted   *finding      // somebody waits for what they find; nil: nobody
	dead     bool          // the last search found nothing
	used     time.Time
}

// A stumble is an address that failed.
type stumble struct {
	addr netip.Addr
	at   time.Time
}

// A finding is what a search came to. addr and err are set when done is closed.
type finding struct {
	done chan struct{}
	addr netip.Addr
	err  error
}

const (
	// maxWays bounds what is remembered: a pattern on the list allows any number
	// of names. Those that were asked for longest ago make room.
	maxWays = 256
	// maxStumbles bounds what is remembered of one: no answer has as many
	// addresses.
	maxStumbles = 32
	// badFor is how long an address that failed stands behind the others.
	badFor = 5 * time.Minute
	// freshPatience is for an address that is known, but not how long it needs.
	freshPatience = time.Second
)

// wayLocked returns what is known of a target, which it enters if it is new.
func (d *dialler) wayLocked(t target) *way {
	now := time.Now()
	w := d.ways[t]
	if w == nil {
		if len(d.ways) >= maxWays {
			d.forgetLocked()
		}
		w = &way{}
		if addr, ok := d.kept[t.name]; ok {
			w.good, w.took = addr, freshPatience/4
		}
		d.ways[t] = w
	}
	w.used = now
	return w
}

// forgetLocked makes room for one more.
func (d *dialler) forgetLocked() {
	var oldest target
	var used time.Time
	for t, w := range d.ways {
		if w.searches == 0 && w.wanted == nil && (used.IsZero() || w.used.Before(used)) {
			oldest, used = t, w.used
		}
	}
	delete(d.ways, oldest)
}

// remembered notes that a name has a connection to an address that somebody else
// made: the process before this one.
func (d *dialler) remembered(name string, addr netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.kept) < maxWays {
		d.kept[name] = addr.Unmap()
	}
}

// straight returns the address that took the last connection, if the name still
// has it, and how long to wait for it: four times as long as it needed then, so
// that a slow link is not taken for a dead one.
func (d *dialler) straight(t target, addrs []netip.Addr) (addr netip.Addr, patience time.Duration, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.wayLocked(t)
	if !w.good.IsValid() || !slices.Contains(addrs, w.good) {
		return netip.Addr{}, 0, false
	}
	return w.good, min(max(4*w.took, stagger), d.attempt), true
}

// enlist returns what others will have found, or says that the caller is to
// search itself and tell (found).
func (d *dialler) enlist(t target) (f *finding, mine bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.wayLocked(t)
	if w.searches < maxSearches {
		w.searches++
		return nil, true
	}
	if w.wanted == nil {
		w.wanted = &finding{done: make(chan struct{})}
	}
	return w.wanted, false
}

// found tells what a search came to.
func (d *dialler) found(t target, addr netip.Addr, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.wayLocked(t)
	w.searches--
	w.dead = err != nil
	w.tellLocked(addr, err)
}

// tellLocked wakes whoever waits.
func (w *way) tellLocked(addr netip.Addr, err error) {
	if w.wanted != nil {
		w.wanted.addr, w.wanted.err = addr, err
		close(w.wanted.done)
		w.wanted = nil
	}
}

// worked notes that an address took a connection.
func (d *dialler) worked(t target, addr netip.Addr, took time.Duration, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.wayLocked(t)
	if w.good == addr {
		took = max(took, w.took-w.took/8)
	}
	w.good, w.took, w.dead = addr, took, false
	if len(w.bad) > 0 {
		w.bad = slices.DeleteFunc(w.bad, func(s stumble) bool { return s.addr == addr || now.Sub(s.at) >= badFor })
	}
	w.tellLocked(addr, nil)
}

// stumbled notes that an address did not take a connection. What this box lacks
// itself is not held against it.
func (d *dialler) stumbled(t target, addr netip.Addr, err error, now time.Time) {
	if wayOf(err) == wayBox {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.wayLocked(t)
	if w.good == addr {
		w.good = netip.Addr{}
	}
	w.bad = slices.DeleteFunc(w.bad, func(s stumble) bool { return s.addr == addr || now.Sub(s.at) >= badFor })
	if len(w.bad) >= maxStumbles {
		w.bad = w.bad[1:]
	}
	w.bad = append(w.bad, stumble{addr, now})
}

// dead reports whether the last search for a target found nothing.
func (d *dialler) dead(t target) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wayLocked(t).dead
}

// order puts the address that took the last connection in front, and those that
// failed lately at the end: who failed longest ago first.
func (d *dialler) order(t target, addrs []netip.Addr) []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	w, now := d.wayLocked(t), time.Now()
	rank := func(a netip.Addr) int64 {
		if a == w.good {
			return -1
		}
		for _, s := range w.bad {
			if s.addr == a && now.Sub(s.at) < badFor {
				return s.at.UnixNano()
			}
		}
		return 0
	}
	ordered := slices.Clone(addrs)
	slices.SortStableFunc(ordered, func(a, b netip.Addr) int { return cmp.Compare(rank(a), rank(b)) })
	return ordered
}
