package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"golang.org/x/sys/unix"
)

// A conversation is two connections and the bytes between them.
type conversation struct {
	caller          netip.Addr
	charger, server *net.TCPConn
	name            string
	port            uint16
	by              string
	cloud           bool          // it is the charger's lasting one (Z-8)
	idle            time.Duration // how long it may be silent
	opened          time.Time
	up, down        flow // from the charger, to it

	mu     sync.Mutex
	ended  bool
	reason string
	meter  meter
}

func (s *Server) newConversation(caller netip.Addr, charger, server *net.TCPConn, port uint16, d decision) *conversation {
	now := time.Now()
	c := &conversation{
		caller: caller, charger: charger, server: server, name: d.name, port: port, by: d.by,
		cloud: d.name == policy.Hub && port == policy.HubPort,
		idle:  s.cfg.IdleShort, opened: now,
		meter: meter{moved: now},
	}
	if port == policy.HubPort || d.rule.Plain {
		c.idle = s.cfg.IdleLasting
	}
	c.up.from, c.up.to = charger, server
	c.down.from, c.down.to = server, charger
	if c.cloud {
		// The ladder shows at once that the cloud answers.
		c.down.first = func() { s.report(c, time.Now()) }
	}
	return c
}

// converse replays what was read and carries the rest until both sides have
// ended or one has failed.
func (s *Server) converse(ctx context.Context, c *conversation, first []byte) {
	_ = c.charger.SetDeadline(time.Time{})
	tune(c.charger)
	tune(c.server)
	s.begin(c)
	defer s.finish(c)
	stop := context.AfterFunc(ctx, func() { c.abort("the gateway stops") })
	defer stop()

	_ = c.server.SetWriteDeadline(time.Now().Add(s.cfg.DialTimeout))
	if _, err := c.server.Write(first); err != nil {
		c.abort("the server took no bytes: " + err.Error())
		return
	}
	_ = c.server.SetWriteDeadline(time.Time{})
	c.up.moved.Add(int64(len(first)))

	var down sync.WaitGroup
	down.Go(func() { s.carry(c, &c.down, "the server", "the charger") })
	s.carry(c, &c.up, "the charger", "the server")
	down.Wait()
}

// carry runs one flow of c and ends c when it fails.
func (s *Server) carry(c *conversation, f *flow, from, to string) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
			c.abort("a fault of the gateway")
		}
	}()
	if err := f.run(); err != nil {
		c.abort(endInWords(err, from, to))
		return
	}
	c.note(from + " hung up")
}

// endInWords says who ended a conversation.
func endInWords(err error, from, to string) string {
	side := from
	var leg *legError
	if errors.As(err, &leg) && leg.writing {
		side = to
	}
	switch {
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return side + " reset it"
	case errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		return side + " does not answer any more"
	}
	return fmt.Sprintf("%s: %v", side, err)
}

// note keeps the first reason that the conversation ends for.
func (c *conversation) note(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == "" {
		c.reason = reason
	}
}

// abort resets both connections, once: what failed on one side is known on the
// other at once (F-5).
func (c *conversation) abort(reason string) { c.end(reason, reset) }

// end closes both connections with closing, if nobody did before.
func (c *conversation) end(reason string, closing func(*net.TCPConn)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended = true
	if reason != "" {
		c.reason = reason
	}
	closing(c.charger)
	closing(c.server)
}

// begin enters c among the open ones.
func (s *Server) begin(c *conversation) {
	s.mu.Lock()
	s.open[c] = struct{}{}
	s.mu.Unlock()
	s.counts.result(resultCarried)
	s.book.Opened(c.caller, c.cloud, c.opened)
	s.log.Say(event.EgressOpened, event.IP(c.caller), event.F("NAME", c.name), event.F("PORT", c.port),
		event.F("BY", c.by), event.F("REMOTE", c.server.RemoteAddr()))
}

// finish accounts for the last bytes of c and forgets it.
func (s *Server) finish(c *conversation) {
	c.end("", func(conn *net.TCPConn) { conn.Close() })
	s.mu.Lock()
	delete(s.open, c)
	s.mu.Unlock()
	now := time.Now()
	s.report(c, now)
	s.book.Closed(c.caller, c.cloud, c.opened, now)
	c.mu.Lock()
	reason := c.reason
	c.mu.Unlock()
	s.log.Say(event.EgressEnded, event.IP(c.caller), event.F("NAME", c.name), event.F("PORT", c.port),
		event.F("LASTED", now.Sub(c.opened)), event.F("REASON", reason),
		event.F("UP", c.up.moved.Load()), event.F("DOWN", c.down.moved.Load()))
}

// patience is how long a side may leave bytes or keep-alive probes unanswered:
// 60 s of silence and four probes 15 s apart.
const patience = 60*time.Second + 4*15*time.Second

// tune prepares a connection for a long, quiet life on a radio link.
func tune(conn *net.TCPConn) {
	_ = conn.SetNoDelay(true)
	_ = conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4})
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience.Milliseconds()))
		})
	}
}
