package main

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/config"
	"chargegate/pkg/event"
)

// regrettable has no fault and much that deserves a look.
const regrettable = `
[site]
name = "Kungsgatan 12"
inventory = "chargers.csv"
[[network]]
name = "P1"
interface = "cg-p1"
chargers = 16
[network.radio]
ssid = "garage-p1"
passphrase = "file:p1.psk"
country = "SE"
channel = 3
max_stations = 7
[uplink]
interface = "cg-up"
[[egress.allow]]
name = "*.core.windows.net"
ports = [443]
reason = "lab"
force = true
[[egress.allow]]
name = "ocpp.example.com"
ports = [443, 8080, 9000]
reason = "OCPP"
plain = true
addresses = ["10.1.2.3", "192.168.40.0/24"]
`

const revivable = `
[site]
name = "Kungsgatan 12"
inventory = "chargers.csv"
[[network]]
name = "P1"
interface = "cg-p1"
chargers = 7
address = "10.83.0.1/24"
[network.radio]
ssid = "garage-p1"
passphrase = "file:p1.psk"
country = "SE"
channel = 6
max_stations = 7
revive = "driver"
[uplink]
interface = "cg-up"
`

func TestCheckSaysWhatTheDaemonWouldWarnOf(t *testing.T) {
	for _, tt := range []struct {
		name, toml, csv string
		machine         machine
		want            string
	}{
		{"all well", good, "mac;name\n60:15:92:41:00:07;P1-07\n60:15:92:41:00:08;P1-08\n", machine{interfaces: []string{"cg-p1", "cg-up"}},
			`FILE: network P1 on cg-p1, 10.83.0.1/24, room for 4 chargers
FILE: chargers.csv: 2 chargers
FILE: no faults
next: sudo systemctl enable --now systemd-networkd chargegate-prepare chargegate-firewall chargegated
`},
		{"a daemon runs, and nobody has a name", good, "mac,name\n", machine{interfaces: []string{"cg-p1", "cg-up"}, running: true},
			`FILE: network P1 on cg-p1, 10.83.0.1/24, room for 4 chargers
FILE: chargers.csv: 0 chargers
to look at: DIR/chargers.csv names no charger; each is called by its MAC address
    ↳ ` + event.InventoryEmpty.Advice + `
FILE: no faults
next: sudo systemctl restart chargegate-prepare (the chargers' names alone: sudo systemctl reload chargegated)
`},
		{"no inventory", strings.Replace(good, `inventory = "chargers.csv"`, "", 1), "", machine{interfaces: []string{"cg-p1", "cg-up"}, running: true},
			`FILE: network P1 on cg-p1, 10.83.0.1/24, room for 4 chargers
FILE: no inventory: each charger is called by its MAC address
FILE: no faults
next: sudo systemctl restart chargegate-prepare (the chargers' names alone: sudo systemctl reload chargegated)
`},
		{"much to look at", regrettable, "mac,name\n60:15:92:41:00:07,P1-07\n", machine{interfaces: []string{"wlan1", "eth0"}},
			`FILE: network P1 on cg-p1, 10.83.0.1/26, room for 16 chargers
FILE: chargers.csv: 1 charger
FILE: *.core.windows.net: port 443, with TLS
FILE: ocpp.example.com: ports 443, 8080 and 9000, with or without TLS, may lead to 10.1.2.3, 192.168.40.0/24
to look at: network P1 on cg-p1 has the address 10.83.0.1/26, which was chosen
to look at: network P1 works on channel 3, which overlaps its neighbours
    ↳ ` + event.ConfigChannelBetween.Advice + `
to look at: network P1 is planned for 16 chargers, but its radio holds 7
    ↳ ` + event.ConfigRadioTooSmall.Advice + `
to look at: everything below *.core.windows.net may be reached, because the configuration insists on it
    ↳ ` + event.ConfigSharedNameForced.Advice + `
to look at: cg-p1 is not there now; there are: wlan1, eth0
to look at: cg-up is not there now; there are: wlan1, eth0
to look at: DIR/p1.psk: the quotation marks belong to the password
FILE: no faults
next: sudo systemctl enable --now systemd-networkd chargegate-prepare chargegate-firewall chargegated chargegate-radio@P1 chargegate-revive
`},
		{"a radio that may be revived, and nobody who does it", revivable, "mac,name\n60:15:92:41:00:07,P1-07\n", machine{interfaces: []string{"cg-p1", "cg-up"}, running: true, reviveOff: true},
			`FILE: network P1 on cg-p1, 10.83.0.1/24, room for 7 chargers
FILE: chargers.csv: 1 charger
to look at: DIR/p1.psk: the quotation marks belong to the password
to look at: revive is set for P1, but chargegate-revive is off: nothing is done for a dead radio
    ↳ Run: sudo systemctl enable --now chargegate-revive
FILE: no faults
next: sudo systemctl restart chargegate-prepare (the chargers' names alone: sudo systemctl reload chargegated; where a radio was changed, add chargegate-radio@P1, and its chargers reconnect)
`},
		{"a radio that is left alone needs nobody", strings.Replace(revivable, `"driver"`, `"no"`, 1), "mac,name\n60:15:92:41:00:07,P1-07\n", machine{interfaces: []string{"cg-p1", "cg-up"}, running: true, reviveOff: true},
			`FILE: network P1 on cg-p1, 10.83.0.1/24, room for 7 chargers
FILE: chargers.csv: 1 charger
to look at: DIR/p1.psk: the quotation marks belong to the password
FILE: no faults
next: sudo systemctl restart chargegate-prepare (the chargers' names alone: sudo systemctl reload chargegated; where a radio was changed, add chargegate-radio@P1, and its chargers reconnect)
`},
		{"a radio that may be revived, and is", revivable, "mac,name\n60:15:92:41:00:07,P1-07\n", machine{interfaces: []string{"cg-p1", "cg-up"}, running: true},
			`FILE: network P1 on cg-p1, 10.83.0.1/24, room for 7 chargers
FILE: chargers.csv: 1 charger
to look at: DIR/p1.psk: the quotation marks belong to the password
FILE: no faults
next: sudo systemctl restart chargegate-prepare (the chargers' names alone: sudo systemctl reload chargegated; where a radio was changed, add chargegate-radio@P1, and its chargers reconnect)
`},
		{"a radio that may be revived, on a box that does not run yet", revivable, "mac,name\n60:15:92:41:00:07,P1-07\n", machine{interfaces: []string{"cg-p1", "cg-up"}, reviveOff: true},
			`FILE: network P1 on cg-p1, 10.83.0.1/24, room for 7 chargers
FILE: chargers.csv: 1 charger
to look at: DIR/p1.psk: the quotation marks belong to the password
FILE: no faults
next: sudo systemctl enable --now systemd-networkd chargegate-prepare chargegate-firewall chargegated chargegate-radio@P1 chargegate-revive
`},
		{"addresses kept where strangers' are", good, kept(33, 5), machine{interfaces: []string{"cg-p1", "cg-up"}, running: true},
			`FILE: network P1 on cg-p1, 10.83.0.1/24, room for 4 chargers
FILE: chargers.csv: 5 chargers
to look at: network P1 has 3 of 8 addresses left for devices that are not in the inventory; the others are kept for chargers
    ↳ ` + event.InventoryStrangersSmall.Advice + `
FILE: no faults
next: sudo systemctl restart chargegate-prepare (the chargers' names alone: sudo systemctl reload chargegated)
`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, map[string]string{"chargegate.toml": tt.toml, "chargers.csv": tt.csv, "p1.psk": "\"hunter2hunter2\"\n"})
			cfg, err := config.Load(path)
			var out, complain bytes.Buffer
			if code := check(cfg, err, tt.machine, &out, &complain); code != exitStopped || complain.Len() > 0 {
				t.Errorf("exit %d, complained %q", code, complain.String())
			}
			want := strings.NewReplacer("FILE", path, "DIR", filepath.Dir(path)).Replace(tt.want)
			if diff := cmp.Diff(want, out.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestOff(t *testing.T) {
	for _, tt := range []struct {
		name, shown string
		want        bool
	}{
		{"as it was delivered", "LoadState=loaded\nActiveState=inactive\nUnitFileState=disabled\n", true},
		{"it works", "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n", false},
		{"until the next boot", "LoadState=loaded\nActiveState=active\nUnitFileState=disabled\n", true},
		{"only from the next boot on", "LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\n", true},
		{"it is being restarted", "LoadState=loaded\nActiveState=activating\nUnitFileState=enabled\n", false},
		{"somebody has masked it", "LoadState=masked\nActiveState=inactive\nUnitFileState=masked\n", false},
		{"it is not installed", "LoadState=not-found\nActiveState=inactive\nUnitFileState=\n", false},
	} {
		if got := off(tt.shown); got != tt.want {
			t.Errorf("%s: off is %v, want %v", tt.name, got, tt.want)
		}
	}
}

// kept is an inventory of n chargers with the addresses after 10.83.0.first.
func kept(first, n int) string {
	var b strings.Builder
	b.WriteString("mac,name,address\n")
	for i := range n {
		fmt.Fprintf(&b, "60:15:92:41:00:%02x,P1-%02d,10.83.0.%d\n", i, i, first+1+i)
	}
	return b.String()
}

// The inventory's fault stands at its line.
func TestCheckSaysWhichAddressCannotBeKept(t *testing.T) {
	path := write(t, map[string]string{"chargegate.toml": good, "chargers.csv": "mac,name,address\n60:15:92:41:00:07,P1-07,10.83.1.7\n"})
	cfg, err := config.Load(path)
	var out, complain bytes.Buffer
	code := check(cfg, err, machine{}, &out, &complain)
	want := filepath.Join(filepath.Dir(path), "chargers.csv") + ":2:1: P1-07 cannot have 10.83.1.7; its address must be one of 10.83.0.0/24 (P1)\n"
	if code != exitConfig || out.Len() > 0 || complain.String() != want {
		t.Errorf("exit %d, printed %q, complained %q, want %q", code, out.String(), complain.String(), want)
	}
}

func TestFileThatCannotBeReadHasNoLine(t *testing.T) {
	for _, args := range [][]string{{"-config", "/nonexistent/x.toml"}, {"-check", "-config", "/nonexistent/x.toml"}} {
		var complain bytes.Buffer
		code := chargegated(t.Context(), args, io.Discard, &complain)
		if code != exitConfig || strings.Contains(complain.String(), ":0:0") || strings.Contains(complain.String(), "?") ||
			!strings.Contains(complain.String(), "/nonexistent/x.toml: the configuration cannot be read: no such file or directory") {
			t.Errorf("%q: exit %d, complained %q", args, code, complain.String())
		}
	}
}
