package ntprelay

import (
	"fmt"
	"math"
	"time"
)

// A reading is what was said of the clock at one moment.
type reading struct {
	at         time.Time // when; carries the monotonic clock
	leap       uint8     // 0 none, 1 insert, 2 delete a second; 3 not synchronised
	stratum    uint8
	refID      uint32
	reference  string        // refID for people
	refTime    time.Time     // when the clock was last corrected
	rootDelay  time.Duration // to the reference and back
	dispersion time.Duration // at the time of the reading
	growth     float64       // of the dispersion, seconds per second
	offset     time.Duration // still to be corrected
	limit      time.Duration // own limit of the source on the distance; 0: the configured one
	local      bool          // the reference is this machine's own undisciplined clock
}

// rootDispersion returns the dispersion at a later moment.
func (r reading) rootDispersion(now time.Time) time.Duration {
	age := max(now.Sub(r.at), 0)
	return r.dispersion + time.Duration(float64(age)*r.growth)
}

// distance returns the root distance: the greatest error that the clock can have
// (RFC 5905, section 10).
func (r reading) distance(now time.Time) time.Duration { return r.rootDelay/2 + r.rootDispersion(now) }

const (
	// maxSilence is how old a reading may be: above the time between readings,
	// below anything that a clock does unwatched.
	maxSilence = 40 * time.Second
	// strata from 16 on mean "not synchronised" (RFC 5905, 7.3).
	maxStratum = 15
)

// A state is what the relay goes by: the last reading, and whether the time may
// be given. It is never changed once made.
type state struct {
	read   reading
	limit  time.Duration // of the distance
	drift  time.Duration // of the clock that the reading is of, see look
	reason string        // why no time may be given; empty: it may
	since  time.Time     // since when it may, or may not
}

// silence returns why no time may be given at a moment, or "".
func (st *state) silence(now time.Time) string {
	switch {
	case st.reason != "":
		return st.reason
	case now.Sub(st.read.at) > maxSilence:
		return "nothing has been heard of the clock for too long"
	case st.read.distance(now) > st.limit:
		return tooFar(st.read.distance(now), st.limit)
	}
	return ""
}

// judge says why a reading does not prove that the clock is right, or "".
func judge(r reading, limit time.Duration, now time.Time) string {
	switch {
	case r.leap > 2:
		return "the clock is not synchronised"
	case r.stratum == 0 || r.stratum > maxStratum:
		return fmt.Sprintf("the clock is not synchronised (stratum %d)", r.stratum)
	case r.local:
		return "chronyd has no source and goes by this machine's own clock"
	case r.rootDelay < 0 || r.dispersion < 0 || r.growth < 0:
		return "what was said of the clock makes no sense"
	case r.distance(now) > limit:
		return tooFar(r.distance(now), limit)
	}
	return ""
}

func tooFar(distance, limit time.Duration) string {
	return fmt.Sprintf("the clock may be wrong by %v, the limit is %v", distance.Round(time.Millisecond), limit)
}

// duration converts seconds, as chronyd gives them, without overflowing.
func duration(seconds float64) time.Duration {
	switch ns := seconds * 1e9; {
	case math.IsNaN(ns) || ns <= math.MinInt64/2:
		return math.MinInt64 / 2
	case ns >= math.MaxInt64/2:
		return math.MaxInt64 / 2
	default:
		return time.Duration(ns)
	}
}
