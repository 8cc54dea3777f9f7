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
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/hello"
	"chargegate/pkg/policy"

	"golang.org/x/sys/unix"
)

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
	switch n := s.refusals.note(s.shareOf(caller), now); {
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
	s.book.Unreachable(caller, fmt.Sprintf("%s on port %d (%s)", name, port, causeInWords[cause]), now)
	if s.outages.failed(name, port, now) {
		kind := event.EgressUnreachable
		if name == policy.Hub {
			kind = event.EgressHubUnreachable
		}
		s.log.Say(kind, event.F("NAME", name), event.F("PORT", port), event.F("CAUSE", cause),
			event.F("ERROR", strings.ReplaceAll(err.Error(), "\n", "; ")))
	}
}
