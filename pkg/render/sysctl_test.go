package render_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The real systemd-sysctl takes the rendered file: as chargegate-prepare gives it, for
// the interfaces that are there, and as udev asks for it, for one that has just come.
// What is not there is no fault, and the uplink keeps what it has.
func TestTheKernelTakesItsSettings(t *testing.T) {
	const program = "/usr/lib/systemd/systemd-sysctl"
	need(t, program)
	if !apart(t) {
		return
	}
	command(t, "mount -t tmpfs run /run")
	if err := os.Mkdir("/run/sysctl.d", 0o755); err != nil {
		t.Fatal(err)
	}
	const file = "/run/sysctl.d/70-chargegate-networks.conf"
	for _, f := range files(t, wide) {
		if f.Path == "sysctl.conf" {
			if err := os.WriteFile(file, f.Content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	off := func(ifname string) string {
		var all []string
		for _, name := range []string{"ipv6/conf/" + ifname + "/disable_ipv6", "ipv4/conf/" + ifname + "/accept_redirects", "ipv4/conf/" + ifname + "/send_redirects"} {
			text, err := os.ReadFile("/proc/sys/net/" + name)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, strings.TrimSpace(string(text)))
		}
		return strings.Join(all, " ")
	}
	for _, ifname := range []string{"eth0", "wlan0", "eth1.30"} {
		command(t, "ip link add "+ifname+" type veth")
		if got := off(ifname); got != "0 1 1" {
			t.Fatalf("%s begins with %s: this test shows nothing", ifname, got)
		}
	}
	if out, err := exec.CommandContext(t.Context(), program, file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
	command(t, "ip link add wlan1 type veth") // 99-systemd.rules
	command(t, program+" --prefix=/net/ipv4/conf/wlan1 --prefix=/net/ipv4/neigh/wlan1 --prefix=/net/ipv6/conf/wlan1 --prefix=/net/ipv6/neigh/wlan1")
	for ifname, want := range map[string]string{"wlan0": "1 0 0", "eth1.30": "1 0 0", "wlan1": "1 0 0", "eth0": "0 1 1"} {
		if got := off(ifname); got != want {
			t.Errorf("%s: disable_ipv6, accept_redirects and send_redirects are %s, want %s", ifname, got, want)
		}
	}
}
