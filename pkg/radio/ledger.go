package radio

import (
	"time"

	"chargegate/pkg/charger"
)

const (
	// maxEntries bounds the devices that nobody knows of which a ledger remembers
	// something. Whoever makes up MACs pushes out others like it, and never a charger
	// of the inventory: those the inventory bounds.
	maxEntries = 64
	// again is how long nothing more is said of one device.
	again = time.Hour
	// maxStrangers is how many devices that the inventory does not name are said one by
	// one within again; more are said as a number.
	maxStrangers = 5
	// attempt is how far apart two signs of the same attempt may be: hostapd asks four
	// times, a second apart.
	attempt = 5 * time.Second
)

// convinced is how many attempts in a row make a doubtful sign certain. A station
// answers with the right passphrase and yet wrongly when the access point has begun
// anew meanwhile, as after a restart of hostapd.
const convinced = 3

// A ledger counts, for each device, how often it has tried in vain.
type ledger struct {
	doubtful bool // a single sign proves nothing; see convinced

	entries   map[charger.MAC]*entry
	hour      time.Time // when the present hour of strangers began
	strangers int       // said in it
	held      int       // not said in it, beyond maxStrangers
}

// An entry is one device's.
type entry struct {
	tries int       // since something was last said
	since time.Time // the first of them
	last  time.Time // the last sign
	said  time.Time // zero: never
	open  bool      // the attempt of the last sign is not over
	known bool      // the inventory names it
}

// A finding is what came of one sign.
type finding struct {
	attempt bool          // it is a new attempt
	tries   int           // since the last word of it; 0: there is nothing to say
	certain bool          // it is no chance
	span    time.Duration // from the first of them
	crowd   int           // so many strangers in this hour are not said one by one; 0: nothing to say of that
}

// note takes one sign of a device that tries in vain. known tells that the inventory
// names it.
func (l *ledger) note(mac charger.MAC, known bool, now time.Time) finding {
	e := l.entry(mac, known)
	var f finding
	if !e.open || now.Sub(e.last) >= attempt {
		f.attempt = true
		if e.tries++; e.tries == 1 {
			e.since = now
		}
	}
	e.open, e.last = true, now
	f.certain = !l.doubtful || !e.said.IsZero() || e.tries >= convinced
	if !f.certain || !f.attempt || !e.said.IsZero() && now.Sub(e.said) < again {
		return f
	}
	if !known && !l.maySay(now, &f) {
		e.said = now // it is said as one of many
		return f
	}
	f.tries, f.span = e.tries, now.Sub(e.since)
	e.tries, e.said = 0, now
	return f
}

// maySay counts a stranger of this hour. The first one too many is said as a number.
func (l *ledger) maySay(now time.Time, f *finding) bool {
	if l.hour.IsZero() || now.Sub(l.hour) >= again {
		l.hour, l.strangers, l.held = now, 0, 0
	}
	if l.strangers < maxStrangers {
		l.strangers++
		return true
	}
	if l.held++; l.held == 1 {
		f.crowd = maxStrangers + 1
	}
	return false
}

// over ends a device's attempt; the next sign is of a new one.
func (l *ledger) over(mac charger.MAC) {
	if e := l.entries[mac]; e != nil {
		e.open = false
	}
}

// trying says whether a device is in the middle of an attempt.
func (l *ledger) trying(mac charger.MAC, now time.Time) bool {
	e := l.entries[mac]
	return e != nil && now.Sub(e.last) < attempt
}

// forget tells that a device has come in: whatever it tried is over. That something was
// said of it within the hour stays known.
func (l *ledger) forget(mac charger.MAC) {
	if e := l.entries[mac]; e != nil {
		e.open, e.last, e.tries = false, time.Time{}, 0
	}
}

// entry finds or makes a device's entry.
func (l *ledger) entry(mac charger.MAC, known bool) *entry {
	if l.entries == nil {
		l.entries = map[charger.MAC]*entry{}
	}
	e := l.entries[mac]
	if e == nil {
		if !known {
			l.makeRoom()
		}
		e = &entry{}
		l.entries[mac] = e
	}
	e.known = known
	return e
}

// makeRoom forgets the stranger that was silent longest, where there are as many as may
// be.
func (l *ledger) makeRoom() {
	var oldest charger.MAC
	var at *entry
	n := 0
	for mac, e := range l.entries {
		if e.known {
			continue
		}
		if n++; at == nil || e.last.Before(at.last) {
			oldest, at = mac, e
		}
	}
	if n >= maxEntries {
		delete(l.entries, oldest)
	}
}
