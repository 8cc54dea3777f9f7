package render_test

import (
	"context"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/config"
	"chargegate/pkg/hostapd"
	"chargegate/pkg/render"
)

// Every line of a radio's file has a comment directly above it, or above its
// neighbours, which names what it is for.
func TestEveryLineOfTheRadioNamesItsRequirement(t *testing.T) {
	named := regexp.MustCompile(`\b[ZF]-\d+`)
	for _, f := range files(t, wide) {
		if !isRadio(f) {
			continue
		}
		comment, open, settings := "", false, 0
		for line := range strings.Lines(string(f.Content)) {
			switch {
			case line == "\n":
				comment, open = "", false
			case strings.HasPrefix(line, "#"):
				if !open {
					comment = ""
				}
				comment, open = comment+line, true
			default:
				settings, open = settings+1, false
				if !named.MatchString(comment) {
					t.Errorf("%s: no comment says what requirement this line is for: %s", f.Path, line)
				}
			}
		}
		if settings < 30 {
			t.Errorf("%s has %d settings only", f.Path, settings)
		}
	}
}

// What the garage's radio is, in the words of hostapd: a change of any of these is a
// change of what chargers meet. Z-… and F-… stand beside them in the file.
func TestTheRadioIsWhatChargersNeed(t *testing.T) {
	for _, f := range files(t, wide) {
		if f.Path != "hostapd-P1.conf" {
			continue
		}
		has := hostapd.Values(string(f.Content))
		for key, want := range map[string]string{
			"hw_mode": "g", "ieee80211n": "1", "wmm_enabled": "1", "ht_capab": "[SHORT-GI-20]", "channel": "6",
			"country_code": "SE", "ieee80211d": "1",
			"wpa": "2", "wpa_key_mgmt": "WPA-PSK", "rsn_pairwise": "CCMP", "ieee80211w": "0", "auth_algs": "1", "wps_state": "0",
			"wpa_group_rekey": "86400", "wpa_strict_rekey": "0",
			"ap_isolate": "1", "ignore_broadcast_ssid": "0", "disassoc_low_ack": "0",
			"ap_max_inactivity": "300", "skip_inactivity_poll": "0", "beacon_int": "100", "dtim_period": "1",
			"max_num_sta": "19", "no_probe_resp_if_max_sta": "0",
			"ctrl_interface": hostapd.Dir, "ctrl_interface_group": "chargegate",
		} {
			if has[key] != want {
				t.Errorf("%s=%s, want %s", key, has[key], want)
			}
		}
		for _, key := range []string{"bridge", "wpa_pairwise", "wpa_passphrase", "sae_password", "rts_threshold", "fragm_threshold",
			"ieee80211ac", "ieee80211ax", "ieee80211r", "mobility_domain", "bss_transition", "rrm_neighbor_report", "wnm_sleep_mode"} {
			if v, there := has[key]; there {
				t.Errorf("%s=%s stands in the file", key, v)
			}
		}
	}
}

func isRadio(f render.File) bool {
	return strings.HasPrefix(f.Path, "hostapd-") && strings.HasSuffix(f.Path, ".conf")
}

// hear starts the real hostapd on a rendered file, with its driver for no radio at
// all, and returns what it says of itself (GET_CONFIG) and what it printed. A line
// that it does not know, or a value that it refuses, is an error before it looks for
// the radio. It tells its key only where WPS is on.
func hear(t *testing.T, content []byte) (map[string]string, string) {
	t.Helper()
	dir := t.TempDir()
	text := strings.NewReplacer("driver=nl80211", "driver=none", hostapd.Dir, dir, "ctrl_interface_group=chargegate", "ctrl_interface_group=0", "\nwps_state=0", "\nwps_state=1").Replace(string(content))
	iface := regexp.MustCompile(`(?m)^interface=(.*)$`).FindStringSubmatch(text)[1]
	path := filepath.Join(dir, "hostapd.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "hostapd", path)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []byte
	for ctx.Err() == nil && alive(cmd.Process.Pid) {
		// -s: where hostapd_cli puts its own end of the socket.
		answer, err := exec.CommandContext(ctx, "hostapd_cli", "-s", dir, "-p", dir, "-i", iface, "get_config").Output()
		if err == nil {
			said = answer
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	cmd.Wait() // it was killed
	return hostapd.Values(string(said)), out.String()
}

// alive reports whether a child of ours runs: one that has ended is a zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// TestHostapdReadsItsFile lets the real hostapd read the rendered files.
func TestHostapdReadsItsFile(t *testing.T) {
	need(t, "hostapd")
	if !apart(t) {
		return
	}
	for _, f := range files(t, wide) {
		if !isRadio(f) {
			continue
		}
		has, out := hear(t, f.Content)
		if !strings.Contains(out, "COUNTRY_UPDATE") || strings.Contains(out, "errors found") || strings.Contains(out, "Line ") {
			t.Errorf("%s:\n%s", f.Path, out)
		}
		for key, want := range map[string]string{"wpa": "2", "key_mgmt": "WPA-PSK", "group_cipher": "CCMP", "rsn_pairwise_cipher": "CCMP"} {
			if has[key] != want {
				t.Errorf("%s: hostapd understood %s=%q, want %q", f.Path, key, has[key], want)
			}
		}
	}
}

// Whatever characters a name and a passphrase are made of, the real hostapd means the
// name that was written, and the key that another program (openssl) makes of the two.
func TestEveryCharacterReachesHostapd(t *testing.T) {
	need(t, "hostapd")
	need(t, "openssl")
	if !apart(t) {
		return
	}
	for what, tc := range map[string]struct{ ssid, passphrase string }{
		"all of the first half":   {`x !"#$%&'()*+,-./0123456789:;<x`, ` !"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^`},
		"of the second":           {`=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[`, `_` + "`" + `abcdefghijklmnopqrstuvwxyz{|}~`},
		"and of the third":        {`\]^_` + "`" + `abcdefghijklmnopqrstuvwxy`, `12345678`},
		"what is left":            {`z{|}~`, `        `},
		"quotation marks around":  {`"garage"`, `"quoted1"`},
		"one at the beginning":    {`"`, `"1234567`},
		"P and a mark":            {`P"garage"`, `P"garage1"`},
		"a comment":               {`# no comment`, `# no comment`},
		"a comment behind":        {`garage # 1`, `garage # 1`},
		"a setting":               {`ssid=x`, `wpa=0 wpa_psk=1`},
		"backslashes":             {`\n\x41\\`, `\n\x41\\\`},
		"a backslash at the end":  {`garage\`, `garage12\`},
		"several spaces":          {`a  b`, `  two before, two behind  `},
		"64 digits and no key":    {`0123456789abcdef`, strings.Repeat("0123456789abcdef", 4)[:63]},
		"what templates begin by": {`{{.Name}}`, `{{.Radio.SSID}}`},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			text := "[site]\nname = \"x\"\n[[network]]\nname = \"P1\"\ninterface = \"wlan0\"\nchargers = 4\n[network.radio]\nssid = '" + tc.ssid +
				"'\npassphrase = \"file:p1.psk\"\ncountry = \"SE\"\nchannel = 6\nmax_stations = 7\n[uplink]\ninterface = \"eth0\"\n"
			if strings.Contains(tc.ssid, "'") {
				text = strings.Replace(text, "'"+tc.ssid+"'", strconv.Quote(tc.ssid), 1)
			}
			if err := os.WriteFile(filepath.Join(dir, "p1.psk"), []byte(tc.passphrase+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Parse([]byte(text), filepath.Join(dir, "chargegate.toml"), config.Env{})
			if err != nil {
				t.Fatal(err)
			}
			rendered, err := render.Files(cfg)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range rendered {
				if !isRadio(f) {
					continue
				}
				has, out := hear(t, f.Content)
				if strings.Contains(out, "Line ") {
					t.Errorf("hostapd refused:\n%s", out)
				}
				if diff := cmp.Diff(escaped(tc.ssid), has["ssid"]); diff != "" {
					t.Errorf("the name (-written +understood):\n%s", diff)
				}
				if want := opensslKey(t, tc.passphrase, tc.ssid); has["psk"] != want {
					t.Errorf("the key: hostapd has %q, want %q", has["psk"], want)
				}
			}
		})
	}
}

// escaped is how hostapd prints a name (its printf_encode).
func escaped(ssid string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(ssid)
}

func opensslKey(t *testing.T, passphrase, ssid string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "openssl", "kdf", "-keylen", "32", "-kdfopt", "digest:SHA1", "-kdfopt", "hexpass:"+hex.EncodeToString([]byte(passphrase)),
		"-kdfopt", "hexsalt:"+hex.EncodeToString([]byte(ssid)), "-kdfopt", "iter:4096", "-binary", "PBKDF2").Output()
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(out)
}
