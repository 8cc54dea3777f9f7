package resolver

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/miekg/dns"
)

// pattern lets anybody ask for names without end.
var pattern = policy.Rule{Name: "*.example.com", Ports: []uint16{443}, Reason: "x"}

// crowd has as many questions wait for an upstream as may, from addresses of their
// own, until the function that it returns is called.
func (h *house) crowd() (leave func()) {
	ctx, cancel := context.WithCancel(h.t.Context())
	var wg sync.WaitGroup
	for i := range maxQuestions / maxEach {
		for j := range maxEach {
			wg.Go(func() {
				q := asks(h.t, fmt.Sprintf("n%d-%d.example.com.", i, j), dns.TypeA)
				h.respond(ctx, q, netip.AddrFrom4([4]byte{10, 83, 0, byte(100 + i)}), overUDP)
			})
		}
	}
	synctest.Wait()
	if n := h.waiting.open(); n != maxQuestions {
		h.t.Errorf("%d questions wait, want %d", n, maxQuestions)
	}
	return func() {
		cancel()
		h.memory.shut()
		wg.Wait()
	}
}

// As many questions wait as may, and whoever asks for what is known hears it.
func TestWhatIsKnownIsAnsweredWhileOthersWait(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		prepare func(h *house, c *cloud)
		want    outcome
	}{
		{"a fresh answer", func(*house, *cloud) {}, outcome{first: "192.0.2.1", ttl: 3600}},
		{"a fresh answer that was refreshed a moment ago", func(h *house, c *cloud) {
			h.memory.mu.Lock()
			h.memory.learnLocked(hub, addresses(time.Hour, "192.0.2.2"), nil, time.Now())
			h.memory.mu.Unlock()
		}, outcome{first: "192.0.2.2", ttl: 3600}},
		{"an old answer after a failure", func(h *house, c *cloud) {
			time.Sleep(2 * time.Hour)
			c.set(func() { c.err = errSilent })
			h.hears(hub)
			c.set(func() { c.err = nil })
		}, outcome{first: "192.0.2.1", ttl: staleTTL, stale: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(addresses(time.Hour, "192.0.2.1"))
				h := build(t, c, Config{}, pattern)
				h.hears(hub)
				tt.prepare(h, c)
				c.set(func() { c.late = time.Hour })
				leave := h.crowd()
				defer leave()
				for range 2 {
					if got := h.hears(hub); got != tt.want {
						t.Errorf("%+v, want %+v", got, tt.want)
					}
				}
				q := asks(t, "one-too-many.example.com.", dns.TypeA)
				if out := h.respond(t.Context(), q, someCharger, overUDP); out != nil {
					t.Errorf("what nobody knows gets %d bytes, want silence", len(out))
				}
			})
		})
	}
}

// A router without an uplink says of every name that there is nothing, without
// proof, and falls silent. The last good answer stands all the while.
func TestNothingWithoutProofDoesNotShadowTheOldAnswer(t *testing.T) {
	t.Parallel()
	for _, rcode := range []int{dns.RcodeSuccess, dns.RcodeNameError} {
		synctest.Test(t, func(t *testing.T) {
			c := newCloud(addresses(time.Minute, "192.0.2.1"))
			h := build(t, c, Config{})
			defer h.memory.shut()
			h.hears(hub)
			c.set(func() { c.usual = answer{rcode: rcode} })
			want := outcome{first: "192.0.2.1", ttl: staleTTL, stale: true}
			time.Sleep(2 * time.Minute)
			if got := h.hears(hub); got != want {
				t.Errorf("while it says %s: %+v, want %+v", dns.RcodeToString[rcode], got, want)
			}
			if got := h.hears(api); got.rcode != rcode || got.first != "" {
				t.Errorf("of a name that nothing is known of: %+v", got)
			}
			c.set(func() { c.err = errSilent })
			if got := h.hears(hub); got != want {
				t.Errorf("while it is silent: %+v, want %+v", got, want)
			}
		})
	}
}

// The quicker of two servers says that there is nothing, without proof. The other
// one is heard, and asked first from then on.
func TestTheQuickOneThatProvesNothingDoesNotWin(t *testing.T) {
	t.Parallel()
	quick := upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetRcode(q, dns.RcodeNameError)
		m.RecursionAvailable = true
		_ = w.WriteMsg(m)
	})
	right := says(t, hub+" 60 IN A 192.0.2.9")
	slow := upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
		time.Sleep(20 * time.Millisecond)
		right(w, q)
	})
	f, _ := forwardTo(event.New(event.Options{Keep: 10}), quick, slow)
	defer f.shut()
	for range 5 {
		a, err := f.ask(t.Context(), hub)
		if err != nil || len(a.addrs) != 1 {
			t.Errorf("%s %v, %v, want the address", dns.RcodeToString[a.rcode], a.addrs, err)
		}
	}
}

// Nobody has anything better than "there is none" without proof: that is the
// answer, at once, and a server that is lost is not waited for.
func TestNothingWithoutProofIsAnAnswerIfThereIsNoOther(t *testing.T) {
	t.Parallel()
	one, two := server(1), server(2)
	unproven := after(10*time.Millisecond, errUnproven)
	for _, tt := range []struct {
		name string
		act  map[target]func(context.Context, int) report
	}{
		{"one server", map[target]func(context.Context, int) report{one: unproven}},
		{"two that agree", map[target]func(context.Context, int) report{one: unproven, two: unproven}},
		{"the other fails", map[target]func(context.Context, int) report{one: unproven, two: after(0, errAnswer)}},
		{"the other is lost", map[target]func(context.Context, int) report{one: unproven, two: dead}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStage(nil)
				defer s.shut()
				var asked []target
				for _, at := range []target{one, two} {
					if tt.act[at] != nil {
						s.plays(at, tt.act[at])
						asked = append(asked, at)
					}
				}
				s.health.order(asked, time.Now())
				if len(asked) == 2 {
					for range lostAfter {
						s.health.failed(two, errSilent, time.Now())
					}
				}
				began := time.Now()
				if a, err := s.ask(t.Context(), asked...); err != nil || a.ttl == 0 || time.Since(began) > 100*time.Millisecond {
					t.Errorf("%+v, %v after %v", a, err, time.Since(began))
				}
			})
		})
	}
}

// Whoever keeps NTP away from a box that knows the time cannot use a certificate
// that has ended: the day is known all the same, until somebody moves the clock.
func TestTheDayIsKnownFromThenOn(t *testing.T) {
	t.Parallel()
	var synchronised atomic.Bool
	cert, roots := certificate(t, dotName, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	at := overTLS(t, cert, serveAll)
	at.tlsName = dotName
	f := overDoT(t, event.New(event.Options{Keep: 10}), at, roots, synchronised.Load)
	now := time.Now()
	for _, c := range []struct {
		name         string
		synchronised bool
		moved        time.Duration // the clock, since it was synchronised
		accepted     bool
	}{
		{"after the start nobody knows the day", false, 0, true},
		{"the clock is set", true, 0, false},
		{"NTP is kept away", false, 0, false},
		{"and the clock runs fast", false, 23 * time.Hour, false},
		{"and slow", false, -23 * time.Hour, false},
		{"somebody sets the clock", false, 48 * time.Hour, true},
		{"to the year 1970", false, -50 * 365 * 24 * time.Hour, true},
		{"it is set right", true, 0, false},
		{"and stays so", false, 0, false},
	} {
		synchronised.Store(c.synchronised)
		if f.dot.cert.set.Load() != nil {
			f.dot.cert.set.Store(&moment{wall: now.Round(0).Add(-c.moved), steady: now})
		}
		_, err := addrOfHub(t, f)
		if (err == nil) != c.accepted {
			t.Errorf("%s: %v, accepted should be %v", c.name, err, c.accepted)
		}
	}
}

// Two names hang because the servers of their zone do, and the hub is found all
// the while: nobody says that a server is lost, or all of them. Then they are.
func TestNamesThatHangAreNoLostServers(t *testing.T) {
	t.Parallel()
	for _, servers := range []int{1, 2} {
		t.Run(fmt.Sprint(servers), func(t *testing.T) {
			t.Parallel()
			var gone atomic.Bool
			var all []netip.AddrPort
			for range servers {
				all = append(all, upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
					if gone.Load() || isBelow(key(q.Question[0].Name), "zaptec.com.") {
						return
					}
					says(t, q.Question[0].Name+" 60 IN A 192.0.2.1")(w, q)
				}))
			}
			log := event.New(event.Options{Keep: 100})
			f, _ := forwardTo(log, all...)
			f.proof = func() []string { return []string{hub, api, devices, older} }
			round := func() {
				var asked sync.WaitGroup
				for _, name := range []string{devices, api} {
					asked.Go(func() { _, _ = f.ask(t.Context(), name) })
				}
				asked.Wait()
				for deadline := time.Now().Add(10 * time.Second); f.proving.Load() && time.Now().Before(deadline); {
					time.Sleep(10 * time.Millisecond)
				}
			}
			round()
			if said := log.Recent(0, ""); len(said) > 0 {
				t.Errorf("while the hub is found: %q", said[0].Message)
			}
			gone.Store(true)
			round()
			f.shut()
			said := map[string]int{}
			for _, r := range log.Recent(0, "") {
				said[r.Kind.ID]++
			}
			if said["resolver-names-lost"] != 1 {
				t.Errorf("when nobody answers: %v", said)
			}
		})
	}
}

// A choosy cloud is silent about some names.
type choosy struct {
	*cloud
	silent func(name string) bool
}

func (c choosy) ask(ctx context.Context, name string) (answer, error) {
	if !c.silent(name) {
		return c.cloud.ask(ctx, name)
	}
	c.set(func() { c.asked[name]++ })
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	<-ctx.Done()
	return answer{}, errSilent
}

// Three names of the list hang, and others are answered, often or seldom, or a
// stranger asks for new ones all the time: those that hang are asked for as seldom
// as if they were alone.
func TestAnAnswerDoesNotHurryTheNamesThatHang(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		ttl      time.Duration
		stranger bool
		most     int // questions an hour for each name that hangs
	}{
		{"the hub every 5 s", minTTL, false, 18},
		{"the hub every minute", time.Minute, false, 18},
		{"the hub every hour", maxTTL, false, 20},
		{"a stranger twice a second", maxTTL, true, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(answer{rcode: dns.RcodeNameError})
				c.named[hub] = addresses(tt.ttl, "192.0.2.1")
				h := build(t, c, Config{}, pattern)
				h.memory.ask = choosy{c, func(name string) bool { return everyName[name] > 0 && name != hub }}.ask
				stop := h.live()
				for i := range 7200 {
					h.hears(hub)
					if tt.stranger {
						h.hears(fmt.Sprintf("n%d.example.com.", i))
					}
					time.Sleep(500 * time.Millisecond)
				}
				stop()
				n := c.count()
				for _, name := range []string{api, devices, older} {
					if n[name] > tt.most || n[name] < 12 {
						t.Errorf("%s was asked for %d times in an hour, want 12 to %d", name, n[name], tt.most)
					}
				}
			})
		})
	}
}

// Somebody upstream says once, with proof, that there is no hub: after a minute it is
// asked for again, and the disk keeps it meanwhile.
func TestThatTheHubIsGoneIsBelievedForAMinute(t *testing.T) {
	t.Parallel()
	const soa = "%s 86400 IN SOA a. b. 1 1800 900 604800 86400"
	for _, tt := range []struct {
		name string
		at   string
		had  bool
		ttl  time.Duration
	}{
		{"the hub", hub, true, maxMissing},
		{"a name of the list that never had an address", hub, false, maxNegative},
		{"a name that a pattern holds", "x.example.com.", true, maxNegative},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(reduced(t, tt.at, dns.RcodeNameError, nil, []string{fmt.Sprintf(soa, ".")}))
				h := build(t, c, Config{}, pattern)
				defer h.memory.shut()
				if tt.had {
					c.named[tt.at] = addresses(time.Minute, "192.0.2.1")
					h.hears(tt.at)
					time.Sleep(time.Minute)
					c.set(func() { delete(c.named, tt.at) })
				}
				for _, age := range []time.Duration{0, tt.ttl / 2} {
					time.Sleep(age)
					want := outcome{rcode: dns.RcodeNameError, ttl: uint32((tt.ttl - age) / time.Second)}
					if got := h.hears(tt.at); got != want {
						t.Errorf("after %v: %+v, want %+v", age, got, want)
					}
				}
				lines, _, gone := h.memory.lines(time.Now())
				if kept := tt.had && tt.at == hub; (len(lines) == 1) != kept || gone[tt.at] == kept {
					t.Errorf("for the disk: %v, gone %v", lines, gone)
				}
				time.Sleep(tt.ttl / 2)
				c.set(func() { c.named[tt.at] = addresses(time.Minute, "192.0.2.2") })
				if got := h.hears(tt.at); got.first != "192.0.2.2" {
					t.Errorf("after %v: %+v, want the address", tt.ttl, got)
				}
			})
		})
	}
}

// That there is nothing is answered the quick way too, however long its zone wants
// it kept.
func TestALongNothingIsReady(t *testing.T) {
	t.Parallel()
	for _, minimum := range []int{60, 1800, 3600, 86400} {
		synctest.Test(t, func(t *testing.T) {
			c := newCloud(reduced(t, hub, dns.RcodeNameError, nil, []string{fmt.Sprintf("azure-devices.net. %d IN SOA a. b. 1 1 1 1 %d", minimum, minimum)}))
			h := build(t, c, Config{})
			defer h.memory.shut()
			f := newFast(h.Server)
			in := roomy(wire(t, hub, dns.TypeA))
			for range 2 {
				h.respondReady(t.Context(), in, someCharger)
			}
			time.Sleep(5 * time.Second)
			want := h.respondReady(t.Context(), in, someCharger)
			if got := f.answer(in, someCharger, time.Now()); !bytes.Equal(got, want) {
				t.Errorf("%d s: %x, want %x", minimum, got, want)
			}
		})
	}
}

// A stranger asks for a name that a pattern holds in every form that there is, and
// only two of them are made ready. For a name of the list all are.
func TestAStrangerMakesLittleReady(t *testing.T) {
	t.Parallel()
	for name, most := range map[string]int{"x.example.com.": readyOthers, hub: 16} {
		h := build(t, newCloud(addresses(time.Minute, "192.0.2.1")), Config{}, pattern)
		h.hears(name)
		for form := range 16 {
			in := wire(t, name, dns.TypeA, func(q *dns.Msg) {
				q.RecursionDesired = form&1 > 0
				q.AuthenticatedData = form&2 > 0
				q.CheckingDisabled = form&4 > 0
				if form&8 > 0 {
					q.SetEdns0(1232, false)
				}
			})
			h.respondReady(t.Context(), in, someCharger)
		}
		k, _ := h.memory.peek(name, time.Now())
		n := 0
		for i := range k.ready {
			if k.ready[i].Load() != nil {
				n++
			}
		}
		if n != most {
			t.Errorf("%d forms of %s are ready, want %d", n, name, most)
		}
		h.memory.shut()
	}
}

// The owner of a name that a pattern holds gives it all addresses there are, and the
// hub's as those of many names. The hub is known by its address all the same.
func TestNobodyTakesTheHubsAddress(t *testing.T) {
	t.Parallel()
	g, now := newGiven(), time.Now()
	at := netip.MustParseAddr("192.0.2.1")
	g.note(hub, true, []netip.Addr{at}, now)
	for i := range 2 * maxGiven {
		addrs := []netip.Addr{netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})}
		if i < 2*maxSharing {
			addrs = append(addrs, at)
		}
		g.note(fmt.Sprintf("x%d.example.com.", i), false, addrs, now.Add(time.Second))
	}
	if names := g.at(at, now.Add(time.Minute)); !slices.Contains(names, policy.Hub) {
		t.Errorf("%v, want the hub among them", names)
	}
	if n := g.others.len() + g.exact.len(); n > maxGiven+1 {
		t.Errorf("%d addresses are remembered", n)
	}
}

// Four names with one TTL, all wanted, stay together from refresh to refresh, so that
// a server over TLS has one connection for them and not four.
func TestNamesAreRefreshedTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(addresses(time.Minute, "192.0.2.1"))
		h := build(t, c, Config{})
		var mu sync.Mutex
		var last time.Time
		rounds := 0
		h.memory.ask = func(ctx context.Context, name string) (answer, error) {
			mu.Lock()
			defer mu.Unlock()
			if now := time.Now(); now.Sub(last) > time.Second {
				rounds, last = rounds+1, now
			}
			return c.ask(ctx, name)
		}
		defer h.live()()
		for range 3600 {
			for name := range everyName {
				h.hears(name)
			}
			time.Sleep(time.Second)
		}
		if n := c.count(); n[hub] > 72 || rounds > 72 {
			t.Errorf("an hour costs %v questions in %d rounds, want no more than 72", n, rounds)
		}
	})
}
