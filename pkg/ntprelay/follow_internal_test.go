package ntprelay

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"

	"github.com/google/go-cmp/cmp"
)

// A room is a relay whose clock and chronyd do what the story says.
type room struct {
	*Server
	log *event.Log

	mu    sync.Mutex
	drift time.Duration
	read  func() (reading, error)
	asked int
	hangs bool // the reading never returns
}

func newRoom() *room {
	r := &room{log: event.New(event.Options{Keep: 100})}
	r.Server = New(Config{Source: Chrony}, charger.NewBook(nil, nil), r.log)
	r.Server.look = func() (time.Time, time.Duration) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return time.Now(), r.drift
	}
	r.watch = func(ctx context.Context) (reading, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.asked++
		if r.hangs {
			<-ctx.Done()
		}
		return r.read()
	}
	return r
}

func (r *room) says(read func() (reading, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read = read
}

func (r *room) steps(by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drift += by
}

// events returns the names of what was said since the last call.
func (r *room) events(after *uint64) []string {
	var ids []string
	for _, e := range r.log.Recent(*after, "") {
		ids = append(ids, e.Kind.ID)
		*after = e.Seq
	}
	return ids
}

// heardAt is a report of a clock that was last corrected at a moment.
func heardAt(ref time.Time) func() (reading, error) {
	return func() (reading, error) {
		r := goodReading(time.Now())
		r.refTime = ref
		return r, nil
	}
}

func unsynced() (reading, error) {
	return reading{at: time.Now(), leap: 3}, nil
}

func TestADayOfAClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		r.says(unsynced)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.follow(ctx) })
		defer wg.Wait()
		defer cancel()

		var seen uint64
		chapter := func(name string, lasts time.Duration, serving bool, want ...string) {
			t.Helper()
			time.Sleep(lasts) // the bubble's time, not ours
			synctest.Wait()
			if got := r.now.Load().silence(time.Now()); (got == "") != serving {
				t.Errorf("%s: serving is %v (%s)", name, got == "", got)
			}
			if diff := cmp.Diff(want, r.events(&seen)); diff != "" {
				t.Errorf("%s: events (-want +got):\n%s", name, diff)
			}
		}

		chapter("booted, no source yet", time.Minute, false)
		r.says(func() (reading, error) {
			g := goodReading(time.Now())
			g.growth = 0.2 // at once within 15 ms, and after the next 8 s within 1.6 s
			return g, nil
		})
		chapter("chronyd's first samples: sure of the time, not of the clock's speed", time.Minute, false)
		r.says(unsynced)
		r.steps(50 * 365 * 24 * time.Hour)
		chapter("chronyd sets the clock", time.Second, false, "ntprelay-clock-set")
		first := time.Now()
		r.says(func() (reading, error) {
			g, err := heardAt(first)()
			g.corrected = 50 * 365 * 24 * time.Hour
			return g, err
		})
		chapter("and knows the time", 5*time.Second, true, "ntprelay-synchronised")
		chapter("all is well", time.Hour, true)
		r.says(func() (reading, error) { return reading{}, errors.New("connection refused") })
		chapter("chronyd restarts quickly", 3*time.Second, true)
		r.says(heardAt(first))
		chapter("and is back", 10*time.Second, true)
		r.says(func() (reading, error) { return reading{}, errors.New("connection refused") })
		chapter("chronyd is gone", time.Hour, false, "ntprelay-lost")
		r.says(heardAt(first))
		chapter("and comes back", 3*time.Second, true, "ntprelay-synchronised")

		r.steps(-time.Hour)
		r.readSoon()
		chapter("somebody sets the clock, chronyd has not noticed", time.Hour, false, "ntprelay-clock-stepped", "ntprelay-lost")
		r.says(heardAt(time.Now()))
		chapter("chronyd hears of its source", 3*time.Second, true, "ntprelay-synchronised")

		hears := func(times int) { // of its source, once a second
			for range times {
				r.says(heardAt(time.Now()))
				time.Sleep(time.Second)
			}
		}
		r.steps(3 * time.Second)
		chapter("a step that no request notices is found by the next reading", 5*time.Second, false, "ntprelay-clock-stepped", "ntprelay-lost")
		hears(mixed - 1)
		chapter("it may still go by what it measured before the step", time.Hour, false)
		hears(1)
		chapter("confirmed again", 5*time.Second, true, "ntprelay-synchronised")

		within := func(want time.Duration) {
			t.Helper()
			if got := r.Clock().RootDistance.Round(time.Millisecond); got != want {
				t.Errorf("the clock is said to be right within %v, want %v", got, want)
			}
		}
		within(15 * time.Millisecond)
		r.steps(200 * time.Millisecond)
		chapter("a small step", 5*time.Second, false, "ntprelay-clock-stepped", "ntprelay-lost")
		r.steps(-200 * time.Millisecond)
		chapter("and another", 5*time.Second, false, "ntprelay-clock-set")
		hears(2)
		chapter("confirmed, and as wrong as both steps perhaps", 0, true, "ntprelay-synchronised")
		within(415 * time.Millisecond)
		hears(mixed)
		within(15 * time.Millisecond)
		first = time.Now()

		r.says(func() (reading, error) {
			g, err := heardAt(first)()
			g.dispersion = 2 * time.Second
			return g, err
		})
		chapter("holdover is over", 10*time.Second, false, "ntprelay-lost")
		r.says(unsynced)
		chapter("still nothing", time.Hour, false)
		r.says(func() (reading, error) { return reading{}, errors.New("connection refused") })
		chapter("and chronyd ends, too", time.Hour, false, "ntprelay-chronyd-unreachable")
		r.says(unsynced)
		chapter("it comes back, and knows nothing", time.Hour, false, "ntprelay-chronyd-answers")
	})
}

func TestAReadingThatNeverReturnsEndsTheService(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		r.says(heardAt(time.Now()))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { r.follow(ctx) })
		time.Sleep(time.Second)
		r.mu.Lock()
		r.hangs = true
		r.mu.Unlock()
		time.Sleep(maxSilence + everyServing)
		if got := r.now.Load().silence(time.Now()); got == "" {
			t.Error("the time is given though nothing was heard of the clock")
		}
		if c := r.Clock(); c.Synchronised || c.Reason == "" {
			t.Errorf("Clock says %+v", c)
		}
		cancel()
		wg.Wait()
	})
}

func TestReadingsAreSeldomWhileAllIsWell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		r.says(heardAt(time.Now()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour-everyServing/2)
		defer cancel()
		r.follow(ctx)
		if want := int(time.Hour / everyServing); r.asked != want {
			t.Errorf("%d readings an hour, want %d", r.asked, want)
		}
	})
}

// Who looks at the log of a day finds in it that no time is given, and why.
func TestThatNoTimeIsGivenIsSaidDaily(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		r.says(unsynced)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.follow(ctx) })
		defer wg.Wait()
		defer cancel()
		var seen uint64
		chapter := func(name string, lasts time.Duration, want ...string) {
			t.Helper()
			time.Sleep(lasts)
			synctest.Wait()
			var got []string
			for _, e := range r.log.Recent(seen, "") {
				got, seen = append(got, e.Message), e.Seq
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: said (-want +got):\n%s", name, diff)
			}
		}
		chapter("a start like any other", 3*time.Minute-time.Second)
		chapter("a slow one", 2*time.Second, "this box has not known the time for 3m, and gives none: the clock is not synchronised")
		chapter("said once", 23*time.Hour)
		r.steps(time.Hour) // days are counted on the monotonic clock
		chapter("the clock is set, to no avail", 30*time.Minute, "the clock was set by 1h")
		chapter("a day later", time.Hour, "this box has not known the time for 24h3m, and gives none: the clock was set and has not been confirmed since")
		r.says(func() (reading, error) { return heardAt(time.Now())() })
		chapter("it is known", time.Hour, "this box knows the time (stratum 3, within 15ms) and gives it to chargers")
		r.says(unsynced)
		chapter("and lost", 23*time.Hour, "this box no longer knows the time and gives none: the clock is not synchronised")
		chapter("for a day", 2*time.Hour, "this box has not known the time for 24h, and gives none: the clock is not synchronised")
	})
}
