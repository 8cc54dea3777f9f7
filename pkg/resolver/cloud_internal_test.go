package resolver

import (
	"context"
	"maps"
	"net/netip"
	"sync"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/miekg/dns"
)

// A cloud is an upstream that knows names one by one, counts who asks for what,
// and can be cut off.
type cloud struct {
	mu     sync.Mutex
	usual  answer            // of every name
	named  map[string]answer // of some, by key
	err    error             // of every question
	late   time.Duration
	asked  map[string]int
	open   int // questions on their way
	widest int // the most of them there were
}

func newCloud(usual answer) *cloud {
	return &cloud{usual: usual, named: map[string]answer{}, asked: map[string]int{}}
}

func (c *cloud) ask(ctx context.Context, name string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked[name]++
	c.open++
	c.widest = max(c.widest, c.open)
	defer func() { c.open-- }()
	if late := c.late; late > 0 {
		c.mu.Unlock()
		select {
		case <-time.After(late):
			c.mu.Lock()
		case <-ctx.Done():
			c.mu.Lock()
			return answer{}, ctx.Err()
		}
	}
	if c.err != nil {
		return answer{}, c.err
	}
	if a, ok := c.named[name]; ok {
		return a, nil
	}
	return c.usual, nil
}

// set changes the cloud.
func (c *cloud) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// count returns how often each name was asked for since the last time.
func (c *cloud) count() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := maps.Clone(c.asked)
	clear(c.asked)
	return n
}

// total is count for all names together.
func (c *cloud) total() (n int) {
	for _, k := range c.count() {
		n += k
	}
	return n
}

// A house is a server without sockets, in the time of a synctest bubble, whose
// upstream is a cloud.
type house struct {
	*Server
	t   *testing.T
	log *event.Log
	end context.CancelFunc
}

var someCharger = netip.MustParseAddr("10.83.0.17")

// build makes a house.
func build(t *testing.T, c *cloud, cfg Config, rules ...policy.Rule) *house {
	t.Helper()
	list, err := policy.New(append(policy.Zaptec(), rules...))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Gateways = []netip.Prefix{netip.MustParsePrefix("10.83.0.1/24")}
	log := event.New(event.Options{Keep: 1000})
	h := &house{t: t, log: log, Server: New(cfg, list, charger.NewBook(nil, nil), log)}
	h.memory.ask = c.ask
	h.memory.follow(exactNames(list))
	return h
}

// live starts what Serve starts, but for the sockets; the function that it returns
// stops it.
func (h *house) live() (stop func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	var wg sync.WaitGroup
	h.memory.open()
	h.memory.follow(exactNames(h.list))
	h.recall()
	wg.Go(func() { h.refresh(ctx) })
	wg.Go(func() { h.keep(ctx) })
	return func() {
		cancel()
		wg.Wait()
		h.memory.shut()
	}
}

// An outcome is an answer as a charger sees it.
type outcome struct {
	rcode int
	first string // the first address, "" for none
	ttl   uint32 // of the first record; of the SOA if there is none
	stale bool   // with the extended error that says so
	took  time.Duration
}

// hears asks as a charger does, from the bytes of the question to the bytes of
// the answer.
func (h *house) hears(name string) (o outcome) {
	h.t.Helper()
	q := new(dns.Msg).SetQuestion(name, dns.TypeA)
	q.SetEdns0(1232, false)
	in, err := q.Pack()
	if err != nil {
		h.t.Fatal(err)
	}
	began := time.Now()
	out := h.respond(h.t.Context(), in, someCharger, overUDP)
	o.took = time.Since(began)
	m := new(dns.Msg)
	if err := m.Unpack(out); err != nil {
		h.t.Fatalf("the answer %x: %v", out, err)
	}
	o.rcode = m.Rcode
	for _, rr := range append(m.Answer, m.Ns...) {
		o.ttl = rr.Header().Ttl
		break
	}
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			o.first = a.A.String()
			break
		}
	}
	for _, opt := range m.IsEdns0().Option {
		if ede, ok := opt.(*dns.EDNS0_EDE); ok && ede.InfoCode == dns.ExtendedErrorCodeStaleAnswer {
			o.stale = true
		}
	}
	return o
}

// said returns how often each kind of event was said.
func (h *house) said() map[string]int {
	n := map[string]int{}
	for _, r := range h.log.Recent(0, "") {
		n[r.Kind.ID]++
	}
	return n
}

// reduced is what reduce makes of an upstream's records.
func reduced(t testing.TB, name string, rcode int, records, authority []string) answer {
	t.Helper()
	a, err := reduce(name, &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: rcode}, Answer: rrs(t, records...), Ns: rrs(t, authority...)}, usable(nil))
	if err != nil {
		t.Fatal(err)
	}
	return a
}
