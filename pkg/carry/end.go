package carry

import (
	"time"

	"golang.org/x/sys/unix"
)

// A manner of ending a pair.
type manner int

const (
	gently manner = iota // both sides were told already
	hangup
	reset
	giveUp // while it opens, and else not at all
)

const (
	// patience is how long a side may take nothing of what was said before a reset. It
	// is more than a sender waits before it says something lost again, or asks a
	// receiver that had no room (RFC 6298 2: from 200 ms on in Linux).
	patience = time.Second
	// lastWords is how long that may take in all, of whoever takes it slowly.
	lastWords = 10 * time.Second
	// leavingEvery is how often is looked whether it has: no event tells.
	leavingEvery = 10 * time.Millisecond
)

// fail begins the end of a pair one of whose legs has failed. The other side
// gets what that leg has said before, then it is reset (F-5).
func (c *Carrier) fail(p *Pair, leg Leg, err error) {
	if p.failing {
		if leg != p.ending.Leg { // nobody is left to tell
			c.end(p, p.ending, reset)
		}
		return
	}
	p.failing = true
	p.ending = Ending{Leg: leg, Err: err}
	now := time.Now()
	p.until, p.last = now.Add(patience), now.Add(lastWords)
	p.taken = p.acknowledged(1 - leg)
	p.flows[1-leg].done = true // nobody hears it any more
	p.ready[leg].in = true
}

// leave ends a failing pair if the side that is left has taken everything, or
// sees to it that it is looked after.
func (c *Carrier) leave(p *Pair) {
	f, to := &p.flows[p.ending.Leg], p.Sockets[1-p.ending.Leg]
	now := time.Now()
	if n := p.acknowledged(1 - p.ending.Leg); n != p.taken {
		p.taken, p.until = n, now.Add(patience)
	}
	switch {
	case f.done && settled(to), !now.Before(p.until), !now.Before(p.last):
		c.end(p, p.ending, reset)
	case !p.leaving:
		p.leaving = true
		condemn(to)
		c.leaving = append(c.leaving, p)
	}
}

// acknowledged is how much of what came from the other leg the far end of one has
// taken so far.
func (p *Pair) acknowledged(leg Leg) int64 {
	waiting, err := unix.IoctlGetInt(p.Sockets[leg], unix.SIOCOUTQ)
	if err != nil {
		waiting = 0
	}
	return p.flows[1-leg].count.Load() - int64(waiting)
}

// lookAfterLeaving ends those that have left by now.
func (c *Carrier) lookAfterLeaving() {
	still := c.leaving[:0]
	for _, p := range c.leaving {
		if !p.over {
			c.leave(p)
		}
		if !p.over {
			still = append(still, p)
		}
	}
	clear(c.leaving[len(still):])
	c.leaving = still
}

// end ends a pair.
func (c *Carrier) end(p *Pair, e Ending, how manner) {
	if p.over {
		return
	}
	p.over = true
	for _, fd := range p.Sockets {
		switch how {
		case hangup:
			_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		case reset:
			disconnect(fd)
		}
	}
	c.mu.Lock()
	for _, fd := range p.Sockets {
		_ = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_DEL, fd, nil) // a copy elsewhere would keep it there
	}
	c.forgetLocked(p)
	p.closeSockets()
	c.mu.Unlock()
	c.tell(p, e)
	c.leftBehind(p)
}

// tell calls Ended. A fault in there is nobody else's.
func (c *Carrier) tell(p *Pair, e Ending) {
	defer func() {
		if recover() != nil {
			c.panics.Add(1)
		}
	}()
	if p.Ended != nil {
		p.Ended(e)
	}
}

func (p *Pair) close() {
	p.closeSockets()
	p.Up.Close()
	p.Down.Close()
}

func (p *Pair) closeSockets() {
	for _, fd := range p.Sockets {
		_ = unix.Close(fd)
	}
}
