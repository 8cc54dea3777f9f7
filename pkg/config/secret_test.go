package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/config"
	"chargegate/pkg/event"
)

const passphrase = "correct horse battery"

// site writes a configuration with its files into a directory of its own.
func site(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "chargegate.toml")
}

func load(t *testing.T, path string) *config.Config {
	t.Helper()
	c, err := config.Load(path)
	if err != nil {
		t.Fatalf("loading:\n%v", err)
	}
	return c
}

func TestSecretIsRevealedToRenderOnly(t *testing.T) {
	for ending, text := range map[string]string{"nothing": passphrase, "a line end": passphrase + "\n", "a Windows line end": passphrase + "\r\n"} {
		c := load(t, site(t, map[string]string{"chargegate.toml": good, "p1.psk": text}))
		got, err := c.Networks[0].Radio.Passphrase.Reveal()
		if err != nil || got != passphrase {
			t.Errorf("with %s behind it: %q, %v", ending, got, err)
		}
	}
}

func TestSecretNeverPrints(t *testing.T) {
	c := load(t, site(t, map[string]string{"chargegate.toml": good, "p1.psk": passphrase}))
	s := c.Networks[0].Radio.Passphrase
	if _, err := s.Reveal(); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, verb+"\n", s)
		fmt.Fprintf(&b, verb+"\n", *c.Networks[0].Radio)
	}
	fmt.Fprintf(&b, "%+v %#v", c, c.Networks)
	asJSON, err := json.Marshal(c.Networks)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(asJSON)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "secret", s, "radio", c.Networks[0].Radio)
	if strings.Contains(b.String(), passphrase) {
		t.Errorf("the passphrase was printed:\n%s", b.String())
	}
	if !strings.Contains(b.String(), "file:p1.psk") {
		t.Errorf("the place was not printed:\n%s", b.String())
	}
}

func TestCheckFilesSaysWhatIsWrongWithTheFiles(t *testing.T) {
	inventory := strings.Replace(good, "[[network]]", "inventory = \"chargers.csv\"\n\n[[network]]", 1)
	for name, tc := range map[string]struct {
		files map[string]string
		mode  os.FileMode
		want  string // after the directory; empty: no fault
	}{
		"all well":                          {map[string]string{"chargegate.toml": good, "p1.psk": passphrase}, 0o600, ""},
		"readable by the group":             {map[string]string{"chargegate.toml": good, "p1.psk": passphrase}, 0o640, ""},
		"readable by all":                   {map[string]string{"chargegate.toml": good, "p1.psk": passphrase}, 0o644, "chargegate.toml:10:14: network[1].radio.passphrase: DIR/p1.psk can be read by everybody on this machine; run: chmod 0600 DIR/p1.psk"},
		"missing":                           {map[string]string{"chargegate.toml": good}, 0, "chargegate.toml:10:14: network[1].radio.passphrase: reading the passphrase: stat DIR/p1.psk: no such file or directory; make it: sudo sh -c 'umask 077; read -r p; printf %s \"$p\" > DIR/p1.psk'"},
		"7 characters":                      {map[string]string{"chargegate.toml": good, "p1.psk": "short77"}, 0o600, "chargegate.toml:10:14: network[1].radio.passphrase: DIR/p1.psk holds 7 characters; 8 to 63 are needed"},
		"64 characters":                     {map[string]string{"chargegate.toml": good, "p1.psk": strings.Repeat("a", 64)}, 0o600, "chargegate.toml:10:14: network[1].radio.passphrase: DIR/p1.psk holds 64 characters; 8 to 63 are needed"},
		"two lines":                         {map[string]string{"chargegate.toml": good, "p1.psk": passphrase + "\nwpa=0\n"}, 0o600, "chargegate.toml:10:14: network[1].radio.passphrase: DIR/p1.psk holds more than one line; the passphrase stands on one"},
		"letters that chargers cannot send": {map[string]string{"chargegate.toml": good, "p1.psk": "lösenordet"}, 0o600, "chargegate.toml:10:14: network[1].radio.passphrase: DIR/p1.psk holds characters that chargers cannot send; allowed are printable ASCII characters: letters a to z, digits, the usual signs"},
		"inventory missing":                 {map[string]string{"chargegate.toml": inventory, "p1.psk": passphrase}, 0o600, "chargegate.toml:4:13: site.inventory: DIR/chargers.csv cannot be read: no such file or directory; put the list there, or correct the path"},
		"inventory without a header":        {map[string]string{"chargegate.toml": inventory, "p1.psk": passphrase, "chargers.csv": "# level 1\n60:15:92:41:00:01,P1-01\n"}, 0o600, "chargers.csv:2:1: the first line must name the columns, like: mac,name,serial,model"},
		"inventory": {map[string]string{"chargegate.toml": inventory, "p1.psk": passphrase, "chargers.csv": "mac,name\n60:15:92:41:00:01,P1-01\nnonsense,P1-02\n"}, 0o600,
			"chargers.csv:3:1: \"nonsense\" is not a MAC address; write six pairs of hexadecimal digits, like 60:15:92:41:00:07"},
		"inventory with another network": {map[string]string{"chargegate.toml": inventory, "p1.psk": passphrase, "chargers.csv": "mac,name,network\n60:15:92:41:00:01,P1-01,P9\n"}, 0o600,
			"chargers.csv:2:1: P1-01 belongs to network \"P9\", which the configuration does not have"},
	} {
		t.Run(name, func(t *testing.T) {
			path := site(t, tc.files)
			dir := filepath.Dir(path)
			if tc.mode != 0 {
				if err := os.Chmod(filepath.Join(dir, "p1.psk"), tc.mode); err != nil {
					t.Fatal(err)
				}
			}
			err := load(t, path).CheckFiles()
			got := ""
			if err != nil {
				got = strings.TrimPrefix(err.Error(), dir+"/")
			}
			if want := strings.ReplaceAll(tc.want, "DIR", dir); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestCredentialIsReadFromSystemdsDirectory(t *testing.T) {
	text := strings.Replace(good, "file:p1.psk", "credential:p1", 1)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p1"), []byte(passphrase), 0o444); err != nil {
		t.Fatal(err)
	}
	env := home()
	env.Credentials = dir
	c, err := config.Parse([]byte(text), "x.toml", env)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Networks[0].Radio.Passphrase.Reveal(); got != passphrase || err != nil {
		t.Errorf("inside a unit: %q, %v", got, err)
	}

	// From the system's store it comes with our prefix, so that nobody else's is taken.
	env.Credentials = t.TempDir()
	if c, err = config.Parse([]byte(text), "x.toml", env); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Networks[0].Radio.Passphrase.Reveal(); err == nil || !strings.Contains(err.Error(), "systemd-creds encrypt --name=chargegate.p1 - /etc/credstore.encrypted/chargegate.p1;") {
		t.Errorf("a credential that is not there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(env.Credentials, "chargegate.p1"), []byte("from the store"), 0o444); err != nil {
		t.Fatal(err)
	}
	if c, err = config.Parse([]byte(text), "x.toml", env); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Networks[0].Radio.Passphrase.Reveal(); got != "from the store" || err != nil {
		t.Errorf("from the store: %q, %v", got, err)
	}

	outside, err := config.Parse([]byte(text), "x.toml", home())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := outside.Networks[0].Radio.Passphrase.Reveal(); err == nil {
		t.Error("outside a unit the credential was revealed")
	}
	if err := outside.CheckFiles(); err != nil {
		t.Errorf("outside a unit it cannot be checked, and is no fault: %v", err)
	}
}

func TestDiffTellsReloadFromRestart(t *testing.T) {
	change := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the configuration", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	rule := "\n[[egress.allow]]\nname = \"ocpp.example.com\"\nports = [443]\nreason = \"OCPP\"\n"
	for name, tc := range map[string]struct{ next, live, restart string }{
		"nothing":              {good, "", ""},
		"inventory":            {change("[[network]]", "inventory = \"c.csv\"\n[[network]]"), "site.inventory", ""},
		"rule on a known port": {good + rule, "egress.allow", ""},
		"rule on a new port":   {good + strings.Replace(rule, "443", "443, 8443", 1), "egress.allow", "egress.allow (its ports)"},
		"an address":           {change("chargers = 16", "address = \"10.83.0.1/26\"\nchargers = 16"), "", ""},
		"another address":      {change("chargers = 16", "address = \"10.84.0.1/26\"\nchargers = 16"), "", "network.P1.address"},
		"rule's addresses":     {good + rule + "addresses = [\"192.168.7.0/24\"]\n", "egress.allow", ""},
		"thresholds":           {good + "[signal]\nwarn = -70\nminimum = -72\ncritical = -77\n", "signal.warn signal.minimum signal.critical", ""},
		"log":                  {good + "[log]\nlevel = \"debug\"\nformat = \"json\"\n", "log.level", "log.format"},
		"radio":                {change("channel = 6", "channel = 11"), "", "network.P1.radio.channel"},
		"dead radio":           {change("channel = 6", "revive = \"driver\"\nchannel = 6"), "", "network.P1.radio.revive"},
		"passphrase's place":   {change("file:p1.psk", "credential:p1"), "", "network.P1.radio.passphrase"},
		"more chargers":        {change("chargers = 16", "chargers = 160"), "", "network.P1.chargers"},
		"renamed":              {change(`"P1"`, `"P2"`), "", "network.P2 (new) network.P1 (gone)"},
		"services":             {good + "allow = [22]\n[dhcp]\nlease = \"1h\"\n[dns]\nupstreams = [\"1.1.1.1\"]\n[ntp]\nsource = \"kernel\"\n[status]\nmetrics = \"\"\n", "", "uplink.allow dhcp.lease dns.upstreams ntp.source status.metrics"},
	} {
		t.Run(name, func(t *testing.T) {
			live, restart := parse(t, good).Diff(parse(t, tc.next))
			if strings.Join(live, " ") != tc.live || strings.Join(restart, " ") != tc.restart {
				t.Errorf("live %q, restart %q", live, restart)
			}
		})
	}
	addressed := rule + "addresses = [\"192.168.7.0/24\"]\n"
	if live, restart := parse(t, good+rule).Diff(parse(t, good+addressed)); strings.Join(live, " ") != "egress.allow" || len(restart) > 0 {
		t.Errorf("other addresses: live %q, restart %q", live, restart)
	}
	next := parse(t, good+strings.Replace(addressed, "443", "443, 8443", 1))
	rules := parse(t, good).Takeover(next)
	if last := rules[len(rules)-1]; len(last.Ports) != 1 || last.Ports[0] != 443 || len(last.Addresses) != 1 {
		t.Errorf("taken over: %+v", last)
	}
}

func TestTellSaysWhatSomebodyMayRegret(t *testing.T) {
	text := strings.NewReplacer("channel = 6", "channel = 3", "max_stations = 19", "max_stations = 8").Replace(good) +
		"\n[[egress.allow]]\nname = \"*.core.windows.net\"\nports = [443]\nreason = \"lab\"\nforce = true\n"
	log := event.New(event.Options{Keep: 100})
	parse(t, text).Tell(log)
	_, err := config.Parse([]byte("[site]\n"), "x.toml", home())
	var faults config.Faults
	if !errors.As(err, &faults) {
		t.Fatal(err)
	}
	faults.Tell(log)
	config.Faults{{File: "x.toml", Text: "the configuration cannot be read: no such file or directory"}, {File: "x.toml", Line: 2, Column: 3, Text: "is no TOML"}}.Tell(log)
	var said []string
	for _, r := range log.Recent(0, "") {
		said = append(said, r.Message)
	}
	golden(t, "testdata/told.txt", strings.Join(said, "\n")+"\n")
}

func TestRemarksSayWhatIsNoFault(t *testing.T) {
	for name, tc := range map[string]struct {
		psk        string
		interfaces []string
		want       []string
	}{
		"all there":              {passphrase, []string{"eth0", "wlan0"}, nil},
		"another radio":          {passphrase, []string{"wlan1", "eth0"}, []string{"wlan0 is not there now; there are: wlan1, eth0"}},
		"no interface at all":    {passphrase, nil, []string{"wlan0 is not there now; there are none", "eth0 is not there now; there are none"}},
		"quotation marks":        {"\"correct horse\"\n", []string{"eth0", "wlan0"}, []string{"DIR/p1.psk: the quotation marks belong to the password"}},
		"single quotation marks": {"'correct horse'", []string{"eth0", "wlan0"}, []string{"DIR/p1.psk: the quotation marks belong to the password"}},
		"one quotation mark":     {"\"correct horse", []string{"eth0", "wlan0"}, nil},
		"a space last":           {"correct horse \n", []string{"eth0", "wlan0"}, []string{"DIR/p1.psk: the last space belongs to the password"}},
		"a space first":          {" correct horse", []string{"eth0", "wlan0"}, []string{"DIR/p1.psk: the first space belongs to the password"}},
		"too short, a fault":     {"'c'", []string{"eth0", "wlan0"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := site(t, map[string]string{"chargegate.toml": good, "p1.psk": tc.psk})
			var want []string
			for _, w := range tc.want {
				want = append(want, strings.ReplaceAll(w, "DIR", filepath.Dir(path)))
			}
			if diff := cmp.Diff(want, load(t, path).Remarks(tc.interfaces)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	outside := parse(t, strings.Replace(good, "file:p1.psk", "credential:p1", 1))
	if diff := cmp.Diff([]string{"credential:p1 was not looked at: only the unit can read it"}, outside.Remarks([]string{"wlan0", "eth0"})); diff != "" {
		t.Errorf("a credential (-want +got)\n%s", diff)
	}
}
