package egress

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// A search is one caller's way through all addresses of a name (RFC 8305): the
// next one begins when one has failed or has let stagger pass, and the first that
// connects is taken. Those that did not answer are asked once more, in case the
// packet was lost; not those of a name that was dead before. When all have failed
// the name is looked up again: it may have moved in the meantime.
type search struct {
	*errand
	queue   []netip.Addr
	asked   []netip.Addr
	mute    []netip.Addr // did not answer and may be asked once more
	second  bool         // they were
	running map[netip.Addr]time.Time
}

type outcome struct {
	addr netip.Addr
	conn *net.TCPConn
	took time.Duration
	err  error
}

// run returns the first connection and where it leads, or a *dialError, or the
// error of the context where the room stops.
func (s *search) run(addrs []netip.Addr) (*net.TCPConn, netip.Addr, error) {
	parent := s.within.Context
	ctx, cancel := context.WithCancel(parent)
	var tries sync.WaitGroup
	defer tries.Wait()
	defer cancel() // ends the losers

	s.running = map[netip.Addr]time.Time{}
	s.add(addrs)
	outcomes := make(chan outcome)
	next := time.NewTimer(stagger)
	defer next.Stop()
	for {
		// The last outcomes come in the moment in which the time is up: then there is
		// none for another address.
		if s.late() || len(s.queue) == 0 && len(s.running) == 0 && (!s.refill() || s.late()) {
			return nil, netip.Addr{}, s.giveUp(parent)
		}
		var turn <-chan time.Time
		if len(s.queue) > 0 {
			addr := s.queue[0]
			s.queue = s.queue[1:]
			s.running[addr] = time.Now()
			tries.Go(func() { s.one(ctx, addr, outcomes) })
			if len(s.queue) > 0 {
				next.Reset(stagger)
				turn = next.C
			}
		}
		select {
		case o := <-outcomes:
			delete(s.running, o.addr)
			if o.err == nil {
				s.won(o)
				return o.conn, o.addr, nil
			}
			s.lost(o)
		case <-turn:
		case <-s.within.Done():
			return nil, netip.Addr{}, s.giveUp(parent)
		}
	}
}

// late reports whether the time for all addresses together is up.
func (s *search) late() bool { return !time.Now().Before(s.within.by) }

// giveUp returns what is said of a search that nobody answered.
func (s *search) giveUp(parent context.Context) error {
	for addr, began := range s.running {
		s.errs = append(s.errs, &tryError{addr, time.Since(began), context.DeadlineExceeded})
	}
	return s.over(parent, nil)
}

// one asks one address.
func (s *search) one(ctx context.Context, addr netip.Addr, outcomes chan<- outcome) {
	began := time.Now()
	by := began.Add(s.attempt)
	if s.within.by.Before(by) {
		by = s.within.by
	}
	conn, err := s.connect(ctx, netip.AddrPortFrom(addr, s.target.port), by)
	select {
	case outcomes <- outcome{addr, conn, time.Since(began), err}:
	case <-ctx.Done():
		if conn != nil {
			reset(conn)
		}
	}
}

// add queues addresses that were not asked before: the promising ones first.
func (s *search) add(addrs []netip.Addr) {
	for _, a := range s.order(s.target, addrs) {
		if !slices.Contains(s.asked, a) && !slices.Contains(s.refused, a) {
			s.asked = append(s.asked, a)
			s.queue = append(s.queue, a)
		}
	}
}

// refill queues what is left to try when everything has failed.
func (s *search) refill() bool {
	if addrs, err := s.lookup(); err == nil {
		s.add(addrs)
	}
	if len(s.queue) == 0 && !s.second && !s.dead(s.target) {
		s.second = true
		s.queue, s.mute = s.mute, nil
	}
	return len(s.queue) > 0
}

// won notes who answered, and who let the others pass.
func (s *search) won(o outcome) {
	now := time.Now()
	for addr, began := range s.running {
		if now.Sub(began) >= stagger {
			s.stumbled(s.target, addr, context.DeadlineExceeded, now)
		}
	}
	s.worked(s.target, o.addr, o.took, now)
}

func (s *search) lost(o outcome) {
	s.stumbled(s.target, o.addr, o.err, time.Now())
	if silent(o.err) && !s.second && o.addr != s.waited {
		s.mute = append(s.mute, o.addr)
	}
	s.errs = append(s.errs, &tryError{o.addr, o.took, o.err})
}
