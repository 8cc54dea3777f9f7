package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/hello"

	"golang.org/x/sys/unix"
)

// call handles one caller from its first packet until it is refused or carried.
// It reports whether its place went on to a conversation.
func (s *Server) call(ctx context.Context, conn *net.TCPConn, v visit) (carried bool) {
	caller, sh := v.caller, v.share
	defer s.survive(conn)
	stop := context.AfterFunc(ctx, func() { reset(conn) })
	defer stop()
	heard := sync.OnceFunc(func() {
		if !v.heard {
			s.places.heard(sh)
		}
	})
	defer heard()
	dst, err := v.to, error(nil)
	if !dst.IsValid() {
		dst, err = s.destinationOf(conn, v)
	}
	if err != nil {
		s.turnAway(caller, err)
		reset(conn)
		return false
	}
	_ = conn.SetReadDeadline(v.came.Add(s.cfg.HelloTimeout))
	h, err := hello.Read(&replay{conn, v.first, v.err}, hello.DefaultLimit)
	heard()
	if err != nil {
		s.helloFailed(ctx, caller, dst, err)
		reset(conn)
		return false
	}
	namesAt := func(a netip.Addr) []string { return s.names.NamesAt(caller, a) }
	d := decide(s.list, namesAt, dst, h)
	if h.ECH && d.allowed() { // else the refusal says what was asked for
		s.log.Say(event.EgressHidden, event.IP(caller), event.F("NAME", d.name))
	}
	if !d.allowed() {
		s.refused(caller, dst, h, d)
		if h.Protocol == hello.TLS {
			refuse(conn, h.Version)
		} else {
			reset(conn)
		}
		return false
	}
	began := v.began
	if began.IsZero() {
		began = time.Now()
	}
	server, err := s.dialler.dialSince(ctx, began, d.name, dst.Port(), d.rule.Addresses)
	if err != nil {
		s.unreachable(ctx, caller, d, dst.Port(), began, err)
		reset(conn)
		return false
	}
	defer server.Close()
	s.reached(d.name, dst.Port())
	return stop() && s.converse(s.newConversation(caller, sh, server, dst.Port(), d), conn, server, h.Bytes)
}

// survive keeps a fault of ours to the call it happened in.
func (s *Server) survive(conn *net.TCPConn) {
	if p := recover(); p != nil {
		s.panicked(p, debug.Stack())
	}
	reset(conn) // nothing, where it was closed
}

func (s *Server) panicked(p any, stack []byte) {
	s.counts.panics.Add(1)
	s.log.Say(event.PanicRecovered, event.F("SERVICE", s.Name()), event.F("ERROR", fmt.Sprint(p)),
		event.F("STACK", string(stack)))
}

func (s *Server) turnAway(caller netip.Addr, err error) {
	switch {
	case errors.Is(err, errDirect):
		s.counts.result(resultDirect)
		s.book.Refused(caller, "the proxy's own port", time.Now())
		s.cameToNothing(caller, Refused, causeDirect, "", 0, "it called the proxy's own port")
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
	s.cameToNothing(caller, Refused, causeHello, "", dst.Port(), helloInWords(err, s.cfg.HelloTimeout))
	s.log.Say(event.EgressHelloFailed, event.IP(caller), event.F("DST", dst), event.F("ERROR", helloInWords(err, s.cfg.HelloTimeout)))
}

// helloInWords names the few ways in which a hello fails. What a stranger sent
// is not part of it, so that it cannot make up ever new ones.
func helloInWords(err error, patience time.Duration) string {
	for _, e := range []error{hello.ErrEmpty, hello.ErrTruncated, hello.ErrTooLong, hello.ErrMalformed, hello.ErrProxy} {
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
	s.cameToNothing(caller, Refused, causeOf(d.result), d.name, dst.Port(), whyNot(d, h))
	switch n := s.refusals.note(s.shareOf(caller), now); {
	case n <= maxRefusals:
		s.log.Say(kind, append([]event.Field{event.IP(caller)}, fields...)...)
	case n == maxRefusals+1:
		s.log.Say(event.EgressManyRefusals, event.IP(caller), event.F("COUNT", maxRefusals))
	}
}
