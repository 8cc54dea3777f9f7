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

// A share is who counts as one caller: the device that holds the lease, whatever
// addresses it writes on its packets, or all callers of one network together
// that hold none. A device can take any free address of its subnet, but only
// one lease; who copies its MAC on another network does not take its places. The
// zero value is everybody from elsewhere.
type share struct {
	mac     charger.MAC
	network netip.Prefix
}

// leased reports whether it is the share of one device.
func (sh share) leased() bool { return sh.mac != charger.MAC{} }

// shareOf returns the share that a caller counts to now. Who calls from an address
// without a lease and is known to the kernel as a device that holds one in this
// network counts to that device's.
func (s *Server) shareOf(caller netip.Addr) share {
	mac, holder := s.book.At(caller)
	network := s.networkOf(caller)
	if holder || !network.IsValid() {
		return share{mac, network}
	}
	if hw, ok := s.nearby.device(caller, time.Now()); ok {
		if _, own := s.book.Where(hw); own.IsValid() && network.Contains(own) {
			mac = hw
		}
	}
	return share{mac, network}
}

// named reports whether a share is a charger's of the inventory.
func (s *Server) named(sh share, caller netip.Addr) bool {
	if s.book.Named(caller) {
		return true
	}
	_, own := s.book.Where(sh.mac)
	return sh.leased() && own.IsValid() && sh.network.Contains(own) && s.book.Named(own)
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

	mu        sync.Mutex
	held      map[share]*holding
	sum       int // of all holdings
	strange   int // of those of strangers
	listening int // calls whose hello is not there yet
}

// A holding is what one share has open.
type holding struct {
	open     int
	hellos   int // of these, how many have not said yet what they want
	stranger bool
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
	p := &places{perShare: cfg.PerCharger, hellos: min(maxHellos, cfg.PerCharger), total: cfg.Total, held: map[share]*holding{}}
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
	p.mu.Lock()
	defer p.mu.Unlock()
	var h holding
	if held := p.held[sh]; held != nil {
		h = *held
	}
	switch {
	case h.open >= p.perShare:
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

func (p *places) enterLocked(sh share, named bool) *holding {
	h := p.held[sh]
	if h == nil {
		h = &holding{stranger: !named}
		p.held[sh] = h
	}
	if h.stranger == named { // the inventory is another one now
		h.stranger = !named
		if named {
			p.strange -= h.open
		} else {
			p.strange += h.open
		}
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
	p.held[sh].hellos--
	p.listening--
}

// give returns a place to the share that it was taken from.
func (p *places) give(sh share) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.held[sh]
	p.sum--
	if h.stranger {
		p.strange--
	}
	if h.open--; h.open == 0 {
		delete(p.held, sh)
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
