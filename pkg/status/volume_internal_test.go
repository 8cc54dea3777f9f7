package status

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"chargegate/pkg/charger"
)

// A charger's page holds what it said and moved, with ages, and lists that are empty
// rather than absent.
func TestVolumeOfACharger(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	now := time.Now()
	h.online(mac7, addr7, now)
	h.src.Conversations = func(mac charger.MAC, addr netip.Addr) ([]Conversation, []Past) {
		if mac != mac7 || addr != addr7 {
			return nil, nil
		}
		return []Conversation{{Name: "zapcloud.azure-devices.net", Port: 8883, By: "sni", Reason: "Z-8", Remote: netip.MustParseAddrPort("192.0.2.1:8883"),
				Opened: now.Add(-time.Hour), Silent: Seconds(time.Minute), Up: 1, Down: 2, Taken: 3}},
			[]Past{{Outcome: "refused", Name: "x.example.com", Port: 443, Cause: "name", Reason: "the name is not on the list", Remote: netip.MustParseAddrPort("192.0.2.9:443"), Count: 2, First: now.Add(-2 * time.Hour), At: now.Add(-time.Hour)}}
	}
	h.src.Volume = func(mac charger.MAC, _ time.Time) Volume {
		if mac != mac7 {
			return Volume{Dated: true}
		}
		row := VolumeRow{Name: "zapcloud.azure-devices.net", Today: Moved{1, 2, 3}, Yesterday: Moved{4, 5, 6}, Week: Moved{7, 8, 9}, Month: Moved{10, 11, 12}}
		return Volume{Dated: true, Since: "2026-11-01", Sum: row, Names: []VolumeRow{row}}
	}
	h.src.Today = func(time.Time) map[charger.MAC]Moved { return map[charger.MAC]Moved{mac7: {Up: 41, Down: 42}} }
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
	first := func(key string) any { return d[key].([]any)[0] }
	for what, tt := range map[string]struct {
		got  any
		want []string
	}{
		"conversation": {first("conversations"), []string{"age_seconds", "by", "down_bytes", "name", "opened", "port", "reason", "remote", "silent_seconds", "taken_over", "up_bytes"}},
		"past":         {first("past"), []string{"age_seconds", "at", "cause", "count", "down_bytes", "first", "lasted_seconds", "name", "outcome", "port", "reason", "remote", "up_bytes"}},
		"volume":       {d["volume"], []string{"dated", "names", "since", "sum"}},
		"row":          {d["volume"].(map[string]any)["sum"], []string{"last_30_days", "last_7_days", "name", "today", "yesterday"}},
		"moved":        {d["volume"].(map[string]any)["sum"].(map[string]any)["last_30_days"], []string{"conversations", "down_bytes", "up_bytes"}},
	} {
		if got := keys(tt.got); !slices.Equal(got, tt.want) {
			t.Errorf("%s has the keys %q, want %q", what, got, tt.want)
		}
	}
	if age := first("conversations").(map[string]any)["age_seconds"].(float64); age < 3600 || age > 3700 {
		t.Errorf("it is open for %f s", age)
	}
	if d["up_today_bytes"].(float64) != 41 || d["down_today_bytes"].(float64) != 42 {
		t.Errorf("today it moved %v and %v", d["up_today_bytes"], d["down_today_bytes"])
	}
	var quiet json.RawMessage
	open.get("/v1/charger/P1-08", &quiet)
	var e struct {
		Conversations, Past []any
		Volume              struct{ Names []any }
	}
	if err := json.Unmarshal(quiet, &e); err != nil || e.Conversations == nil || e.Past == nil || e.Volume.Names == nil {
		t.Errorf("a charger without any: %s, %v", quiet, err)
	}
}

// Who uses a charger's MAC on another network does not see its account.
func TestACopyHasNoAccount(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	there := netip.MustParseAddr("10.84.0.9")
	h.book.Leased(mac7, "P2", there, true, time.Now())
	h.src.Volume = func(charger.MAC, time.Time) Volume { return Volume{Dated: true, Since: "2026-11-01"} }
	h.src.Today = func(time.Time) map[charger.MAC]Moved { return map[charger.MAC]Moved{mac7: {Up: 41, Down: 42}} }
	var d ChargerDetail
	h.open(t).get("/v1/charger/10.84.0.9", &d)
	if d.Address != there || d.Volume != nil || d.UpToday != 0 {
		t.Errorf("the copy's page: %+v", d)
	}
}

func TestOutages(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	now := time.Now()
	h.src.Outages = func() []Outage {
		return []Outage{
			{Name: "api.zaptec.com", Port: 443, Cause: "tcp", Words: "no server takes the connection", Since: now.Add(-12*time.Minute - 30*time.Second), Failed: 14, Last: now},
			{Name: "devices.zaptec.com", Port: 443, Cause: "dns", Since: now.Add(-5 * time.Hour), Failed: 2, Shaky: true, Last: now.Add(-50 * time.Minute)},
			{Name: "ocpp.example.com", Port: 443, Cause: "tcp", Since: now.Add(-5 * time.Hour), Failed: 1, Last: now.Add(-5 * time.Hour)}, // nobody calls it any more
		}
	}
	var got Status
	h.open(t).get("/v1/status", &got)
	var texts []string
	for _, tr := range got.Troubles {
		if tr.About == AboutOutage {
			texts = append(texts, tr.Text)
			if tr.Do == "" {
				t.Errorf("%q says not what to do", tr.Text)
			}
		}
	}
	want := []string{"api.zaptec.com on port 443 cannot be reached, for 12 min now: no server takes the connection.",
		"devices.zaptec.com on port 443 can be reached now and then only, for 5 h now: dns."}
	if !slices.Equal(texts, want) {
		t.Errorf("said %q, want %q", texts, want)
	}
	if len(got.Outages) != 3 || got.Outages[0].Age.Duration() < 12*time.Minute {
		t.Errorf("outages %+v", got.Outages)
	}
}
