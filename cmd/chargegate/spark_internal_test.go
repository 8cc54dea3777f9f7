package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/status"
)

// signalsOf is how the radio heard P1-07, which has been here for two months, was away
// for some hours of today and for a week in between, and falls; P1-08, which came
// yesterday and is weak; and P1-09, whose radio tells no signal.
func signalsOf(mac charger.MAC, _ time.Time) status.Signals {
	s := status.Signals{Dated: true, Warn: -74, Minimum: -75, Critical: -80, Window: status.Seconds(5 * time.Minute),
		Minutes: status.Series{Step: status.Seconds(time.Minute)}, Hours: status.Series{Step: status.Seconds(time.Hour)}}
	minute := func(dBm, present, resent int) {
		m := &s.Minutes
		m.Signal, m.Present, m.Resent = append(m.Signal, dBm), append(m.Present, present), append(m.Resent, resent)
	}
	hour := func(low, dBm, high, present int) {
		h := &s.Hours
		h.Signal, h.Weakest, h.Strongest, h.Present = append(h.Signal, dBm), append(h.Weakest, low), append(h.Strongest, high), append(h.Present, present)
	}
	switch mac {
	case mac7:
		s.Fall = &status.Fall{From: -55, To: -61, Days: 12}
		for i := range 24 * 60 {
			switch {
			case i > 700 && i < 880:
				minute(status.Gap, 0, status.Gap)
			case i > 1000 && i < 1060: // a lorry
				minute(-78, 1, 60)
			default:
				minute(-61+i/30%3, 1, i/200*10)
			}
		}
		for i := range 60 * 24 {
			day := i / 24
			switch {
			case day >= 20 && day < 27:
				hour(status.Gap, status.Gap, status.Gap, 0)
			default:
				hour(-64-max(0, day-48)/2, -55-max(0, day-48)/2, -50, 60)
			}
		}
	case mac8:
		s.UplinkOffset = -3
		for i := range 20 * 60 {
			minute(-70-i/150, 1, status.Gap)
		}
		for i := range 20 {
			hour(-72-i/2, -70-i/2, -68-i/2, 60)
		}
	case mac9:
		s.Dated = false
		for range 90 {
			minute(status.Gap, 1, status.Gap)
		}
		hour(status.Gap, status.Gap, status.Gap, 60)
		hour(status.Gap, status.Gap, status.Gap, 30)
	}
	return s
}

func TestSignsOfASignal(t *testing.T) {
	t.Parallel()
	for dBm, want := range map[int]int{-120: 0, -86: 0, -85: 0, -84: 1, -80: 1, -79: 2, -75: 2, -74: 3, -70: 3, -69: 4, -55: 6, -54: 7, -1: 7} {
		if got := levelOf(dBm, -75); got != want {
			t.Errorf("%d dBm is sign %d, want %d", dBm, got, want)
		}
	}
}

// Every line is as long as there are steps for, whatever is known, and what is not
// known is empty.
func TestSparks(t *testing.T) {
	t.Parallel()
	c := &call{terminal: paper(nil, 0)}
	s := &status.Signals{Warn: -74, Minimum: -75}
	series := func(values ...int) status.Series {
		of := status.Series{Step: status.Seconds(time.Hour)}
		for _, v := range values {
			present := 1
			switch v {
			case 0:
				v, present = status.Gap, 0
			case 1:
				v = status.Gap
			}
			of.Signal, of.Present = append(of.Signal, v), append(of.Present, present)
		}
		return of
	}
	for _, tt := range []struct {
		name  string
		of    status.Series
		n     int
		want  string
		ascii string
	}{
		{"nothing", series(), 6, "      ", "      "},
		{"all of it", series(-90, -80, -75, -74, -60, -50), 6, "▁▂▃▄▆█", "_.:-+#"},
		{"the last two", series(-74, -60), 6, "    ▄▆", "    -+"},
		{"away in between", series(-74, 0, 0, -60), 6, "  ▄  ▆", "  -  +"},
		{"nobody told", series(1, 1, -60), 6, "   ??▆", "   ??+"},
		{"two in one", series(-90, -60, -60, -60), 3, " ▁▆", " _+"},
		{"more than there should be", series(-50, -50, -90, -90, -90, -90, -90, -60), 6, "▁▁▁▁▁▆", "_____+"},
		{"lists that do not fit", status.Series{Signal: status.Values{-60, status.Gap}, Present: status.Values{}}, 6, "    ▆ ", "    + "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for signs, want := range map[bool]string{true: tt.want, false: tt.ascii} {
				c.signs = signs
				if got := c.sparks(s, tt.of, 6, tt.n); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
		})
	}
}

// Whoever looks at a narrow terminal sees fewer signs and no line that is too long.
func TestSparksFitTheTerminal(t *testing.T) {
	t.Parallel()
	for _, width := range []int{30, 40, 52, 61, 80, 100, 111, 120, 200} {
		var b strings.Builder
		c := &call{terminal: paper(&b, width)}
		s := signalsOf(mac7, time.Now())
		c.showSignals(&s)
		for line := range strings.Lines(b.String()) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > max(width, 13+minRoom) {
				t.Errorf("%d columns, and a line of %d: %q", width, n, line)
			}
		}
		var lengths []int
		for line := range strings.Lines(b.String()) {
			if _, spark, ok := strings.Cut(line, "|"); ok {
				lengths = append(lengths, len([]rune(spark))-2)
			}
		}
		if len(lengths) != 2 || !slices.Contains(dayColumns, lengths[0]) || !slices.Contains(quarterColumns, lengths[1]) {
			t.Errorf("%d columns: lines of %v", width, lengths)
		}
	}
}

func TestPresenceInWords(t *testing.T) {
	t.Parallel()
	var d status.ChargerDetail
	if got, want := presentText(d), "no, there is no sign of it"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	d.Presence.Present = true
	d.Signs = []status.Sign{{By: "radio", Age: status.Seconds(3 * time.Second)}, {By: "arp", Age: status.Seconds(59 * time.Second)},
		{By: "cloud", Age: status.Seconds(11*time.Minute + 30*time.Second)}, {By: "\x1b[2J"}}
	if got, want := presentText(d), `yes: heard on the Wi-Fi, its address is announced or used, it talks with the cloud (11 min ago), \x1b[2J`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
