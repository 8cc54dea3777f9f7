package config

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"
)

const reference = "../../configs/chargegate.toml"

// commented is a line of an example that is not in force: a # without a space
// behind it.
var commented = regexp.MustCompile(`(?m)^#([\[a-z])`)

// uncommentedReference is the reference with its examples in force.
func uncommentedReference(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	return commented.ReplaceAll(text, []byte("$1"))
}

func TestReferenceHasNoFault(t *testing.T) {
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(text, reference, Env{})
	if err != nil {
		t.Fatal(err)
	}
	// What the reference says holds when a key is left out must be so.
	bare := "[site]\nname = \"Kungsgatan 12\"\n[[network]]\nname = \"P1\"\ninterface = \"wlan0\"\nchargers = 7\n[network.radio]\n" +
		"ssid = \"garage-p1\"\npassphrase = \"file:p1.psk\"\ncountry = \"SE\"\nchannel = 6\nmax_stations = 7\n[uplink]\ninterface = \"eth0\"\n"
	b, err := Parse([]byte(bare), reference, Env{})
	if err != nil {
		t.Fatal(err)
	}
	live, restart := b.Diff(c)
	if !slices.Equal(live, []string{"site.inventory"}) || !slices.Equal(restart, []string{"uplink.allow"}) {
		t.Errorf("the reference and the defaults differ in %q and %q", live, restart)
	}
	// Whoever installs it and changes nothing is warned of nothing.
	log := event.New(event.Options{Keep: 10})
	c.Tell(log)
	for _, r := range log.Recent(0, "") {
		if r.Kind.Level > event.Info {
			t.Errorf("the reference makes the daemon warn: %s", r.Message)
		}
	}
}

func TestExamplesOfTheReferenceHaveNoFault(t *testing.T) {
	c, err := Parse(uncommentedReference(t), reference, Env{})
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Rules[len(c.Rules)-1]; r.Name != "ocpp.example.com" || len(c.Rules) != len(policy.Zaptec())+1 {
		t.Errorf("rules: %+v", c.Rules)
	}
}

// TestReferenceIsTheManual: every key that the daemon knows stands in the
// reference, with a comment above it, and in what follows "what holds".
func TestReferenceIsTheManual(t *testing.T) {
	text := uncommentedReference(t)
	root, fault := grow(text)
	if fault != nil {
		t.Fatal(fault)
	}
	r := newReader(reference, Env{})
	r.config(root)
	if len(r.known) < 30 {
		t.Fatalf("only %d keys are known", len(r.known))
	}
	described := describedKeys(t, strings.Split(string(text), "\n"))
	for key := range r.known {
		if !described[key] && !described[strings.TrimSuffix(key, "[]")] {
			t.Errorf("%s: the reference has no line and comment for it", key)
		}
	}
}

var (
	header = regexp.MustCompile(`^\[+([a-z_.]+)\]+$`)
	keyed  = regexp.MustCompile(`^([a-z_]+) *=`)
)

// describedKeys are the keys and sections of the reference that have a comment
// above them.
func describedKeys(t *testing.T, lines []string) map[string]bool {
	t.Helper()
	keys := map[string]bool{}
	section, comment := "", false
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "#"):
			comment = true
			continue
		case header.MatchString(line):
			section = strings.Replace(header.FindStringSubmatch(line)[1], "network.", "network[].", 1)
			keys[section] = true
			if section == "egress.allow" {
				keys["egress"] = true
			}
			if strings.HasPrefix(line, "[[") {
				section += "[]"
			}
		case keyed.MatchString(line):
			if !comment {
				t.Errorf("line %d has no comment above it: %s", i+1, line)
			}
			keys[section+"."+keyed.FindStringSubmatch(line)[1]] = true
		}
		comment = false
	}
	return keys
}

func TestExampleInventoryHasNoFault(t *testing.T) {
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(text, reference, Env{})
	if err != nil {
		t.Fatal(err)
	}
	if inv, err := c.ReadInventory(); err != nil || len(inv) != 3 {
		t.Errorf("%d chargers, %v", len(inv), err)
	}
}
