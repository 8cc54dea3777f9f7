package render_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/config"
	"chargegate/pkg/render"
)

var update = flag.Bool("update", false, "write the golden files anew")

const passphrase = "correct horse battery"

// wide has two radios, a wired network, a service on the uplink and a port of
// the site's own. small has one wired network and nothing else.
const (
	wide = `[site]
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
name = "P2-east"
interface = "wlan1"
chargers = 30
address = "10.83.64.1/24"
[network.radio]
ssid = "garage p2"
passphrase = "file:p1.psk"
country = "NO"
channel = 11
max_stations = 31

[[network]]
name = "P3"
interface = "eth1.30"
chargers = 120
address = "172.20.0.254/23"

[uplink]
interface = "eth0"
allow = ["ssh", 2222]

[[egress.allow]]
name = "ocpp.example.com"
ports = [443, 8080]
reason = "operator's OCPP"
`
	small = `[site]
name = "Lab"
[[network]]
name = "P1"
interface = "eth1"
chargers = 4
[uplink]
interface = "eth0"
`
)

// load reads a configuration whose passphrase lies beside it.
func load(t *testing.T, text string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "chargegate.toml")
	for name, content := range map[string]string{path: text, filepath.Join(dir, "p1.psk"): passphrase + "\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Parse([]byte(text), path, config.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func files(t *testing.T, text string) []render.File {
	t.Helper()
	fs, err := render.Files(load(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestFilesAreAsPromised(t *testing.T) {
	for name, text := range map[string]string{"wide": wide, "small": small} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("testdata", name)
			var got []string
			for _, f := range files(t, text) {
				path := filepath.Join(dir, f.Path)
				got = append(got, f.Path)
				if *update {
					if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, f.Content, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), string(f.Content)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", path, diff)
				}
			}
			want := map[string][]string{
				"wide": {"nftables.conf", "networkmanager/10-chargegate.conf", "sysctl.conf",
					"networkd/10-chargegate-P1.network", "hostapd-P1.conf", "hostapd-P1.env",
					"networkd/10-chargegate-P2-east.network", "hostapd-P2-east.conf", "hostapd-P2-east.env",
					"networkd/10-chargegate-P3.network"},
				"small": {"nftables.conf", "networkmanager/10-chargegate.conf", "sysctl.conf", "networkd/10-chargegate-P1.network"},
			}[name]
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

// A passphrase, which people use in several places, is in no file; the key that it
// makes is in the radio's own, for root alone.
func TestThePassphraseStandsInNoFileAndItsKeyInOne(t *testing.T) {
	keys := regexp.MustCompile(`[0-9a-f]{64}`)
	for _, f := range files(t, wide) {
		if strings.Contains(string(f.Content), passphrase) {
			t.Errorf("%s holds the passphrase", f.Path)
		}
		holds := keys.Match(f.Content)
		radio := strings.HasPrefix(f.Path, "hostapd-") && strings.HasSuffix(f.Path, ".conf")
		if holds != radio || radio != (f.Mode == 0o600) {
			t.Errorf("%s: mode %o, holds a key: %v", f.Path, f.Mode, holds)
		}
	}
}

func TestMissingPassphraseIsAnError(t *testing.T) {
	cfg, err := config.Parse([]byte(wide), filepath.Join(t.TempDir(), "x.toml"), config.Env{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = render.Files(cfg)
	if err == nil || !strings.Contains(err.Error(), "network P1") || !strings.Contains(err.Error(), "network P2-east") {
		t.Errorf("both should be named: %v", err)
	}
}

func TestWriteTouchesOnlyWhatDiffers(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) string {
		t.Helper()
		changed, err := render.Write(dir, files(t, text))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(changed, " ")
	}
	if got := write(small); got != "nftables.conf networkmanager/10-chargegate.conf sysctl.conf networkd/10-chargegate-P1.network" {
		t.Errorf("first: %q", got)
	}
	if got := write(small); got != "" {
		t.Errorf("again: %q", got)
	}
	if got := write(strings.Replace(small, "[uplink]", "[uplink]\nallow = [22]", 1)); got != "nftables.conf" {
		t.Errorf("a service more: %q", got)
	}
	if err := os.Chmod(filepath.Join(dir, "nftables.conf"), 0o666); err != nil {
		t.Fatal(err)
	}
	write(wide)
	info, err := os.Stat(filepath.Join(dir, "hostapd-P1.conf"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("hostapd-P1.conf: %v, %v", info, err)
	}
	gone := write(small)
	for _, f := range []string{"hostapd-P1.conf", "hostapd-P2-east.env", "networkd/10-chargegate-P3.network"} {
		if _, err := os.Stat(filepath.Join(dir, f)); !os.IsNotExist(err) || !strings.Contains(gone, f) {
			t.Errorf("%s is still there, or was not named in %q: %v", f, gone, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, ".new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWriteStaysInItsDirectory(t *testing.T) {
	for _, path := range []string{"../x", "/etc/x", "a/../../x"} {
		if _, err := render.Write(t.TempDir(), []render.File{{Path: path, Mode: 0o644}}); err == nil {
			t.Errorf("%s was written", path)
		}
	}
}
