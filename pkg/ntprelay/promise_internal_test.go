package ntprelay

import (
	"context"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A world has the true time, a kernel clock that is wrong by some amount, and a
// chronyd that measures and corrects it, as well as a network lets it. The bubble's
// time is the kernel clock's, less all its steps.
//
// chronyd here is honest: its measurements are wrong by half the delay at most,
// and the clock's speed by what it says. That is all that NTP promises.
type world struct {
	rnd  *rand.Rand
	skew float64 // the greatest error of the clock's speed, seconds per second

	mu      sync.Mutex
	wrong   float64 // seconds that the kernel clock is ahead of the true time
	speed   float64 // of that, seconds per second, apart from corrections
	stepped time.Duration

	slew      float64 // the speed of a correction under way; it goes on until chronyd ends it
	remaining float64 // that chronyd has still to correct
	synced    bool
	ref       time.Time // of chronyd's last measurement
	last      float64   // that chronyd found at its last measurement
	updates   int
	unseen    float64 // that the clock was set by others, as far as the next samples hide it
	unheard   int     // how many updates there were since

	gone, hung, cut bool // chronyd is killed, stopped; has no source
}

const (
	networkDelay = 0.020  // root delay, seconds
	jitter       = 0.0005 // chronyd's dispersion at a measurement
	ownError     = 1e-6   // that chronyd adds for what nobody knows
)

// pass lets time go by, in the kernel clock and in chronyd.
func (w *world) pass(dt time.Duration) {
	time.Sleep(dt)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := dt.Seconds()
	w.speed = min(max(w.speed+w.rnd.NormFloat64()*1e-7*math.Sqrt(s), -w.skew), w.skew)
	w.wrong += w.speed * s
	by := w.slew * s
	alive := !w.gone && !w.hung
	if alive && by*(w.remaining-by) < 0 {
		by, w.slew = w.remaining, 0 // chronyd ends the correction in time
	}
	w.wrong += by
	w.remaining -= by
}

// correct begins a correction, as sys_generic.c does.
func (w *world) correct(by float64) {
	w.remaining = by
	w.slew = max(-fastestSlew, min(by/(1+2*w.rnd.Float64()), fastestSlew))
}

// measure is what chronyd does with an answer of its source.
func (w *world) measure() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone || w.hung || w.cut {
		return
	}
	by := -(w.wrong + (w.rnd.Float64()-0.5)*networkDelay - w.misjudged())
	w.ref, w.synced, w.last = time.Now(), true, by
	if w.updates++; w.updates <= 3 && math.Abs(by) > 1 { // makestep 1 3
		w.setClock(by)
		w.remaining, w.slew = 0, 0
		return
	}
	w.correct(by)
}

// misjudged is how much of what others have set the clock by an update leaves out:
// chronyd finds its estimate among the samples from before and those from after, and
// is too short or too far by less than the step until it has thrown away the former,
// which takes it six updates.
func (w *world) misjudged() float64 {
	const mixed = 6
	if w.unheard++; w.unheard > mixed {
		w.unseen = 0
	}
	return w.unseen * (w.rnd.Float64()*1.1 - 0.35)
}

// setClock steps the kernel clock.
func (w *world) setClock(by float64) {
	w.wrong += by
	w.stepped += time.Duration(by * 1e9)
}

// setByOthers steps it without chronyd, which notices nothing below ten seconds, and
// from there on throws all its samples away.
func (w *world) setByOthers(by float64) {
	const noticed = 10
	w.setClock(by)
	w.unseen, w.unheard = w.unseen+by, 0
	if math.Abs(by) > noticed && !w.gone {
		w.synced, w.unseen = false, 0
	}
}

func (w *world) look() (time.Time, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now(), w.stepped
}

func (w *world) read(ctx context.Context) (reading, error) {
	if err := w.deaf(); err != nil {
		if err == os.ErrDeadlineExceeded {
			select {
			case <-ctx.Done():
			case <-time.After(exchangeTime):
			}
		}
		return reading{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if !w.synced {
		return reading{at: now, leap: 3, refTime: time.Unix(0, 0)}, nil
	}
	age := now.Sub(w.ref).Seconds()
	return reading{
		at: now, stratum: 3, refID: 0xc0000201, refTime: w.ref, rootDelay: duration(networkDelay), growth: w.skew + ownError,
		dispersion: duration(jitter + age*(w.skew+ownError) + math.Abs(w.remaining)), offset: duration(w.remaining), corrected: duration(w.last),
	}, nil
}

func (w *world) deaf() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.gone:
		return syscall.ECONNREFUSED
	case w.hung:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// change does something to the world.
func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) kill() { w.change(func() { w.gone, w.hung = true, false }) }

// wake lets a stopped chronyd go on: it ends what has lasted too long.
func (w *world) wake() {
	w.change(func() {
		if w.hung {
			w.hung = false
			w.correct(w.remaining)
		}
	})
}

func (w *world) start() {
	w.change(func() {
		w.gone, w.hung, w.synced, w.updates, w.slew, w.remaining, w.unseen = false, false, false, 0, 0, 0, 0
	})
}

// A question is a charger's request that waits in the socket.
type question struct {
	rx    time.Time
	drift time.Duration
	wrong float64
}

// ask sends a request.
func (w *world) ask() question {
	w.mu.Lock()
	defer w.mu.Unlock()
	return question{time.Now(), w.stepped, w.wrong}
}

// answer lets the relay answer and checks what it promised: to within the root
// distance that the answer tells, the transmit stamp is right, which is all that a
// simple client uses, and so is the mean of both stamps, which is what others use.
func (w *world) answer(t *testing.T, s *Server, q question) bool {
	t.Helper()
	var out [48]byte
	w.mu.Lock()
	drift, wrong := w.stepped, w.wrong
	w.mu.Unlock()
	rx := q.rx.Round(0).Add(q.drift - drift) // an old stamp, seen from the clock as it is now
	if _, ok := s.give(&out, request(), rx, -20); !ok {
		return false
	}
	told := float64(binary.BigEndian.Uint32(out[4:]))/65536/2 + float64(binary.BigEndian.Uint32(out[8:]))/65536
	const rounding = 1e-9
	if math.Abs(wrong) > told+rounding || math.Abs(wrong+q.wrong)/2 > told+rounding {
		t.Errorf("%v: arrival is wrong by %.4f s, departure by %.4f s, the answer says %.4f s at most", time.Now(), q.wrong, wrong, told)
	}
	return true
}

// live runs a relay in a world for as long as the story goes.
func live(t *testing.T, seed uint64, story func(w *world, s *Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		w := &world{rnd: rand.New(rand.NewPCG(seed, 1)), skew: 5e-6}
		r.Server.look, r.watch = w.look, w.read
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.follow(ctx) })
		defer wg.Wait()
		defer cancel()
		story(w, r.Server)
	})
}

// through asks often while time goes by and returns how many were answered.
func (w *world) through(t *testing.T, s *Server, lasts time.Duration, meanwhile func()) (answered, asked int) {
	t.Helper()
	for end := time.Now().Add(lasts); time.Now().Before(end); asked++ {
		meanwhile()
		q := w.ask()
		w.pass(time.Duration(w.rnd.Int64N(int64(min(max(300*time.Millisecond, lasts/5000), maxWait)))))
		if w.answer(t, s, q) {
			answered++
		}
	}
	return answered, asked
}

func nothing() {}

const year = 365 * 24 * 3600.0

// What may happen to a clock in a garage, each from a good beginning.
func TestStoriesOfAClock(t *testing.T) {
	t.Parallel()
	type house struct {
		*testing.T
		*world
		s *Server
	}
	polling := func(h house) func() {
		return func() {
			if h.rnd.IntN(50) == 0 {
				h.measure()
			}
		}
	}
	always := func(h house, what string, lasts time.Duration, meanwhile func()) {
		h.Helper()
		if n, of := h.through(h.T, h.s, lasts, meanwhile); n != of {
			h.Errorf("%s: %d of %d were answered", what, n, of)
		}
	}
	never := func(h house, what string, lasts time.Duration, meanwhile func()) {
		h.Helper()
		if n, of := h.through(h.T, h.s, lasts, meanwhile); n != 0 {
			h.Errorf("%s: %d of %d were answered", what, n, of)
		}
	}
	stories := []struct {
		name string
		tell func(h house)
	}{
		{"sources lost for hours, and found", func(h house) {
			h.change(func() { h.skew, h.cut = 100e-6, true }) // it has become cold
			always(h, "holdover", 150*time.Minute, nothing)   // 101 ppm: a second after 163 min
			h.through(h.T, h.s, 20*time.Minute, nothing)      // somewhere here the limit is passed
			never(h, "after holdover", 2*time.Hour, nothing)
			h.change(func() { h.cut = false })
			h.measure()
			h.through(h.T, h.s, 30*time.Second, polling(h)) // what has piled up is corrected
			always(h, "found again", time.Hour, polling(h))
		}},
		{"set back by a year while serving", func(h house) {
			h.change(func() { h.setByOthers(-year) })
			never(h, "a year ago", time.Hour, nothing)
		}},
		{"set forward by a year while serving", func(h house) {
			h.change(func() { h.setByOthers(year) })
			never(h, "in a year", time.Hour, nothing)
			h.measure() // chronyd begins to slew a year away
			never(h, "in a year, and chronyd knows", time.Hour, nothing)
			h.change(func() { h.setClock(-h.wrong); h.remaining = 0 }) // chronyc makestep
			h.pass(2 * time.Second)
			h.measure()
			h.through(h.T, h.s, 10*time.Second, polling(h))
			always(h, "set right", time.Hour, polling(h))
		}},
		{"set a little wrong, again and again", func(h house) {
			for range 100 {
				h.change(func() { h.setByOthers(0.0015) })
				h.through(h.T, h.s, 10*time.Second, nothing)
			}
		}},
		{"killed, and never comes back", func(h house) {
			h.kill()
			h.through(h.T, h.s, 10*time.Second, nothing)
			never(h, "without chronyd", 6*time.Hour, nothing)
		}},
		{"killed within a large correction", func(h house) {
			for range 50 {
				h.change(func() { h.cut = true })
				h.through(h.T, h.s, 20*time.Second, nothing)
				h.change(func() { h.wrong = 0.010; h.cut = false }) // as far as may be
				h.measure()
				h.pass(time.Duration(h.rnd.Int64N(int64(2 * time.Second))))
				h.kill()
				h.through(h.T, h.s, time.Minute, nothing)
				h.start()
				h.change(func() { h.wrong = 0 })
				h.measure()
				h.through(h.T, h.s, time.Minute, polling(h))
			}
		}},
		{"stopped for a minute, and goes on", func(h house) {
			h.measure()
			h.change(func() { h.hung = true })
			h.through(h.T, h.s, 10*time.Second, nothing)
			never(h, "chronyd is stopped", time.Minute, nothing)
			h.wake()
			h.through(h.T, h.s, 20*time.Second, polling(h))
			always(h, "goes on", time.Hour, polling(h))
		}},
		{"restarted: it does not know, until it has asked", func(h house) {
			h.kill()
			always(h, "not yet missed", 2*time.Second, nothing)
			h.start()
			h.pass(2500 * time.Millisecond)
			never(h, "it knows nothing yet", 10*time.Second, nothing)
			h.measure()
			h.pass(time.Second)
			always(h, "back", time.Hour, polling(h))
		}},
		{"killed, a year passes the other way, and back", func(h house) {
			h.kill()
			h.pass(time.Second)
			h.change(func() { h.setByOthers(-year) })
			never(h, "nobody knows", time.Minute, nothing)
			h.start()
			never(h, "chronyd knows nothing", time.Minute, nothing)
			h.measure() // steps
			h.pass(3 * time.Second)
			always(h, "back", time.Hour, polling(h))
		}},
	}
	for _, tt := range stories {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			live(t, 7, func(w *world, s *Server) {
				h := house{t, w, s}
				never(h, "never synchronised", 2*time.Hour, nothing)
				w.change(func() { w.wrong = -50 * year })
				never(h, "in 1976", time.Hour, nothing)
				w.measure()
				w.pass(3 * time.Second)
				always(h, "the time is known", time.Hour, polling(h))
				tt.tell(h)
			})
		})
	}
}

// Whatever happens, in whatever order: nobody gets a time that is more wrong than
// it says.
func TestNoAnswerIsMoreWrongThanItSays(t *testing.T) {
	t.Parallel()
	runs := uint64(12)
	if testing.Short() {
		runs = 5
	}
	for seed := range runs {
		live(t, seed, func(w *world, s *Server) {
			var waiting []question
			answered := 0
			for range 10_000 {
				w.happen()
				w.pass(time.Duration(w.rnd.ExpFloat64() * float64(200*time.Millisecond)))
				waiting = append(waiting, w.ask())
				if w.rnd.IntN(10) == 0 { // the relay did not get to run
					continue
				}
				for _, q := range waiting {
					if w.answer(t, s, q) {
						answered++
					}
				}
				waiting = waiting[:0]
			}
			if answered < 1_000 {
				t.Errorf("seed %d: only %d answers; the story is too sad to prove anything", seed, answered)
			}
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// happen is one accident or repair, or none.
func (w *world) happen() {
	switch n := w.rnd.IntN(3000); {
	case n < 100:
		w.measure()
	case n < 102:
		w.kill()
	case n < 112:
		if w.gone {
			w.start()
		}
	case n < 114:
		w.change(func() { w.hung = !w.gone })
	case n < 124:
		w.wake()
	case n < 126:
		w.change(func() { w.cut = true })
	case n < 136:
		w.change(func() { w.cut = false })
	case n < 137: // from a millisecond to years
		w.change(func() {
			by := math.Pow(10, -2.9+w.rnd.Float64()*11)
			w.setByOthers(by * float64(1-2*w.rnd.IntN(2)))
		})
	case n < 140: // somebody sets it right
		w.change(func() {
			if math.Abs(w.wrong) > 0.1 {
				w.setByOthers(-w.wrong)
			}
		})
	case n < 141:
		w.change(func() { w.synced = false }) // no majority
	}
}

// Each transition is said once.
func TestHoldoverIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRoom()
		began := time.Now()
		r.says(func() (reading, error) {
			g := goodReading(time.Now())
			g.refTime, g.growth = began, 100e-6
			g.dispersion += duration(time.Since(began).Seconds() * g.growth)
			return g, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Hour)
		defer cancel()
		r.follow(ctx)
		var seen uint64
		if got := r.events(&seen); !slices.Equal(got, []string{"ntprelay-synchronised", "ntprelay-lost"}) {
			t.Errorf("said %v", got)
		}
		c := r.Clock()
		if held := c.Since.Sub(began).Round(time.Minute); held != 164*time.Minute { // (1 s - 15 ms) / 100 ppm
			t.Errorf("holdover lasted %v", held)
		}
		if !strings.HasPrefix(c.Reason, "the clock may be wrong by ") {
			t.Errorf("reason %q", c.Reason)
		}
	})
}
