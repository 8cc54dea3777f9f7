package resolver

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// budget is how long the upstreams have for one question, all together.
	budget = 3 * time.Second
	// askerPatience is how long an asker waits: a little more, so that it still
	// hears of the failure.
	askerPatience = budget + 200*time.Millisecond
	// staleAfter is how long an asker waits for the upstreams while there is an
	// old answer (RFC 8767, 5: the client response timer). It runs from when the
	// question left: a herd waits once, not each for itself.
	staleAfter = 1800 * time.Millisecond
	// staleSoon is how long while the last silentAfter questions, for whatever
	// names, all got no answer: enough for an upstream that is back.
	staleSoon   = 300 * time.Millisecond
	silentAfter = 3
	// maxFlights bounds the questions on their way for names that are not
	// themselves on the list.
	maxFlights = 512
)

var (
	// errShut is the answer to questions after the end.
	errShut = errors.New("the resolver has stopped")
	errFull = errors.New("too many names are being asked for at once")
)

// A memory remembers answers and asks for those it does not have, the same one
// only once at a time. It is safe for concurrent use. Lifetimes run on the
// monotonic clock (F-12).
type memory struct {
	ask func(ctx context.Context, name string) (answer, error)
	// woken has something in it when the next refresh may be earlier than it was.
	woken chan struct{}

	mu         sync.Mutex
	kept       *shelf
	flights    map[string]*flight
	refreshing int           // flights that nobody waited for when they began
	silent     int           // how many questions in a row no upstream answered
	stop       chan struct{} // closed when flights shall end; nil: ended
	wg         sync.WaitGroup
}

// A flight is one question on its way, with any number of askers.
type flight struct {
	began   time.Time
	refresh bool
	done    chan struct{}
	// found and err may be read once done is closed.
	found found
	err   error
}

// newMemory makes an open memory that asks by the function given, which must
// return soon after its context is done.
func newMemory(ask func(context.Context, string) (answer, error)) *memory {
	return &memory{ask: ask, woken: make(chan struct{}, 1), kept: newShelf(), flights: map[string]*flight{}, stop: make(chan struct{})}
}

// find returns the answer for a key: the remembered one while it lasts, else the
// upstream's, else an old one. It waits as long as ctx allows. The question on
// its way does not end with ctx: the next asker profits from it.
func (m *memory) find(ctx context.Context, name string) (found, error) {
	now := time.Now()
	m.mu.Lock()
	e := m.wantLocked(name, now)
	if f, ok := e.fresh(now); ok {
		m.mu.Unlock()
		return f, nil
	}
	old, usable := e.stale(now)
	if !usable {
		old = found{}
	}
	var fl *flight
	err := e.failed(now)
	if err == nil {
		fl, err = m.joinLocked(ctx, name, e.exact)
	}
	patience := staleAfter
	if m.silent >= silentAfter {
		patience = staleSoon
	}
	m.mu.Unlock()
	if err != nil {
		return old.or(err)
	}
	return fl.wait(ctx, old, patience-now.Sub(fl.began))
}

// wait waits for the answer; only for as long as given if there is an old one.
func (fl *flight) wait(ctx context.Context, old found, patience time.Duration) (found, error) {
	var hurry <-chan time.Time
	if old.kept != nil {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		hurry = timer.C
	}
	select {
	case <-fl.done:
	case <-hurry:
		return old, nil
	case <-ctx.Done():
		return found{}, ctx.Err()
	}
	if fl.err != nil {
		return old.or(fl.err)
	}
	return fl.found, nil
}

// or returns the answer, if there is one, else the error.
func (f found) or(err error) (found, error) {
	if f.kept == nil {
		return found{}, err
	}
	return f, nil
}

// peek returns the answer for a key while it lasts, and counts as a use of it.
// It never asks, never waits and makes nothing: the rest is for find.
func (m *memory) peek(name string, now time.Time) (*kept, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, _ := m.kept.get(name)
	return m.glanceLocked(e, now)
}

// peekBytes is peek for a key that is not a string yet.
func (m *memory) peekBytes(name []byte, now time.Time) (*kept, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, _ := m.kept.getBytes(name)
	return m.glanceLocked(e, now)
}

func (m *memory) glanceLocked(e *entry, now time.Time) (*kept, bool) {
	if e == nil || e.good == nil || now.Sub(e.good.since) >= e.good.ttl {
		return nil, false
	}
	m.usedLocked(e, now)
	return e.good, true
}

// wantLocked returns what is remembered of a name that somebody wants, which may
// be nothing yet.
func (m *memory) wantLocked(name string, now time.Time) *entry {
	e, ok := m.kept.get(name)
	if !ok {
		e = &entry{}
		m.kept.put(name, e)
	}
	m.usedLocked(e, now)
	return e
}

// usedLocked notes that somebody wants a name. The first one in a while makes its
// refresh due earlier.
func (m *memory) usedLocked(e *entry, now time.Time) {
	before := e.wanted(now)
	e.asked = now
	if !before && e.wanted(now) {
		m.wake()
	}
}

// wake has the next refresh looked for anew.
func (m *memory) wake() {
	select {
	case m.woken <- struct{}{}:
	default: // it will be
	}
}

// joinLocked returns the flight for a name, started if there is none.
func (m *memory) joinLocked(ctx context.Context, name string, exact bool) (*flight, error) {
	if fl := m.flights[name]; fl != nil {
		return fl, nil
	}
	switch {
	case m.stop == nil:
		return nil, errShut
	case !exact && len(m.flights) >= maxFlights:
		return nil, errFull
	}
	fl, stop := &flight{began: time.Now(), done: make(chan struct{})}, m.stop
	m.flights[name] = fl
	ctx = context.WithoutCancel(ctx)
	m.wg.Go(func() { m.fly(ctx, name, fl, stop) })
	return fl, nil
}

// fly asks, remembers, and wakes the askers.
func (m *memory) fly(ctx context.Context, name string, fl *flight, stop <-chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	landed := make(chan struct{})
	defer close(landed)
	go func() {
		select {
		case <-stop:
			cancel()
		case <-landed:
		}
	}()
	a, err := m.ask(ctx, name)
	// A question that was broken off at the end says nothing of the upstreams.
	broken := err != nil && errors.Is(ctx.Err(), context.Canceled)
	now := time.Now()
	m.mu.Lock()
	delete(m.flights, name)
	if fl.refresh {
		m.refreshing--
	}
	fl.found, fl.err = found{answer: a, origin: fromUpstream}, err
	if !broken {
		fl.found.kept = m.learnLocked(name, a, err, now)
	}
	m.mu.Unlock()
	close(fl.done)
	m.wake()
}

// learnLocked remembers what an upstream said, and returns the answer if it may
// be kept.
func (m *memory) learnLocked(name string, a answer, err error, now time.Time) *kept {
	e, _ := m.kept.get(name)
	e = e.after(a, err, now)
	m.kept.put(name, e)
	alive := err == nil || errors.Is(err, errAnswer)
	switch {
	case !alive:
		m.silent++
	case m.silent > 0:
		m.reviveLocked()
	}
	if err != nil || a.ttl == 0 {
		return nil
	}
	return e.good
}

// revive is told that an upstream has answered. Every name that was asked for in
// vain is due now, and nobody has to be the first to find out.
func (m *memory) revive() {
	m.mu.Lock()
	m.reviveLocked()
	m.mu.Unlock()
	m.wake()
}

func (m *memory) reviveLocked() {
	m.silent = 0
	for _, e := range m.kept.all() {
		if e.vain > 0 {
			e.tried = time.Time{}
		}
	}
}

// open lets questions fly again after shut.
func (m *memory) open() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stop == nil {
		m.stop = make(chan struct{})
	}
}

// shut breaks off the questions on their way, waits for them, and starts no
// more. What is remembered stays.
func (m *memory) shut() {
	m.mu.Lock()
	if m.stop != nil {
		close(m.stop)
		m.stop = nil
	}
	m.mu.Unlock()
	m.wg.Wait()
}

// size returns how many names are remembered.
func (m *memory) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.len()
}
