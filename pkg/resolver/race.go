package resolver

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// maxTries bounds the tries of one question.
const maxTries = 12

// A tryFunc asks one server once. The letter is on its way to it already, or nil.
type tryFunc func(ctx context.Context, t target, l *letter) report

// A race is one question to several servers: each one is started when the one
// before has had its head start or has failed, and those that stay silent are
// asked again. The first answer wins.
type race struct {
	f        *forwarder
	name     string
	try      tryFunc
	deadline time.Time
	todo     []contender
	last     []contender // for when nobody else is left
	runners  []*runner
	reports  chan finish
	silent   chan *runner // those that have been silent for too long
	err      error        // of the last try that ended
	unproven *answer      // that there is nothing, as the first said who could not prove it
	unusable error        // that there is nothing but addresses which no server has, as the first said
}

// A runner is one try of a race.
type runner struct {
	contender
	began  time.Time
	cancel context.CancelFunc
	ended  bool // its report has been taken
	state  atomic.Int32
}

// The states of a runner, for the one question who notes that nobody watches its
// server any more.
const (
	onItsWay int32 = iota
	watched        // its question is over, and it goes on
	done
)

// A finish is the end of one runner.
type finish struct {
	*runner
	report
}

// race asks the servers in their order until ctx is done, for at most budget
// since the first try began. What is still running when somebody has won is broken off, but for one try of
// each server: that one goes on until it is answered or the time is up, so that
// something is learnt of the slow ones.
func (f *forwarder) race(ctx context.Context, name string, order []contender, first beginning, try tryFunc) (answer, error) {
	ctx, cancel := context.WithDeadline(ctx, first.at.Add(budget))
	defer cancel()
	deadline, _ := ctx.Deadline()
	r := &race{f: f, name: name, try: try, deadline: deadline, reports: make(chan finish, maxTries), silent: make(chan *runner, maxTries)}
	r.failed(first.report)
	for _, c := range order {
		if c.last {
			r.last = append(r.last, c)
		} else {
			r.todo = append(r.todo, c)
		}
	}
	next := time.NewTimer(r.begin(first))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			r.leave(errors.Is(ctx.Err(), context.Canceled))
			return r.end(ctx)
		case end := <-r.reports:
			end.ended = true
			if end.err == nil {
				r.leave(false)
				return end.answer, nil
			}
			r.failed(end.report)
		case x := <-r.silent:
			r.todo = append(r.todo, x.contender)
		case <-next.C:
		}
		wait, more := r.next()
		if !more {
			return r.end(ctx)
		}
		next.Reset(wait)
	}
}

// begin takes over what has been done without a race, and returns how long the
// first one is still left alone.
func (r *race) begin(first beginning) time.Duration {
	if !first.tried {
		return 0
	}
	c := r.todo[0]
	r.todo = r.todo[1:]
	if first.letter == nil {
		return 0 // it has failed
	}
	r.start(c, first.letter)
	return time.Until(first.letter.sent.Add(c.headStart))
}

// next starts the one whose turn it is, and returns how long it is left alone.
// more is false when nobody is running and nobody is left.
func (r *race) next() (wait time.Duration, more bool) {
	alive := slices.ContainsFunc(r.runners, func(x *runner) bool { return !x.ended })
	if len(r.todo) == 0 && !alive && r.unproven == nil { // the lost would only keep the asker waiting
		r.todo, r.last = r.last, nil
	}
	if len(r.todo) == 0 || len(r.runners) == maxTries || !time.Now().Before(r.deadline) {
		return budget, alive // something else happens first
	}
	c := r.todo[0]
	r.todo = r.todo[1:]
	r.start(c, nil)
	return c.headStart, true
}

// start sends a runner off.
func (r *race) start(c contender, l *letter) {
	x := &runner{contender: c, began: time.Now()}
	if l != nil {
		x.began = l.sent
	}
	ctx, cancel := context.WithDeadline(context.Background(), r.deadline)
	x.cancel = cancel
	r.runners = append(r.runners, x)
	if !r.f.spawn(func(life context.Context) {
		defer context.AfterFunc(life, cancel)()
		defer cancel()
		r.reports <- finish{x, r.f.follow(ctx, c.target, r.name, x.began, l, r.try, func() { r.silent <- x })}
		if x.state.Swap(done) == watched {
			r.f.health.unwatch(c.target)
		}
	}) {
		cancel()
		if l != nil {
			l.end()
		}
		r.reports <- finish{x, report{err: errShut}}
	}
}

// leave ends the race for those who are still running.
func (r *race) leave(all bool) {
	for _, x := range r.runners {
		switch {
		case x.ended:
		case all || !r.f.health.watch(x.target):
			x.cancel()
		case !x.state.CompareAndSwap(onItsWay, watched): // it has ended meanwhile
			r.f.health.unwatch(x.target)
		}
	}
}

// failed notes how a try ended that did not win.
func (r *race) failed(end report) {
	r.err = end.err
	if r.unproven == nil && errors.Is(end.err, errUnproven) {
		r.unproven = &end.answer
	}
	var unusable *unusableError
	if r.unusable == nil && errors.As(end.err, &unusable) {
		r.unusable = end.err
	}
}

// end returns what there is when nobody has won. A false address says more than
// silence, and than that there is nothing without a proof.
func (r *race) end(ctx context.Context) (answer, error) {
	if r.unusable != nil && !errors.Is(ctx.Err(), context.Canceled) {
		return answer{}, r.unusable
	}
	if r.unproven != nil && !errors.Is(ctx.Err(), context.Canceled) {
		return *r.unproven, nil
	}
	return answer{}, r.why(ctx)
}

// why says why there is no answer.
func (r *race) why(ctx context.Context) error {
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return err
	}
	if r.err == nil && len(r.runners) > 0 {
		return about(r.runners[0].target, r.name, errSilent)
	}
	return r.err
}

// follow runs a try to its end and takes that into account. When a server has
// been silent for as long as one try may take, that is a failure, and silent is
// called; it is none when the time of the question ran out before.
func (f *forwarder) follow(ctx context.Context, t target, name string, began time.Time, l *letter, try tryFunc, silent func()) report {
	noted := make(chan struct{})
	alarm := time.AfterFunc(time.Until(began.Add(t.patience())), func() {
		defer close(noted)
		f.learn(t, name, report{err: about(t, name, errSilent)})
		silent()
	})
	r := try(ctx, t, l)
	if !alarm.Stop() {
		<-noted
	}
	switch {
	case errors.Is(r.err, errAnswer) || !isTimeout(r.err):
		f.learn(t, name, r)
	case errors.Is(r.err, context.DeadlineExceeded): // which nobody understands
		r.err = about(t, name, errSilent)
	}
	return r
}

// askBeside asks a server to learn of it, whatever it answers.
func (f *forwarder) askBeside(t target, name string) {
	if !f.spawn(func(life context.Context) {
		defer f.health.unwatch(t)
		ctx, cancel := context.WithTimeout(life, budget)
		defer cancel()
		f.follow(ctx, t, name, time.Now(), nil, func(ctx context.Context, t target, l *letter) report { return f.try(ctx, t, name, l) }, func() {})
	}) {
		f.health.unwatch(t)
	}
}
