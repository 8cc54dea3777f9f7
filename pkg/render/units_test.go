package render_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"chargegate/pkg/event"
	"chargegate/pkg/render"
)

const units = "../../systemd"

func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Skipf("without %s there is nothing to try: %v", tool, err)
	}
}

// TestDaemonIsExposedLittle asks the real systemd-analyze.
func TestDaemonIsExposedLittle(t *testing.T) {
	need(t, "systemd-analyze")
	for unit, most := range map[string]float64{"chargegated.service": 2.0, "chargegate-prepare.service": 3.5, "chargegate-firewall.service": 3.0} {
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--no-pager", filepath.Join(units, unit)).CombinedOutput()
		found := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(string(out))
		if found == nil {
			if strings.Contains(string(out), "unrecognized option") {
				t.Skipf("this systemd-analyze is too old: %s", out)
			}
			t.Fatalf("%s: %v\n%s", unit, err, out)
		}
		exposure, err := strconv.ParseFloat(found[1], 64)
		if err != nil || exposure > most {
			t.Errorf("%s is exposed at %s, more than %.1f:\n%s", unit, found[1], most, out)
		}
		t.Logf("%s: %s", unit, found[1])
	}
}

// TestUnitsAreUnderstood lets the real systemd-analyze read every unit. Programs
// that are not installed here are no fault of the units.
func TestUnitsAreUnderstood(t *testing.T) {
	need(t, "systemd-analyze")
	found, err := filepath.Glob(filepath.Join(units, "*.service"))
	if err != nil || len(found) != 4 {
		t.Fatalf("units: %v, %v", found, err)
	}
	dir := t.TempDir()
	var names []string
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.Replace(filepath.Base(path), "@.", "@P1.", 1)
		names = append(names, name)
		for _, as := range []string{filepath.Base(path), name} {
			if err := os.WriteFile(filepath.Join(dir, as), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range names {
		cmd := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "--recursive-errors=one", name)
		cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
		out, _ := cmd.CombinedOutput() // it fails for missing programs, too
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, name+":") && !strings.Contains(line, "is not executable") {
				t.Errorf("%s", line)
			}
		}
	}
}

// TestUnitsAndRenderAgree: the units look where render writes.
func TestUnitsAndRenderAgree(t *testing.T) {
	for unit, words := range map[string][]string{
		"chargegate-prepare.service":  {"-out " + render.Dir + "\n", render.Dir + "/networkd/.", render.Dir + "/networkmanager/10-chargegate.conf", "RuntimeDirectory=" + filepath.Base(render.Dir)},
		"chargegate-firewall.service": {render.Dir + "/nftables.conf"},
		"chargegate-ap@.service":      {render.Dir + "/hostapd-%i.conf", render.Dir + "/hostapd-%i.env"},
	} {
		text, err := os.ReadFile(filepath.Join(units, unit))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range words {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s does not say %q", unit, w)
			}
		}
	}
	firewall, err := os.ReadFile(filepath.Join(units, "chargegate-firewall.service"))
	if err != nil || strings.Contains(string(firewall), "\nExecStop=") {
		t.Errorf("stopping the firewall must leave the rules in force (%v)", err)
	}
}

// settings are the values of each key of a unit, wherever they stand in it.
func settings(t *testing.T, unit string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(units, unit))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			all[key] = append(all[key], strings.Fields(value)...)
		}
	}
	return all
}

// TestTheFirewallStandsBeforeTheNetwork: nothing that could bring up an interface
// of the chargers starts before the rules are loaded, nothing that serves them
// starts without, and nothing takes them away again. The real systemd understands
// the units (TestUnitsAreUnderstood).
func TestTheFirewallStandsBeforeTheNetwork(t *testing.T) {
	firewall, prepare, daemon, radio := settings(t, "chargegate-firewall.service"), settings(t, "chargegate-prepare.service"),
		settings(t, "chargegated.service"), settings(t, "chargegate-ap@.service")
	for _, c := range []struct {
		what string
		has  []string
		want []string
	}{
		{"the firewall waits for nothing that comes later in the boot", firewall["DefaultDependencies"], []string{"no"}},
		{"neither does what renders it", prepare["DefaultDependencies"], []string{"no"}},
		{"the firewall is loaded before", firewall["Before"], []string{"network-pre.target", "systemd-networkd.service",
			"NetworkManager.service", "networking.service", "dhcpcd.service", "wpa_supplicant.service", "hostapd.service", "chargegated.service"}},
		{"network-pre.target is part of this boot", firewall["Wants"], []string{"network-pre.target"}},
		{"it is loaded after it was rendered, or not at all", firewall["Requires"], []string{"chargegate-prepare.service"}},
		{"and", firewall["After"], []string{"chargegate-prepare.service"}},
		{"Debian's rules, which take all others away when they go, go first", firewall["Conflicts"], []string{"nftables.service"}},
		{"and", firewall["After"], []string{"nftables.service"}},
		{"it starts at boot", firewall["WantedBy"], []string{"multi-user.target"}},
		{"it stays", firewall["RemainAfterExit"], []string{"yes"}},
		{"the daemon starts after it, or not at all", daemon["Requires"], []string{"chargegate-firewall.service"}},
		{"and", daemon["After"], []string{"chargegate-firewall.service"}},
		{"a radio starts after the daemon", radio["After"], []string{"chargegated.service"}},
	} {
		for _, w := range c.want {
			if !slices.Contains(c.has, w) {
				t.Errorf("%s: %q, want %s among them", c.what, c.has, w)
			}
		}
	}
	for _, key := range []string{"ExecStop", "ExecStopPost", "PartOf", "BindsTo", "StopWhenUnneeded"} {
		if v := firewall[key]; v != nil {
			t.Errorf("%s=%q: what ends the unit must leave the rules in force", key, v)
		}
	}
}

// TestCatalogueIsTheVocabulary: journalctl -x knows every event, and the real
// journalctl can read the file.
func TestCatalogueIsTheVocabulary(t *testing.T) {
	golden := filepath.Join(units, "chargegate.catalog")
	if *update {
		if err := os.WriteFile(golden, []byte(event.Catalog()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != event.Catalog() {
		t.Errorf("%s is not what the events say; run: go test ./pkg/render -run Catalogue -update", golden)
	}
	need(t, "journalctl")
	root := t.TempDir()
	for _, dir := range []string{"usr/lib/systemd/catalog", "var/lib/systemd/catalog"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "usr/lib/systemd/catalog/chargegate.catalog"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "journalctl", "--root="+root, "--update-catalog").CombinedOutput()
	if err != nil {
		t.Fatalf("journalctl cannot read it: %v\n%s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), "journalctl", "--root="+root, "--list-catalog").CombinedOutput()
	if err != nil || strings.Count(string(out), "chargegate: ") != len(event.All()) {
		t.Errorf("journalctl knows %d of %d events: %v\n%s", strings.Count(string(out), "chargegate: "), len(event.All()), err, out)
	}
}

// TestChronyReadsItsFile: the shipped configuration is one that chronyd takes,
// serves nobody, and asks several sources.
func TestChronyReadsItsFile(t *testing.T) {
	need(t, "chronyd")
	out, err := exec.CommandContext(t.Context(), "chronyd", "-p", "-f", "../../configs/chrony/chrony.conf").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, line := range []string{"port 0", "cmdport 323", "bindcmdaddress 127.0.0.1", "rtcsync", "makestep 1 3", "authselectmode ignore", "nocerttimecheck 1"} {
		if !strings.Contains(string(out), line+"\n") {
			t.Errorf("no line %q in:\n%s", line, out)
		}
	}
	if n := len(regexp.MustCompile(`(?m)^(pool|server) `).FindAll(out, -1)); n < 3 {
		t.Errorf("%d sources", n)
	}
	if n := len(regexp.MustCompile(`(?m)^server .* nts trust$`).FindAll(out, -1)); n < 2 {
		t.Errorf("%d sources that prove who they are", n)
	}
}

// TestHostapdReadsItsFile lets the real hostapd read the rendered files, with
// its driver for no radio at all. A line that it does not know, or a value that
// it refuses, is an error before it looks for the radio.
func TestHostapdReadsItsFile(t *testing.T) {
	need(t, "hostapd")
	if !apart(t) {
		return
	}
	for _, f := range files(t, wide) {
		if !strings.HasPrefix(f.Path, "hostapd-") || !strings.HasSuffix(f.Path, ".conf") {
			continue
		}
		dir := t.TempDir()
		text := strings.NewReplacer("driver=nl80211", "driver=none", "/run/hostapd", dir, "ctrl_interface_group=chargegate", "ctrl_interface_group=0").Replace(string(f.Content))
		path := filepath.Join(dir, "hostapd.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, _ := exec.CommandContext(t.Context(), "timeout", "3", "hostapd", path).CombinedOutput()
		if !strings.Contains(string(out), "COUNTRY_UPDATE") || strings.Contains(string(out), "errors found") || strings.Contains(string(out), "Line ") {
			t.Errorf("%s:\n%s", f.Path, out)
		}
	}
}
