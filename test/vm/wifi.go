package main

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"chargegate/pkg/status"
	"chargegate/test/vm/wire"
)

// The radio of the lab's configuration (image/root/etc/chargegate).
const (
	ssid        = "garage-p1"
	passphrase  = "correct horse"
	frequency   = 2437 // channel 6
	maxStations = 12
	chargers    = 10 // in the inventory: P1-01 to P1-10
)

// wifiScenarios are those of stations that come all the way to the cloud (B).
func wifiScenarios() []Scenario {
	return []Scenario{{
		Name: "wifi", What: "ten stations come by WPA2 all the way to the cloud", From: "booted", Leaves: "garage",
		Limit: 3 * time.Minute, Run: func(l *Lab) error { return wifi(l, chargers) },
	}, {
		Name: "wifi-30", What: "thirty stations do so", From: "booted", Nightly: true,
		Limit: 8 * time.Minute, Run: wifiThirty,
	}}
}

// wifi brings chargers up from the Wi-Fi to MQTT over TLS, through the gateway.
func wifi(l *Lab, many int) error {
	if err := l.Call("cloud", wire.Cloud{}, nil); err != nil {
		return err
	}
	began := time.Now()
	if _, err := l.Sh("chronyc -n burst 4/8"); err != nil { // its usual pace would be waited for
		return err
	}
	all, err := join(l, 1, many, time.Duration(40+6*many)*time.Second)
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.Leased == 0 {
			return fmt.Errorf("station %d: %s", s.Number, s.Trouble)
		}
	}
	l.Note("%d stations: the last radio is made after %s, the last one associated after %s, has its address after %s", many,
		round(last(all, func(s wire.Station) time.Duration { return s.Made })),
		round(last(all, func(s wire.Station) time.Duration { return s.Associated })),
		round(last(all, func(s wire.Station) time.Duration { return s.Leased })))
	err = l.Until(60*time.Second, "the gateway knows the time", func() (bool, error) {
		st, err := statusOf(l)
		return err == nil && st.Clock != nil && st.Clock.Synchronised, err
	})
	if err != nil {
		return err
	}
	l.Note("the gateway knows the time after %s at most", round(time.Since(began)))
	if err := l.Call("talk", wire.Numbers{}, nil); err != nil {
		return err
	}
	if err := allWell(l, many, time.Duration(60+3*many)*time.Second); err != nil {
		return err
	}
	l.Note("all of them talk with the hub after %s", round(time.Since(began)))
	return pageOf(l, many)
}

// last is the longest of some times.
func last(all []wire.Station, which func(wire.Station) time.Duration) (d time.Duration) {
	for _, s := range all {
		d = max(d, which(s))
	}
	return d
}

// join lets stations join the radio, with the passphrase of the configuration.
func join(l *Lab, first, count int, within time.Duration) (all []wire.Station, err error) {
	s, err := stationsOf(passphrase, first, count, within)
	if err != nil {
		return nil, err
	}
	return all, l.Call("stations", s, &all)
}

// stationsOf is what stations are told of the radio. The passphrase costs the host
// nothing to make a key of (IEEE 802.11, J.4).
func stationsOf(phrase string, first, count int, within time.Duration) (wire.Stations, error) {
	key, err := pbkdf2.Key(sha1.New, phrase, []byte(ssid), 4096, 32)
	return wire.Stations{First: first, Count: count, SSID: ssid, PSK: hex.EncodeToString(key), Frequency: frequency, Within: within}, err
}

// allWell waits until so many chargers are well in their own view: they know the
// time, the hub talks with them and api.zaptec.com has answered.
func allWell(l *Lab, many int, limit time.Duration) error {
	var all []wire.Talker
	err := l.Until(limit, fmt.Sprintf("%d chargers are well", many), func() (bool, error) {
		all = nil
		if err := l.Call("talkers", nil, &all); err != nil {
			return false, err
		}
		well := 0
		for _, t := range all {
			if t.Well && t.Stage == "ok" {
				well++
			}
		}
		return well == many, nil
	})
	if err == nil {
		return nil
	}
	for _, t := range all {
		if !t.Well || t.Stage != "ok" {
			err = errors.Join(err, fmt.Errorf("station %d is at %s: %s", t.Number, t.Stage, t.Trouble))
		}
	}
	return err
}

// spaceName is what the inventory calls a station.
func spaceName(number int) string { return fmt.Sprintf("P1-%02d", number) }

// statusOf is what `chargegate status -json` says. Its exit status tells whether
// something needs attention, which is no error here.
func statusOf(l *Lab) (st status.Status, err error) {
	text, err := l.Sh("chargegate status -json || test $? = 1")
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal([]byte(text), &st)
}

// pageOf wants the chargers at ok by their parking spaces, in what programs read
// and on the page that people do.
func pageOf(l *Lab, many int) error {
	var at map[string]string
	err := l.Until(20*time.Second, "the gateway sees every charger at ok", func() (bool, error) {
		st, err := statusOf(l)
		if err != nil {
			return false, err
		}
		at = map[string]string{}
		for _, c := range st.Chargers {
			at[c.Name] = string(c.Stage)
		}
		for n := range many {
			if at[spaceName(n+1)] != "ok" {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("%w; it sees %v", err, at)
	}
	page, err := l.Sh("chargegate status || test $? = 1")
	if err != nil {
		return err
	}
	for n := range many {
		line := regexp.MustCompile(`(?m)^` + spaceName(n+1) + ` +ok +10\.83\.0\.\d+ +-\d+ dBm .*$`)
		if !line.MatchString(page) {
			return fmt.Errorf("the page has no line of %s at ok:\n%s", spaceName(n+1), page)
		}
	}
	l.Note("%s", page[strings.LastIndexByte(page, '\n')+1:])
	return nil
}

// wifiThirty is the same with a larger inventory and a radio that takes so many.
func wifiThirty(l *Lab) error {
	const many = 30
	rows := &strings.Builder{}
	for n := chargers + 1; n <= many; n++ {
		fmt.Fprintf(rows, "%s,%s\n", wire.StationMAC(n), spaceName(n))
	}
	script := fmt.Sprintf(`set -e; cd /etc/chargegate
cat >>chargers.csv <<END
%sEND
sed -i 's/^max_stations = .*/max_stations = %d/; s/^chargers = 16/chargers = %[2]d/' chargegate.toml
systemctl stop chargegate-radio@P1
systemctl restart chargegate-prepare chargegate-firewall chargegated
systemctl start chargegate-radio@P1`, rows, many)
	// Rendering, the firewall and four starts: a minute of a busy machine.
	if err := l.Call("shell", wire.Shell{Script: script, Timeout: 3 * time.Minute}, nil); err != nil {
		return err
	}
	if err := l.UntilSh(time.Minute, "the radio sends", "iw dev wlan0 info | grep -q 'type AP'"); err != nil {
		return err
	}
	return wifi(l, many)
}
