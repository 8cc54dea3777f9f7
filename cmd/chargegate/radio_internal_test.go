package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/status"
)

// weakSpaces are seven chargers that all talk with the cloud, and of whom some are heard
// badly.
func weakSpaces(t *testing.T) *daemon {
	t.Helper()
	d := newDaemon(t)
	inventory := charger.Inventory{mac7: {MAC: mac7, Name: "P1-07", Network: "P1"}}
	var stations []status.Station
	place := func(mac charger.MAC, median int, grade, said string) {
		stations = append(stations, status.Station{MAC: mac, Signal: median - 1, Median: median, Grade: grade, Said: said, GradeAge: status.Seconds(26 * time.Minute)})
	}
	place(mac7, -61, "good", "good")
	address := d.book.All(time.Now())[0].Address
	for i, as := range []struct {
		median      int
		grade, said string
	}{
		{-83, "critical", "critical"}, {-84, "critical", "critical"}, {-81, "critical", "critical"},
		{-76, "below minimum", "below minimum"}, {-74, "weak", "weak"}, {-77, "below minimum", "ok"},
	} {
		mac := mac8
		mac[5] = byte(8 + i)
		inventory[mac] = charger.Charger{MAC: mac, Name: "P1-" + string([]byte{'0' + byte((8+i)/10), '0' + byte((8+i)%10)}), Network: "P1"}
		place(mac, as.median, as.grade, as.said)
	}
	d.book.Replace(inventory)
	at := time.Now().Add(-90 * time.Second)
	for mac := range inventory {
		if mac == mac7 {
			continue
		}
		a := address
		for range mac[5] - 7 {
			a = a.Next()
		}
		d.book.Asked(mac, "P1", "Zaptec Go", at)
		d.book.Leased(mac, "P1", a, true, at)
		d.book.Resolved(a, at)
		d.book.Timed(a, at)
		d.book.Opened(a, true, at)
		d.book.Moved(a, true, 0, 1, at)
	}
	d.src.Radios = func() []status.Radio {
		return []status.Radio{{Network: "P1", Interface: "wlan0", State: "watched", Channel: 6, MaxStations: 7, Stations: stations}}
	}
	return d
}

// A charger that is heard badly is seen without colour, and on every page, with what to
// do.
func TestWeakChargersAreSeen(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		term func(io.Writer) *terminal
		args []string
		code int
	}{
		{"status-weak-80", wide(80), []string{"status"}, exitAttention},
		{"status-weak-40", wide(40), []string{"status"}, exitAttention},
		{"status-weak-ascii", ascii, []string{"status"}, exitAttention},
		{"status-weak-colour", coloured, []string{"status"}, exitAttention},
		{"chargers-weak", wide(100), []string{"chargers"}, exitAttention},
		{"charger-critical-80", wide(80), []string{"charger", "P1-09"}, exitAttention},
		{"charger-critical-40", wide(40), []string{"charger", "P1-09"}, exitAttention},
		{"charger-critical-ascii", ascii, []string{"charger", "P1-09"}, exitAttention},
		{"doctor-weak", wide(100), []string{"doctor"}, exitAttention},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, out, complain := weakSpaces(t).start(t).use(t, tt.term, tt.args...)
			if code != tt.code || complain != "" {
				t.Errorf("exit %d, want %d; complained %q", code, tt.code, complain)
			}
			golden(t, tt.name, startOfPast.ReplaceAllString(out, "${1}since START, when the daemon started${2}"))
			if strings.HasSuffix(tt.name, "ascii") && strings.ContainsFunc(out, func(r rune) bool { return r > '~' }) {
				t.Errorf("not ASCII: %q", out)
			}
		})
	}
}

// What is weak for a moment, or not enough to miss the minimum, is a word on the page
// and no more.
func TestWeakIsNoAttention(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	d.book.Replace(charger.Inventory{mac7: {MAC: mac7, Name: "P1-07", Network: "P1"}})
	for _, st := range []status.Station{
		{MAC: mac7, Signal: -74, Median: -74, Grade: "weak", Said: "weak"},
		{MAC: mac7, Signal: -83, Median: -83, Grade: "critical", Said: "ok"},
	} {
		d := *d
		d.src.Radios = func() []status.Radio {
			return []status.Radio{{Network: "P1", Interface: "wlan0", State: "watched", MaxStations: 1, Stations: []status.Station{st}}}
		}
		d.start(t)
		for _, args := range [][]string{{"status"}, {"charger", "P1-07"}, {"chargers"}} {
			code, out, _ := d.use(t, wide(200), args...)
			if code != exitWell || !strings.Contains(out, st.Grade) || strings.Contains(out, "✗") {
				t.Errorf("%v, %s: exit %d\n%s", args, st.Grade, code, out)
			}
		}
		d.stop()
	}
}

// A charger that has just joined is not judged yet, and its page says when it will be.
func TestTooEarlyToJudge(t *testing.T) {
	t.Parallel()
	for in, want := range map[time.Duration]string{
		2*time.Minute + 15*time.Second: "-60 dBm, as this box hears it: too early to judge, in 2 min 15 s\n",
		0:                              "-60 dBm, as this box hears it: too little was heard of it to judge yet\n",
	} {
		d := newDaemon(t)
		d.src.Radios = func() []status.Radio {
			return []status.Radio{{Network: "P1", Interface: "wlan0", State: "watched", MaxStations: 19,
				Stations: []status.Station{{MAC: mac7, Signal: -60, Early: status.Seconds(in), Grade: "unknown", Said: "unknown"}}}}
		}
		d.start(t)
		if _, out, _ := d.use(t, wide(100), "charger", "P1-07"); !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
		d.stop()
	}
}

// Each trouble of a radio stands in the line of its network, once, with what to do.
func TestTroublesOfARadio(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		radio   status.Radio
		problem string
	}{
		{"radio-hangs", status.Radio{State: "watched", Channel: 6, MaxStations: 19, Unheard: "hostapd does not answer", Stations: []status.Station{{MAC: mac7, Grade: "unknown"}}}, ""},
		{"radio-elsewhere", status.Radio{State: "watched", Channel: 11, MaxStations: 19}, ""},
		{"radio-full", status.Radio{State: "watched", Channel: 6, MaxStations: 1, Stations: []status.Station{{MAC: stranger, Grade: "unknown"}}}, ""},
		{"radio-silent", status.Radio{State: "silent", Problem: "hostapd does not run"}, "the radio wlan0 is not on the air, so nobody on it is reached"},
		{"radio-stopped", status.Radio{State: "not-access-point", Problem: "station"}, "the radio wlan0 is not on the air, so nobody on it is reached"},
		{"radio-failed", status.Radio{State: "failed", Problem: "no answer"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDaemon(t)
			tt.radio.Network, tt.radio.Interface = "P1", "wlan0"
			d.src.Radios = func() []status.Radio { return []status.Radio{tt.radio} }
			if tt.problem != "" {
				d.src.Trouble = func(string) (string, string) { return tt.problem, "Look at chargegate-radio@P1." }
			}
			d.start(t)
			for width, name := range map[int]string{80: "-80", 40: "-40"} {
				code, out, _ := d.use(t, wide(width), "status")
				head, _, _ := strings.Cut(out, "\n\n")
				golden(t, "status-"+tt.name+name, head+"\n")
				if code != exitAttention || !strings.Contains(head, "✗ P1") {
					t.Errorf("exit %d", code)
				}
			}
			code, out, _ := d.use(t, wide(100), "doctor")
			golden(t, "doctor-"+tt.name, aboutP1(out))
			if code != exitAttention {
				t.Errorf("doctor: exit %d", code)
			}
		})
	}
}

// aboutP1 are the lines of doctor that speak of the network and its radio.
func aboutP1(page string) string {
	var out strings.Builder
	about := false
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, " ") {
			about = strings.Contains(line, "network P1") || strings.Contains(line, "radio P1")
		}
		if about {
			out.WriteString(line)
		}
	}
	return out.String()
}

// What the pages advise is what the events advise, with the names filled in.
func TestNoPlaceIsLeftInAdvice(t *testing.T) {
	t.Parallel()
	for _, k := range []*event.Kind{event.ChargerSignalWeak, event.ChargerSignalBelowMinimum, event.ChargerSignalCritical} {
		if strings.Contains(k.Advice, "{") {
			t.Errorf("the advice of %s names a field, and stands on the pages as it is: %s", k.ID, k.Advice)
		}
	}
}
