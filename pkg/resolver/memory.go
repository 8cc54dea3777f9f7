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
	// old answer (RFC 8767, 5: the client response timer).
	staleAfter = 1800 * time.Millisecond
)

// errShut is the answer to questions after the end.
var errShut = errors.New("the resolver has stopped")

// A memory remembers answers and asks for those it does not have, the same one
// only once at a time. It is safe for concurrent use. Lifetimes run on the
// monotonic clock (F-12).
type memory struct {
	ask func(ctx context.Context, name string) (answer, error)

	mu      sync.Mutex
	kept    *lru[string, *entry]
	flights map[string]*flight
	stop    chan struct{} // closed when flights shall end; nil: ended
	wg      sync.WaitGroup
}

// A flight is one question on its way, with any number of askers. Its fields may
// be read once done is closed.
type flight struct {
	done   chan struct{}
	answer answer
	err    error
}

// newMemory makes an open memory that asks by the function given, which must
// return soon after its context is done.
func newMemory(ask func(context.Context, string) (answer, error)) *memory {
	return &memory{ask: ask, kept: newLRU[string, *entry](maxNames), flights: map[string]*flight{}, stop: make(chan struct{})}
}

// find returns the answer for a key: the remembered one while it lasts, else the
// upstream's, else an old one. It waits as long as ctx allows. The question on
// its way does not end with ctx: the next asker profits from it.
func (m *memory) find(ctx context.Context, name string) (found, error) {
	now := time.Now()
	m.mu.Lock()
	e, _ := m.kept.get(name)
	if f, ok := e.fresh(now); ok {
		m.mu.Unlock()
		return f, nil
	}
	old, usable := e.stale(now)
	if err := e.failed(now); err != nil {
		m.mu.Unlock()
		if usable {
			return old, nil
		}
		return found{}, err
	}
	fl := m.joinLocked(ctx, name)
	m.mu.Unlock()
	if fl == nil {
		return found{}, errShut
	}

	var hurry <-chan time.Time
	if usable {
		timer := time.NewTimer(staleAfter)
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
	if fl.err != nil && usable {
		return old, nil
	}
	return found{answer: fl.answer, origin: fromUpstream}, fl.err
}

// joinLocked returns the flight for a name, started if there is none; nil after
// the end.
func (m *memory) joinLocked(ctx context.Context, name string) *flight {
	if fl := m.flights[name]; fl != nil {
		return fl
	}
	if m.stop == nil {
		return nil
	}
	fl, stop := &flight{done: make(chan struct{})}, m.stop
	m.flights[name] = fl
	ctx = context.WithoutCancel(ctx)
	m.wg.Go(func() { m.fly(ctx, name, fl, stop) })
	return fl
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
	fl.answer, fl.err = m.ask(ctx, name)
	m.mu.Lock()
	delete(m.flights, name)
	// A question that was broken off at the end says nothing of the upstreams.
	if fl.err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		e, _ := m.kept.get(name)
		m.kept.put(name, e.after(fl.answer, fl.err, time.Now()))
	}
	m.mu.Unlock()
	close(fl.done)
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
