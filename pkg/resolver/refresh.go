package resolver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"
)

// Answers are refreshed before they end, so that nobody waits for an upstream who
// asks for what chargers always ask for:
//
//   - a name of the list that somebody wanted within the last hour, in the last
//     tenth of its answer's life;
//   - the other names of the list, as soon as an upstream answers after the start,
//     and then once an hour: a charger that comes back after a month finds them;
//   - a name that a pattern holds, if it was answered from memory since it came, and
//     within the last hour. So strangers who ask for names without end cause at
//     most one question more for each of theirs.
//
// What that costs, with questions of 350 bytes there and back: a name wanted all
// day with a TTL of 60 s, 1,600 questions or 0.5 MB a day; one with a TTL of an
// hour, and one that nobody wants, 27 and 24 or 10 kB. The four names of Zaptec,
// at TTLs of 60 s and with somebody asking all day, come to 2 MB, less than one
// charger's own traffic (Z-14). A garage whose chargers are connected asks seldom,
// and pays near the lower end. That is over UDP. Over TLS a question and its answer
// have some 800 bytes, and a connection that nobody uses ends after streamIdle, so
// that each round of refreshes costs a handshake too, 2 to 5 kB. Therefore names
// that would be due a little later are asked for in the same round: the four names
// cost 1,600 handshakes and 8 to 13 MB a day, and not four times as many.
const (
	// wantedFor is how long a name counts as wanted after it was asked for.
	wantedFor = time.Hour
	// idleRefresh is the time between refreshes of a name that nobody wants.
	idleRefresh = time.Hour
	// A refresh that fails is tried again after retryFirst, and then after twice as
	// long each time. For a name that is wanted the next try ends before the last
	// failure is forgotten, so while no upstream answers nobody waits for one.
	retryFirst  = 5 * time.Second
	retryWanted = recheckAfter - budget - 2*time.Second
	retryIdle   = 5 * time.Minute
	// maxRefreshing bounds the refreshes on their way, and refreshPace is the least
	// time between two rounds of starting some.
	maxRefreshing = 4
	refreshPace   = 250 * time.Millisecond
	// followEvery is the longest time between two looks at the list.
	followEvery = 10 * time.Second
	// settleFor is how long the first refresh waits after the start: those who are
	// already asking go first.
	settleFor = time.Second
)

// refresh keeps what is remembered fresh until ctx is done.
func (s *Server) refresh(ctx context.Context) {
	for least, most := s.settleFor, s.settleFor; s.memory.rest(ctx, least, most); least = refreshPace {
		s.memory.follow(exactNames(s.list))
		most = s.memory.refresh(time.Now(), s.list.Holds)
	}
}

// rest waits for the shortest time, and then until something may be due earlier
// than was thought or the longest time is over. It returns false once ctx is done.
func (m *memory) rest(ctx context.Context, least, most time.Duration) bool {
	timer := time.NewTimer(least)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	}
	timer.Reset(most - least)
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-m.woken:
	}
	return true
}

// exactNames returns the keys of the names that the list holds themselves.
func exactNames(list *policy.List) map[string]bool {
	names := map[string]bool{}
	for _, r := range list.Rules() {
		if !strings.HasPrefix(r.Name, "*.") && !policy.IsTime(r.Name) {
			names[key(r.Name)] = true
		}
	}
	return names
}

// follow gives the names of the list places of their own.
func (m *memory) follow(names map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept.follow(names)
}

// refresh starts the refreshes that are due, as far as holds allows the name and
// not too many are on their way, and returns how long it is until the next one, or
// until the list is to be looked at.
func (m *memory) refresh(now time.Time, holds func(string) bool) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	type chore struct {
		name  string
		at    time.Time
		exact bool
	}
	var due, soon []chore
	wait := followEvery
	for name, e := range m.kept.all() {
		at, ok := e.due(now)
		switch {
		case !ok || m.flights[name] != nil:
		case at.After(now):
			wait = min(wait, at.Sub(now))
			if e.mayJoin(now) {
				soon = append(soon, chore{name, at, e.exact})
			}
		default:
			due = append(due, chore{name, at, e.exact})
		}
	}
	slices.SortFunc(due, func(a, b chore) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.name, b.name)) })
	if len(due) > 0 {
		due = append(due, soon...)
	}
	for _, c := range due {
		if m.refreshing >= maxRefreshing {
			break // each that lands wakes us
		}
		if !holds(c.name) {
			continue
		}
		if fl, err := m.joinLocked(c.name, c.exact); err == nil {
			fl.refresh = true
			m.refreshing++
		}
	}
	return wait
}

// wanted reports whether a name is asked for often enough to be refreshed before
// its answer ends.
func (e *entry) wanted(now time.Time) bool {
	if e.asked.IsZero() || now.Sub(e.asked) >= wantedFor {
		return false
	}
	return e.exact || e.good != nil && len(e.good.addrs) > 0 && e.asked.After(e.good.since)
}

// due returns when the name is to be refreshed without anybody asking for it;
// false: not at all.
func (e *entry) due(now time.Time) (at time.Time, ok bool) {
	wanted := e.wanted(now)
	switch {
	case !wanted && !e.exact:
		return time.Time{}, false
	case e.tried.IsZero():
		return time.Time{}, true
	case e.vain > 0:
		return e.tried.Add(e.retry(wanted)), true
	case wanted:
		return e.good.since.Add(e.good.ttl - e.lead), true
	}
	return e.good.since.Add(idleRefresh), true
}

// mayJoin reports whether a name is refreshed already now if another one is: when it
// is wanted, and in the last quarter of its answer's life.
func (e *entry) mayJoin(now time.Time) bool {
	return e.wanted(now) && e.vain == 0 && now.Sub(e.good.since) >= e.good.ttl-e.good.ttl/4
}

// retry is how long the next try waits after those that were in vain.
func (e *entry) retry(wanted bool) time.Duration {
	most := retryIdle
	if wanted {
		most = retryWanted
	}
	return min(retryFirst<<min(e.vain-1, 10), most)
}

// askSafely asks an upstream for a key. What comes from there is a stranger's,
// and a fault of ours in reading it costs the answer only.
func (s *Server) askSafely(ctx context.Context, name string) (a answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.count.panics.Add(1)
			s.log.Say(event.PanicRecovered, event.F("SERVICE", s.Name()),
				event.F("ERROR", fmt.Sprint(p)), event.F("STACK", string(debug.Stack())))
			a, err = answer{}, errPanic
		}
	}()
	return s.askUpstream(ctx, name)
}

var errPanic = errors.New("an answer from upstream met a fault of our own")
