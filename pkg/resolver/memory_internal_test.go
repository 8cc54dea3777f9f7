package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// A world is what the upstreams would say, how late, and how often they were
// asked.
type world struct {
	mu     sync.Mutex
	answer answer
	err    error
	late   time.Duration
	asked  int
}

func (w *world) ask(ctx context.Context, _ string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.late > 0 {
		late := time.NewTimer(w.late)
		defer late.Stop()
		w.mu.Unlock()
		defer w.mu.Lock()
		select {
		case <-late.C:
		case <-ctx.Done():
			return answer{}, ctx.Err()
		}
		return w.answer, w.err
	}
	return w.answer, w.err
}

func (w *world) is(a answer, err error, late time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer, w.err, w.late, w.asked = a, err, late, 0
}

func addresses(ttl time.Duration, addrs ...string) answer {
	a := answer{ttl: ttl}
	for _, s := range addrs {
		addr := netip.MustParseAddr(s)
		a.addrs = append(a.addrs, addr)
		a.records = append(a.records, &dns.A{
			Hdr: dns.RR_Header{Name: hub, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: uint32(ttl / time.Second)}, A: addr.AsSlice()})
	}
	return a
}

var errDown = errors.New("the uplink is down")

// TestTheLifeOfAnAnswer goes through four days in one memory. Each chapter waits,
// changes the world or not, asks once, and compares what came, from where, how
// long it took, and how often the upstreams were asked.
func TestTheLifeOfAnAnswer(t *testing.T) {
	t.Parallel()
	type then struct {
		a    answer
		err  error
		late time.Duration
	}
	one, two := addresses(time.Minute, "192.0.2.1"), addresses(time.Minute, "192.0.2.2")
	chapters := []struct {
		name  string
		wait  time.Duration
		world *then  // nil: as before
		want  string // address and origin, or the error
		took  time.Duration
		asked int
	}{
		{name: "the first question goes to the upstream", world: &then{a: one, late: 30 * time.Millisecond}, want: "192.0.2.1 upstream", took: 30 * time.Millisecond, asked: 1},
		{name: "the second does not", wait: time.Second, want: "192.0.2.1 cache"},
		{name: "just before its end", wait: 58900 * time.Millisecond, world: &then{a: two}, want: "192.0.2.1 cache"},
		{name: "at its end the new address is found", wait: 100 * time.Millisecond, want: "192.0.2.2 upstream", asked: 1},
		{name: "the uplink dies, and the answer ends", wait: time.Hour, world: &then{err: errDown}, want: "192.0.2.2 stale", asked: 1},
		{name: "the failure is remembered", wait: recheckAfter - 1, want: "192.0.2.2 stale"},
		{name: "and tried again", wait: time.Second, want: "192.0.2.2 stale", asked: 1},
		{name: "silence costs the first asker its patience", wait: time.Hour, world: &then{late: time.Hour}, want: "192.0.2.2 stale", took: staleAfter, asked: 1},
		{name: "and the next one nothing", wait: 2 * time.Second, want: "192.0.2.2 stale"},
		{name: "two days later, when nobody has answered for long, it costs less", wait: 48 * time.Hour, want: "192.0.2.2 stale", took: staleSoon, asked: 1},
		{name: "after three days there is no answer", wait: 24 * time.Hour, world: &then{err: errDown}, want: "the uplink is down", asked: 1},
		{name: "for five seconds without asking", wait: failedFor - time.Millisecond, world: &then{a: one}, want: "the uplink is down"},
		{name: "then the uplink is back", wait: time.Millisecond, want: "192.0.2.1 upstream", asked: 1},
	}
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		m := newMemory(w.ask)
		defer m.shut()
		for _, c := range chapters {
			time.Sleep(c.wait) // the bubble's time, not ours
			if c.world != nil {
				w.is(c.world.a, c.world.err, c.world.late)
			}
			w.mu.Lock()
			w.asked = 0
			w.mu.Unlock()
			began := time.Now()
			got := describe(m.find(t.Context(), hub))
			if took := time.Since(began); got != c.want || took != c.took {
				t.Errorf("%s: %s after %v, want %s after %v", c.name, got, took, c.want, c.took)
			}
			w.mu.Lock()
			if w.asked != c.asked {
				t.Errorf("%s: the upstreams were asked %d times, want %d", c.name, w.asked, c.asked)
			}
			w.mu.Unlock()
		}
	})
}

func describe(f found, err error) string {
	if err != nil {
		return err.Error()
	}
	if len(f.addrs) == 0 {
		return fmt.Sprintf("%s %s", dns.RcodeToString[f.rcode], [...]string{"upstream", "cache", "stale"}[f.origin])
	}
	return fmt.Sprintf("%s %s", f.addrs[0], [...]string{"upstream", "cache", "stale"}[f.origin])
}

func TestNegativeAnswersAreKeptOnlyWithProof(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{answer: answer{rcode: dns.RcodeNameError}}
		m := newMemory(w.ask)
		defer m.shut()
		for range 3 {
			if got := describe(m.find(t.Context(), hub)); got != "NXDOMAIN upstream" {
				t.Error(got)
			}
		}
		if w.asked != 3 {
			t.Errorf("without an SOA asked %d times, want 3", w.asked)
		}
		w.is(answer{rcode: dns.RcodeNameError, ttl: time.Minute}, nil, 0)
		for _, want := range []string{"NXDOMAIN upstream", "NXDOMAIN cache"} {
			if got := describe(m.find(t.Context(), hub)); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		time.Sleep(time.Minute)
		w.is(answer{}, errDown, 0)
		if got := describe(m.find(t.Context(), hub)); got != errDown.Error() {
			t.Errorf("an old NXDOMAIN was given again: %s", got)
		}
	})
}

func TestIdenticalQuestionsAreAskedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{answer: addresses(time.Minute, "192.0.2.1"), late: 2 * time.Second}
		m := newMemory(w.ask)
		defer m.shut()
		var mu sync.Mutex
		got := map[string]int{}
		var wg sync.WaitGroup
		for i := range 250 {
			wg.Go(func() {
				patience := 3 * time.Second
				if i < 50 {
					patience = time.Second // its own deadline, nobody else's
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				find := m.find
				if i >= 150 {
					find = m.findPatient
				}
				d := describe(find(ctx, hub))
				mu.Lock()
				defer mu.Unlock()
				got[d]++
			})
		}
		wg.Wait()
		want := map[string]int{"192.0.2.1 upstream": 200, context.DeadlineExceeded.Error(): 50}
		if diff := cmp.Diff(want, got); diff != "" || w.asked != 1 {
			t.Errorf("asked %d times; answers (-want +got):\n%s", w.asked, diff)
		}
		if d := describe(m.find(t.Context(), hub)); d != "192.0.2.1 cache" {
			t.Errorf("afterwards %s", d)
		}
	})
}

func TestShutBreaksOffWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{late: time.Hour}
		m := newMemory(w.ask)
		var wg sync.WaitGroup
		for name, find := range map[string]func(context.Context, string) (found, error){hub: m.find, api: m.findPatient} {
			wg.Go(func() {
				if _, err := find(t.Context(), name); !errors.Is(err, context.Canceled) {
					t.Errorf("who asked for %s got %v", name, err)
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		m.shut()
		wg.Wait()
		if took := time.Since(began); took > 0 {
			t.Errorf("took %v", took)
		}
		if _, err := m.find(t.Context(), hub); !errors.Is(err, errShut) {
			t.Errorf("after the end: %v", err)
		}
		m.open()
		w.is(addresses(time.Minute, "192.0.2.1"), nil, 0)
		if got := describe(m.find(t.Context(), hub)); got != "192.0.2.1 upstream" {
			t.Errorf("opened again: %s", got)
		}
		m.shut()
	})
}

func TestShutWaitsForWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	for name, find := range map[string]func(*memory, context.Context, string) (found, error){"the crew": (*memory).find, "himself": (*memory).findPatient} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var over atomic.Bool
				m := newMemory(func(ctx context.Context, _ string) (answer, error) {
					<-ctx.Done()
					time.Sleep(time.Second)
					over.Store(true)
					return answer{}, ctx.Err()
				})
				go find(m, t.Context(), hub)
				synctest.Wait()
				m.shut()
				if !over.Load() {
					t.Error("it goes on")
				}
			})
		})
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	m := newMemory((&world{answer: addresses(time.Hour, "192.0.2.1")}).ask)
	defer m.shut()
	for i := range 3 * maxNames {
		for _, name := range []string{fmt.Sprintf("x%d.example.", i), hub} {
			if _, err := m.find(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if m.size() != maxNames {
		t.Errorf("remembers %d names, want %d", m.size(), maxNames)
	}
	if got := describe(m.find(t.Context(), hub)); got != "192.0.2.1 cache" {
		t.Errorf("what was used all the time is gone: %s", got)
	}
}

func TestGiven(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	shared := netip.MustParseAddr("192.0.2.1")
	g := newGiven()
	g.note("b.example.", false, []netip.Addr{shared}, now)
	g.note("a.example.", false, []netip.Addr{shared, netip.MustParseAddr("192.0.2.2")}, now.Add(time.Hour))
	if diff := cmp.Diff([]string{"a.example", "b.example"}, g.at(shared, now.Add(24*time.Hour))); diff != "" {
		t.Errorf("a day later (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a.example"}, g.at(shared, now.Add(givenFor))); diff != "" {
		t.Errorf("a week later (-want +got):\n%s", diff)
	}
	for i := range 2 * maxGiven {
		addr := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		g.note(fmt.Sprintf("x%d.example.", i), false, []netip.Addr{addr, shared}, now.Add(2*time.Hour))
	}
	if n := g.others.len(); n != maxGiven {
		t.Errorf("remembers %d addresses, want %d", n, maxGiven)
	}
	if n := len(g.at(shared, now.Add(2*time.Hour))); n != maxSharing {
		t.Errorf("remembers %d names of one address, want %d", n, maxSharing)
	}
}
