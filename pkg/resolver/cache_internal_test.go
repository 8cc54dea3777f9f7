package resolver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/policy"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

var ocpp = policy.Rule{Name: "*.ocpp.example.com", Ports: []uint16{443}, Reason: "the operator's OCPP"}

// One answer of each sort through its life, as a charger sees it: what it gets, and
// when an upstream is asked again.
func TestAnswersLastAsLongAsTheySay(t *testing.T) {
	t.Parallel()
	const soa = "example. %d IN SOA ns.example. root.example. 1 2 3 4 %d"
	soaOf := func(ttl, minimum int) []string { return []string{fmt.Sprintf(soa, ttl, minimum)} }
	tests := []struct {
		name               string
		rcode              int
		records, authority []string
		want               outcome
		lasts              time.Duration // 0: it is asked for each time
	}{
		{name: "an address", records: []string{hub + " 60 IN A 192.0.2.1"}, want: outcome{first: "192.0.2.1", ttl: 60}, lasts: time.Minute},
		{name: "an address that should not be kept, for the floor", records: []string{hub + " 0 IN A 192.0.2.1"}, want: outcome{first: "192.0.2.1", ttl: 5}, lasts: minTTL},
		{name: "an address for a day, for the ceiling", records: []string{hub + " 86400 IN A 192.0.2.1"}, want: outcome{first: "192.0.2.1", ttl: 3600}, lasts: maxTTL},
		{name: "no such name (RFC 2308, 2.1)", rcode: dns.RcodeNameError, authority: []string{"net. 300 IN SOA ns.example. root.example. 1 2 3 4 120"},
			want: outcome{rcode: dns.RcodeNameError, ttl: 120}, lasts: 2 * time.Minute},
		{name: "no address (RFC 2308, 2.2)", authority: []string{"net. 90 IN SOA ns.example. root.example. 1 2 3 4 120"}, want: outcome{ttl: 90}, lasts: 90 * time.Second},
		{name: "no such name at the end of a chain", rcode: dns.RcodeNameError, records: []string{hub + " 60 IN CNAME gw.example."}, authority: soaOf(300, 20),
			want: outcome{rcode: dns.RcodeNameError, ttl: 60}, lasts: 20 * time.Second},
		{name: "no address at the end of a chain", records: []string{hub + " 60 IN CNAME mid.example.", "mid.example. 60 IN CNAME gw.example."}, authority: soaOf(30, 300),
			want: outcome{ttl: 60}, lasts: 30 * time.Second},
		{name: "no address for a day, for the ceiling of negative answers", authority: []string{"net. 86400 IN SOA ns.example. root.example. 1 2 3 4 86400"},
			want: outcome{ttl: 1800}, lasts: maxNegative},
		{name: "no such name, without the proof", rcode: dns.RcodeNameError, want: outcome{rcode: dns.RcodeNameError}},
		{name: "no address, without the proof"},
		{name: "no address at the end of a chain, with another zone's proof", records: []string{hub + " 60 IN CNAME gw.example."},
			authority: []string{"com. 300 IN SOA ns.example. root.example. 1 2 3 4 120"}, want: outcome{ttl: 60}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(reduced(t, hub, tt.rcode, tt.records, tt.authority))
				h := build(t, c, Config{})
				defer h.memory.shut()
				expect := func(when string, after time.Duration, asked int) {
					t.Helper()
					want := tt.want
					want.ttl -= min(want.ttl, uint32(after/time.Second))
					if tt.want.ttl > 0 {
						want.ttl = max(want.ttl, 1)
					}
					if got := h.hears(hub); got != want {
						t.Errorf("%s: %+v, want %+v", when, got, want)
					}
					if n := c.total(); n != asked {
						t.Errorf("%s: an upstream was asked %d times, want %d", when, n, asked)
					}
				}
				expect("at first", 0, 1)
				if tt.lasts == 0 {
					expect("at once again", 0, 1)
					return
				}
				time.Sleep(tt.lasts / 2)
				expect("half-way", (tt.lasts / 2).Truncate(time.Second), 0)
				time.Sleep(tt.lasts - tt.lasts/2 - time.Millisecond)
				expect("just before its end", tt.lasts-time.Second, 0)
				time.Sleep(time.Millisecond)
				expect("at its end", 0, 1)
			})
		})
	}
}

// A failure is remembered for five seconds where there is nothing else, for thirty
// where there is an old answer, and is never seen while there is a good one.
func TestAFailureIsRememberedAndShadowsNothing(t *testing.T) {
	t.Parallel()
	failure := fmt.Errorf("%w: SERVFAIL", errAnswer)
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(addresses(time.Minute, "192.0.2.1"))
		c.err = failure
		h := build(t, c, Config{})
		defer h.memory.shut()
		ask := func(when string, want outcome, asked int) {
			t.Helper()
			if got := h.hears(hub); got != want {
				t.Errorf("%s: %+v, want %+v", when, got, want)
			}
			if n := c.total(); n != asked {
				t.Errorf("%s: asked %d times, want %d", when, n, asked)
			}
		}
		servfail := outcome{rcode: dns.RcodeServerFailure}
		good := outcome{first: "192.0.2.1", ttl: 60}
		stale := outcome{first: "192.0.2.1", ttl: staleTTL, stale: true}
		ask("at first", servfail, 1)
		time.Sleep(failedFor - 1)
		ask("remembered", servfail, 0)
		time.Sleep(1)
		c.set(func() { c.err = nil })
		ask("after five seconds", good, 1)
		c.set(func() { c.err = failure })
		h.memory.mu.Lock()
		_, _ = h.memory.joinLocked(hub, true) // a refresh that fails
		h.memory.mu.Unlock()
		synctest.Wait()
		ask("a refresh has failed", good, 1)
		time.Sleep(time.Minute)
		ask("the answer has ended", stale, 1)
		time.Sleep(recheckAfter - 1)
		ask("remembered beside the old answer", stale, 0)
		time.Sleep(1)
		ask("after thirty seconds", stale, 1)
		c.set(func() { c.err, c.usual = nil, answer{rcode: dns.RcodeNameError} })
		time.Sleep(recheckAfter)
		ask("no such name, says one without proof", stale, 1)
		c.set(func() { c.err = errDown })
		ask("which has not taken the old answer away", stale, 1)
		c.set(func() {
			c.err, c.usual = nil, reduced(t, hub, dns.RcodeNameError, nil, []string{"net. 60 IN SOA ns.example. root.example. 1 2 3 4 60"})
		})
		time.Sleep(recheckAfter)
		ask("no such name, with proof", outcome{rcode: dns.RcodeNameError, ttl: 60}, 1)
		c.set(func() { c.err = errDown })
		time.Sleep(time.Minute)
		ask("which has", servfail, 1)
	})
}

// A herd asks at the moment when the upstreams have died. All wait together, and
// those who come later wait only for what is left, or not at all.
func TestAHerdWaitsForADeadUpstreamOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(addresses(time.Minute, "192.0.2.1"))
		h := build(t, c, Config{})
		defer h.memory.shut()
		if got := h.hears(hub); got.first != "192.0.2.1" {
			t.Fatal(got)
		}
		c.set(func() { c.late = time.Hour })
		time.Sleep(time.Hour)
		c.total()
		arrivals := []struct {
			after, took time.Duration
		}{
			{0, staleAfter}, {0, staleAfter}, {time.Second, staleAfter - time.Second}, {1799 * time.Millisecond, time.Millisecond},
			{1800 * time.Millisecond, 0}, {2900 * time.Millisecond, 0}, {budget, 0}, {10 * time.Second, 0}, {budget + recheckAfter - 1, 0},
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i, a := range arrivals {
			wg.Go(func() {
				time.Sleep(a.after)
				began := time.Now()
				got := describe(h.memory.find(t.Context(), hub))
				mu.Lock()
				defer mu.Unlock()
				if took := time.Since(began); got != "192.0.2.1 stale" || took != a.took {
					t.Errorf("number %d, after %v: %s in %v, want a stale answer in %v", i, a.after, got, took, a.took)
				}
			})
		}
		wg.Wait()
		if n := c.total(); n != 1 {
			t.Errorf("the upstreams were asked %d times", n)
		}
	})
}

// A pattern lets a stranger ask for names without end. The names of the list stay.
func TestAFloodOfPatternNamesForgetsNoNameOfTheList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(addresses(time.Hour, "192.0.2.1"))
		h := build(t, c, Config{}, ocpp)
		defer h.memory.shut()
		for _, r := range policy.Zaptec() {
			h.hears(key(r.Name))
		}
		for i := range 3 * maxNames {
			h.hears(fmt.Sprintf("x%d.ocpp.example.com.", i))
		}
		c.total()
		for _, r := range policy.Zaptec() {
			if _, ok := h.memory.peek(key(r.Name), time.Now()); !ok {
				t.Errorf("%s was forgotten", r.Name)
			}
		}
		if n := c.total(); n != 0 {
			t.Errorf("looking asked %d times", n)
		}
		if n := h.memory.size(); n != maxNames+len(policy.Zaptec()) {
			t.Errorf("%d names are remembered", n)
		}
	})
}

// Questions for endless names whose askers have left do not pile up, and a name of
// the list is asked for all the same.
func TestQuestionsOnTheirWayAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(addresses(time.Hour, "192.0.2.1"))
		c.late = time.Second
		h := build(t, c, Config{}, ocpp)
		defer h.memory.shut()
		gone, leave := context.WithCancel(t.Context())
		leave()
		for i := range 2 * maxFlights {
			_, err := h.memory.find(gone, fmt.Sprintf("x%d.ocpp.example.com.", i))
			if want := i >= maxFlights; errors.Is(err, errFull) != want {
				t.Fatalf("number %d: %v", i, err)
			}
		}
		if got := describe(h.memory.find(t.Context(), hub)); got != "192.0.2.1 upstream" {
			t.Errorf("the hub: %s", got)
		}
		synctest.Wait()
		if n := len(h.memory.flights); n != 0 {
			t.Errorf("%d are still on their way", n)
		}
	})
}

func TestPeekNeverAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(addresses(time.Minute, "192.0.2.1"))
		m := newMemory(c.ask)
		defer m.shut()
		if k, ok := m.peek(hub, time.Now()); ok || k != nil {
			t.Error("something out of nothing")
		}
		if m.size() != 0 || c.total() != 0 {
			t.Error("looking left something behind")
		}
		f, err := m.find(t.Context(), hub)
		if err != nil || f.kept == nil {
			t.Fatalf("%+v, %v", f, err)
		}
		for _, tt := range []struct {
			after time.Duration
			want  bool
		}{{0, true}, {time.Minute - 1, true}, {time.Minute, false}, {time.Hour, false}} {
			now := f.kept.since.Add(tt.after)
			k, ok := m.peek(hub, now)
			if b, also := m.peekBytes([]byte(hub), now); ok != tt.want || also != ok || b != k || ok && k != f.kept {
				t.Errorf("after %v: %v, want %v", tt.after, ok, tt.want)
			}
		}
		c.set(func() { c.err = errDown })
		time.Sleep(time.Hour)
		if _, err := m.find(t.Context(), hub); err != nil {
			t.Fatal(err)
		}
		if _, ok := m.peek(hub, time.Now()); ok {
			t.Error("an old answer passed for a fresh one")
		}
		name, now := []byte(hub), f.kept.since
		if n := testing.AllocsPerRun(100, func() { m.peekBytes(name, now); m.peek(hub, now) }); n != 0 {
			t.Errorf("looking allocates %v times", n)
		}
	})
}

func TestShelf(t *testing.T) {
	t.Parallel()
	s := newShelf()
	s.put("a.", &entry{vain: 1})
	s.put("b.", &entry{vain: 2})
	s.follow(map[string]bool{"a.": true, "c.": true})
	places := func() map[string]int {
		at := map[string]int{}
		for name, e := range s.all() {
			at[name] = e.vain
			if e.exact {
				at[name] += 10
			}
		}
		return at
	}
	if diff := cmp.Diff(map[string]int{"a.": 11, "b.": 2, "c.": 10}, places()); diff != "" {
		t.Errorf("a and c on the list (-want +got):\n%s", diff)
	}
	s.put("a.", &entry{vain: 3})
	s.follow(map[string]bool{"b.": true})
	if diff := cmp.Diff(map[string]int{"a.": 3, "b.": 12, "c.": 0}, places()); diff != "" {
		t.Errorf("only b (-want +got):\n%s", diff)
	}
	for i := range 2 * maxNames {
		s.put(fmt.Sprint(i), &entry{})
	}
	if e, ok := s.get("b."); !ok || e.vain != 2 {
		t.Error("b was pushed out")
	}
	if e, ok := s.getBytes([]byte("b.")); !ok || e.vain != 2 {
		t.Error("b is not found by its bytes")
	}
	if _, ok := s.get("a."); ok {
		t.Error("a has kept its place")
	}
	if n := s.others.len(); n != maxNames {
		t.Errorf("%d others", n)
	}
}
