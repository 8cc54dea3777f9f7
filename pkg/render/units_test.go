package render_test

import (
	"fmt"
	"io/fs"
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

// TestUnitsAreExposedLittle asks the real systemd-analyze, of whichever version. What
// is left of each unit's exposure is explained in docs/systemd.md, the daemon's in the
// unit itself.
func TestUnitsAreExposedLittle(t *testing.T) {
	need(t, "systemd-analyze")
	page, err := os.ReadFile("../../docs/systemd.md")
	if err != nil {
		t.Fatal(err)
	}
	most := map[string]float64{"chargegated.service": 1.5, "chargegate-prepare.service": 1.8, "chargegate-firewall.service": 1.4, "chargegate-radio@.service": 2.4, "chargegate-revive.service": 1.6}
	for _, path := range unitFiles(t) {
		unit := filepath.Base(path)
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--no-pager", path).CombinedOutput()
		found := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(string(out))
		if found == nil {
			if strings.Contains(string(out), "unrecognized option") {
				t.Skipf("this systemd-analyze is too old: %s", out)
			}
			t.Fatalf("%s: %v\n%s", unit, err, out)
		}
		exposure, err := strconv.ParseFloat(found[1], 64)
		limit, known := most[unit]
		if !known {
			limit = 3
		}
		if err != nil || exposure > limit {
			t.Errorf("%s is exposed at %s, more than %.1f:\n%s", unit, found[1], limit, out)
		}
		if row := "\n| " + strings.TrimSuffix(unit, ".service") + " | " + found[1] + " |\n"; known && !strings.Contains(string(page), row) {
			t.Errorf("docs/systemd.md does not say %q", row)
		}
		t.Logf("%s: %s", unit, found[1])
	}
}

// Each point that systemd-analyze security counts against the daemon is explained in
// the unit, beside the line, with its figure.
func TestEachPointOfTheDaemonsExposureIsExplained(t *testing.T) {
	need(t, "systemd-analyze")
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=true", "--no-pager", filepath.Join(units, "chargegated.service")).CombinedOutput()
	if strings.Contains(string(out), "unrecognized option") {
		t.Skipf("this systemd-analyze is too old: %s", out)
	}
	text, rerr := os.ReadFile(filepath.Join(units, "chargegated.service"))
	if rerr != nil {
		t.Fatal(rerr)
	}
	var explained string
	for _, m := range regexp.MustCompile(`(?s)\[(0\.\d.*?)\]`).FindAllSubmatch(text, -1) {
		explained += strings.Join(strings.Fields(strings.ReplaceAll(string(m[1]), "\n#", " ")), " ") + "\n"
	}
	points := regexp.MustCompile(`(?m)^✗ (\S+) .* (\d\.\d)$`).FindAllStringSubmatch(string(out), -1)
	if len(points) == 0 || len(points) > 11 {
		t.Fatalf("%v: %d points:\n%s", err, len(points), out)
	}
	spoken := map[string]string{
		"RestrictAddressFamilies=~AF_PACKET":                          "packet",
		"RestrictAddressFamilies=~AF_NETLINK":                         "netlink",
		"RestrictAddressFamilies=~AF_UNIX":                            "unix",
		"RestrictAddressFamilies=~AF_(INET|INET6)":                    "IPv4 and IPv6",
		"CapabilityBoundingSet=~CAP_NET_(BIND_SERVICE|BROADCAST|RAW)": "NET_BIND_SERVICE and NET_RAW",
		"RootDirectory=/RootImage=":                                   "RootDirectory=",
		"IPAddressDeny=":                                              "more than this machine itself is allowed",
	}
	for _, p := range points {
		word := spoken[p[1]]
		if word == "" {
			word = p[1]
		}
		if !regexp.MustCompile(regexp.QuoteMeta(p[2]) + `( for|:)[^;,]*` + regexp.QuoteMeta(word)).MatchString(explained) {
			t.Errorf("%s (%s) is not explained among:\n%s", p[1], p[2], explained)
		}
	}
}

// unitFiles are all services that are shipped.
func unitFiles(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(units, "*.service"))
	if err != nil || len(found) != 5 {
		t.Fatalf("units: %v, %v", found, err)
	}
	return found
}

// systemdVersion is the one whose systemd-analyze is here.
func systemdVersion(t *testing.T) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	var v int
	if _, err := fmt.Sscanf(string(out), "systemd %d", &v); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return v
}

// TestUnitsAreUnderstood lets the real systemd-analyze read every unit, as make
// install would install them for its version. Programs that are not installed here
// are no fault of the units.
func TestUnitsAreUnderstood(t *testing.T) {
	need(t, "systemd-analyze")
	dir := t.TempDir()
	var names []string
	put := func(path string, text []byte) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range unitFiles(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.Replace(filepath.Base(path), "@.", "@P1.", 1)
		names = append(names, name)
		put(filepath.Join(dir, filepath.Base(path)), text)
		put(filepath.Join(dir, name), text)
	}
	const target = "chargegate-radios.target"
	text, err := os.ReadFile(filepath.Join(units, target))
	if err != nil {
		t.Fatal(err)
	}
	names = append(names, target)
	put(filepath.Join(dir, target), text)
	later, err := filepath.Glob(filepath.Join(units, "since-254", "*.d", "*.conf"))
	if err != nil || len(later) != 5 {
		t.Fatalf("what systemd 254 brought: %v, %v", later, err)
	}
	byHand := map[string]string{"kernel-clock.conf": "chargegated.service.d", "credential.conf": "chargegate-prepare.service.d"}
	for file, unit := range byHand {
		text, err := os.ReadFile(filepath.Join(units, file))
		if err != nil {
			t.Fatal(err)
		}
		put(filepath.Join(dir, unit, file), text)
	}
	if systemdVersion(t) >= 254 {
		for _, path := range later {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			put(filepath.Join(dir, filepath.Base(filepath.Dir(path)), filepath.Base(path)), text)
		}
	}
	for _, name := range names {
		cmd := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "--recursive-errors=one", name)
		cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
		out, _ := cmd.CombinedOutput() // it fails for missing programs, too
		for line := range strings.Lines(string(out)) {
			if (strings.Contains(line, name+":") || strings.Contains(line, dir)) && !strings.Contains(line, "is not executable") {
				t.Errorf("%s", line)
			}
		}
	}
}

// The Makefile installs what a later systemd brought only where it is known, and takes
// away what it has installed. TestUnitsAreUnderstood has the two versions.
func TestInstallAndUninstall(t *testing.T) {
	need(t, "make")
	bin := filepath.Join(t.TempDir(), "bin")
	for _, program := range []string{"chargegated", "chargegate"} {
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bin, program), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(target, dest, version string) []string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "make", "-s", "-C", "../..", target, "BIN="+bin, "DESTDIR="+dest, "SYSTEMD="+version).CombinedOutput()
		if err != nil {
			t.Fatalf("make %s: %v\n%s", target, err, out)
		}
		var files []string
		err = filepath.WalkDir(dest, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files = append(files, strings.TrimPrefix(path, dest))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	dest := t.TempDir()
	const later, radios = "/usr/lib/systemd/system/chargegate-radio@.service.d/back-off.conf", "/usr/lib/systemd/system/multi-user.target.wants/chargegate-radios.target"
	const rule = "/usr/lib/udev/rules.d/80-chargegate-radio.rules"
	if files := run("install", dest, "257"); !slices.Contains(files, later) || !slices.Contains(files, radios) || !slices.Contains(files, rule) || len(files) < 20 {
		t.Errorf("for 257: %q", files)
	}
	if files := run("install", dest, "252"); slices.Contains(files, later) {
		t.Errorf("for 252, over what was for 257: %q", files)
	}
	want := []string{"/etc/chargegate/chargegate.toml", "/etc/chargegate/chargers.csv"}
	if files := run("uninstall", dest, "252"); !slices.Equal(files, want) {
		t.Errorf("left: %q, want what is the owner's: %q", files, want)
	}
}

// TestUnitsAndRenderAgree: the units look where render writes.
func TestUnitsAndRenderAgree(t *testing.T) {
	for unit, words := range map[string][]string{
		"chargegate-prepare.service":  {"-out " + render.Dir + "\n", render.Dir + "/networkd/*.network /run/systemd/network/", render.Dir + "/networkmanager/10-chargegate.conf /run/NetworkManager/conf.d/", render.Dir + "/sysctl.conf /run/sysctl.d/70-chargegate-networks.conf", "systemd-sysctl /run/sysctl.d/70-chargegate-networks.conf", "systemctl --no-block start chargegate-firewall.service", "RuntimeDirectory=" + filepath.Base(render.Dir)},
		"chargegate-firewall.service": {render.Dir + "/nftables.conf"},
		"chargegate-radio@.service":   {render.Dir + "/hostapd-%i.conf", render.Dir + "/hostapd-%i.env"},
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
		settings(t, "chargegated.service"), settings(t, "chargegate-radio@.service")
	radios := settings(t, "chargegate-radios.target")
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
		{"what failed is tried again", prepare["Restart"], []string{"on-failure"}},
		{"and", firewall["Restart"], []string{"on-failure"}},
		{"for ever", prepare["StartLimitIntervalSec"], []string{"0"}},
		{"and", firewall["StartLimitIntervalSec"], []string{"0"}},
		{"who had given up is started then", firewall["Wants"], []string{"chargegated.service"}},
		{"a radio is started by the boot", radio["WantedBy"], []string{"chargegate-radios.target"}},
		{"which does not wait for it", radios["DefaultDependencies"], []string{"no"}},
	} {
		for _, w := range c.want {
			if !slices.Contains(c.has, w) {
				t.Errorf("%s: %q, want %s among them", c.what, c.has, w)
			}
		}
	}
	for what, unit := range map[string]map[string][]string{"firewall": firewall, "prepare": prepare, "daemon": daemon, "radio": radio} {
		for _, key := range []string{"After", "Wants", "Requires", "Requisite", "BindsTo"} {
			for _, never := range []string{"time-sync.target", "time-set.target", "network-online.target", "chrony.service", "systemd-timesyncd.service"} {
				if slices.Contains(unit[key], never) {
					t.Errorf("%s: %s=%s: neither the clock nor the uplink is waited for (F-12)", what, key, never)
				}
			}
		}
	}
	for _, start := range slices.Concat(radio["Wants"], daemon["Wants"], prepare["Wants"]) {
		if strings.HasPrefix(start, "chargegate") {
			t.Errorf("a radio, the daemon or what renders wants %s: what was stopped is started by the death of another, and what failed with no pause", start)
		}
	}
	if slices.Contains(radio["WantedBy"], "chargegated.service") {
		t.Error("the daemon wants the radios: one that was stopped is started when the daemon restarts")
	}
	for _, key := range []string{"Requires", "Requisite", "BindsTo", "PartOf", "ExecCondition"} {
		if v := radio[key]; v != nil {
			t.Errorf("the radio has %s=%q: it outlives the daemon's restart (F-6), and waits for its first start for ever (F-1)", key, v)
		}
	}
	for _, key := range []string{"ExecStop", "ExecStopPost", "PartOf", "BindsTo", "StopWhenUnneeded"} {
		if v := firewall[key]; v != nil {
			t.Errorf("%s=%q: what ends the unit must leave the rules in force", key, v)
		}
	}
}

// The real systemd-sysusers and systemd-tmpfiles take their files: the daemon's user,
// and who may read what.
func TestUserAndDirectoriesAreMade(t *testing.T) {
	need(t, "systemd-sysusers")
	need(t, "systemd-tmpfiles")
	if os.Getuid() != 0 {
		t.Skip("giving directories to others needs root")
	}
	root := t.TempDir()
	for _, dir := range []string{"etc", "run", "usr/lib/sysusers.d", "usr/lib/tmpfiles.d"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"sysusers.d", "tmpfiles.d"} {
		text, err := os.ReadFile(filepath.Join(units, dir, "chargegate.conf"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "usr/lib", dir, "chargegate.conf"), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{"systemd-sysusers --root=" + root, "systemd-tmpfiles --create --root=" + root + " chargegate.conf"} {
		if out := command(t, line); strings.Contains(out, "chargegate.conf:") {
			t.Errorf("%s: %s", line, out)
		}
	}
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil || !regexp.MustCompile(`(?m)^chargegate:.*:/var/lib/chargegate:/usr/sbin/nologin$`).Match(passwd) {
		t.Errorf("the user: %v\n%s", err, passwd)
	}
	for dir, mode := range map[string]fs.FileMode{"etc/chargegate": 0o750, "run/hostapd": 0o755, "etc/credstore.encrypted": 0o700} {
		if info, err := os.Stat(filepath.Join(root, dir)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want %o", dir, info, err, mode)
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
