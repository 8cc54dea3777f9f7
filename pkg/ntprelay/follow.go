package ntprelay

import (
	"context"
	"time"

	"chargegate/pkg/event"
)

const (
	// everyServing is the time between readings while time is given (see unheard for
	// why it is not longer), everyWaiting
	// while none is because the clock is not right yet (a charger that asks a
	// moment too early asks again only after 15 s), and everyFailing while there
	// are no readings to be had.
	everyServing = 500 * time.Millisecond
	everyWaiting = 250 * time.Millisecond
	everyFailing = 2 * time.Second
	// settle is how long after a step nothing is read: longer than any request
	// can wait (maxWait), so that those from before the step are gone.
	settle = maxWait + 100*time.Millisecond
	// lasting is how long the time must be known when its giving begins.
	lasting = 8 * time.Second
	// patience is how many readings in a row may fail before nothing is known of
	// the clock any more.
	patience = 3
	// notices is the smallest step that chronyd notices by itself, with a margin (its
	// own limit is 10 s): it then throws away what it has measured before.
	notices = 20 * time.Second
	// mixed is how often chronyd must have heard of its source since a smaller step
	// until it goes by nothing from before. Measured: six times, for steps
	// from 20 ms to 500 ms after 15 to 75 samples; less for larger ones.
	mixed = 8
	// slowStart is how long no time may be given after a start before it is said: a
	// minute or two is usual after a power cut.
	slowStart = 3 * time.Minute
	// remindEvery is the time between two times that it is said, for the one who
	// looks at what was said today.
	remindEvery = 24 * time.Hour
)

// A follower keeps the state up to date. It belongs to one goroutine.
type follower struct {
	s       *Server
	fails   int
	said    bool          // that the clock cannot be asked about
	stepped bool          // the clock was set and nobody has confirmed it since
	by      time.Duration // by how much, the last time
	doubt   time.Duration // by how much chronyd may be wrong because of steps not its own
	earlier time.Duration // doubt before the last step
	ref     time.Time     // reference time of the last reading; zero: none since the last step
	heard   int           // how often it has changed since
	due     time.Time     // when to say again that no time is given; zero: it is given
}

// follow asks how right the clock is, again and again, until ctx is done.
func (s *Server) follow(ctx context.Context) {
	f := &follower{s: s, due: s.now.Load().since.Add(slowStart)}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.again:
			timer.Reset(f.lookForStep())
		case <-timer.C:
			timer.Reset(f.read(ctx))
		}
		f.remind(time.Now())
	}
}

// read takes one reading and returns when to take the next.
func (f *follower) read(ctx context.Context) time.Duration {
	if wait := f.lookForStep(); wait > 0 {
		return wait
	}
	st := f.s.now.Load()
	r, err := f.s.watch(ctx)
	if ctx.Err() != nil {
		return 0
	}
	if step, _, _ := f.s.look.step(st.drift); step != 0 {
		return f.lookForStep() // a reading across a step belongs to neither clock
	}
	if err != nil {
		f.failed(err)
		return everyFailing
	}
	f.answered()
	f.take(r)
	if f.s.now.Load().reason != "" {
		return everyWaiting
	}
	return everyServing
}

// unconfirmed is the reason for silence after the clock was set.
const unconfirmed = "the clock was set and has not been confirmed since"

// lookForStep falls silent if the clock was set since the last reading, and
// returns how long to wait before the next; 0: it was not.
func (f *follower) lookForStep() time.Duration {
	st := f.s.now.Load()
	step, now, drift := f.s.look.step(st.drift)
	if step == 0 {
		return 0
	}
	f.mind(step)
	next := &state{read: st.read, limit: st.limit, drift: drift, since: st.since, reason: st.reason}
	kind := event.NTPClockSet
	if st.reason == "" {
		next.reason, kind = unconfirmed, event.NTPClockStepped
	}
	f.s.count.steps.Add(1)
	f.s.stepped.Store(&Step{At: now, By: step})
	f.s.log.Say(kind, event.F("STEP", step))
	f.change(next, now)
	return settle
}

// take judges a reading and goes by it.
func (f *follower) take(r reading) {
	now := time.Now()
	limit := f.s.cfg.MaxDistance
	if r.limit > 0 {
		limit = r.limit
	}
	st := f.s.now.Load()
	r.dispersion += r.overshoot(&st.read)
	until := now
	if st.reason != "" {
		// After its first few samples chronyd is sure of the time and not at all of
		// the clock's speed: begin only what lasts.
		until = now.Add(lasting)
	}
	f.hear(r)
	r.dispersion += f.doubt
	reason := judge(r, limit, until)
	if f.stepped {
		reason = unconfirmed
	}
	f.change(&state{read: r, limit: limit, drift: st.drift, reason: reason, since: st.since}, now)
}

// mind notes that the clock was set. A step that chronyd neither made nor noticed
// spoils its word beyond the first silence: it takes the samples from before for
// measurements of the same clock, finds the truth only in the course of several
// updates, and says less than it is off meanwhile. It is never off by more than the
// step, nor by more than the sum of several.
func (f *follower) mind(step time.Duration) {
	f.stepped, f.by, f.earlier = true, step, f.doubt
	f.ref, f.heard = time.Time{}, 0
	if step.Abs() < notices {
		f.doubt += step.Abs()
	}
}

// hear finds out whether whoever corrects the clock knows that it was set, because a
// clock that somebody else has set is reported as right until then. It knows if the
// last step was its own, or if it has heard of its source since: more than once, as
// nobody can tell whether the first time was just before the step. The kernel needs
// no such care: it forgets what it knew when its clock is set.
func (f *follower) hear(r reading) {
	if f.stepped && r.made(f.by) {
		f.stepped, f.doubt = false, f.earlier
	}
	if r.refTime.Sub(f.ref).Abs() >= stepSize {
		if !f.ref.IsZero() && r.leap < alarm {
			f.heard++
		}
		f.ref = r.refTime
	}
	if f.heard > 0 || r.limit > 0 {
		f.stepped = false
	}
	if f.heard >= mixed || r.limit > 0 {
		f.doubt = 0
	}
}

// failed notes that a reading could not be taken. The last one ages, and faster
// than while somebody cared for the clock, until patience is at its end.
func (f *follower) failed(err error) {
	f.s.count.pollsFailed.Add(1)
	st := f.s.now.Load()
	next := &state{read: st.read, limit: st.limit, drift: st.drift, since: st.since, reason: st.reason}
	switch f.fails++; {
	case f.fails == 1:
		next.read = st.read.unheard()
	case f.fails < patience:
		return
	default:
		next.reason = unheard(f.s.cfg.Source, err)
	}
	if f.fails == patience && st.reason != "" { // else it is said that the time is lost, and why
		f.said = true
		f.s.log.Say(event.NTPChronydUnreachable, event.F("REASON", next.reason), remedy(f.s.cfg.Source, next.reason), event.Err(err))
	}
	f.change(next, time.Now())
}

func (f *follower) answered() {
	f.s.count.polls.Add(1)
	f.fails = 0
	if f.said {
		f.said = false
		f.s.log.Say(event.NTPChronydAnswers)
	}
}

// remind says that no time is given, where nothing else does: some minutes after a
// start, and once a day while it lasts.
func (f *follower) remind(now time.Time) {
	st := f.s.now.Load()
	switch {
	case st.reason == "":
		f.due = time.Time{}
	case f.due.IsZero(): // that it ended has been said
		f.due = now.Add(remindEvery)
	case !now.Before(f.due):
		f.due = now.Add(remindEvery)
		f.s.log.Say(event.NTPUnknown, event.F("LASTED", now.Sub(st.since)), event.F("REASON", st.reason), remedy(f.s.cfg.Source, st.reason))
	}
}

// change goes over to another state and says when that begins or ends the giving
// of time.
func (f *follower) change(next *state, now time.Time) {
	before := f.s.now.Load()
	serving, will := before.reason == "", next.reason == ""
	if serving != will {
		next.since = now
	}
	f.s.now.Store(next)
	switch {
	case !serving && will:
		f.s.log.Say(event.NTPSynchronised, event.F("STRATUM", next.read.stratum),
			event.F("DISTANCE", next.read.distance(now)), event.F("REFERENCE", next.read.reference))
	case serving && !will:
		f.s.log.Say(event.NTPLost, event.F("REASON", next.reason), remedy(f.s.cfg.Source, next.reason))
	}
}
