package egress

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"chargegate/pkg/charger"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// A share is who counts as one caller: the device that holds the lease of the
// address, or all callers of one network together that hold none. A device can
// take any free address of its subnet, but only one lease; who copies its MAC on
// another network does not take its places. The zero value is everybody from
// elsewhere.
type share struct {
	mac     charger.MAC
	network netip.Prefix
	addr    netip.Addr // of a caller without a lease: its part of the share of all
}

// whole is the share of all, where sh is a part of one.
func (sh share) whole() share { return share{mac: sh.mac, network: sh.network} }

// leased reports whether it is the share of one device.
func (sh share) leased() bool { return sh.mac != charger.MAC{} }

// shareOf returns the share that a caller counts to now. Nothing but a lease tells
// whose a call is: all else that is to be known of it the caller can make up.
func (s *Server) shareOf(caller netip.Addr) share {
	network := s.networkOf(caller)
	mac, holder := s.book.At(caller)
	if holder || !network.IsValid() {
		return share{mac: mac, network: network}
	}
	return share{network: network, addr: caller}
}

// named reports whether the share of a caller is a charger's of the inventory;
// without an inventory, a device's that holds a lease.
func (s *Server) named(sh share, caller netip.Addr) bool {
	if !sh.leased() {
		return false
	}
	if mac, holder := s.book.At(caller); holder && mac == sh.mac {
		return s.book.Named(caller)
	}
	_, own := s.book.Where(sh.mac) // it holds another lease by now
	return own.IsValid() && sh.network.Contains(own) && s.book.Named(own)
}

// networkOf is the network that an address is in; the zero one: none.
func (s *Server) networkOf(addr netip.Addr) netip.Prefix {
	if i := slices.IndexFunc(s.cfg.Networks, func(p netip.Prefix) bool { return p.Contains(addr) }); i >= 0 {
		return s.cfg.Networks[i].Masked()
	}
	return netip.Prefix{}
}

// A place is what came of asking for one.
type place int

const (
	placeTaken    place = iota
	shareFull           // the caller's share is taken: its newest is refused, never another's
	hellosFull          // too many of its calls have not said yet what they want
	strangersFull       // those who are not in the inventory hold all that they may together
	houseFull           // there is none left for anybody
)

// places bounds how many calls are open: of each share, of all strangers
// together, and in all. A call counts from its first packet, so that silent ones
// are bounded too.
type places struct {
	perShare, hellos, strangers, total int

	nearby *neighbours

	mu        sync.Mutex
	held      map[share]*holding // whole ones
	sum       int                // of all holdings
	strange   int                // of those of strangers
	listening int                // calls whose hello is not there yet
}

// A holding is what one share has open.
type holding struct {
	open     int
	hellos   int // of these, how many have not said yet what they want
	stranger bool
	parts    map[netip.Addr]int // of those without a lease: what each address has open
}

const (
	// maxHellos is how many calls of one share may be waiting for their hello: a
	// charger on a weak radio opens a second one before the first has failed.
	maxHellos = 4
	// perConversation is how many descriptors one needs: two connections, and a pipe
	// for each direction with both its ends.
	perConversation = 6
	// spareDescriptors are for everything else in the daemon: listeners, questions to
	// DNS servers, files, the radio, and two copies for each conversation that begins
	// at this very moment.
	spareDescriptors = 256
)

// newPlaces makes the limits that the configuration wants and this process can
// hold.
func newPlaces(cfg Config) *places {
	p := &places{perShare: cfg.PerCharger, hellos: min(maxHellos, cfg.PerCharger), total: cfg.Total,
		nearby: newNeighbours(), held: map[share]*holding{}}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		p.total = min(p.total, affordable(limit.Cur))
	}
	p.strangers = min(p.total, max(p.total/4, p.perShare))
	return p
}

// affordable is how many conversations that many descriptors are enough for.
func affordable(descriptors uint64) int {
	spare := min(uint64(spareDescriptors), descriptors/2)
	return max(1, int(min(descriptors-spare, 1<<24)/perConversation))
}

// take finds a place for a new call. named says that the caller is a charger of
// the inventory.
func (p *places) take(sh share, named bool) place {
	var nearby map[netip.Addr]charger.MAC
	if sh.addr.IsValid() {
		nearby = p.nearby.table(time.Now())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var h holding
	if held := p.held[sh.whole()]; held != nil {
		h = *held
	}
	switch {
	case h.open >= p.perShare, p.deviceFullLocked(sh, h, nearby):
		return shareFull
	case sh.leased() && h.hellos >= p.hellos: // the others have a share too small to be told apart in
		return hellosFull
	case !named && p.strange >= p.strangers:
		return strangersFull
	case p.sum >= p.total:
		return houseFull
	}
	p.enterLocked(sh, named).hellos++
	p.listening++
	return placeTaken
}

// retake gives a conversation of the process before this one its place again.
func (p *places) retake(sh share, named bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.enterLocked(sh, named)
}

// deviceFullLocked reports whether the device that seems to be behind a caller without
// a lease has as much open as one may: half of what all of them there have together
// (h), so that one that is silent does not keep out the others; and with what it has
// open under a lease no more than any charger.
//
// The table is filled by whoever sends ARP, in whosesoever name. So it is a reason
// to refuse this very call, and for nothing else: the device that it names is charged
// with nothing, and where it holds a lease its own calls are not judged by it.
func (p *places) deviceFullLocked(sh share, h holding, nearby map[netip.Addr]charger.MAC) bool {
	mac, ok := nearby[sh.addr]
	if !ok {
		return false
	}
	open := 0
	for addr, n := range h.parts {
		if nearby[addr] == mac {
			open += n
		}
	}
	leased := 0
	if own := p.held[share{mac: mac, network: sh.network}]; own != nil {
		leased = own.open
	}
	return open >= (p.perShare+1)/2 || open+leased >= p.perShare
}

func (p *places) enterLocked(sh share, named bool) *holding {
	h := p.held[sh.whole()]
	if h == nil {
		h = &holding{stranger: !named}
		p.held[sh.whole()] = h
	}
	if h.stranger == named { // the inventory is another one now
		h.stranger = !named
		if named {
			p.strange -= h.open
		} else {
			p.strange += h.open
		}
	}
	if sh.addr.IsValid() {
		if h.parts == nil {
			h.parts = map[netip.Addr]int{}
		}
		h.parts[sh.addr]++
	}
	h.open++
	p.sum++
	if h.stranger {
		p.strange++
	}
	return h
}

// heard notes that a call has said what it wants, or never will.
func (p *places) heard(sh share) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held[sh.whole()].hellos--
	p.listening--
}

// give returns a place to the share that it was taken from.
func (p *places) give(sh share) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.held[sh.whole()]
	p.sum--
	if h.stranger {
		p.strange--
	}
	if h.parts[sh.addr] > 1 {
		h.parts[sh.addr]--
	} else {
		delete(h.parts, sh.addr)
	}
	if h.open--; h.open == 0 {
		delete(p.held, sh.whole())
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
	sh = sh.whole()
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

// What a scrape sees of the places.
var (
	descPlaces = prometheus.NewDesc("chargegate_egress_places", "Conversations that may be open: of all together, and of those who are not in the inventory.", []string{"of"}, nil)
	descHeld   = prometheus.NewDesc("chargegate_egress_places_held", "Places that are taken: by all, and by those who are not in the inventory.", []string{"of"}, nil)
	descHellos = prometheus.NewDesc("chargegate_egress_unfinished_hellos", "Calls that have not said yet what they want.", nil, nil)
)

func (p *places) collect(ch chan<- prometheus.Metric) {
	p.mu.Lock()
	sum, strange, hellos := p.sum, p.strange, p.listening
	p.mu.Unlock()
	gauge := func(d *prometheus.Desc, v int, of ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), of...)
	}
	gauge(descPlaces, p.total, "all")
	gauge(descPlaces, p.strangers, "strangers")
	gauge(descHeld, sum, "all")
	gauge(descHeld, strange, "strangers")
	gauge(descHellos, hellos)
}
