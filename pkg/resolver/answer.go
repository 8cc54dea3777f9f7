package resolver

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"chargegate/pkg/policy"

	"github.com/miekg/dns"
)

// Bounds of an answer. A hub stands behind one or two CNAMEs; more than this is
// a mistake or worse.
const (
	maxChain = 16
	maxAddrs = 32
)

// Bounds of how long an answer is kept.
const (
	minTTL = 5 * time.Second
	maxTTL = time.Hour
)

// An answer is what an upstream said of a name, reduced to what answers the
// question. It is never changed once made: whoever wants other TTLs copies.
type answer struct {
	rcode   int      // dns.RcodeSuccess or dns.RcodeNameError
	records []dns.RR // the CNAME chain, then the A records, TTLs as they came
	addrs   []netip.Addr
	soa     *dns.SOA // of a negative answer; nil: it may not be kept
	ttl     time.Duration
}

// key is the form of a name under which answers are kept: lower case with the
// final dot (RFC 4343).
func key(name string) string {
	n := policy.Normal(name)
	if len(n)+1 == len(name) && name[:len(n)] == n {
		return name
	}
	return n + "."
}

// plain is a name as people write it.
func plain(name string) string {
	if name == "." {
		return name
	}
	return policy.Normal(name)
}

// errAnswer marks an upstream's message that cannot be used.
var errAnswer = errors.New("unusable answer")

// An unusableError is an answer that holds addresses, and none of them can be a
// server's. Whoever looks a name up may ask it which they are.
type unusableError struct{ addrs []netip.Addr }

func (e *unusableError) Error() string {
	const most = 3
	var list []string
	for _, a := range e.addrs[:min(len(e.addrs), most)] {
		list = append(list, a.String())
	}
	if more := len(e.addrs) - most; more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	return "it gives only addresses that no server on the Internet has: " + strings.Join(list, ", ")
}

func (e *unusableError) Unwrap() error { return errAnswer }

// Unusable returns the addresses, at least one.
func (e *unusableError) Unusable() []netip.Addr { return slices.Clone(e.addrs) }

// reduce keeps of an upstream's message what answers "A of name": the CNAME
// chain that begins at name, and the addresses at its end. Everything else is
// dropped, so that no upstream can plant records that were not asked for.
// Addresses that cannot be a server on the Internet are dropped too, by usable:
// an answer must never turn egress against this box.
func reduce(name string, m *dns.Msg, usable func(netip.Addr) bool) (answer, error) {
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return answer{}, fmt.Errorf("%w: %s", errAnswer, dns.RcodeToString[m.Rcode])
	}
	a := answer{rcode: m.Rcode}
	at, err := a.follow(name, m.Answer)
	if err != nil {
		return answer{}, err
	}
	var strange []netip.Addr
	for _, rr := range m.Answer {
		r, ok := rr.(*dns.A)
		if !ok || r.Hdr.Class != dns.ClassINET || key(r.Hdr.Name) != at {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.A.To4())
		switch {
		case !ok:
			return answer{}, fmt.Errorf("%w: a record of %s holds no address", errAnswer, plain(name))
		case !usable(addr):
			if len(strange) < maxAddrs && !slices.Contains(strange, addr) {
				strange = append(strange, addr)
			}
		case len(a.addrs) < maxAddrs && !slices.Contains(a.addrs, addr):
			a.addrs = append(a.addrs, addr)
			a.records = append(a.records, rr)
		}
	}
	if len(a.addrs) == 0 && len(strange) > 0 {
		return answer{}, &unusableError{strange}
	}
	if len(a.addrs) > 0 {
		// RFC 6604: the rcode speaks of the end of the chain, which exists.
		a.rcode = dns.RcodeSuccess
	} else {
		a.soa = soaAbove(at, m.Ns)
	}
	a.ttl = a.keepFor()
	return a, nil
}

// follow walks the CNAME chain from name, keeps it, and returns its end.
func (a *answer) follow(name string, records []dns.RR) (end string, err error) {
	at := key(name)
	for range maxChain {
		i := slices.IndexFunc(records, func(rr dns.RR) bool {
			c, ok := rr.(*dns.CNAME)
			return ok && c.Hdr.Class == dns.ClassINET && key(c.Hdr.Name) == at
		})
		if i < 0 {
			return at, nil
		}
		a.records = append(a.records, records[i])
		at = key(records[i].(*dns.CNAME).Target)
	}
	return "", fmt.Errorf("%w: the CNAME chain of %s is a loop or longer than %d", errAnswer, plain(name), maxChain)
}

// soaAbove returns the SOA of a zone that holds name: the proof that a negative
// answer may be kept (RFC 2308, 5).
func soaAbove(name string, authority []dns.RR) *dns.SOA {
	for _, rr := range authority {
		if soa, ok := rr.(*dns.SOA); ok && soa.Hdr.Class == dns.ClassINET && dns.IsSubDomain(key(soa.Hdr.Name), name) {
			return soa
		}
	}
	return nil
}

// keepFor is the shortest TTL of the answer, within bounds; 0 for an answer that
// may not be kept.
func (a *answer) keepFor() time.Duration {
	shortest := maxTTL
	for _, rr := range a.records {
		shortest = min(shortest, seconds(rr.Header().Ttl))
	}
	if len(a.addrs) == 0 {
		if a.soa == nil {
			return 0
		}
		// RFC 2308, 5: the lesser of the SOA's own TTL and its MINIMUM.
		shortest = min(shortest, maxNegative, seconds(a.soa.Hdr.Ttl), seconds(a.soa.Minttl))
	}
	return max(shortest, minTTL)
}

func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 { // RFC 2181, 8: the top bit set means zero
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// usable refuses addresses that nobody may ever be led to: our own networks and
// every kind that means "here". Private ones and those of the uplink pass: chargers
// are told the truth, and egress, which asks the kernel and the rules
// ([[egress.allow]], addresses), decides what is dialled and says why not.
func usable(own []netip.Prefix) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		if a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.As4()[0] >= 240 || a.As4()[0] == 0 {
			return false
		}
		return !slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Contains(a) })
	}
}

// staleTTL is how long whoever gets an old answer may keep it (RFC 8767, 4).
const staleTTL = 30

// write puts the answer into m with the TTLs that are left. name is the key that
// was looked up and asked the spelling in the question, which owners repeat.
func (f found) write(m *dns.Msg, name, asked string) {
	m.Rcode = f.rcode
	if len(f.records) > 0 {
		m.Answer = make([]dns.RR, 0, len(f.records))
	}
	for _, rr := range f.records {
		rr = dns.Copy(rr)
		h := rr.Header()
		h.Ttl = f.left(h.Ttl)
		if key(h.Name) == name {
			h.Name = asked
		}
		m.Answer = append(m.Answer, rr)
	}
	switch {
	case len(f.addrs) > 0:
	case f.soa != nil:
		soa := dns.Copy(f.soa)
		soa.Header().Ttl = f.left(f.absent())
		m.Ns = []dns.RR{soa}
	}
}

// absent is the TTL of the SOA of an answer that there is nothing: as long as the
// answer is kept.
func (a *answer) absent() uint32 { return uint32(a.ttl / time.Second) }

// left is what remains of a record's TTL, in whole seconds upwards: at least what
// remains of the answer's, at most the ceiling.
func (f found) left(ttl uint32) uint32 {
	if f.origin == fromStale {
		return staleTTL
	}
	d := min(max(seconds(ttl), f.ttl), maxTTL) - f.age
	return uint32((max(d, time.Second) + time.Second - 1) / time.Second)
}
