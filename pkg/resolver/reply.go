package resolver

import (
	"net/netip"

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
}

// addressRecord is our own answer for a name.
func addressRecord(name string, addr netip.Addr) dns.RR {
	return &dns.A{
		Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: localTTL},
		A:   addr.AsSlice(),
	}
}

// localSOA goes with a negative answer of our own, so that stub resolvers know
// how long to keep it (RFC 2308, 5).
func localSOA(name string) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: localTTL},
		Ns:  "gateway.invalid.", Mbox: "hostmaster.gateway.invalid.",
		Serial: 1, Refresh: 1800, Retry: 900, Expire: 604800, Minttl: localTTL,
	}
}
