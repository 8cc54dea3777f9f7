package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// reviveScenarios are those of radios that somebody has to bring back.
func reviveScenarios() []Scenario {
	return []Scenario{{
		Name: "revive", What: "a dead radio: hostapd restarted, the driver begun anew, the box rebooted, once and no more", From: "power",
		Limit: 10 * time.Minute, Nightly: true, Run: reviveRadios,
	}}
}

// reviveSetup adds P3, whose interface is a wired card: it hangs on a bus, so its
// driver can begin anew, and no hostapd ever makes an access point of it. What is
// waited for is shortened, and nothing else of the unit is changed.
const reviveSetup = `set -e
cat >>/etc/chargegate/chargegate.toml <<'END'
[[network]]
name = "P3"
interface = "eth2"
chargers = 4
address = "10.83.32.1/24"
[network.radio]
ssid = "garage-p3"
passphrase = "credential:p1"
country = "SE"
channel = 11
max_stations = 4
revive = "reboot"
END
sed -i '0,/^channel = 6/s//channel = 6\nrevive = "driver"/' /etc/chargegate/chargegate.toml
chargegated -check
echo e1000 >/etc/modules-load.d/e1000.conf
modprobe e1000
mkdir -p /etc/systemd/system/chargegate-revive.service.d
cat >/etc/systemd/system/chargegate-revive.service.d/lab.conf <<'END'
[Service]
ExecStart=
ExecStart=/usr/bin/chargegate revive -every 1s -silent 5s -wait 10s -boot 30s
END
systemctl daemon-reload
systemctl restart chargegate-prepare
systemctl enable --quiet --now chargegate-revive`

// reviveRadios first has hostapd of P1 fail in three ways, then P3.
func reviveRadios(l *Lab) error {
	// A disk of its own, which outlives the reboot: with that, QEMU ends.
	disk := filepath.Join(l.Dir, "revive.qcow2")
	if err := command(l.ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", l.Image.Root, disk); err != nil {
		return err
	}
	box := Machine{Root: "format=qcow2,cache=unsafe,file=" + disk, Extra: []string{"-device", "e1000"}}
	if err := l.Power(box); err != nil {
		return err
	}
	if err := l.Ready(120 * time.Second); err != nil {
		return err
	}
	if err := l.UntilSh(90*time.Second, "the radio sends", "iw dev wlan0 info | grep -q 'type AP'"); err != nil {
		return err
	}
	if err := l.silentRadio(); err != nil {
		return err
	}
	if _, err := l.Sh("%s", reviveSetup); err != nil {
		return err
	}
	for _, step := range []func() error{l.reviveDisabled, l.reviveHung, l.reviveLeavesAlone, l.reviveReboots, func() error { return l.Power(box) }, l.reviveNoMore} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// revived counts what chargegate-revive said of one radio in this boot.
func (l *Lab) revived(event, network string) (int, error) {
	out, err := l.Sh("journalctl -q --no-pager -b -t chargegated EVENT=%s NETWORK=%s -o cat | wc -l", event, network)
	if err != nil {
		return 0, err
	}
	n := 0
	_, err = fmt.Sscan(out, &n)
	return n, err
}

// untilRevived waits until an event was said so many times.
func (l *Lab) untilRevived(limit time.Duration, event, network string, times int) error {
	return l.Until(limit, fmt.Sprintf("%s of %s, %d times", event, network, times), func() (bool, error) {
		n, err := l.revived(event, network)
		return n >= times, err
	})
}

// silentRadio: where nobody revives it, the daemon says after a minute that it sends
// nothing. It is left so.
func (l *Lab) silentRadio() error {
	// hostapd has a /tmp of its own, where its answer would be lost.
	if _, err := l.Sh("timeout 5 hostapd_cli -s /run -i wlan0 disable"); err != nil {
		return err
	}
	began := time.Now()
	if err := l.untilRevived(100*time.Second, "radio-silent", "P1", 1); err != nil {
		return err
	}
	said, err := l.Sh("journalctl -q --no-pager -b -t chargegated EVENT=radio-silent -o cat")
	l.Note("%s after hostapd was told to stop: %s", round(time.Since(began)), said)
	return err
}

// reviveDisabled: what silentRadio has left.
func (l *Lab) reviveDisabled() error {
	if err := l.untilRevived(20*time.Second, "revive-watching", "P1", 1); err != nil {
		return err
	}
	if err := l.untilRevived(80*time.Second, "revive-helped", "P1", 1); err != nil {
		return err
	}
	_, err := l.Sh("iw dev wlan0 info | grep -q 'type AP'")
	return err
}

func (l *Lab) reviveHung() error {
	if _, err := l.Sh("kill -STOP $(systemctl show --value -p MainPID chargegate-radio@P1)"); err != nil {
		return err
	}
	return l.untilRevived(90*time.Second, "revive-helped", "P1", 2)
}

// reviveLeavesAlone: what somebody has stopped stays so, and nothing of the service
// lacks a right that the unit does not give.
func (l *Lab) reviveLeavesAlone() error {
	if _, err := l.Sh("systemctl stop chargegate-radio@P1; sleep 12"); err != nil {
		return err
	}
	n, err := l.revived("revive-restart", "P1")
	if err != nil {
		return err
	}
	if n != 2 {
		return fmt.Errorf("hostapd of P1 was restarted %d times, want 2: a radio that was stopped by hand stays so", n)
	}
	amiss, err := l.Sh(`systemctl start chargegate-radio@P1
journalctl -q --no-pager -b -t chargegated EVENT=revive-blind + EVENT=revive-step-failed + EVENT=revive-record-unwritten -o cat`)
	if err != nil {
		return err
	}
	return none("what could not be done", amiss)
}

// reviveReboots: P3 never becomes an access point. The step before the reboot shows
// itself by the interface's new number.
func (l *Lab) reviveReboots() error {
	number, err := l.Sh("cat /sys/class/net/eth2/ifindex")
	if err != nil {
		return err
	}
	if _, err := l.Sh("systemctl enable --quiet chargegate-radio@P3; systemctl start --no-block chargegate-radio@P3"); err != nil {
		return err
	}
	if err := l.untilRevived(80*time.Second, "revive-restart", "P3", 1); err != nil {
		return err
	}
	if err := l.untilRevived(80*time.Second, "revive-driver", "P3", 1); err != nil {
		return err
	}
	if err := l.UntilSh(10*time.Second, "the driver has begun anew", fmt.Sprintf("n=$(cat /sys/class/net/eth2/ifindex) && test $n != %s", number)); err != nil {
		return err
	}
	return l.Until(150*time.Second, "the box reboots", func() (bool, error) { return l.Over(), nil })
}

// reviveNoMore: the next boot knows of the reboot, and does without another.
func (l *Lab) reviveNoMore() error {
	if err := l.Ready(120 * time.Second); err != nil {
		return err
	}
	if err := l.untilRevived(120*time.Second, "revive-spent", "P3", 1); err != nil {
		return err
	}
	said, err := l.Sh("journalctl -q --no-pager -b -t chargegated EVENT=revive-spent -o cat; cat /var/lib/chargegate-revive/deeds")
	if err != nil {
		return err
	}
	for _, want := range []string{`of "reboot" there are at most 1 in 1h`, `"P3":{"restarts":2,"drivers":2,"reboots":1}`, `"P1":{"restarts":2,"drivers":0,"reboots":0}`} {
		if !strings.Contains(said, want) {
			return fmt.Errorf("no %q in:\n%s", want, said)
		}
	}
	if l.Over() {
		return errors.New("it has rebooted again")
	}
	return nil
}
