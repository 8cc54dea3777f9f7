package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/hello"
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

// call handles one caller from its first packet to its last.
func (s *Server) call(ctx context.Context, conn *net.TCPConn, caller netip.Addr) {
	defer s.survive(conn)
	stop := context.AfterFunc(ctx, func() { reset(conn) })
	defer stop()
	dst, err := s.destination(conn, caller)
	if err != nil {
		s.turnAway(caller, err)
		reset(conn)
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(s.cfg.HelloTimeout))
	h, err := hello.Read(conn, hello.DefaultLimit)
	if err != nil {
		s.helloFailed(ctx, caller, dst, err)
		reset(conn)
		return
	}
	d := decide(s.list, s.names.NamesAt, dst, h)
	if h.ECH {
		s.log.Say(event.EgressHidden, event.IP(caller), event.F("NAME", h.ServerName))
	}
	if !d.allowed() {
		s.refused(caller, dst, h, d)
		if h.Protocol == hello.TLS {
			refuse(conn, h.Version)
		} else {
			reset(conn)
		}
		return
	}
	server, err := s.dialler.dial(ctx, d.name, dst.Port())
	if err != nil {
		s.unreachable(ctx, caller, d.name, dst.Port(), err)
		reset(conn)
		return
	}
	defer server.Close()
	if lasted, failed, over := s.outages.reached(d.name, dst.Port(), time.Now()); over {
		s.log.Say(event.EgressRestored, event.F("NAME", d.name), event.F("PORT", dst.Port()),
			event.F("LASTED", lasted), event.F("FAILED", failed))
	}
	stop() // converse watches ctx for both connections
	s.converse(ctx, s.newConversation(caller, conn, server, dst.Port(), d), h.Bytes)
}

// survive keeps a fault of ours to the call it happened in.
func (s *Server) survive(conn *net.TCPConn) {
	if p := recover(); p != nil {
		s.panicked(p)
	}
	reset(conn) // nothing, where it was closed
}

func (s *Server) panicked(p any) {
	s.counts.panics.Add(1)
	s.log.Say(event.PanicRecovered, event.F("SERVICE", s.Name()), event.F("ERROR", fmt.Sprint(p)),
		event.F("STACK", string(debug.Stack())))
}

func (s *Server) turnAway(caller netip.Addr, err error) {
	switch {
	case errors.Is(err, errDirect):
		s.counts.result(resultDirect)
		s.book.Refused(caller, "the proxy's own port", time.Now())
		s.log.Say(event.EgressDirectRefused, event.IP(caller))
	case errors.Is(err, errOutsider):
		s.counts.result(resultOutsider)
		s.log.Say(event.EgressOutsiderRefused, event.IP(caller))
	default:
		s.counts.result(resultHelloFailed)
		s.log.Say(event.EgressHelloFailed, event.IP(caller), event.F("DST", "?"), event.Err(err))
	}
}

func (s *Server) helloFailed(ctx context.Context, caller netip.Addr, dst netip.AddrPort, err error) {
	if ctx.Err() != nil {
		return
	}
	s.counts.result(resultHelloFailed)
	s.log.Say(event.EgressHelloFailed, event.IP(caller), event.F("DST", dst), event.F("ERROR", helloInWords(err, s.cfg.HelloTimeout)))
}

// helloInWords names the few ways in which a hello fails. What a stranger sent
// is not part of it, so that it cannot make up ever new ones.
func helloInWords(err error, patience time.Duration) string {
	for _, e := range []error{hello.ErrEmpty, hello.ErrTruncated, hello.ErrTooLong, hello.ErrMalformed} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "the caller did not finish its first message within " + event.Duration(patience)
	case errors.Is(err, unix.ECONNRESET):
		return "the caller reset the connection before it had said what it wants"
	}
	return err.Error()
}

// refused says a refusal, as long as the charger has not had too many.
func (s *Server) refused(caller netip.Addr, dst netip.AddrPort, h hello.Hello, d decision) {
	s.counts.result(d.result)
	now := time.Now()
	kind, words, fields := d.refusal(dst, h)
	s.book.Refused(caller, words, now)
	switch n := s.refusals.note(caller, now); {
	case n <= maxRefusals:
		s.log.Say(kind, append([]event.Field{event.IP(caller)}, fields...)...)
	case n == maxRefusals+1:
		s.log.Say(event.EgressManyRefusals, event.IP(caller), event.F("COUNT", maxRefusals))
	}
}

func (s *Server) unreachable(ctx context.Context, caller netip.Addr, name string, port uint16, err error) {
	if ctx.Err() != nil {
		return
	}
	cause := causeTCP
	var de *dialError
	if errors.As(err, &de) {
		cause = de.cause
	}
	now := time.Now()
	s.counts.result(resultUnreachable)
	s.counts.dialFailed(cause)
	s.book.Unreachable(caller, name, now)
	if s.outages.failed(name, port, now) {
		s.log.Say(event.EgressUnreachable, event.F("NAME", name), event.F("PORT", port), event.F("CAUSE", cause),
			event.F("ERROR", strings.ReplaceAll(err.Error(), "\n", "; ")))
	}
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
