package resolver

import "github.com/miekg/dns"

// isLame reports whether a message says no more than that somebody else should
// be asked: a referral (RFC 2308, 2.2), or nothing at all from a server that
// offers no recursion. A negative answer has an SOA, or comes from a server that
// asks further.
func isLame(m *dns.Msg) bool {
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) > 0 {
		return false
	}
	refers := false
	for _, rr := range m.Ns {
		switch rr.(type) {
		case *dns.SOA:
			return false
		case *dns.NS:
			refers = true
		}
	}
	return refers || !m.RecursionAvailable
}
