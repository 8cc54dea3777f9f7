package config_test

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"chargegate/pkg/config"
	"chargegate/pkg/policy"
	"chargegate/pkg/resolver"
	"chargegate/pkg/signal"
)

var update = flag.Bool("update", false, "write the golden files anew")

// good has no fault; tests change single lines of it.
const good = `[site]
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

[uplink]
interface = "eth0"
`

// home is a machine whose uplink hangs on a router of the usual kind.
func home(prefixes ...string) config.Env {
	return config.Env{Uplink: func(iface string) []netip.Prefix {
		if iface != "eth0" {
			return nil
		}
		out := []netip.Prefix{netip.MustParsePrefix("192.168.1.20/24"), netip.MustParsePrefix("2001:db8::5/64")}
		for _, p := range prefixes {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}}
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte(text), "/etc/chargegate/chargegate.toml", home())
	if err != nil {
		t.Fatalf("parsing:\n%v", err)
	}
	return c
}

func TestEveryFaultHasItsMessage(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) < 80 {
		t.Fatalf("%d broken configurations, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".toml"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c, err := config.Parse(text, filepath.Base(path), home())
			if err == nil {
				t.Fatalf("no fault was found: %+v", c)
			}
			checkPlaces(t, text, err)
			golden(t, strings.TrimSuffix(path, ".toml")+".golden", err.Error()+"\n")
		})
	}
}

// checkPlaces fails unless every fault stands where the file has text.
func checkPlaces(t *testing.T, text []byte, err error) {
	t.Helper()
	var faults config.Faults
	if !errors.As(err, &faults) || len(faults) == 0 {
		t.Fatalf("%T is not a list of faults", err)
	}
	lines := strings.Split(string(text), "\n")
	for _, f := range faults {
		if f.Line < 1 || f.Column < 1 || f.Line > len(lines) || f.Column > len(lines[f.Line-1])+1 {
			t.Errorf("%d:%d is nowhere in the file: %v", f.Line, f.Column, f)
		}
		if f.Text == "" || strings.ContainsAny(f.Error(), "\n") {
			t.Errorf("a fault is one line: %q", f.Error())
		}
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
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

func TestFaultsSpeakOfNoGoTypesAndNoSecrets(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.golden")
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"int64", "uint", "struct", "[]", "netip", "interface {", "unmarshal", "hunter2", "correct horse", "1234567890"} {
			if strings.Contains(strings.ReplaceAll(string(text), "(want [])", ""), word) {
				t.Errorf("%s says %q:\n%s", path, word, text)
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	c := parse(t, good)
	type defaults struct {
		Gateway               netip.Prefix
		Lease                 time.Duration
		Upstreams             []resolver.Upstream
		Source                string
		Signal                signal.Limits
		Metrics, Level, Forms string
		Inventory             string
		Rules                 int
	}
	got := defaults{c.Networks[0].Gateway, c.DHCP.Lease, c.DNS.Upstreams, c.NTP.Source, c.Radio.Signal,
		c.Status.Metrics.String(), c.Log.Level.String(), c.Log.Format, c.Inventory, len(c.Rules)}
	want := defaults{netip.MustParsePrefix("10.83.0.1/26"), 12 * time.Hour, []resolver.Upstream{{System: true}}, "chrony", signal.Limits{Warn: -74, Minimum: -75, Critical: -80, Window: 5 * time.Minute, WeakAfter: 10 * time.Minute, BelowAfter: 5 * time.Minute},
		"127.0.0.1:9180", "info", "auto", "", len(policy.Zaptec())}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}, resolver.Upstream{})); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
}

func TestRoomsAreFurnished(t *testing.T) {
	c := parse(t, good+`allow = ["ssh", 2222]

[[network]]
name = "P2"
interface = "eth1"
chargers = 40
address = "172.20.0.1/24"
relays = ["172.20.0.250", "172.20.0.251"]

[[egress.allow]]
name = "ocpp.example.com"
ports = [8443, 443]
reason = "operator's OCPP"

[dns]
upstreams = ["system", "1.1.1.1", "192.168.1.1:5353", "tls://9.9.9.9#dns.quad9.net", "[2606:4700::1111]:53"]
`)
	p1, p2 := netip.MustParsePrefix("10.83.0.1/26"), netip.MustParsePrefix("172.20.0.1/24")
	ports := func(port uint16) []netip.AddrPort {
		return []netip.AddrPort{netip.AddrPortFrom(p1.Addr(), port), netip.AddrPortFrom(p2.Addr(), port)}
	}
	same := func(what string, want, got any) {
		t.Helper()
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}, netip.AddrPort{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	same("DNS listens", append(ports(53), resolver.House), c.DNS.Listen)
	same("gateways", []netip.Prefix{p1, p2}, c.DNS.Gateways)
	same("NTP listens", ports(123), c.NTP.Listen)
	same("egress listens", ports(18443), c.Egress.Listen)
	same("egress serves", []netip.Prefix{p1.Masked(), p2.Masked()}, c.Egress.Networks)
	same("firewall ports", []uint16{443, 8443, 8883}, c.Denied.Ports)
	same("uplink ports", []uint16{22, 2222}, c.Denied.UplinkPorts)
	same("pools", 2, len(c.Pools))
	same("relay agents and other boxes only where no radio is ours", []bool{true, false}, []bool{c.DHCP.Networks[0].OwnRadio, c.DHCP.Networks[1].OwnRadio})
	same("relay agents", [][]netip.Addr{nil, {netip.MustParseAddr("172.20.0.250"), netip.MustParseAddr("172.20.0.251")}}, [][]netip.Addr{c.DHCP.Networks[0].Relays, c.DHCP.Networks[1].Relays})
	same("radios", 1, len(c.Radio.Networks))
	same("stations", 19, c.Radio.Networks[0].MaxStations)
	same("upstreams", []resolver.Upstream{
		{System: true}, {Addr: netip.MustParseAddrPort("1.1.1.1:53")}, {Addr: netip.MustParseAddrPort("192.168.1.1:5353")},
		{Addr: netip.MustParseAddrPort("9.9.9.9:853"), TLSName: "dns.quad9.net"}, {Addr: netip.MustParseAddrPort("[2606:4700::1111]:53")},
	}, c.DNS.Upstreams)
}

func TestAutoChoosesTheFirstFreeSubnet(t *testing.T) {
	network := func(name, rest string) string {
		return "[[network]]\nname = \"" + name + "\"\ninterface = \"" + strings.ToLower(name) + "\"\n" + rest + "\n"
	}
	frame := "[site]\nname = \"x\"\n[uplink]\ninterface = \"eth0\"\n"
	for name, tc := range map[string]struct {
		networks string
		uplink   []string
		want     []string
	}{
		"alone":                           {network("A", "chargers = 14"), nil, []string{"10.83.0.1/26"}},
		"a growing one keeps its gateway": {network("A", "chargers = 1000"), nil, []string{"10.83.0.1/21"}},
		"and its neighbour's":             {network("A", "chargers = 300") + network("B", "chargers = 2"), nil, []string{"10.83.0.1/23", "10.83.16.1/26"}},
		"a written one is passed over":    {network("A", "chargers = 2") + network("B", "chargers = 2\naddress = \"10.83.0.1/24\""), nil, []string{"10.83.16.1/26", "10.83.0.1/24"}},
		"the uplink is passed over":       {network("A", "chargers = 2"), []string{"10.83.0.77/24"}, []string{"10.83.16.1/26"}},
		"a large uplink":                  {network("A", "chargers = 2"), []string{"10.0.0.5/8"}, []string{"172.16.0.1/26"}},
		"nearly nothing is left":          {network("A", "chargers = 2"), []string{"10.0.0.5/8", "172.16.0.1/12"}, []string{"192.168.0.1/26"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := config.Parse([]byte(frame+tc.networks), "x.toml", home(tc.uplink...))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, n := range c.Networks {
				got = append(got, n.Gateway.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("gateways (-want +got):\n%s", diff)
			}
		})
	}
	_, err := config.Parse([]byte(frame+network("A", "chargers = 2")), "x.toml", home("10.0.0.5/8", "172.16.0.1/12", "192.168.0.1/16"))
	if err == nil || !strings.Contains(err.Error(), "no private subnet is free") {
		t.Errorf("nothing free: %v", err)
	}
}

func TestForcedPatternIsTakenOver(t *testing.T) {
	c := parse(t, good+"\n[[egress.allow]]\nname = \"*.azure-devices.net\"\nports = [8883]\nreason = \"lab\"\nforce = true\n")
	if r := c.Rules[len(c.Rules)-1]; r.Name != "*.azure-devices.net" {
		t.Errorf("last rule: %+v", r)
	}
}

// What is exact is one tenant's own, and other patterns hold nobody else's
// names: neither needs force.
func TestWhatIsNotSharedNeedsNoForce(t *testing.T) {
	for _, name := range []string{"Other.Azure-Devices.NET", "my.hub.azure-devices.net", "azurewebsites.net", "*.zaptec.com", "*.notazure-devices.net", "*.ocpp.example.com"} {
		c := parse(t, good+"\n[[egress.allow]]\nname = \""+name+"\"\nports = [443]\nreason = \"lab\"\n")
		if r := c.Rules[len(c.Rules)-1]; r.Name != name {
			t.Errorf("last rule: %+v", r)
		}
	}
}

func TestHowOftenEachDeviceMayAsk(t *testing.T) {
	type limits struct {
		DNS, NTP int
		Error    time.Duration
	}
	for text, want := range map[string]limits{
		"": {20, 1, time.Second},
		"\n[dns]\nrate = 1\n[ntp]\nrate = 1000000\nmax_error = \"10ms\"\n":  {1, 1_000_000, 10 * time.Millisecond},
		"\n[dns]\nrate = 1_000_000\n[ntp]\nrate = 5\nmax_error = \"10s\"\n": {1_000_000, 5, 10 * time.Second},
	} {
		c := parse(t, good+text)
		if got := (limits{c.DNS.Rate, c.NTP.Rate, c.NTP.MaxDistance}); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestHowSignalsAreJudged(t *testing.T) {
	c := parse(t, good+"\n[signal]\nwarn = -70\nminimum = -72\ncritical = -78\nwindow = \"1m\"\nweak_after = \"24h\"\nbelow_after = \"0s\"\nuplink_offset_db = -20\n")
	want := signal.Limits{Warn: -70, Minimum: -72, Critical: -78, Window: time.Minute, WeakAfter: 24 * time.Hour, UplinkOffset: -20}
	if diff := cmp.Diff(want, c.Radio.Signal); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	live, restart := parse(t, good).Diff(c)
	keys := []string{"signal.warn", "signal.minimum", "signal.critical", "signal.window", "signal.weak_after", "signal.below_after", "signal.uplink_offset_db"}
	if !slices.Equal(live, keys) || len(restart) > 0 {
		t.Errorf("taken over by a reload: %q, by a restart: %q", live, restart)
	}
}

func TestLoadSaysWhyTheFileCannotBeRead(t *testing.T) {
	_, err := config.Load(filepath.Join(t.TempDir(), "none.toml"))
	var faults config.Faults
	if !errors.As(err, &faults) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%T %v", err, err)
	}
}

func TestAllChargersMayCallAtOnceAfterAPowerCut(t *testing.T) {
	for chargers, want := range map[int]int{16: 512, 192: 512, 250: 628, 1000: 2128} {
		text := fmt.Sprintf("[site]\nname = \"x\"\n[[network]]\nname = \"P1\"\ninterface = \"eth1\"\nchargers = %d\n[uplink]\ninterface = \"eth0\"\n", chargers)
		cfg, err := config.Parse([]byte(text), "x.toml", config.Env{})
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Egress.Total != want {
			t.Errorf("%d chargers may hold %d conversations, want %d", chargers, cfg.Egress.Total, want)
		}
	}
}

// A private address of a server that a rule names is no place for the chargers.
func TestAddressesOfARule(t *testing.T) {
	rule := "\n[[egress.allow]]\nname = \"ocpp.example.com\"\nports = [443]\nreason = \"lab\"\naddresses = "
	c := parse(t, good+rule+`["10.1.2.3", "192.168.7.0/24", "172.16.0.0/12", "100.64.1.0/24"]`+"\n")
	want := []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("192.168.7.0/24"),
		netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("100.64.1.0/24")}
	if got := c.Rules[len(c.Rules)-1].Addresses; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if c := parse(t, good+rule+"[]\n"); len(c.Rules[len(c.Rules)-1].Addresses) != 0 {
		t.Error("an empty list names something")
	}
	// address = "auto" stays where it is.
	was := parse(t, good).Networks[0].Gateway.Masked()
	for addresses, want := range map[string]string{
		`["10.1.2.3", "10.83.0.2"]`:    `"10.83.0.2" lies in network P1, ` + was.String() + `, the chargers' own, where nothing is ever dialled; write the server's own address, or give P1 another subnet`,
		`["10.1.2.3", "10.0.0.0/8"]`:   `"10.0.0.0/8" overlaps network P1, where nothing is ever dialled; write the server's own address instead: a wide subnet collides with the chargers' network ` + was.String(),
		`["10.1.2.3", "10.83.1.0/24"]`: "",
	} {
		text := good + rule + addresses + "\n"
		c, err := config.Parse([]byte(text), "x.toml", home())
		var faults config.Faults
		switch {
		case want == "" && (err != nil || c.Networks[0].Gateway.Masked() != was):
			t.Errorf("%s moves the chargers, or is a fault: %v", addresses, err)
		case want == "":
		case !errors.As(err, &faults) || len(faults) != 1 || !strings.HasSuffix(faults[0].Text, want) ||
			faults[0].Line != strings.Count(good+rule, "\n")+1 || faults[0].Column != strings.Index("addresses = "+addresses, "\", \"")+4:
			t.Errorf("%s: %v", addresses, err)
		}
	}
}
