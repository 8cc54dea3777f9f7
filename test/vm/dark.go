package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// darkScenarios are those of a box that could stay dark for ever, and of one that
// must stay as somebody left it.
func darkScenarios() []Scenario {
	return []Scenario{{
		Name: "dark", What: "what fails once or is mended comes back, and what was stopped stays stopped", From: "booted", Limit: 6 * time.Minute, Nightly: true, Run: dark,
	}}
}

func dark(l *Lab) error {
	for _, step := range []struct {
		what string
		do   func(*Lab) error
	}{
		{"a fault at boot that is mended", faultAtBoot},
		{"a firewall that fails once at boot", firewallOnce},
		{"a typo that is mended", mendedTypo},
		{"a daemon with a faulty configuration", faultyDaemon},
		{"a radio that was stopped stays stopped", stoppedRadio},
		{"a daemon that was stopped stays stopped", stoppedDaemon},
	} {
		began := time.Now()
		if err := step.do(l); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		l.Note("%s (%s)", step.what, round(time.Since(began)))
	}
	return nil
}

const (
	// typo is a channel that there is not; mend is the right one.
	typo = "sed -i 's/^channel = 6$/channel = 66/' /etc/chargegate/chargegate.toml && grep -q '^channel = 66$' /etc/chargegate/chargegate.toml"
	mend = "sed -i 's/^channel = 66$/channel = 6/' /etc/chargegate/chargegate.toml"
	// bootAgain leaves what a boot finds: nothing of ours runs, and nothing is rendered
	// or has an address. What is wanted is then started; the radios are named, for what
	// a target wants that is there already is passed over.
	bootAgain = "systemctl stop chargegate-radio@P1 chargegated chargegate-firewall chargegate-prepare && systemctl reset-failed 'chargegate*' && rm -rf /run/chargegate-rendered /run/systemd/network/10-chargegate-* && systemctl restart systemd-networkd && ip -4 addr flush dev wlan0"
	wanted    = "systemctl start --no-block multi-user.target chargegate-radios.target"
)

// stays wants a unit to be in a state for a while, asked each second.
func (l *Lab) stays(unit, state string, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		out, err := l.Sh("systemctl show -P ActiveState %s", unit)
		if err != nil || out != state {
			return errors.Join(fmt.Errorf("%s is %q, want %s", unit, out, state), err)
		}
	}
	return nil
}

// restarts are how often systemd has started a unit again by itself.
func (l *Lab) restarts(unit string) (int, error) {
	out, err := l.Sh("systemctl show -P NRestarts %s", unit)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(out)
}

// stoppedRadio: the daemon crashes, and the configuration is taken over; a radio
// that was stopped on purpose is no part of either.
func stoppedRadio(l *Lab) error {
	if _, err := l.Sh("systemctl stop chargegate-radio@P1 && systemctl kill -s KILL --kill-whom=main chargegated"); err != nil {
		return err
	}
	if err := l.UntilSh(20*time.Second, "the daemon is started again", "test $(systemctl show -P NRestarts chargegated) -ge 1 && systemctl is-active chargegated"); err != nil {
		return err
	}
	if err := l.stays("chargegate-radio@P1", "inactive", 8*time.Second); err != nil {
		return fmt.Errorf("after a crash of the daemon: %w", err)
	}
	if _, err := l.Sh("systemctl restart chargegate-prepare"); err != nil {
		return err
	}
	if err := l.Ready(20 * time.Second); err != nil {
		return err
	}
	if err := l.stays("chargegate-radio@P1", "inactive", 4*time.Second); err != nil {
		return fmt.Errorf("after the configuration was taken over: %w", err)
	}
	if _, err := l.Sh("systemctl start chargegate-radio@P1"); err != nil {
		return err
	}
	return l.radioIsBack()
}

// stoppedDaemon: neither hostapd's death nor a start of what already runs brings it
// back.
func stoppedDaemon(l *Lab) error {
	if _, err := l.Sh("systemctl stop chargegated && systemctl kill -s KILL chargegate-radio@P1"); err != nil {
		return err
	}
	if err := l.UntilSh(20*time.Second, "the radio waits", "test $(systemctl show -P NRestarts chargegate-radio@P1) -ge 1 && systemctl is-active chargegate-radio@P1 | grep -q activating"); err != nil {
		return err
	}
	if _, err := l.Sh("systemctl stop chargegate-radio@P1 && systemctl start --no-block chargegate-radio@P1"); err != nil {
		return err
	}
	if err := l.stays("chargegated", "inactive", 4*time.Second); err != nil {
		return err
	}
	if _, err := l.Sh("systemctl start chargegated"); err != nil {
		return err
	}
	return l.radioIsBack()
}

// faultyDaemon: somebody restarts it with a typo. That is said at once, tried less
// and less often, and once mended it comes by itself.
func faultyDaemon(l *Lab) error {
	if _, err := l.Sh("%s && ! systemctl restart chargegated", typo); err != nil {
		return fmt.Errorf("a faulty configuration was not told to who restarted it: %w", err)
	}
	const watched = 30 * time.Second
	time.Sleep(watched)
	n, err := l.restarts("chargegated")
	if err != nil {
		return err
	}
	lines, err := l.Sh("journalctl -q -b --since '-%ds' -u chargegated | wc -l", int(watched.Seconds()))
	if err != nil {
		return err
	}
	l.Note("%d attempts in %s, and %s lines", n, watched, lines)
	if n < 3 || n > 12 {
		return fmt.Errorf("%d attempts in %s, want some quick ones and then few", n, watched)
	}
	if _, err := l.Sh("%s", mend); err != nil {
		return err
	}
	began := time.Now()
	if err := l.Ready(45 * time.Second); err != nil {
		return err
	}
	l.Note("%s after it was mended it was ready, without a command", round(time.Since(began)))
	return nil
}

// mendedTypo: a faulty configuration is refused, everything below ends, and the same
// command brings all of it back.
func mendedTypo(l *Lab) error {
	before, err := hostapdPID(l)
	if err != nil {
		return err
	}
	if _, err := l.Sh("%s && ! systemctl restart chargegate-prepare", typo); err != nil {
		return fmt.Errorf("a faulty configuration was taken over: %w", err)
	}
	if _, err := l.Sh("! systemctl is-active chargegated"); err != nil {
		return fmt.Errorf("it is not fail closed: %w", err)
	}
	if _, err := l.Sh("%s && systemctl restart chargegate-prepare", mend); err != nil {
		return err
	}
	if err := l.allIsBack(20 * time.Second); err != nil {
		return err
	}
	after, err := hostapdPID(l)
	if err == nil && after != before {
		err = fmt.Errorf("hostapd was %s and is %s", before, after)
	}
	return err
}

// allIsBack waits for the firewall and the daemon.
func (l *Lab) allIsBack(limit time.Duration) error {
	err := l.UntilSh(limit, "everything serves again", "for u in chargegate-prepare chargegate-firewall chargegated; do systemctl is-active $u || exit 1; done; nft list table inet chargegate >/dev/null && ip -4 addr show dev wlan0 | grep -q inet")
	if err != nil {
		out, _ := l.Sh("systemctl list-units --all --no-legend --plain 'chargegate*'; systemctl list-jobs --no-legend")
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return err
}

// firewallOnce: nft fails the first time.
func firewallOnce(l *Lab) error {
	const once = `mkdir -p /run/systemd/system/chargegate-firewall.service.d
printf 'test -e /run/lab-nft-failed && exit 0; touch /run/lab-nft-failed; exit 1' >/run/lab-nft
printf '[Service]\nExecStartPre=+/bin/sh /run/lab-nft\n' >/run/systemd/system/chargegate-firewall.service.d/fails.conf
systemctl daemon-reload`
	if _, err := l.Sh("%s && %s && %s", bootAgain, once, wanted); err != nil {
		return err
	}
	if err := l.UntilSh(20*time.Second, "the firewall has failed", "test -e /run/lab-nft-failed"); err != nil {
		return err
	}
	if err := l.allIsBack(30 * time.Second); err != nil {
		return err
	}
	if _, err := l.Sh("rm -r /run/systemd/system/chargegate-firewall.service.d && systemctl daemon-reload"); err != nil {
		return err
	}
	return l.radioIsBack()
}

// faultAtBoot: the box begins with a faulty configuration. Nothing serves, nothing
// sends, and few words are made of it; mended, it comes by itself.
func faultAtBoot(l *Lab) error {
	if _, err := l.Sh("%s && %s && %s", bootAgain, typo, wanted); err != nil {
		return err
	}
	const watched = 25 * time.Second
	time.Sleep(watched)
	n, err := l.restarts("chargegate-prepare")
	if err != nil {
		return err
	}
	lines, err := l.Sh("journalctl -q -b --since '-%ds' | grep -c chargegate", int(watched.Seconds()))
	if err != nil {
		return err
	}
	radio, err := l.restarts("chargegate-radio@P1")
	if err != nil {
		return err
	}
	l.Note("at boot, in %s: %d attempts of preparing, %d of the radio, %s lines of all kinds", watched, n, radio, lines)
	if n < 1 || n > 5 || radio > 0 {
		return fmt.Errorf("%d attempts of preparing and %d of the radio in %s, want 1 to 5 and none", n, radio, watched)
	}
	if _, err := l.Sh("! systemctl is-active chargegated && ! iw dev wlan0 info | grep -q 'type AP' && test $(cat /proc/sys/net/ipv4/ip_forward) = 0"); err != nil {
		return fmt.Errorf("it is not fail closed: %w", err)
	}
	if _, err := l.Sh("%s", mend); err != nil {
		return err
	}
	began := time.Now()
	if err := l.allIsBack(45 * time.Second); err != nil {
		return err
	}
	l.Note("%s after it was mended everything was back, without a command", round(time.Since(began)))
	return l.radioIsBack()
}
