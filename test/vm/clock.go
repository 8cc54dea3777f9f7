package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"chargegate/test/vm/wire"
)

// clockScenarios are those of a clock that is wrong at first (H).
func clockScenarios() []Scenario {
	return []Scenario{{
		Name: "clock", What: "the machine believes in 1970 and has no time for a minute: chargers have all but the time, then the time, and nothing suffers from the step", From: "power",
		Limit: 5 * time.Minute, Run: clock,
	}}
}

// timeless is how long after READY there is no time.
const timeless = 60 * time.Second

func clock(l *Lab) error {
	const many = 3
	if err := l.Power(Machine{RTC: "base=1970-01-01"}); err != nil {
		return err
	}
	if err := l.Call("cloud", wire.Cloud{Timeless: true}, nil); err != nil {
		return err
	}
	if err := l.Ready(90 * time.Second); err != nil {
		return err
	}
	ready := time.Now()
	// systemd knows that it is later than 1970: it was built later.
	wrong, err := l.Sh("date -u +%s; cat /sys/class/rtc/rtc0/date", "%F")
	if err != nil {
		return err
	}
	l.Note("READY after %s; clock and hardware clock: %s", round(l.Uptime()), strings.Join(strings.Fields(wrong), ", "))
	if err := l.UntilSh(30*time.Second, "the radio sends", "iw dev wlan0 info | grep -q 'type AP'"); err != nil {
		return err
	}
	stations, err := join(l, 1, many, 60*time.Second)
	if err != nil {
		return err
	}
	for _, s := range stations {
		if s.Leased == 0 {
			return fmt.Errorf("without the time station %d has no address: %s", s.Number, s.Trouble)
		}
	}
	// Chargers that ask for the time first, as the firmware does, and beside that a
	// conversation of each that is open while the clock is set.
	if err := l.Call("talk", wire.Numbers{}, nil); err != nil {
		return err
	}
	if err := l.Call("count", wire.Count{Every: 250 * time.Millisecond}, nil); err != nil {
		return fmt.Errorf("without the time nobody reaches the hub: %w", err)
	}
	l.Note("%s after READY, without the time: %d chargers have Wi-Fi, an address, names and a conversation with the hub", round(time.Since(ready)), many)
	time.Sleep(time.Until(ready.Add(timeless)))
	talkers, err := talkersOf(l)
	if err != nil {
		return err
	}
	for _, t := range talkers {
		if t.Stage != "time" {
			return fmt.Errorf("station %d is at %q, and there is no time yet, want it at time: %s", t.Number, t.Stage, t.Trouble)
		}
	}
	if said, err := eventsOf(l, "EVENT=ntprelay-clock-set", "EVENT=ntprelay-clock-stepped", "EVENT=ntprelay-synchronised"); err != nil || len(said) > 0 {
		return fmt.Errorf("without any time this was said: %v (%w)", kindsOf(said), err)
	}

	given := time.Now()
	if err := l.Call("cloud", wire.Cloud{Now: given}, nil); err != nil {
		return err
	}
	if err := l.Until(90*time.Second, "the box says that its clock was set and is right", func() (bool, error) {
		said, err := eventsOf(l, "EVENT=ntprelay-clock-set", "EVENT=ntprelay-synchronised")
		return len(said) >= 2, err
	}); err != nil {
		return err
	}
	known := time.Since(given)
	set, err := eventsOf(l, "EVENT=ntprelay-clock-set")
	if err != nil {
		return err
	}
	l.Note("time appears; after %s: %s", round(known), set[0]["MESSAGE"])
	if err := allWell(l, many, 120*time.Second); err != nil {
		return err
	}
	l.Note("all %d chargers are at ok %s after the time appeared", many, round(time.Since(given)))
	return errors.Join(afterStep(l, many), stepLeaves(l))
}

// afterStep wants what was open to go on, and everybody to have one address.
func afterStep(l *Lab, many int) error {
	if err := counted(l, many); err != nil {
		return err
	}
	all, err := talkersOf(l)
	if err != nil {
		return err
	}
	for _, t := range all {
		if len(t.Addresses) != 1 {
			err = errors.Join(err, fmt.Errorf("station %d has had the addresses %v", t.Number, t.Addresses))
		}
		if t.Clock < -time.Second || t.Clock > time.Second {
			err = errors.Join(err, fmt.Errorf("station %d was given a time that is %v off", t.Number, t.Clock))
		}
	}
	return err
}

// stepLeaves wants leases, names and accounts to be what they were: the leases live
// on, names are answered though nobody can be asked, and the accounts of before the
// step stand under the true day.
func stepLeaves(l *Lab) error {
	st, err := statusOf(l)
	if err != nil {
		return err
	}
	for _, n := range st.Networks {
		if n.Name == "P1" && (n.Pool == nil || n.Pool.Used < 3) {
			err = errors.Join(err, fmt.Errorf("after the step %+v leases of P1 are in force, want 3", n.Pool))
		}
	}
	out, rerr := l.Sh(`set -e
ip -n cloud link set eth0 down
ip netns exec s1 busybox nslookup -type=a api.zaptec.com 10.83.0.1 >/tmp/n 2>&1 || { echo "no name from the cache:"; cat /tmp/n; }
ip -n cloud link set eth0 up
systemctl restart chargegated
ls /var/lib/chargegate/volume
journalctl -q -b -t chargegated -p err -o cat`)
	if rerr != nil {
		return errors.Join(err, rerr)
	}
	if want := time.Now().UTC().Format("2006-01-02"); out != want {
		err = errors.Join(err, fmt.Errorf("want a name, the accounts of %s alone and no error; it is\n%s", want, out))
	}
	return err
}
