package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"chargegate/pkg/config"
	"chargegate/pkg/plan"
)

// crowded does not fit in most of the ways that there are.
const crowded = `
[site]
name = "Kungsgatan 12"
inventory = "chargers.csv"
[[network]]
name = "P1"
interface = "wlan0"
chargers = 16
address = "10.83.0.1/26"
[network.radio]
ssid = "garage-p1"
passphrase = "file:p1.psk"
country = "SE"
channel = 6
max_stations = 7
[[network]]
name = "P2"
interface = "wlan1"
chargers = 20
address = "192.168.100.254/24"
[network.radio]
ssid = "garage-with-a-very-long-name-31"
passphrase = "file:p1.psk"
country = "SE"
channel = 8
max_stations = 19
[[network]]
name = "wired-garage-north-1"
interface = "eth1"
chargers = 900
address = "172.16.200.1/21"
[uplink]
interface = "eth0"
[dhcp]
lease = "1h"
`

// crowd is an inventory with 40 chargers on P2, 5 of them with strangers'
// addresses, and 3 that name no network.
func crowd() string {
	var b strings.Builder
	b.WriteString("mac,name,network,address\n")
	for i := range 43 {
		network, address := "P2", ""
		switch {
		case i < 5:
			address = fmt.Sprintf("192.168.100.%d", 41+i)
		case i >= 40:
			network = ""
		}
		fmt.Fprintf(&b, "60:15:92:41:00:%02x,P2-%02d,%s,%s\n", i, i, network, address)
	}
	return b.String()
}

func TestPlan(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, toml, csv string
		args            []string
		code            int
	}{
		{"plan-fits", garage, "", nil, exitWell},
		{"plan-listed", strings.Replace(garage, "[[network]]", "inventory = \"chargers.csv\"\n[[network]]", 1), "mac,name,address\n60:15:92:41:00:07,P1-07,10.83.0.200\nnonsense,P1-08,\n", nil, exitAttention},
		{"plan-chosen", strings.NewReplacer("[[network]]", "inventory = \"chargers.csv\"\n[[network]]", "chargers = 16", "chargers = 26", "address = \"10.83.0.1/24\"", "address = \"auto\"").Replace(garage), chosenRows, nil, exitAttention},
		{"plan-crowded", crowded, crowd(), nil, exitAttention},
		{"plan-json", crowded, crowd(), []string{"-json"}, exitAttention},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file, _ := site(t, tt.toml)
			if err := os.WriteFile(filepath.Join(filepath.Dir(file), "chargers.csv"), []byte(tt.csv), 0o600); err != nil {
				t.Fatal(err)
			}
			code, out, complain := (&daemon{}).use(t, pipe, append([]string{"plan", "-config", file}, tt.args...)...)
			if code != tt.code || complain != "" {
				t.Errorf("exit %d, want %d; complained %q", code, tt.code, complain)
			}
			out = strings.ReplaceAll(out, filepath.Dir(file), "DIR")
			golden(t, tt.name, out)
			if tt.args == nil {
				narrow(t, out, planWidth)
			}
		})
	}
}

// Kept addresses in a small subnet that was chosen, and a charger whose network
// is not there.
const chosenRows = "mac,name,network,address\n60:15:92:41:00:05,P1-05,P1,10.83.0.40\n60:15:92:41:00:06,P1-06,P1,10.83.0.61\n60:15:92:41:00:07,P1-07,P7,\n"

func TestPlanForSoMany(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 12, 40, 120, 250, 1000, 2500} {
		code, out, complain := (&daemon{}).use(t, pipe, "plan", "-chargers", fmt.Sprint(n))
		if code != exitWell || complain != "" {
			t.Errorf("%d: exit %d, complained %q", n, code, complain)
		}
		golden(t, fmt.Sprintf("plan-for-%d", n), out)
		narrow(t, out, planWidth)
	}
	code, out, _ := (&daemon{}).use(t, wide(60), "plan", "-chargers", "40")
	if code != exitWell {
		t.Errorf("exit %d", code)
	}
	narrow(t, out, 60)
	code, out, _ = (&daemon{}).use(t, pipe, "plan", "-json", "-chargers", "40")
	var l plan.Layout
	if err := json.Unmarshal([]byte(out), &l); err != nil || code != exitWell || l.Chargers != 40 || len(l.Plan.Networks) != 2 {
		t.Errorf("exit %d, %v, %+v", code, err, l)
	}
}

func narrow(t *testing.T, page string, width int) {
	t.Helper()
	for line := range strings.Lines(page) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// What is printed can be pasted: the configuration takes it, and the plan of it
// is the same and finds nothing.
func TestPlannedFragmentIsAConfiguration(t *testing.T) {
	t.Parallel()
	for n := 1; n <= plan.PerBox; n++ {
		l, err := plan.For(n)
		if err != nil {
			t.Fatal(err)
		}
		text := "[site]\nname = \"Kungsgatan 12\"\n[uplink]\ninterface = \"eth0\"\n" + l.Fragment
		cfg, err := config.Parse([]byte(text), "x.toml", config.Env{})
		if err != nil {
			t.Fatalf("%d: %v\n%s", n, err, text)
		}
		p, _ := reckon(cfg, nil, nil)
		if p.Chargers != n || len(p.Findings) > 0 || len(p.Networks) != len(l.Plan.Networks) {
			t.Fatalf("%d: %+v", n, p)
		}
		for i, part := range p.Networks {
			planned := l.Plan.Networks[i]
			if part.Subnet != planned.Subnet || part.Last != planned.Last || part.Interface != planned.Interface {
				t.Fatalf("%d: %+v, planned %+v", n, part, planned)
			}
		}
	}
}

func TestPlanWithAFaultInTheConfiguration(t *testing.T) {
	t.Parallel()
	file, _ := site(t, strings.Replace(garage, "channel = 6", "channel = 13", 1))
	code, out, complain := (&daemon{}).use(t, pipe, "plan", "-config", file)
	if code != exitAttention || out != "" || !strings.HasPrefix(complain, file+":13:11: network[1].radio.channel: ") {
		t.Errorf("exit %d, printed %q, complained %q", code, out, complain)
	}
	code, out, complain = (&daemon{}).use(t, pipe, "plan", "-json", "-config", file)
	var got planning
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitAttention || complain != "" || got.Plan != nil || len(got.Faults) != 1 || got.Faults[0].Line != 13 {
		t.Errorf("exit %d, %v, complained %q, %+v", code, err, complain, got)
	}
}

// Without root the plan is made all the same, and says what is not in it.
func TestPlanWithoutTheInventory(t *testing.T) {
	t.Parallel()
	file, _ := site(t, strings.Replace(garage, "[[network]]", "inventory = \"chargers.csv\"\n[[network]]", 1))
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	p, notes := reckon(cfg, nil, &fs.PathError{Op: "open", Path: cfg.Inventory, Err: fs.ErrPermission})
	if len(notes) != 1 || notes[0] != "chargers.csv was not looked at: permission denied; run it with sudo" || p.Listed != nil || p.Networks[0].Share != nil {
		t.Errorf("%q, %+v", notes, p)
	}
	code, out, complain := (&daemon{}).use(t, pipe, "plan", "-config", file) // it is not there
	if code != exitAttention || complain != "" || !strings.Contains(out, "✗ chargers.csv cannot be read\n") || strings.Contains(out, "everything fits") {
		t.Errorf("exit %d, printed %q, complained %q", code, out, complain)
	}
}

func TestPlanThatCannotBeMade(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-chargers", "0"}, {"-chargers", "-3"}, {"-chargers", "100001"}, {"-chargers", "many"}, {"-chargers", "40", "-config", "x.toml"}, {"40"}} {
		code, out, complain := (&daemon{}).use(t, pipe, append([]string{"plan"}, args...)...)
		if code != exitNoAnswer || out != "" || complain == "" {
			t.Errorf("%q: exit %d, printed %q, complained %q", args, code, out, complain)
		}
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ first, last, want string }{
		{"10.83.0.2", "10.83.0.33", "10.83.0.2 - .33"},
		{"10.83.0.2", "10.83.0.2", "10.83.0.2 - .2"},
		{"10.83.0.250", "10.83.1.2", "10.83.0.250 - 10.83.1.2"},
		{"10.83.15.1", "10.83.150.1", "10.83.15.1 - 10.83.150.1"},
		{"10.83.0.2", "10.83.1.130", "10.83.0.2 - 10.83.1.130"},
		{"1.2.3.4", "11.2.3.9", "1.2.3.4 - 11.2.3.9"},
		{"9.255.255.1", "10.0.0.1", "9.255.255.1 - 10.0.0.1"},
	} {
		if got := span(netip.MustParseAddr(tt.first), netip.MustParseAddr(tt.last)); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
