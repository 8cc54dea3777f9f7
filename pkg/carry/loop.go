package carry

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// turn is how much a direction moves before others have their turn; what one
// splice brings is moved whole, so a download's turn is a pipe full at most. A
// ping or a message is moved when epoll tells of it. Downloads queue, and epoll
// is asked again after each turn: one turn of one download is all that a ping
// waits for, however many downloads there are (F-7).
const turn = 64 << 10

// Serve carries until ctx is done. The pairs that are open then stay as they
// are, and Serve can be called again. Only one call may run at a time.
func (c *Carrier) Serve(ctx context.Context) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.stop()
	poke := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.closed {
			c.pokeLocked()
		}
	})
	defer poke()
	for ctx.Err() == nil {
		if err := c.round(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Carrier) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return errClosed
	case c.serving:
		return errors.New("the carrier is being served already")
	}
	c.serving = true
	return nil
}

func (c *Carrier) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving = false
}

// round waits for something to do and does it.
func (c *Carrier) round() error {
	events, err := c.await()
	if err != nil {
		return err
	}
	for _, ev := range events {
		if ev.Fd < 0 {
			c.answer()
		} else if p := c.at(ev); p != nil && p.opening != nil {
			c.hearOpening(p, ev.Events)
		} else if p != nil {
			c.hear(p, Leg(ev.Fd&1), ev.Events)
		}
	}
	c.next()
	c.lookAfterLeaving()
	return nil
}

// await waits for events: not at all while there is a queue, and not for long
// while somebody is leaving.
func (c *Carrier) await() ([]unix.EpollEvent, error) {
	most := time.Duration(-1)
	switch {
	case len(c.queue) > 0:
		most = 0
	case len(c.leaving) > 0:
		most = leavingEvery
	}
	return c.waiter.wait(most)
}

// at returns the pair that an event is about; nil: it has ended since.
func (c *Carrier) at(ev unix.EpollEvent) *Pair {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.slots[ev.Fd>>1]; s.gen == ev.Pad {
		return s.pair
	}
	return nil
}

// answer does what others asked for.
func (c *Carrier) answer() {
	var b [8]byte
	_, _ = unix.Read(c.wake, b[:])
	c.mu.Lock()
	asked := c.asked
	c.asked = nil
	c.mu.Unlock()
	for _, r := range asked {
		switch {
		case r.pair.over:
		case r.pair.opening != nil:
			c.settle(r.pair, r.err)
		case r.how != giveUp:
			c.end(r.pair, Ending{Err: r.err, Asked: true}, r.how)
		}
	}
}

// hear takes in what epoll says of one leg.
func (c *Carrier) hear(p *Pair, leg Leg, events uint32) {
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		p.ready[leg].in = true
	}
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		p.ready[leg].out = true
	}
	// Nobody reads from a side that hung up, and nobody writes to one that has
	// nothing to hear: only here their resets are heard of.
	if events&unix.EPOLLERR != 0 {
		if err := failure(p.Sockets[leg]); err != nil {
			c.fail(p, leg, err)
		}
	}
	if events&unix.EPOLLPRI != 0 && !p.over {
		c.end(p, Ending{Leg: leg, Err: ErrUrgent}, reset)
	}
	switch {
	case p.queued || p.over:
	case p.flows[Near].download || p.flows[Far].download:
		c.enqueue(p)
	default:
		c.move(p)
	}
}

func (c *Carrier) enqueue(p *Pair) {
	p.queued = true
	c.queue = append(c.queue, p)
}

// next gives the pair at the head of the queue its turn.
func (c *Carrier) next() {
	if len(c.queue) == 0 {
		return
	}
	p := c.queue[0]
	c.queue[0] = nil
	c.queue = c.queue[1:]
	p.queued = false
	if !p.over {
		c.move(p)
	}
}

// move gives both directions of a pair their turn.
func (c *Carrier) move(p *Pair) {
	defer func() {
		if r := recover(); r != nil {
			c.panics.Add(1)
			c.end(p, Ending{Err: &Fault{r, debug.Stack()}}, reset)
		}
	}()
	more := false
	for leg := Near; leg <= Far && !p.over; leg++ {
		again, failed, err := p.pump(leg)
		if err != nil {
			c.fail(p, failed, err)
			leg = Near - 1 // once more, with what the failed one has said before
			continue
		}
		more = more || again
	}
	switch {
	case p.over:
	case p.flows[Near].done && p.flows[Far].done && !p.failing:
		c.end(p, Ending{Leg: p.first}, gently)
	case p.failing:
		c.leave(p)
		fallthrough
	default:
		if more && !p.over && !p.queued {
			c.enqueue(p)
		}
	}
}
