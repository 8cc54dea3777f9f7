package resolver

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const (
	api     = "api.zaptec.com."
	devices = "devices.zaptec.com."
	older   = "zapcloud-api.azurewebsites.net."
)

// everyName is one question for each name of the profile.
var everyName = map[string]int{hub: 1, api: 1, devices: 1, older: 1}

// A name that somebody asks for is there all day: nobody waits, no answer is older
// than its TTL, and it costs little more than one question in each TTL.
func TestAWantedNameIsRefreshedBeforeItsEnd(t *testing.T) {
	t.Parallel()
	for _, ttl := range []time.Duration{minTTL, time.Minute, 10 * time.Minute, maxTTL} {
		t.Run(ttl.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(addresses(ttl, "192.0.2.1"))
				c.late = 100 * time.Millisecond
				h := build(t, c, Config{})
				defer h.live()()
				time.Sleep(10 * time.Second)
				if _, err := h.memory.find(t.Context(), hub); err != nil { // the first may wait
					t.Fatal(err)
				}
				c.count()
				const day = 24 * time.Hour
				step := max(ttl/8, time.Second)
				for began := time.Now(); time.Since(began) < day; time.Sleep(step) {
					f, err := h.memory.find(t.Context(), hub)
					if err != nil || f.origin != fromCache || f.age >= ttl {
						t.Fatalf("after %v: from %d, %v old, %v", time.Since(began), f.origin, f.age, err)
					}
				}
				n := c.count()
				least, most := int(day/ttl), int(day/(ttl-max(ttl/10, time.Second)))+1
				if n[hub] < least || n[hub] > most {
					t.Errorf("a day costs %d questions, want %d to %d", n[hub], least, most)
				}
				if n[api] < 24 || n[api] > 25 {
					t.Errorf("a name that nobody wants costs %d a day", n[api])
				}
			})
		})
	}
}

// The address of the hub changes while it is dialled all the time, and so do
// answers to chargers: everybody has the new one within the TTL of the old.
func TestAChangedAddressIsDialledWithinItsTTL(t *testing.T) {
	t.Parallel()
	const ttl = time.Minute
	for _, into := range []time.Duration{0, ttl / 2, ttl - 7*time.Second, ttl - 3*time.Second, ttl - time.Second} {
		t.Run(fmt.Sprint(into), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(addresses(ttl, "192.0.2.1"))
				c.late = 200 * time.Millisecond
				h := build(t, c, Config{})
				defer h.live()()
				if _, err := h.LookupNetIP(t.Context(), "ip4", "zapcloud.azure-devices.net"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5*time.Minute + into)
				c.set(func() { c.usual = addresses(ttl, "192.0.2.2") })
				changed := time.Now()
				var wg sync.WaitGroup
				for i := range 8 {
					wg.Go(func() {
						time.Sleep(time.Duration(i) * 7 * time.Millisecond)
						seen := false
						for time.Since(changed) < 3*ttl {
							got, err := h.LookupNetIP(t.Context(), "ip4", "zapcloud.azure-devices.net")
							if err != nil || len(got) != 1 {
								t.Errorf("after %v: %v, %v", time.Since(changed), got, err)
								return
							}
							isNew := got[0] == netip.MustParseAddr("192.0.2.2")
							if seen && !isNew || !isNew && time.Since(changed) > ttl {
								t.Errorf("%v after the change a dial goes to %s", time.Since(changed), got[0])
								return
							}
							seen = seen || isNew
							time.Sleep(50 * time.Millisecond)
						}
						if got := h.hears(hub); got.first != "192.0.2.2" {
							t.Errorf("a charger hears %+v", got)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

func TestNamesOfTheListAreFetchedAtTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(addresses(time.Minute, "192.0.2.1"))
		h := build(t, c, Config{}, ocpp)
		defer h.live()()
		time.Sleep(settleFor + refreshPace)
		if diff := cmp.Diff(everyName, c.count()); diff != "" {
			t.Errorf("at the start (-want +got):\n%s", diff)
		}
		time.Sleep(idleRefresh - time.Minute)
		if n := c.total(); n != 0 {
			t.Errorf("in the first hour %d questions for names that nobody wants", n)
		}
		time.Sleep(2 * time.Minute)
		if diff := cmp.Diff(everyName, c.count()); diff != "" {
			t.Errorf("after an hour (-want +got):\n%s", diff)
		}
	})
}

// The uplink comes an hour after the garage. Until then the upstreams are left in
// peace more and more; whoever asks first then brings all names with it.
func TestNamesOfTheListAreFetchedWhenTheUplinkComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(addresses(time.Minute, "192.0.2.1"))
		c.late, c.err = time.Hour, errDown
		h := build(t, c, Config{})
		defer h.live()()
		time.Sleep(time.Hour)
		n := c.count()
		for name := range everyName {
			if n[name] < 10 || n[name] > 20 {
				t.Errorf("%s was asked for %d times in an hour without an uplink", name, n[name])
			}
		}
		c.set(func() { c.late, c.err = 0, nil })
		time.Sleep(failedFor) // a name that was just asked for in vain
		c.count()
		if got := h.hears(hub); got.first != "192.0.2.1" {
			t.Errorf("the charger hears %+v", got)
		}
		time.Sleep(2 * refreshPace)
		for name := range everyName {
			if _, ok := h.memory.peek(name, time.Now()); !ok {
				t.Errorf("%s is not known", name)
			}
		}
	})
}

// The same where nobody asks: the server's own question while all are lost finds
// the uplink, and the names follow.
func TestNamesOfTheListAreFetchedWhenTheProbeIsAnswered(t *testing.T) {
	t.Parallel()
	u := upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
		says(t, strings.ToLower(q.Question[0].Name)+" 60 IN A 192.0.2.1")(w, q)
	})
	s := New(Config{Upstreams: []Upstream{{Addr: u}}}, zaptecAnd(t), charger.NewBook(nil, nil), nil)
	m := s.memory
	m.follow(exactNames(s.list))
	now := time.Now()
	m.mu.Lock()
	for name := range everyName {
		m.learnLocked(name, answer{}, errDown, now)
	}
	m.mu.Unlock()
	if wait := m.refresh(now, s.list.Holds); wait != retryFirst {
		t.Errorf("after the failure the next refresh is due in %v", wait)
	}
	s.probeFor(t.Context(), policy.Hub)
	m.refresh(now, s.list.Holds)
	eventually(func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.flights) == 0
	})
	for name := range everyName {
		if _, ok := m.peek(name, time.Now()); !ok {
			t.Errorf("%s is not known", name)
		}
	}
	m.shut()
}

func TestAFaultInReadingAnAnswerCostsThatAnswer(t *testing.T) {
	t.Parallel()
	log := event.New(event.Options{Keep: 10})
	s := New(Config{}, zaptecAnd(t), charger.NewBook(nil, nil), log)
	s.forward = nil // the next question meets a fault
	defer s.memory.shut()
	if _, err := s.memory.find(t.Context(), hub); !errors.Is(err, errPanic) {
		t.Errorf("%v", err)
	}
	if said := log.Recent(0, ""); len(said) != 1 || said[0].Kind != event.PanicRecovered || s.count.panics.Load() != 1 {
		t.Errorf("said %v", said)
	}
}

// A pattern's name is refreshed if it was used; strangers' names cost one question
// each and no more.
func TestPatternNamesAreRefreshedOnlyIfUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(addresses(time.Minute, "192.0.2.1"))
		h := build(t, c, Config{}, ocpp)
		defer h.live()()
		time.Sleep(time.Minute)
		c.count()
		const strangers = 200
		for i := range strangers {
			h.hears(fmt.Sprintf("x%d.ocpp.example.com.", i))
		}
		for range 60 {
			h.hears("cs.ocpp.example.com.")
			time.Sleep(10 * time.Second)
		}
		n := c.count()
		if got := n["cs.ocpp.example.com."]; got < 10 || got > 12 {
			t.Errorf("the name in use was asked for %d times in ten minutes", got)
		}
		if n["x0.ocpp.example.com."] != 1 || len(n) > strangers+1+len(everyName) {
			t.Errorf("a stranger's name was asked for %d times, %d names in all", n["x0.ocpp.example.com."], len(n))
		}
		if _, ok := h.memory.peek("cs.ocpp.example.com.", time.Now()); !ok {
			t.Error("it is gone")
		}
		time.Sleep(2 * time.Hour)
		if n := c.count()["cs.ocpp.example.com."]; n > 2 {
			t.Errorf("out of use it was asked for %d times", n)
		}
	})
}

// A refresh that fails takes nothing away, is tried again seldom, and spares those
// who ask the wait.
func TestRefreshesThatFailBackOffAndSpareTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(addresses(time.Minute, "192.0.2.1"))
		h := build(t, c, Config{})
		defer h.live()()
		h.hears(hub)
		time.Sleep(30 * time.Second)
		c.set(func() { c.late = time.Hour })
		c.count()
		began := time.Now()
		for time.Since(began) < time.Hour {
			if got := h.hears(hub); got.first != "192.0.2.1" || got.took > 0 || got.stale != (time.Since(began) >= 30*time.Second) {
				t.Fatalf("after %v: %+v", time.Since(began), got)
			}
			time.Sleep(time.Second)
		}
		if n := c.count()[hub]; n < 3600/40 || n > 3600/25 {
			t.Errorf("asked %d times in an hour", n)
		}
		c.set(func() { c.late, c.usual = 0, addresses(time.Minute, "192.0.2.2") })
		time.Sleep(recheckAfter)
		if got := h.hears(hub); got != (outcome{first: "192.0.2.2", ttl: got.ttl}) {
			t.Errorf("half a minute after the end of it: %+v", got)
		}
	})
}

func TestTheListIsFollowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(addresses(time.Minute, "192.0.2.1"))
		h := build(t, c, Config{})
		defer h.live()()
		time.Sleep(time.Minute)
		for range 3 { // somebody uses it up to the end
			h.hears(api)
			time.Sleep(time.Second)
		}
		if err := h.list.Replace([]policy.Rule{policy.Zaptec()[0], {Name: "Own.Example.com", Ports: []uint16{443}, Reason: "the site's own"}}); err != nil {
			t.Fatal(err)
		}
		c.count()
		time.Sleep(followEvery + refreshPace)
		if diff := cmp.Diff(map[string]int{"own.example.com.": 1}, c.count()); diff != "" {
			t.Errorf("at once (-want +got):\n%s", diff)
		}
		time.Sleep(3 * time.Hour)
		for name := range c.count() {
			if name != hub && name != "own.example.com." {
				t.Errorf("%s is still asked for", name)
			}
		}
	})
}

func TestFewRefreshesAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(addresses(time.Minute, "192.0.2.1"))
		c.late = time.Second
		var rules []policy.Rule
		for i := range 100 {
			rules = append(rules, policy.Rule{Name: fmt.Sprintf("n%d.example.com", i), Ports: []uint16{443}, Reason: "one of many"})
		}
		h := build(t, c, Config{}, rules...)
		defer h.live()()
		time.Sleep(time.Minute)
		if n := h.memory.size(); n != 104 {
			t.Errorf("%d names are known", n)
		}
		if c.widest != maxRefreshing {
			t.Errorf("%d at once", c.widest)
		}
	})
}

// The upstreams die for 71 h, and the charger that asks then has its answer; for
// 73 h, and it is told that there is none. With and without others who ask
// meanwhile.
func TestUpstreamDeadForThreeDays(t *testing.T) {
	t.Parallel()
	for _, busy := range []bool{false, true} {
		t.Run(map[bool]string{true: "in a busy garage", false: "in a quiet garage"}[busy], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(addresses(time.Minute, "192.0.2.1"))
				h := build(t, c, Config{})
				defer h.live()()
				if got := h.hears(hub); got != (outcome{first: "192.0.2.1", ttl: 60}) {
					t.Fatalf("%+v", got)
				}
				came := time.Now()
				c.set(func() { c.late = time.Hour })
				until := func(age time.Duration) {
					for busy && time.Since(came) < age-10*time.Minute {
						time.Sleep(10 * time.Minute)
						h.hears(hub)
					}
					time.Sleep(age - time.Since(came))
				}
				stale := outcome{first: "192.0.2.1", ttl: 30, stale: true}
				until(71 * time.Hour)
				got := h.hears(hub)
				if took := got.took; took > staleAfter || busy && took > 0 {
					t.Errorf("after 71 h the answer took %v", took)
				}
				if got.took = 0; got != stale {
					t.Errorf("after 71 h: %+v", got)
				}
				for range 20 {
					if got := h.hears(hub); got != stale {
						t.Errorf("those after it: %+v", got)
					}
				}
				until(72*time.Hour + time.Minute - time.Second)
				if got := h.hears(hub); got.first != "192.0.2.1" || !got.stale {
					t.Errorf("at the end of it: %+v", got)
				}
				until(73 * time.Hour)
				if got := h.hears(hub); got.rcode != 2 || got.first != "" || got.stale {
					t.Errorf("after 73 h: %+v", got)
				}
				c.set(func() { c.late = 0 })
				time.Sleep(failedFor)
				if got := h.hears(hub); got.first != "192.0.2.1" || got.stale {
					t.Errorf("the uplink is back: %+v", got)
				}
			})
		})
	}
}
