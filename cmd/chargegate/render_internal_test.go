package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const garage = `
[site]
name = "Kungsgatan 12"
[[network]]
name = "P1"
interface = "wlan0"
chargers = 16
address = "10.83.0.1/24"
[network.radio]
ssid = "garage-p1"
passphrase = "file:p1.psk"
country = "SE"
channel = 6
max_stations = 19
[uplink]
interface = "eth0"
`

// site writes a configuration and its passphrase.
func site(t *testing.T, text string) (file, out string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "chargegate.toml")
	for path, content := range map[string]string{file: text, filepath.Join(dir, "p1.psk"): "correct horse battery\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file, filepath.Join(dir, "rendered")
}

func TestRender(t *testing.T) {
	t.Parallel()
	file, out := site(t, garage)
	d := &daemon{socket: "/nonexistent"} // it needs none
	render := func(name string, args ...string) {
		t.Helper()
		code, printed, complain := d.use(t, pipe, append([]string{"render", "-config", file, "-out", out}, args...)...)
		if code != exitWell || complain != "" {
			t.Errorf("%s: exit %d, complained %q", name, code, complain)
		}
		golden(t, name, strings.ReplaceAll(printed, out, "DIR"))
		if strings.Contains(printed, "correct horse") {
			t.Errorf("%s: the passphrase was printed", name)
		}
	}
	render("render-check", "-check")
	if _, err := os.Stat(out); err == nil {
		t.Error("-check wrote something")
	}
	render("render-first")
	render("render-again")
	if err := os.WriteFile(filepath.Join(out, "nftables.conf"), []byte("tampered"), 0o644); err != nil {
		t.Fatal(err)
	}
	render("render-check-tampered", "-check")
	if err := os.WriteFile(file, []byte(strings.NewReplacer(`"P1"`, `"P2"`).Replace(garage)), 0o600); err != nil {
		t.Fatal(err)
	}
	render("render-renamed")
	render("render-json", "-json")
}

func TestRenderFaults(t *testing.T) {
	t.Parallel()
	file, out := site(t, strings.NewReplacer("channel = 6", "channel = 13", `country = "SE"`, "contry = \"SE\"").Replace(garage))
	d := &daemon{}
	code, printed, complain := d.use(t, pipe, "render", "-config", file, "-out", out)
	if code != exitAttention || printed != "" {
		t.Errorf("exit %d, printed %q", code, printed)
	}
	if !strings.HasPrefix(complain, file+":") || strings.Count(complain, file) < 2 || !strings.Contains(complain, "channel") {
		t.Errorf("want each fault with its place, got:\n%s", complain)
	}
	code, printed, _ = d.use(t, pipe, "render", "-json", "-config", file, "-out", out)
	var got rendering
	if err := json.Unmarshal([]byte(printed), &got); err != nil || code != exitAttention || len(got.Faults) < 2 || got.Faults[0].Line == 0 {
		t.Errorf("exit %d, %v, %+v", code, err, got)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("something was written in spite of the faults")
	}
}

func TestRenderWithoutThePassphrase(t *testing.T) {
	t.Parallel()
	file, out := site(t, garage)
	if err := os.Remove(filepath.Join(filepath.Dir(file), "p1.psk")); err != nil {
		t.Fatal(err)
	}
	code, _, complain := (&daemon{}).use(t, pipe, "render", "-config", file, "-out", out)
	if code != exitAttention || !strings.Contains(complain, "p1.psk") || !strings.HasPrefix(complain, file+":") {
		t.Errorf("exit %d, complained %q", code, complain)
	}
}

func TestRenderWhereItMayNot(t *testing.T) {
	t.Parallel()
	file, _ := site(t, garage)
	code, _, complain := (&daemon{}).use(t, pipe, "render", "-config", file, "-out", file) // a file is no directory
	if code != exitNoAnswer || !strings.Contains(complain, file) {
		t.Errorf("exit %d, complained %q", code, complain)
	}
}
