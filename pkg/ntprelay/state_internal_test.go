package ntprelay

import (
	"math"
	"net"
	"testing"
	"time"

	"github.com/facebook/time/ntp/chrony"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		edit func(*reading)
		want string
	}{
		{"all is well", func(*reading) {}, ""},
		{"a leap second is announced", func(r *reading) { r.leap = 1 }, ""},
		{"the greatest stratum", func(r *reading) { r.stratum = 15 }, ""},
		{"leap 3", func(r *reading) { r.leap = 3 }, "the clock is not synchronised"},
		{"stratum 0", func(r *reading) { r.stratum = 0 }, "the clock is not synchronised (stratum 0)"},
		{"stratum 16", func(r *reading) { r.stratum = 16 }, "the clock is not synchronised (stratum 16)"},
		{"local mode", func(r *reading) { r.local = true }, "chronyd has no source and goes by this machine's own clock"},
		{"distance at the limit", func(r *reading) { r.rootDelay, r.dispersion = time.Second, 500*time.Millisecond }, ""},
		{"distance above the limit", func(r *reading) { r.rootDelay, r.dispersion = time.Second, 501*time.Millisecond },
			"the clock may be wrong by 1.001s, the limit is 1s"},
		{"corrected in the future", func(r *reading) { r.refTime = r.at.Add(2 * time.Second) }, "what was said of the clock makes no sense"},
		{"corrected in the future, by the clock as it will be", func(r *reading) { r.refTime, r.offset = r.at.Add(2*time.Second), 2*time.Second }, ""},
		{"corrected a month ago, and right to the millisecond", func(r *reading) { r.refTime = r.at.AddDate(0, -1, 0) }, "the clock was corrected too long ago"},
		{"the first minutes of a machine without a drift file", func(r *reading) { r.growth = (1e6 + 138 + 1) * 1e-6 }, "chronyd does not know yet how fast this machine's clock runs"},
		{"a growth without bounds", func(r *reading) { r.growth = math.Inf(1) }, "what was said of the clock makes no sense"},
		{"a growth that is no number", func(r *reading) { r.growth = math.NaN() }, "what was said of the clock makes no sense"},
		{"a negative growth", func(r *reading) { r.growth = -1e-6 }, "what was said of the clock makes no sense"},
		{"a negative delay that would hide a dispersion", func(r *reading) { r.rootDelay, r.dispersion = -time.Hour, time.Minute },
			"what was said of the clock makes no sense"},
	}
	for _, tt := range tests {
		r := goodReading(noon)
		tt.edit(&r)
		if got := judge(r, time.Second, noon); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestChronydsOwnStepIsKnown(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name            string
		corrected, left time.Duration
		step            time.Duration
		want            bool
	}{
		{"its own", 5 * time.Second, 0, 5*time.Second + 3*time.Microsecond, true},
		{"its own, of fifty years, of which a number of 24 bits tells a minute", 50 * 365 * 24 * time.Hour, 0, 50*365*24*time.Hour + time.Minute, true},
		{"the other way", 5 * time.Second, 0, -5 * time.Second, false},
		{"somebody else's", 20 * time.Microsecond, 0, 5 * time.Second, false},
		{"its own and somebody else's", 5 * time.Second, 0, 5*time.Second + time.Millisecond, false},
		{"nobody steps so little", 50 * time.Millisecond, 0, 50 * time.Millisecond, false},
		{"it is being slewed, so the step was not for that", 5 * time.Second, 4 * time.Second, 5 * time.Second, false},
	}
	for _, tt := range tests {
		r := goodReading(noon)
		r.corrected, r.offset = tt.corrected, tt.left
		if got := r.made(tt.step); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestCorrectionUnderWay(t *testing.T) {
	t.Parallel()
	at := func(after, left time.Duration) *reading {
		r := goodReading(noon.Add(after))
		r.offset = left
		return &r
	}
	tests := []struct {
		name          string
		before, after *reading
		want          time.Duration
	}{
		{"nothing to correct", at(0, 0), at(500*time.Millisecond, 0), 0},
		{"ended", at(0, time.Millisecond), at(500*time.Millisecond, 0), 0},
		{"under way", at(0, 3*time.Millisecond), at(500*time.Millisecond, 2*time.Millisecond), 2 * time.Millisecond},
		{"the other way", at(0, -3*time.Millisecond), at(500*time.Millisecond, -2*time.Millisecond), 2 * time.Millisecond},
		{"as fast as chronyd can", at(0, 5*time.Second), at(500*time.Millisecond, 4*time.Second), 83400 * time.Microsecond},
		{"the first reading of all", &reading{}, at(0, time.Second), 0},
		{"the reading before is old", at(0, 3*time.Millisecond), at(time.Minute, 2*time.Millisecond), time.Millisecond},
	}
	for _, tt := range tests {
		if got := tt.after.overshoot(tt.before).Round(time.Microsecond); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestNobodyCaresForTheClock(t *testing.T) {
	t.Parallel()
	r := goodReading(noon) // within 15 ms
	for after, want := range map[time.Duration]time.Duration{0: 15 * time.Millisecond, time.Second: 45500 * time.Microsecond, 10 * time.Second: 320 * time.Millisecond} {
		u := r.unheard()
		if got := u.distance(noon.Add(after)).Round(time.Microsecond); got != want {
			t.Errorf("after %v: %v, want %v", after, got, want)
		}
	}
	r.dispersion = 300 * time.Millisecond
	if u := r.unheard(); u.growth != fastestSlew+tolerance {
		t.Errorf("growth %v", u.growth)
	}
}

func TestReadingAges(t *testing.T) {
	t.Parallel()
	r := goodReading(noon)
	r.growth = 100e-6
	for age, want := range map[time.Duration]time.Duration{
		-time.Second:     15 * time.Millisecond, // never better than it was
		0:                15 * time.Millisecond,
		10 * time.Second: 16 * time.Millisecond,
		time.Hour:        375 * time.Millisecond,
	} {
		if got := r.distance(noon.Add(age)).Round(time.Microsecond); got != want {
			t.Errorf("after %v: distance %v, want %v", age, got, want)
		}
	}
}

func TestFromTracking(t *testing.T) {
	t.Parallel()
	got := fromTracking(chrony.Tracking{
		RefID: 0xc0000201, IPAddr: net.IPv4(192, 0, 2, 1), Stratum: 3, LeapStatus: 1, RefTime: noon.Add(-time.Minute),
		CurrentCorrection: -0.002, LastOffset: -5, FreqPPM: 12, ResidFreqPPM: -0.5, SkewPPM: 1.5, RootDelay: 0.02, RootDispersion: 0.005,
	}, noon)
	want := reading{
		at: noon, leap: 1, stratum: 3, refID: 0xc0000201, reference: "192.0.2.1", refTime: noon.Add(-time.Minute),
		rootDelay: 20 * time.Millisecond, dispersion: 7 * time.Millisecond, growth: 3e-6, offset: -2 * time.Millisecond, corrected: 5 * time.Second,
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(reading{})); diff != "" {
		t.Errorf("reading (-want +got):\n%s", diff)
	}
}

func TestWildReportsBecomeNoTime(t *testing.T) {
	t.Parallel()
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e30, -1e30} {
		for name, tr := range map[string]chrony.Tracking{
			"root delay":      {Stratum: 2, RootDelay: f},
			"root dispersion": {Stratum: 2, RootDispersion: f},
		} {
			if r := fromTracking(tr, noon); judge(r, time.Second, noon) == "" {
				t.Errorf("%s %v passes for a right clock: %+v", name, f, r)
			}
		}
	}
	if r := fromTracking(chrony.Tracking{RefID: 0x7f7f0101, Stratum: 10}, noon); judge(r, time.Second, noon) == "" {
		t.Error("chronyd's local mode passes for a right clock")
	}
}

func TestFromKernel(t *testing.T) {
	t.Parallel()
	const ms, nano = 1_000, unix.STA_PLL | unix.STA_NANO // µs
	tests := []struct {
		name   string
		says   unix.Timex
		leap   uint8
		within time.Duration
		silent bool
	}{
		{"just after boot", unix.Timex{Maxerror: 16_000 * ms, Status: unix.STA_UNSYNC}, 3, 16100 * time.Millisecond, true},
		{"disciplined", unix.Timex{Maxerror: 20 * ms, Status: unix.STA_PLL}, 0, 120 * time.Millisecond, false},
		{"disciplined by somebody who leaves STA_UNSYNC", unix.Timex{Maxerror: 20 * ms, Status: unix.STA_UNSYNC}, 0, 120 * time.Millisecond, false},
		{"half an hour after the last correction", unix.Timex{Maxerror: 920 * ms, Status: unix.STA_PLL}, 0, 1020 * time.Millisecond, false},
		{"a leap second will be inserted", unix.Timex{Maxerror: 20 * ms, Status: unix.STA_INS}, 1, 120 * time.Millisecond, false},
		{"a leap second will be deleted", unix.Timex{Maxerror: 20 * ms, Status: unix.STA_DEL}, 2, 120 * time.Millisecond, false},
		{"nobody has corrected it for nine hours", unix.Timex{Maxerror: 16_200 * ms, Status: unix.STA_PLL}, 3, 16300 * time.Millisecond, true},
		{"called free of error while it is slewed", unix.Timex{Status: nano, Offset: 390_000_000}, 0, 490 * time.Millisecond, false},
		{"slewed the other way, in microseconds", unix.Timex{Status: unix.STA_PLL, Offset: -390 * ms}, 0, 490 * time.Millisecond, false},
		{"estimated to be wrong", unix.Timex{Maxerror: 20 * ms, Esterror: 5 * ms, Status: nano}, 0, 125 * time.Millisecond, false},
	}
	for _, tt := range tests {
		r := fromKernel(tt.says, noon)
		if r.leap != tt.leap || r.distance(noon) != tt.within || (judge(r, r.limit, noon) != "") != tt.silent {
			t.Errorf("%s: leap %d, within %v, %q", tt.name, r.leap, r.distance(noon), judge(r, r.limit, noon))
		}
	}
	if r := fromKernel(unix.Timex{Maxerror: 900 * ms, Offset: 100 * ms}, noon); !r.refTime.Equal(noon.Add(-30 * time.Minute)) {
		t.Errorf("900 ms at 500 ppm are half an hour, not %v", noon.Sub(r.refTime))
	}
}
