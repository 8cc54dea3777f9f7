package resolver

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"chargegate/pkg/charger"
)

const (
	// maxTold bounds the devices of which it is remembered what they were told, and
	// maxAnswers the answers of each. A charger asks for five names. Whoever is
	// forgotten counts as one that was told nothing.
	maxTold    = 1024
	maxAnswers = 8
	// sureFor is how long it is taken for granted that an address is still the same
	// device's: questions come in bursts.
	sureFor = time.Second
)

// A toldTo remembers which names with which addresses each device was told, for
// givenFor: two chargers can know one address by different names. A device that
// asks for ever new names pushes out what it was told itself, and of that the exact
// names of the list last. It is safe for concurrent use.
type toldTo struct {
	whose func(netip.Addr) (charger.MAC, bool) // who holds the lease of an address
	exact func(name string) bool               // whether the list holds a name itself

	mu      sync.Mutex
	devices *lru[netip.Addr, *listener] // by address
}

// A listener is a device, and what it was told. An address that another device
// holds meanwhile does not speak for that one.
type listener struct {
	mac      charger.MAC // zero: nobody holds a lease of the address
	last     time.Time   // it was told something
	tellings []telling
}

// A telling is one answer. The name and the addresses are those of the memory, never
// changed.
type telling struct {
	name  string // a key
	addrs []netip.Addr
	exact bool
	last  time.Time
}

func newToldTo(whose func(netip.Addr) (charger.MAC, bool), exact func(string) bool) *toldTo {
	return &toldTo{whose: whose, exact: exact, devices: newLRU[netip.Addr, *listener](maxTold)}
}

// note remembers that whoever asked from an address was told a name's addresses now.
func (t *toldTo) note(from netip.Addr, name string, addrs []netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, known := t.devices.get(from)
	if !known || now.Sub(l.last) > sureFor {
		if mac, _ := t.whose(from); !known || l.mac != mac {
			l = &listener{mac: mac}
			t.devices.put(from, l)
		}
	}
	l.last = now
	for i := range l.tellings {
		if x := &l.tellings[i]; x.name == name && covers(x.addrs, addrs) {
			x.last = now
			return
		}
	}
	l.add(telling{name, addrs, t.exact(name), now})
}

// add remembers one more, in the place of another one when there are too many.
func (l *listener) add(x telling) {
	if len(l.tellings) < maxAnswers {
		l.tellings = append(l.tellings, x)
		return
	}
	least := 0
	for i := range l.tellings {
		if l.tellings[i].before(l.tellings[least]) {
			least = i
		}
	}
	l.tellings[least] = x
}

// covers reports whether all addresses are among those told before. Mostly it is
// the very same answer.
func covers(before, addrs []netip.Addr) bool {
	if len(before) == len(addrs) && &before[0] == &addrs[0] {
		return true
	}
	for _, a := range addrs {
		if !slices.Contains(before, a) {
			return false
		}
	}
	return true
}

// before reports whether x makes room before y: names of a pattern first, then what
// was told longest ago.
func (x telling) before(y telling) bool {
	if x.exact != y.exact {
		return y.exact
	}
	return x.last.Before(y.last)
}

// at returns the names that the device at an address was told to have another one,
// in alphabetical order, and whether it was told anything at all.
func (t *toldTo) at(from, addr netip.Addr, now time.Time) (names []string, told bool) {
	mac, _ := t.whose(from)
	t.mu.Lock()
	defer t.mu.Unlock()
	l, known := t.devices.get(from)
	if !known || l.mac != mac {
		return nil, false
	}
	for _, x := range l.tellings {
		if now.Sub(x.last) >= givenFor {
			continue
		}
		told = true
		if slices.Contains(x.addrs, addr) {
			names = append(names, plain(x.name))
		}
	}
	slices.Sort(names)
	return slices.Compact(names), told
}
