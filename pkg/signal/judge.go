package signal

import "time"

// A Judge follows one device. Its zero value is ready for use; it is used by one
// goroutine, and is to be kept while the device is away for a short time: an
// absence proves nothing, neither that it is heard better nor worse.
type Judge struct {
	window window
	effort effort

	grade Grade     // the last verdict that there was
	since time.Time // since when it has been that
	said  Grade
	// worse holds for each grade since when the verdict has been that or worse.
	worse [Critical + 1]time.Time
	// decided is when there was a verdict last.
	decided   time.Time
	disturbed bool
}

// pause is how long there may be no verdict for the times to run on all the same.
const pause = time.Minute

// A Verdict is what there is to say of a device now.
type Verdict struct {
	// Median is in dBm over the window, with the offset; 0: no verdict.
	Median int
	// Early is how long it takes until there can be a verdict, where there is none.
	Early time.Duration
	// Grade is the verdict on Median, with hysteresis, and For how long it has been
	// that, without the times in which there was none.
	Grade Grade
	For   time.Duration
	// Said is the grade that has lasted long enough to be said, and Was what it was
	// at the look before: when they differ somebody should be told.
	Said, Was Grade
	// Resent is how many percent of what was sent to the device in the last minutes
	// were frames sent again, and Lost how many frames were given up; Resent is -1
	// while too little was sent to tell.
	Resent, Lost int
	// Disturbed says that it is heard well and still needs many frames sent again,
	// and WasDisturbed whether that was so at the look before.
	Disturbed, WasDisturbed bool
}

// Heard takes a signal in dBm as it was measured. What cannot be one is passed
// over (F-11).
func (j *Judge) Heard(measured int, at time.Time) {
	if measured < 0 {
		j.window.add(measured, at)
	}
}

// Sent takes what the driver has counted since the device joined, and returns what
// came to it since the last time.
func (j *Judge) Sent(c Counters, now time.Time) Counters { return j.effort.add(c, now) }

// Look returns the verdict. It is to be called at every look at the radio.
func (j *Judge) Look(l Limits, now time.Time) Verdict {
	v := Verdict{Was: j.said, WasDisturbed: j.disturbed}
	if median, ok := j.window.median(now, l.Window); ok {
		v.Median = l.Corrected(median)
		j.decide(l, v.Median, now)
		v.Grade, v.For = j.grade, now.Sub(j.since)
	} else {
		v.Early = j.window.wait(now, l.Window)
	}
	v.Said = j.said
	v.Resent, v.Lost = j.effort.share(now)
	j.disturbed = disturbed(j.disturbed, v)
	v.Disturbed = j.disturbed
	return v
}

// decide brings the grade and what is said of it up to date.
func (j *Judge) decide(l Limits, median int, now time.Time) {
	j.resume(now)
	was := j.grade
	j.grade = l.next(was, median)
	if j.grade != was {
		j.since = now
	}
	// What is better is said at once; what is worse when it has lasted.
	said := min(j.said, j.grade)
	for g := OK; g <= Critical; g++ {
		switch {
		case j.grade < g:
			j.worse[g] = time.Time{}
			continue
		case j.worse[g].IsZero():
			j.worse[g] = now
		}
		if now.Sub(j.worse[g]) >= l.after(g) {
			said = max(said, g)
		}
	}
	j.said = max(said, Good)
}

// resume takes a time without a verdict out of all that lasts: whether it was heard
// better or worse meanwhile, nobody knows.
func (j *Judge) resume(now time.Time) {
	if without := now.Sub(j.decided); !j.decided.IsZero() && without > pause {
		j.since = j.since.Add(without)
		for g, since := range j.worse {
			if !since.IsZero() {
				j.worse[g] = since.Add(without)
			}
		}
	}
	j.decided = now
}
