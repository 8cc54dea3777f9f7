package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"chargegate/test/vm/wire"
)

// restartScenarios are those of a daemon that ends or hangs (E).
func restartScenarios() []Scenario {
	return []Scenario{{
		Name: "restart", What: "the daemon is restarted, killed and hangs: nobody loses a conversation, an address or a beacon", From: "garage",
		Limit: 4 * time.Minute, Run: restarts,
	}}
}

// restarts ends the daemon in three ways while every charger talks.
func restarts(l *Lab) error {
	before, err := talkersOf(l)
	if err != nil {
		return err
	}
	wifi, err := accessPoint(l)
	if err != nil {
		return err
	}
	if err := l.Call("beacons", nil, nil); err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	if err := airUnharmed(l, "while nothing happens"); err != nil {
		return err
	}
	bare, err := keptBy(l)
	if err != nil {
		return err
	}
	if err := l.Call("count", wire.Count{Every: 250 * time.Millisecond}, nil); err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // what is new is kept within a second
	held, err := keptBy(l)
	if err != nil {
		return err
	}
	l.Note("kept by systemd: %d descriptors, %d with twice the conversations; it has %d kB of memory, and %d before", bare.stored, held.stored, held.memory, bare.memory)

	for _, end := range []struct {
		how, script string
		limit       time.Duration
	}{
		{"restarted", "systemctl restart chargegated", 30 * time.Second},
		{"killed", "systemctl kill -s KILL --kill-whom=main chargegated", 30 * time.Second},
		{"hanging", "systemctl kill -s STOP --kill-whom=main chargegated", 80 * time.Second},
	} {
		if err := replaced(l, end.how, end.script, end.limit); err != nil {
			return fmt.Errorf("%s: %w", end.how, err)
		}
	}
	if _, err := l.Sh("journalctl -q -b -u chargegated | grep 'Watchdog timeout'"); err != nil {
		return fmt.Errorf("it was not the watchdog that ended the hanging one: %w", err)
	}
	after, err := keptBy(l)
	if err != nil {
		return err
	}
	if after.stored != held.stored {
		return fmt.Errorf("systemd keeps %d descriptors, and %d before", after.stored, held.stored)
	}
	l.Note("in all of this systemd used %s of processor time and has %d kB of memory", after.used-held.used, after.memory)
	if err := counted(l, chargers); err != nil {
		return err
	}
	if err := unharmed(l, before); err != nil {
		return err
	}
	if now, err := accessPoint(l); err != nil || now != wifi {
		return errors.Join(err, fmt.Errorf("hostapd and the stations' time on it: %s; before: %s", now, wifi))
	}
	return airUnharmed(l, "in all of this")
}

// accessPoint is which hostapd there is, and how often its stations have said that
// they joined it, or left it.
func accessPoint(l *Lab) (string, error) {
	return l.Sh(`systemctl show -P MainPID chargegate-radio@P1
grep -c -e CTRL-EVENT-CONNECTED -e CTRL-EVENT-DISCONNECTED /run/garage/s*-wpa_supplicant.log`)
}

// doubts is how often stations have missed so many beacons that they asked the access
// point whether it is still there; it was, or they would have left it.
func doubts(l *Lab) (string, error) {
	return l.Sh(`cat /run/garage/s*-wpa_supplicant.log | grep -c BEACON-LOSS; true`)
}

// replaced ends the daemon and waits for the next one.
func replaced(l *Lab, how, script string, limit time.Duration) error {
	const taken = "EVENT=handover-conversations"
	ids, err := eventsOf(l, taken)
	if err != nil {
		return err
	}
	began := time.Now()
	if _, err := l.Sh("%s", script); err != nil {
		return err
	}
	var all []map[string]string
	err = l.Until(limit, "the next daemon has said what goes on", func() (bool, error) {
		all, err = eventsOf(l, taken)
		return len(all) > len(ids), err
	})
	if err != nil {
		return err
	}
	e := all[len(all)-1]
	l.Note("%s: after %s the next daemon says: %s", how, round(time.Since(began)), e["MESSAGE"])
	if e["LOST"] != "0" || e["COUNT"] != fmt.Sprint(2*chargers) {
		return fmt.Errorf("%s conversations go on and %s are lost, want %d and 0", e["COUNT"], e["LOST"], 2*chargers)
	}
	if err := l.Ready(10 * time.Second); err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // numbers flow again
	var sofar []wire.Counted
	if err := l.Call("counting", nil, &sofar); err != nil {
		return err
	}
	longest := time.Duration(0)
	for _, c := range sofar {
		longest = max(longest, c.Longest)
		if c.Trouble != "" {
			err = errors.Join(err, fmt.Errorf("station %d: %s", c.Number, c.Trouble))
		}
	}
	l.Note("the longest that a number was on its way so far: %s", round(longest))
	return err
}

// kept is what the real systemd spends on the store.
type kept struct {
	stored int           // descriptors
	memory int           // kB that it has in all
	used   time.Duration // processor time since the boot
}

func keptBy(l *Lab) (k kept, err error) {
	text, err := l.Sh(`systemctl show -P NFileDescriptorStore chargegated; awk '/VmRSS/ {print $2}' /proc/1/status; awk '{print $14 + $15}' /proc/1/stat`)
	if err != nil {
		return k, err
	}
	const tick = 10 * time.Millisecond // Linux shows it so on every machine (USER_HZ)
	var n [3]int
	for i, word := range strings.Fields(text) {
		if i >= len(n) {
			break
		}
		if n[i], err = strconv.Atoi(word); err != nil {
			return k, err
		}
	}
	return kept{n[0], n[1], time.Duration(n[2]) * tick}, nil
}

func talkersOf(l *Lab) (all []wire.Talker, err error) { return all, l.Call("talkers", nil, &all) }

// counted ends the counting, and wants every number of every station back.
func counted(l *Lab, stations int) error {
	var all []wire.Counted
	if err := l.Call("counted", nil, &all); err != nil {
		return err
	}
	var err error
	sum, longest := uint64(0), time.Duration(0)
	for _, c := range all {
		sum, longest = sum+c.Back, max(longest, c.Longest)
		if c.Trouble != "" {
			err = errors.Join(err, fmt.Errorf("station %d: %s", c.Number, c.Trouble))
		}
	}
	if len(all) != stations {
		err = errors.Join(err, fmt.Errorf("%d stations have counted, want %d", len(all), stations))
	}
	l.Note("%d numbers said to the hub, all of them back and in order; the longest took %s", sum, round(longest))
	return err
}

// unharmed wants every charger to talk on, from its address.
func unharmed(l *Lab, before []wire.Talker) error {
	after, err := talkersOf(l)
	if err != nil {
		return err
	}
	if len(after) != len(before) || len(before) != chargers {
		return fmt.Errorf("%d chargers talk, and %d before", len(after), len(before))
	}
	for i, t := range after {
		if !t.Well || t.Stage != "ok" || t.Conversations != before[i].Conversations || len(t.Addresses) != 1 {
			err = errors.Join(err, fmt.Errorf("station %d is at %s, has begun %d conversations (%d before) and had the addresses %v: %s",
				t.Number, t.Stage, t.Conversations, before[i].Conversations, t.Addresses, t.Trouble))
		}
	}
	if err != nil {
		return err
	}
	return pageOf(l, chargers)
}

// patienceOfStations is how long mac80211 hears no beacon before it asks whether
// the access point is still there: seven of them.
const patienceOfStations = 7 * 102400 * time.Microsecond

// airUnharmed wants the access point's beacons to go on. The kernel sends them when
// its timer says so; where the emulated processor comes too late to it, one is
// missing, also while nothing happens.
func airUnharmed(l *Lab, when string) error {
	var air wire.Beacons
	if err := l.Call("beacons", nil, &air); err != nil {
		return err
	}
	asked, err := doubts(l)
	if err != nil {
		return err
	}
	l.Note("%s: %d beacons, %d of them not sent in time by the emulated processor, at most %d ms from one to the next; stations have asked %s times whether the access point is still there", when, air.Heard, air.Missing, air.Longest.Milliseconds(), asked)
	if air.Heard == 0 || air.Longest > 2*patienceOfStations {
		return fmt.Errorf("no beacon for %s", air.Longest)
	}
	return nil
}
