package status

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Signals is how a device was heard, in dBm: the uplink, how well this box hears it.
type Signals struct {
	// Dated says that the calendar is known. Until then what is from before the last
	// start ended at an unknown time.
	Dated bool `json:"dated"`
	// Warn, Minimum and Critical are where grades begin, in dBm (Z-4); Window is over
	// how long the median of a grade is taken; UplinkOffset has been added to every
	// signal, in dB.
	Warn         int     `json:"warn_dbm"`
	Minimum      int     `json:"minimum_dbm"`
	Critical     int     `json:"critical_dbm"`
	Window       Seconds `json:"window_seconds"`
	UplinkOffset int     `json:"uplink_offset_db,omitempty"`
	// Fall is how it is heard worse from day to day; absent: it is not.
	Fall *Fall `json:"fall,omitempty"`
	// Minutes reach back a day at most, and Hours 90 days.
	Minutes Series `json:"minutes"`
	Hours   Series `json:"hours"`
}

// A Fall is a line through the days' medians.
type Fall struct {
	From int `json:"from_dbm"`
	To   int `json:"to_dbm"`
	Days int `json:"days"`
}

// A Series is one value for each step of time, oldest first, from the first one in
// which the device was heard. The last one is the step that runs.
type Series struct {
	Step Seconds   `json:"step_seconds"`
	Last time.Time `json:"last,omitzero"` // when the last one began; absent while the calendar is not known
	// Signal is the median of the step, Weakest and Strongest what it was between.
	Signal    Values `json:"signal_dbm"`
	Weakest   Values `json:"weakest_dbm,omitempty"`
	Strongest Values `json:"strongest_dbm,omitempty"`
	// Present is in how many minutes of the step it was there.
	Present Values `json:"present_minutes"`
	// Resent is how many percent of the tries to reach it were not the first.
	Resent Values `json:"resent_percent,omitempty"`
}

// Values are numbers, or Gap where nothing is known. In JSON they are one string, with
// a space between two and a dot for a gap, "-61 -60 . -62": 90 days of hours would
// otherwise stand one to a line. With jq: split(" ") | map(tonumber? // null).
type Values []int

// Gap stands where nothing is known.
const Gap = math.MinInt32

const gapSign = "."

// MarshalText writes the values in one line.
func (v Values) MarshalText() ([]byte, error) {
	b := make([]byte, 0, 4*len(v))
	for i, n := range v {
		if i > 0 {
			b = append(b, ' ')
		}
		if n == Gap {
			b = append(b, gapSign...)
			continue
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return b, nil
}

// UnmarshalText reads what MarshalText writes.
func (v *Values) UnmarshalText(text []byte) error {
	fields := strings.Fields(string(text))
	all := make(Values, len(fields))
	for i, f := range fields {
		if f == gapSign {
			all[i] = Gap
			continue
		}
		n, err := strconv.Atoi(f)
		if err != nil {
			return fmt.Errorf("value %d of a series: %w", i+1, err)
		}
		all[i] = n
	}
	*v = all
	return nil
}

// addSignals adds how a device was heard, unless that is somebody else's history
// whose MAC it uses.
func (s *Server) addSignals(d *ChargerDetail, now time.Time) {
	if s.src.Signals == nil || !d.Known && s.chargers(d.MAC) {
		return
	}
	v := s.src.Signals(d.MAC, now)
	d.Signals = &v
}
