package radio

import (
	"math/rand/v2"
	"testing"
)

var zaptec = thresholds{warn: -74, minimum: -75, critical: -80}

func TestVerdict(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		was    Grade
		median int
		want   Grade
	}{
		{"well heard from the start", Unknown, -60, Good},
		{"one better than the warning", Good, -73, Good},
		{"at the warning", Good, -74, Weak},
		{"at the minimum", Good, -75, Below},
		{"from weak to below", Weak, -75, Below},
		{"at critical", Good, -80, Critical},
		{"far below critical", Unknown, -95, Critical},
		{"weak, risen by 2 dB", Weak, -72, Weak},
		{"weak, risen by 3 dB", Weak, -71, Good},
		{"below, risen by 2 dB", Below, -73, Below},
		{"below, risen by 3 dB, still weak", Below, -72, Weak},
		{"below, risen by 4 dB", Below, -71, Good},
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

// checkVerdicts holds whatever walk of medians and whatever thresholds: a
// median at or below a threshold has at least its grade, one 3 dB above it has
// at most the next better, and nothing is taken back less than 3 dB above
// where it was said.
func checkVerdicts(t *testing.T, th thresholds, medians []int) {
	t.Helper()
	was, worsenedAt := Unknown, 0
	for _, m := range medians {
		is := th.next(was, m)
		for g := Weak; g <= Critical; g++ {
			if m <= th.of(g) && is < g {
				t.Fatalf("%d dBm is %v, but %v begins at %d", m, is, g, th.of(g))
			}
			if m >= th.of(g)+hysteresis && is >= g {
				t.Fatalf("%d dBm is %v, but %v ends at %d", m, is, g, th.of(g)+hysteresis)
			}
		}
		if again := th.next(is, m); again != is {
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

func TestVerdictNeverFlaps(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(8883, 443))
	for range 2000 {
		m := -60
		walk := make([]int, 100)
		for i := range walk {
			m = max(-100, min(-1, m+random.IntN(11)-5))
			walk[i] = m
		}
		checkVerdicts(t, zaptec, walk)
	}
}

func FuzzVerdict(f *testing.F) {
	f.Add([]byte{60, 74, 71, 75, 72, 80, 77, 50}, int8(-74), uint8(1), uint8(5))
	f.Add([]byte{74, 73, 74, 72, 74, 71, 74}, int8(-70), uint8(0), uint8(0))
	f.Fuzz(func(t *testing.T, raw []byte, warn int8, below, critical uint8) {
		th := thresholds{warn: int(warn)}
		th.minimum = th.warn - int(below)
		th.critical = th.minimum - int(critical)
		medians := make([]int, len(raw))
		for i, b := range raw {
			medians[i] = -int(b)
		}
		checkVerdicts(t, th, medians)
	})
}
