package radio

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/signal"
)

var (
	mac7 = charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 7}
	mac8 = charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 8}
)

// A garage is a watch, its book and its log, and a clock that the test turns.
type garage struct {
	*watch
	t    *testing.T
	now  time.Time
	said uint64
}

func newGarage(t *testing.T, maxStations int) *garage {
	t.Helper()
	book := charger.NewBook(charger.Inventory{
		mac7: {MAC: mac7, Name: "P1-07"},
		mac8: {MAC: mac8, Name: "P1-08"},
	}, nil)
	g := &garage{t: t, now: time.Now()}
	log := event.New(event.Options{Level: event.Debug, Keep: 1000, Now: func() time.Time { return g.now },
		Who: func(mac [6]byte, _ netip.Addr) event.Subject { return event.Subject{Charger: book.NameOf(mac)} }})
	g.watch = &watch{
		net: Network{Name: "P1", Interface: "wlan0", MaxStations: maxStations}, limit: signal.Default(), every: pace,
		book: book, log: log, stations: map[charger.MAC]*station{}, left: map[charger.MAC]*past{}, begun: true,
	}
	return g
}

// round lets one pace pass and shows the watch the stations given.
func (g *garage) round(got ...Station) {
	g.now = g.now.Add(pace)
	g.look(g.now, got)
}

// rounds is round, n times.
func (g *garage) rounds(n int, got ...Station) {
	for range n {
		g.round(got...)
	}
}

// lasts is round, for as long.
func (g *garage) lasts(d time.Duration, got ...Station) { g.rounds(int(d/pace), got...) }

// wantSaid compares what was said since the last call, as event names.
func (g *garage) wantSaid(want ...string) {
	g.t.Helper()
	var got []string
	for _, r := range g.log.Recent(g.said, "") {
		got = append(got, r.Kind.ID)
		g.said = r.Seq
	}
	if diff := cmp.Diff(want, got); diff != "" {
		g.t.Errorf("said (-want +got):\n%s", diff)
	}
}

func (g *garage) status(mac charger.MAC) charger.Status {
	g.t.Helper()
	for _, s := range g.book.All(g.now) {
		if s.MAC == mac {
			return s
		}
	}
	g.t.Fatalf("%v is not in the book", mac)
	return charger.Status{}
}

func heard(mac charger.MAC, signal int) Station { return Station{MAC: mac, Signal: signal} }

func TestSignalStory(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	g.lasts(6*time.Minute, heard(mac7, -60))
	g.wantSaid("charger-joined")

	// One bad minute, and then all is well: a car passes. The median stays.
	g.lasts(time.Minute, heard(mac7, -90))
	g.lasts(5*time.Minute, heard(mac7, -60))
	g.wantSaid()

	g.lasts(10*time.Minute, heard(mac7, -74)) // the median has been there for half of it
	g.wantSaid()
	g.lasts(5*time.Minute, heard(mac7, -74))
	g.wantSaid("charger-signal-weak")
	g.lasts(5*time.Minute, heard(mac7, -76))
	g.wantSaid()
	g.lasts(5*time.Minute, heard(mac7, -76))
	g.wantSaid("charger-signal-below-minimum")
	g.lasts(20*time.Minute, heard(mac7, -74)) // 2 dB better is not better
	g.wantSaid()
	g.lasts(5*time.Minute, heard(mac7, -82))
	g.wantSaid("charger-signal-critical")
	g.lasts(5*time.Minute, heard(mac7, -77))
	g.wantSaid("charger-signal-improved")
	g.lasts(10*time.Minute, heard(mac7, -65))
	g.wantSaid("charger-signal-recovered")

	last := g.log.Recent(0, "P1-07")
	if got, want := last[len(last)-1].Message, "P1-07 is heard well again: -71 dBm"; got != want && got != "P1-07 is heard well again: -65 dBm" {
		t.Errorf("said %q, want %q", got, want)
	}
}

func TestWeakFromTheStart(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	g.lasts(7*time.Minute, heard(mac7, -78))
	g.wantSaid("charger-joined")
	if st := g.list()[0]; st.Grade != signal.Below || st.Said != signal.OK || st.GradeFor < 4*time.Minute {
		t.Errorf("it is shown as %v since %v, and said to be %v", st.Grade, st.GradeFor, st.Said)
	}
	g.lasts(2*time.Minute, heard(mac7, -78))
	g.wantSaid("charger-signal-below-minimum")
}

// Who is heard weakly comes and goes: it is told of all the same, and once.
func TestWeakOneThatComesAndGoes(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	g.rounds(1)
	for i := range 10 {
		g.lasts(4*time.Minute, heard(mac7, -78))
		g.rounds(absences)
		switch i {
		case 1:
			g.wantSaid("charger-joined", "charger-left", "charger-joined", "charger-signal-below-minimum", "charger-left")
		case 9:
			var n int
			for _, r := range g.log.Recent(g.said, "") {
				if r.Kind == event.ChargerSignalBelowMinimum {
					n++
				}
			}
			if n != 0 {
				t.Errorf("said %d times more", n)
			}
		}
	}
	g.lasts(2 * recall)
	if n := len(g.left); n != 0 {
		t.Errorf("%d are remembered though they left long ago", n)
	}
	for i := range 1000 { // strangers come and go
		g.round(heard(charger.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}, -50))
	}
	if n := len(g.left); n > fewer {
		t.Errorf("%d strangers are remembered", n)
	}
}

func TestOffsetCorrectsWhatIsHeard(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	g.limit.UplinkOffset = -6
	g.lasts(5*time.Minute, heard(mac7, -66))
	if st := g.list()[0]; st.Signal != -72 || st.Median != -72 || g.status(mac7).Signal != -72 {
		t.Errorf("%+v, and in the book %d dBm", st, g.status(mac7).Signal)
	}
}

// Heard well, and still much must be sent again: that is somebody else on the
// channel.
func TestInterference(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	st := heard(mac7, -60)
	sends := func(d time.Duration, sent, again, lost int) {
		for range int(d / pace) {
			st.Sent, st.Retries, st.Failed = st.Sent+sent, st.Retries+again, st.Failed+lost
			g.round(st)
		}
	}
	sends(20*time.Minute, 10, 1, 0)
	g.wantSaid("charger-joined")
	sends(20*time.Minute, 10, 20, 2)
	got := g.log.Recent(g.said, "")
	if len(got) != 1 || !strings.HasPrefix(got[0].Message, "P1-07 is heard well (-60 dBm), but of what was sent to it ") || !strings.Contains(got[0].Advice(), "chargegate survey") {
		t.Errorf("said %v", got)
	}
	g.wantSaid("charger-interference")
	sends(20*time.Minute, 10, 1, 0)
	g.wantSaid("charger-interference-over")
}

// That a disturbance is over is not known of a charger that is heard too badly to
// tell.
func TestInterferenceThatCannotBeTold(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	st := heard(mac7, -60)
	sends := func(d time.Duration) {
		for range int(d / pace) {
			st.Sent, st.Retries = st.Sent+10, st.Retries+20
			g.round(st)
		}
	}
	sends(20 * time.Minute)
	g.wantSaid("charger-joined", "charger-interference")
	st.Signal = -74
	sends(6 * time.Minute)
	g.wantSaid("charger-interference-untold")
}

// What a sentence says of a signal agrees with itself, also where the verdict holds on
// to a grade.
func TestSentencesOfSignalsAgree(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	g.lasts(10*time.Minute, heard(mac7, -74))
	g.said = g.log.Recent(0, "")[0].Seq
	g.lasts(8*time.Minute, heard(mac7, -72))
	got := g.log.Recent(g.said, "")
	want := "P1-07 is heard weakly: -72 dBm, and Zaptec asks for better than -75 dBm; it counts as heard well again from -71 dBm on"
	if len(got) != 1 || got[0].Message != want {
		t.Errorf("said %v, want %q", got, want)
	}
}

// A kept history is told of everybody at every look, and of nothing twice.
func TestHistoryIsTold(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	told := &diary{}
	g.history = told
	g.round(Station{MAC: mac7, Signal: -60, Sent: 100, Retries: 40})
	g.round(Station{MAC: mac7, Signal: -61, Sent: 110, Retries: 41, Failed: 1})
	g.round(Station{MAC: mac7, Signal: -61, Sent: 110, Retries: 41, Failed: 1, Inactive: 2 * pace}) // no new frame
	g.round(Station{MAC: mac7, Signal: 0, Sent: 112, Retries: 41, Failed: 1})
	g.round()
	want := diary{{-60, signal.Counters{}}, {-61, signal.Counters{Sent: 10, Resent: 1, Lost: 1}}, {0, signal.Counters{}}, {0, signal.Counters{Sent: 2}}}
	if diff := cmp.Diff(want, *told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

type diary []struct {
	Measured int
	Sent     signal.Counters
}

func (d *diary) Heard(_ [6]byte, measured int, sent signal.Counters, _ time.Time) {
	*d = append(*d, struct {
		Measured int
		Sent     signal.Counters
	}{measured, sent})
}

func TestSignalUnknownIsSaidOnceForTheRadio(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	g.lasts(5*time.Minute, heard(mac7, 0), heard(mac8, 0))
	g.wantSaid("charger-joined", "charger-joined")
	g.lasts(25*time.Minute, heard(mac7, 0), heard(mac8, 0))
	g.wantSaid("radio-signal-unknown")
	if s := g.status(mac7); s.Signal != 0 {
		t.Errorf("the book has a signal of %d dBm, want unknown", s.Signal)
	}
	if !g.unknown.lacking() {
		t.Error("the radio does not count as one without signals")
	}
	g.round(heard(mac7, -60), heard(mac8, 0))
	if g.unknown.lacking() {
		t.Error("a radio that reported a signal counts as one without")
	}
}

func TestNoSignalWhileNobodyIsThereSaysNothing(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	g.rounds(5, heard(mac7, 0))
	g.rounds(100)
	g.rounds(5, heard(mac7, 0))
	g.wantSaid("charger-joined", "charger-left", "charger-joined")
}

func TestLeaving(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	addr := netip.MustParseAddr("10.83.0.7")
	g.rounds(3, heard(mac7, -60))
	g.book.Leased(mac7, "P1", addr, true, g.now)
	g.book.Resolved(addr, g.now)

	// A driver that skips a station in one round takes nothing from it.
	g.round()
	g.round(heard(mac7, -60))
	if s := g.status(mac7); s.Stage != charger.Time {
		t.Errorf("after one round without it the stage is %s, want %s", s.Stage, charger.Time)
	}
	g.wantSaid("charger-joined")

	g.rounds(absences)
	if s := g.status(mac7); s.Stage != charger.Wifi {
		t.Errorf("after it left the stage is %s, want %s", s.Stage, charger.Wifi)
	}
	g.wantSaid("charger-left")
}

func TestVanishedButStillListed(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	start := g.now
	g.round(heard(mac7, -60))
	for inactive := pace; inactive < silent+2*pace; inactive += pace {
		g.round(Station{MAC: mac7, Signal: -60, Inactive: inactive})
	}
	g.wantSaid("charger-joined", "charger-left")
	if n := len(g.list()); n != 0 {
		t.Errorf("%d stations are left, want none", n)
	}

	// While it was silent it was not seen.
	g = newGarage(t, 0)
	start = g.now
	g.round(heard(mac7, -60))
	for i := 1; i <= 8; i++ {
		g.round(Station{MAC: mac7, Signal: -60, Inactive: time.Duration(i) * pace})
	}
	if seen := g.status(mac7).LastSeen.Sub(start); seen != pace {
		t.Errorf("last seen %v after the start, want %v", seen, pace)
	}
}

func TestMovedToAnotherRadio(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	g.rounds(3, heard(mac7, -60))
	g.book.Associated(mac7, "P2", -50, g.now)
	g.rounds(absences)
	if s := g.status(mac7); s.Network != "P2" || s.Stage != charger.DHCP {
		t.Errorf("it is on %s at %s, want on P2 at %s", s.Network, s.Stage, charger.DHCP)
	}
	g.wantSaid("charger-joined")
}

func TestWhoJoined(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		begun     bool
		connected time.Duration
		want      []string
	}{
		{"new since the last round", true, 0, []string{"charger-joined"}},
		{"there when the daemon started", false, time.Hour, nil},
		{"joined just before the daemon started", false, 5 * time.Second, []string{"charger-joined"}},
		{"there at the start, the driver does not say since when", false, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newGarage(t, 0)
			g.begun = tt.begun
			g.round(Station{MAC: mac7, Signal: -60, Connected: tt.connected})
			g.wantSaid(tt.want...)
		})
	}
}

func TestRadioGoesAway(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	g.rounds(3, heard(mac7, -60), heard(mac8, -60))
	g.away(g.now)
	g.wantSaid("charger-joined", "charger-joined", "charger-left", "charger-left")
}

func TestCrowd(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		limit int
		walk  []int
		want  []int
	}{
		{"no limit known", 0, []int{50, 100}, []int{roomy, roomy}},
		{"filling up", 10, []int{7, 8, 9, 10}, []int{roomy, nearly, nearly, full}},
		{"one comes and goes at 80 %", 10, []int{8, 7, 8, 7, 6, 8}, []int{nearly, nearly, nearly, nearly, roomy, nearly}},
		{"one comes and goes at the limit", 10, []int{10, 9, 10, 8, 10}, []int{full, full, full, nearly, full}},
		{"a tiny radio", 1, []int{0, 1, 0}, []int{roomy, full, roomy}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var c crowd
			var got []int
			for _, n := range tt.walk {
				c.level = c.next(n, tt.limit)
				got = append(got, c.level)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("levels (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCrowdIsSaid(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 3)
	g.rounds(3, heard(mac7, -60), heard(mac8, -60), heard(made(1), -60))
	g.wantSaid("charger-joined", "charger-joined", "charger-joined", "radio-full")
	g = newGarage(t, 1) // more chargers are planned than it holds
	g.rounds(3, heard(mac7, -60))
	g.wantSaid("charger-joined", "radio-full")
}

// A garage that is as it was planned is no news; a stranger in it is, also when it
// comes last.
func TestPlannedCrowdIsNotSaid(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 2)
	g.rounds(3, heard(mac7, -60), heard(mac8, -60))
	g.wantSaid("charger-joined", "charger-joined")
	g.rounds(3, heard(mac7, -60), heard(made(1), -60))
	g.wantSaid("charger-joined", "radio-full", "charger-left")
	g.rounds(3, heard(mac7, -60), heard(mac8, -60))
	g.rounds(3, heard(mac7, -60), heard(made(1), -60))
	full := 0
	for _, r := range g.log.Recent(0, "") {
		if r.Kind == event.RadioFull || r.Kind == event.RadioNearlyFull {
			full++
		}
	}
	if full != 1 {
		t.Errorf("a stranger that comes and goes is said %d times, want once", full)
	}
}

func TestPresence(t *testing.T) {
	t.Parallel()
	type step struct {
		state State
		want  *event.Kind
	}
	tests := []struct {
		name  string
		steps []step // half a minute apart
	}{
		{"there at once", []step{{Watched, event.RadioWatched}, {Watched, nil}}},
		{"hostapd starts after us", []step{{NotAP, nil}, {Watched, event.RadioWatched}}},
		{"hostapd never starts", []step{{NotAP, nil}, {NotAP, nil}, {NotAP, event.RadioNotAccessPoint}, {NotAP, nil}}},
		{"the adapter is not there", []step{{Missing, nil}, {Missing, nil}, {Missing, event.RadioMissing}, {Missing, nil}, {Watched, event.RadioWatched}}},
		{"the driver fails once", []step{{Watched, event.RadioWatched}, {Failed, event.RadioFailed}, {Failed, nil}, {Watched, event.RadioWatched}}},
		{"hostapd has stopped without a word", []step{{Watched, event.RadioWatched}, {Silent, nil}, {Silent, nil}, {Silent, event.RadioSilent}, {Silent, nil}, {Watched, event.RadioWatched}}},
		{"no nl80211 is said for all radios together", []step{{Unsupported, nil}, {Unsupported, nil}, {Unsupported, nil}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := presence{state: Waiting}
			now := time.Now()
			for i, s := range tt.steps {
				if got := p.turn(now, s.state); got != s.want {
					t.Errorf("step %d, %s: said %v, want %v", i, s.state, got, s.want)
				}
				now = now.Add(grace / 2)
			}
		})
	}
}
