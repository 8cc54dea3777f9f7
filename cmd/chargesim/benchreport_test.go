package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

func TestReportComparesMedians(t *testing.T) {
	r := &report{contest: dhcpContest(), names: []string{"chargegate", "other"}, versions: []string{"1", "2"}, got: map[string]results{
		"chargegate": {"new": {100, 300, 200}, "last250": {20}, "resent250": {0}},
		"other":      {"new": {50, 60, 40}, "last250": {500}, "resent250": {7, 8, 9}},
	}}
	r.of("other").tally(sim.Tally{Clients: 3, Leased: 1, NAKs: 4})
	r.of("other").tally(sim.Tally{Clients: 1, Leased: 1, NAKs: 1})
	text := r.Table()
	for _, want := range [][]string{
		{"new bindings /s", "200 [100-300]", "50 [40-60] ×4"}, // more is better
		{"250 at once: last lease, ms", "20", "500 ×25"},      // less is
		{"250 at once: sent again", "0", "8 [7-9]"},           // nothing to compare with
		{"50 at once: last lease, ms", "-", "-"},              // not measured
		{"without a lease in time, in all", "-", "2"},         // added up
		{"NAKs, in all", "-", "5"},
	} {
		if line := lineWith(text, want[0]); strings.Join(columns(line), "|") != strings.Join(want, "|") {
			t.Errorf("the table says %q, want %q", columns(line), want)
		}
	}

	var out bytes.Buffer
	if err := r.JSON(&out); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Servers []struct {
			Name string
			Rows map[string]figure
		}
	}
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || len(back.Servers) != 2 || back.Servers[0].Rows["new"].Median != 200 {
		t.Errorf("as JSON it is %s, %v", out.String(), err)
	}
}

func lineWith(text, title string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, title) {
			return line
		}
	}
	return ""
}

// columns are what stands in a line of the table.
func columns(line string) []string {
	var all []string
	for _, part := range strings.Split(line, "  ") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

func TestUseIsToldForOneLease(t *testing.T) {
	got := results{}
	got.use("new", use{done: 1000, wall: 500 * time.Millisecond, server: 100 * time.Millisecond, load: 50 * time.Millisecond, others: -time.Millisecond})
	got.use("known", use{})
	for row, want := range map[string]float64{"new": 2000, "new cpu": 100, "new server": 20, "new load": 10, "new others": 0} {
		if len(got[row]) != 1 || got[row][0] != want {
			t.Errorf("%s: %v, want %v", row, got[row], want)
		}
	}
	if len(got["known"]) > 0 {
		t.Errorf("a loop without a lease has the rate %v", got["known"])
	}
}

// Whoever gives wrong answers is compared with nobody, and how many there were is
// told all the same.
func TestWrongAnswersAreNoFigures(t *testing.T) {
	r := &report{contest: namesContest(), names: []string{"chargegate", "other"}, versions: []string{"1", "2"}, got: map[string]results{
		"chargegate": {"cached": {200}, "wrong": {0}},
		"other":      {"cached": {900}, "wrong": {0}},
	}}
	r.of("other").total("wrong", 2)
	text := r.Table()
	for _, want := range [][]string{{"remembered names /s", "200", "invalid"}, {"wrong answers, in all", "0", "2"}} {
		if line := lineWith(text, want[0]); strings.Join(columns(line), "|") != strings.Join(want, "|") {
			t.Errorf("the table says %q, want %q", columns(line), want)
		}
	}
	var out bytes.Buffer
	if err := r.JSON(&out); err != nil || strings.Count(out.String(), `"invalid": true`) != 1 {
		t.Errorf("as JSON it is %s, %v, want one that is invalid", out.String(), err)
	}
}

func TestLimitsAreNamed(t *testing.T) {
	for want, shares := range map[string][3]float64{
		"itself":                         {99, 60, 0},
		"itself and the load":            {95, 97, 3},
		"the load":                       {70, 99, 3},
		"neither":                        {70, 60, 5},
		"others on this machine (101 %)": {50, 49, 101},
	} {
		if got := limit(shares[0], shares[1], shares[2]); !strings.HasPrefix(got, want) {
			t.Errorf("%v is limited by %q, want %q", shares, got, want)
		}
	}
	r := &report{names: []string{"chargegate", "other"}, got: map[string]results{
		"chargegate": {"miss server": {99}, "miss load": {50}, "miss others": {0}}, "other": {},
	}}
	if got := r.limits("miss", "misses"); len(got) != 1 || got[0] != "Limits, misses: chargegate by itself." {
		t.Errorf("the limits are %q", got)
	}
}

// Each configuration is filled, and says what the others say.
func TestConfigurationsAreFilled(t *testing.T) {
	b := &bench{configs: "../../configs/bench"}
	for name, wants := range map[string][]string{
		"chargegate.toml":    {"garage-p1", "*.bench.example", "rate = 1000000", sim.ResolverAddr},
		"dnsmasq.conf":       {"garage-p1", "10.83.0.2", "10.83.5.231", "/state/"},
		"kea-dhcp4.json":     {"garage-p1", "10.83.0.2", "10.83.5.231", "/state/"},
		"dnsmasq-names.conf": {"garage-p1", "/bench.example/" + sim.ResolverAddr, "address=/#/"},
		"unbound.conf":       {"interface: 10.83.0.1", "\"bench.example.\" transparent", "forward-addr: " + sim.ResolverAddr, "/state"},
		"Corefile":           {"bind 10.83.0.1", "bench.example ", "forward . " + sim.ResolverAddr, "NXDOMAIN"},
		"nginx.conf":         {"listen 10.83.0.1:18443", ".bench.example ", "resolver " + sim.ResolverAddr, "/state/"},
		"haproxy.cfg":        {"bind 10.83.0.1:18443", ".bench.example ", sim.CalledNames()[7], sim.ResolverAddr + ":53"},
		"chrony.conf":        {"bindaddress 10.83.0.1", "allow 10.83.0.0/21", "server " + sim.TimeAddr},
	} {
		text, err := b.fill(name, b.facts("garage-p1", "/state"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say %s", name, want)
			}
		}
		if strings.Contains(text, "{{") || strings.Contains(text, "<no value>") {
			t.Errorf("%s is filled as\n%s", name, text)
		}
	}
	b.configs = t.TempDir()
	if _, err := b.fill("dnsmasq.conf", facts{}); err == nil || !strings.Contains(err.Error(), "-configs") {
		t.Errorf("without the files it says %v, want where they are looked for", err)
	}
}

func TestPeersAreChosenByName(t *testing.T) {
	b := &bench{contest: dhcpContest()}
	if got, err := choose(b, "none"); err != nil || len(got) != 1 || got[0].Name() != "chargegate" {
		t.Errorf("-peers none measures %v, %v", got, err)
	}
	if _, err := choose(b, "dnsmask"); err == nil || !strings.Contains(err.Error(), "dnsmasq") {
		t.Errorf("-peers dnsmask says %v, want the names that there are", err)
	}
	b.contest = egressContest()
	if got, err := choose(b, direct); err != nil || len(got) != 2 || got[1].Name() != direct {
		t.Errorf("-peers direct, which is no program, measures %v, %v", got, err)
	}
	if err := benchmark(t.Context(), nil); err == nil {
		t.Error("bench without a word says nothing")
	}
	for _, word := range []string{"dhcp", "names", "time", "egress"} {
		if err := benchmark(t.Context(), []string{word, "-runs", "0"}); err == nil {
			t.Errorf("%s -runs 0 is taken", word)
		}
	}
	if err := benchmark(t.Context(), []string{"egress", "-together", "65"}); err == nil || !strings.Contains(err.Error(), "64") {
		t.Errorf("egress -together 65 says %v, want what is allowed", err)
	}
	if err := benchmark(t.Context(), []string{"names", "-together", "129"}); err == nil || !strings.Contains(err.Error(), "128") {
		t.Errorf("names -together 129 says %v, want what is allowed", err)
	}
}

// Who cannot be had is left out aloud, where a bench goes without.
func TestWhoIsMissingIsSaid(t *testing.T) {
	b := &bench{contest: contest{peers: []peerKind{{name: "other", program: "no-such-program", optional: true}}}}
	if got, err := choose(b, "all"); err != nil || len(got) != 1 || len(b.missing) != 1 || !strings.Contains(b.missing[0], "other") {
		t.Errorf("without a peer there are %d to measure, %v, and it says %q", len(got), err, b.missing)
	}
	if _, err := choose(b, "other"); err == nil {
		t.Error("a peer that was asked for is left out")
	}
	b.peers[0].optional = false
	if _, err := choose(b, "all"); err == nil {
		t.Error("a peer that must be there is left out")
	}
}
