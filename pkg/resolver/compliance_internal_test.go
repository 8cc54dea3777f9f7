package resolver

import (
	"context"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/miekg/dns"
)

// seven is the address of the charger P1-07.
var seven = netip.MustParseAddr("10.83.0.17")

// desk is a server without sockets. Its upstream knows the hub by a CNAME,
// nothing of devices.zaptec.com, and one address of everything else.
func desk(t testing.TB) (*Server, *event.Log) {
	t.Helper()
	log := event.New(event.Options{Keep: 100})
	mac := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 7}
	book := charger.NewBook(charger.Inventory{mac: {MAC: mac, Name: "P1-07"}}, nil)
	book.Leased(mac, "P1", seven, true, time.Now())
	list := zaptecAnd(t, policy.Rule{Name: "*.ocpp.example", Ports: []uint16{443}, Reason: "test"})
	s := New(Config{Gateways: []netip.Prefix{netip.MustParsePrefix("10.83.0.1/24"), netip.MustParsePrefix("10.83.1.1/24")}}, list, book, log)
	ofHub := addresses(time.Minute, "192.0.2.1")
	ofHub.records = rrs(t, hub+" 60 IN CNAME gw.example.", "gw.example. 60 IN A 192.0.2.1")
	s.memory.ask = func(_ context.Context, name string) (answer, error) {
		switch name {
		case hub:
			return ofHub, nil
		case "devices.zaptec.com.":
			return answer{}, errDown
		case "many.ocpp.example.":
			var a answer
			for i := range maxAddrs {
				addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})
				a.addrs = append(a.addrs, addr)
				a.records = append(a.records, addressRecord(name, addr))
			}
			a.ttl = time.Minute
			return a, nil
		}
		a := addresses(time.Minute, "192.0.2.7")
		a.records[0].Header().Name = name
		return a, nil
	}
	t.Cleanup(s.memory.shut)
	return s, log
}

// put sends a message as it is on the wire and reads what comes back.
func put(t testing.TB, s *Server, over transport, in []byte) *dns.Msg {
	t.Helper()
	out := s.respond(t.Context(), in, seven, over)
	if n := s.count.panics.Load(); n > 0 {
		t.Fatalf("%x made it panic", in)
	}
	if out == nil {
		return nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(out); err != nil {
		t.Fatalf("the answer %x cannot be read: %v", out, err)
	}
	return m
}

// asks packs a question, edited.
func asks(t testing.TB, name string, qtype uint16, edit ...func(*dns.Msg)) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, qtype)
	for _, e := range edit {
		e(m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// speaks adds an OPT record of a version, with flags and options as they stand
// on the wire, in hex.
func speaks(version uint8, size, flags uint16, options string) func(*dns.Msg) {
	return func(m *dns.Msg) {
		o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: size, Ttl: uint32(version)<<16 | uint32(flags)}}
		for b, _ := hex.DecodeString(options); len(b) > 0; {
			code, length := uint16(b[0])<<8|uint16(b[1]), int(b[2])<<8|int(b[3])
			o.Option = append(o.Option, &dns.EDNS0_LOCAL{Code: code, Data: b[4 : 4+length]})
			b = b[4+length:]
		}
		m.Extra = append(m.Extra, o)
	}
}

// Options as the tester sends them.
const (
	optNSID    = "00030000"
	optSubnet  = "0008000400010000"
	optExpire  = "00090000"
	optCookie  = "000a00080102030405060708"
	optUnknown = "00640000"
	doBit      = 0x8000
)

// The tests that ISC's genreport makes of a recursive server (its groups EDNS,
// FULL and COMM), which are those of RFC 8906, 8, and what it then looks at.
func TestCompliance(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		qtype  uint16
		over   transport
		edit   func(*dns.Msg)
		rcode  int
		cookie bool // an answer with our half of it is wanted
	}{
		{name: "dns: a plain question"},
		{name: "aa: AA in a question", edit: func(m *dns.Msg) { m.Authoritative = true }},
		{name: "ad: AD in a question", edit: func(m *dns.Msg) { m.AuthenticatedData = true }},
		{name: "cd: CD in a question", edit: func(m *dns.Msg) { m.CheckingDisabled = true }},
		{name: "ra: RA in a question", edit: func(m *dns.Msg) { m.RecursionAvailable = true }},
		{name: "rd: RD in a question"},
		{name: "tc: TC in a question", edit: func(m *dns.Msg) { m.Truncated = true }},
		{name: "zflag: the reserved bit in a question", edit: func(m *dns.Msg) { m.Zero = true }},
		{name: "type666: a type that nobody knows", qtype: 666},
		{name: "tcp: a plain question over TCP", over: overTCP},
		{name: "edns: EDNS", edit: speaks(0, 4096, 0, "")},
		{name: "edns1: EDNS of version 1", edit: speaks(1, 4096, 0, ""), rcode: dns.RcodeBadVers},
		{name: "edns@512: an answer that must fit into 512 bytes", qtype: dns.TypeDNSKEY, edit: speaks(0, 512, doBit, "")},
		{name: "ednsopt: an option that nobody knows", edit: speaks(0, 4096, 0, optUnknown)},
		{name: "edns1opt: version 1 and an option that nobody knows", edit: speaks(1, 4096, 0, optUnknown), rcode: dns.RcodeBadVers},
		{name: "do: DO", edit: speaks(0, 4096, doBit, "")},
		{name: "docd: DO and CD", edit: func(m *dns.Msg) { speaks(0, 4096, doBit, "")(m); m.CheckingDisabled = true }},
		{name: "edns1do: version 1 and DO", edit: speaks(1, 4096, doBit, ""), rcode: dns.RcodeBadVers},
		{name: "ednsflags: a flag that nobody knows", edit: speaks(0, 4096, 0x0080, "")},
		{name: "optlist: NSID, client subnet, expire and a cookie", edit: speaks(0, 4096, 0, optNSID+optSubnet+optExpire+optCookie), cookie: true},
		{name: "ednsnsid: NSID", edit: speaks(0, 4096, 0, optNSID)},
		{name: "ednscookie: a cookie", edit: speaks(0, 4096, 0, optCookie), cookie: true},
		{name: "ednsexpire: expire", edit: speaks(0, 4096, 0, optExpire)},
		{name: "ednssubnet: a client subnet", edit: speaks(0, 4096, 0, optSubnet)},
		{name: "edns1nsid: version 1 and NSID", edit: speaks(1, 4096, 0, optNSID), rcode: dns.RcodeBadVers},
		{name: "edns1cookie: version 1 and a cookie", edit: speaks(1, 4096, 0, optCookie), rcode: dns.RcodeBadVers},
		{name: "edns1expire: version 1 and expire", edit: speaks(1, 4096, 0, optExpire), rcode: dns.RcodeBadVers},
		{name: "edns1subnet: version 1 and a client subnet", edit: speaks(1, 4096, 0, optSubnet), rcode: dns.RcodeBadVers},
		{name: "ednstcp: EDNS over TCP", qtype: dns.TypeDNSKEY, over: overTCP, edit: speaks(0, 512, doBit, "")},
		{name: "bind11: as BIND 9.11 asks", edit: speaks(0, 4096, doBit, optCookie), cookie: true},
		{name: "dig11: as dig 9.11 asks", edit: func(m *dns.Msg) { speaks(0, 4096, 0, optCookie)(m); m.AuthenticatedData = true }, cookie: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, _ := desk(t)
			if tt.qtype == 0 {
				tt.qtype = dns.TypeSOA
			}
			if tt.edit == nil {
				tt.edit = func(*dns.Msg) {}
			}
			for _, zone := range []string{"pool.ntp.org.", hub} {
				in := asks(t, zone, tt.qtype, tt.edit)
				q := new(dns.Msg)
				if err := q.Unpack(in); err != nil {
					t.Fatal(err)
				}
				out := s.respond(t.Context(), in, seven, tt.over)
				m := new(dns.Msg)
				if err := m.Unpack(out); err != nil {
					t.Fatalf("%s: %v", zone, err)
				}
				for _, fault := range judge(q, m, len(out), tt.over, zone == "pool.ntp.org.") {
					t.Errorf("%s: %s", zone, fault)
				}
				if m.Rcode != tt.rcode {
					t.Errorf("%s: %s, want %s", zone, dns.RcodeToString[m.Rcode], dns.RcodeToString[tt.rcode])
				}
				if cookie := cookieOf(m); (cookie != "") != tt.cookie || tt.cookie && (len(cookie) != 48 || !strings.HasPrefix(cookie, "0102030405060708")) {
					t.Errorf("%s: cookie %q", zone, cookie)
				}
			}
		})
	}
}

// judge says what the tester would find wrong with an answer to a recursive
// query, whatever was asked.
func judge(q, m *dns.Msg, size int, over transport, ownZone bool) (faults []string) {
	check := func(ok bool, fault string) {
		if !ok {
			faults = append(faults, fault)
		}
	}
	asked, got := q.IsEdns0(), m.IsEdns0()
	check(m.Response && m.Id == q.Id && m.Opcode == q.Opcode, "header")
	check(len(m.Question) == 1 && m.Question[0] == q.Question[0], "mismatch")
	check(!m.Authoritative, "aa")
	check(m.RecursionAvailable, "ra")
	check(m.RecursionDesired == q.RecursionDesired, "rd")
	check(m.CheckingDisabled == q.CheckingDisabled, "cd")
	check(!m.AuthenticatedData, "ad")
	check(!m.Zero, "z")
	check((asked != nil) == (got != nil), "opt")
	if got != nil {
		check(got.Version() == 0, "version-not-zero")
		check(got.Hdr.Ttl&0x7fff == 0, "mbz")
		check(got.Do() == asked.Do(), "do")
		for _, o := range got.Option {
			check(slices.Contains([]uint16{dns.EDNS0COOKIE, dns.EDNS0EDE}, o.Option()), "echoed")
		}
	}
	hasSOA := slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
	if ownZone && q.Question[0].Qtype == dns.TypeSOA {
		check(hasSOA == (m.Rcode == dns.RcodeSuccess), "nosoa")
	}
	if m.Rcode == dns.RcodeBadVers {
		check(len(m.Answer)+len(m.Ns) == 0, "data")
	}
	if over == overUDP {
		limit := 512
		if asked != nil {
			limit = min(max(512, int(asked.UDPSize())), udpSize)
		}
		check(size <= limit, "toobig")
	}
	return faults
}

func cookieOf(m *dns.Msg) string {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				return c.Cookie
			}
		}
	}
	return ""
}

// The tester's rows "opcode" and "opcodeflg", and RFC 8906, 3.1.4: the opcode
// comes back and nothing else does.
func TestUnknownOpcodesComeBackBare(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	for opcode := byte(1); opcode < 16; opcode++ {
		plain := []byte{0xab, 0xcd, opcode << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		flags := []byte{0xab, 0xcd, opcode<<3 | 0x07, 0xf0, 0, 0, 0, 0, 0, 0, 0, 0}
		whole := asks(t, hub, dns.TypeSOA, func(m *dns.Msg) { m.Opcode = int(opcode); m.SetEdns0(1232, true) })
		copy(whole, plain[:4])
		for _, in := range [][]byte{plain, flags, whole, append(plain, 0xff)} {
			want := []byte{0xab, 0xcd, 0x80 | opcode<<3, dns.RcodeNotImplemented, 0, 0, 0, 0, 0, 0, 0, 0}
			if got := s.respond(t.Context(), in, seven, overUDP); !slices.Equal(got, want) {
				t.Errorf("%x was answered with %x, want %x", in, got, want)
			}
		}
	}
}

// The tester's group TYPE, and all the other types: whatever is asked about a
// name that may be asked is answered at once, and no upstream hears of it.
func TestEveryTypeIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	s.memory.ask = func(context.Context, string) (answer, error) {
		t.Error("an upstream was asked")
		return answer{}, errDown
	}
	for qtype := range uint16(1024) {
		if qtype == dns.TypeA || qtype == dns.TypeANY || isMeta(qtype) {
			continue
		}
		for _, name := range []string{hub, "no.pool.ntp.org.", "x.ocpp.example.", gatewayName} {
			m := put(t, s, overUDP, asks(t, name, qtype, speaks(0, 1232, 0, "")))
			own := qtype == dns.TypeSOA && name != hub && name != "x.ocpp.example."
			if m.Rcode != dns.RcodeSuccess || (len(m.Answer) > 0) != own || (len(m.Ns) == 1) == own {
				t.Fatalf("%s of type %d: %v", name, qtype, m)
			}
		}
	}
}

// What is asked by a type or a class that has no records.
func TestWhatIsNoTypeOfARecord(t *testing.T) {
	t.Parallel()
	s, _ := desk(t)
	tests := []struct {
		name  string
		qtype uint16
		class uint16
		rcode int
		code  uint16
	}{
		{"a transfer", dns.TypeAXFR, dns.ClassINET, dns.RcodeRefused, dns.ExtendedErrorCodeNotAuthoritative},
		{"mail boxes", dns.TypeMAILB, dns.ClassINET, dns.RcodeNotImplemented, dns.ExtendedErrorCodeNotSupported},
		{"type 0", dns.TypeNone, dns.ClassINET, dns.RcodeFormatError, invalidQueryType},
		{"OPT", dns.TypeOPT, dns.ClassINET, dns.RcodeFormatError, invalidQueryType},
		{"TSIG", dns.TypeTSIG, dns.ClassINET, dns.RcodeFormatError, invalidQueryType},
		{"NXNAME (RFC 9824, 3.5)", dns.TypeNXNAME, dns.ClassINET, dns.RcodeFormatError, invalidQueryType},
		{"the version of a server", dns.TypeTXT, dns.ClassCHAOS, dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported},
		{"class ANY", dns.TypeA, dns.ClassANY, dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported},
		{"class 0", dns.TypeA, 0, dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported},
	}
	for _, tt := range tests {
		m := put(t, s, overUDP, asks(t, hub, tt.qtype, speaks(0, 1232, 0, ""), func(m *dns.Msg) { m.Question[0].Qclass = tt.class }))
		if m.Rcode != tt.rcode || len(m.Answer)+len(m.Ns) > 0 || edeOf(m) != tt.code {
			t.Errorf("%s: %v", tt.name, m)
		}
	}
	ixfr := put(t, s, overTCP, asks(t, hub, dns.TypeIXFR, func(m *dns.Msg) { m.Ns = []dns.RR{localSOA(hub)} }))
	if ixfr.Rcode != dns.RcodeRefused {
		t.Errorf("an incremental transfer: %v", ixfr)
	}
}

func edeOf(m *dns.Msg) uint16 {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				return e.InfoCode
			}
		}
	}
	return 0xffff
}
