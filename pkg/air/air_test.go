package air_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/air"
)

func TestChannelsAndFrequencies(t *testing.T) {
	t.Parallel()
	for channel := 1; channel <= 14; channel++ {
		if got := air.Channel(air.Frequency(channel)); got != channel {
			t.Errorf("channel %d comes back as %d", channel, got)
		}
	}
	for _, mhz := range []int{0, -5, 2407, 2411, 2413, 2477, 2482, 2489, 5180, 5955, math.MaxInt32} {
		if got := air.Channel(mhz); got != 0 {
			t.Errorf("%d MHz is no channel of this band, and became %d", mhz, got)
		}
	}
}

func TestOverlap(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b int
		want float64
	}{{1, 1, 1}, {1, 2, 0.75}, {2, 1, 0.75}, {1, 3, 0.5}, {6, 3, 0.25}, {1, 5, 0}, {1, 6, 0}, {6, 11, 0}, {11, 13, 0.5}, {13, 14, 0.4}, {11, 14, 0}} {
		if got := air.Overlap(tt.a, tt.b); got < tt.want-1e-9 || got > tt.want+1e-9 {
			t.Errorf("channels %d and %d: %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func ms(time, busy, own int) air.Count {
	return air.Count{Time: millis(time), Busy: millis(busy), Own: millis(own)}
}

func millis(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func TestCountsSince(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                string
		before, after, want air.Count
	}{
		{"it goes on", ms(15000, 3000, 500), ms(30000, 9000, 600), ms(15000, 6000, 100)},
		{"nothing is counted", ms(0, 0, 0), ms(0, 0, 0), ms(0, 0, 0)},
		{"it stands still", ms(800, 100, 0), ms(800, 100, 0), ms(0, 0, 0)},
		{"it began anew", ms(90000, 60000, 10), ms(4000, 400, 0), ms(4000, 400, 0)},
		{"only the busy time began anew", ms(10000, 9000, 0), ms(12000, 1000, 0), ms(12000, 1000, 0)},
		{"it began anew at nothing", ms(90000, 60000, 10), ms(0, 0, 0), ms(0, 0, 0)},
	} {
		if got := tt.after.Since(tt.before); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestCountsOfAVisit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		before, after air.Count
		took          int
		want          air.Count
	}{
		{"a counter that goes on", ms(5000, 1000, 0), ms(5110, 1060, 0), 1500, ms(110, 60, 0)},
		{"a counter of each visit", ms(64, 8, 0), ms(68, 8, 0), 1500, ms(68, 8, 0)},
		{"the same for the second time", ms(80, 20, 0), ms(80, 20, 0), 1500, ms(80, 20, 0)},
		{"a visit shorter than the last", ms(80, 20, 0), ms(64, 30, 0), 1500, ms(64, 30, 0)},
		{"a channel that is not counted any more", ms(90000, 60000, 0), ms(90000, 60000, 0), 1500, ms(0, 0, 0)},
		{"nothing is counted", ms(0, 0, 0), ms(0, 0, 0), 1500, ms(0, 0, 0)},
	} {
		if got := tt.after.Visit(tt.before, millis(tt.took)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		count air.Count
		want  float64
		known bool
	}{
		{"half of it", ms(1000, 500, 0), 0.5, true},
		{"what is one's own does not count", ms(1000, 500, 400), 0.1, true},
		{"a quiet channel", ms(1000, 0, 0), 0, true},
		{"too little to tell", ms(39, 39, 0), 0, false},
		{"nothing counted", ms(0, 0, 0), 0, false},
		{"more busy than listened", ms(1000, 4000, 0), 1, true},
		{"more of one's own than busy", ms(1000, 100, 300), 0, true},
		{"a counter of nonsense", air.Count{Time: -5, Busy: -7}, 0, false},
	} {
		if got, known := tt.count.Share(); got != tt.want || known != tt.known {
			t.Errorf("%s: %v %v, want %v %v", tt.name, got, known, tt.want, tt.known)
		}
	}
}

func TestCounted(t *testing.T) {
	t.Parallel()
	got := air.Counted(map[int]air.Count{1: ms(1000, 100, 0), 6: ms(1000, 0, 0), 11: ms(10, 5, 0)})
	if len(got) != 2 || got[1] != 0.1 || got[6] != 0 {
		t.Errorf("told %v", got)
	}
	if got := air.Counted(map[int]air.Count{1: ms(1000, 0, 0), 6: ms(1000, 0, 0)}); len(got) != 0 {
		t.Errorf("a driver that counts no busy time was believed: %v", got)
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{0.7}, 0.7}, {[]float64{0.9, 0.1, 0.2}, 0.2}, {[]float64{0.4, 0.1, 0.2, 0.9}, 0.30000000000000004}} {
		if got := air.Median(tt.in); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.in, got, tt.want)
		}
	}
}

// on is a network of its own access point.
func on(channel, signal int, last byte) air.Neighbour {
	return air.Neighbour{SSID: "next door", BSSID: [6]byte{2, 0, 0, last, 0, 0}, Channel: channel, Signal: signal}
}

func TestAdvise(t *testing.T) {
	t.Parallel()
	quiet := map[int]float64{1: 0, 6: 0, 11: 0}
	for _, tt := range []struct {
		name    string
		present int
		busy    map[int]float64
		all     []air.Neighbour
		want    int
		reason  string
	}{
		{"nobody is there, and it stays", 11, quiet, nil, 11, "0 % of the air is taken there, against 0 % on 1 and 0 % on 6"},
		{"nobody is there, and it was on none of the three", 3, quiet, nil, 1, "0 % of the air is taken there"},
		{"neighbours on 1, 3 and 11", 1, nil, []air.Neighbour{on(1, -30, 1), on(3, -30, 2), on(11, -30, 3)}, 6, "the least of the air is taken there: 2 %, against 15 % on 1 and 10 % on 11"},
		{"the same, and it is there already", 6, nil, []air.Neighbour{on(1, -30, 1), on(3, -30, 2), on(11, -30, 3)}, 6, "the least of the air is taken there: 2 %"},
		{"neighbours that are hardly heard change nothing", 1, nil, []air.Neighbour{on(1, -93, 1), on(1, -94, 2), on(1, -95, 3)}, 1, "a change costs every charger its Wi-Fi"},
		{"one neighbour, half as loud, is not worth a change", 1, nil, []air.Neighbour{on(1, -73, 1)}, 1, "5 % of the air is taken there; 6 would be hardly better with 0 %"},
		{"one loud network is", 1, nil, []air.Neighbour{on(1, -45, 1)}, 6, "0 % of the air is taken there, against 10 % on 1 and 0 % on 11"},
		{"a network that talks outweighs three that are silent", 6, map[int]float64{1: 0.02, 6: 0.8, 11: 0.05},
			[]air.Neighbour{on(1, -50, 1), on(1, -50, 2), on(1, -50, 3), on(6, -50, 4), on(11, -50, 5), on(11, -50, 6), on(11, -50, 7), on(11, -50, 8)}, 1, "32 %, against 90 % on 6 and 45 % on 11"},
		{"busy time that is not known of all three does not count", 6, map[int]float64{6: 0.9}, []air.Neighbour{on(1, -50, 1), on(11, -50, 2)}, 6, "0 %, against 10 % on 1"},
		{"another radio of this box is kept away from", 6, quiet, []air.Neighbour{{Channel: 6, Own: true}, on(1, -50, 1), on(1, -50, 2), on(11, -50, 3)}, 11, "10 %, against 20 % on 1 and 30 % on 6"},
		{"everything is full", 6, map[int]float64{1: 1, 6: 1, 11: 1}, []air.Neighbour{on(6, -50, 1)}, 6, "100 % of the air is taken there, against 100 % on 1"},
		{"channels 12 to 14 reach into 11", 11, nil, []air.Neighbour{on(13, -50, 1), on(13, -50, 2)}, 1, "0 %"},
	} {
		a := air.Advise(tt.present, tt.busy, tt.all)
		if a.Channel != tt.want || a.Change != (tt.want != tt.present) || !strings.Contains(a.Reason, tt.reason) || a.Measured != (len(tt.busy) == 3) {
			t.Errorf("%s: %+v, want channel %d because %q", tt.name, a, tt.want, tt.reason)
		}
		if len(a.Loads) != 3 {
			t.Errorf("%s: loads of %v", tt.name, a.Loads)
		}
	}
}

// Many access points send several networks: they share one radio's air.
func TestRadios(t *testing.T) {
	t.Parallel()
	at := func(channel, signal int, bssid ...byte) air.Neighbour {
		return air.Neighbour{Channel: channel, Signal: signal, BSSID: [6]byte(bssid)}
	}
	guest := []air.Neighbour{
		at(6, -62, 0x00, 0x11, 0x22, 0x33, 0x44, 0x50),
		at(6, -60, 0x00, 0x11, 0x22, 0x33, 0x44, 0x51), // numbered at the end
		at(6, -61, 0x02, 0x11, 0x22, 0x33, 0x44, 0x50), // numbered at the beginning
		at(6, 0, 0x06, 0x11, 0x22, 0x33, 0x44, 0x50),
	}
	if got := air.Radios(guest); len(got) != 1 || got[0].Signal != -60 {
		t.Errorf("one access point became %v", got)
	}
	others := []air.Neighbour{guest[0],
		at(11, -60, 0x00, 0x11, 0x22, 0x33, 0x44, 0x51), // on another channel
		at(6, -60, 0x00, 0x11, 0x22, 0x33, 0x44, 0x60),
		at(6, -60, 0x00, 0x11, 0x22, 0x33, 0x45, 0x50),
		{Channel: 6, Own: true}, {Channel: 6, Own: true}, // not heard, both there
	}
	if got := air.Radios(others); len(got) != len(others) {
		t.Errorf("%d access points became %v", len(others), got)
	}
	if before := guest[0].Signal; before != -62 {
		t.Error("the caller's list was sorted")
	}
}

// A flood of made-up networks takes no more than all of the air.
func TestAFloodOfNetworks(t *testing.T) {
	t.Parallel()
	var flood []air.Neighbour
	for i := range 1000 {
		flood = append(flood, air.Neighbour{BSSID: [6]byte{2, byte(i >> 8), byte(i), 1, 1, 1}, Channel: 1 + i%3, Signal: -20})
	}
	a := air.Advise(1, nil, flood)
	for _, l := range a.Loads {
		if l.Taken > 1 || l.Taken < 0 {
			t.Errorf("%+v", l)
		}
	}
	if a.Channel != 11 {
		t.Errorf("advised %+v", a)
	}
}
