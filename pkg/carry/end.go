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
)

const (
	// patience is how long what was said before a reset may take to arrive.
	patience = time.Second
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
	p.until = time.Now().Add(patience)
	p.flows[1-leg].done = true // nobody hears it any more
	p.ready[leg].in = true
}

// leave ends a failing pair if the side that is left has taken everything, or
// sees to it that it is looked after.
func (c *Carrier) leave(p *Pair) {
	f, to := &p.flows[p.ending.Leg], p.Sockets[1-p.ending.Leg]
	switch {
	case f.done && settled(to), !time.Now().Before(p.until):
		c.end(p, p.ending, reset)
	case !p.leaving:
		p.leaving = true
		condemn(to)
		c.leaving = append(c.leaving, p)
	}
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
