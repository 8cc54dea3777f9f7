package main

import (
	"fmt"
	"strings"
	"time"

	"chargegate/test/vm/wire"
)

// doorScenarios are those of stations that come and go.
func doorScenarios() []Scenario {
	return []Scenario{{
		Name: "goodbye", What: "why a charger left is said, and that it is back, with the number of its reason", From: "garage",
		Limit: 2 * time.Minute, Run: goodbye,
	}}
}

// goodbye has one charger say that it leaves, and hostapd send another one away.
func goodbye(l *Lab) error {
	for _, leaving := range []struct {
		number     int
		how        func() error
		want       string
		comesAgain bool
	}{
		{3, func() error { return l.Call("say", wire.Say{Number: 3, Command: "DISCONNECT"}, nil) }, "it said goodbye: it leaves the network (reason 3)", false},
		{4, func() error {
			_, err := l.Sh("hostapd_cli -i wlan0 deauthenticate %s reason=5", wire.StationMAC(4))
			return err
		}, "this box sent it away: the access point cannot hold it (reason 5)", true},
	} {
		charger := fmt.Sprintf("P1-%02d", leaving.number)
		if err := leaving.how(); err != nil {
			return err
		}
		began := time.Now()
		e, err := saidOf(l, charger, "charger-left", 30*time.Second)
		if err != nil {
			return err
		}
		if !strings.HasSuffix(e["MESSAGE"], leaving.want) {
			return fmt.Errorf("%s, want that %s", e["MESSAGE"], leaving.want)
		}
		l.Note("after %s: %s", round(time.Since(began)), e["MESSAGE"])
		if !leaving.comesAgain {
			if err := l.Call("say", wire.Say{Number: leaving.number, Command: "RECONNECT"}, nil); err != nil {
				return err
			}
		}
	}
	return allWell(l, chargers, 60*time.Second)
}
