package signal

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	p107     = MAC{0x60, 0x15, 0x92, 0x41, 0, 7}
	p108     = MAC{0x60, 0x15, 0x92, 0x41, 0, 8}
	everyone = func(MAC) bool { return true }
	nobodyIn = func(MAC) bool { return false }
)

func deviceOf(i int) MAC { return MAC{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)} }

// A box is a history beside a clock on the wall, which can be wrong.
type box struct {
	*History
	off time.Duration // how far the wall is ahead of the time that passes
}

// at has the wall show a moment, and tells the history.
func (b *box) at(t *testing.T, moment string, right bool) {
	t.Helper()
	wall, err := time.ParseInLocation("2006-01-02 15:04:05", moment, time.Local)
	if err != nil {
		t.Fatal(err)
	}
	b.off = wall.Sub(time.Now().Round(0))
	b.tick(right)
}

func (b *box) tick(right bool) { b.Clock(time.Now(), time.Now().Round(0).Add(b.off), right) }

func (b *box) wall() time.Time { return time.Now().Round(0).Add(b.off) }

// hear lets time pass while devices are heard at looks every 15 s.
func (b *box) hear(d time.Duration, signals map[MAC]int) {
	for range d / (15 * time.Second) {
		for mac, s := range signals {
			b.Heard(mac, s, Counters{Sent: 5, Resent: 1}, time.Now())
		}
		time.Sleep(15 * time.Second)
	}
}

// shown writes a trace as a person would see it: runs of equal minutes, and hours.
func shown(t Trace) string {
	var b strings.Builder
	run := func(n int, what string) {
		if b.Len() > 0 {
			b.WriteString(" ")
		}
		fmt.Fprintf(&b, "%dx%s", n, what)
	}
	word := func(m Minute) string {
		switch {
		case !m.There:
			return "-"
		case m.Signal == 0:
			return "?"
		}
		return fmt.Sprint(m.Signal)
	}
	for i := 0; i < len(t.Minutes); {
		k := i
		for k < len(t.Minutes) && word(t.Minutes[k]) == word(t.Minutes[i]) {
			k++
		}
		run(k-i, word(t.Minutes[i]))
		i = k
	}
	b.WriteString(" |")
	for _, h := range t.Hours {
		fmt.Fprintf(&b, " %d/%d/%d:%d", h.Low, h.Signal, h.High, h.Present)
	}
	return b.String()
}

func (b *box) want(t *testing.T, mac MAC, want string) {
	t.Helper()
	if got := shown(b.Of(mac, time.Now())); got != want {
		t.Errorf("the history says\n%s, want\n%s", got, want)
	}
}

func TestMinutesAndHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{History: New(everyone)}
		b.at(t, "2026-11-20 12:00:00", true)
		b.hear(30*time.Minute, map[MAC]int{p107: -60})
		b.hear(10*time.Minute, nil) // away
		b.hear(20*time.Minute, map[MAC]int{p107: -70, p108: 0})
		b.want(t, p107, "30x-60 10x- 20x-70 1x- | -70/-60/-60:50 0/0/0:0")
		b.want(t, p108, "20x? 1x- | 0/0/0:20 0/0/0:0")
		b.want(t, MAC{1}, " |")
		b.hear(15*time.Minute, map[MAC]int{p107: -62})
		got := b.Of(p107, time.Now())
		if !got.Dated || got.Minute.Sub(b.wall()).Abs() > time.Minute || got.Hour.Format(time.TimeOnly) != "13:00:00" {
			t.Errorf("the last minute begins at %v and the last hour at %v; it is %v", got.Minute, got.Hour, b.wall())
		}
		if m := got.Minutes[0]; m.Resent != 20 {
			t.Errorf("%d %% were sent again, want 20 (of 16)", m.Resent)
		}
		// After a day the minutes have gone, and after 90 days the hours.
		b.hear(24*time.Hour, map[MAC]int{p107: -62})
		if n := len(b.Of(p107, time.Now()).Minutes); n != DayMinutes {
			t.Errorf("%d minutes are kept", n)
		}
		for range 91 {
			time.Sleep(24 * time.Hour)
			b.tick(true)
		}
		b.hear(time.Minute, map[MAC]int{p107: -62})
		b.want(t, p107, "1x-62 1x- | -62/-62/-62:1")
	})
}

func TestOffsetIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{History: New(everyone)}
		b.hear(time.Minute, map[MAC]int{p107: -60})
		l := Default()
		l.UplinkOffset = -4
		b.SetLimits(l)
		b.want(t, p107, "1x-64 1x- | -64/-64/-64:1")
	})
}

// A Pi boots in 1970 and learns the time later (F-12): what was heard before stands
// where it was heard, also beside what an earlier run wrote down.
func TestClockThatStartsIn1970(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signal")
	synctest.Test(t, func(t *testing.T) {
		h, shelf, _ := Open(path, everyone)
		b := &box{History: h}
		b.at(t, "2026-11-20 12:00:00", true)
		b.hear(90*time.Minute, map[MAC]int{p107: -60})
		save(t, shelf, h)

		// The power goes, for 2 h and 10 min. The clock is not known for half an hour.
		off := b.off + 2*time.Hour + 10*time.Minute
		h, shelf, fault := Open(path, everyone)
		if fault != nil {
			t.Fatal(fault)
		}
		b = &box{History: h}
		b.at(t, "1970-01-01 00:00:07", false)
		b.hear(20*time.Minute, map[MAC]int{p107: -70})
		b.tick(false)
		b.want(t, p107, "90x-60 20x-70 1x- | -60/-60/-60:60 -70/-60/-60:50")
		save(t, shelf, h)
		b.hear(10*time.Minute, map[MAC]int{p107: -72})
		if got := b.Of(p107, time.Now()); got.Dated {
			t.Error("it is dated before the clock is known")
		}
		b.off = off
		b.tick(true)
		const want = "90x-60 130x- 20x-70 10x-72 1x- | -60/-60/-60:60 -60/-60/-60:30 0/0/0:0 -70/-70/-70:20 -72/-72/-72:10"
		b.want(t, p107, want)
		if got := b.Of(p107, time.Now()); !got.Dated || got.Minute.Format(time.DateTime) != "2026-11-20 16:10:00" {
			t.Errorf("the last minute is %v", got.Minute)
		}
		save(t, shelf, h)
		// And so says the file, which has been told of the move.
		h, _, fault = Open(path, everyone)
		if fault != nil {
			t.Fatal(fault)
		}
		b = &box{History: h, off: off}
		b.tick(true)
		b.want(t, p107, want)
	})
}

// The power goes twice before the clock is known: what both runs heard is moved when
// it is, one after the other.
func TestTwoRunsWithoutAClock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signal")
	synctest.Test(t, func(t *testing.T) {
		for i, signal := range []int{-60, -65, -70} {
			h, shelf, fault := Open(path, everyone)
			if fault != nil {
				t.Fatal(fault)
			}
			b := &box{History: h}
			b.at(t, "1970-01-01 00:00:07", false)
			b.hear(15*time.Minute, map[MAC]int{p107: signal})
			if i == 2 {
				b.at(t, "2026-11-20 12:00:00", true)
				b.want(t, p107, "15x-60 15x-65 15x-70 1x- | -70/-65/-60:45 0/0/0:0")
			}
			save(t, shelf, h)
		}
		h, _, _ := Open(path, everyone)
		b := &box{History: h}
		b.at(t, "2026-11-20 12:00:30", true)
		b.want(t, p107, "15x-60 15x-65 15x-70 1x- | -70/-65/-60:45 0/0/0:0")
	})
}

// Whatever the clock does, what this run heard stays together, and what was written
// before it stays where it was, unless that is the future.
func TestClockThatJumps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signal")
	synctest.Test(t, func(t *testing.T) {
		h, shelf, _ := Open(path, everyone)
		b := &box{History: h}
		b.at(t, "2026-11-20 12:00:00", true)
		b.hear(20*time.Minute, map[MAC]int{p107: -60})
		save(t, shelf, h)
		h, shelf, _ = Open(path, everyone)
		b = &box{History: h, off: b.off}
		b.tick(true)
		b.hear(10*time.Minute, map[MAC]int{p107: -70})
		b.want(t, p107, "20x-60 10x-70 1x- | -70/-60/-60:30")
		b.off += 20 * time.Second // a small correction moves nothing
		b.tick(true)
		b.want(t, p107, "20x-60 10x-70 1x- | -70/-60/-60:30")
		b.off += 45 * time.Minute
		b.tick(true)
		b.want(t, p107, "20x-60 45x- 10x-70 1x- | -60/-60/-60:20 -70/-70/-70:10")
		save(t, shelf, h)
		b.off -= 60*time.Minute + 20*time.Second
		b.tick(true)
		b.hear(5*time.Minute, map[MAC]int{p107: -71})
		save(t, shelf, h)
		const want = "5x-60 10x-70 5x-71 1x- | -71/-70/-60:20"
		b.want(t, p107, want)
		b.tick(false) // its source is lost: it runs on
		b.want(t, p107, want)
		again, _, fault := Open(path, everyone)
		if fault != nil {
			t.Fatal(fault)
		}
		a := &box{History: again, off: b.off}
		a.tick(true)
		a.want(t, p107, want)
		a.at(t, "1970-03-01 00:00:00", true) // no calendar at all
		a.want(t, p107, want)
	})
}

func save(t *testing.T, s *Shelf, h *History) int { t.Helper(); return saveAt(t, s, h, time.Now()) }

func saveAt(t *testing.T, s *Shelf, h *History, at time.Time) int {
	t.Helper()
	n, err := s.Save(h, at)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A garage in which everybody wanders by a dB or two and needs some frames again.
type garage struct {
	h      *History
	now    time.Time
	levels []float64
	random *rand.Rand
}

func newGarage(h *History, chargers int) *garage {
	g := &garage{h: h, now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), random: rand.New(rand.NewPCG(1, uint64(chargers)))}
	for range chargers {
		g.levels = append(g.levels, -50-30*g.random.Float64())
	}
	h.Clock(g.now, g.now, true)
	return g
}

// minute is four looks.
func (g *garage) minute() {
	for range 4 {
		for i, level := range g.levels {
			signal := level + g.random.NormFloat64()*1.5
			tries := Counters{Sent: g.random.IntN(8), Resent: g.random.IntN(3)}
			g.h.Heard(deviceOf(i+1), int(signal), tries, g.now)
			g.levels[i] += g.random.NormFloat64() * 0.05
		}
		g.now = g.now.Add(15 * time.Second)
	}
	g.h.Clock(g.now, g.now, true)
}

// What the history costs on the card in a day and in memory, as the README says.
func TestWhatItCosts(t *testing.T) {
	for _, tt := range []struct{ chargers, bytesADay, memory int }{{250, 500_000, 5 << 20}, {1000, 2_500_000, 20 << 20}} {
		t.Run(fmt.Sprint(tt.chargers), func(t *testing.T) {
			t.Parallel()
			h, s, _ := Open(filepath.Join(t.TempDir(), "signal"), everyone)
			g := newGarage(h, tt.chargers)
			written, largest := 0, 0
			for i := range 13 { // the first write is the whole file
				for range 60 {
					g.minute()
				}
				if n := saveAt(t, s, h, g.now); i > 0 {
					written, largest = written+n, max(largest, n)
				}
			}
			// Appended in a day, and what it costs to write the file anew when it has become
			// three times as large.
			perDay := written * 2
			perDay += perDay / (growth - 1)
			size := int(reflect.TypeFor[device]().Size()) * len(h.of)
			start := time.Now()
			if _, _, fault := Open(s.path, everyone); fault != nil {
				t.Fatal(fault)
			}
			t.Logf("%d chargers: %d kB written in a day, %d kB an hour, %d kB the file after 13 h, read in %v; %d kB of memory",
				tt.chargers, perDay/1000, largest/1000, s.size/1000, time.Since(start).Round(time.Millisecond), size/1024)
			if perDay > tt.bytesADay || size > tt.memory {
				t.Errorf("it takes %d bytes a day and %d of memory, want at most %d and %d", perDay, size, tt.bytesADay, tt.memory)
			}
		})
	}
}

// Strangers make up MACs without end; chargers keep their history.
func TestStrangersCannotFillTheHistory(t *testing.T) {
	now := time.Now()
	h := New(func(mac MAC) bool { return mac[0] == p107[0] })
	h.Heard(p107, -60, Counters{}, now)
	for i := range 3000 {
		h.Heard(deviceOf(i+1), -60, Counters{}, now.Add(time.Duration(i)*time.Second))
	}
	if n := h.Size(); n != maxStrangers+1 {
		t.Errorf("%d devices", n)
	}
	if h.of[p107] == nil || h.of[deviceOf(3000)] == nil {
		t.Error("the charger is gone, or the last stranger has none")
	}
	all := New(everyone)
	for i := range maxDevices + 100 {
		all.Heard(deviceOf(i), -60, Counters{}, now.Add(time.Duration(i)*time.Minute))
	}
	if n := all.Size(); n != maxDevices || all.of[deviceOf(0)] != nil {
		t.Errorf("%d devices, or the first is still there", n)
	}
}

func TestHistorySurvivesARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "signal")
	synctest.Test(t, func(t *testing.T) {
		h, s, fault := Open(path, everyone)
		if fault != nil {
			t.Fatal(fault)
		}
		b := &box{History: h}
		b.at(t, "2026-11-20 12:00:00", true)
		if n := save(t, s, h); n != 0 {
			t.Errorf("%d bytes written for nothing", n)
		}
		for i := range 26 { // more than a day, so that minutes have gone
			b.hear(time.Hour, map[MAC]int{p107: -60 - i%3, p108: 0})
			if n := save(t, s, h); n == 0 {
				t.Error("nothing was written")
			}
			if n := save(t, s, h); n != 0 {
				t.Errorf("%d bytes written though nothing is new", n)
			}
		}
		for _, anew := range []bool{false, true} {
			if anew {
				h.whole = true
				save(t, s, h)
			}
			h2, _, fault := Open(path, everyone)
			if fault != nil {
				t.Fatal(fault)
			}
			a := &box{History: h2, off: b.off}
			a.tick(true)
			for _, mac := range []MAC{p107, p108} {
				want := b.Of(mac, time.Now())
				if anew { // which keeps whole hours
					want.Minutes = want.Minutes[59:]
				}
				a.want(t, mac, shown(want))
			}
		}
	})
}

// shownAll writes down every minute and hour that there is, by its index.
func shownAll(h *History, d *device) string {
	var b strings.Builder
	for i := h.head - DayMinutes + 1; i < h.head; i++ {
		if m := *d.minuteAt(i); m.signal != 0 {
			fmt.Fprintf(&b, " %d:%d", i, m.signal)
		}
	}
	b.WriteString("\n")
	for i := h.head/60 - QuarterHours + 1; i < h.head/60; i++ {
		if v := *d.hourAt(i); v.present != 0 {
			fmt.Fprintf(&b, " %d:%v", i, v)
		}
	}
	return b.String()
}

// within reports whether a history holds all minutes but the first hour of what it was.
func within(h *History, was map[MAC]string) bool {
	for mac, all := range was {
		minutes, _, _ := strings.Cut(all, "\n")
		for m := range strings.FieldsSeq(minutes) {
			var i int64
			var signal int8
			fmt.Sscanf(m, "%d:%d", &i, &signal)
			if i > h.head-DayMinutes+60 && i < h.head && h.of[mac].minuteAt(i).signal != signal {
				return false
			}
		}
	}
	return true
}

// Whatever happens in whatever order (people come and go, the clock is set, is known
// and is not, the daemon starts again, the file is written anew): what the file says
// is what the memory holds.
func TestFileSaysWhatTheMemoryHolds(t *testing.T) {
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 8883))
		path := filepath.Join(t.TempDir(), "signal")
		now := time.Unix(1_800_000_000, 0)
		off := time.Duration(0)
		known := seed%2 == 0
		// Where the clock is set, what had gone out of the memory may still be in the file,
		// and comes back with it; and hours are made anew of such minutes.
		set := seed%4 != 0
		h, s, _ := Open(path, everyone)
		var story []string
		for range 40 {
			switch n := random.IntN(10); {
			case n < 5:
				story = append(story, "hear")
				for range random.IntN(400) {
					h.Heard(deviceOf(random.IntN(3)), -50-random.IntN(40), Counters{Sent: 4, Resent: random.IntN(4)}, now)
					now = now.Add(time.Duration(random.IntN(90)) * time.Second)
				}
			case n < 6:
				d := time.Duration(random.Int64N(int64(30 * time.Hour)))
				story = append(story, fmt.Sprint("pass ", d))
				now = now.Add(d)
			case n < 7:
				known = true
				if set {
					off += time.Duration(random.Int64N(int64(70*time.Hour))) - 40*time.Hour
				}
				story = append(story, fmt.Sprint("set the clock by ", off))
			case n < 8:
				story = append(story, "write anew")
				h.whole = true
			default:
				saveAt(t, s, h, now)
				before := h.everything()
				dated, run, head := h.dated, h.run, h.head
				was := map[MAC]string{}
				for mac, d := range h.of {
					was[mac] = shownAll(h, d)
				}
				var fault *Fault
				h, s, fault = Open(path, everyone)
				if fault != nil {
					t.Fatalf("seed %d: after %q it says %v", seed, story, fault.Err)
				}
				story = append(story, "start again")
				h.dated, h.run = dated, run
				h.advanceLocked(head) // nothing is written of a time in which nobody was heard
				if after := h.everything(); !set && string(after) != string(before) || !within(h, was) {
					t.Fatalf("seed %d: after %q the file says something else", seed, story)
				}
				h.settle()
			}
			h.Clock(now, now.Add(off), known)
		}
	}
}

// A disk that cannot be written costs nothing but what a power cut would take, and
// all of it is written when it is back, even after days.
func TestDiskThatIsBackKeepsAll(t *testing.T) {
	parent := t.TempDir()
	path := filepath.Join(parent, "state", "signal")
	synctest.Test(t, func(t *testing.T) {
		h, s, _ := Open(path, everyone)
		b := &box{History: h}
		b.at(t, "2026-11-20 12:00:00", true)
		b.hear(time.Hour, map[MAC]int{p107: -60})
		save(t, s, h)
		for _, away := range []time.Duration{2 * time.Hour, 30 * time.Hour} {
			if err := os.RemoveAll(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Dir(path), nil, 0o600); err != nil { // a file in its place
				t.Fatal(err)
			}
			for range away / time.Hour {
				b.hear(time.Hour, map[MAC]int{p107: -65})
				if _, err := s.Save(h, time.Now()); err == nil {
					t.Fatal("written to nowhere")
				}
			}
			if err := os.Remove(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
			save(t, s, h)
			h2, _, fault := Open(path, everyone)
			if fault != nil {
				t.Fatal(fault)
			}
			a := &box{History: h2, off: b.off}
			a.tick(true)
			want := b.Of(p107, time.Now())
			if away > 24*time.Hour { // it was written anew, which keeps whole hours
				want.Minutes = want.Minutes[59:]
			}
			a.want(t, p107, shown(want))
		}
	})
}

// written is a file of some hours, as it is after each of them.
func written(t *testing.T) (ends []int, data []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "signal")
	synctest.Test(t, func(t *testing.T) {
		h, s, _ := Open(path, everyone)
		b := &box{History: h}
		b.at(t, "1970-01-01 00:00:00", false)
		for i := range 3 {
			b.hear(time.Hour, map[MAC]int{p107: -60 - i, p108: -70 - i})
			if i == 1 {
				b.at(t, "2026-11-20 12:00:00", true)
			}
			save(t, s, h)
			ends = append(ends, int(s.size))
		}
	})
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return ends, data
}

// The power goes in the middle of a write, after whatever byte: what stood there
// before is read, the rest is cut off, and the file goes on.
func TestPowerCutWhileItIsWritten(t *testing.T) {
	ends, data := written(t)
	path := filepath.Join(t.TempDir(), "signal")
	for _, zeros := range []bool{false, true} {
		for n := 0; n < len(data); n++ {
			if zeros {
				n += 6
			}
			cut := slices.Clone(data[:min(n, len(data))])
			if zeros { // the size was written down, and the data was not
				cut = append(cut, make([]byte, max(0, len(data)-n))...)
			}
			if err := os.WriteFile(path, cut, 0o600); err != nil {
				t.Fatal(err)
			}
			h, s, fault := Open(path, everyone)
			hours := 0
			for _, end := range ends {
				if n >= end {
					hours++
				}
			}
			exact := n == 0 || n == len(fileHead) || slices.Contains(ends, n)
			if fault == nil && !(exact || hours == 0 && n == 0) && !zeros {
				// Between two pieces of one write there is nothing to be missed.
				if _, _, err := unseal(data[s.size:]); err != nil || int(s.size) != n {
					t.Fatalf("after %d bytes nothing is said", n)
				}
			}
			if fault != nil && fault.Aside != "" && !zeros {
				t.Fatalf("after %d bytes it was set aside: %v", n, fault.Err)
			}
			want := hours * 60
			if d := h.of[p107]; (d == nil) != (want == 0) && n < ends[0] {
				t.Fatalf("after %d bytes %v", n, d)
			} else if want > 0 {
				got := 0
				for _, m := range d.minutes {
					if m.signal != 0 {
						got++
					}
				}
				if got < want-1 || got > want {
					t.Fatalf("after %d bytes %d minutes are left, want %d", n, got, want)
				}
			}
			now := time.Now()
			h.Heard(p107, -50, Counters{}, now)
			saveAt(t, s, h, now.Add(2*time.Minute))
			if _, _, fault := Open(path, everyone); fault != nil {
				t.Fatalf("after %d bytes the next start says %v", n, fault.Err)
			}
		}
	}
}

// A file that cannot be used is said, set aside and begun anew; what stood before
// the damage is kept.
func TestDamagedFile(t *testing.T) {
	ends, good := written(t)
	for _, tt := range []struct {
		name  string
		make  func(path string) error
		want  string
		hours int
	}{
		{"foreign", func(p string) error { return os.WriteFile(p, []byte("Buy milk\n"), 0o600) }, "it holds no history, or that of another version", 0},
		{"of a later version", func(p string) error { return os.WriteFile(p, []byte("chargegate-signal 7\n"), 0o600) }, "or that of another version", 0},
		{"one bit in the last hour", func(p string) error {
			bad := slices.Clone(good)
			bad[len(bad)-3] ^= 1
			return os.WriteFile(p, bad, 0o600)
		}, "its checksum is wrong", 2},
		{"one bit in the middle", func(p string) error {
			bad := slices.Clone(good)
			bad[ends[0]+pieceHead+1] ^= 1
			return os.WriteFile(p, bad, 0o600)
		}, "its checksum is wrong", 1},
		{"oversized", func(p string) error {
			if err := os.WriteFile(p, good, 0o600); err != nil {
				return err
			}
			return os.Truncate(p, maxFile+1)
		}, "it is larger than 96 MiB", 0},
		{"a piece of tomorrow", func(p string) error {
			return os.WriteFile(p, append(slices.Clone(good), seal([]byte("Xyz"))...), 0o600)
		}, "of the kind 'X'", 3},
		{"a directory", func(p string) error { return os.Mkdir(p, 0o700) }, "it is not a file", 0},
		{"a link", func(p string) error { return os.Symlink("/etc/hostname", p) }, "too many levels of symbolic links", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "signal")
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			h, s, fault := Open(path, everyone)
			if fault == nil || !strings.Contains(fault.Err.Error(), tt.want) || fault.Aside != path+damagedSuffix {
				t.Fatalf("said %+v, want %q", fault, tt.want)
			}
			got := 0
			if d := h.of[p107]; d != nil {
				for _, m := range d.minutes {
					if m.signal != 0 {
						got++
					}
				}
			}
			if (got+30)/60 != tt.hours {
				t.Errorf("%d minutes are left, want %d hours", got, tt.hours)
			}
			now := time.Now()
			h.Heard(p107, -50, Counters{}, now)
			saveAt(t, s, h, now.Add(2*time.Minute))
			if _, err := os.Lstat(fault.Aside); err != nil {
				t.Error(err)
			}
			again, _, fault := Open(path, everyone)
			if fault != nil || again.of[p107] == nil {
				t.Errorf("the next start says %v", fault)
			}
		})
	}
}

// A file that grows for weeks is written anew when it is four times as large.
func TestFileIsWrittenAnew(t *testing.T) {
	h, s, _ := Open(filepath.Join(t.TempDir(), "signal"), everyone)
	g := newGarage(h, 40)
	anew, largest := 0, int64(0)
	for range 10 * 24 {
		for range 60 {
			g.minute()
		}
		base := s.base
		saveAt(t, s, h, g.now)
		if s.base != base {
			anew++
		}
		largest = max(largest, s.size)
	}
	if anew < 1 || anew > 10 || largest > max(smallest, growth*s.base)+(64<<10) {
		t.Errorf("written anew %d times, the largest was %d bytes", anew, largest)
	}
	t.Logf("written anew %d times in 10 days, the largest file was %d kB", anew, largest/1000)
}

// Nothing that is read from a disk makes the history fall over, and what it takes it
// writes down the same.
func FuzzRead(f *testing.F) {
	h := New(everyone)
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	h.Clock(now, now, true)
	for i := range 100 {
		h.Heard(p107, -60-i%3, Counters{Sent: 5, Resent: i % 7}, now.Add(time.Duration(i)*time.Minute))
		h.Heard(p108, 0, Counters{}, now.Add(time.Duration(i)*time.Minute))
	}
	f.Add(h.putHours(h.head/60-2, h.head/60), h.putMinutes(h.head/60*60, h.head, true))
	f.Add(h.putMinutes(h.head-70, h.head-10, false), putMove(move{h.head - 40, 1500}))
	f.Add(h.putMinutes(h.head-70, h.head-10, true), putMove(move{h.head - 40, -35}))
	f.Add(putMove(move{100, 29_000_000}), putMove(move{100, -5}))
	f.Add([]byte("M\x00\x02\x00\x01\x60\x15\x92\x41\x00\x07\x00\xc4\x00\xff\xff"), putMove(move{1, 7}))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		unseal(first)
		h := New(nobodyIn)
		h.dated = true
		for _, body := range [][]byte{first, second} {
			if h.read(body) != nil {
				return
			}
		}
		run := h.run
		h.settle()
		h.dated = run == 0 // as it was before: what stands in the file decides
		once := h.everything()
		again := New(nobodyIn)
		if err := (&Shelf{}).load(again, once); err != nil {
			t.Fatalf("%v", err)
		}
		again.settle()
		again.dated, again.run = h.dated, h.run
		if twice := again.everything(); string(once) != string(twice) {
			t.Fatalf("%q became %q", once, twice)
		}
		now := time.Now()
		again.Heard(p107, -60, Counters{}, now)
		again.Clock(now, now, true)
		again.Of(p107, now.Add(time.Hour))
		again.Falls(now.Add(48 * time.Hour))
	})
}

// The daily medians of a charger, and what is said of them.
func TestFalling(t *testing.T) {
	t.Parallel()
	flat := func(n, v int) []int { return slices.Repeat([]int{v}, n) }
	down := []int{-66, -67, -68, -68, -69, -70, -71, -72, -72, -73}
	for _, tt := range []struct {
		name string
		days []int
		want Fall
	}{
		{"7 dB in 9 days", down, Fall{From: -66, To: -73, Days: 9}},
		{"after a quiet month", append(flat(21, -66), down...), Fall{From: -66, To: -73, Days: 9}},
		{"6 dB in 3 days", []int{-60, -62, -64, -66}, Fall{From: -60, To: -66, Days: 3}},
		{"5 dB in 3 days", []int{-60, -62, -64, -65}, Fall{}},
		{"6 dB in 2 days", []int{-60, -63, -66}, Fall{}},
		{"it rises", []int{-73, -72, -70, -68, -66}, Fall{}},
		{"one bad day at the end", append(flat(20, -60), -75), Fall{}},
		{"one bad day on the way", []int{-66, -67, -85, -69, -70, -71, -72, -73}, Fall{From: -66, To: -73, Days: 7}},
		{"days that differ", []int{-60, -66, -61, -65, -60, -66, -60, -66}, Fall{}},
		{"days without a signal between", []int{-60, 0, -63, -65, 0, -68, -69}, Fall{From: -60, To: -69, Days: 6}},
		{"hardly any days", []int{-60, 0, 0, 0, -64, 0, 0, -70}, Fall{}},
		{"away today", []int{-60, -63, -66, -70, 0}, Fall{}},
		{"never heard", flat(31, 0), Fall{}},
		{"down and half up again", []int{-60, -63, -66, -70, -72, -69, -66, -64}, Fall{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, ok := falling(tt.days); got != tt.want || ok != (tt.want != Fall{}) {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// Days that only scatter are no fall: of 200 chargers whose days differ by 1 dB none
// is told of in three months, and of those that differ by 2 dB one in ten at most.
func TestScatterIsNoFall(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(8883, 443))
	for _, tt := range []struct {
		scatter float64
		most    int
	}{{1, 0}, {1.5, 4}, {2, 20}} {
		told := 0
		for range 200 {
			days := make([]int, 120)
			for i := range days {
				days[i] = -66 + int(math.Round(random.NormFloat64()*tt.scatter))
			}
			was := false
			for i := fallMost + 1; i <= len(days); i++ {
				_, ok := falling(days[i-fallMost-1 : i])
				if ok && !was {
					told++
				}
				was = ok
			}
		}
		t.Logf("days that differ by %v dB: %d chargers of 200 told of in 90 days", tt.scatter, told)
		if told > tt.most {
			t.Errorf("days that differ by %v dB: told %d times, want at most %d", tt.scatter, told, tt.most)
		}
	}
}

// A charger is heard a little worse every day: it is said once, again when it has
// come down as much once more, and not again because of a restart.
func TestFallIsSaidOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signal")
	synctest.Test(t, func(t *testing.T) {
		h, s, _ := Open(path, everyone)
		b := &box{History: h}
		b.at(t, "2026-10-01 12:00:00", true)
		var said []string
		day := func(signal int) {
			for range 24 {
				b.hear(10*time.Minute, map[MAC]int{p107: signal, p108: -60})
				time.Sleep(50 * time.Minute)
				b.tick(true)
				for _, f := range h.Falls(time.Now()) {
					said = append(said, fmt.Sprintf("%s: %d -> %d in %d days", b.wall().Format("02"), f.From, f.To, f.Days))
				}
			}
			save(t, s, h)
		}
		want := func(lines ...string) {
			t.Helper()
			if !slices.Equal(said, lines) {
				t.Errorf("said %q, want %q", said, lines)
			}
			said = nil
		}
		for range 10 {
			day(-60)
		}
		for i := range 9 {
			day(-60 - i)
		}
		want("18: -60 -> -66 in 6 days")
		h, s, _ = Open(path, everyone)
		off := b.off
		b = &box{History: h, off: off}
		b.tick(true)
		day(-68)
		day(-68)
		want()
		if f := h.Of(p107, time.Now()).Fall; f.From != -60 || f.To > -66 {
			t.Errorf("the page says %+v", f)
		}
		for i := range 9 {
			day(-69 - i)
		}
		if len(said) != 1 || !strings.Contains(said[0], "-> -7") {
			t.Errorf("the second fall: %q", said)
		}
	})
}

// BenchmarkOpen reads a file that is about to be written anew: ten days of minutes.
func BenchmarkOpen(b *testing.B) {
	for _, chargers := range []int{40, 250} {
		b.Run(fmt.Sprint(chargers), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "signal")
			h, s, _ := Open(path, everyone)
			g := newGarage(h, chargers)
			s.base = maxFile
			for range 10 * 24 {
				for range 60 {
					g.minute()
				}
				if _, err := s.Save(h, g.now); err != nil {
					b.Fatal(err)
				}
				s.base = maxFile
			}
			b.SetBytes(s.size)
			for b.Loop() {
				Open(path, everyone)
			}
		})
	}
}

// BenchmarkWriteAnew makes the whole file of 90 days; its bytes are what that takes of
// memory beside the history, and MB/s are of the file.
func BenchmarkWriteAnew(b *testing.B) {
	for _, chargers := range []int{250, 1000} {
		b.Run(fmt.Sprint(chargers), func(b *testing.B) {
			h := New(everyone)
			g := newGarage(h, chargers)
			g.minute()
			for _, d := range h.of {
				for i := range d.hours {
					mid := int8(-60 + g.random.NormFloat64()*2)
					d.hours[i] = hour{mid - int8(g.random.IntN(4)), mid, mid + int8(g.random.IntN(4)), 60}
				}
				for i := range d.minutes {
					d.minutes[i] = minute{int8(-60 + g.random.NormFloat64()), uint8(g.random.IntN(4) * coarse)}
				}
			}
			b.ReportAllocs()
			var size int
			for b.Loop() {
				size = len(h.everything())
			}
			b.SetBytes(int64(size))
		})
	}
}

// BenchmarkHistory is a look at 1000 chargers.
func BenchmarkHistory(b *testing.B) {
	h := New(everyone)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		for i := range 1000 {
			h.Heard(deviceOf(i), -60, Counters{Sent: 1}, now)
		}
		now = now.Add(15 * time.Second)
	}
	runtime.KeepAlive(h)
}

// An hour is its minutes' weakest, median (of an even number the worse of the two in
// the middle) and strongest.
func TestHourOfMinutes(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(8883, 443))
	for range 500 {
		d := &device{}
		var signals []int
		present := 0
		for i := range int64(random.IntN(60) + 1) {
			switch s := int8(-random.IntN(-lowest + 1)); {
			case s == 0:
			case s%10 == 0:
				*d.minuteAt(i) = minute{unheard, untold}
				present++
			default:
				*d.minuteAt(i) = minute{s, untold}
				signals = append(signals, int(s))
				present++
			}
		}
		want := hour{unheard, unheard, unheard, uint8(present)}
		if m := median(signals); m != 0 {
			want = hour{int8(slices.Min(signals)), int8(m), int8(slices.Max(signals)), uint8(present)}
		} else if present == 0 {
			want = hour{}
		}
		if got := d.hourOf(0, 59); got != want {
			t.Fatalf("%v make %v, want %v", signals, got, want)
		}
	}
}
