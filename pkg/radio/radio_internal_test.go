package radio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/wifi"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/hostapd"
	"chargegate/pkg/signal"
)

// air is what the kernel and hostapd would say. It is a value that the test fills in.
type air struct {
	mu sync.Mutex // for those who change it while the server runs

	refuse error // no conversation at all
	ifis   []*wifi.Interface
	info   func() ([]*wifi.StationInfo, error)
	hang   string         // the interface whose driver does not answer
	looks  map[string]int // questions for stations, by interface

	standing map[charger.MAC]standing // what the driver tells of who is let through
	asked    int
	open     int

	kernel chan notice        // what nl80211 tells; nil: nothing
	speech chan hostapd.Event // what hostapd tells; nil: nothing
	state  string             // as hostapd says; empty: ENABLED
	dumb   error              // there is no way to hostapd
}

func (a *air) Interfaces() ([]*wifi.Interface, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ifis, nil
}

// A talk is one conversation with the kernel. What comes after a question that was not
// answered in time is no answer to the next.
type talk struct {
	*air
	spoilt bool
}

func (c *talk) Stations(ifi *wifi.Interface) ([]listed, error) {
	if c.spoilt {
		return nil, errors.New("mismatched sequence in netlink reply")
	}
	c.mu.Lock()
	if c.looks == nil {
		c.looks = map[string]int{}
	}
	c.looks[ifi.Name]++
	if c.hang == ifi.Name {
		c.mu.Unlock()
		time.Sleep(answerWithin)
		c.spoilt = true
		return nil, os.ErrDeadlineExceeded
	}
	defer c.mu.Unlock()
	infos, err := c.info()
	return list(infos, c.standing), err
}

// list makes the driver's list of stations; of those who are not in standing it does
// not tell whether they are let through.
func list(infos []*wifi.StationInfo, standing map[charger.MAC]standing) []listed {
	var out []listed
	for _, in := range infos {
		l := listed{StationInfo: in}
		if in != nil && len(in.HardwareAddr) == 6 {
			l.standing = standing[charger.MAC(in.HardwareAddr)]
		}
		out = append(out, l)
	}
	return out
}

func (a *air) dial(context.Context) (stations, func(), error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	if a.refuse != nil {
		return nil, nil, a.refuse
	}
	a.open++
	return &talk{air: a}, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.open--
	}, nil
}

func (a *air) listen(ctx context.Context, tell func(notice)) error {
	for {
		select {
		case n := <-a.kernel:
			tell(n)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *air) attach(_ context.Context, _ string, hear func(hostapd.Event) bool) (speaker, error) {
	if err := a.mute(); err != nil {
		return nil, err
	}
	return &talker{a, hear}, nil
}

func (a *air) mute() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dumb
}

// A talker is a hostapd that says what the test has it say.
type talker struct {
	air  *air
	hear func(hostapd.Event) bool
}

func (h *talker) Ask(context.Context, string) (string, error) {
	h.air.mu.Lock()
	defer h.air.mu.Unlock()
	if h.air.state == "" {
		return "state=ENABLED\n", nil
	}
	return "state=" + h.air.state + "\n", nil
}

func (h *talker) Attached(context.Context) error { return h.air.mute() }

func (h *talker) Listen(ctx context.Context, d time.Duration) error {
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		select {
		case e := <-h.air.speech:
			if !h.hear(e) {
				return nil
			}
		case <-over.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (h *talker) Close() error { return nil }

func ap(name string) *wifi.Interface {
	return &wifi.Interface{Index: 3, Name: name, Type: wifi.InterfaceTypeAP, Frequency: 2437}
}

func info(mac charger.MAC, signal int) *wifi.StationInfo {
	return &wifi.StationInfo{HardwareAddr: net.HardwareAddr(mac[:]), Signal: signal, TransmitRetries: 3, TransmitFailed: 1}
}

func newServer(a *air) (*Server, *event.Log) {
	book := charger.NewBook(charger.Inventory{mac7: {MAC: mac7, Name: "P1-07"}}, nil)
	log := event.New(event.Options{Level: event.Debug, Keep: 1000})
	s := New(Config{Networks: []Network{{Name: "P1", Interface: "wlan0", MaxStations: 19}}, Signal: signal.Default()}, book, log)
	s.dial, s.listen, s.attach = a.dial, a.listen, a.attach
	return s, log
}

func ids(log *event.Log) []string {
	var out []string
	for _, r := range log.Recent(0, "") {
		out = append(out, r.Kind.ID)
	}
	return out
}

// run lets the server work for a while in a bubble and ends it.
func run(t *testing.T, s *Server, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := s.Serve(ctx); err != nil {
		t.Errorf("Serve returned %v", err)
	}
}

func TestServeWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &air{ifis: []*wifi.Interface{{Name: "wlan1"}, ap("wlan0")},
			info: func() ([]*wifi.StationInfo, error) { return []*wifi.StationInfo{info(mac7, -78)}, nil }}
		s, log := newServer(a)
		run(t, s, 7*time.Minute+46*time.Second)
		want := []string{"radio-watched", "charger-signal-below-minimum"}
		if diff := cmp.Diff(want, ids(log)); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
		if rounds := int((7*time.Minute+45*time.Second)/pace) + 2; a.asked != rounds || a.open != 0 {
			t.Errorf("%d rounds with %d left open, want %d and none", a.asked, a.open, rounds)
		}
		got := s.Samples()
		at := got[0].At
		wantSample := []Sample{{Network: "P1", Interface: "wlan0", State: Watched, At: at, Frequency: 2437, MaxStations: 19, Stations: []Station{
			{MAC: mac7, Signal: -78, Median: -78, Grade: signal.Below, GradeFor: got[0].Stations[0].GradeFor, Said: signal.Below, Resent: -1, Retries: 3, Failed: 1}}}}
		if diff := cmp.Diff(wantSample, got); diff != "" {
			t.Errorf("samples (-want +got):\n%s", diff)
		}
	})
}

// A sample says how long it takes until who has joined is judged.
func TestServeSaysWhenItWillJudge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &air{ifis: []*wifi.Interface{ap("wlan0")},
			info: func() ([]*wifi.StationInfo, error) { return []*wifi.StationInfo{info(mac7, -78)}, nil }}
		s, _ := newServer(a)
		run(t, s, time.Minute+time.Second)
		if st := s.Samples()[0].Stations[0]; st.Early != signal.Default().Window/2-time.Minute || st.Median != 0 {
			t.Errorf("after a minute: %+v", st)
		}
	})
}

func TestThresholdsCanChange(t *testing.T) {
	t.Parallel()
	a := &air{ifis: []*wifi.Interface{ap("wlan0")}, info: func() ([]*wifi.StationInfo, error) {
		return []*wifi.StationInfo{info(mac7, -70)}, nil
	}}
	s, log := newServer(a)
	now := time.Now()
	for i := range int(20 * time.Minute / pace) {
		if i == int(10*time.Minute/pace) {
			limits := signal.Default()
			limits.Warn, limits.Minimum = -65, -68
			s.SetLimits(limits)
		}
		if err := s.round(t.Context(), now.Add(time.Duration(i)*pace)); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"radio-watched", "charger-signal-below-minimum"}, ids(log)); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

func TestServeWithoutNL80211(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &air{refuse: fmt.Errorf("family nl80211: %w", os.ErrNotExist)}
		s, log := newServer(a)
		run(t, s, time.Hour)
		if diff := cmp.Diff([]string{"radio-unsupported"}, ids(log)); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
		if a.asked < 11 || a.asked > 13 {
			t.Errorf("asked %d times in an hour, want once in five and a half minutes", a.asked)
		}
		if got := s.Samples()[0].State; got != Unsupported {
			t.Errorf("the state is %s, want %s", got, Unsupported)
		}
	})
}

func TestServeWaitsForHostapd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &air{ifis: []*wifi.Interface{{Name: "wlan0", Type: wifi.InterfaceTypeStation}},
			info: func() ([]*wifi.StationInfo, error) {
				t.Error("a radio that is no access point was asked for stations")
				return nil, nil
			}}
		s, log := newServer(a)
		run(t, s, time.Hour)
		if diff := cmp.Diff([]string{"radio-not-access-point"}, ids(log)); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
	})
}

func TestServeSurvivesTheParser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		a := &air{ifis: []*wifi.Interface{ap("wlan0")}, info: func() ([]*wifi.StationInfo, error) {
			if calls++; calls == 2 {
				var empty []byte
				_ = empty[calls] // what the parser does with a cut attribute
			}
			return []*wifi.StationInfo{info(mac7, -60)}, nil
		}}
		s, log := newServer(a)
		run(t, s, 2*time.Minute)
		want := []string{"radio-watched", "panic-recovered", "radio-failed", "radio-watched"}
		if diff := cmp.Diff(want, ids(log)); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
		if n := len(s.Samples()[0].Stations); n != 1 {
			t.Errorf("%d stations after a round that failed, want the one known before", n)
		}
	})
}

func TestServeWithoutRadiosOnlyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{}, charger.NewBook(nil, nil), nil)
		run(t, s, time.Hour)
	})
}

// TestThisKernel asks the kernel that the test runs on, whatever it has.
func TestThisKernel(t *testing.T) {
	t.Parallel()
	s, _ := newServer(&air{})
	s.watches[0].net.Interface = "no-such-radio"
	s.dial = dial
	err := s.round(t.Context(), time.Now())
	got := s.Samples()[0]
	if got.Problem == "" || (got.State == Unsupported) != (err != nil) || got.State == Watched || got.State == Waiting {
		t.Errorf("%v, and the sample is %+v", err, got)
	}
}

func TestEndingIsNoFailure(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	a := &air{ifis: []*wifi.Interface{ap("wlan0")}, info: func() ([]*wifi.StationInfo, error) {
		cancel()
		return nil, errors.New("i/o timeout")
	}}
	s, log := newServer(a)
	if err := s.Serve(ctx); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if got := ids(log); got != nil {
		t.Errorf("said %v, want nothing", got)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	got := read(list([]*wifi.StationInfo{
		nil,
		{HardwareAddr: nil},
		{HardwareAddr: net.HardwareAddr{1, 2, 3, 4, 5, 6}, Signal: -50},     // a group
		{HardwareAddr: net.HardwareAddr{0, 0, 0, 0, 0, 0}, Signal: -50},     // nobody
		{HardwareAddr: net.HardwareAddr(mac7[:]), Signal: 20, Inactive: -1}, // nothing is received at +20 dBm
		{HardwareAddr: net.HardwareAddr(mac8[:]), SignalAverage: -71},
	}, nil))
	want := []Station{{MAC: mac7}, {MAC: mac8, Signal: -71}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stations (-want +got):\n%s", diff)
	}
}

// FuzzStations feeds what a driver might say to the parser and the watch.
func FuzzStations(f *testing.F) {
	// STA_INFO (21, nested) with SIGNAL (7); MAC (6); IFINDEX (3).
	f.Add([]byte{8, 0, 3, 0, 1, 0, 0, 0, 10, 0, 6, 0, 0x60, 0x15, 0x92, 0x41, 0, 7, 0, 0, 12, 0, 21, 0, 5, 0, 7, 0, 0xc4, 0, 0, 0})
	f.Add([]byte{8, 0, 21, 0, 4, 0, 7, 0}) // a signal without a value
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, _ := newServer(&air{})
		standingOf(raw)
		var got *wifi.StationInfo
		if err := s.guarded(func() (err error) { got, err = wifi.ParseStationInfo(raw); return err }); err != nil {
			return
		}
		now := time.Now()
		for i := range 12 {
			s.watches[0].look(now.Add(time.Duration(i)*pace), read(list([]*wifi.StationInfo{got}, nil)))
		}
		for _, st := range s.watches[0].list() {
			if st.Signal > 0 || st.Median > 0 || st.Inactive < 0 {
				t.Errorf("impossible station: %+v", st)
			}
		}
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	stranger := charger.MAC{2, 0, 0, 0, 0, 1}
	a := &air{ifis: []*wifi.Interface{ap("wlan0")}, info: func() ([]*wifi.StationInfo, error) {
		return []*wifi.StationInfo{info(mac7, -61), info(stranger, -40)}, nil
	}}
	s, _ := newServer(a)
	now := time.Now()
	for i := range int(5 * time.Minute / pace) {
		if err := s.round(t.Context(), now.Add(time.Duration(i)*pace)); err != nil {
			t.Fatal(err)
		}
	}
	want := `
# HELP chargegate_radio_charger_failed_total Frames to the charger that were lost, since it joined.
# TYPE chargegate_radio_charger_failed_total counter
chargegate_radio_charger_failed_total{charger="P1-07",network="P1"} 1
# HELP chargegate_radio_charger_retries_total Frames to the charger that had to be sent again, since it joined.
# TYPE chargegate_radio_charger_retries_total counter
chargegate_radio_charger_retries_total{charger="P1-07",network="P1"} 3
# HELP chargegate_radio_charger_signal_dbm Median over some minutes of how well this box hears the charger (the uplink). Absent while unknown.
# TYPE chargegate_radio_charger_signal_dbm gauge
chargegate_radio_charger_signal_dbm{charger="P1-07",network="P1"} -61
# HELP chargegate_radio_samples_total Looks at a radio, by what came of them.
# TYPE chargegate_radio_samples_total counter
chargegate_radio_samples_total{result="answered"} ` + fmt.Sprint(int(5*time.Minute/pace)) + `
chargegate_radio_samples_total{result="away"} 0
chargegate_radio_samples_total{result="failed"} 0
# HELP chargegate_radio_station_limit Stations that the network's radio can hold, as configured.
# TYPE chargegate_radio_station_limit gauge
chargegate_radio_station_limit{network="P1"} 19
# HELP chargegate_radio_stations Stations that are let through on the network's radio, strangers included.
# TYPE chargegate_radio_stations gauge
chargegate_radio_stations{network="P1"} 2
# HELP chargegate_radio_up 1 when the last look at the network's radio found an access point that says who is on it.
# TYPE chargegate_radio_up gauge
chargegate_radio_up{network="P1"} 1
`
	names := []string{"chargegate_radio_up", "chargegate_radio_stations", "chargegate_radio_station_limit", "chargegate_radio_samples_total",
		"chargegate_radio_charger_signal_dbm", "chargegate_radio_charger_retries_total", "chargegate_radio_charger_failed_total"}
	if err := testutil.CollectAndCompare(s, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(s); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v %v", problems, err)
	}
}
