package egress

import (
	"context"
	"net"
	"time"

	"golang.org/x/sys/unix"
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
			s.look(time.Now())
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
	for _, c := range open {
		s.report(c, now)
		s.judge(c, now)
	}
}

// report enters what moved since the last time.
func (s *Server) report(c *conversation, now time.Time) {
	c.mu.Lock()
	up, down := c.meter.read(c.up.moved.Load(), c.down.moved.Load(), now)
	c.mu.Unlock()
	if up == 0 && down == 0 {
		return
	}
	s.counts.up.Add(up)
	s.counts.down.Add(down)
	s.book.Moved(c.caller, c.cloud, up, down, now)
}

// judge ends a conversation that has been silent for too long, or whose
// closed half hides that it is dead.
func (s *Server) judge(c *conversation, now time.Time) {
	c.mu.Lock()
	silent := c.meter.silent(now)
	c.mu.Unlock()
	limit := c.idle
	up, down := c.up.done.Load(), c.down.done.Load()
	if up != down { // one side has said all it had to say
		limit = min(limit, s.cfg.IdleShort)
		// Nobody reads from the side that hung up, so nobody would hear its reset.
		if up && dead(c.charger) || down && dead(c.server) {
			c.abort("reset after one side had hung up")
			return
		}
	}
	if silent >= limit {
		s.counts.idle.Add(1)
		c.end("silent for too long", func(conn *net.TCPConn) { conn.Close() })
	}
}

// dead reports whether the kernel has given a connection up.
func dead(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	const tcpClose = 7 // TCP_CLOSE of linux/include/net/tcp_states.h
	gone := false
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		gone = err == nil && info.State == tcpClose
	})
	return gone || err != nil
}
