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
	// askerPatience is how long an asker waits, from when the question left: a little
	// more, so that it still hears of the failure.
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
	refreshing int       // flights that nobody waited for when they began
	silent     int       // how many questions in a row no upstream answered
	heard      time.Time // when an upstream last answered
	life       context.Context
	die        context.CancelFunc // ends the flights; nil: ended
	wg         sync.WaitGroup     // of the flights
	crew       *crew[*flight]     // flies for those who may leave before the end
}

// A flight is one question on its way, with any number of askers.
type flight struct {
	name    string
	life    context.Context // of the memory when it began
	began   time.Time
	refresh bool
	done    chan struct{}
	// found and err may be read once done is closed.
	found found
	err   error
}

// newMemory makes an open memory that asks by the function given, which must
// return within budget, and soon after its context is done.
func newMemory(ask func(context.Context, string) (answer, error)) *memory {
	m := &memory{ask: ask, woken: make(chan struct{}, 1), kept: newShelf(), flights: map[string]*flight{}}
	m.open()
	return m
}

// find returns the answer for a key: the remembered one while it lasts, else the
// upstream's, else an old one. It waits as long as ctx allows. The question on
// its way does not end with ctx: the next asker profits from it.
func (m *memory) find(ctx context.Context, name string) (found, error) {
	return m.look(ctx, name, false)
}

// findPatient is find for an asker who has nothing else to do until the memory is
// shut: where nobody else asks yet and nothing old is known he asks by himself,
// which spares the handing over.
func (m *memory) findPatient(ctx context.Context, name string) (found, error) {
	return m.look(ctx, name, true)
}

func (m *memory) look(ctx context.Context, name string, patient bool) (found, error) {
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
	var first bool
	err := e.failed(now)
	if err == nil {
		fl, first, err = m.boardLocked(name, e.exact)
	}
	patient = patient && first && !usable
	if first && !patient {
		m.crew.take(fl)
	}
	patience := askerPatience
	switch {
	case !usable:
	case m.silent >= silentAfter:
		patience = staleSoon
	default:
		patience = staleAfter
	}
	m.mu.Unlock()
	switch {
	case err != nil:
		return old.or(err)
	case patient:
		m.fly(fl)
		return fl.landed(old)
	}
	return fl.wait(ctx, old, patience-now.Sub(fl.began))
}

// wait waits for the answer for as long as given, and then returns the old one if
// there is one.
func (fl *flight) wait(ctx context.Context, old found, patience time.Duration) (found, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-fl.done:
		return fl.landed(old)
	case <-timer.C:
		return old.or(context.DeadlineExceeded)
	case <-ctx.Done():
		return found{}, ctx.Err()
	}
}

// landed returns what came of a flight that is over. That there is nothing, said
// without proof, is what a router without an uplink says, and a login page before
// the login: it does not shadow the old answer.
func (fl *flight) landed(old found) (found, error) {
	switch {
	case fl.err != nil:
		return old.or(fl.err)
	case old.kept != nil && fl.found.ttl == 0 && len(fl.found.addrs) == 0:
		return old, nil
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

// atHand returns what find would return for a key at once, without asking anybody:
// the answer while it lasts, and while a failure is remembered the old answer or
// that failure. It is not known when find would ask or wait.
func (m *memory) atHand(name string, now time.Time) (f found, known bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, _ := m.kept.get(name)
	f, known = e.fresh(now)
	if !known {
		if err = e.failed(now); err == nil {
			return found{}, false, nil
		}
		old, usable := e.stale(now)
		if !usable {
			old = found{}
		}
		f, err = old.or(err)
	}
	m.usedLocked(e, now)
	return f, true, err
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
func (m *memory) joinLocked(name string, exact bool) (*flight, error) {
	fl, first, err := m.boardLocked(name, exact)
	if first {
		m.crew.take(fl)
	}
	return fl, err
}

// boardLocked returns the flight for a name. Whoever is the first on it sees to it
// that it flies.
func (m *memory) boardLocked(name string, exact bool) (fl *flight, first bool, err error) {
	if fl := m.flights[name]; fl != nil {
		return fl, false, nil
	}
	switch {
	case m.die == nil:
		return nil, false, errShut
	case !exact && len(m.flights) >= maxFlights:
		return nil, false, errFull
	}
	fl = &flight{name: name, life: m.life, began: time.Now(), done: make(chan struct{})}
	m.flights[name] = fl
	m.wg.Add(1)
	return fl, true, nil
}

// fly asks, remembers, and wakes the askers.
func (m *memory) fly(fl *flight) {
	defer m.wg.Done()
	a, err := m.ask(fl.life, fl.name)
	// A question that was broken off at the end says nothing of the upstreams.
	broken := err != nil && fl.life.Err() != nil
	now := time.Now()
	m.mu.Lock()
	delete(m.flights, fl.name)
	if fl.refresh {
		m.refreshing--
	}
	fl.found, fl.err = found{answer: a, origin: fromUpstream}, err
	if !broken {
		if k := m.learnLocked(fl.name, a, err, now); k != nil {
			fl.found.answer, fl.found.kept = k.answer, k
		}
	}
	m.mu.Unlock()
	close(fl.done)
	m.wake()
}

// learnLocked remembers what an upstream said, and returns the answer if it may
// be kept.
func (m *memory) learnLocked(name string, a answer, err error, now time.Time) *kept {
	e, _ := m.kept.get(name)
	alive := err == nil || errors.Is(err, errAnswer)
	// Others were answered since the last try: it is this name that is silent, and
	// an answer to another one says nothing of it.
	alone := !alive && e != nil && m.heard.After(e.tried)
	e = e.after(a, err, now)
	e.alone = alone
	m.kept.put(name, e)
	switch {
	case !alive:
		m.silent++
	default:
		if m.silent > 0 {
			m.reviveLocked()
		}
		m.heard = now
	}
	if err != nil || a.ttl == 0 {
		return nil
	}
	return e.good
}

// revive is told that an upstream has answered. Every name that was asked for in
// vain while none did is due now, and nobody has to be the first to find out.
func (m *memory) revive() {
	m.mu.Lock()
	m.reviveLocked()
	m.mu.Unlock()
	m.wake()
}

func (m *memory) reviveLocked() {
	m.silent = 0
	for _, e := range m.kept.all() {
		if e.vain > 0 && !e.alone {
			e.tried = time.Time{}
		}
	}
}

// open lets questions fly again after shut.
func (m *memory) open() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.die == nil {
		m.life, m.die = context.WithCancel(context.Background())
		m.crew = newCrew(m.fly)
	}
}

// shut breaks off the questions on their way, waits for them, and starts no
// more. What is remembered stays.
func (m *memory) shut() {
	m.mu.Lock()
	die := m.die
	m.die = nil
	m.mu.Unlock()
	if die != nil {
		die()
		m.wg.Wait()
		m.crew.end()
	}
}

// isExact reports whether the list holds a key itself.
func (m *memory) isExact(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.exact[name] != nil
}

// size returns how many names are remembered.
func (m *memory) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.len()
}
