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
	corrected  time.Duration // by how much, when it last was; positive: forward
	limit      time.Duration // own limit of the source on the distance; 0: the configured one
	local      bool          // the reference is this machine's own undisciplined clock
}

// rootDispersion returns the dispersion at a later moment.
func (r *reading) rootDispersion(now time.Time) time.Duration {
	return r.dispersion + r.grown(now)
}

// grown returns by how much the dispersion has grown since the reading.
func (r *reading) grown(now time.Time) time.Duration {
	return duration(max(now.Sub(r.at), 0).Seconds() * r.growth)
}

// distance returns the root distance: the greatest error that the clock can have
// (RFC 5905, section 10).
func (r *reading) distance(now time.Time) time.Duration { return r.rootDelay/2 + r.rootDispersion(now) }

// unheard returns the reading as it counts once whoever corrects the clock is not
// heard any more. Perhaps a correction was begun after the reading and there is
// nobody to end it: of as much as the clock could be wrong, and as much again as
// the measurement could be. chronyd takes a second for one at least
// (MIN_SLEW_TIMEOUT) and works at fastestSlew at most. Apart from that the
// kernel's own assumption holds.
//
// Until then nothing needs to be added but overshoot: within its first second such
// a correction makes the error no larger than it could be before, only opposite,
// and before that is over chronyd has been asked again (everyServing and
// exchangeTime).
func (r reading) unheard() reading {
	r.growth = max(r.growth, tolerance) + min(2*max(r.distance(r.at).Seconds(), 0), fastestSlew)
	return r
}

// overshoot returns how far a correction under way goes too far within a second if
// chronyd is killed before it ends it: as far as it went in a second since the
// reading before.
func (r *reading) overshoot(before *reading) time.Duration {
	if r.offset == 0 || before.at.IsZero() {
		return 0
	}
	since := min(r.at.Sub(before.at), time.Second).Seconds()
	speed := math.Abs((r.offset - before.offset).Seconds()) / max(since, 1e-3)
	return duration(min(speed, fastestSlew))
}

// made reports whether whoever corrects the clock has itself made a step of that
// size: its last correction was exactly that one, to within what chronyd's numbers
// of 24 bits can tell, and none is left.
func (r *reading) made(step time.Duration) bool {
	const ownStep, exactly, bits = 100 * time.Millisecond, 10 * time.Microsecond, 1 << 22
	return step.Abs() >= ownStep && r.offset.Abs() < stepSize && (r.corrected-step).Abs() <= exactly+step.Abs()/bits
}

// fastestSlew is how fast chronyd corrects a clock at most, in seconds per
// second (maxslewrate is 83,333 ppm).
const fastestSlew = 0.0834

const (
	// maxSilence is how old a reading may be: above the time between readings,
	// below anything that a clock does unwatched.
	maxSilence = 40 * time.Second
	// strata from 16 on mean "not synchronised" (RFC 5905, 7.3).
	maxStratum = 15
	// maxAhead is by how much the last correction may lie in the future, apart from
	// what is still to be corrected: chronyd dates it by the clock as it will be.
	maxAhead = time.Second
	// leastGrowth is how fast the error of any clock grows that nobody corrects, in
	// seconds per second (chronyd's maxclockerror): whoever claims that a clock
	// which was last corrected a year ago is right to the millisecond is wrong.
	leastGrowth = 1e-6
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
	case r.leap >= alarm:
		return "the clock is not synchronised"
	case r.stratum == 0 || r.stratum > maxStratum:
		return fmt.Sprintf("the clock is not synchronised (stratum %d)", r.stratum)
	case r.local:
		return "chronyd has no source and goes by this machine's own clock"
	case r.growth >= 1 && r.growth < 2: // chronyd's first guess, of a machine without a drift file
		return "chronyd does not know yet how fast this machine's clock runs"
	case r.rootDelay < 0 || r.dispersion < 0 || !(r.growth >= 0 && r.growth < 1), r.refTime.After(r.at.Add(maxAhead + r.offset.Abs())):
		return "what was said of the clock makes no sense"
	case duration(r.at.Sub(r.refTime).Seconds()*leastGrowth) > limit:
		return "the clock was corrected too long ago"
	case r.distance(now) > limit:
		return tooFar(r.distance(now), limit)
	}
	return ""
}

func tooFar(distance, limit time.Duration) string {
	return fmt.Sprintf("the clock may be wrong by %v, the limit is %v", distance.Round(time.Millisecond), limit)
}

// duration converts seconds, as chronyd gives them, so that the sum of three of
// them does not overflow.
func duration(seconds float64) time.Duration {
	const most = math.MaxInt64 / 4
	switch ns := seconds * 1e9; {
	case math.IsNaN(ns) || ns <= -most:
		return -most
	case ns >= most:
		return most
	default:
		return time.Duration(ns)
	}
}
