package resolver

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const hub = "zapcloud.azure-devices.net."

// rrs makes records from their text.
func rrs(t testing.TB, text ...string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, s := range text {
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}

// texts is the other way round, without tabs.
func texts(records []dns.RR) []string {
	var out []string
	for _, rr := range records {
		out = append(out, strings.Join(strings.Fields(rr.String()), " "))
	}
	return out
}

func chain(n int) []string {
	var out []string
	at := hub
	for i := range n {
		next := fmt.Sprintf("c%d.example.", i)
		out = append(out, at+" 60 IN CNAME "+next)
		at = next
	}
	return append(out, at+" 60 IN A 192.0.2.1")
}

func TestReduce(t *testing.T) {
	t.Parallel()
	const soa = "azure-devices.net. 300 IN SOA ns.example. root.example. 1 2 3 4 120"
	tests := []struct {
		name              string
		rcode             int
		answer, authority []string
		want              []string // kept records
		wantRcode         int
		ttl               time.Duration
		fault             string
	}{
		{
			name:   "an address",
			answer: []string{hub + " 60 IN A 192.0.2.1"}, want: []string{hub + " 60 IN A 192.0.2.1"}, ttl: time.Minute,
		},
		{
			name: "a chain as Azure has it, out of order, with the shortest TTL in the middle",
			answer: []string{
				"gw.example. 300 IN A 192.0.2.1", "gw.example. 300 IN A 192.0.2.2",
				hub + " 3600 IN CNAME mid.example.", "MID.example. 10 IN CNAME gw.example.",
			},
			want: []string{
				hub + " 3600 IN CNAME mid.example.", "MID.example. 10 IN CNAME gw.example.",
				"gw.example. 300 IN A 192.0.2.1", "gw.example. 300 IN A 192.0.2.2",
			},
			ttl: 10 * time.Second,
		},
		{
			name:   "records of other names and types are dropped",
			answer: []string{hub + " 60 IN A 192.0.2.1", "api.zaptec.com. 60 IN A 192.0.2.66", hub + " 60 IN TXT \"x\"", hub + " 60 CH A \\# 4 c0000201"},
			want:   []string{hub + " 60 IN A 192.0.2.1"}, ttl: time.Minute,
		},
		{
			name:   "the same address twice",
			answer: []string{hub + " 60 IN A 192.0.2.1", hub + " 60 IN A 192.0.2.1"}, want: []string{hub + " 60 IN A 192.0.2.1"}, ttl: time.Minute,
		},
		{name: "a floor for the TTL", answer: []string{hub + " 0 IN A 192.0.2.1"}, want: []string{hub + " 0 IN A 192.0.2.1"}, ttl: minTTL},
		{name: "a ceiling", answer: []string{hub + " 86400 IN A 192.0.2.1"}, want: []string{hub + " 86400 IN A 192.0.2.1"}, ttl: maxTTL},
		{name: "a TTL with the top bit set", answer: []string{hub + " 4294967295 IN A 192.0.2.1"}, want: []string{hub + " 4294967295 IN A 192.0.2.1"}, ttl: minTTL},
		{name: "no such name", rcode: dns.RcodeNameError, authority: []string{soa}, wantRcode: dns.RcodeNameError, ttl: 2 * time.Minute},
		{name: "no such name, without proof", rcode: dns.RcodeNameError, wantRcode: dns.RcodeNameError},
		{name: "no such name, with another zone's proof", rcode: dns.RcodeNameError, authority: []string{"example. 300 IN SOA ns.example. root.example. 1 2 3 4 120"}, wantRcode: dns.RcodeNameError},
		{name: "no address", authority: []string{soa}, ttl: 2 * time.Minute},
		{
			name:   "no address at the end of a chain",
			answer: []string{hub + " 30 IN CNAME mid.example."}, want: []string{hub + " 30 IN CNAME mid.example."},
			authority: []string{"example. 300 IN SOA ns.example. root.example. 1 2 3 4 120"}, ttl: 30 * time.Second,
		},
		{
			name: "no such name at the end of a chain", rcode: dns.RcodeNameError, wantRcode: dns.RcodeNameError,
			answer: []string{hub + " 30 IN CNAME mid.example."}, want: []string{hub + " 30 IN CNAME mid.example."},
			authority: []string{"example. 300 IN SOA ns.example. root.example. 1 2 3 4 20"}, ttl: 20 * time.Second,
		},
		{name: "a long chain", answer: chain(maxChain - 1), want: chain(maxChain - 1), ttl: time.Minute},
		{name: "too long a chain", answer: chain(40), fault: "loop or longer"},
		{name: "a loop", answer: []string{hub + " 60 IN CNAME a.example.", "a.example. 60 IN CNAME " + hub}, fault: "loop or longer"},
		{name: "a loop of one", answer: []string{hub + " 60 IN CNAME " + hub}, fault: "loop or longer"},
		{name: "loopback", answer: []string{hub + " 60 IN A 127.0.0.1"}, fault: "no server on the Internet"},
		{name: "our own network", answer: []string{hub + " 60 IN A 10.83.0.9"}, fault: "no server on the Internet"},
		{name: "nowhere", answer: []string{hub + " 60 IN A 0.0.0.0"}, fault: "no server on the Internet"},
		{name: "broadcast", answer: []string{hub + " 60 IN A 255.255.255.255"}, fault: "no server on the Internet"},
		{name: "one good address among bad ones", answer: []string{hub + " 60 IN A 127.0.0.1", hub + " 60 IN A 192.0.2.1"}, want: []string{hub + " 60 IN A 192.0.2.1"}, ttl: time.Minute},
		{name: "a private address elsewhere is a site's own server", answer: []string{hub + " 60 IN A 192.168.7.7"}, want: []string{hub + " 60 IN A 192.168.7.7"}, ttl: time.Minute},
		{name: "server failure", rcode: dns.RcodeServerFailure, fault: "SERVFAIL"},
		{name: "refused", rcode: dns.RcodeRefused, answer: []string{hub + " 60 IN A 192.0.2.1"}, fault: "REFUSED"},
	}
	own := usable([]netip.Prefix{netip.MustParsePrefix("10.83.0.1/24")})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: tt.rcode}, Answer: rrs(t, tt.answer...), Ns: rrs(t, tt.authority...)}
			a, err := reduce(hub, m, own)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Fatalf("error %v, want %q", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, texts(a.records)); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if a.ttl != tt.ttl || a.rcode != tt.wantRcode {
				t.Errorf("kept for %v with rcode %d, want %v with %d", a.ttl, a.rcode, tt.ttl, tt.wantRcode)
			}
		})
	}
}

func TestWriteCountsTTLsDown(t *testing.T) {
	t.Parallel()
	kept := answer{ttl: 10 * time.Second, addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		records: rrs(t, hub+" 7200 IN CNAME gw.example.", "gw.example. 10 IN A 192.0.2.1")}
	tests := []struct {
		name string
		f    found
		want []string
	}{
		{"at once", found{answer: kept, origin: fromCache, age: 0}, []string{"ZapCloud.azure-devices.NET. 3600 IN CNAME gw.example.", "gw.example. 10 IN A 192.0.2.1"}},
		{"after 4.2 s", found{answer: kept, origin: fromCache, age: 4200 * time.Millisecond}, []string{"ZapCloud.azure-devices.NET. 3596 IN CNAME gw.example.", "gw.example. 6 IN A 192.0.2.1"}},
		{"at the end", found{answer: kept, origin: fromCache, age: 9999 * time.Millisecond}, []string{"ZapCloud.azure-devices.NET. 3591 IN CNAME gw.example.", "gw.example. 1 IN A 192.0.2.1"}},
		{"stale", found{answer: kept, origin: fromStale, age: 71 * time.Hour}, []string{"ZapCloud.azure-devices.NET. 30 IN CNAME gw.example.", "gw.example. 30 IN A 192.0.2.1"}},
	}
	for _, tt := range tests {
		m := new(dns.Msg)
		tt.f.write(m, hub, "ZapCloud.azure-devices.NET.")
		if diff := cmp.Diff(tt.want, texts(m.Answer)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if got := kept.records[0].Header(); got.Ttl != 7200 || got.Name != hub {
		t.Errorf("the kept record was changed: %v", got)
	}
}

func FuzzReduce(f *testing.F) {
	for _, m := range []*dns.Msg{
		{Answer: rrs(f, chain(3)...)},
		{MsgHdr: dns.MsgHdr{Rcode: dns.RcodeNameError}, Ns: rrs(f, "net. 1 IN SOA a. b. 1 2 3 4 5")},
		{Answer: rrs(f, hub+" 1 IN A 127.0.0.1", hub+" 1 IN HTTPS 1 . ech=AAAA")},
	} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	own := usable([]netip.Prefix{netip.MustParsePrefix("10.83.0.1/24")})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		a, err := reduce(hub, m, own)
		if err != nil {
			return
		}
		if len(a.records) > maxChain+maxAddrs || a.ttl != 0 && a.ttl < minTTL || a.ttl > maxTTL {
			t.Fatalf("%d records for %v", len(a.records), a.ttl)
		}
		for _, addr := range a.addrs {
			if !own(addr) {
				t.Fatalf("address %s passed", addr)
			}
		}
		out := new(dns.Msg).SetQuestion(hub, dns.TypeA)
		found{answer: a, origin: fromCache, age: time.Second}.write(out, hub, hub)
		for _, rr := range out.Answer {
			if rt := rr.Header().Rrtype; rt != dns.TypeA && rt != dns.TypeCNAME {
				t.Fatalf("type %d passed", rt)
			}
		}
		if _, err := out.Pack(); err != nil {
			t.Fatalf("the answer does not pack: %v", err)
		}
	})
}
