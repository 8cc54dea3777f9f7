package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"chargegate/pkg/status"
	"chargegate/test/vm/wire"
)

// signalScenarios are those of how well stations are heard (C).
func signalScenarios() []Scenario {
	return []Scenario{{
		Name: "signal", What: "how chargers are heard is judged, said with advice, and taken back with hysteresis", From: "garage", Leaves: "heard",
		Limit: 6 * time.Minute, Run: signals,
	}}
}

// hasty is a judgement that fits into a scenario. That the usual times hold is
// shown by the tests of pkg/signal.
const hasty = `
[signal]
window = "1m"
weak_after = "1m"
below_after = "30s"
`

// signals makes the radios of stations weaker and stronger again.
func signals(l *Lab) error {
	if _, err := l.Sh("printf '%%s' '%s' >>/etc/chargegate/chargegate.toml && systemctl reload chargegated", hasty); err != nil {
		return err
	}
	heard := map[int]int{1: -60, 2: -73, 3: -79, 4: -79}
	if err := l.Call("count", wire.Count{Numbers: []int{1, 2, 3, 4}, Every: time.Second}, nil); err != nil {
		return err // what counts is heard all the time
	}
	began := time.Now()
	if err := hear(l, heard); err != nil {
		return err
	}
	if err := grades(l, heard, map[int]string{1: "good", 2: "ok", 3: "below minimum", 4: "below minimum"}); err != nil {
		return err
	}
	l.Note("the median has followed after %s", round(time.Since(began)))
	for _, n := range []int{3, 4} {
		e, err := saidOf(l, spaceName(n), "charger-signal-below-minimum", 90*time.Second)
		if err != nil {
			return err
		}
		if e["SIGNAL"] != "-79" || e["ADVICE"] == "" {
			return fmt.Errorf("%s: said with %s dBm and the advice %q", spaceName(n), e["SIGNAL"], e["ADVICE"])
		}
		l.Note("after %s: %s", round(time.Since(began)), e["MESSAGE"])
	}

	// Back up: 3 dB above the threshold is enough, and 2 dB are not.
	began = time.Now()
	up := map[int]int{3: -60, 4: -73}
	if err := hear(l, up); err != nil {
		return err
	}
	if err := grades(l, up, map[int]string{3: "good", 4: "below minimum"}); err != nil {
		return err
	}
	e, err := saidOf(l, spaceName(3), "charger-signal-recovered", 30*time.Second)
	if err != nil {
		return err
	}
	l.Note("after %s: %s; one that has risen to -73 dBm is still below the minimum", round(time.Since(began)), e["MESSAGE"])
	if err := silentOf(l, spaceName(1), spaceName(2)); err != nil {
		return err
	}
	return counted(l, 4)
}

// hear sets how stations are heard, in dBm.
func hear(l *Lab, dbm map[int]int) error {
	for n, s := range dbm {
		if err := l.Call("signal", wire.Signal{Number: n, DBm: s}, nil); err != nil {
			return err
		}
	}
	return nil
}

// grades waits until stations have these medians, in dBm, and grades.
func grades(l *Lab, median map[int]int, want map[int]string) error {
	var seen map[int]status.Station
	err := l.Until(100*time.Second, "the medians and grades are as they should be", func() (bool, error) {
		st, err := statusOf(l)
		if err != nil {
			return false, err
		}
		seen = map[int]status.Station{}
		for _, s := range stationsIn(st) {
			for n := range median {
				if s.MAC.String() == wire.StationMAC(n) {
					seen[n] = s
				}
			}
		}
		for n := range median {
			if seen[n].Median != median[n] || seen[n].Grade != want[n] {
				time.Sleep(2 * time.Second) // the radio is asked every 15 s
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		for n := range median {
			err = errors.Join(err, fmt.Errorf("%s: %d dBm, median %d, %s; want %d, %s", spaceName(n), seen[n].Signal, seen[n].Median, seen[n].Grade, median[n], want[n]))
		}
	}
	return err
}

// stationsIn is who is on the radios.
func stationsIn(st status.Status) (all []status.Station) {
	for _, n := range st.Networks {
		if n.Radio != nil {
			all = append(all, n.Radio.Stations...)
		}
	}
	return all
}

// eventsOf are the daemon's events in the journal that match, oldest first.
func eventsOf(l *Lab, matches ...string) ([]map[string]string, error) {
	// While journald begins a new file journalctl finds one that is not whole, says so
	// and passes it over: then it is asked again.
	text, err := l.Sh(`until out=$(journalctl -q -b -o json -t chargegated %s 2>/run/lab-complaint) && test ! -s /run/lab-complaint; do
	n=$((n + 1)); test $n -lt 20 || { cat /run/lab-complaint; exit 1; }; sleep 0.2
done
test -z "$out" || printf '%%s\n' "$out"`, strings.Join(matches, " "))
	if err != nil {
		return nil, err
	}
	var all []map[string]string
	for line := range strings.Lines(text) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			return nil, fmt.Errorf("reading the journal: %w: %s", err, line)
		}
		e := map[string]string{}
		for k, v := range m {
			e[k], _ = v.(string) // what is no text is of no interest here
		}
		all = append(all, e)
	}
	return all, nil
}

// saidOf waits until the journal has an event about a charger.
func saidOf(l *Lab, charger, id string, limit time.Duration) (e map[string]string, err error) {
	err = l.Until(limit, fmt.Sprintf("%s is said of %s", id, charger), func() (bool, error) {
		all, err := eventsOf(l, "EVENT="+id, "CHARGER="+charger)
		if err != nil || len(all) == 0 {
			return false, err
		}
		e = all[0]
		return true, nil
	})
	return e, err
}

// silentOf wants nothing to have been said of the signal of chargers.
func silentOf(l *Lab, names ...string) error {
	for _, name := range names {
		all, err := eventsOf(l, "CHARGER="+name)
		if err != nil {
			return err
		}
		for _, e := range all {
			if strings.HasPrefix(e["EVENT"], "charger-signal-") {
				return fmt.Errorf("of %s was said: %s", name, e["MESSAGE"])
			}
		}
	}
	return nil
}
