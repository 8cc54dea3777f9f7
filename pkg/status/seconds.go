package status

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Seconds is a duration that JSON shows as a number of seconds, with
// microseconds behind the point.
type Seconds time.Duration

// Duration returns it as a time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) }

// MarshalJSON writes a number.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(s).Round(time.Microsecond).Seconds())
}

// UnmarshalJSON reads a number of seconds within what a time.Duration holds.
func (s *Seconds) UnmarshalJSON(text []byte) error {
	var f float64
	if err := json.Unmarshal(text, &f); err != nil {
		return err
	}
	if ns := f * float64(time.Second); math.Abs(ns) < math.MaxInt64 {
		*s = Seconds(time.Duration(math.Round(ns)))
		return nil
	}
	return fmt.Errorf("%s seconds are more than a duration can hold", text)
}
