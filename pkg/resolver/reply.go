package resolver

import (
	"encoding/hex"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

const (
	// udpSize is the largest message over UDP, in and out (EDNS(0), RFC 6891,
	// with the size of the DNS flag day 2020).
	udpSize = 1232
	// localTTL is how long our own answers may be kept, in seconds: short,
	// because an allow-list is edited by a technician who waits for the result.
	localTTL = 60
)

// fault says what is wrong with a request, as an rcode: a header that promises a
// question which is not there, a version of EDNS that we do not speak (RFC 6891,
// 6.1.3), or more than one OPT (6.1.1).
func fault(r *dns.Msg) int {
	if len(r.Question) != 1 {
		return dns.RcodeFormatError
	}
	opts := 0
	rcode := dns.RcodeSuccess
	for _, rr := range r.Extra {
		if opt, ok := rr.(*dns.OPT); ok {
			opts++
			if opt.Version() != 0 {
				rcode = dns.RcodeBadVers
			}
		}
	}
	if opts > 1 {
		return dns.RcodeFormatError
	}
	return rcode
}

// headerOnly answers by the header alone, where there is nothing more to be said or
// nothing more could be read: the id and the opcode come back, and recursion as
// it was desired where the opcode knows it (RFC 8906, 3.1.4 and 8.1.4).
func headerOnly(in []byte, rcode byte) []byte {
	const response, opcode, recursionDesired = 1 << 7, 0xf << 3, 1
	out := make([]byte, headerLen)
	copy(out, in[:2])
	out[2] = response | in[2]&opcode
	if in[2]&opcode == dns.OpcodeQuery<<3 {
		out[2] |= in[2] & recursionDesired
	}
	out[3] = rcode
	return out
}

// isMeta reports whether a type is none that a record can be asked by.
func isMeta(qtype uint16) bool {
	switch qtype {
	case dns.TypeNone, dns.TypeOPT, dns.TypeTKEY, dns.TypeTSIG, dns.TypeNXNAME,
		dns.TypeIXFR, dns.TypeAXFR, dns.TypeMAILB, dns.TypeMAILA:
		return true
	}
	return false
}

// answerMeta turns down what is asked by such a type, as BIND does.
func answerMeta(m *dns.Msg, qtype uint16) {
	switch qtype {
	case dns.TypeIXFR, dns.TypeAXFR:
		m.Rcode = dns.RcodeRefused
		explain(m, dns.ExtendedErrorCodeNotAuthoritative, "there is no zone here")
	case dns.TypeMAILB, dns.TypeMAILA:
		m.Rcode = dns.RcodeNotImplemented
		explain(m, dns.ExtendedErrorCodeNotSupported, "obsolete since RFC 973")
	default:
		m.Rcode = dns.RcodeFormatError
		explain(m, invalidQueryType, "")
	}
}

// invalidQueryType is the extended error 30 (RFC 9824, 5).
const invalidQueryType = 30

// addOptions adds what goes with an answer to who speaks EDNS: our half of its
// cookie, and over TCP how long a silent conversation is kept.
func (s *Server) addOptions(m *dns.Msg, q asking, from netip.Addr, over transport) {
	opt := m.IsEdns0()
	if opt == nil {
		return
	}
	if q.cookie != nil && !q.badCookie {
		cookie := s.cookies.answer(q.cookie, from, time.Now())
		opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(cookie)})
	}
	if q.keepalive && over == overTCP { // RFC 7828, 3.3.2, in tenths of a second
		opt.Option = append(opt.Option, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE, Timeout: uint16(tcpIdle / (100 * time.Millisecond))})
	}
}

// firstSet returns the first set of records: what "any" is answered with where
// there are several (RFC 8482, 4.1).
func firstSet(records []dns.RR) []dns.RR {
	n := 0
	for n < len(records) && records[n].Header().Rrtype == records[0].Header().Rrtype && records[n].Header().Name == records[0].Header().Name {
		n++
	}
	return records[:n]
}

// parent is the name above another one, as it was written.
func parent(name string) string {
	at, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[at:]
}

// newReply begins the answer to a request: recursion is available, and EDNS is
// spoken to whoever speaks it.
func newReply(r *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(r)
	m.RecursionAvailable = true
	m.Compress = true
	if opt := r.IsEdns0(); opt != nil {
		m.SetEdns0(udpSize, opt.Do()) // RFC 3225, 3: the bit is copied
	}
	return m
}

// explain adds an extended error (RFC 8914) for whoever speaks EDNS.
func explain(m *dns.Msg, code uint16, text string) {
	if opt := m.IsEdns0(); opt != nil {
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: code, ExtraText: text})
	}
}

// fit cuts a message to what the asker can take over UDP, with the TC bit when
// something had to go: it then asks again over TCP.
func fit(m, r *dns.Msg) {
	size := dns.MinMsgSize
	if opt := r.IsEdns0(); opt != nil {
		size = min(max(int(opt.UDPSize()), dns.MinMsgSize), udpSize)
	}
	m.Truncate(size)
	m.Compress = true // also when it would fit without: owners shall point to the question
}

// addressRecord is our own answer for a name.
func addressRecord(name string, addr netip.Addr) dns.RR {
	return &dns.A{Hdr: localHeader(name, dns.TypeA), A: addr.AsSlice()}
}

func localHeader(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: localTTL}
}

// localSOA goes with a negative answer of our own, so that stub resolvers know
// how long to keep it (RFC 2308, 5). A name that exists is its zone; one that
// does not lies in the zone above.
func localSOA(name string) dns.RR {
	return &dns.SOA{
		Hdr: localHeader(name, dns.TypeSOA),
		Ns:  gatewayName, Mbox: "hostmaster." + gatewayName,
		Serial: 1, Refresh: 1800, Retry: 900, Expire: 604800, Minttl: localTTL,
	}
}
