package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/config"
	"chargegate/pkg/run"
)

const good = `
[site]
name = "Kungsgatan 12"
inventory = "chargers.csv"
[[network]]
name = "P1"
interface = "cg-p1"
chargers = 4
address = "10.83.0.1/24"
[uplink]
interface = "cg-up"
[status]
metrics = ""
`

// write makes a directory with the files given and returns the config's path.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "chargegate.toml")
}

func TestCheckSaysWhatTheHouseWillLookLike(t *testing.T) {
	path := write(t, map[string]string{"chargegate.toml": good, "chargers.csv": "mac,name\n60:15:92:41:00:07,P1-07\n"})
	var out, complain bytes.Buffer
	code := chargegated(t.Context(), []string{"-config", path, "-check"}, &out, &complain)
	for _, want := range []string{
		path + ": network P1 on cg-p1, 10.83.0.1/24, room for 4 chargers\n", path + ": chargers.csv: 1 charger\n",
		"to look at: cg-p1 is not there now; there are", "to look at: cg-up is not there now; there are", path + ": no faults\nnext: sudo systemctl ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing is said of %q:\n%s", want, out.String())
		}
	}
	if code != exitStopped || complain.Len() > 0 {
		t.Errorf("exit %d, complained %q", code, complain.String())
	}
}

func TestCheckSaysEveryFaultOfBothFiles(t *testing.T) {
	path := write(t, map[string]string{
		"chargegate.toml": strings.Replace(good, `chargers = 4`, `chargers = "four"`+"\nradius = 3", 1),
		"chargers.csv":    "mac,name\n60:15:92:41:00:07,\n",
	})
	var out, complain bytes.Buffer
	if code := chargegated(t.Context(), []string{"-config", path, "-check"}, &out, &complain); code != exitConfig {
		t.Errorf("exit %d, want %d", code, exitConfig)
	}
	for _, want := range []string{path + ":8:", path + ":9:", "radius"} {
		if !strings.Contains(complain.String(), want) {
			t.Errorf("nothing is said of %q:\n%s", want, complain.String())
		}
	}
	path = write(t, map[string]string{"chargegate.toml": good, "chargers.csv": "mac,name,network\n60:15:92:41:00:07,,\n60:15:92:41:00:08,P9-01,P9\n"})
	complain.Reset()
	if code := chargegated(t.Context(), []string{"-config", path, "-check"}, &out, &complain); code != exitConfig {
		t.Errorf("exit %d with a faulty inventory, want %d", code, exitConfig)
	}
	for _, want := range []string{"chargers.csv:2:", `network "P9"`} {
		if !strings.Contains(complain.String(), want) {
			t.Errorf("nothing is said of %q:\n%s", want, complain.String())
		}
	}
}

func TestFaultsAtTheStartAreEvents(t *testing.T) {
	path := write(t, map[string]string{"chargegate.toml": strings.Replace(good, "chargers = 4", "chargers = -4", 1)})
	var out, complain bytes.Buffer
	code := chargegated(t.Context(), []string{"-config", path}, &out, &complain)
	if code != exitConfig || !strings.Contains(complain.String(), "[config-fault]") {
		t.Errorf("exit %d, said:\n%s", code, complain.String())
	}
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		code int
		out  string
		err  string
	}{
		{"version", []string{"-version"}, exitStopped, "chargegated ", ""},
		{"help", []string{"-h"}, exitStopped, usage, ""},
		{"a word too many", []string{"start"}, exitConfig, "", `"start" is not understood`},
		{"a flag that is not there", []string{"-verbose"}, exitConfig, "", "chargegated: flag provided but not defined: -verbose; chargegated -h says what there is\n"},
		{"no file", []string{"-check", "-config", "/nonexistent/chargegate.toml"}, exitConfig, "", "/nonexistent/chargegate.toml"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, complain bytes.Buffer
			code := chargegated(t.Context(), tt.args, &out, &complain)
			if code != tt.code || !strings.Contains(out.String(), tt.out) || !strings.Contains(complain.String(), tt.err) {
				t.Errorf("exit %d, out %q, complained %q", code, out.String(), complain.String())
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{
		exitStopped: nil,
		exitConfig:  config.Faults{{File: "f", Text: "x"}},
		exitSocket:  &run.ListenError{Service: "dhcp", Err: errors.New("in use")},
		exitService: run.ErrGaveUp,
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v exits with %d, want %d", err, got, want)
		}
	}
}

// The house must be built from the reference configuration, every room in it,
// and closed again, without a socket or a privilege.
func TestHouseIsComplete(t *testing.T) {
	path := write(t, map[string]string{"chargegate.toml": good, "chargers.csv": "mac,name\n60:15:92:41:00:07,P1-07\n"})
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var complain bytes.Buffer
	h, err := open(cfg, nil, options{config: path, state: t.TempDir(), run: t.TempDir()}, &complain)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range h.services {
		names = append(names, s.Name())
	}
	if diff := cmp.Diff([]string{"dhcp", "resolver", "ntprelay", "accounts", "signals", "egress", "denied", "radio", "uplink", "status", "news", "reload"}, names); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := h.leases.Close(); err != nil {
		t.Error(err)
	}
}
