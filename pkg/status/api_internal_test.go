package status

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

func TestTroubleOfANetworkIsTold(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	for _, problem := range []string{
		"there is no interface wlan0, so nobody on it is served",
		"another DHCP server gives addresses: 10.83.0.9 (02:00:00:00:00:09)",
	} {
		h.src.Trouble = func(network string) (string, string) {
			if network != "P1" {
				return "", ""
			}
			return problem, "Mend it."
		}
		server := h.open(t)
		var got Status
		if code := server.get("/v1/status", &got); code != http.StatusOK {
			t.Fatalf("answered %d", code)
		}
		want := Trouble{About: AboutNetwork + "P1", Do: "Mend it.", Text: "P1: " + problem + "."}
		if got.OK || got.Networks[0].Problem != problem || len(got.Troubles) == 0 || got.Troubles[0] != want {
			t.Errorf("troubles %+v", got.Troubles)
		}
		var doctor Doctor
		server.get("/v1/doctor", &doctor)
		if !slices.ContainsFunc(doctor.Checks, func(c Check) bool {
			c.Took = 0
			return c == Check{Name: "network P1", Result: Fail, Found: problem, Do: "Mend it."}
		}) {
			t.Errorf("doctor does not name it: %+v", doctor.Checks)
		}
	}
}

// Who has not got an address is told of its network's trouble first; nobody else
// is, and nobody when there is none.
func TestTroubleOfANetworkComesBeforeItsChargers(t *testing.T) {
	t.Parallel()
	const first = "Mend network P1 first: no carrier; this may follow from it. Not seen on the network."
	for _, tt := range []struct {
		name, network, problem string
		want                   bool
	}{
		{"on the network", "P1", "no carrier", true},
		{"on the only network", "", "no carrier", true},
		{"on another network", "P2", "no carrier", false},
		{"all is well", "P1", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(charger.Inventory{mac7: {MAC: mac7, Name: "P1-07", Network: tt.network}, mac8: {MAC: mac8, Name: "P1-08", Network: "P1"}})
			h.src.Trouble = func(network string) (string, string) {
				if network != "P1" {
					return "", ""
				}
				return tt.problem, "Mend it."
			}
			h.online(mac8, addr7, time.Now())
			var got Status
			h.open(t).get("/v1/status", &got)
			for _, c := range got.Chargers {
				if mended := strings.HasPrefix(c.Advice, first); mended != (tt.want && c.MAC == mac7) || !mended && strings.Contains(c.Advice, "first") {
					t.Errorf("%s is told %q", c.Name, c.Advice)
				}
			}
		})
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	now := time.Now()
	h.online(mac7, addr7, now)
	h.src.Clock = func() Clock {
		return Clock{Synchronised: true, Stratum: 3, RefID: "192.0.2.1", RootDistance: Seconds(12 * time.Millisecond)}
	}
	h.src.TimeSources = func(context.Context) []TimeSource { return clockWith("selected 377").Sources }
	h.src.Link = func() Link { return Link{Interface: "eth0", Known: true, Missing: "no cable", Do: "Plug it in."} }
	h.src.Uplink = func() Uplink { return Uplink{Servers: 2, Lost: 2, Problem: "i/o timeout"} }
	h.src.Pools = func(time.Time) []PoolUse { return []PoolUse{{Network: "P1", Size: 32, Used: 1, StrangerSize: 8}} }
	h.src.Radios = func() []Radio { return []Radio{{Network: "P1", Interface: "wlan0", State: "watched", MaxStations: 19}} }
	var got Status
	if code := h.open(t).get("/v1/status", &got); code != http.StatusOK {
		t.Fatalf("answered %d", code)
	}
	seven := charger.Charger{MAC: mac7, Name: "P1-07", Network: "P1"}
	eight := charger.Charger{MAC: mac8, Name: "P1-08", Network: "P1"}
	want := Status{
		Site: "Kungsgatan 12", Version: "1.2.3",
		Attention: []string{"The uplink eth0 is down: no cable.", "Names are not answered: no answer.", "1 charger does not talk with the cloud."},
		Troubles: []Trouble{
			{About: AboutLink, Text: "The uplink eth0 is down: no cable.", Do: "Plug it in."},
			{About: AboutNames, Text: "Names are not answered: no answer.", Do: "Mend the uplink first; this follows from it."},
			{About: AboutChargers, Text: "1 charger does not talk with the cloud."},
		},
		Link: &Link{Interface: "eth0", Known: true, Missing: "no cable", Do: "Plug it in."},
		Clock: &Clock{Synchronised: true, Stratum: 3, RefID: "192.0.2.1", RootDistance: Seconds(12 * time.Millisecond),
			Sources: []TimeSource{{Address: "192.0.2.1", Name: "selected.example", State: "selected", Reach: "377"}}},
		Uplink: &Uplink{Servers: 2, Lost: 2, Problem: "no answer"},
		Networks: []NetworkState{{Network: h.src.Networks[0], Pool: &PoolUse{Network: "P1", Size: 32, Used: 1, StrangerSize: 8},
			Radio: &Radio{Network: "P1", Interface: "wlan0", State: "watched", MaxStations: 19, Planned: true, Stations: []Station{}}}},
		Rules:   h.src.List.Rules(),
		Summary: "2 chargers: 1 ok, 1 wifi",
		Chargers: []Charger{
			{Status: charger.Status{Charger: seven, Known: true, Stage: charger.OK, Address: addr7, Hostname: "Zaptec Go",
				Presence: charger.Presence{Present: true}, Sessions: 1, Connects: 1, UpToday: 1500, DownToday: 3000, Up: 1500, Down: 3000}},
			{Status: charger.Status{Charger: eight, Known: true, Stage: charger.Wifi}},
		},
	}
	moving := cmp.Options{
		cmpopts.IgnoreFields(Status{}, "Started", "Uptime"), cmpopts.IgnoreFields(charger.Status{}, "Since", "LastSeen", "Talked", "Advice"), cmpopts.IgnoreFields(charger.Presence{}, "Radio", "Heard", "Cloud"),
		cmpopts.IgnoreFields(Charger{}, "StageAge", "LastSeenAge"), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
	}
	if diff := cmp.Diff(want, got, moving); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if got.Chargers[0].LastSeenAge == nil || got.Chargers[1].LastSeenAge != nil || got.Chargers[1].Advice == "" {
		t.Errorf("ages or advice are wrong: %+v", got.Chargers)
	}
}

func TestStatusOfABareHouse(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	h.src.List = nil
	h.log = nil
	a := h.open(t)
	var got Status
	a.get("/v1/status", &got)
	if !got.OK || got.Attention == nil || got.Troubles == nil || got.Rules == nil || got.Chargers == nil {
		t.Errorf("want an empty board where all is well and no list is null: %+v", got)
	}
	var events Events
	a.get("/v1/events", &events)
	if len(events.Events) != 0 {
		t.Errorf("%d events without a log", len(events.Events))
	}
}

func TestWithoutInventoryEverybodyIsACharger(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	h.online(mac7, addr7, time.Now())
	var got Status
	h.open(t).get("/v1/status", &got)
	if want := "1 charger: 1 ok"; got.Summary != want || !got.OK {
		t.Errorf("summary %q (ok: %v), want %q", got.Summary, got.OK, want)
	}
}

func TestChargerIsFound(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	h.online(mac7, addr7, time.Now())
	h.src.Radios = func() []Radio {
		return []Radio{{Network: "P1", State: "watched", Stations: []Station{{MAC: mac7, Signal: -61, Median: -62, Grade: "good"}}}}
	}
	h.log.Say(event.ChargerOnline, event.MAC(mac7))
	h.log.Say(event.ChargerOnline, event.MAC(mac8))
	a := h.open(t)
	for _, who := range []string{"P1-07", "p1-07", "60:15:92:41:00:07", "6015.9241.0007", "10.83.0.7", "%50%31-07"} {
		var got ChargerDetail
		if code := a.get("/v1/charger/"+who, &got); code != http.StatusOK || got.MAC != mac7 {
			t.Errorf("%s: answered %d about %s", who, code, got.MAC)
			continue
		}
		if got.Station == nil || got.Station.Median != -62 {
			t.Errorf("%s: the station is %+v", who, got.Station)
		}
		if len(got.Events) != 1 || got.Events[0].Fields[event.KeyCharger] != "P1-07" {
			t.Errorf("%s: the events are %+v, want its own only", who, got.Events)
		}
	}
}

func TestFaultsSayWhatIsRight(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	a := h.open(t)
	tests := []struct {
		name, method, path string
		code               int
		want               Fault
	}{
		{"no such place", "GET", "/v2/x", 404, Fault{Error: "there is nothing at /v2/x",
			Right: "ask for /v1/status, /v1/chargers, /v1/charger/, /v1/events, /v1/doctor"}},
		{"no such charger", "GET", "/v1/charger/P9-99", 404, Fault{Error: `no charger is called "P9-99"`,
			Right: "give a name from the inventory, a MAC like 60:15:92:41:00:07, or the address it holds; names are like P1-07, P1-08"}},
		{"an escape as name", "GET", "/v1/charger/%1b%5b2J", 404, Fault{Error: `no charger is called "\x1b[2J"`,
			Right: "give a name from the inventory, a MAC like 60:15:92:41:00:07, or the address it holds; names are like P1-07, P1-08"}},
		{"no name", "GET", "/v1/charger/", 404, Fault{Error: `no charger is called ""`,
			Right: "give a name from the inventory, a MAC like 60:15:92:41:00:07, or the address it holds; names are like P1-07, P1-08"}},
		{"wants to change something", "DELETE", "/v1/chargers", 405, Fault{Error: "DELETE is not answered", Right: "ask with GET; nothing can be changed here"}},
		{"a slip in a parameter", "GET", "/v1/events?chargers=P1-07", 400, Fault{Error: `there is no parameter "chargers"`, Right: "allowed are after, charger, level, limit"}},
		{"a parameter where there is none", "GET", "/v1/status?x=1", 400, Fault{Error: `there is no parameter "x"`, Right: "there are no parameters here"}},
		{"a bad number", "GET", "/v1/events?after=-1", 400, Fault{Error: "after=-1 is not a sequence number", Right: "give the next of an earlier answer, or 0"}},
		{"too many", "GET", "/v1/events?limit=1001", 400, Fault{Error: "limit=1001 cannot be done", Right: "allowed are 1 to 1000"}},
		{"no such level", "GET", "/v1/events?level=loud", 400, Fault{Error: `there is no level "loud"`, Right: "allowed are debug, info, warning, error"}},
		{"a query that is none", "GET", "/v1/events?a=%zz", 400, Fault{Error: `the query cannot be read: invalid URL escape "%zz"`, Right: "write name=value, joined by &"}},
		{"events of nobody", "GET", "/v1/events?charger=P9", 404, Fault{Error: `no charger is called "P9"`,
			Right: "give a name from the inventory, a MAC like 60:15:92:41:00:07, or the address it holds; names are like P1-07, P1-08"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got Fault
			if code := a.do(tt.method, tt.path, &got); code != tt.code {
				t.Errorf("answered %d, want %d", code, tt.code)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("fault (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEventsCanBeFollowed(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	a := h.open(t)
	for range 5 {
		h.log.Say(event.ChargerOnline, event.MAC(mac7))
	}
	h.log.Say(event.StatusHTTPFault, event.F("ERROR", "for developers"))

	ask := func(query string) ([]uint64, uint64) {
		t.Helper()
		var e Events
		if code := a.get("/v1/events"+query, &e); code != http.StatusOK {
			t.Fatalf("%s: answered %d", query, code)
		}
		var seqs []uint64
		for _, x := range e.Events {
			seqs = append(seqs, x.Seq)
		}
		return seqs, e.Next
	}
	tests := []struct {
		query string
		seqs  []uint64
		next  uint64
	}{
		{"", []uint64{1, 2, 3, 4, 5}, 6},
		{"?limit=2", []uint64{4, 5}, 6},
		{"?after=0&limit=2", []uint64{1, 2}, 2},
		{"?after=2&limit=2", []uint64{3, 4}, 4},
		{"?after=4&limit=2", []uint64{5}, 6},
		{"?after=6", nil, 6},
		{"?after=99", nil, 99},
		{"?level=debug&after=4", []uint64{5, 6}, 6},
		{"?level=error", nil, 6},
		{"?charger=60:15:92:41:00:07&limit=1", []uint64{5}, 5},
		{"?charger=P1-08", nil, 0},
	}
	for _, tt := range tests {
		seqs, next := ask(tt.query)
		if diff := cmp.Diff(tt.seqs, seqs); diff != "" || next != tt.next {
			t.Errorf("%q: next %d, want %d; sequence (-want +got):\n%s", tt.query, next, tt.next, diff)
		}
	}
}

func TestAdviceNamesTheCharger(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	h.log.Say(event.ChargerOffline, event.MAC(mac7), event.F("SINCE", "5m"), event.F("STAGE", "cloud"))
	var got ChargerDetail
	h.open(t).get("/v1/charger/P1-07", &got)
	if len(got.Events) != 1 || strings.Contains(got.Events[0].Advice, "{") || !strings.Contains(got.Events[0].Advice, "P1-07") {
		t.Errorf("the advice is not filled in: %+v", got.Events)
	}
}

func TestAPanicEndsOneAnswerOnly(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	h.src.Uplink = func() Uplink { panic("defect") }
	a := h.open(t)
	if _, err := a.client.Get("http://chargegate/v1/status"); err == nil {
		t.Error("an answer came, want none")
	}
	var got Events
	a.get("/v1/events", &got)
	if len(got.Events) != 1 || got.Events[0].Event != "panic-recovered" {
		t.Errorf("said %+v, want panic-recovered", got.Events)
	}
}

func TestLife(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	cfg := Config{Socket: filepath.Join(t.TempDir(), "s"), Metrics: netip.MustParseAddrPort("127.0.0.1:0")}
	s := New(cfg, h.src, h.log)
	for range 2 { // a supervisor starts it again after its end
		for range 2 { // and listening twice does nothing more
			if err := s.Listen(); err != nil {
				t.Fatal(err)
			}
		}
		if !s.MetricsAddr().IsValid() {
			t.Error("no metrics")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Serve(ctx); err != nil {
			t.Fatalf("Serve returned %v", err)
		}
	}
	if s.MetricsAddr().IsValid() {
		t.Error("metrics after the end")
	}
}

func TestListenFailsWhole(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	a := h.openAs(t, Config{Socket: filepath.Join(t.TempDir(), "a"), Metrics: netip.MustParseAddrPort("127.0.0.1:0")})
	taken := a.server.MetricsAddr()
	path := filepath.Join(t.TempDir(), "b")
	err := New(Config{Socket: path, Metrics: taken}, h.src, nil).Listen()
	if err == nil || !strings.Contains(err.Error(), taken.String()) {
		t.Errorf("the error is %v, want one with %s", err, taken)
	}
	if l, err := listenUnix(path); err != nil {
		t.Errorf("the socket is still held: %v", err)
	} else {
		l.Close()
	}
	if err := New(Config{Socket: filepath.Join(t.TempDir(), "no", "such")}, h.src, nil).Listen(); err == nil {
		t.Error("a socket in no directory was taken")
	}
}

func TestMetricsPage(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	h.online(mac7, addr7, time.Now())
	h.book.Asked(stranger, "P1", "evil\x1b[2J", time.Now())
	h.log.Say(event.ChargerOnline, event.MAC(mac7))
	a := h.openAs(t, Config{Socket: filepath.Join(t.TempDir(), "s"), Metrics: netip.MustParseAddrPort("127.0.0.1:0")})
	resp, err := http.Get("http://" + a.server.MetricsAddr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	page, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("answered %d, %v", resp.StatusCode, err)
	}
	for _, line := range []string{
		`chargegate_charger_stage{charger="P1-07",stage="ok"} 1`, `chargegate_charger_stage{charger="P1-08",stage="wifi"} 1`,
		`chargegate_events_total{event="charger-online",level="info"} 1`, `chargegate_charger_strangers 1`, `chargegate_build_info{version="1.2.3"} 1`,
		`go_goroutines`, `process_start_time_seconds`,
	} {
		if !strings.Contains(string(page), line) {
			t.Errorf("the page lacks %s", line)
		}
	}
	if strings.Contains(string(page), "evil") || strings.Contains(string(page), stranger.String()) {
		t.Error("a stranger's text is on the page")
	}
}

func TestCollector(t *testing.T) {
	t.Parallel()
	h := newHouse(charger.Inventory{mac7: {MAC: mac7, Name: "P1-07"}})
	h.online(mac7, addr7, time.Now())
	h.book.Asked(stranger, "P1", "phone", time.Now())
	s := New(Config{}, h.src, h.log)
	want := `
# HELP chargegate_charger_bytes_total Bytes of the charger's conversations since the daemon started: up from it, down to it.
# TYPE chargegate_charger_bytes_total counter
chargegate_charger_bytes_total{charger="P1-07",direction="down"} 3000
chargegate_charger_bytes_total{charger="P1-07",direction="up"} 1500
# HELP chargegate_charger_cloud_sessions Conversations with the cloud that the charger has open.
# TYPE chargegate_charger_cloud_sessions gauge
chargegate_charger_cloud_sessions{charger="P1-07"} 1
# HELP chargegate_charger_connects_total Conversations that the charger has opened since the daemon started.
# TYPE chargegate_charger_connects_total counter
chargegate_charger_connects_total{charger="P1-07"} 1
# HELP chargegate_charger_stage The step that the charger is missing, or ok: 1 for its stage, 0 for the others.
# TYPE chargegate_charger_stage gauge
chargegate_charger_stage{charger="P1-07",stage="cloud"} 0
chargegate_charger_stage{charger="P1-07",stage="dhcp"} 0
chargegate_charger_stage{charger="P1-07",stage="dns"} 0
chargegate_charger_stage{charger="P1-07",stage="ok"} 1
chargegate_charger_stage{charger="P1-07",stage="time"} 0
chargegate_charger_stage{charger="P1-07",stage="wifi"} 0
# HELP chargegate_charger_strangers Devices seen that are not in the inventory.
# TYPE chargegate_charger_strangers gauge
chargegate_charger_strangers 1
`
	if err := testutil.CollectAndCompare(s, strings.NewReader(want), "chargegate_charger_bytes_total", "chargegate_charger_cloud_sessions",
		"chargegate_charger_connects_total", "chargegate_charger_stage", "chargegate_charger_strangers"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(s); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}

func TestSecondsInJSON(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{0, time.Microsecond, 12345 * time.Microsecond, -time.Second, 1000 * time.Hour} {
		text, err := Seconds(d).MarshalJSON()
		var back Seconds
		if err := errors.Join(err, back.UnmarshalJSON(text)); err != nil || back.Duration() != d {
			t.Errorf("%v became %s and came back as %v (%v)", d, text, back.Duration(), err)
		}
	}
	for _, text := range []string{`"1"`, `1e300`, `x`} {
		if err := new(Seconds).UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s was read", text)
		}
	}
	if got := fmt.Sprint(listed([]string{"a", "b", "c", "d", "e", "f", "g", "h", "i"})); got != "a, b, c, d, e, f, g, h and 1 more" {
		t.Errorf("listed: %q", got)
	}
}
