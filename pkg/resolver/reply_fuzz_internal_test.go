package resolver

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// Whatever comes from a server's address, the name has addresses that were said
// to be its own, through a chain that begins at it, or none; and that with little
// work.
func FuzzUpstreamReply(f *testing.F) {
	q, err := writeQuery(nil, hub, manners{})
	if err != nil {
		f.Fatal(err)
	}
	fwd, _ := forwardTo(nil)
	add := func(edit func(m *dns.Msg)) {
		m := new(dns.Msg)
		if err := m.Unpack(q.wire); err != nil {
			f.Fatal(err)
		}
		m.Response, m.RecursionAvailable, m.Compress = true, true, true
		edit(m)
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[2:])
	}
	add(func(m *dns.Msg) { m.Answer = rrs(f, good) })
	add(func(m *dns.Msg) { m.Answer = rrs(f, chain(3)...) })
	add(func(m *dns.Msg) { m.Answer = rrs(f, chain(40)...) })
	add(func(m *dns.Msg) { m.Answer = rrs(f, hub+" 60 IN CNAME "+hub) })
	add(func(m *dns.Msg) { m.Answer = rrs(f, "api.zaptec.com. 60 IN A 192.0.2.66", good) })
	add(func(m *dns.Msg) { m.Truncated = true })
	add(func(m *dns.Msg) {
		m.Rcode, m.Ns = dns.RcodeNameError, rrs(f, "azure-devices.net. 300 IN SOA ns.example. root.example. 1 2 3 4 120")
	})
	add(func(m *dns.Msg) { m.Rcode, m.Question = dns.RcodeFormatError, nil })
	f.Fuzz(func(t *testing.T, b []byte) {
		in := append(bytes.Clone(q.wire[:2]), b...) // the id is right: that is the hard case
		v := q.judge(in)
		if v != right {
			return
		}
		whole := bytes.Clone(in)
		a, err := fwd.understand(hub, q, in)
		if err != nil && !errors.Is(err, errUnproven) {
			if len(a.addrs)+len(a.records) > 0 {
				t.Fatalf("an error, %v, with %v", err, a.records)
			}
			return
		}
		if len(a.addrs) > maxAddrs || len(a.records) > maxAddrs+maxChain {
			t.Fatalf("%d addresses, %d records", len(a.addrs), len(a.records))
		}
		// The owners make a chain from the name to each address.
		at := hub
		for _, rr := range a.records {
			if key(rr.Header().Name) != at {
				t.Fatalf("%v does not belong to %s in %q", rr, at, whole)
			}
			if c, ok := rr.(*dns.CNAME); ok {
				at = key(c.Target)
			}
		}
		m := new(dns.Msg)
		if err := m.Unpack(whole); err != nil {
			t.Fatalf("it is understood and cannot be read: %v", err)
		}
		said := map[netip.Addr]bool{}
		for _, rr := range m.Answer {
			if r, ok := rr.(*dns.A); ok && key(r.Hdr.Name) == at {
				addr, _ := netip.AddrFromSlice(r.A.To4())
				said[addr] = true
			}
		}
		for _, addr := range a.addrs {
			if !said[addr] || !fwd.usable(addr) {
				t.Fatalf("%v is not an address of %s", addr, at)
			}
		}
		if !repeats(q.wire[:q.end], whole) {
			t.Fatalf("accepted for another question: %q", whole)
		}
	})
}

// repeats reports whether a message repeats the question octet for octet, or
// says that it could not be read.
func repeats(asked, in []byte) bool {
	if in[5] == 0 && in[4] == 0 {
		return in[3]&rcodeMask == dns.RcodeFormatError
	}
	return len(in) >= len(asked) && bytes.Equal(asked[messageHeader:], in[messageHeader:len(asked)])
}
