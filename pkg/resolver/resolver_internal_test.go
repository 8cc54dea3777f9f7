package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

// A garage is a resolver that serves on loopback, with one charger, whose
// address is 127.0.0.1.
type garage struct {
	*Server
	at   netip.AddrPort
	book *charger.Book
	log  *event.Log
}

func open(t testing.TB, list *policy.List, upstreams ...netip.AddrPort) *garage {
	t.Helper()
	mac, me := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 7}, netip.MustParseAddr("127.0.0.1")
	g := &garage{book: charger.NewBook(charger.Inventory{mac: {MAC: mac, Name: "P1-07"}}, nil)}
	g.book.Leased(mac, "P1", me, true, time.Now())
	g.log = event.New(event.Options{Keep: 100, Who: func(_ [6]byte, ip netip.Addr) event.Subject {
		if ip == me {
			return event.Subject{Charger: "P1-07"}
		}
		return event.Subject{}
	}})
	cfg := Config{
		Listen:   []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("127.83.0.1:0")},
		Gateways: []netip.Prefix{netip.MustParsePrefix("10.83.0.1/24")},
	}
	for _, u := range upstreams {
		cfg.Upstreams = append(cfg.Upstreams, Upstream{Addr: u})
	}
	g.Server = New(cfg, list, g.book, g.log)
	g.settleFor = time.Hour // only what is asked for goes to the upstreams
	if err := g.Listen(); err != nil {
		t.Fatal(err)
	}
	g.at = g.Addrs()[0]
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan error, 1)
	go func() { end <- g.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-end; err != nil {
			t.Errorf("Serve ended with %v", err)
		}
	})
	return g
}

// ask asks as a charger does.
func (g *garage) ask(t testing.TB, network, name string, qtype uint16, edit ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, qtype)
	for _, e := range edit {
		e(q)
	}
	c := dns.Client{Net: network, Timeout: 5 * time.Second}
	m, _, err := c.Exchange(q, g.at.String())
	if err != nil {
		t.Fatalf("asking for %s over %s: %v", name, network, err)
	}
	return m
}

func edns(size uint16) func(*dns.Msg) { return func(q *dns.Msg) { q.SetEdns0(size, false) } }

func TestAChargersQuestions(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("answered", func(t *testing.T) {
		g := open(t, zaptecAnd(t), upstream(t, nil, says(t, hub+" 60 IN CNAME gw.example.", "gw.example. 60 IN A 192.0.2.1", hub+" 60 IN HTTPS 1 . ech=AAAA")))
		tests := []struct {
			name, asked string
			qtype       uint16
			rcode       int
			answer      []string
		}{
			{"the hub", "ZapCloud.azure-devices.net.", dns.TypeA, dns.RcodeSuccess,
				[]string{"ZapCloud.azure-devices.net. 60 IN CNAME gw.example.", "gw.example. 60 IN A 192.0.2.1"}},
			{"the hub's IPv6 address", hub, dns.TypeAAAA, dns.RcodeSuccess, nil},
			{"the hub's HTTPS record", hub, dns.TypeHTTPS, dns.RcodeSuccess, nil},
			{"the pool", "no.pool.ntp.org.", dns.TypeA, dns.RcodeSuccess, []string{"no.pool.ntp.org. 60 IN A 10.83.0.1"}},
			{"the pool's IPv6 address", "pool.ntp.org.", dns.TypeAAAA, dns.RcodeSuccess, nil},
			{"another name", "example.com.", dns.TypeA, dns.RcodeNameError, nil},
			{"another name's IPv6 address", "example.com.", dns.TypeAAAA, dns.RcodeNameError, nil},
		}
		for _, network := range []string{"udp", "tcp"} {
			for _, tt := range tests {
				m := g.ask(t, network, tt.asked, tt.qtype)
				if diff := cmp.Diff(tt.answer, texts(m.Answer)); diff != "" || m.Rcode != tt.rcode {
					t.Errorf("%s over %s: %s (-want +got):\n%s", tt.name, network, dns.RcodeToString[m.Rcode], diff)
				}
				if !m.Response || !m.RecursionAvailable || m.Authoritative || m.Question[0].Name != tt.asked || m.IsEdns0() != nil {
					t.Errorf("%s over %s: header %v", tt.name, network, m.MsgHdr)
				}
				if len(m.Answer) == 0 && (len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA) {
					t.Errorf("%s over %s: no SOA says how long that lasts: %v", tt.name, network, m.Ns)
				}
			}
		}
		if got := g.book.All(time.Now())[0]; got.Stage != charger.Time || got.Refused != "the name example.com" {
			t.Errorf("the charger stands on %q and was refused %q", got.Stage, got.Refused)
		}
		var said []string
		for _, r := range g.log.Recent(0, "P1-07") {
			said = append(said, r.Message)
		}
		want := []string{"P1-07 asked for example.com, which is not on the allow-list"}
		if diff := cmp.Diff(want, said); diff != "" {
			t.Errorf("the charger's story (-want +got):\n%s", diff)
		}
		if err := g.Ask(t.Context()); err != nil {
			t.Errorf("the watchdog's question: %v", err)
		}
		if diff := cmp.Diff([]string{"zapcloud.azure-devices.net"}, g.NamesAt(netip.Addr{}, netip.MustParseAddr("::ffff:192.0.2.1"))); diff != "" {
			t.Errorf("NamesAt (-want +got):\n%s", diff)
		}
		page := scrape(t, g.Server)
		for name, want := range map[string]float64{
			"answers_total/cache": 1, "answers_total/upstream": 1, "answers_total/gateway": 3, "answers_total/empty": 4, "answers_total/local": 2,
			"answers_total/refused": 4, "upstream_queries_total/answered": 1, "cache_names": 1, "upstreams/answering": 1,
		} {
			if got := page["chargegate_resolver_"+name]; got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
	})
}

func TestExtendedErrorsForWhoAsksWithEDNS(t *testing.T) {
	t.Parallel()
	g := open(t, zaptecAnd(t), upstream(t, nil, fails(dns.RcodeServerFailure)))
	tests := []struct {
		name, asked string
		qtype       uint16
		rcode       int
		code        uint16
	}{
		{"a refused name", "example.com.", dns.TypeA, dns.RcodeNameError, dns.ExtendedErrorCodeBlocked},
		{"an upstream that fails", hub, dns.TypeA, dns.RcodeServerFailure, dns.ExtendedErrorCodeNoReachableAuthority},
	}
	for _, tt := range tests {
		m := g.ask(t, "udp", tt.asked, tt.qtype, edns(4096))
		opt := m.IsEdns0()
		if opt == nil || opt.UDPSize() != udpSize || len(opt.Option) != 1 {
			t.Fatalf("%s: OPT %v", tt.name, opt)
		}
		if ede, ok := opt.Option[0].(*dns.EDNS0_EDE); !ok || ede.InfoCode != tt.code || m.Rcode != tt.rcode {
			t.Errorf("%s: %s with %v", tt.name, dns.RcodeToString[m.Rcode], opt.Option[0])
		}
	}
	if m := g.ask(t, "udp", "example.com.", dns.TypeA); m.IsEdns0() != nil {
		t.Error("an OPT for somebody who sent none")
	}
}

func TestStaleAnswersSaySo(t *testing.T) {
	t.Parallel()
	g := open(t, zaptecAnd(t), upstream(t, nil, fails(dns.RcodeServerFailure)))
	old := addresses(time.Minute, "192.0.2.1")
	g.memory.mu.Lock()
	g.memory.kept.put(hub, &entry{good: &kept{answer: old, since: time.Now().Add(-48 * time.Hour)}})
	g.memory.mu.Unlock()
	if ago, old := g.Confirmed(policy.Hub); !old || ago < 48*time.Hour {
		t.Errorf("confirmed %v ago, old %v", ago, old)
	}
	if ago, old := g.Confirmed("api.zaptec.com"); old {
		t.Errorf("of what was never asked: confirmed %v ago", ago)
	}
	m := g.ask(t, "udp", hub, dns.TypeA, edns(1232))
	if diff := cmp.Diff([]string{hub + " 30 IN A 192.0.2.1"}, texts(m.Answer)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	if ede, ok := m.IsEdns0().Option[0].(*dns.EDNS0_EDE); !ok || ede.InfoCode != dns.ExtendedErrorCodeStaleAnswer {
		t.Errorf("extended error %v", m.IsEdns0().Option)
	}
	var said []string
	for _, r := range g.log.Recent(0, "") {
		said = append(said, r.Kind.ID)
	}
	if diff := cmp.Diff([]string{"resolver-name-failed", "resolver-stale"}, said); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestLargeAnswers(t *testing.T) {
	t.Parallel()
	var records []string
	for i := range maxAddrs {
		records = append(records, fmt.Sprintf("%s 60 IN A 192.0.2.%d", hub, i+1))
	}
	g := open(t, zaptecAnd(t), upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Answer = rrs(t, records...)
		if isUDP(w) {
			m.Truncate(udpSize)
		}
		_ = w.WriteMsg(m)
	}))
	tests := []struct {
		name, network string
		size          uint16
		whole         bool
	}{
		{"no EDNS", "udp", 0, false},
		{"EDNS with less than the minimum", "udp", 100, false},
		{"EDNS with enough", "udp", 4096, true},
		{"TCP", "tcp", 0, true},
	}
	for _, tt := range tests {
		m := g.ask(t, tt.network, hub, dns.TypeA, func(q *dns.Msg) {
			if tt.size > 0 {
				q.SetEdns0(tt.size, false)
			}
		})
		m.Compress = true // Len as it was on the wire
		limit := max(512, min(int(tt.size), udpSize))
		if m.Truncated == tt.whole || (len(m.Answer) == maxAddrs) != tt.whole || tt.network == "udp" && m.Len() > limit {
			t.Errorf("%s: truncated is %v, %d records, %d bytes", tt.name, m.Truncated, len(m.Answer), m.Len())
		}
	}
}

func TestWhatIsNoQuestion(t *testing.T) {
	t.Parallel()
	g := open(t, zaptecAnd(t))
	opt := func(version uint8) dns.RR {
		o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
		o.SetUDPSize(1232)
		o.SetVersion(version)
		return o
	}
	tests := []struct {
		name string
		edit func(*dns.Msg)
		want int
	}{
		{"an update", func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		{"a notification", func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, dns.RcodeNotImplemented},
		{"no question", func(m *dns.Msg) { m.Question = nil }, dns.RcodeFormatError},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
		{"another class", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
		{"EDNS of the future", func(m *dns.Msg) { m.Extra = []dns.RR{opt(1)} }, dns.RcodeBadVers},
		{"EDNS twice", func(m *dns.Msg) { m.Extra = []dns.RR{opt(0), opt(0)} }, dns.RcodeFormatError},
	}
	for _, tt := range tests {
		if m := g.ask(t, "udp", hub, dns.TypeA, tt.edit); m.Rcode != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, dns.RcodeToString[m.Rcode], dns.RcodeToString[tt.want])
		}
	}
	c, err := net.Dial("udp4", g.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	response, _ := new(dns.Msg).SetReply(new(dns.Msg).SetQuestion(hub, dns.TypeA)).Pack()
	if _, err := c.Write([]byte("id\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	short := make([]byte, 512)
	if n, err := c.Read(short); err != nil || n < 12 || short[3]&0xf != dns.RcodeFormatError {
		t.Errorf("a header without its question: %x, %v", short[:n], err)
	}
	for _, junk := range [][]byte{{}, []byte("junk"), response} {
		if _, err := c.Write(junk); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 512)); err == nil {
		t.Errorf("junk was answered with %d bytes", n)
	}
	if g.count.invalid.Load() < 3 {
		t.Errorf("counted %d as invalid", g.count.invalid.Load())
	}
}

func TestLookupNetIP(t *testing.T) {
	t.Parallel()
	nobody := upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
		switch strings.ToLower(q.Question[0].Name) {
		case hub:
			says(t, hub+" 60 IN A 192.0.2.1")(w, q)
		case "api.zaptec.com.":
			fails(dns.RcodeNameError)(w, q)
		default:
			fails(dns.RcodeServerFailure)(w, q)
		}
	})
	g := open(t, zaptecAnd(t), nobody)
	tests := []struct {
		network, host string
		notFound      bool
		fault         string
	}{
		{"ip4", "ZapCloud.azure-devices.net", false, ""},
		{"ip", "zapcloud.azure-devices.net.", false, ""},
		{"ip6", "zapcloud.azure-devices.net", true, "IPv4 only"},
		{"ip4", "example.com", true, "not on the allow-list"},
		{"ip4", "pool.ntp.org", true, "not on the allow-list"},
		{"ip4", "", true, "not on the allow-list"},
		{"ip4", strings.Repeat("x", 300), true, "not on the allow-list"},
		{"ip4", "api.zaptec.com", true, "no DNS server knows this name: check its spelling"},
		{"ip4", "devices.zaptec.com", false, "SERVFAIL"},
	}
	for _, tt := range tests {
		got, err := g.LookupNetIP(t.Context(), tt.network, tt.host)
		if tt.fault == "" {
			if err != nil || len(got) != 1 || got[0].String() != "192.0.2.1" {
				t.Errorf("%s %q: %v, %v", tt.network, tt.host, got, err)
			}
			continue
		}
		var de *net.DNSError
		if !errors.As(err, &de) || de.IsNotFound != tt.notFound || !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%s %q: %v, want %q", tt.network, tt.host, err, tt.fault)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.LookupNetIP(ctx, "ip4", "zapcloud-api.azurewebsites.net"); err == nil {
		t.Error("a lookup without time succeeded")
	}
}

// Whoever looks up a name to which servers give nothing but false addresses learns
// which, also where another server says without proof that there is nothing.
func TestLookupTellsFalseAddresses(t *testing.T) {
	t.Parallel()
	falsely := upstream(t, nil, says(t, hub+" 60 IN A 127.0.0.1", hub+" 60 IN A 0.0.0.0"))
	nothing := upstream(t, nil, fails(dns.RcodeNameError))
	for name, servers := range map[string][]netip.AddrPort{
		"the only server": {falsely}, "the first of two": {falsely, nothing}, "the second of two": {nothing, falsely},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := open(t, zaptecAnd(t), servers...).LookupNetIP(t.Context(), "ip4", policy.Hub)
			var bad interface{ Unusable() []netip.Addr }
			if !errors.As(err, &bad) || fmt.Sprint(bad.Unusable()) != "[127.0.0.1 0.0.0.0]" || !strings.Contains(err.Error(), "127.0.0.1, 0.0.0.0") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAskFindsFault(t *testing.T) {
	t.Parallel()
	s := New(Config{}, nil, charger.NewBook(nil, nil), nil)
	if err := s.Ask(t.Context()); err == nil || !strings.Contains(err.Error(), "does not listen") {
		t.Errorf("before Listen: %v", err)
	}
	// It listens, but nobody serves.
	s = New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}}, nil, charger.NewBook(nil, nil), nil)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Ask(ctx); !isTimeout(err) {
		t.Errorf("without Serve: %v", err)
	}
	served, done := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- s.Serve(served) }()
	if err := s.Ask(t.Context()); err == nil || !strings.Contains(err.Error(), "no address of pool.ntp.org") {
		t.Errorf("without a gateway: %v", err)
	}
	done()
	if err := <-end; err != nil {
		t.Error(err)
	}
}

func TestAResolvConfThatPointsToUsIsNotAsked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver 10.83.0.1\nnameserver 127.83.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := New(Config{Listen: []netip.AddrPort{House}, Gateways: []netip.Prefix{netip.MustParsePrefix("10.83.0.1/24")},
		Upstreams: []Upstream{{System: true}}, ResolvConf: path}, zaptecAnd(t), charger.NewBook(nil, nil), nil)
	if got, err := s.forward.targets(); err == nil {
		t.Errorf("would ask %v", got)
	}
}

func TestWeAreNotAskedUnderAnyName(t *testing.T) {
	t.Parallel()
	usual := Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("10.83.0.1:53"), House}, Gateways: []netip.Prefix{netip.MustParsePrefix("10.83.0.1/24")}}
	anywhere := Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:53")}}
	home := Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}}
	for _, tt := range []struct {
		name string
		cfg  Config
		at   string
		ours bool
	}{
		{"the gateway", usual, "10.83.0.1:53", true},
		{"the gateway, written as IPv6", usual, "[::ffff:10.83.0.1]:53", true},
		{"the house", usual, "127.83.0.1:53", true},
		{"a charger", usual, "10.83.0.17:53", false},
		{"the stub of systemd-resolved", usual, "127.0.0.53:53", false},
		{"another resolver of this box", usual, "127.0.0.1:53", false},
		{"the uplink's", usual, "192.0.2.1:53", false},
		{"another port of the gateway", usual, "10.83.0.1:5353", false},
		{"no address, where another answers", usual, "0.0.0.0:53", false},
		{"no address, where we answer", home, "0.0.0.0:53", true},
		{"no address, as IPv6", home, "[::]:53", true},
		{"loopback, when we listen everywhere", anywhere, "127.0.0.53:53", true},
		{"another port, when we listen everywhere", anywhere, "127.0.0.1:5353", false},
		{"the uplink's, when we listen everywhere", anywhere, "192.0.2.1:53", false},
	} {
		s := New(tt.cfg, zaptecAnd(t), charger.NewBook(nil, nil), nil)
		if got := s.asksUs(netip.MustParseAddrPort(tt.at)); got != tt.ours {
			t.Errorf("%s (%s): ours is %v, want %v", tt.name, tt.at, got, tt.ours)
		}
	}
}

func TestEndingWhileAChargerWaits(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("ends", func(t *testing.T) {
		asked := make(chan struct{})
		var once sync.Once
		u := upstream(t, nil, func(dns.ResponseWriter, *dns.Msg) { once.Do(func() { close(asked) }) })
		s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Upstreams: []Upstream{{Addr: u}}},
			zaptecAnd(t), charger.NewBook(nil, nil), nil)
		for range 2 { // a server can be served again
			if err := s.Listen(); err != nil {
				t.Fatal(err)
			}
			at := s.Addrs()[0]
			ctx, cancel := context.WithCancel(t.Context())
			end := make(chan error, 1)
			go func() { end <- s.Serve(ctx) }()
			c, err := net.Dial("udp4", at.String())
			if err != nil {
				t.Fatal(err)
			}
			q, _ := new(dns.Msg).SetQuestion(hub, dns.TypeA).Pack()
			if _, err := c.Write(q); err != nil {
				t.Fatal(err)
			}
			<-asked
			began := time.Now()
			cancel()
			if err := <-end; err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("the end took %v", took)
			}
			c.Close()
			if len(s.Addrs()) != 0 {
				t.Error("sockets are still held")
			}
		}
	})
}

func TestListenSaysWhatIsTaken(t *testing.T) {
	t.Parallel()
	so, err := take(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer so.close()
	s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0"), so.at}}, nil, charger.NewBook(nil, nil), nil)
	if err := s.Serve(t.Context()); err == nil || !strings.Contains(err.Error(), so.at.String()) {
		t.Errorf("error %v, want one that names %s", err, so.at)
	}
	if len(s.Addrs()) != 0 {
		t.Errorf("holds %v after a failure", s.Addrs())
	}
	// An address that the machine does not have is no failure: it may come.
	s = New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.1:0")}}, nil, charger.NewBook(nil, nil), nil)
	if err := errors.Join(s.Listen(), s.Listen()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Serve(ctx); err != nil {
		t.Error(err)
	}
}

func BenchmarkCachedAnswer(b *testing.B) {
	s := New(Config{}, zaptecAnd(b), charger.NewBook(nil, nil), nil)
	chained := addresses(time.Hour, "192.0.2.1")
	chained.records = append(rrs(b, hub+" 3600 IN CNAME gw.example."), rrs(b, "gw.example. 60 IN A 192.0.2.1")...)
	s.memory.ask = func(context.Context, string) (answer, error) { return chained, nil }
	q := new(dns.Msg).SetQuestion(hub, dns.TypeA).SetEdns0(1232, false)
	from := netip.MustParseAddr("10.83.0.7")
	b.ReportAllocs()
	for b.Loop() {
		m := s.answer(b.Context(), q, from)
		fit(m, q)
		if _, err := m.Pack(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCachedAnswerOverUDP(b *testing.B) {
	g := open(b, zaptecAnd(b), upstream(b, nil, says(b, hub+" 3600 IN CNAME gw.example.", "gw.example. 3600 IN A 192.0.2.1")))
	g.ask(b, "udp", hub, dns.TypeA)
	q, err := new(dns.Msg).SetQuestion(hub, dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("udp4", g.at.String())
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		in := make([]byte, 1500)
		for pb.Next() {
			if _, err := c.Write(q); err != nil {
				b.Error(err)
				return
			}
			if _, err := c.Read(in); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// scrape returns the room's metrics as name/label to value.
func scrape(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	page := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "/" + l.GetValue()
			}
			page[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return page
}
