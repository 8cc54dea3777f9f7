package uplink

import "time"

// What a look can be news of.
type news int

const (
	nothing  news = iota
	lost          // something is missing, or something else than before
	restored      // nothing is missing any more
)

// A story remembers what was said, and finds out what is to be said next. The
// zero value begins with an uplink of which nobody has complained.
type story struct {
	said    string    // what was last said to be missing
	now     string    // what was missing at the last look
	since   time.Time // since when it is that
	outage  time.Time // when the trouble began; zero: there is none
	started bool
}

// next takes what is missing at a moment; after is how long a restored uplink
// had been away.
func (s *story) next(missing string, now time.Time) (what news, after time.Duration) {
	if !s.started || missing != s.now {
		s.started, s.now, s.since = true, missing, now
	}
	switch {
	case missing != "" && s.outage.IsZero():
		s.outage = now
	case missing == "" && s.said == "":
		s.outage = time.Time{} // too short to be spoken of
	}
	if missing == s.said || now.Sub(s.since) < settle {
		return nothing, 0
	}
	s.said = missing
	if missing != "" {
		return lost, 0
	}
	after = s.since.Sub(s.outage)
	s.outage = time.Time{}
	return restored, after
}
