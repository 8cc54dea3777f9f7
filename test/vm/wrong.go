package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"chargegate/test/vm/wire"
)

// wrongScenarios are those of stations that are refused (D).
func wrongScenarios() []Scenario {
	return []Scenario{{
		Name: "passphrase", What: "twenty tries with a wrong passphrase are one event, with MAC and advice; a charger is called by its name", From: "garage",
		Limit: 2 * time.Minute, Run: wrongPassphrase,
	}, {
		Name: "full", What: "whom a full radio refuses is one event, with radio and limit", From: "garage",
		Limit: 2 * time.Minute, Run: fullRadio,
	}}
}

// wrongPassphrase lets a station that is in no inventory try with a passphrase that
// is wrong: what is said must do without a name. Then a charger does, which has one.
func wrongPassphrase(l *Lab) error {
	const stranger, tries = 40, 20
	s, err := stationsOf("incorrect horse", stranger, 1, 100*time.Second)
	if err != nil {
		return err
	}
	var tried wire.Tried
	if err := l.Call("wrong", wire.Wrong{Stations: s, Tries: tries}, &tried); err != nil {
		return err
	}
	l.Note("%d tries in %s", tried.Tries, round(tried.Took))
	all, err := eventsOf(l, "EVENT=charger-wrong-passphrase")
	if err != nil {
		return err
	}
	if len(all) != 1 {
		return fmt.Errorf("%d events, want one: %v", len(all), messages(all))
	}
	e := all[0]
	if !strings.EqualFold(e["MAC"], tried.MAC) || !strings.Contains(strings.ToLower(e["MESSAGE"]), tried.MAC) || e["ADVICE"] == "" {
		return fmt.Errorf("the event is about %s, with the advice %q: %s", e["MAC"], e["ADVICE"], e["MESSAGE"])
	}
	l.Note("%s\n%s", e["MESSAGE"], e["ADVICE"])
	if err := allWell(l, chargers, 5*time.Second); err != nil { // nobody else suffers from it
		return err
	}
	return mistyped(l, chargers)
}

// mistyped has somebody type a charger's passphrase wrong, and right again.
func mistyped(l *Lab, number int) error {
	const tries = 3
	wrong, err := stationsOf("incorrect horse", number, 1, 30*time.Second)
	if err != nil {
		return err
	}
	right, err := stationsOf(passphrase, number, 1, 0)
	if err != nil {
		return err
	}
	if err := l.Call("wrong", wire.Wrong{Stations: wrong, Tries: tries}, nil); err != nil {
		return err
	}
	e, err := saidOf(l, spaceName(number), "charger-wrong-passphrase", 10*time.Second)
	if err != nil {
		return err
	}
	if !strings.Contains(e["MESSAGE"], spaceName(number)) || e["ADVICE"] == "" {
		return fmt.Errorf("of %s was said, with the advice %q: %s", spaceName(number), e["ADVICE"], e["MESSAGE"])
	}
	l.Note("%s", e["MESSAGE"])
	for _, command := range []string{"SET_NETWORK 0 psk " + right.PSK, "DISCONNECT", "SELECT_NETWORK 0"} {
		if err := l.Call("say", wire.Say{Number: number, Command: command}, nil); err != nil {
			return err
		}
	}
	return allWell(l, chargers, 40*time.Second)
}

func messages(all []map[string]string) (said []string) {
	for _, e := range all {
		said = append(said, e["MESSAGE"])
	}
	return said
}

// fullRadio lets strangers take the place of a charger that was away for a moment.
func fullRadio(l *Lab) error {
	const away, strangers = chargers, maxStations - chargers + 1
	if err := l.Call("say", wire.Say{Number: away, Command: "DISCONNECT"}, nil); err != nil {
		return err
	}
	in, err := join(l, 41, strangers, 40*time.Second)
	if err != nil {
		return err
	}
	for _, s := range in {
		if s.Associated == 0 {
			return fmt.Errorf("station %d: %s", s.Number, s.Trouble)
		}
	}
	if err := l.Call("say", wire.Say{Number: away, Command: "RECONNECT"}, nil); err != nil {
		return err
	}
	began := time.Now()
	var all []map[string]string
	err = l.Until(60*time.Second, "the radio is said to refuse somebody", func() (bool, error) {
		all, err = eventsOf(l, "EVENT=radio-refuses")
		return len(all) > 0, err
	})
	if err != nil {
		full, _ := eventsOf(l, "EVENT=radio-full")
		return errors.Join(err, fmt.Errorf("said of a full radio: %v", messages(full)))
	}
	e := all[0]
	if e["INTERFACE"] != "wlan0" || e["LIMIT"] != fmt.Sprint(maxStations) || e["STATIONS"] != e["LIMIT"] || e["ADVICE"] == "" {
		return fmt.Errorf("the event names the radio %q with %s stations, the limit %q, the advice %q: %s", e["INTERFACE"], e["STATIONS"], e["LIMIT"], e["ADVICE"], e["MESSAGE"])
	}
	l.Note("after %s: %s\n%s", round(time.Since(began)), e["MESSAGE"], e["ADVICE"])
	time.Sleep(10 * time.Second) // it goes on trying
	if all, err = eventsOf(l, "EVENT=radio-refuses"); err != nil || len(all) != 1 {
		return errors.Join(err, fmt.Errorf("%d events, want one: %v", len(all), messages(all)))
	}
	n, err := l.Sh("iw dev wlan0 station dump | grep -c ^Station")
	if err == nil && n != fmt.Sprint(maxStations) {
		err = fmt.Errorf("%s stations are on the radio, want %d", n, maxStations)
	}
	return err
}
