package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/wifi"
	"golang.org/x/sys/unix"

	"chargegate/pkg/config"
)

// twoRadios is a garage with two radios, the second on a channel of its own.
const twoRadios = `
[site]
name = "Kungsgatan 12"
[[network]]
name = "P1"
interface = "wlan0"
chargers = 16
[network.radio]
ssid = "garage-p1"
passphrase = "file:p1.psk"
country = "SE"
channel = 6
max_stations = 19
[[network]]
name = "P2"
interface = "wlan1"
chargers = 16
[network.radio]
ssid = "garage-p2"
passphrase = "file:p1.psk"
country = "SE"
channel = 1
max_stations = 19
[uplink]
interface = "eth0"
`

// A pi is a box as a survey sees it: a radio, what is on the air, and systemd. It
// does what the real ones do, and writes down what it was told.
type pi struct {
	ifis   []*wifi.Interface
	up     bool
	unit   string           // what systemd says of the radio's unit; empty: no systemd
	timers map[string]bool  // armed
	fail   map[string]error // by the first words of a command
	air    []*wifi.BSS
	scans  func(ctx context.Context, n int) error // the n-th scan; nil: it works
	counts func(n int) []*wifi.SurveyInfo
	done   []string

	n int
}

func newPi() *pi {
	return &pi{unit: "inactive", timers: map[string]bool{}, fail: map[string]error{},
		ifis: []*wifi.Interface{
			{Index: 3, Name: "wlan0", Type: wifi.InterfaceTypeStation, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 0}},
			{Index: 4, Name: "wlan1", Type: wifi.InterfaceTypeAP, Frequency: 2412, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 1, 0}},
			{Index: 5, Name: "p2p0", Type: wifi.InterfaceTypeP2PDevice},
		}}
}

// serves makes the radio an access point that systemd runs.
func (p *pi) serves() *pi {
	p.unit, p.up, p.ifis[0].Type, p.ifis[0].Frequency = "active", true, wifi.InterfaceTypeAP, 2437
	return p
}

func (p *pi) Interfaces() ([]*wifi.Interface, error) { return p.ifis, nil }

func (p *pi) Scan(ctx context.Context, ifi *wifi.Interface) error {
	switch {
	case !p.up:
		return unix.ENETDOWN
	case ifi.Type != wifi.InterfaceTypeStation:
		return unix.EOPNOTSUPP
	}
	p.n++
	if p.scans != nil {
		return p.scans(ctx, p.n)
	}
	return nil
}

func (p *pi) AccessPoints(*wifi.Interface) ([]*wifi.BSS, error) { return p.air, nil }

func (p *pi) SurveyInfo(*wifi.Interface) ([]*wifi.SurveyInfo, error) {
	if p.counts == nil {
		return nil, os.ErrNotExist
	}
	return p.counts(p.n), nil
}

func (p *pi) link(ifname string, up bool) (bool, error) {
	was := p.up
	p.up = up
	if was != up {
		p.done = append(p.done, fmt.Sprintf("link %s up %v", ifname, up))
	}
	return was, p.fail["link"]
}

func (p *pi) program(ctx context.Context, words ...string) (string, error) {
	if err := context.Cause(ctx); err != nil {
		return "", err
	}
	line := strings.Join(words, " ")
	if words[1] != "show" {
		p.done = append(p.done, line)
	}
	for begin, err := range p.fail {
		if strings.HasPrefix(line, begin) {
			return "", err
		}
	}
	const unit, guard = "chargegate-radio@P1.service", "chargegate-survey-P1.timer"
	switch line {
	case "systemctl show --property=ActiveState --value " + unit:
		return p.unit + "\n", nil
	case "systemd-run --quiet --collect --unit=chargegate-survey-P1 --on-active=4m0s --timer-property=AccuracySec=1s systemctl --no-block start " + unit:
		if p.timers[guard] {
			return "", errors.New("Failed to start transient timer unit: Unit chargegate-survey-P1.timer was already loaded or has a fragment file.")
		}
		p.timers[guard] = true
	case "systemctl stop " + guard:
		delete(p.timers, guard)
	case "systemctl stop " + unit:
		p.unit, p.up, p.ifis[0].Type, p.ifis[0].Frequency = "inactive", false, wifi.InterfaceTypeStation, 0
	case "systemctl --no-block start " + unit:
		p.serves()
	case "iw dev wlan0 set type managed":
		p.ifis[0].Type = wifi.InterfaceTypeStation
	default:
		return "", errors.New("no such command: " + line)
	}
	return "", nil
}

// survey runs the tool's command with this box.
func (p *pi) survey(t *testing.T, ctx context.Context, term func(io.Writer) *terminal, toml string, flags ...string) (code int, out string, err error) {
	t.Helper()
	file, _ := site(t, toml)
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	var o bytes.Buffer
	s := &survey{call: &call{terminal: term(&o), json: slices.Contains(flags, "-json")}, cfg: cfg, file: "/etc/chargegate/chargegate.toml",
		network: cfg.Networks[0], interrupt: slices.Contains(flags, "-interrupt"), rig: rig{ether: p, link: p.link, program: p.program}}
	code, err = s.run(ctx, time.Date(2026, 11, 21, 14, 0, 0, 5, time.UTC))
	return code, o.String(), err
}

func bss(last byte, channel, signal int, ssid string) *wifi.BSS {
	return &wifi.BSS{SSID: ssid, BSSID: net.HardwareAddr{0xb8, 0x27, 0xeb, last, 0, last}, Frequency: 2407 + 5*channel, Signal: int32(100 * signal)}
}

// neighbourhood is what is heard in a garage below a block of flats.
func neighbourhood() []*wifi.BSS {
	stale := bss(20, 11, -30, "gone for long")
	stale.LastSeen = time.Hour
	five := bss(21, 1, -30, "5 GHz")
	five.Frequency = 5180
	p2 := bss(0, 1, -25, "garage-p2")
	p2.BSSID = net.HardwareAddr{2, 0, 0, 0, 1, 0}
	unspecified := bss(9, 13, 0, "per cent")
	unspecified.SignalUnspecified = 70
	return []*wifi.BSS{p2, bss(1, 6, -52, "Telia-4F2A10"), bss(2, 6, -61, "Bostadsrättsföreningen Eken"), bss(3, 6, -67, "\x00\x00\x00\x00"), bss(4, 3, -71, evil),
		bss(5, 11, -80, strings.Repeat("W", 32)), bss(6, 1, -88, ""), unspecified, stale, five, nil, {BSSID: net.HardwareAddr{1}}, {BSSID: net.HardwareAddr{2, 2, 2, 2, 2, 2}}}
}

// counting is a driver whose counters go on.
func counting(busy map[int]int) func(int) []*wifi.SurveyInfo {
	return func(n int) []*wifi.SurveyInfo {
		out := []*wifi.SurveyInfo{nil, {Frequency: 5180, ChannelTime: time.Hour}}
		for channel := 1; channel <= 13; channel++ {
			listened := time.Hour + time.Duration(n)*110*time.Millisecond
			out = append(out, &wifi.SurveyInfo{Frequency: 2407 + 5*channel, ChannelTime: listened, ChannelTimeBusy: time.Hour + time.Duration(busy[channel])*time.Duration(n)*1100*time.Microsecond})
		}
		return out
	}
}

func TestSurveyPages(t *testing.T) {
	crowded := map[int]int{1: 8, 2: 9, 3: 12, 4: 20, 5: 45, 6: 71, 7: 44, 8: 15, 9: 6, 10: 4, 11: 5}
	many := []*wifi.BSS{}
	for i := range 40 {
		many = append(many, bss(byte(100+i), 1+i%11, -40-i, fmt.Sprintf("flat %d", i)))
	}
	for _, tt := range []struct {
		name  string
		term  func(io.Writer) *terminal
		toml  string
		air   []*wifi.BSS
		busy  map[int]int
		code  int
		width int
		flags []string
	}{
		{"survey-80", wide(80), twoRadios, neighbourhood(), crowded, exitAttention, 80, nil},
		{"survey-40", wide(40), twoRadios, neighbourhood(), crowded, exitAttention, 40, nil},
		{"survey-ascii", ascii, twoRadios, neighbourhood(), crowded, exitAttention, 60, nil},
		{"survey-json", pipe, twoRadios, neighbourhood(), crowded, exitAttention, 0, []string{"-json"}},
		{"survey-quiet", wide(80), garage, nil, nil, exitWell, 80, nil},
		{"survey-many", wide(80), garage, many, nil, exitAttention, 80, nil},
		{"survey-twins", wide(80), garage, []*wifi.BSS{bss(1, 6, -90, "garage-p1"), bss(2, 11, -40, "garage-p1"), bss(3, 1, -70, "Garage-P1")}, nil, exitAttention, 80, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPi()
				p.air = tt.air
				if tt.busy != nil {
					p.counts = counting(tt.busy)
				}
				if tt.toml == garage {
					p.ifis = p.ifis[:1]
				}
				code, out, err := p.survey(t, t.Context(), tt.term, tt.toml, tt.flags...)
				if err != nil || code != tt.code {
					t.Errorf("exit %d, %v", code, err)
				}
				golden(t, tt.name, out)
				if tt.width > 0 {
					narrow(t, out, tt.width)
				}
				if tt.width > 0 && harmful(out) {
					t.Error("a stranger's name reaches the terminal")
				}
				if p.up || !slices.Equal(p.done, []string{"link wlan0 up true", "link wlan0 up false"}) {
					t.Errorf("a free radio is left otherwise than it was: %q", p.done)
				}
			})
		})
	}
}

// A radio that waits for its daemon is not to be restarted: the command would wait too.
func TestWhatToDoWithAnotherChannel(t *testing.T) {
	f := surveyed{Network: "P1", Radio: radioWasFree}
	f.Advice.Channel = 11
	if got, want := f.change("c.toml"), "Write channel = 11 for P1 in c.toml, then: sudo chargegated -check. Its last line says what to do next."; got != want {
		t.Errorf("a free radio: %q", got)
	}
	f.Radio = radioIsBack
	if got, want := f.change("c.toml"), "Write channel = 11 for P1 in c.toml, then: sudo systemctl restart chargegate-prepare chargegate-radio@P1. Its chargers reconnect."; got != want {
		t.Errorf("one that serves: %q", got)
	}
}

// What is done to a radio that serves, in order.
var interrupted = []string{
	"systemd-run --quiet --collect --unit=chargegate-survey-P1 --on-active=4m0s --timer-property=AccuracySec=1s systemctl --no-block start chargegate-radio@P1.service",
	"systemctl stop chargegate-radio@P1.service",
	"link wlan0 up true", "link wlan0 up false",
	"systemctl --no-block start chargegate-radio@P1.service", "systemctl stop chargegate-survey-P1.timer",
}

func (p *pi) servesAgain(t *testing.T) {
	t.Helper()
	if diff := cmp.Diff(interrupted, p.done); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
	if p.unit != "active" || !beaconing(p.ifis[0]) || len(p.timers) > 0 {
		t.Errorf("the radio's unit is %s, timers %v", p.unit, p.timers)
	}
}

func TestSurveyLeavesARadioThatServesAlone(t *testing.T) {
	for _, tt := range []struct {
		name  string
		p     *pi
		flags []string
		want  string
	}{
		{"it serves", newPi().serves(), nil, "the radio wlan0 serves the chargers of P1. chargegate survey -interrupt stops it for half a minute"},
		{"it is about to", func() *pi { p := newPi(); p.unit = "activating"; return p }(), nil, "serves the chargers of P1"},
		{"somebody else's hostapd", func() *pi { p := newPi().serves(); p.unit = "inactive"; return p }(), []string{"-interrupt"}, "is an access point, and not that of chargegate-radio@P1.service"},
		{"another survey is under way", func() *pi { p := newPi().serves(); p.timers["chargegate-survey-P1.timer"] = true; return p }(), []string{"-interrupt"}, "is another survey under way?"},
		{"systemd-run is missing", func() *pi { p := newPi().serves(); p.fail["systemd-run"] = errors.New("not found"); return p }(), []string{"-interrupt"}, "the radio is left alone"},
		{"no such radio", func() *pi { p := newPi(); p.ifis = p.ifis[1:]; return p }(), []string{"-interrupt"}, "no wireless interface is named wlan0"},
	} {
		was := tt.p.unit
		code, out, err := tt.p.survey(t, t.Context(), pipe, twoRadios, tt.flags...)
		if code != exitNoAnswer || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: exit %d, %v, printed %q", tt.name, code, err, out)
		}
		if tt.p.unit != was || slices.ContainsFunc(tt.p.done, func(s string) bool { return !strings.HasPrefix(s, "systemd-run") }) {
			t.Errorf("%s: done %q", tt.name, tt.p.done)
		}
	}
}

func TestSurveyGivesTheRadioBack(t *testing.T) {
	ctrlC := errors.New("^C")
	for _, tt := range []struct {
		name string
		hear func(p *pi, stop context.CancelCauseFunc)
		want string // of the error; empty: it ends well
	}{
		{"all is well", func(p *pi, _ context.CancelCauseFunc) { p.air = neighbourhood() }, ""},
		{"^C during a scan", func(p *pi, stop context.CancelCauseFunc) {
			p.scans = func(ctx context.Context, n int) error {
				if n < 3 {
					return nil
				}
				stop(ctrlC)
				<-ctx.Done()
				return os.ErrDeadlineExceeded
			}
		}, "^C"},
		{"^C between two scans", func(p *pi, stop context.CancelCauseFunc) {
			p.scans = func(context.Context, int) error { time.AfterFunc(apart/2, func() { stop(ctrlC) }); return nil }
		}, "^C"},
		{"every scan fails", func(p *pi, _ context.CancelCauseFunc) {
			p.scans = func(context.Context, int) error { return unix.EBUSY }
		}, "cannot listen: it is listening for something else"},
		{"a scan fails now and then", func(p *pi, _ context.CancelCauseFunc) {
			p.scans = func(_ context.Context, n int) error {
				return map[int]error{2: wifi.ErrScanAborted, 4: os.ErrDeadlineExceeded}[n]
			}
		}, ""},
		{"a driver that never answers", func(p *pi, _ context.CancelCauseFunc) {
			p.scans = func(context.Context, int) error { time.Sleep(time.Minute); return os.ErrDeadlineExceeded }
		}, "it took too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPi().serves()
				ctx, stop := context.WithCancelCause(t.Context())
				defer stop(nil)
				tt.hear(p, stop)
				code, out, err := p.survey(t, ctx, pipe, twoRadios, "-interrupt")
				switch {
				case tt.want == "" && (err != nil || code == exitNoAnswer):
					t.Errorf("exit %d, %v", code, err)
				case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || code != exitNoAnswer):
					t.Errorf("exit %d, %v; want %q", code, err, tt.want)
				}
				p.servesAgain(t)
				if !strings.Contains(out, "The radio of P1 serves again.") {
					t.Errorf("printed %q", out)
				}
				synctest.Wait()
				if !p.up {
					t.Error("the interface was set down behind hostapd's back")
				}
			})
		})
	}
}

// Whatever goes wrong in this process itself: what is deferred is done.
func TestSurveyGivesTheRadioBackAfterAPanic(t *testing.T) {
	p := newPi().serves()
	p.scans = func(context.Context, int) error { panic("at sea") }
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_, _, _ = p.survey(t, t.Context(), pipe, twoRadios, "-interrupt")
	}()
	p.servesAgain(t)
}

func TestSurveyOfARadioThatDoesNotComeBack(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fail   func(*pi)
		want   string
		timers int
	}{
		{"it cannot be started", func(p *pi) { p.fail["systemctl --no-block start"] = errors.New("no such firmware") }, "could not be started again (no such firmware). systemd tries it once more within 4 min", 1},
		{"it is started and does not send", func(p *pi) {
			p.ifis = p.ifis[:1]
			p.scans = func(context.Context, int) error { p.ifis = []*wifi.Interface{}; return nil }
		}, "is no access point yet. Run: sudo systemctl status chargegate-radio@P1.service", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPi().serves()
				p.ifis = slices.Clone(p.ifis)
				tt.fail(p)
				if tt.name == "it is started and does not send" {
					p.fail["systemctl --no-block start"] = nil
				}
				code, _, err := p.survey(t, t.Context(), pipe, twoRadios, "-interrupt")
				var left errLeft
				if code != exitNoAnswer || !errors.As(err, &left) || !strings.Contains(string(left), tt.want) || len(p.timers) != tt.timers {
					t.Errorf("exit %d, %v, timers %v", code, err, p.timers)
				}
			})
		})
	}
}

// A hostapd that was killed leaves an access point behind that does not send.
func TestSurveyWithALeftAccessPoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPi()
		p.ifis[0].Type = wifi.InterfaceTypeAP
		code, _, err := p.survey(t, t.Context(), pipe, twoRadios)
		if code == exitNoAnswer || err != nil || !slices.Contains(p.done, "iw dev wlan0 set type managed") {
			t.Errorf("exit %d, %v, done %q", code, err, p.done)
		}
	})
}

func TestSurveyWithoutSystemd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPi()
		p.fail["systemctl"] = errors.New("not booted with systemd")
		if code, _, err := p.survey(t, t.Context(), pipe, twoRadios); code == exitNoAnswer || err != nil {
			t.Errorf("exit %d, %v", code, err)
		}
	})
}

// Two visits with counters that begin anew each time are as good as some that go on.
func TestSurveyCountsEachWayOfCounting(t *testing.T) {
	visit := func(int) []*wifi.SurveyInfo {
		var out []*wifi.SurveyInfo
		for channel := 1; channel <= 11; channel++ {
			out = append(out, &wifi.SurveyInfo{Frequency: 2407 + 5*channel, ChannelTime: 80 * time.Millisecond, ChannelTimeBusy: 20 * time.Millisecond})
		}
		return out
	}
	all := map[int]int{}
	for channel := 1; channel <= 11; channel++ {
		all[channel] = 25
	}
	for name, counts := range map[string]func(int) []*wifi.SurveyInfo{"each visit": visit, "all along": counting(all)} {
		synctest.Test(t, func(t *testing.T) {
			p := newPi()
			p.counts = counts
			p.scans = func(context.Context, int) error { time.Sleep(time.Second); return nil }
			_, out, err := p.survey(t, t.Context(), pipe, twoRadios, "-json")
			var got surveyed
			if err := errors.Join(err, json.Unmarshal([]byte(out), &got)); err != nil {
				t.Fatal(err)
			}
			for _, c := range got.Channels {
				if c.Busy == nil || *c.Busy != 0.25 || c.Seconds < 0.4 {
					t.Errorf("%s: %+v", name, c)
				}
			}
		})
	}
}

func TestWhichRadioIsSurveyed(t *testing.T) {
	t.Parallel()
	wired := "[site]\nname = \"x\"\n[[network]]\nname = \"W\"\ninterface = \"eth1\"\nchargers = 3\n[uplink]\ninterface = \"eth0\"\n"
	for _, tt := range []struct{ toml, name, want, problem string }{
		{garage, "", "P1", ""},
		{garage, "P1", "P1", ""},
		{garage, "P9", "", `no network with a radio is named "P9"; there are P1`},
		{twoRadios, "", "", "say with the radio of which network, like -network P1; there are P1, P2"},
		{twoRadios, "P2", "P2", ""},
		{wired, "", "", "has nothing to listen with"},
		{wired, "W", "", "has nothing to listen with"},
	} {
		file, _ := site(t, tt.toml)
		cfg, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		n, err := radioOf(cfg, tt.name)
		if n.Name != tt.want || (err == nil) != (tt.problem == "") || err != nil && !strings.Contains(err.Error(), tt.problem) {
			t.Errorf("%q: %q, %v", tt.name, n.Name, err)
		}
	}
}

// ^C is silent, but for a radio that is left without beacons.
func TestWhatIsLeftIsToldAfterCtrlC(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		err  error
		want string
	}{{errLeft("the radio is away"), "chargegate: the radio is away\n"}, {fmt.Errorf("ended early: %w", context.Canceled), ""}} {
		var out, complain bytes.Buffer
		c := &call{terminal: pipe(&out)}
		code := c.do(ctx, command{name: "survey", run: func(context.Context, *call, *flag.FlagSet, []string) (int, error) { return exitNoAnswer, tt.err }}, nil, &complain)
		if code != exitNoAnswer || complain.String() != tt.want {
			t.Errorf("exit %d, complained %q", code, complain.String())
		}
	}
}

func TestLinkThatIsNotThere(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"no-such-radio0", "a-name-that-is-much-too-long"} {
		if _, err := setLink(name, true); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A program ends with its time, and says itself what is the matter.
func TestProgramsOfTheSystem(t *testing.T) {
	t.Parallel()
	if out, err := program(t.Context(), "sh", "-c", "echo active"); err != nil || out != "active\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := program(t.Context(), "sh", "-c", "echo no such unit >&2; exit 4"); err == nil || err.Error() != "sh: no such unit" {
		t.Errorf("%v", err)
	}
	if _, err := program(t.Context(), "no-such-program"); err == nil {
		t.Error("no error")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := program(ctx, "sleep", "60"); err == nil || time.Since(began) > 20*time.Second {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

// A radio of this box that does not send yet will be on its channel.
func TestSurveyKeepsAwayFromARadioThatIsPlanned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPi()
		p.air = []*wifi.BSS{bss(1, 6, -50, "a"), bss(2, 6, -50, "b"), bss(3, 11, -50, "c")}
		_, out, err := p.survey(t, t.Context(), pipe, twoRadios, "-json")
		var got surveyed
		if err := errors.Join(err, json.Unmarshal([]byte(out), &got)); err != nil {
			t.Fatal(err)
		}
		last := got.Neighbours[len(got.Neighbours)-1]
		want := aNeighbour{SSID: "garage-p2", Channel: 1, Network: "P2"}
		if last != want || got.Advice.Channel != 11 || got.Advice.Loads[0].Taken != 0.3 {
			t.Errorf("%+v, advice %+v", last, got.Advice)
		}
	})
}
