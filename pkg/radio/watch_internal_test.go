package radio

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
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
		net: Network{Name: "P1", Interface: "wlan0", MaxStations: maxStations}, limit: zaptec, every: pace,
		book: book, log: log, stations: map[charger.MAC]*station{}, begun: true,
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
	g.rounds(11, heard(mac7, -60))
	g.wantSaid("charger-joined")

	// One bad frame, and then another: a car passes. The median stays.
	g.round(heard(mac7, -90))
	g.round(heard(mac7, -90))
	g.rounds(10, heard(mac7, -60))
	g.wantSaid()

	g.rounds(10, heard(mac7, -74))
	g.wantSaid("charger-signal-weak")
	g.rounds(10, heard(mac7, -76))
	g.wantSaid("charger-signal-below-minimum")
	g.rounds(20, heard(mac7, -74)) // 2 dB better is not better
	g.wantSaid()
	g.rounds(10, heard(mac7, -82))
	g.wantSaid("charger-signal-critical")
	g.rounds(10, heard(mac7, -77))
	g.wantSaid("charger-signal-improved")
	g.rounds(20, heard(mac7, -65))
	g.wantSaid("charger-signal-recovered")

	last := g.log.Recent(0, "P1-07")
	if got, want := last[len(last)-1].Message, "P1-07 is heard well again: -65 dBm"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}

func TestWeakFromTheStart(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	g.rounds(enough-1, heard(mac7, -78))
	g.wantSaid("charger-joined")
	g.round(heard(mac7, -78))
	g.wantSaid("charger-signal-below-minimum")
}

func TestSignalUnknownIsSaidOnceForTheRadio(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 0)
	g.rounds(10, heard(mac7, 0), heard(mac8, 0))
	g.wantSaid("charger-joined", "charger-joined")
	g.rounds(50, heard(mac7, 0), heard(mac8, 0))
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
	g := newGarage(t, 2)
	g.rounds(3, heard(mac7, -60), heard(mac8, -60))
	g.wantSaid("charger-joined", "charger-joined", "radio-full")
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
				now = now.Add(pace)
			}
		})
	}
}
