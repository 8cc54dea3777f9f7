package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"
	"chargegate/pkg/status"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	time.Local = time.UTC // the golden pages show times of day
	goleak.VerifyTestMain(m)
}

var (
	mac7     = charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 7}
	mac8     = charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 8}
	mac9     = charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 9}
	stranger = charger.MAC{2, 0, 0, 0, 0, 1}
)

// evil is what a stranger would write to somebody's terminal.
const evil = "\x1b]0;owned\x07\x1b[2J\u202e\xff"

// A daemon is a real noticeboard with a house behind it.
type daemon struct {
	src    status.Sources
	book   *charger.Book
	log    *event.Log
	socket string
	stop   func()
}

// newDaemon is a garage with three chargers: one online, one refused, one not
// seen. Ages are in the middle of a minute, so that a slow test reads the same.
func newDaemon(t *testing.T) *daemon {
	t.Helper()
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	book := charger.NewBook(charger.Inventory{
		mac7: {MAC: mac7, Name: "P1-07", Serial: "ZAP000007", Model: "Go", Network: "P1", Reserved: netip.MustParseAddr("10.83.0.7")},
		mac8: {MAC: mac8, Name: "P1-08", Serial: "ZPR000008", Model: "Pro", Network: "P1", Reserved: netip.MustParseAddr("10.83.0.60")},
		mac9: {MAC: mac9, Name: "P1-09", Network: "P1"},
	}, nil)
	resent := 14
	list, err := policy.New(policy.Zaptec())
	if err != nil {
		t.Fatal(err)
	}
	log := event.New(event.Options{Level: event.Debug, Keep: 1000,
		Now: func() time.Time { return time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC) },
		Who: func(mac [6]byte, _ netip.Addr) event.Subject {
			return event.Subject{Charger: book.NameOf(mac)}
		}})
	d := &daemon{book: book, log: log, socket: filepath.Join(t.TempDir(), "status.sock"), src: status.Sources{
		Site: "Kungsgatan 12", Version: "1.2.3", Started: ago(3*time.Hour + 12*time.Minute + 30*time.Second), Book: book, List: list,
		Networks: []status.Network{{Name: "P1", Interface: "wlan0", Gateway: netip.MustParsePrefix("10.83.0.1/26"), Chargers: 3, SSID: "garage-p1", Channel: 6}},
		Clock: func() status.Clock {
			return status.Clock{Synchronised: true, Stratum: 3, RefID: "192.0.2.1", RootDistance: status.Seconds(12 * time.Millisecond)}
		},
		TimeSources: func(context.Context) []status.TimeSource {
			return []status.TimeSource{
				{Address: "192.0.2.1", Name: "time.example", State: "selected", Stratum: 2, Reach: "377"},
				{Address: "192.0.2.9", Name: "ntp.example", State: "candidate", Stratum: 2, Reach: "177"},
				{Address: "2001:db8::123", Name: "time.example", State: "unreachable", Reach: "0"},
			}
		},
		Link: func() status.Link {
			return status.Link{Interface: "eth0", Known: true, Up: true, Address: netip.MustParseAddr("203.0.113.2")}
		},
		Uplink: func() status.Uplink { return status.Uplink{Servers: 2} },
		Pools: func(time.Time) []status.PoolUse {
			return []status.PoolUse{{Network: "P1", Size: 32, Used: 2, StrangerSize: 8, StrangerUsed: 1}}
		},
		Radios: func() []status.Radio {
			return []status.Radio{{Network: "P1", Interface: "wlan0", State: "watched", MaxStations: 19, Stations: []status.Station{
				{MAC: mac7, Signal: -60, Median: -61, Grade: "good", GradeAge: status.Seconds(51 * time.Hour), Said: "good", Resent: &resent, Sent: 4800, Connected: status.Seconds(3 * time.Hour), Retries: 12, Failed: 1, BitrateUp: 65e6, BitrateDown: 72e6},
				{MAC: mac8, Signal: -78, Median: -77, Grade: "below minimum", GradeAge: status.Seconds(3*time.Minute + 30*time.Second), Said: "ok"},
			}}}
		},
		LookupNetIP: func(_ context.Context, _, host string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.2.80")}, nil
		},
		Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			return nil, errors.New("no route to host")
		},
	}}
	seven, eight := netip.MustParseAddr("10.83.0.7"), netip.MustParseAddr("10.83.0.8")
	d.src.Conversations, d.src.Volume, d.src.Signals = conversations(now), volumes, signalsOf
	seen := ago(25*time.Minute + 30*time.Second)
	book.Asked(mac7, "P1", "Zaptec Go", seen)
	book.Leased(mac7, "P1", seven, true, seen)
	book.Resolved(seven, seen)
	book.Timed(seven, seen)
	book.Opened(seven, true, seen)
	book.Moved(seven, true, 0, 1, seen)
	book.Moved(seven, true, 1_250_000, 3_400, now)
	book.Heard(seven, seen)
	book.Asked(mac8, "P1", "Zaptec Go", seen)
	book.Leased(mac8, "P1", eight, true, seen)
	book.Resolved(eight, seen)
	book.Refused(eight, "name firmware.example.com on port 443", ago(11*time.Minute+30*time.Second))
	book.Asked(stranger, "P1", evil, seen)
	log.Say(event.ChargerOnline, event.MAC(mac7))
	log.Say(event.ChargerOffline, event.MAC(mac8), event.F("SINCE", "5m"), event.F("STAGE", "time"))
	return d
}

// conversations are those of P1-07, which fetched firmware this morning, and of
// P1-08, which asks for what it must not have.
func conversations(now time.Time) func(charger.MAC, netip.Addr) ([]status.Conversation, []status.Past) {
	before := func(d time.Duration) time.Time { return now.Add(-d - 30*time.Second) }
	return func(mac charger.MAC, _ netip.Addr) (open []status.Conversation, past []status.Past) {
		switch mac {
		case mac7:
			open = []status.Conversation{
				{Name: policy.Hub, Port: 8883, By: "sni", Reason: "Z-8: the charger's lasting conversation", Remote: netip.MustParseAddrPort("20.50.65.7:8883"),
					Opened: before(51 * time.Hour), Silent: status.Seconds(48 * time.Second), Up: 4_200_000, Down: 1_900_000, Taken: 2},
				{Name: "api.zaptec.com", Port: 443, By: "address", Reason: "Z-9: firmware", Remote: netip.MustParseAddrPort("13.69.68.20:443"),
					Opened: before(0), Silent: status.Seconds(time.Second), Up: 1800, Down: 5200},
				{Name: "api.zaptec.com", Port: 443, By: "address", Reason: "Z-9: firmware", Remote: netip.MustParseAddrPort("13.69.68.20:443"),
					Opened: before(0), Silent: status.Seconds(time.Second), Up: 1700, Down: 5100},
				{Name: "api.zaptec.com", Port: 443, By: "address", Reason: "Z-9: firmware", Remote: netip.MustParseAddrPort("13.69.68.21:443"),
					Opened: before(0), Silent: status.Seconds(time.Second), Up: 1600, Down: 5000},
			}
			past = []status.Past{
				{Outcome: "ended", Name: "api.zaptec.com", Port: 443, Reason: "the charger hung up", Count: 69, First: before(20 * time.Minute), At: before(12 * time.Minute),
					Lasted: status.Seconds(7 * time.Minute), Up: 150_000, Down: 4_900_000},
				{Outcome: "unreachable", Name: "devices.zaptec.com", Port: 443, Reason: "no server takes the connection", Count: 1, First: before(25 * time.Minute), At: before(25 * time.Minute)},
				{Outcome: "ended", Name: policy.Hub, Port: 8883, Reason: "the server does not answer any more", Count: 1, First: before(51 * time.Hour), At: before(51 * time.Hour),
					Lasted: status.Seconds(167 * time.Hour), Up: 13_000_000, Down: 6_000_000},
			}
		case mac8:
			past = []status.Past{
				{Outcome: "refused", Name: "firmware.example.com", Port: 443, Reason: "the name is not on the list", Count: 7, First: before(30 * time.Minute), At: before(11 * time.Minute)},
				{Outcome: "refused", Name: evil, Port: 443, Reason: "the name is not on the list", Count: 1, First: before(40 * time.Minute), At: before(40 * time.Minute)},
				{Outcome: "refused", Reason: "it had 8 conversations open, as many as one may", Count: 1, First: before(41 * time.Minute), At: before(41 * time.Minute)},
			}
		}
		return open, past
	}
}

// volumes are the accounts of P1-07; nobody else has any.
func volumes(mac charger.MAC, _ time.Time) status.Volume {
	if mac != mac7 {
		return status.Volume{Dated: true}
	}
	row := func(name string, times int64) status.VolumeRow {
		day := status.Moved{Up: 1_900_000 / times, Down: 1_100_000 / times, Sessions: 2}
		return status.VolumeRow{Name: name, Today: status.Moved{Up: day.Up / 2, Down: day.Down / 2, Sessions: 1}, Yesterday: day,
			Week:  status.Moved{Up: 7 * day.Up, Down: 7 * day.Down, Sessions: 14},
			Month: status.Moved{Up: 30 * day.Up, Down: 30 * day.Down, Sessions: 60}}
	}
	return status.Volume{Dated: true, Since: "2026-10-23", Sum: row("", 1), Names: []status.VolumeRow{row(policy.Hub, 1), row("api.zaptec.com", 40), row("", 9000)}}
}

// start serves the house; the test's end, or stop, ends it.
func (d *daemon) start(t *testing.T) *daemon {
	t.Helper()
	s := status.New(status.Config{Socket: d.socket}, d.src, d.log)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	stopped := false
	d.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	}
	t.Cleanup(d.stop)
	return d
}

// paper is a terminal that is none: a pipe, or one of a width.
func paper(w io.Writer, width int) *terminal {
	return &terminal{Writer: w, width: func() int { return width }, height: func() int { return 0 }, signs: true}
}

// use runs the tool against the daemon.
func (d *daemon) use(t *testing.T, term func(io.Writer) *terminal, args ...string) (code int, out, complain string) {
	t.Helper()
	var o, c bytes.Buffer
	code = chargegate(t.Context(), append([]string{"-socket", d.socket}, args...), term(&o), &c)
	return code, o.String(), c.String()
}

func pipe(w io.Writer) *terminal { return paper(w, 0) }

func wide(width int) func(io.Writer) *terminal {
	return func(w io.Writer) *terminal { return paper(w, width) }
}

func coloured(w io.Writer) *terminal {
	t := paper(w, 100)
	t.colour = true
	return t
}

func ascii(w io.Writer) *terminal {
	t := paper(w, 60)
	t.signs = false
	return t
}

// golden compares a page with testdata/<name>.golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		term func(io.Writer) *terminal
		args []string
		code int
	}{
		{"status", pipe, []string{"status"}, exitAttention},
		{"status-80", wide(80), []string{"status"}, exitAttention},
		{"status-40", wide(40), []string{"status"}, exitAttention},
		{"status-10", wide(10), []string{"status"}, exitAttention},
		{"status-colour", coloured, []string{"status"}, exitAttention},
		{"status-ascii", ascii, []string{"status"}, exitAttention},
		{"chargers", pipe, []string{"chargers"}, exitAttention},
		{"chargers-80", wide(80), []string{"chargers"}, exitAttention},
		{"charger-online-80", wide(80), []string{"charger", "P1-07"}, exitWell},
		{"charger-online-40", wide(40), []string{"charger", "P1-07"}, exitWell},
		{"charger-online", pipe, []string{"charger", "P1-07"}, exitWell},
		{"charger-online-ascii", ascii, []string{"charger", "P1-07"}, exitWell},
		{"charger-online-10", wide(10), []string{"charger", "P1-07"}, exitWell},
		{"charger-weak-colour", coloured, []string{"charger", "P1-08"}, exitAttention},
		{"charger-refused", wide(80), []string{"charger", "60-15-92-41-00-08"}, exitAttention},
		{"charger-stranger", pipe, []string{"charger", "02:00:00:00:00:01"}, exitAttention},
		{"doctor", wide(100), []string{"doctor"}, exitAttention},
		{"events", pipe, []string{"events"}, exitWell},
		{"events-of-one", wide(70), []string{"events", "-charger", "p1-08"}, exitWell},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, out, complain := newDaemon(t).start(t).use(t, tt.term, tt.args...)
			if code != tt.code || complain != "" {
				t.Errorf("exit %d, want %d; complained %q", code, tt.code, complain)
			}
			golden(t, tt.name, startOfPast.ReplaceAllString(out, "${1}since START, when the daemon started${2}"))
			if harmful(strings.NewReplacer("\x1b[0m", "", "\x1b[1m", "", "\x1b[2m", "", "\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "").Replace(out)) {
				t.Errorf("something harmful came through: %q", out)
			}
		})
	}
}

// startOfPast is where a charger's page says when the daemon started. A date in it, after
// midnight, breaks the lines elsewhere.
var startOfPast = regexp.MustCompile(`(Ended and refused\s+\(?(?:nothing\s)?)since[^)V]*?started(\)?)`)

// harmful reports whether a text would do more to a terminal than print.
func harmful(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e) })
}

func TestAllIsWell(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	d.book.Replace(charger.Inventory{mac7: {MAC: mac7, Name: "P1-07"}})
	d.start(t)
	for _, args := range [][]string{{"status"}, {"chargers"}, {"charger", "P1-07"}, {"status", "-json"}, {"-json", "chargers"}, {"charger", "-json", "P1-07"}} {
		if code, _, complain := d.use(t, pipe, args...); code != exitWell {
			t.Errorf("%v: exit %d, want %d; complained %q", args, code, exitWell, complain)
		}
	}
}

func TestHouseNeedsAttention(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	d.src.Link = func() status.Link {
		return status.Link{Interface: "eth0", Known: true, Missing: "no cable", Do: "Is the cable plugged in at both ends?"}
	}
	d.src.Clock = func() status.Clock { return status.Clock{Reason: "chronyd does not run"} }
	d.src.Uplink = func() status.Uplink {
		return status.Uplink{Servers: 1, Lost: 1, Problem: "the only DNS server does not answer"}
	}
	d.src.Pools = func(time.Time) []status.PoolUse {
		return []status.PoolUse{{Network: "P1", Size: 32, Used: 32, StrangerSize: 8, StrangerUsed: 8}}
	}
	d.src.Outages = func() []status.Outage {
		return []status.Outage{
			{Name: policy.Hub, Port: 8883, Cause: "tcp", Words: "no server takes the connection", Since: time.Now().Add(-12*time.Minute - 30*time.Second), Last: time.Now()},
			{Name: "api.zaptec.com", Port: 443, Cause: "dns", Words: "its address cannot be found", Since: time.Now(), Last: time.Now()},
		}
	}
	d.src.Radios = func() []status.Radio {
		return []status.Radio{{Network: "P1", Interface: "wlan0", State: "missing", Problem: "no wireless interface has this name"}}
	}
	d.start(t)
	code, out, _ := d.use(t, wide(80), "status")
	if code != exitAttention {
		t.Errorf("exit %d, want %d", code, exitAttention)
	}
	golden(t, "status-trouble", out)
	for _, twice := range []string{"32 of 32", "no cable", "chronyd"} {
		if strings.Count(out, twice) != 1 {
			t.Errorf("%q is on the page more than once", twice)
		}
	}
}

// The line of the names says what is known of the DNS servers, and no more.
func TestNamesInTheHead(t *testing.T) {
	t.Parallel()
	server := status.DNSServer{Name: "192.0.2.1:53"}
	well := status.DNSServer{Name: "192.0.2.1:53", Latency: 1e6}
	for _, tt := range []struct {
		name   string
		uplink status.Uplink
		want   string
	}{
		{"not asked yet", status.Uplink{Servers: 1, Each: []status.DNSServer{server}}, "✓ names  1 DNS server, not asked yet\n"},
		{"it answers", status.Uplink{Servers: 1, Each: []status.DNSServer{well}}, "✓ names  1 DNS server, and none fails\n"},
		{"the only one gives errors", status.Uplink{Servers: 1, Errors: 1, Problem: "the only DNS server answers with errors (SERVFAIL)"},
			"✗ names  the only DNS server answers with errors (SERVFAIL); chargers get remembered addresses\n"},
		{"one of two gives errors", status.Uplink{Servers: 2, Errors: 1, Problem: "1 of 2 DNS servers answers only with errors (REFUSED)"},
			"✓ names  answered, though 1 of 2 DNS servers answers only with errors (REFUSED)\n"},
		{"only this box itself", status.Uplink{Problem: "/etc/resolv.conf names only this box itself (10.83.0.1)"},
			"✗ names  not answered: /etc/resolv.conf names only this box itself (10.83.0.1)\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDaemon(t)
			d.src.Uplink = func() status.Uplink { return tt.uplink }
			d.start(t)
			_, out, _ := d.use(t, wide(200), "status")
			if !strings.Contains(out, tt.want) {
				t.Errorf("no %q in\n%s", tt.want, out)
			}
		})
	}
}

// The fault of a network comes before what to do about it, and before what is said
// of its chargers.
func TestTroubleOfANetwork(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	d.src.Trouble = func(string) (problem, do string) {
		return "another DHCP server gives addresses: 192.168.7.1 (00:11:22:33:44:55)",
			"Find the device by its MAC address, mostly a router or an access point, and switch its DHCP server off."
	}
	d.start(t)
	code, out, complain := d.use(t, wide(100), "status")
	if code != exitAttention || complain != "" {
		t.Errorf("exit %d, complained %q", code, complain)
	}
	golden(t, "status-network", out)
	if !strings.Contains(out, "\n✗ P1     another DHCP server gives addresses: 192.168.7.1 (00:11:22:33:44:55)") || strings.Count(out, "Mend network P1 first") != 1 {
		t.Errorf("the fault is not on the page:\n%s", out)
	}
}

// Silence is no good news while nobody can have asked.
func TestNamesAreNotPraisedWithoutAnUplink(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := &call{terminal: pipe(&out)}
	c.showStatus(status.Status{Site: "S", Version: "1", Uplink: &status.Uplink{Servers: 1},
		Link: &status.Link{Interface: "eth0", Known: true, Missing: "no cable"}, Troubles: []status.Trouble{{About: status.AboutLink}}})
	want := "S, chargegate 1, up 0 s\n✗ uplink eth0: no cable\n✗ names  answered from memory at best, while the uplink is down\n\n\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What needs attention is on the page even when it has no line of its own.
func TestAttentionIsAlwaysVisible(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := &call{terminal: pipe(&out)}
	c.showStatus(status.Status{Site: "S", Version: "1", Attention: []string{"Something else is wrong.", "1 charger does not talk with the cloud."},
		Troubles: []status.Trouble{{About: status.AboutChargers, Text: "1 charger does not talk with the cloud."}}})
	want := "S, chargegate 1, up 0 s\n✗ Something else is wrong.\n\n\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A charger that nobody has entered yet, and one that is ok but lacks something.
func TestWhatIsEasilyOverlooked(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	now := time.Now()
	unlisted := charger.MAC{0x3c, 0xdc, 0x03, 0x10, 0, 1}
	d.book.Asked(unlisted, "P1", "Zaptec Go", now)
	d.book.Leased(unlisted, "P1", netip.MustParseAddr("10.83.0.60"), true, now)
	d.book.Refused(netip.MustParseAddr("10.83.0.7"), "name ocpp.example.com on port 443", now.Add(-3*time.Minute-30*time.Second))
	d.src.Pools = func(time.Time) []status.PoolUse {
		return []status.PoolUse{{Network: "P1", Size: 32, Used: 2, StrangerSize: 2, StrangerUsed: 2}}
	}
	d.start(t)
	for page, args := range map[string][]string{"status-overlooked": {"status"}, "chargers-overlooked": {"chargers"}} {
		code, out, complain := d.use(t, wide(100), args...)
		if code != exitAttention || complain != "" {
			t.Errorf("exit %d, complained %q", code, complain)
		}
		golden(t, page, out)
	}
}

func TestStrangersDoNotFloodThePage(t *testing.T) {
	t.Parallel()
	var all []status.Charger
	for i := range 20 {
		all = append(all, status.Charger{Status: charger.Status{Charger: charger.Charger{MAC: charger.MAC{2, 0, 0, 0, 1, byte(i)}}, Stage: charger.DHCP, Advice: "Has no address."}})
	}
	if shown, more := shownInStatus(all); len(shown) != mostStrangers || more != 20-mostStrangers {
		t.Errorf("%d are shown and %d counted", len(shown), more)
	}
	all[0].Stage, all[1].Address, all[2].Advice = charger.Wifi, netip.MustParseAddr("10.83.0.60"), ""
	if shown, more := shownInStatus(all[:4]); len(shown) != 1 || more != 0 {
		t.Errorf("%d are shown, want only the one that is here and without address", len(shown))
	}
}

func TestNothingHappened(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	d.src.Started = time.Now()
	d.start(t)
	code, out, _ := d.use(t, pipe, "events", "-level", "error")
	want := "nothing since " + d.src.Started.Format("15:04") + " (start)\n"
	if code != exitWell || out != want {
		t.Errorf("exit %d, printed %q, want %q", code, out, want)
	}
	start := time.Date(2026, 1, 2, 2, 54, 59, 0, time.UTC)
	for _, tt := range []struct {
		e    status.Events
		now  time.Time
		want string
	}{
		{status.Events{Started: start, Since: start}, start.Add(time.Hour), "nothing since 02:54 (start)"},
		{status.Events{Started: start, Since: start}, start.Add(48 * time.Hour), "nothing since 2026-01-02 02:54 (start)"},
		{status.Events{Started: start, Since: start.Add(time.Hour)}, start.Add(2 * time.Hour),
			"nothing since 03:54; what was before is in the journal: journalctl -t chargegated"},
	} {
		if got := nothingSince(tt.e, tt.now); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestJSONIsTheAnswerAsItIs(t *testing.T) {
	t.Parallel()
	d := newDaemon(t).start(t)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", d.socket)
	}}}
	changing := regexp.MustCompile(`("[a-z_]*seconds": )[0-9.e-]+`)
	for path, args := range map[string][]string{
		"/v1/status": {"status", "-json"}, "/v1/chargers": {"chargers", "-json"}, "/v1/charger/P1-07": {"-json", "charger", "P1-07"},
		"/v1/events": {"events", "-json"}, "/v1/doctor": {"doctor", "-json"},
	} {
		resp, err := client.Get("http://chargegate" + path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		_, got, _ := d.use(t, pipe, args...)
		if diff := cmp.Diff(changing.ReplaceAllString(string(want), "$1#"), changing.ReplaceAllString(got, "$1#")); diff != "" {
			t.Errorf("%v (-want +got):\n%s", args, diff)
		}
	}
}

func TestCouldNotAsk(t *testing.T) {
	t.Parallel()
	d := newDaemon(t)
	if code, _, complain := d.use(t, pipe, "status"); code != exitNoAnswer ||
		complain != fmt.Sprintf("chargegate: nobody answers at %s: is the daemon running? Run: systemctl status chargegated\n", d.socket) {
		t.Errorf("without a daemon: exit %d, %q", code, complain)
	}
	d.start(t)
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"nobody of that name", []string{"charger", "P9"}, `chargegate: no charger is called "P9"; give a name from the inventory, a MAC like 60:15:92:41:00:07, or the address it holds; names are like P1-07, P1-08, P1-09`},
		{"an escape as name", []string{"charger", "\x1b[2J"}, `chargegate: no charger is called "\x1b[2J"; give a name`},
		{"a level that is none", []string{"events", "-level", "loud"}, `chargegate: there is no level "loud"; allowed are debug, info, warning, error`},
		{"a word that is none", []string{"reboot"}, "chargegate: reboot is not one of its words: status, chargers, charger, doctor, events, render"},
		{"a flag that is none", []string{"status", "-x"}, "chargegate: flag provided but not defined: -x. See: chargegate -h"},
		{"a flag that is none, before the word", []string{"-x", "status"}, "chargegate: flag provided but not defined: -x. See: chargegate -h"},
		{"nobody", []string{"charger"}, "chargegate: chargegate charger needs to know of whom. See: chargegate -h"},
		{"one too many", []string{"charger", "P1-07", "P1-08"}, `chargegate: "P1-08" is one word too many for chargegate charger. See: chargegate -h`},
		{"no word at all", nil, "chargegate asks the network box how its chargers are."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, complain := d.use(t, pipe, tt.args...)
			if code != exitNoAnswer || !strings.HasPrefix(complain, tt.want) || out != "" {
				t.Errorf("exit %d, printed %q, complained %q, want %q", code, out, complain, tt.want)
			}
			if harmful(complain) {
				t.Errorf("something harmful came through: %q", complain)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	c := &call{socket: "/run/chargegate/status.sock"}
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"no permission", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}, "join the group chargegate"},
		{"a leftover socket", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "is the daemon running?"},
		{"it hangs", context.DeadlineExceeded, "it hangs"},
		{"anything else", io.ErrUnexpectedEOF, "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := c.explain(tt.err).Error(); !strings.Contains(got, tt.want) || !strings.Contains(got, c.socket) {
				t.Errorf("%q, want something with %q", got, tt.want)
			}
		})
	}
}

// TestSomebodyElseAnswers: what answers on the socket may be anything.
func TestSomebodyElseAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"a web server", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, "is it chargegated?"},
		{"no JSON", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }, "of one version?"},
		{"a harmful fault", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error": "\u001b[2J owned"}`)
		}, `\x1b[2J owned`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := &daemon{socket: filepath.Join(t.TempDir(), "s")}
			l, err := net.Listen("unix", d.socket)
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: tt.answer}
			ended := make(chan struct{})
			go func() { defer close(ended); server.Serve(l) }()
			t.Cleanup(func() { server.Close(); <-ended })
			code, _, complain := d.use(t, pipe, "status")
			if code != exitNoAnswer || !strings.Contains(complain, tt.want) || harmful(complain) {
				t.Errorf("exit %d, complained %q, want %q", code, complain, tt.want)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	d := &daemon{}
	code, out, _ := d.use(t, pipe, "-h")
	if code != exitWell {
		t.Errorf("-h: exit %d", code)
	}
	golden(t, "help", out)
	if code, out, _ := d.use(t, pipe, "events", "-h"); code != exitWell || !strings.Contains(out, "-follow") {
		t.Errorf("events -h: exit %d, %q", code, out)
	}
	if code, out, _ := d.use(t, pipe, "-version"); code != exitWell || !strings.HasPrefix(out, "chargegate ") {
		t.Errorf("-version: exit %d, %q", code, out)
	}
}
