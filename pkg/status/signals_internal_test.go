package status

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"chargegate/pkg/charger"
)

// A charger's page holds how it was heard: the same keys for ever, and a dot where
// nothing is known.
func TestSignalsOfACharger(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	h.src.Signals = func(mac charger.MAC, _ time.Time) Signals {
		s := Signals{Dated: true, Warn: -74, Minimum: -75, Critical: -80, Window: Seconds(5 * time.Minute), UplinkOffset: 2,
			Minutes: Series{Step: Seconds(time.Minute)}, Hours: Series{Step: Seconds(time.Hour)}}
		if mac == mac7 {
			s.Fall = &Fall{-66, -73, 9}
			s.Minutes = Series{Seconds(time.Minute), time.Unix(1_800_000_000, 0), Values{-60, Gap, -62}, nil, nil, Values{1, 0, 1}, Values{10, Gap, 0}}
			s.Hours = Series{Seconds(time.Hour), time.Unix(1_800_000_000, 0), Values{-61}, Values{-62}, Values{-60}, Values{2}, nil}
		}
		return s
	}
	open := h.open(t)
	var d map[string]any
	if code := open.get("/v1/charger/P1-07", &d); code != http.StatusOK {
		t.Fatalf("answered %d", code)
	}
	keys := func(v any) []string {
		var out []string
		for k := range v.(map[string]any) {
			out = append(out, k)
		}
		slices.Sort(out)
		return out
	}
	s := d["signals"].(map[string]any)
	for what, tt := range map[string]struct {
		got  any
		want []string
	}{
		"signals": {s, []string{"critical_dbm", "dated", "fall", "hours", "minimum_dbm", "minutes", "uplink_offset_db", "warn_dbm", "window_seconds"}},
		"fall":    {s["fall"], []string{"days", "from_dbm", "to_dbm"}},
		"minutes": {s["minutes"], []string{"last", "present_minutes", "resent_percent", "signal_dbm", "step_seconds"}},
		"hours":   {s["hours"], []string{"last", "present_minutes", "signal_dbm", "step_seconds", "strongest_dbm", "weakest_dbm"}},
	} {
		if got := keys(tt.got); !slices.Equal(got, tt.want) {
			t.Errorf("%s has the keys %q, want %q", what, got, tt.want)
		}
	}
	if values := s["minutes"].(map[string]any)["signal_dbm"]; values != "-60 . -62" {
		t.Errorf("the minutes are %v", values)
	}
	var other ChargerDetail
	open.get("/v1/charger/P1-08", &other)
	if other.Signals == nil || len(other.Signals.Minutes.Signal) != 0 {
		t.Errorf("one that was never heard has %+v", other.Signals)
	}
}

func TestValuesWithGaps(t *testing.T) {
	t.Parallel()
	for _, v := range []Values{nil, {}, {-60}, {Gap, -60, 0, Gap}} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var back Values
		if err := json.Unmarshal(text, &back); err != nil || !slices.Equal(back, v) {
			t.Errorf("%v became %s and then %v (%v)", v, text, back, err)
		}
	}
	var v Values
	for _, bad := range []string{`"x"`, `"1.5"`, `"-60,-61"`, `[-60]`, `{}`} {
		if err := json.Unmarshal([]byte(bad), &v); err == nil {
			t.Errorf("%s was read as %v", bad, v)
		}
	}
}

// What a script is given stays readable: a line for each series, and not for each
// number in it.
func TestNinetyDaysAreFewLines(t *testing.T) {
	t.Parallel()
	series := func(n int) Values { return Values(slices.Repeat([]int{-60, Gap}, n/2)) }
	h := newHouse(twoChargers())
	h.src.Signals = func(charger.MAC, time.Time) Signals {
		return Signals{Minutes: Series{Step: Seconds(time.Minute), Signal: series(24 * 60), Present: series(24 * 60), Resent: series(24 * 60)},
			Hours: Series{Step: Seconds(time.Hour), Signal: series(90 * 24), Weakest: series(90 * 24), Strongest: series(90 * 24), Present: series(90 * 24)}}
	}
	var raw json.RawMessage
	h.open(t).get("/v1/charger/P1-07", &raw)
	if n := bytes.Count(raw, []byte("\n")); n == 0 || n > 100 {
		t.Errorf("the page of a charger has %d lines", n)
	}
	var back ChargerDetail
	if err := json.Unmarshal(raw, &back); err != nil || !slices.Equal(back.Signals.Hours.Weakest, series(90*24)) {
		t.Errorf("%v: it does not come back as it was", err)
	}
}

// Who uses a charger's MAC on another network is not shown its history.
func TestACopyHasNoHistory(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	h.src.Signals = func(charger.MAC, time.Time) Signals { return Signals{} }
	h.book.Associated(mac7, "P2", -40, time.Now())
	h.book.Leased(mac7, "P2", netip.MustParseAddr("10.84.0.9"), true, time.Now())
	var copied, real ChargerDetail
	open := h.open(t)
	open.get("/v1/charger/10.84.0.9", &copied)
	open.get("/v1/charger/P1-07", &real)
	if copied.Known || copied.Signals != nil || real.Signals == nil {
		t.Errorf("the copy (known: %v) has %v, the charger %v", copied.Known, copied.Signals, real.Signals)
	}
}

func TestSignsOfACharger(t *testing.T) {
	t.Parallel()
	now := time.Now()
	got := signs(charger.Presence{Present: true, Radio: now.Add(-40 * time.Second), Cloud: now.Add(-time.Second), Heard: now.Add(-40 * time.Second)}, now)
	want := []Sign{{"cloud", Seconds(time.Second)}, {"arp", Seconds(40 * time.Second)}, {"radio", Seconds(40 * time.Second)}}
	if !slices.Equal(got, want) || signs(charger.Presence{}, now) == nil {
		t.Errorf("%v, want %v", got, want)
	}
}
