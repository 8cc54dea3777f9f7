package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// unitScenarios are those of the units themselves, in the systemd that runs them.
func unitScenarios() []Scenario {
	return []Scenario{{
		Name: "units", What: "the units: order, what they may do, who waits for whom", From: "booted", Limit: 240 * time.Second, Run: units,
	}}
}

func units(l *Lab) error {
	for _, step := range []struct {
		what string
		do   func(*Lab) error
	}{
		{"systemd understands them", unitsUnderstood},
		{"they are exposed little", unitsExposed},
		{"they started in order", unitsInOrder},
		{"no IPv6 among chargers", noIPv6},
		{"who talks with whom", doorsOfTheUnits},
		{"a restart leaves the radio alone", radioOutlivesTheDaemon},
		{"the radio waits for the daemon", radioWaits},
		{"passphrases come from the store", passphrasesFromTheStore},
	} {
		began := time.Now()
		if err := step.do(l); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		l.Note("%s (%s)", step.what, round(time.Since(began)))
	}
	return nil
}

// ourUnits is for a shell: every unit of ours that is loaded or installed.
const ourUnits = "chargegate-prepare.service chargegate-firewall.service chargegated.service chargegate-radio@P1.service"

func unitsUnderstood(l *Lab) error {
	out, err := l.Sh("systemd-analyze verify --man=no " + ourUnits + " 2>&1 | grep -i chargegate || true")
	if err == nil && out != "" {
		err = fmt.Errorf("systemd-analyze verify: %s", out)
	}
	return err
}

func unitsExposed(l *Lab) error {
	for unit, most := range map[string]float64{"chargegated.service": 1.5, "chargegate-prepare.service": 1.8, "chargegate-firewall.service": 1.4, "chargegate-radio@P1.service": 2.4} {
		out, err := l.Sh("systemd-analyze security --no-pager %s | tail -1", unit)
		if err != nil {
			return err
		}
		found := regexp.MustCompile(`: ([0-9.]+) `).FindStringSubmatch(out)
		if found == nil {
			return fmt.Errorf("%s: %s", unit, out)
		}
		if exposure, err := strconv.ParseFloat(found[1], 64); err != nil || exposure > most {
			return fmt.Errorf("%s is exposed at %s, want at most %.1f", unit, found[1], most)
		}
		l.Note("%s: exposure %s", unit, found[1])
	}
	return nil
}

// moment is when something happened in a unit's life, since the boot.
func moment(l *Lab, unit, property string) (time.Duration, error) {
	out, err := l.Sh("systemctl show -P %s %s", property, unit)
	if err != nil {
		return 0, err
	}
	us, err := strconv.ParseInt(out, 10, 64)
	if err != nil || us == 0 {
		return 0, fmt.Errorf("%s of %s: %q", property, unit, out)
	}
	return time.Duration(us) * time.Microsecond, nil
}

func unitsInOrder(l *Lab) error {
	last, before := time.Duration(0), "the boot"
	for _, s := range []struct{ what, unit, property string }{
		{"preparing begins", "chargegate-prepare.service", "InactiveExitTimestampMonotonic"},
		{"rendered", "chargegate-prepare.service", "ExecMainExitTimestampMonotonic"},
		{"nft begins", "chargegate-firewall.service", "ExecMainStartTimestampMonotonic"},
		{"the firewall is loaded", "chargegate-firewall.service", "ExecMainExitTimestampMonotonic"},
		{"network-pre", "network-pre.target", "ActiveEnterTimestampMonotonic"},
		{"networkd begins", "systemd-networkd.service", "InactiveExitTimestampMonotonic"},
		{"the daemon begins", "chargegated.service", "ExecMainStartTimestampMonotonic"},
		{"READY", "chargegated.service", "ActiveEnterTimestampMonotonic"},
		{"hostapd begins", "chargegate-radio@P1.service", "ExecMainStartTimestampMonotonic"},
	} {
		at, err := moment(l, s.unit, s.property)
		if err != nil {
			return err
		}
		if at < last {
			return fmt.Errorf("%s at %s, before %s at %s", s.what, round(at), before, round(last))
		}
		l.Note("%6.2f s  %s", at.Seconds(), s.what)
		last, before = at, s.what
	}
	out, err := l.Sh("systemctl list-dependencies --all --plain --after chargegated.service | grep -E 'time-sync|network-online|chrony' || true")
	if err == nil && out != "" {
		err = fmt.Errorf("the daemon waits for %s", out)
	}
	return err
}

func noIPv6(l *Lab) error {
	const off = "test \"$(cat /proc/sys/net/ipv6/conf/%s/disable_ipv6)\" = 1"
	for _, ifname := range []string{"wlan0", "eth1"} {
		if _, err := l.Sh(off, ifname); err != nil {
			return err
		}
	}
	if _, err := l.Sh("test \"$(cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6)\" = 0"); err != nil {
		return fmt.Errorf("the uplink: %w", err)
	}
	// One that comes later, with nobody there to look but udev.
	if _, err := l.Sh("systemctl stop systemd-networkd.socket systemd-networkd && ip link delete eth1 && ip link add eth1 type veth peer name eth1-far"); err != nil {
		return err
	}
	if err := l.UntilSh(10*time.Second, "no IPv6 on a new interface", fmt.Sprintf(off, "eth1")); err != nil {
		return err
	}
	_, err := l.Sh("ip link delete eth1; systemctl start systemd-networkd")
	return err
}

func doorsOfTheUnits(l *Lab) error {
	for _, c := range []struct{ what, script, want string }{
		{"hostapd's control socket", "stat -c '%G %a' /run/hostapd/wlan0", "chargegate 770"},
		{"what the daemon sees of the kernel", "nsenter -t $(systemctl show -P MainPID chargegated) -m ls /proc/sys 2>/dev/null | wc -l", "0"},
		{"the radio's longest pause", "systemctl show -P RestartMaxDelayUSec chargegate-radio@P1", "15s"},
	} {
		if out, err := l.Sh("%s", c.script); err != nil || out != c.want {
			return errors.Join(fmt.Errorf("%s: %q, want %q", c.what, out, c.want), err)
		}
	}
	return nil
}

func hostapdPID(l *Lab) (string, error) {
	out, err := l.Sh("systemctl show -P MainPID chargegate-radio@P1")
	if err == nil && out == "0" {
		err = fmt.Errorf("hostapd does not run")
	}
	return out, err
}

func radioOutlivesTheDaemon(l *Lab) error {
	before, err := hostapdPID(l)
	if err != nil {
		return err
	}
	if _, err := l.Sh("systemctl restart chargegated; systemctl kill -s KILL chargegated; sleep 1"); err != nil {
		return err
	}
	if err := l.Ready(20 * time.Second); err != nil {
		return err
	}
	after, err := hostapdPID(l)
	if err == nil && after != before {
		err = fmt.Errorf("hostapd was %s and is %s", before, after)
	}
	return err
}

// radioWaits: a daemon that fails at first, and one that is gone when hostapd dies.
// No beacon before READY, and one after it (F-1).
func radioWaits(l *Lab) error {
	const waiting = "test \"$(systemctl show -P ActiveState -P MainPID chargegate-radio@P1 | tr '\\n' ' ')\" = '0 activating ' || test \"$(systemctl show -P ActiveState -P MainPID chargegate-radio@P1 | tr '\\n' ' ')\" = 'activating 0 '"
	// One that fails once: the likeliest, and the next attempt comes while the radio is
	// still looking at what came of the first.
	once := "mkdir -p /run/systemd/system/chargegated.service.d && printf 'test -e /run/lab-failed && exit 0; touch /run/lab-failed; exit 1' >/run/lab-once && printf '[Service]\\nExecStartPre=+/bin/sh /run/lab-once\\n' >/run/systemd/system/chargegated.service.d/fails.conf && systemctl daemon-reload"
	if _, err := l.Sh("systemctl stop chargegated chargegate-radio@P1 && %s && systemctl start --no-block chargegated chargegate-radio@P1", once); err != nil {
		return err
	}
	if err := l.radioIsBack(); err != nil {
		return fmt.Errorf("after one failure: %w", err)
	}
	fails := "mkdir -p /run/systemd/system/chargegated.service.d && printf '[Service]\\nExecStartPre=/usr/bin/test -e /run/lab-may-start\\n' >/run/systemd/system/chargegated.service.d/fails.conf && systemctl daemon-reload"
	if _, err := l.Sh("systemctl stop chargegated chargegate-radio@P1 && %s && systemctl start --no-block chargegated chargegate-radio@P1", fails); err != nil {
		return err
	}
	if err := l.UntilSh(20*time.Second, "the daemon has failed three times", "test $(systemctl show -P NRestarts chargegated) -ge 3"); err != nil {
		return err
	}
	if _, err := l.Sh("%s", waiting); err != nil {
		out, _ := l.Sh("systemctl status --no-pager chargegate-radio@P1")
		return fmt.Errorf("the radio does not wait: %s", out)
	}
	if _, err := l.Sh("touch /run/lab-may-start"); err != nil {
		return err
	}
	if err := l.radioIsBack(); err != nil {
		return err
	}
	// hostapd dies while there is no daemon.
	if _, err := l.Sh("systemctl stop chargegated && systemctl kill -s KILL chargegate-radio@P1"); err != nil {
		return err
	}
	if err := l.UntilSh(20*time.Second, "the radio waits", waiting); err != nil {
		return err
	}
	if _, err := l.Sh("systemctl start chargegated"); err != nil {
		return err
	}
	return l.radioIsBack()
}

// radioIsBack waits for hostapd, and looks whether it began after READY.
func (l *Lab) radioIsBack() error {
	if err := l.Ready(20 * time.Second); err != nil {
		return err
	}
	if err := l.UntilSh(20*time.Second, "the radio sends", "systemctl is-active --quiet chargegate-radio@P1 && iw dev wlan0 info | grep -q 'type AP'"); err != nil {
		return err
	}
	ready, err := moment(l, "chargegated.service", "ActiveEnterTimestampMonotonic")
	if err != nil {
		return err
	}
	began, err := moment(l, "chargegate-radio@P1.service", "ExecMainStartTimestampMonotonic")
	if err == nil && began < ready {
		err = fmt.Errorf("hostapd began at %s, READY was at %s", round(began), round(ready))
	}
	l.Note("hostapd began %s after READY", round(began-ready))
	return err
}

// passphrasesFromTheStore: a file in the store is enough, plain or encrypted, and the
// radio's key is another one.
func passphrasesFromTheStore(l *Lab) error {
	const key = "sed -n 's/^wpa_psk=//p' /run/chargegate-rendered/hostapd-P1.conf"
	if _, err := l.Sh("rm -rf /etc/systemd/system/chargegate-prepare.service.d /etc/credstore/p1 && systemctl daemon-reload && (umask 077; printf 'from the store' >/etc/credstore/chargegate.p1) && systemctl restart chargegate-prepare"); err != nil {
		return err
	}
	plain, err := l.Sh("%s", key)
	if err != nil || len(plain) != 64 {
		return errors.Join(fmt.Errorf("the key of a passphrase in the store: %q", plain), err)
	}
	if _, err := l.Sh("rm /etc/credstore/chargegate.p1 && install -d -m 700 /etc/credstore.encrypted && printf 'encrypted' | systemd-creds encrypt --with-key=host --name=chargegate.p1 - /etc/credstore.encrypted/chargegate.p1 && systemctl restart chargegate-prepare"); err != nil {
		return err
	}
	encrypted, err := l.Sh("%s", key)
	if err != nil || len(encrypted) != 64 || encrypted == plain {
		return errors.Join(errors.New("the key of an encrypted passphrase has not changed, or is none"), err)
	}
	return l.Ready(20 * time.Second)
}
