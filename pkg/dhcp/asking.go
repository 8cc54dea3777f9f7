package dhcp

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

const (
	// askAgainAfter is the time between the two questions about an address: the
	// first frame to a device that sleeps is easily lost.
	askAgainAfter = 250 * time.Millisecond
	// silentAfter is how long after the first question nobody has answered who did
	// not.
	silentAfter = time.Second
	// askPace is the time between questions about two addresses. A hundred a second
	// take one percent of a radio's air.
	askPace = 10 * time.Millisecond
	// darkFor is how long nothing is asked while there is no carrier.
	darkFor = time.Second
)

// An asking asks ahead of need who uses the addresses that are free, so that no
// OFFER ever waits for an answer (F-2). Its funcs are its edges: the table, the
// socket, the cable.
type asking struct {
	next   func(now time.Time) (addr netip.Addr, due time.Time) // lease.Table.NextProbe
	silent func(addr netip.Addr, now time.Time)                 // lease.Table.Silent
	ask    func(addr netip.Addr) error
	// blind counts what may have kept an answer from being heard; while it stands
	// still, silence means that there was none.
	blind func() uint64
	dark  func() bool // there is no carrier
	// nudged wakes run: an address is to be asked about at once.
	nudged chan struct{}

	mu   sync.Mutex
	open []pending // oldest first; never more than a second's
}

// A pending is an address that is being asked about.
type pending struct {
	addr  netip.Addr
	at    time.Time // of the first question
	twice bool
	blind uint64 // when the first was asked
	heard bool   // somebody answered, or not all was sent
}

// run asks until ctx is done.
func (a *asking) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			a.forget()
			return
		case <-timer.C:
		case <-a.nudged:
		}
		timer.Reset(time.Until(a.step(time.Now())))
	}
}

// nudge says that an address is to be asked about at once.
func (a *asking) nudge() {
	select {
	case a.nudged <- struct{}{}:
	default:
	}
}

// answered notes that somebody answers for an address, whoever that is.
func (a *asking) answered(addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.open {
		if a.open[i].addr == addr {
			a.open[i].heard = true
		}
	}
}

// step does what is due and returns when something is next.
func (a *asking) step(now time.Time) time.Time {
	due := a.goOn(now)
	if a.dark() {
		return earlier(due, now.Add(darkFor))
	}
	if last := a.last(); now.Before(last.Add(askPace)) {
		return earlier(due, last.Add(askPace))
	}
	addr, at := a.next(now)
	if !addr.IsValid() {
		return earlier(due, at)
	}
	// Before the question leaves it has to be known, or a quick answer is missed.
	a.mu.Lock()
	a.open = append(a.open, pending{addr: addr, at: now, blind: a.blind()})
	a.mu.Unlock()
	a.put(addr)
	return earlier(due, now.Add(askPace))
}

// put sends a question; one that cannot be sent proves nothing.
func (a *asking) put(addr netip.Addr) {
	if a.ask(addr) != nil {
		a.answered(addr)
	}
}

// goOn asks the second time, and ends what is over. It returns when it has to be
// called again; the zero time if nothing is open.
func (a *asking) goOn(now time.Time) (due time.Time) {
	var again, silent []netip.Addr
	a.mu.Lock()
	blind := a.blind()
	for len(a.open) > 0 && !now.Before(a.open[0].at.Add(silentAfter)) {
		if first := a.open[0]; !first.heard && first.blind == blind && first.twice {
			silent = append(silent, first.addr)
		}
		a.open = a.open[1:]
	}
	for i := range a.open {
		o := &a.open[i]
		switch {
		case o.twice:
			due = earlier(due, o.at.Add(silentAfter))
		case now.Before(o.at.Add(askAgainAfter)):
			due = earlier(due, o.at.Add(askAgainAfter))
		default:
			o.twice = true
			again = append(again, o.addr)
			due = earlier(due, o.at.Add(silentAfter))
		}
	}
	a.mu.Unlock()
	for _, addr := range silent {
		a.silent(addr, now)
	}
	for _, addr := range again {
		a.put(addr)
	}
	return due
}

// last is when the last address was first asked about, as far back as matters.
func (a *asking) last() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open) == 0 {
		return time.Time{}
	}
	return a.open[len(a.open)-1].at
}

// forget drops what is open: the answers will not be heard.
func (a *asking) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open = nil
}

// earlier returns the earlier of two times; the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
