package resolver

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// edited changes a message as it is on the wire.
func edited(in []byte, edit func([]byte) []byte) []byte { return edit(bytes.Clone(in)) }

func TestWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	plain := asks(t, "pool.ntp.org.", dns.TypeA)
	opt := asks(t, "pool.ntp.org.", dns.TypeA, speaks(0, 1232, 0, optUnknown))
	set := func(at int, value byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] = value; return b }
	}
	signature := func(kind uint16) func(*dns.Msg) {
		return func(m *dns.Msg) {
			m.Extra = append(m.Extra, &dns.RFC3597{Hdr: dns.RR_Header{Name: "key.", Rrtype: kind, Class: dns.ClassANY}, Rdata: "0000"})
		}
	}
	const silence, bareFormErr = -1, -2
	tests := []struct {
		name string
		in   []byte
		want int // an rcode, silence, or FORMERR by the header alone
	}{
		{"nothing", nil, silence},
		{"less than a header", plain[:11], silence},
		{"a response", edited(plain, set(2, 0x81)), silence},
		{"a response of another kind", edited(plain, set(2, 0xff)), silence},
		{"a header that promises a question", plain[:12], bareFormErr},
		{"a question cut short", plain[:len(plain)-1], bareFormErr},
		{"two questions (RFC 9619)", edited(plain, func(b []byte) []byte { b[5] = 2; return append(b, b[12:]...) }), bareFormErr},
		{"no question", edited(plain, func(b []byte) []byte { b[5] = 0; return b[:12] }), dns.RcodeFormatError},
		{"no question but EDNS", edited(opt, func(b []byte) []byte { b[5] = 0; return append(b[:12], b[len(plain):]...) }), dns.RcodeFormatError},
		{"an answer in a question", edited(plain, set(7, 1)), bareFormErr},
		{"an authority in a question", edited(plain, set(9, 1)), bareFormErr},
		{"a name that points at itself", edited(plain, func(b []byte) []byte { b[12], b[13] = 0xc0, 12; return b }), bareFormErr},
		{"a name that points at the header", edited(plain, func(b []byte) []byte { b[12], b[13] = 0xc0, 0; return b }), bareFormErr},
		{"a label of a kind that was never made", edited(plain, set(12, 0x41)), bareFormErr},
		{"a name of 256 bytes", slices.Concat(plain[:12], bytes.Repeat([]byte("\x03abc"), 63), []byte("\x02ab\x00"), plain[len(plain)-4:]), bareFormErr},
		{"a name of 255 bytes", slices.Concat(plain[:12], bytes.Repeat([]byte("\x03abc"), 63), []byte("\x01a\x00"), plain[len(plain)-4:]), dns.RcodeNameError},
		{"records that are promised and not there", edited(plain, set(11, 1)), bareFormErr},
		{"65535 records that are not there", edited(plain, func(b []byte) []byte { b[10], b[11] = 0xff, 0xff; return b }), bareFormErr},
		{"a record cut short", opt[:len(opt)-1], bareFormErr},
		{"bytes after the last record", append(bytes.Clone(plain), "trailing"...), dns.RcodeSuccess},
		{"EDNS twice (RFC 6891, 6.1.1)", asks(t, "pool.ntp.org.", dns.TypeA, speaks(0, 1232, 0, ""), speaks(0, 1232, 0, "")), dns.RcodeFormatError},
		{"EDNS three times", asks(t, "pool.ntp.org.", dns.TypeA, speaks(0, 1232, 0, ""), speaks(0, 1232, 0, ""), speaks(0, 1232, 0, "")), dns.RcodeFormatError},
		{"EDNS of another name than the root", edited(opt, func(b []byte) []byte {
			return slices.Concat(b[:len(plain)], []byte("\x01x"), b[len(plain):])
		}), bareFormErr},
		{"an option longer than its record", edited(opt, set(len(opt)-1, 1)), bareFormErr},
		{"half an option", edited(opt, func(b []byte) []byte { b[len(plain)+10] = 3; return b[:len(b)-1] }), bareFormErr},
		{"a signature by a key (RFC 8945)", asks(t, "pool.ntp.org.", dns.TypeA, signature(dns.TypeTSIG)), dns.RcodeNotAuth},
		{"a signature by a key, and EDNS before it", asks(t, "pool.ntp.org.", dns.TypeA, speaks(0, 1232, 0, ""), signature(dns.TypeTSIG)), dns.RcodeNotAuth},
		{"a signature that is not the last record", asks(t, "pool.ntp.org.", dns.TypeA, signature(dns.TypeTSIG), speaks(0, 1232, 0, "")), bareFormErr},
		{"SIG(0) (RFC 2931)", asks(t, "pool.ntp.org.", dns.TypeA, signature(dns.TypeSIG)), dns.RcodeNotAuth},
		{"a record that nobody asked for", asks(t, "pool.ntp.org.", dns.TypeA, func(m *dns.Msg) { m.Extra = rrs(t, "x. 1 IN A 192.0.2.1") }), dns.RcodeSuccess},
		{"a cookie of 7 bytes", asks(t, "pool.ntp.org.", dns.TypeA, speaks(0, 1232, 0, "000a000701020304050607")), dns.RcodeFormatError},
		{"a cookie of 9 bytes", asks(t, "pool.ntp.org.", dns.TypeA, speaks(0, 1232, 0, "000a0009010203040506070809")), dns.RcodeFormatError},
		{"a cookie of 41 bytes", asks(t, "pool.ntp.org.", dns.TypeA, speaks(0, 1232, 0, "000a0029"+strings.Repeat("aa", 41))), dns.RcodeFormatError},
		{"a cookie of 40 bytes", asks(t, "pool.ntp.org.", dns.TypeA, speaks(0, 1232, 0, "000a0028"+strings.Repeat("aa", 40))), dns.RcodeSuccess},
		{"a second cookie, which is not looked at", asks(t, "pool.ntp.org.", dns.TypeA, speaks(0, 1232, 0, optCookie+"000a0000")), dns.RcodeSuccess},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, over := range []transport{overUDP, overTCP} {
				out := s.respond(t.Context(), tt.in, seven, over)
				switch tt.want {
				case silence:
					if out != nil {
						t.Errorf("answered with %x", out)
					}
					continue
				case bareFormErr:
					if want := []byte{tt.in[0], tt.in[1], 0x81, dns.RcodeFormatError, 0, 0, 0, 0, 0, 0, 0, 0}; !bytes.Equal(out, want) {
						t.Errorf("answered with %x, want %x", out, want)
					}
					continue
				}
				m := put(t, s, over, tt.in)
				if m == nil || m.Rcode != tt.want || m.Id != uint16(tt.in[0])<<8|uint16(tt.in[1]) || (m.Rcode != 0 && len(m.Answer) > 0) {
					t.Errorf("answered with %v, want %s", m, dns.RcodeToString[tt.want])
				}
			}
		})
	}
}

func TestAFaultOfOurOwnIsTold(t *testing.T) {
	t.Parallel()
	s, log := desk(t)
	s.cookies = nil // whoever sends a cookie now meets a fault
	in := asks(t, hub, dns.TypeA, speaks(0, 1232, 0, optCookie))
	want := []byte{in[0], in[1], 0x81, dns.RcodeServerFailure, 0, 0, 0, 0, 0, 0, 0, 0}
	if out := s.respond(t.Context(), in, seven, overUDP); !bytes.Equal(out, want) {
		t.Errorf("answered with %x, want %x", out, want)
	}
	if said := log.Recent(0, ""); s.count.panics.Load() != 1 || len(said) != 1 || said[0].Kind != event.PanicRecovered {
		t.Errorf("counted %d, said %v", s.count.panics.Load(), said)
	}
}

func TestACookieWithoutAQuestion(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	in := edited(asks(t, ".", dns.TypeA, speaks(0, 1232, 0, optCookie)), func(b []byte) []byte {
		b[5] = 0
		return append(b[:12], b[17:]...)
	})
	m := put(t, s, overUDP, in)
	if m.Rcode != dns.RcodeSuccess || len(m.Question)+len(m.Answer) > 0 || len(cookieOf(m)) != 48 {
		t.Errorf("answered with %v", m)
	}
}

func TestCookies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCookies(time.Now())
		client := []byte("chargers")
		first := c.answer(client, seven, time.Now())
		if len(first) != 24 || string(first[:8]) != "chargers" || !bytes.Equal(first[8:12], []byte{1, 0, 0, 0}) {
			t.Fatalf("a new one: %x", first)
		}
		same := func(got []byte, from netip.Addr) bool { return bytes.Equal(got, c.answer(got, from, time.Now())) }
		time.Sleep(29 * time.Minute)
		if !same(first, seven) {
			t.Error("a young one is made anew")
		}
		if same(first, netip.MustParseAddr("10.83.0.18")) {
			t.Error("another address has the same one")
		}
		for i := range first {
			bad := bytes.Clone(first)
			bad[i] ^= 1
			if i == 11 {
				continue // within the reserved bytes all are hashed; this one is looked at below
			}
			if same(bad, seven) {
				t.Errorf("byte %d may be anything", i)
			}
		}
		if got := c.answer(append(bytes.Clone(first), 0), seven, time.Now()); len(got) != 24 {
			t.Errorf("a longer one comes back as %x", got)
		}
		time.Sleep(2 * time.Minute)
		second := c.answer(first, seven, time.Now())
		if bytes.Equal(first, second) || !same(second, seven) {
			t.Error("after half an hour there is no new one")
		}
		// The secret changes daily; what was made with the one before is known.
		time.Sleep(secretLasts - 32*time.Minute)
		late := c.answer(client, seven, time.Now())
		time.Sleep(2 * time.Minute)
		if !same(late, seven) {
			t.Error("a new secret has made the old cookies worthless")
		}
		if got := c.answer(client, seven, time.Now()); bytes.Equal(got[16:], late[16:]) {
			t.Error("the secret has not changed")
		}
		if _, ok := c.age(binary.BigEndian.AppendUint32(bytes.Clone(late[8:12]), 1<<31), time.Now()); ok {
			t.Error("one from the future is good")
		}
		if other := newCookies(time.Now()); bytes.Equal(other.answer(client, seven, time.Now()), c.answer(client, seven, time.Now())) {
			t.Error("two servers have the same secret")
		}
	})
}

func TestACookieThatIsNotOursIsAnsweredAllTheSame(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	m := put(t, s, overUDP, asks(t, "pool.ntp.org.", dns.TypeA, speaks(0, 1232, 0, "000a00180102030405060708"+strings.Repeat("ab", 16))))
	got := cookieOf(m)
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 || !strings.HasPrefix(got, "010203040506070801000000") || strings.HasSuffix(got, "abab") {
		t.Errorf("answered with %v", m)
	}
	again := put(t, s, overUDP, asks(t, "pool.ntp.org.", dns.TypeA, speaks(0, 1232, 0, "000a0018"+got)))
	if cookieOf(again) != got {
		t.Errorf("a good one comes back as %s, was %s", cookieOf(again), got)
	}
}

func TestKeepaliveOverTCPOnly(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	in := asks(t, "pool.ntp.org.", dns.TypeA, speaks(0, 1232, 0, "000b0000"))
	if opts := put(t, s, overUDP, in).IsEdns0().Option; len(opts) != 0 {
		t.Errorf("over UDP: %v", opts)
	}
	opts := put(t, s, overTCP, in).IsEdns0().Option
	if len(opts) != 1 || opts[0].(*dns.EDNS0_TCP_KEEPALIVE).Timeout != 100 {
		t.Errorf("over TCP: %v", opts)
	}
	if m := put(t, s, overTCP, asks(t, "pool.ntp.org.", dns.TypeA)); m.IsEdns0() != nil {
		t.Error("for who speaks no EDNS")
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	const name = "many.ocpp.example."
	tests := []struct {
		name  string
		over  transport
		edit  func(*dns.Msg)
		limit int
		whole bool
	}{
		{"no EDNS", overUDP, func(*dns.Msg) {}, 512, false},
		{"EDNS with less than the minimum", overUDP, speaks(0, 100, 0, ""), 512, false},
		{"EDNS with 600, a cookie and DO", overUDP, speaks(0, 600, doBit, optCookie), 600, true},
		{"EDNS with more than we send", overUDP, speaks(0, 65535, 0, ""), 1232, true},
		{"TCP", overTCP, func(*dns.Msg) {}, 65535, true},
		{"TCP, where the size means nothing", overTCP, speaks(0, 512, 0, ""), 65535, true},
	}
	for _, tt := range tests {
		in := asks(t, name, dns.TypeA, tt.edit)
		out := s.respond(t.Context(), in, seven, tt.over)
		m := put(t, s, tt.over, in)
		if len(out) > tt.limit || m.Truncated == tt.whole || (len(m.Answer) == maxAddrs) != tt.whole {
			t.Errorf("%s: %d bytes, %d records, truncated is %v", tt.name, len(out), len(m.Answer), m.Truncated)
		}
		if len(m.Question) != 1 || (m.IsEdns0() != nil) != strings.Contains(tt.name, "EDNS with") && tt.over == overUDP {
			t.Errorf("%s: the question or OPT is lost: %v", tt.name, m)
		}
	}
}

func TestNamesOfOurOwn(t *testing.T) {
	t.Parallel()
	s, log := desk(t)
	tests := []struct {
		name, asked string
		qtype       uint16
		rcode       int
		answer      []string
		zone        string // of the SOA of a negative answer
	}{
		{"this box", "Gateway.", dns.TypeA, 0, []string{"Gateway. 60 IN A 10.83.0.1"}, ""},
		{"this box, in IPv6", "gateway.", dns.TypeAAAA, 0, nil, "gateway."},
		{"everything of this box", "gateway.", dns.TypeANY, 0, []string{"gateway. 60 IN A 10.83.0.1"}, ""},
		{"the zone of the time", "no.pool.ntp.org.", dns.TypeSOA, 0, []string{"no.pool.ntp.org. 60 IN SOA gateway. hostmaster.gateway. 1 1800 900 604800 60"}, ""},
		{"everything of the time", "pool.ntp.org.", dns.TypeANY, 0, []string{"pool.ntp.org. 60 IN A 10.83.0.1"}, ""},
		{"below this box", "x.gateway.", dns.TypeA, dns.RcodeNameError, nil, "gateway."},
		{"the loopback", "localhost.", dns.TypeA, 0, []string{"localhost. 60 IN A 127.0.0.1"}, ""},
		{"below the loopback", "a.b.LocalHost.", dns.TypeA, 0, []string{"a.b.LocalHost. 60 IN A 127.0.0.1"}, ""},
		{"the loopback, in IPv6", "localhost.", dns.TypeAAAA, 0, nil, "localhost."},
		{"our address", "1.0.83.10.in-addr.arpa.", dns.TypePTR, 0, []string{"1.0.83.10.in-addr.arpa. 60 IN PTR gateway."}, ""},
		{"our address in the other network", "1.1.83.10.IN-ADDR.arpa.", dns.TypePTR, 0, []string{"1.1.83.10.IN-ADDR.arpa. 60 IN PTR gateway."}, ""},
		{"everything of our address", "1.0.83.10.in-addr.arpa.", dns.TypeANY, 0, []string{"1.0.83.10.in-addr.arpa. 60 IN PTR gateway."}, ""},
		{"our address as text", "1.0.83.10.in-addr.arpa.", dns.TypeTXT, 0, nil, "1.0.83.10.in-addr.arpa."},
		{"below our address", "x.1.0.83.10.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil, "1.0.83.10.in-addr.arpa."},
		{"above our address", "0.83.10.in-addr.arpa.", dns.TypePTR, 0, nil, "0.83.10.in-addr.arpa."},
		{"all reverse names", "in-addr.arpa.", dns.TypeNS, 0, nil, "in-addr.arpa."},
		{"a charger's address", "17.0.83.10.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil, "0.83.10.in-addr.arpa."},
		{"a private address", "1.1.168.192.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil, "1.168.192.in-addr.arpa."},
		{"a loopback address", "1.0.0.127.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil, "0.0.127.in-addr.arpa."},
		{"a public address", "8.8.8.8.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil, "8.8.8.in-addr.arpa."},
		{"no address", "300.x.in-addr.arpa.", dns.TypePTR, dns.RcodeNameError, nil, "x.in-addr.arpa."},
		{"an IPv6 address", strings.Repeat("0.", 32) + "ip6.arpa.", dns.TypePTR, dns.RcodeNameError, nil, strings.Repeat("0.", 31) + "ip6.arpa."},
		{"a resolver that names itself", "_dns.resolver.arpa.", dns.TypeSVCB, dns.RcodeNameError, nil, "resolver.arpa."},
		{"a proxy", "wpad.", dns.TypeA, dns.RcodeNameError, nil, "."},
		{"a proxy at home", "wpad.home.", dns.TypeA, dns.RcodeNameError, nil, "home."},
		{"mDNS", "printer.local.", dns.TypeA, dns.RcodeNameError, nil, "local."},
		{"services", "lb._dns-sd._udp.local.", dns.TypePTR, dns.RcodeNameError, nil, "_dns-sd._udp.local."},
		{"the root", ".", dns.TypeNS, 0, nil, "."},
	}
	for _, tt := range tests {
		m := put(t, s, overUDP, asks(t, tt.asked, tt.qtype))
		if diff := cmp.Diff(tt.answer, texts(m.Answer)); diff != "" || m.Rcode != tt.rcode {
			t.Errorf("%s: %s (-want +got):\n%s", tt.name, dns.RcodeToString[m.Rcode], diff)
		}
		if tt.zone != "" && (len(m.Ns) != 1 || m.Ns[0].Header().Name != tt.zone) {
			t.Errorf("%s: %v, want the zone %s", tt.name, m.Ns, tt.zone)
		}
	}
	if said := log.Recent(0, ""); len(said) > 0 {
		t.Errorf("said %q", said[0].Message)
	}
	if st := s.book.All(time.Now())[0]; st.Refused != "" {
		t.Errorf("the charger was refused %s", st.Refused)
	}
	far := s.respond(t.Context(), asks(t, "gateway.", dns.TypeA), netip.MustParseAddr("10.83.1.9"), overUDP)
	if !bytes.HasSuffix(far, []byte{10, 83, 1, 1}) {
		t.Errorf("in the other network: %x", far)
	}
}

// A label with a dot in it resembles a name of ours, and is none.
func TestWhatResemblesNamesOfOurOwn(t *testing.T) {
	t.Parallel()
	s, log := desk(t)
	for i, name := range []string{`a\.localhost.`, `x\.local.`, `1.0.83\.10.in-addr.arpa.`, `x\.pool.ntp.org.`} {
		m := put(t, s, overUDP, asks(t, name, dns.TypeA))
		if m.Rcode != dns.RcodeNameError || len(m.Answer) > 0 || len(log.Recent(0, "")) != i+1 {
			t.Errorf("%s: %v, said %d", name, m, len(log.Recent(0, "")))
		}
	}
}

// Who believes RFC 8020 does not ask below a name that does not exist. So what
// lies above a name that is answered is empty, and does not not exist.
func TestNothingAboveAnAnswerIsDenied(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	tests := []struct {
		asked string
		want  int
	}{
		{"azure-devices.net.", dns.RcodeSuccess}, {"NET.", dns.RcodeSuccess}, {"zaptec.com.", dns.RcodeSuccess}, {"com.", dns.RcodeSuccess},
		{"ocpp.example.", dns.RcodeSuccess}, {"example.", dns.RcodeSuccess}, {"ntp.org.", dns.RcodeSuccess}, {"org.", dns.RcodeSuccess},
		{"arpa.", dns.RcodeSuccess}, {"83.10.in-addr.arpa.", dns.RcodeSuccess},
		{"evil.azure-devices.net.", dns.RcodeNameError}, {"x.zapcloud.azure-devices.net.", dns.RcodeNameError}, {"devices.net.", dns.RcodeNameError},
		{"xcom.", dns.RcodeNameError}, {"84.10.in-addr.arpa.", dns.RcodeNameError}, {"ip6.arpa.", dns.RcodeNameError},
	}
	for _, tt := range tests {
		m := put(t, s, overUDP, asks(t, tt.asked, dns.TypeA))
		if m.Rcode != tt.want || len(m.Answer) > 0 || len(m.Ns) != 1 {
			t.Errorf("%s: %v, want %s", tt.asked, m, dns.RcodeToString[tt.want])
		}
	}
}

func TestEverythingOfAnAllowedNameIsOneSet(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	m := put(t, s, overUDP, asks(t, hub, dns.TypeANY))
	if diff := cmp.Diff([]string{hub + " 60 IN CNAME gw.example."}, texts(m.Answer)); diff != "" {
		t.Errorf("a name with a CNAME (-want +got):\n%s", diff)
	}
	if m = put(t, s, overTCP, asks(t, "many.ocpp.example.", dns.TypeANY)); len(m.Answer) != maxAddrs {
		t.Errorf("a name with addresses: %d records", len(m.Answer))
	}
	if m = put(t, s, overUDP, asks(t, "example.com.", dns.TypeANY)); m.Rcode != dns.RcodeNameError {
		t.Errorf("a refused name: %v", m)
	}
}

func TestWithoutRecursionNobodyElseIsAsked(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	iterative := func(m *dns.Msg) { m.RecursionDesired = false }
	m := put(t, s, overUDP, asks(t, "api.zaptec.com.", dns.TypeA, iterative, speaks(0, 1232, 0, "")))
	if m.Rcode != dns.RcodeRefused || edeOf(m) != dns.ExtendedErrorCodeNotAuthoritative || m.RecursionDesired || s.memory.size() > 0 {
		t.Errorf("an unknown address: %v", m)
	}
	put(t, s, overUDP, asks(t, "api.zaptec.com.", dns.TypeA))
	if m = put(t, s, overUDP, asks(t, "api.zaptec.com.", dns.TypeA, iterative)); len(m.Answer) != 1 || m.RecursionDesired {
		t.Errorf("a remembered address: %v", m)
	}
	for name, want := range map[string]int{"pool.ntp.org.": dns.RcodeSuccess, "gateway.": dns.RcodeSuccess, "example.com.": dns.RcodeNameError} {
		if m = put(t, s, overUDP, asks(t, name, dns.TypeA, iterative)); m.Rcode != want {
			t.Errorf("%s: %v", name, m)
		}
	}
}

func TestExtendedErrors(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	edns := speaks(0, 1232, 0, "")
	const none = 0xffff
	fails := func(err error) func(context.Context, string) (answer, error) {
		return func(context.Context, string) (answer, error) { return answer{}, err }
	}
	for _, tt := range []struct {
		name, asked string
		ask         func(context.Context, string) (answer, error)
		want        uint16
	}{
		{"a refused name", "example.com.", nil, dns.ExtendedErrorCodeBlocked},
		{"a refused name above an allowed one", "zaptec.com.", nil, dns.ExtendedErrorCodeBlocked},
		{"an allowed name", "x.ocpp.example.", nil, none},
		{"servers that know no better", "a.ocpp.example.", fails(errAnswer), dns.ExtendedErrorCodeNoReachableAuthority},
		{"servers that are silent", "b.ocpp.example.", fails(context.DeadlineExceeded), dns.ExtendedErrorCodeNetworkError},
		{"a name of the neighbourhood", "printer.local.", nil, none},
	} {
		if tt.ask != nil {
			s.memory.ask = tt.ask
		}
		if m := put(t, s, overUDP, asks(t, tt.asked, dns.TypeA, edns)); edeOf(m) != tt.want {
			t.Errorf("%s: %v", tt.name, m)
		}
		if m := put(t, s, overUDP, asks(t, tt.asked, dns.TypeA)); m.IsEdns0() != nil {
			t.Errorf("%s: an OPT for who sent none", tt.name)
		}
	}
	s.memory.shut()
	if m := put(t, s, overUDP, asks(t, "c.ocpp.example.", dns.TypeA, edns)); edeOf(m) != dns.ExtendedErrorCodeNotReady {
		t.Errorf("at the end: %v", m)
	}
}

// What upstreams add to an answer never leaves: no HTTPS or SVCB record, with
// its ech, and no other record that was not asked for.
func TestNoKeyForHidingTheNameLeaves(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	const ech = "ech=AEX+DQBBGgAgACDuwaT6bUoXk/tGfv+DX2DJwvZd2Gxm7+2hnyhxRrqFIAAEAAEAAQASY2xvdWRmbGFyZS1lY2guY29tAAA="
	m := new(dns.Msg).SetQuestion(hub, dns.TypeA)
	m.Response = true
	m.Answer = rrs(t, hub+" 60 IN HTTPS 1 . "+ech, hub+" 60 IN A 192.0.2.1", hub+" 60 IN SVCB 1 gw.example. "+ech, "gw.example. 60 IN HTTPS 1 . "+ech)
	m.Ns = rrs(t, hub+" 60 IN HTTPS 1 . "+ech)
	m.Extra = rrs(t, hub+" 60 IN HTTPS 1 . "+ech, "gw.example. 60 IN A 192.0.2.9")
	a, err := reduce(hub, m, usable(nil))
	if err != nil {
		t.Fatal(err)
	}
	s.memory.ask = func(context.Context, string) (answer, error) { return a, nil }
	secret, _ := hex.DecodeString("0045fe0d0041")
	for _, qtype := range []uint16{dns.TypeA, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeANY, dns.TypeAAAA} {
		for _, name := range []string{hub, "_https." + hub, "pool.ntp.org.", "gateway."} {
			out := s.respond(t.Context(), asks(t, name, qtype, speaks(0, 1232, doBit, "")), seven, overTCP)
			back := new(dns.Msg)
			if err := back.Unpack(out); err != nil || bytes.Contains(out, secret) || bytes.Contains(out, []byte("cloudflare-ech")) {
				t.Fatalf("%s of type %d: %x, %v", name, qtype, out, err)
			}
			for _, rr := range slices.Concat(back.Answer, back.Ns, back.Extra) {
				if !slices.Contains(leaves, rr.Header().Rrtype) {
					t.Errorf("%s of type %d: %v", name, qtype, rr)
				}
			}
			if qtype == dns.TypeHTTPS && len(back.Answer) > 0 {
				t.Errorf("%s has an HTTPS record: %v", name, back)
			}
		}
	}
}

// leaves are the types of all records that ever leave.
var leaves = []uint16{dns.TypeA, dns.TypeCNAME, dns.TypeSOA, dns.TypePTR, dns.TypeOPT}

func TestARefusedNameIsSaidOnceAHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := desk(t)
		ask := func(name string) { put(t, s, overUDP, asks(t, name, dns.TypeAAAA)) }
		story := func() (said []string) {
			for _, r := range log.Recent(0, "") {
				said = append(said, r.Kind.ID+" "+r.Field("NAME")+" "+r.Field("TYPE"))
			}
			return said
		}
		ask("evil.example.")
		ask("EVIL.example.")
		ask("other.example.")
		time.Sleep(59 * time.Minute)
		ask("evil.example.")
		time.Sleep(2 * time.Minute)
		ask("evil.example.")
		want := []string{"resolver-name-refused evil.example AAAA", "resolver-name-refused other.example AAAA", "resolver-name-refused evil.example AAAA"}
		if diff := cmp.Diff(want, story()); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
		if advice := log.Recent(0, "")[0].Advice(); !strings.Contains(advice, `[[egress.allow]]`) || !strings.Contains(advice, `name = "evil.example"`) {
			t.Errorf("advice %q", advice)
		}
	})
}

// A charger asks the API where its firmware is, and goes there at once (F-7).
func TestANameRefusedRightAfterTheAPIIsShouted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := desk(t)
		kind := func(from netip.Addr, name string) string {
			s.respond(t.Context(), asks(t, name, dns.TypeA), from, overUDP)
			said := log.Recent(0, "")
			if len(said) == 0 {
				return ""
			}
			return said[len(said)-1].Kind.ID
		}
		other := netip.MustParseAddr("10.83.0.18")
		if got := kind(seven, "before.example."); got != "resolver-name-refused" {
			t.Errorf("before: %q", got)
		}
		kind(seven, "Api.Zaptec.com.")
		if got := kind(other, "elsewhere.example."); got != "resolver-name-refused" {
			t.Errorf("another device: %q", got)
		}
		time.Sleep(time.Minute)
		if got := kind(seven, "firmware.example."); got != "resolver-firmware-name-refused" {
			t.Errorf("a minute later: %q", got)
		}
		if got := log.Recent(0, ""); got[len(got)-1].Kind.Level != event.Warning {
			t.Error("it is no warning")
		}
		if got := kind(seven, "printer.local."); got != "resolver-firmware-name-refused" {
			t.Errorf("a name of the neighbourhood: %q", got)
		}
		if got := s.book.All(time.Now())[0]; got.Firmware != "firmware.example" || !strings.Contains(got.Refused, "firmware may come") {
			t.Errorf("its page says %q", got.Refused)
		}
		kind(other, "api.zaptec.com.")
		if got := kind(other, "firmware.example."); got != "resolver-name-refused" {
			t.Errorf("the same name, asked for by another device: %q", got)
		}
		if err := s.list.Replace(append(policy.Zaptec(), policy.Rule{Name: "firmware.example", Ports: []uint16{443}, Reason: "it has moved"})); err != nil {
			t.Fatal(err)
		}
		kind(seven, "firmware.example.")
		if got := s.book.All(time.Now())[0]; got.Firmware != "" {
			t.Errorf("once it is allowed its page says %q", got.Firmware)
		}
		time.Sleep(time.Minute + time.Second)
		if got := kind(seven, "later.example."); got != "resolver-name-refused" {
			t.Errorf("two minutes later: %q", got)
		}
	})
}

func TestWhoWasToldLatelyIsBounded(t *testing.T) {
	t.Parallel()
	l, now := newLately(), time.Now()
	for i := range 3 * maxLately {
		l.note(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if n := l.told.len(); n != maxLately {
		t.Errorf("%d devices are remembered", n)
	}
}

// Each device may ask 20 times a second, and 60 times at once; a part of what is over
// is heard all the same.
func TestADeviceThatAsksTooMuchHearsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, log := desk(t)
		may := func(from netip.Addr, times int) (n int) {
			for range times {
				if s.mayAsk(from, time.Now()) {
					n++
				}
			}
			return n
		}
		many := may(seven, 10_000)
		if many < 60 || many > 60+201 {
			t.Errorf("%d of 10,000 at once", many)
		}
		if n := may(netip.MustParseAddr("10.83.0.18"), 60); n != 60 {
			t.Errorf("another device: %d of 60", n)
		}
		if n := may(netip.MustParseAddr("127.0.0.1"), 1000); n != 1000 {
			t.Errorf("the house itself: %d of 1000", n)
		}
		granted := 0
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			granted += may(seven, 100)
		}
		if granted < 200+9800/5 || granted > 200+9800/3 {
			t.Errorf("%d of 10,000 in ten seconds, want 20 a second and a quarter of the others", granted)
		}
		said := log.Recent(0, "")
		if len(said) != 1 || said[0].Kind != event.ResolverAskedTooMuch || said[0].Field("IP") != seven.String() {
			t.Errorf("said %v", said)
		}
		if n := s.count.limited.Load(); n != uint64(20_000-many-granted) {
			t.Errorf("counted %d", n)
		}
		if n := log.Counts()[event.ResolverAskedTooMuch]; n > 11 {
			t.Errorf("the log was called %d times in ten seconds", n)
		}
	})
}

// Somebody asks under a charger's address, far above the rate: the charger, which
// asks for a name again three times, gets most of its names.
func TestWhoseAddressIsBorrowedIsNotSilenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := desk(t)
		heard := 0
		for range 200 {
			for range 100 {
				s.mayAsk(seven, time.Now())
				time.Sleep(time.Millisecond)
			}
			got := false
			for range 4 {
				got = s.mayAsk(seven, time.Now()) || got
			}
			if got {
				heard++
			}
		}
		if heard < 100 { // of 200; 1 - 0.75^4 are 137
			t.Errorf("%d of 200 names were heard", heard)
		}
	})
}

func TestWhatTheListHoldsIsAnswered(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	if m := put(t, s, overUDP, asks(t, "A.b.OCPP.example.", dns.TypeA)); len(m.Answer) != 1 || m.Answer[0].Header().Name != "A.b.OCPP.example." {
		t.Errorf("below a pattern: %v", m)
	}
	lan := []policy.Rule{{Name: "ocpp.lan", Ports: []uint16{9000}, Plain: true, Reason: "the site's own"}}
	if err := s.list.Replace(append(policy.Zaptec(), lan...)); err != nil {
		t.Fatal(err)
	}
	if m := put(t, s, overUDP, asks(t, "ocpp.lan.", dns.TypeA)); len(m.Answer) != 1 {
		t.Errorf("a name of the site's own: %v", m)
	}
	if m := put(t, s, overUDP, asks(t, "A.b.OCPP.example.", dns.TypeA)); m.Rcode != dns.RcodeNameError {
		t.Errorf("after the list has changed: %v", m)
	}
}

// FuzzRespond holds for every message and both transports: an answer has the id
// of its question, can be read, is no longer than it may be, brings no record
// that never leaves, and none at all for a name that is not allowed.
func FuzzRespond(f *testing.F) {
	seed := func(b []byte) { f.Add(b, true); f.Add(b, false) }
	for _, name := range []string{hub, "no.pool.ntp.org.", "example.com.", ".", "gateway.", "1.0.83.10.in-addr.arpa.", "many.ocpp.example.", "devices.zaptec.com.", "localhost."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeANY, dns.TypePTR, dns.TypeHTTPS, dns.TypeSOA, dns.TypeAXFR} {
			seed(asks(f, name, qtype))
			seed(asks(f, name, qtype, speaks(0, 1232, doBit, optNSID+optSubnet+optCookie+"000b0000")))
		}
	}
	seed(asks(f, hub, dns.TypeA, speaks(1, 65535, 0, optUnknown)))
	seed(asks(f, hub, dns.TypeA, speaks(0, 0, 0, "000a0028"+strings.Repeat("aa", 40))))
	seed([]byte("id\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	seed([]byte("id\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x0812345678"))
	list := zaptecAnd(f, policy.Rule{Name: "*.ocpp.example", Ports: []uint16{443}, Reason: "test"})
	s, _ := desk(f)
	s.log, s.book = event.New(event.Options{Keep: 10}), charger.NewBook(nil, nil)
	s.list = list
	f.Fuzz(func(t *testing.T, in []byte, udp bool) {
		over := overTCP
		if udp {
			over = overUDP
		}
		began := time.Now()
		out := s.respond(t.Context(), in, seven, over)
		if n := s.count.panics.Load(); n > 0 {
			t.Fatalf("it panicked: %v", s.log.Recent(0, ""))
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Fatalf("took %v", took)
		}
		if out == nil {
			if len(in) >= headerLen && in[2]&0x80 == 0 {
				t.Fatal("a request was not answered")
			}
			return
		}
		m := new(dns.Msg)
		if err := m.Unpack(out); err != nil {
			t.Fatalf("the answer %x cannot be read: %v", out, err)
		}
		if out[0] != in[0] || out[1] != in[1] || out[2]&0xf8 != 0x80|in[2]&0x78 || m.Zero || m.AuthenticatedData || m.Authoritative {
			t.Fatalf("the header %x for %x", out[:12], in[:12])
		}
		opt := m.IsEdns0()
		switch {
		case udp && len(out) > udpSize, udp && opt == nil && len(out) > dns.MinMsgSize:
			t.Fatalf("%d bytes over UDP", len(out))
		case opt == nil && !holds(list, m) && len(out) > len(in)+64+maxName:
			t.Fatalf("%d bytes for %d, and nothing in them", len(out), len(in))
		case len(m.Answer) > 0 && (len(m.Question) != 1 || !holds(list, m)):
			t.Fatalf("an answer for a refused name: %v", m)
		}
		for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
			if !slices.Contains(leaves, rr.Header().Rrtype) {
				t.Fatalf("%v has left", rr)
			}
		}
	})
}

// holds reports whether the question of an answer may have one.
func holds(list *policy.List, m *dns.Msg) bool {
	if len(m.Question) != 1 {
		return false
	}
	name := key(m.Question[0].Name)
	return list.Holds(name) || policy.IsTime(name) || name == gatewayName || isBelow(name, "localhost.") ||
		name == "1.0.83.10.in-addr.arpa." || name == "1.1.83.10.in-addr.arpa."
}
