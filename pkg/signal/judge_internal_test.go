package signal

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var zaptec = Default()

func TestGrades(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		was    Grade
		median int
		want   Grade
	}{
		{"well heard from the start", Unknown, -60, Good},
		{"at the end of good", Good, -67, Good},
		{"enough", Good, -68, OK},
		{"one better than the warning", Good, -73, OK},
		{"ok, risen by 2 dB", OK, -66, OK},
		{"ok, risen by 3 dB", OK, -65, Good},
		{"at the warning", Good, -74, Weak},
		{"at the minimum", Good, -75, Below},
		{"from weak to below", Weak, -75, Below},
		{"at critical", Good, -80, Critical},
		{"far below critical", Unknown, -95, Critical},
		{"weak, risen by 2 dB", Weak, -72, Weak},
		{"weak, risen by 3 dB", Weak, -71, OK},
		{"below, risen by 2 dB", Below, -73, Below},
		{"below, risen by 3 dB, still weak", Below, -72, Weak},
		{"below, risen by 4 dB", Below, -71, OK},
		{"critical, risen by 2 dB", Critical, -78, Critical},
		{"critical, risen by 3 dB", Critical, -77, Below},
		{"critical, straight to good", Critical, -50, Good},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := zaptec.next(tt.was, tt.median); got != tt.want {
				t.Errorf("next(%v, %d) = %v, want %v", tt.was, tt.median, got, tt.want)
			}
		})
	}
}

// What is said to be better again is what the verdict takes for it.
func TestBetterIsWhereTheGradeEnds(t *testing.T) {
	t.Parallel()
	for g := OK; g <= Critical; g++ {
		if better := zaptec.Better(g); zaptec.next(g, better-1) < g || zaptec.next(g, better) >= g {
			t.Errorf("%v: better from %d dBm on; at %d it is %v, at %d %v", g, better, better-1, zaptec.next(g, better-1), better, zaptec.next(g, better))
		}
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		values []int
		want   int
	}{
		{"none", nil, 0},
		{"one", []int{-70}, -70},
		{"the worse of two", []int{-70, -80}, -80},
		{"one outlier", []int{-70, -95, -71, -69, -70}, -70},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := median(tt.values); got != tt.want {
				t.Errorf("median(%v) = %d, want %d", tt.values, got, tt.want)
			}
		})
	}
}

func TestOffset(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ offset, measured, want int }{
		{0, -70, -70}, {5, -70, -65}, {-5, -70, -75}, {20, -10, -1}, {-20, -120, lowest}, {5, 0, 0}, {5, 3, 0},
	} {
		if got := (Limits{UplinkOffset: tt.offset}).Corrected(tt.measured); got != tt.want {
			t.Errorf("%d dBm with %d dB is %d, want %d", tt.measured, tt.offset, got, tt.want)
		}
	}
}

// A bench is a Judge beside a clock that passes: it looks every 15 s.
type bench struct {
	Judge
	t      *testing.T
	limits Limits
	begun  time.Time
	v      Verdict
	story  []string // when something was to be said, and what
	sent   Counters
}

func newBench(t *testing.T) *bench {
	return &bench{t: t, limits: zaptec, begun: time.Now()}
}

// heard lets time pass while the device is heard so at each look; 0: it is not.
func (b *bench) heard(signal int, d time.Duration) {
	for range d / (15 * time.Second) {
		time.Sleep(15 * time.Second)
		b.Heard(signal, time.Now())
		b.look()
	}
}

func (b *bench) look() {
	b.v = b.Look(b.limits, time.Now())
	if b.v.Said != b.v.Was && (b.v.Said > OK || b.v.Was > OK) {
		b.story = append(b.story, fmt.Sprintf("%v %v", time.Since(b.begun), b.v.Said))
	}
	if b.v.Disturbed != b.v.WasDisturbed {
		b.story = append(b.story, fmt.Sprintf("%v disturbed: %v", time.Since(b.begun), b.v.Disturbed))
	}
}

func (b *bench) want(story ...string) {
	b.t.Helper()
	if !slices.Equal(b.story, story) {
		b.t.Errorf("said %q, want %q", b.story, story)
	}
	b.story = nil
}

func (b *bench) wantGrade(g Grade, median int) {
	b.t.Helper()
	if b.v.Grade != g || b.v.Median != median {
		b.t.Errorf("it is %v at %d dBm, want %v at %d", b.v.Grade, b.v.Median, g, median)
	}
}

// The times of the specification, exactly: weak after 10 min, below the minimum
// after 5 min, critical at once, better at once.
func TestWhatLastsIsSaid(t *testing.T) {
	for _, tt := range []struct {
		name   string
		signal int
		want   []string
	}{
		// The first reading is after 15 s, and half a window of 5 min makes a verdict.
		{"good", -60, nil},
		{"ok", -73, nil},
		{"weak after ten minutes", -74, []string{"12m45s weak"}},
		{"below the minimum after five", -75, []string{"7m45s below minimum"}},
		{"critical at once", -80, []string{"2m45s critical"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.heard(tt.signal, time.Hour)
				b.want(tt.want...)
			})
		})
	}
}

// The whole way down and up again, with the grade shown at once and said later.
func TestDayOfASignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.heard(-60, 2*time.Minute+30*time.Second)
		b.wantGrade(Unknown, 0)
		b.heard(-60, 15*time.Second)
		b.wantGrade(Good, -60)
		b.heard(-60, 7*time.Minute+15*time.Second)
		b.begun = time.Now()

		// It takes half a window until the median has gone down.
		b.heard(-76, 2*time.Minute+15*time.Second)
		b.wantGrade(Good, -60)
		b.heard(-76, 15*time.Second)
		b.wantGrade(Below, -76)
		b.want()
		b.heard(-76, 4*time.Minute+45*time.Second)
		b.want()
		b.heard(-76, 15*time.Second)
		b.want("7m30s below minimum")

		b.heard(-73, 20*time.Minute) // 3 dB better than what was said, and 2 better than the minimum
		b.wantGrade(Below, -73)
		b.want()
		b.heard(-72, 10*time.Minute) // 3 dB above the minimum
		b.wantGrade(Weak, -72)
		b.want("30m15s weak") // the median of an even number is the worse one
		b.heard(-71, 10*time.Minute)
		b.wantGrade(OK, -71)
		b.want("40m15s ok")
		b.heard(-85, 2*time.Minute+30*time.Second)
		b.want("50m0s critical")
		b.heard(-78, time.Hour)
		b.want()
		b.heard(-60, 5*time.Minute)
		b.wantGrade(Good, -60)
		b.want("1h52m45s good")
	})
}

// What ends before its time is nothing; and while it is below the minimum it is weak,
// too.
func TestShortWeaknessIsNotSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.heard(-60, 10*time.Minute)
		for range 10 {
			b.heard(-77, 4*time.Minute+30*time.Second)
			b.heard(-60, 7*time.Minute)
		}
		b.want()

		b = newBench(t)
		b.heard(-74, 10*time.Minute) // weak from 2m45s on
		b.heard(-76, 2*time.Minute+30*time.Second)
		b.want()
		b.heard(-76, 15*time.Second)
		b.want("12m45s weak") // because it is at least that for ten minutes
		b.heard(-76, 10*time.Minute)
		b.want("17m30s below minimum")
	})
}

// An absence proves nothing: who comes and goes is told of all the same, and once.
func TestWhoComesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for range 6 {
			b.heard(-77, 3*time.Minute)
			b.heard(0, 6*time.Minute)
		}
		b.wantGrade(Unknown, 0)
		b.want("12m15s below minimum") // there was a verdict from 2m45s to 7m15s, and from 11m45s on
		b.heard(-77, 30*time.Minute)
		b.want()
		b.heard(-60, 5*time.Minute)
		b.want("1h26m45s good")
	})
}

// What is said to have lasted for ten minutes has: a time without a verdict does not
// count, whether it was away or nothing was heard of it.
func TestAwayIsNotWeak(t *testing.T) {
	for _, tt := range []struct {
		name string
		away func(*bench)
		want string
	}{
		// A verdict from 2m45s to 6m45s, and from 59m30s on: 4 min and 6 min.
		{"it is not on the radio", func(*bench) { time.Sleep(50 * time.Minute) }, "1h5m30s weak"},
		// What was heard makes a verdict to 11m: 8 min and 15 s of it, and then the rest.
		{"nothing of it is heard", func(b *bench) { b.heard(0, 50*time.Minute) }, "1h1m15s weak"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.heard(-74, 6*time.Minute+45*time.Second)
				tt.away(b)
				b.heard(-74, 20*time.Minute)
				b.want(tt.want)
				if b.v.For > 30*time.Minute {
					t.Errorf("it is shown as weak for %v, the time without a verdict included", b.v.For)
				}
			})
		})
	}
}

// A charger that has nothing to say gives a sign of life once a minute.
func TestAVerdictOnWhoSaysLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for i := range 40 {
			if b.heard(-76, 15*time.Second); i == 11 {
				b.wantGrade(Below, -76)
			}
			b.heard(0, 45*time.Second)
		}
		b.wantGrade(Below, -76)
		b.want("7m45s below minimum")
	})
}

// Before there is a verdict it is known when there will be one.
func TestTooEarlyToJudge(t *testing.T) {
	t.Parallel()
	var j Judge
	begin := time.Now()
	if v := j.Look(zaptec, begin); v.Early != zaptec.Window/2 {
		t.Errorf("nothing was heard: a verdict in %v, want %v", v.Early, zaptec.Window/2)
	}
	for after := time.Duration(0); after <= zaptec.Window; after += 15 * time.Second {
		j.Heard(-60, begin.Add(after))
		v := j.Look(zaptec, begin.Add(after))
		if want := max(0, zaptec.Window/2-after); v.Early != want || (v.Median == 0) != (want > 0) {
			t.Errorf("after %v: %+v, want a verdict in %v", after, v, want)
		}
	}
	// Who says little is judged as soon as enough was heard of it.
	j = Judge{}
	j.Heard(-60, begin)
	if v := j.Look(zaptec, begin.Add(zaptec.Window/2)); v.Early != 0 || v.Median != 0 {
		t.Errorf("heard once: %+v, want no verdict and no time", v)
	}
}

func TestVerdictsOfAShortWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.limits.Window, b.limits.WeakAfter, b.limits.BelowAfter = time.Minute, time.Minute, 30*time.Second
		b.heard(-79, 30*time.Second)
		b.wantGrade(Unknown, 0)
		b.heard(-79, 15*time.Second)
		b.wantGrade(Below, -79)
		b.heard(-79, 45*time.Second)
		b.want("1m15s below minimum")
		b.limits.WeakAfter, b.limits.BelowAfter = 0, 0
		b.heard(-60, time.Minute)
		b.heard(-74, time.Minute)
		b.want("2m15s good", "3m0s weak")
	})
}

// Other limits hold from the next look on; the readings stay.
func TestLimitsCanChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.heard(-70, 10*time.Minute)
		b.limits.Warn, b.limits.Minimum = -65, -68
		b.heard(-70, 15*time.Second)
		b.wantGrade(Below, -70)
		b.limits.UplinkOffset = 8
		b.heard(-70, 15*time.Second)
		b.wantGrade(OK, -62)
		b.want()
	})
}

// sends lets the driver count so many frames a minute while the device is heard.
func (b *bench) sends(signal int, d time.Duration, each Counters) {
	for i := range int(d / (15 * time.Second)) {
		time.Sleep(15 * time.Second)
		b.Heard(signal, time.Now())
		if i%4 == 0 {
			b.sent = b.sent.plus(each)
		}
		b.Sent(b.sent, time.Now())
		b.look()
	}
}

func TestGoodSignalWithManyFramesSentAgain(t *testing.T) {
	calm, noisy := Counters{20, 4, 0}, Counters{20, 30, 3}
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.sends(-60, 20*time.Minute, calm)
		b.want()
		if b.v.Resent != 16 || b.v.Lost != 0 {
			t.Errorf("%d %% sent again, %d lost", b.v.Resent, b.v.Lost)
		}
		b.begun = time.Now()
		b.sends(-60, 30*time.Minute, noisy)
		b.want("3m15s disturbed: true")
		if b.v.Resent != 60 || b.v.Lost != 30 {
			t.Errorf("%d %% sent again, %d lost", b.v.Resent, b.v.Lost)
		}
		b.sends(-60, 20*time.Minute, Counters{}) // little is sent: that proves nothing
		b.want()
		b.sends(-60, 20*time.Minute, Counters{20, 9, 0}) // better, not good
		b.want()
		b.sends(-60, 20*time.Minute, calm)
		if len(b.story) != 1 {
			t.Errorf("said %q", b.story)
		}

		for name, story := range map[string]func(b *bench){
			"a weak one needs them":           func(b *bench) { b.sends(-78, time.Hour, noisy) },
			"nobody knows how it is heard":    func(b *bench) { b.sends(0, time.Hour, noisy) },
			"hardly anything is sent":         func(b *bench) { b.sends(-60, time.Hour, Counters{1, 1, 0}) },
			"the driver does not count":       func(b *bench) { b.sends(-60, time.Hour, Counters{}) },
			"it counted long before we began": func(b *bench) { b.sent = Counters{100, 9000, 0}; b.sends(-60, time.Hour, calm) },
			"it joins anew, and counts anew": func(b *bench) {
				for range 10 {
					b.sends(-60, 5*time.Minute, calm)
					b.sent = Counters{}
				}
			},
		} {
			b := newBench(t)
			if story(b); slices.ContainsFunc(b.story, func(s string) bool { return s[len(s)-4:] == "true" }) {
				t.Errorf("%s: said %q", name, b.story)
			}
		}
	})
}

// checkGrades holds whatever walk of medians and whatever thresholds: a median at
// or below a threshold has at least its grade, one 3 dB above it has at most the
// next better, and nothing is taken back less than 3 dB above where it was said.
func checkGrades(t *testing.T, l Limits, medians []int) {
	t.Helper()
	was, worsenedAt := Unknown, 0
	for _, m := range medians {
		is := l.next(was, m)
		for g := OK; g <= Critical; g++ {
			if m <= l.of(g) && is < g {
				t.Fatalf("%d dBm is %v, but %v begins at %d", m, is, g, l.of(g))
			}
			if m >= l.of(g)+hysteresis && is >= g {
				t.Fatalf("%d dBm is %v, but %v ends at %d", m, is, g, l.of(g)+hysteresis)
			}
		}
		if again := l.next(is, m); again != is {
			t.Fatalf("the same median twice: %v, then %v", is, again)
		}
		switch {
		case is > was:
			worsenedAt = m
		case is < was && m-worsenedAt < hysteresis:
			t.Fatalf("taken back from %v to %v at %d dBm, though it had got worse at %d", was, is, m, worsenedAt)
		}
		was = is
	}
}

func TestGradesNeverFlap(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(8883, 443))
	for range 2000 {
		m := -60
		walk := make([]int, 100)
		for i := range walk {
			m = max(-100, min(-1, m+random.IntN(11)-5))
			walk[i] = m
		}
		checkGrades(t, zaptec, walk)
	}
}

func FuzzGrades(f *testing.F) {
	f.Add([]byte{60, 74, 71, 75, 72, 80, 77, 50}, int8(-74), uint8(1), uint8(5))
	f.Add([]byte{74, 73, 74, 72, 74, 71, 74}, int8(-70), uint8(0), uint8(0))
	f.Fuzz(func(t *testing.T, raw []byte, warn int8, below, critical uint8) {
		l := Limits{Warn: int(warn)}
		l.Minimum = l.Warn - int(below)
		l.Critical = l.Minimum - int(critical)
		medians := make([]int, len(raw))
		for i, b := range raw {
			medians[i] = -int(b)
		}
		checkGrades(t, l, medians)
	})
}

// Whatever is heard and whenever somebody looks, a window is bounded.
func TestWindowIsBounded(t *testing.T) {
	t.Parallel()
	var j Judge
	now := time.Now()
	for i := range 10 * maxReadings {
		j.Heard(-60, now)
		j.Sent(Counters{i, i, i}, now.Add(time.Duration(i)*time.Millisecond))
	}
	if n := len(j.window.readings); n != maxReadings {
		t.Errorf("%d readings are kept", n)
	}
	for i := range 1000 {
		j.Sent(Counters{i, i, i}, now.Add(time.Duration(i)*time.Minute))
	}
	if n := len(j.effort.pieces); n > 11 {
		t.Errorf("%d pieces are kept", n)
	}
}
