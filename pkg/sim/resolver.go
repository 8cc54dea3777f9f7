package sim

import (
	"crypto/tls"
	"maps"
	"sync"

	"github.com/miekg/dns"
)

// A Fault is what a resolver does in the place of answering well.
type Fault int

// The faults of a resolver.
const (
	// Well is none: it answers.
	Well Fault = iota
	// Silent: it ignores every question, as behind a dead uplink.
	Silent
	// Failing: it answers SERVFAIL.
	Failing
	// Lame: it answers REFUSED.
	Lame
	// CutShort: over UDP every answer is empty and truncated, and nobody listens
	// on TCP.
	CutShort
	// Misdirected: every answer belongs to another question.
	Misdirected
)

// A resolver is one of the uplink's, at an address of its own.
type resolver struct {
	space *Space
	addr  string
	names *NameServer
	wg    sync.WaitGroup

	mu     sync.Mutex
	fault  Fault
	silent bool
	asked  map[string]int // by transport
	udp    *dns.Server
	stream []*dns.Server // over TCP and over TLS; nil while nobody listens there
}

// open begins to answer over UDP, TCP and TLS.
func (r *resolver) open() error {
	r.asked = map[string]int{}
	p, err := r.space.listenUDP(r.addr + ":53")
	if err != nil {
		return err
	}
	r.udp = startNames(&dns.Server{PacketConn: p, Handler: r.over("udp")}, &r.wg)
	return r.openStreams()
}

func (r *resolver) openStreams() error {
	plain, err := r.space.listenTCP(r.addr + ":53")
	if err != nil {
		return err
	}
	r.stream = append(r.stream, startNames(&dns.Server{Listener: plain, Handler: r.over("tcp")}, &r.wg))
	secure, err := r.space.listenTCP(r.addr + ":853")
	if err != nil {
		return err
	}
	secure = tls.NewListener(secure, &tls.Config{GetCertificate: r.names.certificate, MinVersion: tls.VersionTLS12})
	r.stream = append(r.stream, startNames(&dns.Server{Listener: secure, Handler: r.over("tls")}, &r.wg))
	return nil
}

func (r *resolver) closeStreams() {
	for _, s := range r.stream {
		s.Shutdown()
	}
	r.stream = nil
}

func (r *resolver) close() {
	if r.udp != nil {
		r.udp.Shutdown()
	}
	r.closeStreams()
	r.wg.Wait()
}

func (r *resolver) silence(silent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = silent
}

// suffer gives the resolver a fault. It must not be called twice at a time.
func (r *resolver) suffer(f Fault) error {
	r.mu.Lock()
	before := r.fault
	r.fault = f
	r.mu.Unlock()
	switch {
	case f == CutShort && before != CutShort:
		r.closeStreams()
	case f != CutShort && before == CutShort:
		return r.openStreams()
	}
	return nil
}

func (r *resolver) counts() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.asked)
}

// over answers what comes over one transport.
func (r *resolver) over(transport string) dns.Handler {
	return dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if len(q.Question) != 1 {
			return
		}
		r.mu.Lock()
		r.asked[transport]++
		fault := r.fault
		if r.silent {
			fault = Silent
		}
		r.mu.Unlock()
		r.names.note(dns.CanonicalName(q.Question[0].Name))
		if m := r.answer(q, fault); m != nil {
			if transport == "udp" {
				truncate(m, q)
			}
			w.WriteMsg(m) // an asker that has gone asks again
		}
	})
}

// answer is what a question gets from a resolver with a fault; nil: nothing.
func (r *resolver) answer(q *dns.Msg, fault Fault) *dns.Msg {
	bare := new(dns.Msg).SetReply(q)
	switch fault {
	case Silent:
		return nil
	case Failing:
		bare.Rcode = dns.RcodeServerFailure
		return bare
	case Lame:
		bare.Rcode = dns.RcodeRefused
		return bare
	case CutShort:
		bare.Truncated = true
		return bare
	case Misdirected:
		m := r.names.reply(q)
		m.Question[0].Name = "somewhere." + m.Question[0].Name
		return m
	}
	return r.names.reply(q)
}

// truncate cuts an answer to what the asker has room for.
func truncate(m, q *dns.Msg) {
	size := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		size = int(opt.UDPSize())
	}
	cut := m.Truncated
	m.Truncate(size)
	m.Truncated = m.Truncated || cut
}
