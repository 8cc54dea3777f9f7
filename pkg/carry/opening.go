package carry

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An opening is a pair whose far connection is still being made, or one that has
// none yet.
type opening struct {
	leg    Leg // who is waited for
	opened func(error) bool
	late   *time.Timer
}

// Await waits until something comes from a socket that does not wait, or patience is
// over. told is called once, by the goroutine of Serve: with nil, or with
// os.ErrDeadlineExceeded, or the reason of GiveUpAll. The socket is the caller's again
// then. It belongs to the Carrier until then, and Close closes it.
func (c *Carrier) Await(fd int, patience time.Duration, told func(error)) error {
	p := &Pair{Sockets: [2]int{fd, -1}}
	return c.start(p, Near, interest, patience, func(err error) bool { told(err); return false })
}

// Begin is Add for a pair whose far connection has only begun: connect(2) is at
// work on a socket that does not wait, as the near one does not either. opened is
// called once, by the goroutine of Serve: with nil when the connection is there, or
// with what it came to, os.ErrDeadlineExceeded after patience, or the reason of
// GiveUp. Nothing is read from the charger before.
//
// With nil the pair has its pipes, and may be given what else it needs and be
// written to; if opened then returns false, both connections are reset. With an error
// the sockets are the caller's again, and Ended is not called.
func (c *Carrier) Begin(p *Pair, patience time.Duration, opened func(error) bool) error {
	p.ready[Far].watched = true
	return c.start(p, Far, interest|unix.EPOLLOUT, patience, opened)
}

// start has epoll tell of one leg of a pair.
func (c *Carrier) start(p *Pair, leg Leg, events uint32, patience time.Duration, opened func(error) bool) error {
	p.Up, p.Down = Pipe{-1, -1}, Pipe{-1, -1}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.takeLocked(p)
	p.opening = &opening{leg: leg, opened: opened}
	if err := p.watch(leg, unix.EPOLL_CTL_ADD, events); err != nil {
		c.forgetLocked(p)
		return os.NewSyscallError("epoll_ctl", err)
	}
	p.opening.late = time.AfterFunc(patience, func() { c.GiveUp(p, os.ErrDeadlineExceeded) })
	return nil
}

// GiveUp ends the opening of a pair, for the reason given, soon. It does nothing when
// that is over.
func (c *Carrier) GiveUp(p *Pair, reason error) { c.ask(request{p, reason, giveUp}) }

// GiveUpAll is GiveUp for all that are opening.
func (c *Carrier) GiveUpAll(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.slots {
		if s.pair != nil && s.pair.opening != nil {
			c.askLocked(request{s.pair, reason, giveUp})
		}
	}
}

// hearOpening takes in what epoll says of the leg that is waited for.
func (c *Carrier) hearOpening(p *Pair, events uint32) {
	if p.opening.leg == Near { // whoever reads learns what it is
		c.settle(p, nil)
		return
	}
	var err error
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		err = failure(p.Sockets[Far])
	}
	if err == nil && events&unix.EPOLLOUT == 0 {
		return
	}
	c.settle(p, err)
	if !p.over { // what else came in that event is not told again
		c.hear(p, Far, events)
	}
}

// settle ends the opening of a pair: from here on it is carried, or it is nobody's.
func (c *Carrier) settle(p *Pair, err error) {
	o := p.opening
	if err == nil && o.leg == Far {
		err = c.equip(p)
	}
	left := err != nil || o.leg == Near
	c.mu.Lock()
	p.opening = nil
	if left {
		_ = unix.EpollCtl(c.epoll, unix.EPOLL_CTL_DEL, p.Sockets[o.leg], nil)
		c.forgetLocked(p)
	}
	c.mu.Unlock()
	o.late.Stop()
	switch carried := c.told(o, err); {
	case left:
		p.over = true
	case !carried:
		p.Ended = nil
		c.end(p, Ending{Asked: true}, reset)
	default:
		c.begun(p)
	}
}

// equip gives a pair its pipes.
func (c *Carrier) equip(p *Pair) (err error) {
	if p.Up, err = c.NewPipe(); err != nil {
		return err
	}
	if p.Down, err = c.NewPipe(); err != nil {
		p.Up.Close()
	}
	return err
}

// told tells how the opening of a pair went. A fault in there costs the pair.
func (c *Carrier) told(o *opening, err error) (carried bool) {
	defer func() {
		if recover() != nil {
			c.panics.Add(1)
		}
	}()
	return o.opened(err)
}

// begun has a pair carried whose connections are both there.
func (c *Carrier) begun(p *Pair) {
	if p.Counts == nil {
		p.Counts = &Counts{}
	}
	p.flows = [2]flow{{pipe: p.Up, count: &p.Counts.Up}, {pipe: p.Down, count: &p.Counts.Down}}
	p.ready[Near].out, p.ready[Far].out = true, true
	if err := p.watch(Near, unix.EPOLL_CTL_ADD, interest); err != nil {
		c.end(p, Ending{Err: os.NewSyscallError("epoll_ctl", err)}, reset)
	}
}
