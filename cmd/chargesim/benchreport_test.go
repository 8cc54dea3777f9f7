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
	r := &report{names: []string{"chargegate", "other"}, versions: []string{"1", "2"}, got: map[string]results{
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
	got.use("new", use{leases: 1000, wall: 500 * time.Millisecond, server: 100 * time.Millisecond, load: 50 * time.Millisecond, others: -time.Millisecond})
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

// Each configuration is filled, and says what the others say.
func TestConfigurationsAreFilled(t *testing.T) {
	b := &bench{configs: "../../configs/bench"}
	for _, name := range []string{"chargegate.toml", "dnsmasq.conf", "kea-dhcp4.json"} {
		text, err := b.fill(name, b.facts("garage-p1", "/state"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text, "garage-p1") || strings.Contains(text, "{{") || strings.Contains(text, "<no value>") {
			t.Errorf("%s is filled as\n%s", name, text)
		}
		if name != "chargegate.toml" && !(strings.Contains(text, "10.83.0.2") && strings.Contains(text, "10.83.5.231") && strings.Contains(text, "/state/")) {
			t.Errorf("%s has other addresses or another place than the others:\n%s", name, text)
		}
	}
	b.configs = t.TempDir()
	if _, err := b.fill("dnsmasq.conf", facts{}); err == nil || !strings.Contains(err.Error(), "-configs") {
		t.Errorf("without the files it says %v, want where they are looked for", err)
	}
}

func TestPeersAreChosenByName(t *testing.T) {
	b := &bench{}
	if got, err := choose(b, "none"); err != nil || len(got) != 1 || got[0].Name() != "chargegate" {
		t.Errorf("-peers none measures %v, %v", got, err)
	}
	if _, err := choose(b, "dnsmask"); err == nil || !strings.Contains(err.Error(), "dnsmasq") {
		t.Errorf("-peers dnsmask says %v, want the names that there are", err)
	}
	if err := benchmark(t.Context(), nil); err == nil {
		t.Error("bench without a word says nothing")
	}
	if err := benchmark(t.Context(), []string{"dhcp", "-runs", "0"}); err == nil {
		t.Error("-runs 0 is taken")
	}
}
