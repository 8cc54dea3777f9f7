package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"

	"chargegate/pkg/event"

	"github.com/miekg/dns"
)

// serve answers one question from the network.
func (s *Server) serve(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) {
	defer func() {
		if p := recover(); p != nil {
			s.count.panics.Add(1)
			s.log.Say(event.PanicRecovered, event.F("SERVICE", s.Name()),
				event.F("ERROR", fmt.Sprint(p)), event.F("STACK", string(debug.Stack())))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, askerPatience)
	defer cancel()
	m := s.answer(ctx, r, addrOf(w.RemoteAddr()))
	if m == nil {
		return
	}
	if w.LocalAddr().Network() == "udp" {
		fit(m, r)
	}
	_ = w.WriteMsg(m) // the asker may have left; nobody else wants to know
}

// A transport is how a question came.
type transport int

// Transports.
const (
	overUDP transport = iota
	overTCP
)

// respond makes the whole answer to a message as it came, or nil for silence. It
// never fails: what cannot be read is told so, as far as its header can be.
func (s *Server) respond(ctx context.Context, in []byte, from netip.Addr, over transport) (out []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.count.panics.Add(1)
			s.log.Say(event.PanicRecovered, event.F("SERVICE", s.Name()),
				event.F("ERROR", fmt.Sprint(p)), event.F("STACK", string(debug.Stack())))
			out = nil
		}
	}()
	const header = 12
	if len(in) < header {
		s.count.invalid.Add(1)
		return nil
	}
	r := new(dns.Msg)
	err := r.Unpack(in)
	if r.Response {
		s.count.invalid.Add(1)
		return nil
	}
	var m *dns.Msg
	switch {
	case err != nil:
		s.count.invalid.Add(1)
		m = new(dns.Msg)
		m.Id, m.Opcode, m.Response, m.Rcode = r.Id, r.Opcode, true, dns.RcodeFormatError
	case r.Opcode != dns.OpcodeQuery:
		s.count.invalid.Add(1)
		m = newReply(r)
		m.Rcode = dns.RcodeNotImplemented
	default:
		ctx, cancel := context.WithTimeout(ctx, askerPatience)
		defer cancel()
		if m = s.answer(ctx, r, from); m == nil {
			return nil
		}
	}
	if over == overUDP {
		fit(m, r)
	}
	out, err = m.Pack()
	if err != nil {
		s.count.failed.Add(1)
		return nil
	}
	return out
}

// answer makes the whole answer to a request from an address, or nil for
// silence: while the daemon stops, and when too many questions wait for an
// upstream. Whoever asked tries again, and a refusal would send it to another
// server.
func (s *Server) answer(ctx context.Context, r *dns.Msg, from netip.Addr) *dns.Msg {
	m := newReply(r)
	if rcode := fault(r); rcode != dns.RcodeSuccess {
		s.count.invalid.Add(1)
		m.Rcode = rcode
		return m
	}
	q := r.Question[0]
	switch rule(s.list, q) {
	case gateway:
		s.answerGateway(m, q, from)
	case empty:
		s.count.empty.Add(1)
		m.Ns = []dns.RR{localSOA(q.Name)}
	case lookup:
		return s.answerLookup(ctx, m, q, from)
	case foreign:
		s.count.foreign.Add(1)
		m.Rcode = dns.RcodeRefused
	default:
		s.refuse(m, q, from)
	}
	return m
}

// answerGateway gives the gateway's own address for a name of the NTP pool.
func (s *Server) answerGateway(m *dns.Msg, q dns.Question, from netip.Addr) {
	s.count.gateway.Add(1)
	addr := gatewayFor(s.cfg.Gateways, from)
	if !addr.IsValid() {
		m.Ns = []dns.RR{localSOA(q.Name)}
		return
	}
	m.Answer = []dns.RR{addressRecord(q.Name, addr)}
	s.book.Resolved(from, time.Now())
}

// refuse tells that a name does not exist, and the log who asked for it.
func (s *Server) refuse(m *dns.Msg, q dns.Question, from netip.Addr) {
	s.count.refused.Add(1)
	m.Rcode = dns.RcodeNameError
	m.Ns = []dns.RR{localSOA(q.Name)}
	explain(m, dns.ExtendedErrorCodeBlocked, "not on the allow-list of this charger network")
	name := event.F("NAME", plain(q.Name))
	s.log.Say(event.ResolverNameRefused, event.IP(from), name, event.F("TYPE", dns.TypeToString[q.Qtype]))
	s.book.Refused(from, "the name "+name.Value, time.Now())
}

// answerLookup gives the addresses of an allowed name.
func (s *Server) answerLookup(ctx context.Context, m *dns.Msg, q dns.Question, from netip.Addr) *dns.Msg {
	if !s.waiting.enter(from) {
		s.count.dropped.Add(1)
		s.log.Say(event.ResolverOverload, event.F("LIMIT", maxQuestions))
		return nil
	}
	defer s.waiting.leave(from)
	name := key(q.Name)
	f, err := s.memory.find(ctx, name)
	switch {
	case err != nil && ctx.Err() == context.Canceled:
		return nil
	case err != nil:
		s.count.failed.Add(1)
		s.book.Unreachable(from, plain(q.Name)+" (its address cannot be found)", time.Now())
		m.Rcode = dns.RcodeServerFailure
		explain(m, dns.ExtendedErrorCodeNoReachableAuthority, "no DNS server of the uplink gave an answer")
		return m
	}
	s.noteOrigin(name, f)
	f.write(m, name, q.Name)
	if f.origin == fromStale {
		explain(m, dns.ExtendedErrorCodeStaleAnswer, "no DNS server of the uplink gave an answer; this is the last one")
	}
	if len(f.addrs) > 0 {
		s.book.Resolved(from, time.Now())
	}
	return m
}

// noteOrigin counts where an answer came from and says when it is an old one.
func (s *Server) noteOrigin(name string, f found) {
	s.count.lookups[f.origin].Add(1)
	if f.origin == fromStale {
		s.given.note(name, f.addrs, time.Now())
		s.log.Say(event.ResolverStale, event.F("NAME", plain(name)), event.F("AGE", f.age.Round(time.Second)))
	}
}
