package status

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"
)

// clockWith is a clock that is right, with sources of a state and a reach.
func clockWith(sources ...string) Clock {
	c := Clock{Synchronised: true, Stratum: 3, RefID: "192.0.2.1", RootDistance: Seconds(12 * time.Millisecond)}
	for i, s := range sources {
		state, reach, _ := strings.Cut(s, " ")
		c.Sources = append(c.Sources, TimeSource{Address: fmt.Sprintf("192.0.2.%d", i+1), Name: state + ".example", State: state, Reach: reach})
	}
	return c
}

func TestChecks(t *testing.T) {
	t.Parallel()
	seen := Seconds(time.Second)
	is := func(name string, known bool, stage charger.Stage, age *Seconds) Charger {
		return Charger{Status: charger.Status{Charger: charger.Charger{Name: name, MAC: mac7}, Known: known, Stage: stage}, LastSeenAge: age}
	}
	name := func(charger.MAC) string { return "P1-07" }
	watched := Radio{Network: "P1", Interface: "wlan0", State: "watched", MaxStations: 10}
	with := func(f func(*Radio)) Radio { r := watched; f(&r); return r }
	of := func(r Radio) NetworkState { return NetworkState{Network: Network{Name: "P1", Channel: 6}, Radio: &r} }
	tests := []struct {
		name   string
		got    finding
		result Result
		found  string
	}{
		{"the clock is right", checkClock(Clock{Synchronised: true, Stratum: 3, RefID: "192.0.2.1", RootDistance: Seconds(12 * time.Millisecond)}), Pass, "right to within 12ms; stratum 3, following 192.0.2.1"},
		{"the clock is not known to be right", checkClock(Clock{Reason: "chronyd has no source"}), Fail, "this box does not know the time, so chargers are given none: chronyd has no source"},
		{"the clock follows one of three", checkClock(clockWith("selected 377", "candidate 17", "unreachable 0")), Pass,
			"right to within 12ms; stratum 3, following selected.example (192.0.2.1); 2 of 3 sources answer"},
		{"the clock has lost its sources", checkClock(clockWith("selected 0", "unreachable 0")), Warn,
			"right to within 12ms; stratum 3, following selected.example (192.0.2.1); none of 2 sources answers"},
		{"the clock has one source", checkClock(clockWith("selected 377")), Warn,
			"right to within 12ms; stratum 3, following selected.example (192.0.2.1); 1 of 1 source answers"},
		{"a source that is wrong", checkClock(clockWith("selected 377", "candidate 377", "falseticker 377")), Warn,
			"right to within 12ms; stratum 3, following selected.example (192.0.2.1); 3 of 3 sources answer; contradicted by falseticker.example (192.0.2.3)"},
		{"the clock was set", checkClock(Clock{Synchronised: true, Stratum: 3, RefID: "192.0.2.1", RootDistance: Seconds(12 * time.Millisecond),
			LastStep: &Step{At: time.Now().Add(-90 * time.Second), By: Seconds(-3 * time.Second)}}), Pass,
			"right to within 12ms; stratum 3, following 192.0.2.1; set by -3s 1m30s ago"},
		{"the clock waits for its sources", checkClock(Clock{Reason: "the clock is not synchronised", Sources: clockWith("unusable 3", "unreachable 0").Sources}), Fail,
			"this box does not know the time, so chargers are given none: the clock is not synchronised; 1 of 2 sources answer"},
		{"nobody tells the time", checkClock(Clock{Reason: "the clock is not synchronised", Sources: clockWith("unreachable 0").Sources}), Fail,
			"this box does not know the time, so chargers are given none: the clock is not synchronised; its only source does not answer"},
		{"the uplink is well", checkLink(Link{Interface: "eth0", Known: true, Up: true, Address: addr7}), Pass, "eth0 has a link, the address 10.83.0.7 and a default route"},
		{"the uplink has no cable", checkLink(Link{Interface: "eth0", Known: true, Missing: "no cable", Do: "Plug it in."}), Fail, "eth0: no cable"},
		{"the uplink was not looked at", checkLink(Link{Interface: "eth0"}), Pass, "eth0 has not been looked at yet"},
		{"the uplink cannot be looked at", checkLink(Link{Interface: "eth0", Problem: "EPERM"}), Warn, "eth0 cannot be looked at: EPERM"},
		{"no dns server", checkUplink(Uplink{}), Fail, "there is no DNS server to ask"},
		{"the box names only itself", checkUplink(Uplink{Problem: "/etc/resolv.conf names only this box itself (10.83.0.1)"}), Fail,
			"there is no DNS server to ask: /etc/resolv.conf names only this box itself (10.83.0.1)"},
		{"no dns server answers", checkUplink(Uplink{Servers: 2, Lost: 2}), Fail, "none of 2 DNS servers answers"},
		{"the only dns server is silent", checkUplink(Uplink{Servers: 1, Lost: 1, Each: []DNSServer{{Name: "192.0.2.1:53", Lost: true, Problem: "no answer"}}}), Fail,
			"the only DNS server does not answer: 192.0.2.1:53 is silent"},
		{"nobody listens there", checkUplink(Uplink{Servers: 1, Lost: 1, Each: []DNSServer{{Name: "127.0.0.1:53", Lost: true, Problem: "read udp 127.0.0.1:4->127.0.0.1:53: read: connection refused"}}}), Fail,
			"the only DNS server does not answer: 127.0.0.1:53 fails (refused)"},
		{"the only dns server gives errors", checkUplink(Uplink{Servers: 1, Errors: 1, Each: []DNSServer{{Name: "192.0.2.1:53", Errors: true, Problem: "SERVFAIL"}}}), Fail,
			"the only DNS server answers with errors: 192.0.2.1:53 says SERVFAIL"},
		{"one silent, one with errors", checkUplink(Uplink{Servers: 2, Errors: 1, Lost: 1}), Fail, "none of 2 DNS servers gives an answer that can be used"},
		{"one of two gives errors", checkUplink(Uplink{Servers: 2, Errors: 1}), Warn, "1 of 2 DNS servers answers only with errors"},
		{"a certificate for somebody else", checkUplink(Uplink{Servers: 1, Lost: 1, Each: []DNSServer{{Name: "tls://192.0.2.53:853#dns.example", Lost: true, Problem: "its certificate is for elsewhere.example"}}}), Fail,
			"the only DNS server does not answer: tls://192.0.2.53:853#dns.example fails (its certificate is for elsewhere.example)"},
		{"one of two answers", checkUplink(Uplink{Servers: 2, Lost: 1}), Warn, "1 of 2 DNS servers does not answer"},
		{"all answer", checkUplink(Uplink{Servers: 1}), Pass, "1 server is asked, and none fails"},
		{"how quickly each answers", checkUplink(Uplink{Servers: 4, Each: []DNSServer{
			{Name: "192.0.2.1:53", Latency: Seconds(11600 * time.Microsecond)}, {Name: "tls://9.9.9.9:853#dns.quad9.net", Latency: Seconds(80 * time.Microsecond)},
			{Name: "192.0.2.3:53"}, {Name: "192.0.2.4:53", Problem: "SERVFAIL"}}}), Warn,
			"4 servers are there: 192.0.2.1:53 answers in 12 ms, tls://9.9.9.9:853#dns.quad9.net answers in less than 1 ms, 192.0.2.3:53 was not asked yet, 192.0.2.4:53 has not answered yet"},
		{"who is silent", checkUplink(Uplink{Servers: 2, Lost: 1, Each: []DNSServer{
			{Name: "192.0.2.1:53", Lost: true, Latency: Seconds(time.Second)}, {Name: "192.0.2.2:53", Latency: Seconds(40 * time.Millisecond)}}}), Warn,
			"1 of 2 DNS servers does not answer: 192.0.2.1:53 is silent, 192.0.2.2:53 answers in 40 ms"},
		{"a pool with room", checkPool(PoolUse{Size: 32, Used: 12, StrangerSize: 8, StrangerUsed: 1}), Pass, "12 of 32 addresses are taken; strangers have 1 of 8"},
		{"a pool nearly full", checkPool(PoolUse{Size: 10, Used: 8, StrangerSize: 8}), Warn, "8 of 10 addresses are taken; strangers have 0 of 8"},
		{"a pool that is full", checkPool(PoolUse{Size: 10, Used: 10, StrangerSize: 8}), Fail, "10 of 10 addresses are taken; strangers have 0 of 8: the next charger gets none"},
		{"strangers everywhere", checkPool(PoolUse{Size: 32, StrangerSize: 8, StrangerUsed: 8}), Warn, "0 of 32 addresses are taken; strangers have 8 of 8: no stranger gets one any more"},
		{"somebody has a fixed address", checkPool(PoolUse{Size: 32, StrangerSize: 8, Quarantined: 1}), Warn, "0 of 32 addresses are taken; strangers have 0 of 8; 1 were declined, because somebody else uses them"},
		{"a radio that is well", checkRadio(of(with(func(r *Radio) { r.Stations = []Station{{Grade: "good"}} })), 5, name), Pass, "1 of at most 10 stations, none of them too weak"},
		{"a radio not looked at", checkRadio(of(Radio{State: "waiting"}), 0, name), Pass, "it has not been looked at yet; that happens every 15 s"},
		{"no radio", checkRadio(of(Radio{State: "missing", Interface: "wlan0"}), 0, name), Fail, "wlan0 is not there, so nobody has Wi-Fi"},
		{"no nl80211", checkRadio(of(Radio{State: "unsupported"}), 0, name), Fail, "this kernel has no wireless interface at all, so nobody has Wi-Fi"},
		{"no hostapd", checkRadio(of(Radio{State: "not-access-point", Interface: "wlan0", Problem: "station"}), 0, name), Fail, "wlan0 is not an access point, so nobody has Wi-Fi"},
		{"a driver that does not answer", checkRadio(of(Radio{State: "failed", Interface: "wlan0", Problem: "i/o timeout"}), 0, name), Fail, "wlan0 does not say who is on it: i/o timeout"},
		{"more chargers planned than it holds", checkRadio(of(watched), 11, name), Warn, "0 of at most 10 stations, none of them too weak; the inventory has 11 chargers for it"},
		{"nearly full", checkRadio(of(with(func(r *Radio) { r.Stations = make([]Station, 8) })), 9, name), Warn, "8 of at most 10 stations, none of them too weak"},
		{"no signal reported", checkRadio(of(with(func(r *Radio) { r.NoSignal = true })), 5, name), Warn, "0 of at most 10 stations; this radio does not say how well it hears anybody, so Zaptec's minimum (Z-4) cannot be checked"},
		{"one too weak", checkRadio(of(with(func(r *Radio) { r.MaxStations = 0; r.Stations = []Station{{Grade: "below minimum", Median: -78}} })), 5, name), Warn, "1 station; too weak: P1-07 (-78 dBm)"},
		{"hostapd does not run", checkRadio(of(Radio{State: "silent", Interface: "wlan0", Problem: "hostapd does not run"}), 0, name), Fail, "wlan0 sends no beacons, so nobody has Wi-Fi: hostapd does not run"},
		{"hostapd hangs", checkRadio(of(with(func(r *Radio) { r.Unheard = "hostapd does not answer" })), 5, name), Fail,
			"0 of at most 10 stations, none of them too weak; hostapd of wlan0 has not been heard for a minute, and probably nobody can join meanwhile: hostapd does not answer"},
		{"on another channel", checkRadio(of(with(func(r *Radio) { r.Channel = 11 })), 5, name), Warn,
			"0 of at most 10 stations, none of them too weak; wlan0 is on channel 11, and the configuration says 6"},
		{"on its channel", checkRadio(of(with(func(r *Radio) { r.Channel = 6 })), 5, name), Pass, "0 of at most 10 stations, none of them too weak"},
		{"full", checkRadio(of(with(func(r *Radio) { r.Stations = make([]Station, 10) })), 9, name), Warn, "10 of at most 10 stations, none of them too weak"},
		{"full as planned", checkRadio(of(with(func(r *Radio) { r.Stations, r.Planned = make([]Station, 10), true })), 10, name), Pass, "10 of at most 10 stations, none of them too weak"},
		{"full, and one too weak", checkRadio(of(with(func(r *Radio) {
			r.Stations = make([]Station, 10)
			r.Stations[3] = Station{Grade: "critical", Median: -83}
		})), 9, name), Warn, "10 of at most 10 stations; too weak: P1-07 (-83 dBm)"},
		{"full as planned, and one too weak", checkRadio(of(with(func(r *Radio) {
			r.Stations, r.Planned = make([]Station, 10), true
			r.Stations[3] = Station{Grade: "weak", Median: -74}
		})), 10, name), Warn, "10 of at most 10 stations; too weak: P1-07 (-74 dBm)"},
		{"everything at once", checkRadio(of(with(func(r *Radio) {
			r.Unheard, r.Channel, r.Stations = "hostapd does not answer", 11, []Station{{Grade: "weak", Median: -74}}
		})), 11, name), Fail, "1 of at most 10 stations; too weak: P1-07 (-74 dBm); hostapd of wlan0 has not been heard for a minute, and probably nobody can join meanwhile: hostapd does not answer; wlan0 is on channel 11, and the configuration says 6; the inventory has 11 chargers for it"},
		{"no inventory", checkInventory(nil, 0), Pass, "there is none, so chargers are called by their MAC"},
		{"one not seen", checkInventory([]Charger{is("A", true, charger.OK, &seen), is("B", true, charger.Wifi, nil)}, 2), Warn, "1 of 2 chargers not seen since the daemon started: B"},
		{"all seen", checkInventory([]Charger{is("A", true, charger.OK, &seen), is("B", true, charger.DNS, &seen)}, 2), Pass, "2 chargers, and all were seen"},
		{"nobody strange", checkStrangers([]Charger{is("A", true, charger.OK, &seen)}), Pass, "nobody is here who is not in the inventory"},
		{"a stranger", checkStrangers([]Charger{is("unknown x", false, charger.OK, &seen)}), Warn, "1 device is not in the inventory: 60:15:92:41:00:07"},
		{"nobody seen", checkChargers([]Charger{is("A", true, charger.Wifi, nil)}), Pass, "none has been seen yet"},
		{"one stuck", checkChargers([]Charger{is("A", true, charger.OK, &seen), is("B", true, charger.Cloud, &seen)}), Warn, "1 has stopped short of the cloud: B (missing: cloud)"},
		{"all well", checkChargers([]Charger{is("A", true, charger.OK, &seen)}), Pass, "1 charger talks with the cloud"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.got.result != tt.result || tt.got.found != tt.found {
				t.Errorf("%s: %q, want %s: %q", tt.got.result, tt.got.found, tt.result, tt.found)
			}
			if tt.got.result != Pass && tt.got.do == "" {
				t.Error("nothing is said of what to do")
			}
		})
	}
}

// TestWay goes the way of a charger to real TLS servers.
func TestWay(t *testing.T) {
	t.Parallel()
	const name, own = "api.zaptec.com", "devices.zaptec.com"
	hour := time.Now().Add(time.Hour)
	good := serveTLS(t, ca.issue(t, name, hour))
	expired := serveTLS(t, ca.issue(t, name, time.Now().Add(-time.Minute)))
	other := serveTLS(t, ca.issue(t, "portal.example.com", hour))
	inspector, zaptec := newAuthority(), newAuthority()
	inspected := serveTLS(t, inspector.issue(t, name, hour))
	ownGood := serveTLS(t, zaptec.issue(t, own, hour))
	ownExpired := serveTLS(t, zaptec.issue(t, own, time.Now().Add(-time.Minute)))
	ownOther := serveTLS(t, zaptec.issue(t, "portal.example.com", hour))
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := mute.Addr().(*net.TCPAddr).AddrPort()
	mute.Close()
	tests := []struct {
		name   string
		host   string
		at     netip.AddrPort
		plain  bool
		unsure bool
		addrs  []netip.Addr
		result Result
		found  []string
	}{
		{"all is well", name, good, false, false, nil, Pass, []string{"answers at 127.0.0.1:", "its certificate verifies, until "}},
		{"the first address is dead", name, good, false, false, []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}, Pass, []string{"verifies"}},
		{"expired", name, expired, false, false, nil, Fail, []string{"does not verify", "expired"}},
		{"expired, but who knows the time", name, expired, false, true, nil, Warn, []string{"does not know the time"}},
		{"somebody else's name", name, other, false, false, nil, Fail, []string{"portal.example.com"}},
		{"opened on the way", name, inspected, false, false, nil, Fail, []string{"unknown authority", "issuer CN=test authority"}},
		{"plain is not shaken hands with", name, inspected, true, false, nil, Pass, []string{"answers"}},
		{"nobody listens", name, closed, false, false, nil, Fail, []string{"it cannot be reached from here: refused"}},
		{"nobody listens at either", name, closed, false, false, []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}, Fail, []string{"from here: refused"}},
		{"Zaptec's own authority", own, ownGood, false, false, nil, Pass, []string{"with its own authority's certificate (issuer CN=test authority), as Zaptec's chargers expect"}},
		{"Zaptec's own authority, for another name", own, ownOther, false, false, nil, Fail, []string{"does not verify", "portal.example.com"}},
		{"Zaptec's own authority, expired", own, ownExpired, false, false, nil, Fail, []string{"does not verify", "expired"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(nil)
			h.src.LookupNetIP = func(context.Context, string, string) ([]netip.Addr, error) {
				if tt.addrs != nil {
					return tt.addrs, nil
				}
				return []netip.Addr{tt.at.Addr()}, nil
			}
			s := New(Config{}, h.src, nil)
			got := s.checkWay(t.Context(), policy.Rule{Name: tt.host, Plain: tt.plain, Reason: "Z-9"}, tt.at.Port(), !tt.unsure)
			if got.result != tt.result {
				t.Errorf("%s (%s), want %s", got.result, got.found, tt.result)
			}
			for _, part := range tt.found {
				if !strings.Contains(got.found, part) {
					t.Errorf("found %q, which lacks %q", got.found, part)
				}
			}
			if strings.Contains(got.found, "dial ") || strings.Contains(got.found, "x509") {
				t.Errorf("found %q, which is Go's, not a technician's", got.found)
			}
		})
	}
}

// An inspecting firewall answers for every name by its own authority: then the
// own authority of one of them proves nothing.
func TestAnInspectorIsNotZaptec(t *testing.T) {
	t.Parallel()
	inspector := newAuthority()
	until := time.Now().Add(time.Hour)
	own, api := serveTLS(t, inspector.issue(t, "devices.zaptec.com", until)), serveTLS(t, inspector.issue(t, "api.zaptec.com", until))
	public := serveTLS(t, ca.issue(t, "zapcloud-api.azurewebsites.net", until))
	h := newHouse(nil)
	hosts := map[string]netip.AddrPort{"192.0.2.1:443": own, "192.0.2.2:443": api, "192.0.2.3:443": public}
	h.src.LookupNetIP = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		at, ok := map[string]string{"devices.zaptec.com": "192.0.2.1", "api.zaptec.com": "192.0.2.2", "zapcloud-api.azurewebsites.net": "192.0.2.3"}[host]
		if !ok {
			return nil, errors.New("NXDOMAIN")
		}
		return []netip.Addr{netip.MustParseAddr(at)}, nil
	}
	h.src.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, hosts[address].String())
	}
	s := New(Config{}, h.src, nil)
	got := s.checkWay(t.Context(), policy.Rule{Name: "devices.zaptec.com", Reason: "Z-9"}, 443, true)
	if got.result != Fail || !strings.Contains(got.found, "that also answers for api.zaptec.com") {
		t.Errorf("%s: %q, want a failure", got.result, got.found)
	}
}

// Doctor sends nothing to an address that a charger would not be let out to, and says
// what egress says of it.
func TestDoctorDialsWhatEgressWould(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	h.src.LookupNetIP = func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.168.7.7"), netip.MustParseAddr("127.0.0.1")}, nil
	}
	var dialled atomic.Int64
	h.src.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
		dialled.Add(1)
		return nil, errors.New("dialled " + address)
	}
	const why, do = "192.168.7.7 is private and the rule does not name it", "Name it."
	h.src.Dialable = func(name string, port uint16, addrs []netip.Addr) ([]netip.Addr, string, string) {
		if name == "ocpp.example.com" && port == 443 && len(addrs) == 2 {
			return nil, why, do
		}
		return addrs[1:], "", ""
	}
	s := New(Config{}, h.src, nil)
	rule := policy.Rule{Name: "ocpp.example.com", Ports: []uint16{443, 8080}, Reason: "test"}
	if got, want := s.checkWay(t.Context(), rule, 443, true), fail(do, why); got != want || dialled.Load() != 0 {
		t.Errorf("%+v, dialled %d times; want %+v", got, dialled.Load(), want)
	}
	if got := s.checkWay(t.Context(), rule, 8080, true); !strings.HasSuffix(got.found, "dialled 127.0.0.1:8080") || dialled.Load() != 1 {
		t.Errorf("%+v, dialled %d times; want the one that may be", got, dialled.Load())
	}
}

// Why a name does not resolve decides what is to be done.
func TestUnresolvedNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err       error
		found, do string
	}{
		{&net.DNSError{Err: "no DNS server knows this name: check its spelling", Name: "x.example.com", IsNotFound: true},
			"it cannot be resolved: no DNS server knows this name: check its spelling", "Check its spelling"},
		{&net.DNSError{Err: "it gives only 127.0.0.1", Name: "x.example.com", UnwrapErr: falsely{}},
			"it cannot be resolved: it gives only 127.0.0.1", "The DNS server gives a false answer"},
		{&net.DNSError{Err: "SERVFAIL", Name: "x.example.com", IsTemporary: true}, "it cannot be resolved: SERVFAIL", "See the check of the DNS servers"},
	} {
		h := newHouse(nil)
		h.src.LookupNetIP = func(context.Context, string, string) ([]netip.Addr, error) { return nil, tt.err }
		if got := New(Config{}, h.src, nil).checkName(t.Context(), "x.example.com"); got.found != tt.found || !strings.HasPrefix(got.do, tt.do) {
			t.Errorf("%q: %q", got.found, got.do)
		}
	}
}

type falsely struct{}

func (falsely) Error() string          { return "false" }
func (falsely) Unusable() []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} }

func TestInWords(t *testing.T) {
	t.Parallel()
	socket := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp4", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 8883}, Err: err}
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{socket(os.NewSyscallError("connect", syscall.ECONNREFUSED)), "refused"},
		{socket(os.ErrDeadlineExceeded), "no answer within 3 s"},
		{socket(context.DeadlineExceeded), "no answer within 3 s"},
		{socket(os.NewSyscallError("connect", syscall.ETIMEDOUT)), "no answer within 3 s"},
		{socket(os.NewSyscallError("connect", syscall.ENETUNREACH)), "no route leads there"},
		{socket(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), "somebody on the way says that it cannot be reached"},
		{socket(os.NewSyscallError("read", syscall.ECONNRESET)), "cut off (reset)"},
		{io.EOF, "closed without an answer"},
		{socket(os.NewSyscallError("connect", syscall.EPERM)), "forbidden by this box's own firewall"},
		{socket(errors.New("odd")), "odd"},
	} {
		if got := inWords(tt.err, 3*time.Second); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
	for text, want := range map[string]string{
		"asking 10.0.0.1:53 for api.zaptec.com: read udp 10.0.0.2:40211->10.0.0.1:53: i/o timeout": "asking 10.0.0.1:53 for api.zaptec.com: no answer",
		"dial tcp4 :0->10.0.0.1:53: connect: connection refused":                                   "refused",
		"dial udp 10.0.0.1:53: connect: network is unreachable":                                    "network is unreachable",
		"remote error: tls: handshake failure":                                                     "the other side says: handshake failure",
		"2 of 2 DNS servers do not answer":                                                         "2 of 2 DNS servers do not answer",
	} {
		if got := plainText(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	silent, said := "no answer within 3 s", "refused"
	for want, whys := range map[string][]string{
		silent:                                {silent},
		"a: refused; b: no answer within 3 s": {said, silent},
		"none of 32 addresses answers within 3 s":          append(slices.Repeat([]string{silent}, 31), "no answer within 1 s"),
		"refused, at each of 6 addresses":                  slices.Repeat([]string{said}, 6),
		"1 address: refused; 9 addresses: " + silent:       append([]string{said}, slices.Repeat([]string{silent}, 9)...),
		"a: refused; b: refused; c: refused; d: " + silent: {said, said, said, silent},
	} {
		at := strings.Split("abcdefghijklmnopqrstuvwxyzABCDEF", "")[:len(whys)]
		if got := joined(at, whys); got != want {
			t.Errorf("joined: %q, want %q", got, want)
		}
	}
}

// What a technician is told to do about a clock fits what is wrong with it.
func TestWhatHelpsTheClock(t *testing.T) {
	t.Parallel()
	unknown := func(reason string, sources ...string) Clock {
		return Clock{Reason: reason, Sources: clockWith(sources...).Sources}
	}
	far := unknown("the clock may be wrong by 33m20s, the limit is 1s", "selected 377")
	far.Offset, far.RootDistance = Seconds(-2000*time.Second), Seconds(2000*time.Second)
	uncertain := far
	uncertain.Offset = Seconds(time.Millisecond)
	none := Clock{Reason: "the clock is not synchronised", Sources: []TimeSource{}}
	for _, tt := range []struct {
		name      string
		clock     Clock
		found, do string
		own       bool // it is this box's own fault, whatever the uplink does
	}{
		{"chronyd does not run", unknown("chronyd does not run"), "does not run", "sudo systemctl restart chrony", true},
		{"it hangs", unknown("chronyd does not answer"), "does not answer", "sudo systemctl restart chrony", true},
		{"it talks nonsense", unknown("chronyd gives no usable answer"), "no usable answer", "sudo systemctl restart chrony", true},
		{"it has no source", none, "; chronyd has no source", "/etc/chrony/chrony.conf", true},
		{"it does not tell its sources", Clock{Reason: "the clock is not synchronised"}, "synchronised", "UDP port 123", false},
		{"no source answers", unknown("the clock is not synchronised", "unreachable 0"), "its only source does not answer", "UDP port 123", false},
		{"its sources are being compared", unknown("the clock is not synchronised", "unusable 3", "unusable 3"), "2 of 2", "being compared", false},
		{"two contradict each other", unknown("the clock is not synchronised", "falseticker 377", "falseticker 377", "unreachable 0"), "; its 2 sources contradict each other", "Add a third: a line \"server NAME iburst\"", false},
		{"four do", unknown("the clock is not synchronised", "falseticker 7", "falseticker 7", "falseticker 7", "falseticker 7"), "; its 4 sources contradict one another", "add another", false},
		{"one of two disagrees", unknown("the clock is not synchronised", "falseticker 377", "unusable 377"), "2 of 2", "being compared", false},
		{"it is far off and its source is good", far, "1 of 1 source answers", "off by 33m20s and is being turned slowly. To set it at once: sudo chronyc makestep.", false},
		{"it is uncertain and its source is good", uncertain, "1 of 1 source answers", "being compared", false},
		{"the kernel's is not disciplined", Clock{Source: "kernel", Reason: "the clock is not synchronised"}, "synchronised", "timedatectl. It must say: System clock synchronized: yes.", false},
		{"the kernel's may not be read", Clock{Source: "kernel", Reason: "this service may not read the kernel's clock (kernel-clock.conf)"}, "kernel-clock.conf", "sudo install -D -m 644 /usr/share/doc/chargegate/kernel-clock.conf", true},
		{"its only source is silent, and it is still right", clockWith("selected 0"), "its only source does not answer", "UDP port 123", false},
		{"its only source answers", clockWith("selected 377"), "1 of 1 source answers", "Add others: a line", false},
		{"one of two sources is silent", clockWith("selected 377", "unreachable 0"), "1 of 2", "UDP port 123", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := checkClock(tt.clock); !strings.Contains(got.found, tt.found) || !strings.Contains(got.do, tt.do) {
				t.Errorf("found %q, advises %q; want %q and %q", got.found, got.do, tt.found, tt.do)
			}
			st := Status{Clock: &tt.clock, Link: &Link{Interface: "eth0", Known: true, Missing: "no cable", Do: "Plug it in."}}
			for _, tr := range troubles(st) {
				if own := !strings.Contains(tr.Do, "uplink"); tr.About == AboutClock && own != tt.own {
					t.Errorf("while the uplink is down it advises %q", tr.Do)
				}
			}
		})
	}
}

func TestDoctorDoesNotTryWhatCannotWork(t *testing.T) {
	t.Parallel()
	short := func(h *house) (out []string) {
		for _, c := range New(Config{}, h.src, nil).doctor(t.Context(), nil).Checks[:5] {
			out = append(out, string(c.Result)+" "+c.Name+": "+c.Found)
		}
		return out
	}
	const names = "zapcloud.azure-devices.net, zapcloud-api.azurewebsites.net, devices.zaptec.com, api.zaptec.com"
	const ways = "not tried: zapcloud.azure-devices.net:8883, zapcloud-api.azurewebsites.net:443, devices.zaptec.com:443, api.zaptec.com:443, because "
	h := newHouse(twoChargers())
	h.src.Clock = func() Clock { return Clock{Reason: "chronyd does not run"} }
	h.src.Link = func() Link { return Link{Interface: "eth0", Known: true, Missing: "no cable", Do: "Plug it in."} }
	h.src.Uplink = func() Uplink { return Uplink{Servers: 2} } // nobody has asked since
	h.src.LookupNetIP = func(context.Context, string, string) ([]netip.Addr, error) {
		t.Error("a name was asked for though the uplink is down")
		return nil, nil
	}
	want := []string{
		"fail uplink: eth0: no cable",
		"fail clock: this box does not know the time, so chargers are given none: chronyd does not run",
		"warn names: not tried: " + names + ", because the uplink is down",
		"warn ways: " + ways + "the uplink is down",
		"warn inventory: 2 of 2 chargers not seen since the daemon started: P1-07, P1-08",
	}
	if diff := cmp.Diff(want, short(h)); diff != "" {
		t.Errorf("with the uplink down (-want +got):\n%s", diff)
	}

	// The servers are found to be silent only by asking.
	h.src.Link = func() Link {
		return Link{Interface: "eth0", Known: true, Up: true, Address: netip.MustParseAddr("203.0.113.2")}
	}
	var lost atomic.Int64
	h.src.Uplink = func() Uplink {
		return Uplink{Servers: 1, Lost: int(lost.Load()), Problem: "asking 10.0.0.1:53: read udp 10.0.0.2:4->10.0.0.1:53: i/o timeout"}
	}
	h.src.LookupNetIP = func(context.Context, string, string) ([]netip.Addr, error) {
		lost.Store(1)
		return nil, &net.DNSError{Err: "i/o timeout", Name: "x", IsTimeout: true}
	}
	want = []string{
		"ok uplink: eth0 has a link, the address 203.0.113.2 and a default route",
		"fail dns servers: the only DNS server does not answer",
		"fail clock: this box does not know the time, so chargers are given none: chronyd does not run",
		"fail names: none can be resolved: " + names,
		"warn ways: " + ways + "no DNS server gives an answer",
	}
	if diff := cmp.Diff(want, short(h)); diff != "" {
		t.Errorf("with the servers silent (-want +got):\n%s", diff)
	}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	h.src.Clock = func() Clock { return Clock{Reason: "chronyd does not answer"} }
	h.src.Uplink = func() Uplink { return Uplink{Servers: 1} }
	h.src.LookupNetIP = func(_ context.Context, network, host string) ([]netip.Addr, error) {
		if network != "ip4" || host == policy.Hub {
			return nil, errors.New("SERVFAIL")
		}
		return []netip.Addr{netip.MustParseAddr("192.0.2.7")}, nil
	}
	h.src.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
		if strings.HasPrefix(address, "192.0.2.7:") {
			panic("defect") // must not take the others with it
		}
		return nil, errors.New("no route")
	}
	a := h.open(t)
	var whole Doctor
	if code := a.get("/v1/doctor", &whole); code != http.StatusOK {
		t.Fatalf("answered %d", code)
	}
	short := func(checks []Check) (out []string) {
		for _, c := range checks {
			out = append(out, string(c.Result)+" "+c.Name+": "+c.Found)
		}
		return out
	}
	want := []string{
		"ok dns servers: 1 server is asked, and none fails",
		"fail clock: this box does not know the time, so chargers are given none: chronyd does not answer",
		"fail name zapcloud.azure-devices.net: it cannot be resolved: SERVFAIL",
		"ok name zapcloud-api.azurewebsites.net: 192.0.2.7",
		"ok name devices.zaptec.com: 192.0.2.7",
		"ok name api.zaptec.com: 192.0.2.7",
		"fail way zapcloud.azure-devices.net:8883: the name does not resolve, so it was not tried",
		"fail way zapcloud-api.azurewebsites.net:443: the check itself failed",
		"fail way devices.zaptec.com:443: the check itself failed",
		"fail way api.zaptec.com:443: the check itself failed",
		"warn inventory: 2 of 2 chargers not seen since the daemon started: P1-07, P1-08",
		"ok strangers: nobody is here who is not in the inventory",
		"ok chargers: none has been seen yet",
	}
	if diff := cmp.Diff(want, short(whole.Checks)); diff != "" || whole.OK {
		t.Errorf("all well: %v; checks (-want +got):\n%s", whole.OK, diff)
	}

	resp, err := a.client.Get("http://chargegate/v1/doctor?stream=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var streamed []Check
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		var c Check
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatalf("%v in %s", err, lines.Bytes())
		}
		streamed = append(streamed, c)
	}
	if diff := cmp.Diff(want, short(streamed)); diff != "" {
		t.Errorf("streamed (-want +got):\n%s", diff)
	}
	last := h.log.Recent(0, "")
	if got := last[len(last)-1]; got.Kind != event.DoctorFinished || !strings.Contains(got.Message, "6 failed (clock, ") {
		t.Errorf("said %q", got.Message)
	}
}

func TestDoctorOneAtATimeAndEndsWithTheHouse(t *testing.T) {
	t.Parallel()
	h := newHouse(nil)
	began := make(chan struct{}, 100)
	h.src.LookupNetIP = func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	a := h.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://chargegate/v1/doctor", nil)
		resp, err := a.client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		gone <- err
	}()
	<-began
	var got Fault
	if code := a.get("/v1/doctor", &got); code != http.StatusTooManyRequests || got.Right == "" {
		t.Errorf("a second doctor was answered %d: %+v", code, got)
	}
	// Whoever asked gives up: the checks end, and the next may begin.
	cancel()
	if err := <-gone; err == nil {
		t.Error("the answer came after all")
	}
	a.server.checkers <- struct{}{}
	<-a.server.checkers
}
