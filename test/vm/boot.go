package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"chargegate/test/vm/wire"
)

// bootScenarios are those of the way from power to beacons (A).
func bootScenarios() []Scenario {
	return []Scenario{{
		Name: "boot", What: "from power to READY to beacons; the firewall first, and nothing reachable before it", From: "power", Leaves: "booted", Limit: 4 * time.Minute, Run: boot,
	}}
}

// boot watches a boot from inside, and leaves the guest as it is a moment later.
func boot(l *Lab) error {
	if err := l.Power(Machine{Append: "lab.watch"}); err != nil {
		return err
	}
	if err := l.Ready(150 * time.Second); err != nil {
		return err
	}
	if err := l.UntilSh(60*time.Second, "the radio sends", "iw dev wlan0 info | grep -q 'type AP'"); err != nil {
		return err
	}
	if err := l.UntilSh(60*time.Second, "the boot has ended", `test "$(systemctl is-system-running)" != starting`); err != nil {
		return err
	}
	at := map[string]time.Duration{}
	for _, unit := range []string{"chargegate-prepare", "chargegate-firewall", "chargegated", "chargegate-radio@P1"} {
		out, err := l.Sh("systemctl show --value -p ActiveEnterTimestampMonotonic %s", unit)
		if err != nil {
			return err
		}
		if at[unit], err = time.ParseDuration(strings.TrimSpace(out) + "us"); err != nil {
			return err
		}
	}
	firewall, ready := at["chargegate-firewall"], at["chargegated"]
	if err := l.proveProbers(); err != nil {
		return err
	}
	var w wire.Watched
	if err := l.Call("watched", nil, &w); err != nil {
		return err
	}
	l.Note("after the kernel's start: files rendered %s, firewall %s, interfaces up eth0 %s eth1 %s wlan0 %s, READY %s, on the air %s",
		round(at["chargegate-prepare"]), round(firewall), round(w.Up["eth0"]), round(w.Up["eth1"]), round(w.Up["wlan0"]), round(ready), round(w.Air))
	l.Note("tried meanwhile: %d times from the uplink, which found nothing; %d times from the wired garage, which found %s",
		w.Rounds["cloud"], w.Rounds["site"], strings.Join(found(w.Answers["site"]), ", "))
	failed, err := l.Sh("systemctl --failed --no-legend --plain")
	return errors.Join(err, inOrder(w, firewall, ready), nothingBefore(w, firewall, ready), proven(w), none("units that failed", failed))
}

// inOrder says what was too early, or was not seen.
func inOrder(w wire.Watched, firewall, ready time.Duration) error {
	var errs []error
	for _, name := range []string{"eth0", "eth1", "wlan0"} {
		switch up := w.Up[name]; {
		case up == 0:
			errs = append(errs, fmt.Errorf("nobody saw %s come up", name))
		case up < firewall:
			errs = append(errs, fmt.Errorf("%s was up %v before the firewall stood", name, firewall-up))
		}
	}
	switch {
	case w.Air == 0:
		errs = append(errs, errors.New("nobody heard a beacon"))
	case w.Air < ready:
		errs = append(errs, fmt.Errorf("the radio sent %v before READY", ready-w.Air))
	}
	return errors.Join(errs...)
}

// outside is what the proof of the probers opened for the time after the boot.
const outside = "ping"

// nothingBefore says what answered before it should have, and what never should.
func nothingBefore(w wire.Watched, firewall, ready time.Duration) error {
	var errs []error
	for what, a := range w.Answers["cloud"] {
		if !refusal(what) && what != outside {
			errs = append(errs, fmt.Errorf("the uplink was answered: %s, %d times, first after %v", what, a.Times, a.First))
		}
	}
	for space, answers := range w.Answers {
		for what, a := range answers {
			if a.First < firewall {
				errs = append(errs, fmt.Errorf("%s was answered %s, %v before the firewall stood", space, what, firewall-a.First))
			}
		}
	}
	if a := w.Answers["cloud"][outside]; a.Times > 0 && a.First < ready {
		errs = append(errs, fmt.Errorf("the uplink's ping was answered after %v, when nobody had opened it", a.First))
	}
	return errors.Join(errs...)
}

// refusal is whether an answer says only that there is nothing: what the firewall
// says by itself, once it stands.
func refusal(what string) bool {
	return strings.HasSuffix(what, " refused") || what == "icmp unreachable 13"
}

// found is what answered with more than a refusal, in the order of its coming.
func found(answers map[string]wire.Answered) (all []string) {
	for what := range answers {
		if !refusal(what) {
			all = append(all, what)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(answers[a].First, answers[b].First) })
	for i, what := range all {
		all[i] = fmt.Sprintf("%s (after %s)", what, round(answers[what].First))
	}
	return all
}

// proveProbers shows that who tries from the uplink would have heard an answer: a
// ping is let in for a moment, and must be answered from then on. The garage's
// own pings are answered anyway.
func (l *Lab) proveProbers() error {
	_, err := l.Sh(`nft insert rule inet chargegate from_outside icmp type echo-request accept
ip netns exec cloud ping -q -c 1 -W 5 203.0.113.2
sleep 1
nft -f /run/chargegate-rendered/nftables.conf`)
	return err
}

// proven is whether both probers hear what answers them.
func proven(w wire.Watched) error {
	for _, space := range []string{"cloud", "site"} {
		if w.Answers[space]["ping"].Times == 0 {
			return fmt.Errorf("who tries from %s heard not even the ping that was answered: nothing is proven", space)
		}
	}
	return nil
}

// none is an error that quotes what should not be there.
func none(what, list string) error {
	if list = strings.TrimSpace(list); list == "" {
		return nil
	}
	return fmt.Errorf("%s:\n%s", what, list)
}
