package egress

import (
	"context"
	"time"
)

// A meter turns two byte counts into what to report and how long nothing
// moved.
type meter struct {
	up, down int64     // reported
	moved    time.Time // when a count last was another one
}

// read takes the counts at now and returns what moved since the last call.
func (m *meter) read(up, down int64, now time.Time) (moreUp, moreDown int64) {
	moreUp, moreDown = up-m.up, down-m.down
	if moreUp != 0 || moreDown != 0 {
		m.up, m.down, m.moved = up, down, now
	}
	return moreUp, moreDown
}

// silent returns how long nothing moved.
func (m *meter) silent(now time.Time) time.Duration { return now.Sub(m.moved) }

// watchEvery is how often open conversations are looked at: bytes are in the
// book that soon, and idle limits are kept that exactly.
const watchEvery = time.Second

// watch looks at the open conversations until ctx is done.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := time.Now()
			s.look(now)
			s.settle(now)
		}
	}
}

func (s *Server) look(now time.Time) {
	s.mu.Lock()
	open := make([]*conversation, 0, len(s.open))
	for c := range s.open {
		open = append(open, c)
	}
	s.mu.Unlock()
	s.followUplink(open)
	for _, c := range open {
		s.report(c, now)
		s.judge(c, now)
	}
	s.keeper.beat()
}

// report enters what moved since the last time.
func (s *Server) report(c *conversation, now time.Time) {
	c.mu.Lock()
	upNow, downNow := c.countLocked()
	up, down := c.meter.read(upNow, downNow, now)
	if (up != 0 || down != 0) && c.kept != nil {
		s.keeper.moved(c.kept)
	}
	c.mu.Unlock()
	if up == 0 && down == 0 {
		return
	}
	s.counts.up.Add(up)
	s.counts.down.Add(down)
	s.book.Moved(c.caller, c.cloud, up, down, now)
	s.enter(c, up, down, 0, now)
}

// judge ends a conversation that has been silent for too long.
func (s *Server) judge(c *conversation, now time.Time) {
	c.mu.Lock()
	silent := c.meter.silent(now)
	c.mu.Unlock()
	limit := c.idle
	if c.pair.Half() { // one side has said all it had to say
		limit = min(limit, s.cfg.IdleShort)
	}
	if silent >= limit {
		s.counts.idle.Add(1)
		s.carrier.Hangup(c.pair, errSilent)
	}
}
