package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/event"

	"github.com/google/go-cmp/cmp"
)

func server(n byte) target {
	return target{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, n}), 53)}
}

// A stage is a race with servers that exist in memory only, on a clock that is
// not real.
type stage struct {
	*forwarder
	began time.Time

	mu    sync.Mutex
	tries []string // "1 at 0s"
	act   map[target]func(ctx context.Context, nth int) report
	nth   map[target]int
}

func newStage(log *event.Log) *stage {
	f, _ := forwardTo(log)
	return &stage{forwarder: f, began: time.Now(), act: map[target]func(context.Context, int) report{}, nth: map[target]int{}}
}

// after answers after a while, with an error or without.
func after(d time.Duration, err error) func(context.Context, int) report {
	return func(ctx context.Context, _ int) report {
		select {
		case <-time.After(d):
			return report{answer: answer{ttl: d}, took: d, err: err}
		case <-ctx.Done():
			return report{err: ctx.Err()}
		}
	}
}

func dead(ctx context.Context, _ int) report {
	<-ctx.Done()
	return report{err: ctx.Err()}
}

// plays says how a server acts from now on.
func (s *stage) plays(t target, act func(context.Context, int) report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.act[t] = act
}

// taken returns the tries since it was last called.
func (s *stage) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	tries := s.tries
	s.tries = nil
	return tries
}

func (s *stage) ask(ctx context.Context, all ...target) (answer, error) {
	order, beside := s.health.order(all, time.Now())
	if beside != (target{}) {
		s.spawn(func(life context.Context) {
			defer s.health.unwatch(beside)
			ctx, cancel := context.WithTimeout(life, budget)
			defer cancel()
			s.follow(ctx, beside, hub, time.Now(), nil, s.try, func() {})
		})
	}
	return s.race(ctx, hub, order, beginning{at: time.Now()}, s.try)
}

func (s *stage) try(ctx context.Context, t target, _ *letter) report {
	s.mu.Lock()
	s.nth[t]++
	n, act := s.nth[t], s.act[t]
	s.tries = append(s.tries, fmt.Sprintf("%d at %v", t.addr.Addr().As4()[3], time.Since(s.began)))
	s.mu.Unlock()
	return act(ctx, n)
}

func TestRace(t *testing.T) {
	t.Parallel()
	one, two, three := server(1), server(2), server(3)
	refusal := fmt.Errorf("%w: REFUSED", errAnswer)
	tests := []struct {
		name  string
		known map[target]time.Duration // usual latencies
		act   map[target]func(context.Context, int) report
		asked []target
		tries []string
		took  time.Duration
		fault string
	}{
		{
			name: "the best answers in its time: nobody else is asked", asked: []target{one, two},
			known: map[target]time.Duration{one: 20 * time.Millisecond, two: 30 * time.Millisecond},
			act:   map[target]func(context.Context, int) report{one: after(20*time.Millisecond, nil), two: dead},
			tries: []string{"1 at 0s"}, took: 20 * time.Millisecond,
		},
		{
			name: "the quickest is first whatever the configuration says", asked: []target{one, two, three},
			known: map[target]time.Duration{one: 200 * time.Millisecond, two: 90 * time.Millisecond, three: 10 * time.Millisecond},
			act:   map[target]func(context.Context, int) report{three: after(10*time.Millisecond, nil)},
			tries: []string{"3 at 0s"}, took: 10 * time.Millisecond,
		},
		{
			name: "the best is late: the next is asked after its usual time", asked: []target{one, two},
			known: map[target]time.Duration{one: 20 * time.Millisecond, two: 100 * time.Millisecond},
			act:   map[target]func(context.Context, int) report{one: after(2*time.Second, nil), two: after(100*time.Millisecond, nil)},
			tries: []string{"1 at 0s", "2 at 60ms"}, took: 160 * time.Millisecond,
		},
		{
			name: "the best is late and still wins", asked: []target{one, two},
			known: map[target]time.Duration{one: 20 * time.Millisecond, two: 100 * time.Millisecond},
			act:   map[target]func(context.Context, int) report{one: after(80*time.Millisecond, nil), two: after(100*time.Millisecond, nil)},
			tries: []string{"1 at 0s", "2 at 60ms"}, took: 80 * time.Millisecond,
		},
		{
			name: "nobody is known: each has a moment alone", asked: []target{one, two, three},
			act:   map[target]func(context.Context, int) report{one: dead, two: dead, three: after(10*time.Millisecond, nil)},
			tries: []string{"1 at 0s", "2 at 400ms", "3 at 800ms"}, took: 810 * time.Millisecond,
		},
		{
			name: "a refusal passes the question on at once", asked: []target{one, two},
			act:   map[target]func(context.Context, int) report{one: after(5*time.Millisecond, refusal), two: after(10*time.Millisecond, nil)},
			tries: []string{"1 at 0s", "2 at 5ms"}, took: 15 * time.Millisecond,
		},
		{
			name: "everybody refuses: that is told at once, and nobody is asked again", asked: []target{one, two},
			act:   map[target]func(context.Context, int) report{one: after(5*time.Millisecond, refusal), two: after(10*time.Millisecond, refusal)},
			tries: []string{"1 at 0s", "2 at 5ms"}, took: 15 * time.Millisecond, fault: "REFUSED",
		},
		{
			name: "the only one is silent: it is asked every second", asked: []target{one},
			act:   map[target]func(context.Context, int) report{one: dead},
			tries: []string{"1 at 0s", "1 at 1s", "1 at 2s"}, took: budget, fault: "no answer",
		},
		{
			name: "the first packet is lost", asked: []target{one},
			act: map[target]func(context.Context, int) report{one: func(ctx context.Context, nth int) report {
				if nth == 1 {
					return dead(ctx, nth)
				}
				return after(10*time.Millisecond, nil)(ctx, nth)
			}},
			tries: []string{"1 at 0s", "1 at 1s"}, took: 1010 * time.Millisecond,
		},
		{
			name: "an answer after the time of one try is taken all the same", asked: []target{one},
			act:   map[target]func(context.Context, int) report{one: after(1800*time.Millisecond, nil)},
			tries: []string{"1 at 0s", "1 at 1s"}, took: 1800 * time.Millisecond,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(nil)
				s.act = tt.act
				s.health.order(tt.asked, time.Now())
				for x, d := range tt.known {
					for range 40 { // until the deviation is small
						s.health.answered(x, d, time.Now())
					}
				}
				a, err := s.ask(t.Context(), tt.asked...)
				took := time.Since(s.began)
				s.shut()
				if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("got %v, %v; want %q", a, err, tt.fault)
				}
				// The least head start is 50 ms, and the deviation is never quite nothing.
				got := s.taken()
				tries := slices.Clone(got)
				for i := range tries {
					tries[i] = strings.Replace(tries[i], "2 at 50ms", "2 at 60ms", 1)
				}
				if len(tt.known) == 0 || len(tt.tries) == 1 {
					if diff := cmp.Diff(tt.tries, got); diff != "" {
						t.Errorf("tries (-want +got):\n%s", diff)
					}
					if took != tt.took {
						t.Errorf("took %v, want %v", took, tt.took)
					}
				} else if len(tries) != len(tt.tries) || (took-tt.took).Abs() > 15*time.Millisecond {
					t.Errorf("tries %v in %v, want %v in about %v", tries, took, tt.tries, tt.took)
				}
			})
		})
	}
}

// The best server dies. Chargers go on getting answers with hardly a pause, the
// dead one is asked ever more seldom and never alone, and when it lives again it
// is found out.
func TestADeadServerIsAskedBesideALivingOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, two := server(1), server(2)
		log := event.New(event.Options{Keep: 20})
		s := newStage(log)
		defer s.shut()
		s.plays(one, after(10*time.Millisecond, nil))
		s.plays(two, after(40*time.Millisecond, nil))
		worst := func(d time.Duration) (worst time.Duration, toOne int) {
			s.taken()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				began := time.Now()
				if _, err := s.ask(t.Context(), one, two); err != nil {
					t.Fatalf("after %v: %v", time.Since(s.began), err)
				}
				worst = max(worst, time.Since(began))
			}
			synctest.Wait()
			for _, x := range s.taken() {
				if strings.HasPrefix(x, "1 ") {
					toOne++
				}
			}
			return worst, toOne
		}
		if w, _ := worst(time.Minute); w > 50*time.Millisecond {
			t.Errorf("with both alive the slowest answer took %v", w)
		}
		s.plays(one, dead)
		if w, _ := worst(2 * time.Second); w > 200*time.Millisecond {
			t.Errorf("as it died the slowest answer took %v", w)
		}
		if w, n := worst(5 * time.Minute); w > 50*time.Millisecond || n < 5 || n > 14 {
			t.Errorf("while it was dead the slowest answer took %v, and it was asked %d times in five minutes", w, n)
		}
		if _, lost := s.health.lost(); lost != 1 {
			t.Errorf("%d are lost, want one", lost)
		}
		s.plays(one, after(10*time.Millisecond, nil))
		if w, n := worst(2 * time.Minute); w > 50*time.Millisecond || n < 500 {
			t.Errorf("after it came back the slowest answer took %v, and it was asked %d times in two minutes", w, n)
		}
		var said []string
		for _, r := range log.Recent(0, "") {
			said = append(said, r.Kind.ID)
		}
		slices.Sort(said)
		if diff := cmp.Diff([]string{"resolver-upstream-lost", "resolver-upstream-restored"}, said); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// When all are dead, all are asked.
func TestAllAreTriedWhenAllAreDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, two := server(1), server(2)
		s := newStage(nil)
		defer s.shut()
		s.plays(one, dead)
		s.plays(two, dead)
		for range 3 {
			if _, err := s.ask(t.Context(), one, two); err == nil {
				t.Fatal("an answer from the dead")
			}
		}
		s.taken()
		s.plays(two, after(10*time.Millisecond, nil))
		began := time.Now()
		if _, err := s.ask(t.Context(), one, two); err != nil || time.Since(began) > time.Second {
			t.Errorf("%v after %v, with %v", err, time.Since(began), s.taken())
		}
	})
}

// A slower server is looked at now and then, so that it is found when it becomes
// the better one.
func TestABetterServerIsFound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, two := server(1), server(2)
		s := newStage(nil)
		defer s.shut()
		s.plays(one, after(80*time.Millisecond, nil))
		s.plays(two, after(5*time.Millisecond, nil))
		for range 300 {
			if _, err := s.ask(t.Context(), one, two); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if order, _ := s.health.order([]target{one, two}, time.Now()); order[0].target != two {
			t.Errorf("after half a minute %v is asked first", order[0])
		}
	})
}

// Little differences do not make the order change all the time.
func TestTheBestIsKeptWhileNoneIsMuchBetter(t *testing.T) {
	t.Parallel()
	one, two, now := server(1), server(2), time.Now()
	all := []target{one, two}
	var h health
	h.order(all, now)
	changes, last := 0, one
	for i := range 1000 {
		h.answered(one, time.Duration(20+i%3)*time.Millisecond, now)
		h.answered(two, time.Duration(20+(i+1)%3)*time.Millisecond, now)
		if order, _ := h.order(all, now); order[0].target != last {
			changes, last = changes+1, order[0].target
		}
	}
	if changes > 1 {
		t.Errorf("the order changed %d times", changes)
	}
}

func TestHeadStart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		latencies []time.Duration
		least     time.Duration
		most      time.Duration
	}{
		{"unknown", nil, newHeadStart, newHeadStart},
		{"a quick one", slices.Repeat([]time.Duration{time.Millisecond}, 50), minHeadStart, minHeadStart},
		{"first answer", []time.Duration{100 * time.Millisecond}, 300 * time.Millisecond, 300 * time.Millisecond},
		{"a steady one", slices.Repeat([]time.Duration{100 * time.Millisecond}, 50), 100 * time.Millisecond, 110 * time.Millisecond},
		{"a restless one", slices.Repeat([]time.Duration{50 * time.Millisecond, 150 * time.Millisecond}, 50), 250 * time.Millisecond, 350 * time.Millisecond},
		{"a very slow one", slices.Repeat([]time.Duration{5 * time.Second}, 5), maxHeadStart, maxHeadStart},
	} {
		var c condition
		for _, d := range tt.latencies {
			c.measure(d)
		}
		if got := c.headStart(); got < tt.least || got > tt.most {
			t.Errorf("%s: %v, want %v to %v", tt.name, got, tt.least, tt.most)
		}
	}
}

// The pause of a dead server doubles from a second to a minute.
func TestPause(t *testing.T) {
	t.Parallel()
	one, now := server(1), time.Now()
	var h health
	h.order([]target{one}, now)
	var got []time.Duration
	for range 8 {
		h.failed(one, errSilent, now)
		got = append(got, h.of[one].due.Sub(now))
	}
	s := time.Second
	if diff := cmp.Diff([]time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 60 * s, 60 * s}, got); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
}

// A question that ends early leaves nothing behind, and one that is broken off
// says nothing of the servers.
func TestABrokenOffRaceIsNobodysFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, two := server(1), server(2)
		s := newStage(nil)
		s.plays(one, dead)
		s.plays(two, dead)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, cancel)
		if _, err := s.ask(ctx, one, two); err == nil || time.Since(s.began) != 500*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(s.began))
		}
		s.shut()
		if time.Since(s.began) != 500*time.Millisecond {
			t.Errorf("shut took until %v", time.Since(s.began))
		}
		if c := s.health.of[one]; c.fails > 0 {
			t.Errorf("%d failures are noted", c.fails)
		}
		if _, err := s.ask(t.Context(), one, two); err == nil {
			t.Error("an answer after the end")
		}
	})
}

// A lost server is not asked instead of a living one, but before a question fails
// it is.
func TestTheLostAreTheLastResort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one, two := server(1), server(2)
		s := newStage(nil)
		defer s.shut()
		s.health.order([]target{one, two}, time.Now())
		for range lostAfter {
			s.health.failed(one, errSilent, time.Now())
		}
		s.plays(one, after(10*time.Millisecond, nil))
		s.plays(two, after(300*time.Millisecond, nil))
		if _, err := s.ask(t.Context(), one, two); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"2 at 0s"}, s.taken()); diff != "" {
			t.Errorf("while the other answers (-want +got):\n%s", diff)
		}
		s.plays(two, after(10*time.Millisecond, fmt.Errorf("%w: SERVFAIL", errAnswer)))
		if _, err := s.ask(t.Context(), one, two); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"2 at 300ms", "1 at 310ms"}, s.taken()); diff != "" {
			t.Errorf("when the other has failed (-want +got):\n%s", diff)
		}
	})
}
