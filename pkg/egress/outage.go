package egress

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"
)

// outages knows which allowed names cannot be reached now, so that an outage is
// said once, whoever asks, and its end too.
//
// What "cannot be reached" means is this. A call has failed when every address
// that its name had was tried and none took it (by the caller itself, or by the
// one whose search it waited for). A call that began before the last one that
// succeeded proves nothing. Of a name that answered a moment ago it takes three
// failed calls in a row, with none that succeeded between, to be an outage: on a
// bad link, or behind a load balancer with a dead machine, one in a hundred calls
// fails. A moment is a minute where nothing came back, which a lost packet can
// cause, and ten seconds where somebody said no. Of any other name, and of one whose
// addresses may not be dialled, one is enough. The first call that succeeds ends
// the outage. If it comes back within ten minutes it is the same trouble: then it
// ends when no call has failed for ten minutes. A handshake that goes on ends what
// is said of handshakes at once: no such trouble begins within ten minutes of one.
//
// An outage for want of a way out is not the name's. If calls still fail, for another
// reason, ten seconds after the last that failed for this one, it is news once more.
type outages struct {
	mu   sync.Mutex
	of   map[matter]*standing
	open int
}

// A matter is what may be out of order with a name and port, apart from the other
// two: none is proved by another.
type matter struct {
	target
	what string
}

const (
	matterWay   = "way"   // it cannot be reached
	matterTLS   = "tls"   // it refuses conversations
	matterTrust = "trust" // its certificate is refused
)

// A standing is how a matter went lately.
type standing struct {
	worked time.Time // last; zero: never
	failed int       // in a row, or in the outage
	last   time.Time // the last failure
	open   bool
	since  time.Time
	ended  time.Time // the last outage
	shaky  bool      // it came back: it must be calm to be over
	fault  fault     // of the last failure
	out    time.Time // the last failure for want of a way out, in an outage of nothing else; zero: it is of something else
	below  bool      // the name is one of those that a pattern allows
}

const (
	// maxStandings bounds what is remembered, and maxBelow how many names that
	// patterns allow may be out at once: a charger can make up any number of them.
	maxStandings = 512
	maxBelow     = 32
	// A name that answered within lately is taken to be well though nothing came
	// back, within justNow though somebody said no.
	lately  = time.Minute
	justNow = 10 * time.Second
	// inRow is how many calls of such a name must fail.
	inRow = 3
	// calm is how long an outage that came back must be without failures, and how
	// soon one must come back to be the same.
	calm = 10 * time.Minute
	// Of a name that a pattern allows nothing is known after so long without a call:
	// most likely it does not exist.
	unasked = time.Hour
)

func newOutages() *outages { return &outages{of: map[matter]*standing{}} }

// failed notes that a call which began at began has failed, and reports whether
// that is an outage which was not known.
func (o *outages) failed(m matter, below bool, f fault, began, now time.Time) (news bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.of[m]
	if s == nil {
		if !o.roomLocked(below, now) {
			return false
		}
		s = &standing{below: below}
		o.of[m] = s
	}
	if !s.open && !s.worked.IsZero() && began.Before(s.worked) {
		return false
	}
	s.failed++
	s.last, s.fault = now, f
	switch {
	case s.open && s.out.IsZero():
		return false
	case s.open && f.way == wayOut:
		s.out = now
		return false
	case s.open && now.Sub(s.out) < justNow:
		return false
	case s.open: // there is a way out, and it fails all the same
		s.out = time.Time{}
		return true
	case s.failed < inRow && !s.worked.IsZero() && now.Sub(s.worked) < wellAfter(f):
		return false
	}
	s.open, s.since = true, now
	if f.way == wayOut {
		s.out = now
	}
	s.shaky = m.what == matterWay && !s.ended.IsZero() && now.Sub(s.ended) < calm
	o.open++
	return true
}

// wellAfter is how long after a call that succeeded a name is still taken to be
// well when one fails like this.
func wellAfter(f fault) time.Duration {
	switch {
	case f.cause == causeAddress, f.cause == causeTLS: // no chance in that, or judged before
		return 0
	case f.way == waySilent:
		return lately
	}
	return justNow
}

// worked notes that a call succeeded. over says that this ends an outage, which
// lasted that long and in which so many calls had failed.
func (o *outages) worked(m matter, now time.Time) (lasted time.Duration, failed int, over bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.of[m]
	if s == nil {
		if len(o.of) < maxStandings/2 { // else only what fails is worth the memory
			o.of[m] = &standing{worked: now}
		}
		return 0, 0, false
	}
	s.worked = now
	if s.open && s.shaky && now.Sub(s.last) < calm {
		return 0, 0, false
	}
	return o.endLocked(s, now)
}

func (o *outages) endLocked(s *standing, now time.Time) (lasted time.Duration, failed int, over bool) {
	lasted, failed, over = now.Sub(s.since), s.failed, s.open
	s.failed, s.out = 0, time.Time{}
	if over {
		s.open, s.ended = false, now
		o.open--
	}
	return lasted, failed, over
}

// roomLocked makes room for one more, or says that there is none.
func (o *outages) roomLocked(below bool, now time.Time) bool {
	if below {
		n := 0
		for m, s := range o.of {
			if !s.below {
				continue
			}
			if now.Sub(s.last) >= unasked {
				o.dropLocked(m)
			} else if s.open {
				n++
			}
		}
		if n >= maxBelow {
			return false
		}
	}
	if len(o.of) < maxStandings {
		return true
	}
	for m, s := range o.of {
		if !s.open {
			o.dropLocked(m)
			return true
		}
	}
	return false
}

func (o *outages) dropLocked(m matter) {
	if o.of[m].open {
		o.open--
	}
	delete(o.of, m)
}

// settle ends the outages that have been calm, and forgets those of names that may
// not be reached any more or that nobody asks for. It returns those that ended.
func (o *outages) settle(list *policy.List, now time.Time) []ending {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == 0 {
		return nil
	}
	var over []ending
	for m, s := range o.of {
		verdict, _ := list.Decide(m.name, m.port)
		switch {
		case !s.open:
		case verdict != policy.Allowed, s.below && now.Sub(s.last) >= unasked:
			o.dropLocked(m)
		case s.shaky && s.worked.After(s.last) && now.Sub(s.last) >= calm:
			lasted, failed, _ := o.endLocked(s, now)
			over = append(over, ending{m, lasted, failed})
		}
	}
	return over
}

// An ending is an outage that is over.
type ending struct {
	matter
	lasted time.Duration
	failed int
}

// isOpen reports whether a matter is out of order now.
func (o *outages) isOpen(m matter) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.of[m]
	return s != nil && s.open
}

// count returns how many names cannot be reached now.
func (o *outages) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open
}

// An Outage is an allowed name that cannot be reached now.
type Outage struct {
	Name string `json:"name"`
	Port uint16 `json:"port"`
	// Cause is "dns" (its address cannot be found), "address" (it has none that may
	// be dialled), "tcp" (no address takes the connection) or "tls" (it refuses the
	// conversation, or the chargers refuse its certificate).
	Cause string `json:"cause"`
	// Words says the same as a technician would, Detail what each address said last, Do
	// what to do about it.
	Words  string    `json:"words"`
	Detail string    `json:"detail"`
	Do     string    `json:"do"`
	Since  time.Time `json:"since"`
	// Failed counts the calls that failed since, Last is when the last one did.
	Failed int       `json:"failed"`
	Last   time.Time `json:"last"`
	// Shaky says that it came back within ten minutes, and that calls succeed between
	// those that fail.
	Shaky bool `json:"shaky,omitempty"`
}

// Outages returns the allowed names that cannot be reached now, the oldest outage
// first. It asks nobody: a name that nobody calls stays as it was when it was
// called last.
func (s *Server) Outages() []Outage { return s.outages.list() }

func (o *outages) list() []Outage {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []Outage
	for m, s := range o.of {
		if !s.open {
			continue
		}
		words, do := s.fault.inWords(), unreachableAdvice(m.target, s.fault)
		if m.what == matterTrust {
			words, do = "the chargers do not accept its certificate", trustAdvice
		}
		all = append(all, Outage{Name: m.name, Port: m.port, Cause: s.fault.cause, Words: words, Detail: s.fault.detail, Do: do,
			Since: s.since, Failed: s.failed, Last: s.last, Shaky: s.shaky && s.worked.After(s.since)})
	}
	slices.SortFunc(all, func(a, b Outage) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}

// unreachable accounts for a call that began at began and could not be let out.
func (s *Server) unreachable(ctx context.Context, caller netip.Addr, d decision, port uint16, began time.Time, err error) {
	if ctx.Err() != nil {
		return
	}
	f := faultOf(err)
	if (f.cause == causeDNS || f.way == wayNone || f.way == waySilent) && !s.wayOut() { // a refusal proves one
		f.way = wayOut
	}
	now := time.Now()
	s.counts.result(resultUnreachable)
	s.counts.dialFailed(f.cause)
	s.cameToNothing(caller, Unreachable, f.cause, d.name, port, f.inWords())
	s.book.Unreachable(caller, onPort(d.name, port, f.inWords()), now)
	if f.way == wayBox { // not the name's fault
		s.log.Say(event.EgressDialFailed, event.F("NAME", d.name), event.F("ERROR", err))
		return
	}
	m := matter{target{d.name, port}, matterWay}
	if s.outages.failed(m, isBelow(d), f, began, now) {
		s.sayOutage(m, f)
	}
}

// reached accounts for a call that was let out.
func (s *Server) reached(name string, port uint16) {
	s.sayEnd(matter{target{name, port}, matterWay}, time.Now())
}

// isBelow reports whether the name is one of those that a pattern allows.
func isBelow(d decision) bool { return strings.HasPrefix(d.rule.Name, "*.") }

// sayOutage says that a name cannot be reached.
func (s *Server) sayOutage(m matter, f fault) {
	kind := event.EgressUnreachable
	switch {
	case f.way == wayOut:
		kind = event.EgressNoWay
	case m.name == policy.Hub:
		kind = event.EgressHubUnreachable
	}
	s.log.Say(kind, event.F("NAME", m.name), event.F("PORT", m.port), event.F("CAUSE", f.cause), event.F("ERROR", f.detail),
		event.F("DO", unreachableAdvice(m.target, f)))
}

// Dialable returns which addresses of an allowed name egress would dial, or why it
// would dial none and what to do about it. It asks the kernel, and sends nothing.
func (s *Server) Dialable(name string, port uint16, addrs []netip.Addr) (may []netip.Addr, why, do string) {
	verdict, rule := s.list.Decide(name, port)
	if verdict != policy.Allowed {
		return nil, onPort(name, port, "no rule allows it"), "Run it again: the rules have changed meanwhile."
	}
	may, err := (&errand{dialler: s.dialler, private: rule.Addresses}).permitted(addrs)
	if err != nil {
		f := faultOf(err)
		return nil, f.detail, unreachableAdvice(target{name, port}, f)
	}
	return may, "", ""
}

// sayEnd notes that a matter went well, and says so where it ends an outage.
func (s *Server) sayEnd(m matter, now time.Time) {
	if lasted, failed, over := s.outages.worked(m, now); over {
		s.sayRestored(ending{m, lasted, failed})
	}
}

func (s *Server) sayRestored(e ending) {
	s.log.Say(event.EgressRestored, event.F("NAME", e.name), event.F("PORT", e.port),
		event.F("LASTED", e.lasted), event.F("FAILED", e.failed))
}

// settle says which outages have been calm for long enough.
func (s *Server) settle(now time.Time) {
	for _, e := range s.outages.settle(s.list, now) {
		s.sayRestored(e)
	}
}
