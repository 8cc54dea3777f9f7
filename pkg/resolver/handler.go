package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/miekg/dns"
)

// A transport is how a question came.
type transport int

// Transports.
const (
	overUDP transport = iota
	overTCP
)

// respond makes the whole answer to a message as it came, or nil for silence:
// to what is no request, while the daemon stops, and when too many questions
// wait for an upstream. It never fails: what cannot be read is told so, as far
// as its header can be.
func (s *Server) respond(ctx context.Context, in []byte, from netip.Addr, over transport) (out []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.count.panics.Add(1)
			s.log.Say(event.PanicRecovered, event.F("SERVICE", s.Name()),
				event.F("ERROR", fmt.Sprint(p)), event.F("STACK", string(debug.Stack())))
			out = headerOnly(in, dns.RcodeServerFailure) // only what has a header gets so far
		}
	}()
	if len(in) < headerLen || in[2]&0x80 != 0 { // too short, or a response
		s.count.invalid.Add(1)
		return nil
	}
	if in[2]>>3&0xf != dns.OpcodeQuery {
		s.count.invalid.Add(1)
		return headerOnly(in, dns.RcodeNotImplemented)
	}
	q, ok := readAsking(in)
	if !ok {
		s.count.invalid.Add(1)
		return headerOnly(in, dns.RcodeFormatError)
	}
	m := s.reply(ctx, q, from)
	if m == nil {
		return nil
	}
	s.addOptions(m, q, from, over)
	if over == overUDP {
		fit(m, q.msg)
	}
	out, err := m.Pack()
	if err != nil {
		s.count.failed.Add(1)
		return nil
	}
	return out
}

// reply makes the answer to a request that could be read, or nil for silence.
func (s *Server) reply(ctx context.Context, q asking, from netip.Addr) *dns.Msg {
	rcode := fault(q.msg)
	switch {
	case q.badCookie: // RFC 7873, 5.2.2
		rcode = dns.RcodeFormatError
	case len(q.msg.Question) == 0 && q.cookie != nil && len(q.msg.Extra) == 1:
		return newReply(q.msg) // RFC 7873, 5.4: it wants a cookie and nothing else
	case rcode == dns.RcodeSuccess && q.signed: // by a key that we cannot have (RFC 8945, 5.2.1)
		rcode = dns.RcodeNotAuth
	}
	if rcode != dns.RcodeSuccess {
		s.count.invalid.Add(1)
		m := newReply(q.msg)
		m.Rcode = rcode
		return m
	}
	return s.answer(ctx, q.msg, from)
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
	if isMeta(q.Qtype) {
		s.count.foreign.Add(1)
		answerMeta(m, q.Qtype)
		return m
	}
	switch r := s.rule(q); r {
	case lookup:
		return s.answerLookup(ctx, m, q, from)
	case gateway:
		s.answerGateway(m, q, from)
	case empty:
		s.count.empty.Add(1)
		m.Ns = []dns.RR{localSOA(q.Name)}
	case foreign:
		s.count.foreign.Add(1)
		m.Rcode = dns.RcodeRefused
		explain(m, dns.ExtendedErrorCodeNotSupported, "class IN only")
	case refused:
		s.refuse(m, q, from)
	default:
		s.answerLocal(m, q, r)
	}
	return m
}

// answerLocal answers for the names that are known without the list.
func (s *Server) answerLocal(m *dns.Msg, q dns.Question, r ruling) {
	s.count.local.Add(1)
	switch r {
	case pointer:
		m.Answer = []dns.RR{&dns.PTR{Hdr: localHeader(q.Name, dns.TypePTR), Ptr: gatewayName}}
	case loopback:
		m.Answer = []dns.RR{addressRecord(q.Name, netip.AddrFrom4([4]byte{127, 0, 0, 1}))}
	case own:
		if q.Qtype == dns.TypeSOA {
			m.Answer = []dns.RR{localSOA(q.Name)}
			return
		}
		m.Ns = []dns.RR{localSOA(q.Name)}
	default:
		s.deny(m, q)
	}
}

// answerGateway gives the gateway's own address, for its own name and for every
// name of the NTP pool.
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

// deny says that a name does not exist, or that it has nothing if another one
// that is answered lies below it.
func (s *Server) deny(m *dns.Msg, q dns.Question) {
	if s.isAbove(key(q.Name)) {
		m.Ns = []dns.RR{localSOA(q.Name)}
		return
	}
	m.Rcode = dns.RcodeNameError
	m.Ns = []dns.RR{localSOA(parent(q.Name))}
}

// refuse denies a name that no rule holds, and tells the log who asked for it.
func (s *Server) refuse(m *dns.Msg, q dns.Question, from netip.Addr) {
	s.count.refused.Add(1)
	s.deny(m, q)
	explain(m, dns.ExtendedErrorCodeBlocked, "not on the allow-list of this charger network")
	now, name := time.Now(), event.F("NAME", plain(q.Name))
	kind := event.ResolverNameRefused
	if s.lately.was(from, now) {
		if s.lately.hint(name.Value, now) {
			kind = event.ResolverFirmwareNameRefused
		}
		s.lately.shouted.Store(true)
		s.book.RefusedFirmware(from, name.Value, now)
	} else {
		s.book.Refused(from, "the name "+name.Value, now)
	}
	s.log.Say(kind, event.IP(from), name, event.F("TYPE", dns.Type(q.Qtype)))
}

// answerLookup gives the addresses of an allowed name.
func (s *Server) answerLookup(ctx context.Context, m *dns.Msg, q dns.Question, from netip.Addr) *dns.Msg {
	name := key(q.Name)
	var f found
	if m.RecursionDesired {
		var known bool
		var err error
		if f, known, err = s.memory.atHand(name, time.Now()); !known {
			if !s.waiting.enter(from) {
				s.count.dropped.Add(1)
				s.log.Say(event.ResolverOverload, event.F("LIMIT", maxQuestions))
				return nil
			}
			defer s.waiting.leave(from)
			f, err = s.memory.findPatient(ctx, name)
		}
		if err != nil {
			if ctx.Err() == context.Canceled {
				return nil
			}
			s.fail(m, q, from, err)
			return m
		}
	} else if k, ok := s.memory.peek(name, time.Now()); ok {
		f = k.foundAt(time.Now())
	} else { // RFC 8914, 4.21: it does not want us to ask
		s.count.foreign.Add(1)
		m.Rcode = dns.RcodeRefused
		explain(m, dns.ExtendedErrorCodeNotAuthoritative, "not known here; ask with recursion")
		return m
	}
	s.noteOrigin(name, f)
	f.write(m, name, q.Name)
	if q.Qtype == dns.TypeANY {
		m.Answer = firstSet(m.Answer)
	}
	if f.origin == fromStale {
		explain(m, dns.ExtendedErrorCodeStaleAnswer, "no DNS server of the uplink gave an answer; this is the last one")
	}
	if len(f.addrs) > 0 {
		s.told(from, name, f.addrs, time.Now())
	}
	return m
}

// told notes that a device was told the addresses of an allowed name, a key.
func (s *Server) told(from netip.Addr, name string, addrs []netip.Addr, now time.Time) {
	s.book.Resolved(from, now)
	s.toldTo.note(from.Unmap(), name, addrs, now)
	if name == policy.API+"." {
		s.lately.note(from, now)
	} else if s.lately.shouted.Load() {
		s.book.FoundFirmware(from, plain(name), now)
	}
}

// fail tells that no upstream gave an answer that can be used.
func (s *Server) fail(m *dns.Msg, q dns.Question, from netip.Addr, err error) {
	s.count.failed.Add(1)
	s.book.Unreachable(from, plain(q.Name)+" (its address cannot be found)", time.Now())
	m.Rcode = dns.RcodeServerFailure
	switch {
	case errors.Is(err, errShut):
		explain(m, dns.ExtendedErrorCodeNotReady, "starting or stopping")
	case errors.Is(err, errAnswer):
		explain(m, dns.ExtendedErrorCodeNoReachableAuthority, "no DNS server of the uplink gave an answer that can be used")
	default:
		explain(m, dns.ExtendedErrorCodeNetworkError, "no DNS server of the uplink can be reached")
	}
}

// noteOrigin counts where an answer came from and says when it is an old one.
func (s *Server) noteOrigin(name string, f found) {
	s.count.lookups[f.origin].Add(1)
	if f.origin == fromStale {
		s.given.note(name, s.memory.isExact(name), f.addrs, time.Now())
		s.log.Say(event.ResolverStale, event.F("NAME", plain(name)), event.F("AGE", f.age.Round(time.Second)))
	}
}
