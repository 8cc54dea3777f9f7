package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"chargegate/test/vm/wire"
)

// radioScenarios are those of radios and interfaces that fail (F).
func radioScenarios() []Scenario {
	return []Scenario{{
		Name: "radio", What: "hostapd is killed, the radio is pulled out and put in, interfaces are renamed: all comes back by itself, and is said", From: "garage",
		Limit: 4 * time.Minute, Run: radios,
	}}
}

// radios breaks what the chargers hang on, and waits for all of them to be well
// again without anybody's help.
func radios(l *Lab) error {
	before, err := talkersOf(l)
	if err != nil {
		return err
	}
	if err := begunOnce(l); err != nil {
		return err
	}
	first, err := eventsOf(l)
	if err != nil {
		return err
	}
	for _, fault := range []struct {
		what    string
		happens func(*Lab) error
		anew    bool // hostapd is another process afterwards; false: the same
		// said are events of which each must follow.
		said []string
	}{
		{"hostapd killed", func(l *Lab) error {
			_, err := l.Sh("systemctl kill -s KILL --kill-whom=main chargegate-radio@P1")
			return err
		}, true, []string{"charger-left"}},
		{"the radio pulled out for 5 s", func(l *Lab) error { return replug(l, "") },
			true, []string{"dhcp-interface-missing", "dhcp-interface-found"}},
		{"the radio pulled out for 5 s, and back with a name that udev changes", func(l *Lab) error { return replug(l, "adapter0") },
			true, []string{"dhcp-interface-missing", "dhcp-interface-found"}},
		{"udev told of all interfaces anew", func(l *Lab) error {
			_, err := l.Sh("udevadm trigger --action=add --subsystem-match=net && udevadm settle -t 20")
			return err
		}, false, nil},
		{"both networks' interfaces renamed for 5 s", rename, false, []string{"dhcp-interface-missing", "dhcp-interface-found"}},
	} {
		mark, err := eventsOf(l)
		if err != nil {
			return err
		}
		old, err := hostapdOf(l)
		if err != nil {
			return err
		}
		began := time.Now()
		if err := fault.happens(l); err != nil {
			return fmt.Errorf("%s: %w", fault.what, err)
		}
		over := time.Now()
		if err := onAir(l, old, fault.anew, len(before)); err != nil {
			return fmt.Errorf("%s: %w", fault.what, err)
		}
		joined := time.Since(over)
		if err := everybody(l, len(before), 60*time.Second); err != nil {
			return fmt.Errorf("%s: %w", fault.what, err)
		}
		well := time.Since(over)
		if err := wired(l); err != nil {
			return fmt.Errorf("%s: %w", fault.what, err)
		}
		if err := sameAddresses(l, before); err != nil {
			return fmt.Errorf("%s: %w", fault.what, err)
		}
		if now, err := hostapdOf(l); err != nil || (now != old) != fault.anew {
			return fmt.Errorf("%s: hostapd was process %s and is process %s (%w)", fault.what, old, now, err)
		}
		all, err := eventsOf(l)
		if err != nil {
			return err
		}
		said := kindsOf(all[len(mark):])
		l.Note("%s (%s): all %d chargers on the Wi-Fi after %s more, talking with the hub after %s; said: %s", fault.what, round(over.Sub(began)), len(before), round(joined), round(well), strings.Join(said, ", "))
		for _, id := range fault.said {
			if !strings.Contains(" "+strings.Join(said, " "), " "+id) {
				err = errors.Join(err, fmt.Errorf("%s: nobody said %s", fault.what, id))
			}
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(rejoined(l, len(first), len(before)), pageOf(l, len(before)))
}

// rejoined wants it said of every charger that it has joined again. Not after each
// fault: it is said once a minute at most.
func rejoined(l *Lab, mark, many int) error {
	all, err := eventsOf(l)
	if err != nil {
		return err
	}
	who := map[string]bool{}
	for _, e := range all[mark:] {
		if e["EVENT"] == "charger-joined" {
			who[e["CHARGER"]] = true
		}
	}
	if len(who) != many {
		return fmt.Errorf("of %d chargers only these were said to have joined again: %v", many, slices.Sorted(maps.Keys(who)))
	}
	return nil
}

// begunOnce wants the boot to have started the radio's unit once: udev tells of its
// interface then, too.
func begunOnce(l *Lab) error {
	out, err := l.Sh("journalctl -q -b --no-pager -o cat _PID=1 UNIT=chargegate-radio@P1.service | grep -c ^Start")
	if err == nil && out != "2" { // Starting, Started
		err = fmt.Errorf("at boot systemd has said %s times that it starts the radio, want 2", out)
	}
	return err
}

// hostapdOf is the radio's process.
func hostapdOf(l *Lab) (string, error) {
	return l.Sh("systemctl show --value -p MainPID chargegate-radio@P1")
}

// onAir waits until so many stations have their keys with a radio that serves, of a
// new hostapd where it is to be one.
func onAir(l *Lab, old string, anew bool, many int) error {
	process := "= " + old
	if anew {
		process = "!= " + old + ` && test "$p" != 0`
	}
	return l.UntilSh(60*time.Second, "all chargers are on the radio", fmt.Sprintf(`p=$(systemctl show --value -p MainPID chargegate-radio@P1)
echo "hostapd is process $p"; test "$p" %s && iw dev wlan0 info | grep 'type AP' && ip link show wlan0 | grep LOWER_UP || exit 1
n=$(iw dev wlan0 station dump | grep -c 'authorized:.*yes'); echo "$n stations"; test $n = %d`, process, many))
}

// replug pulls the radio out and puts it in. Where the kernel gives its interface a
// name, a rule of udev's says that it is called as before.
func replug(l *Lab, named string) error {
	var mac string
	if err := l.Call("unplug", wire.Unplug{Interface: "wlan0"}, &mac); err != nil {
		return err
	}
	if named != "" {
		if _, err := l.Sh("printf '[Match]\\nMACAddress=%s\\n[Link]\\nName=wlan0\\n' >/run/systemd/network/05-lab.link && udevadm control --reload", mac); err != nil {
			return err
		}
	}
	time.Sleep(5 * time.Second)
	return l.Call("unplug", wire.Unplug{Back: mac, Named: named}, nil)
}

// rename gives the interfaces of both networks other names for a while.
func rename(l *Lab) error {
	if _, err := l.Sh("ip link set wlan0 name other0 && ip link set eth1 name other1"); err != nil {
		return err
	}
	time.Sleep(5 * time.Second)
	_, err := l.Sh("ip link set other0 name wlan0 && ip link set other1 name eth1")
	return err
}

// everybody waits until so many chargers have talked with the hub since it was
// called, and are well.
func everybody(l *Lab, many int, limit time.Duration) error {
	before, err := talkersOf(l)
	if err != nil {
		return err
	}
	var all []wire.Talker
	err = l.Until(limit, "every charger talks with the hub", func() (bool, error) {
		if all, err = talkersOf(l); err != nil || len(all) != many {
			return false, err
		}
		for i, t := range all {
			if !t.Well || t.Pulses == before[i].Pulses && t.Conversations == before[i].Conversations {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		for i, t := range all {
			err = errors.Join(err, fmt.Errorf("station %d is at %s, has begun %d conversations (%d before): %s", t.Number, t.Stage, t.Conversations, before[i].Conversations, t.Trouble))
		}
	}
	return err
}

// wired lets two new devices on the cable ask for an address.
func wired(l *Lab) error {
	var t wire.HerdTally
	err := l.Call("herd", wire.Herd{Clients: 2, Limit: 20 * time.Second}, &t)
	if err == nil && (t.Leased != 2 || t.Moved > 0 || t.Doubles > 0) {
		err = fmt.Errorf("of 2 devices on the cable: %+v", t)
	}
	return err
}

// sameAddresses wants nobody to have had another address than the first.
func sameAddresses(l *Lab, before []wire.Talker) error {
	after, err := talkersOf(l)
	if err != nil {
		return err
	}
	if len(after) != len(before) {
		return fmt.Errorf("%d chargers talk, and %d before", len(after), len(before))
	}
	for _, t := range after {
		if len(t.Addresses) != 1 {
			err = errors.Join(err, fmt.Errorf("station %d has had %v", t.Number, t.Addresses))
		}
	}
	return err
}

// kindsOf names the kinds of events, each once, in their order, with how often.
func kindsOf(events []map[string]string) (out []string) {
	times := map[string]int{}
	for _, e := range events {
		if times[e["EVENT"]] == 0 {
			out = append(out, e["EVENT"])
		}
		times[e["EVENT"]]++
	}
	for i, id := range out {
		if times[id] > 1 {
			out[i] = fmt.Sprintf("%s (%d)", id, times[id])
		}
	}
	return out
}
