package resolver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"chargegate/pkg/event"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// upstream runs a DNS server on loopback, over UDP and TCP on one port (TLS when
// conf is given), that does with each message what handle does.
func upstream(t testing.TB, conf *tls.Config, handle func(w dns.ResponseWriter, q *dns.Msg)) netip.AddrPort {
	t.Helper()
	so, err := take(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	listener := so.tcp
	if conf != nil {
		listener = tls.NewListener(listener, conf)
	}
	for _, server := range []*dns.Server{{PacketConn: so.udp}, {Listener: listener}} {
		up, end := make(chan struct{}), make(chan struct{})
		server.Handler, server.NotifyStartedFunc = dns.HandlerFunc(handle), func() { close(up) }
		go func() {
			defer close(end)
			_ = server.ActivateAndServe()
		}()
		<-up
		t.Cleanup(func() { _ = server.Shutdown(); <-end })
	}
	return so.at
}

// says answers every question with the records given.
func says(t testing.TB, records ...string) func(dns.ResponseWriter, *dns.Msg) {
	answer := rrs(t, records...)
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Answer = answer
		_ = w.WriteMsg(m)
	}
}

func isUDP(w dns.ResponseWriter) bool { return w.LocalAddr().Network() == "udp" }

func fails(rcode int) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, rcode)) }
}

func silent(dns.ResponseWriter, *dns.Msg) {}

// forwardTo makes a forwarder to servers on loopback.
func forwardTo(log *event.Log, at ...netip.AddrPort) (*forwarder, *counters) {
	cfg := Config{}
	for _, a := range at {
		cfg.Upstreams = append(cfg.Upstreams, Upstream{Addr: a})
	}
	count := new(counters)
	return newForwarder(cfg, func(netip.AddrPort) bool { return false }, log, count), count
}

func TestUpstreamBehaviour(t *testing.T) {
	t.Parallel()
	const good = hub + " 60 IN A 192.0.2.1"
	tests := []struct {
		name   string
		handle func(t *testing.T) func(dns.ResponseWriter, *dns.Msg)
		want   string // an address
		fault  string
	}{
		{name: "an answer", handle: func(t *testing.T) func(dns.ResponseWriter, *dns.Msg) { return says(t, good) }, want: "192.0.2.1"},
		{name: "truncated over UDP, whole over TCP", handle: func(t *testing.T) func(dns.ResponseWriter, *dns.Msg) {
			whole := says(t, good)
			return func(w dns.ResponseWriter, q *dns.Msg) {
				if !isUDP(w) {
					whole(w, q)
					return
				}
				m := new(dns.Msg).SetReply(q)
				m.Truncated = true
				_ = w.WriteMsg(m)
			}
		}, want: "192.0.2.1"},
		{name: "truncated in the middle of a record", handle: func(t *testing.T) func(dns.ResponseWriter, *dns.Msg) {
			whole := says(t, good)
			return func(w dns.ResponseWriter, q *dns.Msg) {
				if !isUDP(w) {
					whole(w, q)
					return
				}
				m := new(dns.Msg).SetReply(q)
				m.Truncated, m.Answer = true, rrs(t, good)
				b, _ := m.Pack()
				_, _ = w.Write(b[:len(b)-3])
			}
		}, want: "192.0.2.1"},
		{name: "wrong id, wrong name, wrong type, a question, garbage, then right", handle: func(t *testing.T) func(dns.ResponseWriter, *dns.Msg) {
			whole := says(t, good)
			return func(w dns.ResponseWriter, q *dns.Msg) {
				for _, spoil := range []func(*dns.Msg){
					func(m *dns.Msg) { m.Id++ },
					func(m *dns.Msg) { m.Question[0].Name = "evil.example." },
					func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT },
					func(m *dns.Msg) { m.Question = nil },
					func(m *dns.Msg) { m.Response = false },
				} {
					m := new(dns.Msg).SetReply(q)
					m.Answer = rrs(t, hub+" 60 IN A 192.0.2.66")
					spoil(m)
					_ = w.WriteMsg(m)
				}
				_, _ = w.Write([]byte("garbage"))
				whole(w, q)
			}
		}, want: "192.0.2.1"},
		{name: "the question in another spelling", handle: func(t *testing.T) func(dns.ResponseWriter, *dns.Msg) {
			return func(w dns.ResponseWriter, q *dns.Msg) {
				m := new(dns.Msg).SetReply(q)
				m.Question[0].Name = strings.ToUpper(hub)
				m.Answer = rrs(t, strings.ToUpper(hub)+" 60 IN A 192.0.2.1")
				_ = w.WriteMsg(m)
			}
		}, want: "192.0.2.1"},
		{name: "does not know EDNS", handle: func(t *testing.T) func(dns.ResponseWriter, *dns.Msg) {
			whole := says(t, good)
			return func(w dns.ResponseWriter, q *dns.Msg) {
				if q.IsEdns0() != nil {
					_ = w.WriteMsg(new(dns.Msg).SetRcodeFormatError(q))
					return
				}
				whole(w, q)
			}
		}, want: "192.0.2.1"},
		{name: "the first packet is lost", handle: func(t *testing.T) func(dns.ResponseWriter, *dns.Msg) {
			whole := says(t, good)
			var n atomic.Int32
			return func(w dns.ResponseWriter, q *dns.Msg) {
				if n.Add(1) > 1 {
					whole(w, q)
				}
			}
		}, want: "192.0.2.1"},
		{name: "server failure", handle: func(*testing.T) func(dns.ResponseWriter, *dns.Msg) { return fails(dns.RcodeServerFailure) }, fault: "SERVFAIL"},
		{name: "refused", handle: func(*testing.T) func(dns.ResponseWriter, *dns.Msg) { return fails(dns.RcodeRefused) }, fault: "REFUSED"},
		{name: "silence", handle: func(*testing.T) func(dns.ResponseWriter, *dns.Msg) { return silent }, fault: "no answer"},
		{name: "truncated and TCP hangs up", handle: func(*testing.T) func(dns.ResponseWriter, *dns.Msg) {
			return func(w dns.ResponseWriter, q *dns.Msg) {
				if !isUDP(w) {
					_ = w.Close()
					return
				}
				m := new(dns.Msg).SetReply(q)
				m.Truncated = true
				_ = w.WriteMsg(m)
			}
		}, fault: "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, _ := forwardTo(nil, upstream(t, nil, tt.handle(t)))
			defer f.shut()
			ctx, cancel := context.WithTimeout(t.Context(), budget)
			defer cancel()
			began := time.Now()
			a, err := f.ask(ctx, hub)
			if took := time.Since(began); took > budget+time.Second {
				t.Errorf("took %v", took)
			}
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Fatalf("got %v, %v; want an error with %q", a.addrs, err, tt.fault)
				}
				return
			}
			if err != nil || len(a.addrs) != 1 || a.addrs[0].String() != tt.want {
				t.Errorf("got %v, %v", a.addrs, err)
			}
		})
	}
}

func TestWrongRepliesAreCounted(t *testing.T) {
	t.Parallel()
	f, count := forwardTo(nil, upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
		for range 3 {
			m := new(dns.Msg).SetReply(q)
			m.Id++
			_ = w.WriteMsg(m)
		}
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		_ = w.WriteMsg(m)
	}))
	defer f.shut()
	if _, err := f.ask(t.Context(), hub); err != nil {
		t.Fatal(err)
	}
	if n := count.ignored.Load(); n != 3 {
		t.Errorf("ignored %d, want 3", n)
	}
}

func TestTheNextServerIsAskedAndRemembered(t *testing.T) {
	t.Parallel()
	var first atomic.Int32
	broken := upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
		first.Add(1)
		fails(dns.RcodeServerFailure)(w, q)
	})
	f, _ := forwardTo(nil, broken, upstream(t, nil, says(t, hub+" 60 IN A 192.0.2.1")))
	defer f.shut()
	for range 5 {
		if _, err := f.ask(t.Context(), hub); err != nil {
			t.Fatal(err)
		}
	}
	if n := first.Load(); n != 1 {
		t.Errorf("the broken server was asked %d times, want once", n)
	}
}

func TestLostAndRestoredAreSaidOnce(t *testing.T) {
	t.Parallel()
	a, b := target{addr: netip.MustParseAddrPort("192.0.2.1:53")}, target{addr: netip.MustParseAddrPort("192.0.2.2:853"), tlsName: "b.example"}
	var h health
	now := time.Now()
	var said []string
	say := func(n news) {
		if n.kind != nil {
			said = append(said, n.kind.ID)
		}
	}
	fail := func(times int, ts ...target) {
		for range times {
			h.order([]target{a, b}, now)
			for _, x := range ts {
				if n := h.failed(x, errDown, now); n.kind != nil {
					say(h.tell(x, n))
				}
			}
		}
		if len(ts) == 2 {
			say(h.nobody(errDown))
		}
	}
	fail(lostAfter-1, a)
	say(h.answered(a, time.Millisecond, now)) // a hiccup is not a loss
	fail(2*lostAfter, a)
	say(h.answered(b, time.Millisecond, now))
	fail(2*lostAfter, a, b)
	fail(2*lostAfter, a, b)
	say(h.answered(a, time.Millisecond, now))
	say(h.answered(a, time.Millisecond, now))
	say(h.answered(b, time.Millisecond, now)) // of which it was not said that it is lost
	fail(lostAfter, b)
	say(h.answered(b, time.Millisecond, now))
	want := []string{"resolver-upstream-lost", "resolver-names-lost", "resolver-names-restored", "resolver-upstream-lost", "resolver-upstream-restored"}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if known, lost := h.lost(); known != 2 || lost != 0 {
		t.Errorf("%d of %d lost", lost, known)
	}
}

func TestAnErrorIsNotALoss(t *testing.T) {
	t.Parallel()
	log := event.New(event.Options{Keep: 10})
	f, _ := forwardTo(log, upstream(t, nil, fails(dns.RcodeServerFailure)))
	defer f.shut()
	for range 2 * lostAfter {
		if _, err := f.ask(t.Context(), hub); !errors.Is(err, errAnswer) {
			t.Fatal(err)
		}
	}
	if said := log.Recent(0, ""); len(said) > 0 {
		t.Errorf("said %q", said[0].Message)
	}
}

func TestSystemServersAreFollowed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	ours := netip.MustParseAddrPort("10.83.0.1:53")
	log := event.New(event.Options{Keep: 10})
	f := newForwarder(Config{Upstreams: []Upstream{{System: true}}, ResolvConf: path},
		func(a netip.AddrPort) bool { return a == ours }, log, new(counters))
	chapters := []struct {
		name, file string
		want       []string
		fault      string
	}{
		{name: "not there yet", fault: "no such file"},
		{name: "empty, as before the uplink is up", file: "# nothing\nsearch lan\n", fault: "names no server"},
		{name: "one server", file: "nameserver 192.0.2.1\n", want: []string{"192.0.2.1:53"}},
		{name: "others, with noise", file: "; old\noptions edns0\nnameserver\t192.0.2.2 # x\nnameserver nonsense\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\n",
			want: []string{"192.0.2.2:53", "[2001:db8::1]:53", "[fe80::1%eth0]:53"}},
		{name: "ourselves among others", file: "nameserver 10.83.0.1\nnameserver 192.0.2.3\n", want: []string{"192.0.2.3:53"}},
		{name: "only ourselves", file: "nameserver 10.83.0.1\n", fault: "resolv.conf names only this box itself (10.83.0.1)"},
	}
	for i, c := range chapters {
		if c.file != "" {
			if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			later := time.Now().Add(time.Duration(i) * time.Second)
			if err := os.Chtimes(path, later, later); err != nil {
				t.Fatal(err)
			}
		}
		got, err := f.targets()
		var addrs []string
		for _, g := range got {
			addrs = append(addrs, g.String())
		}
		if diff := cmp.Diff(c.want, addrs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.fault)
		}
	}
	if said := log.Recent(0, ""); len(said) != 1 || said[0].Kind != event.ResolverUpstreamIsUs {
		t.Errorf("said %v, want once that we are not asked ourselves", said)
	}
}

// certificate makes a certificate for a name, valid from and until.
func certificate(t *testing.T, name string, from, until time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestDNSOverTLS(t *testing.T) {
	t.Parallel()
	now := time.Now()
	tests := []struct {
		name, asked string
		from, until time.Time
		fault       string
	}{
		{name: "the right name", asked: "dns.example", from: now.Add(-time.Hour), until: now.Add(time.Hour)},
		{name: "another name", asked: "other.example", from: now.Add(-time.Hour), until: now.Add(time.Hour), fault: "other.example"},
		{name: "not valid yet", asked: "dns.example", from: now.Add(time.Hour), until: now.Add(2 * time.Hour), fault: "is valid only from"},
		{name: "expired", asked: "dns.example", from: now.Add(-2 * time.Hour), until: now.Add(-time.Hour), fault: "ended on " + now.Add(-time.Hour).UTC().Format("2006-01-02")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cert, pool := certificate(t, "dns.example", tt.from, tt.until)
			at := upstream(t, &tls.Config{Certificates: []tls.Certificate{cert}}, says(t, hub+" 60 IN A 192.0.2.1"))
			f, _ := forwardTo(nil)
			defer f.shut()
			f.upstreams = []Upstream{{Addr: at, TLSName: tt.asked}}
			f.dot.cert.roots = pool
			a, err := f.ask(t.Context(), hub)
			if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
				t.Fatalf("error %v, want %q", err, tt.fault)
			}
			if err == nil && len(a.addrs) != 1 {
				t.Errorf("got %v", a.addrs)
			}
		})
	}
}

func TestTurnstile(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gate := newTurnstile(l, 3, 2)
	in := make(chan net.Conn)
	end := make(chan struct{})
	go func() {
		defer close(end)
		for {
			c, err := gate.Accept()
			if err != nil {
				return
			}
			in <- c
		}
	}()
	defer func() { l.Close(); <-end }()
	from := func(ip string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		c, err := d.Dial("tcp4", l.Addr().String())
		if errors.Is(err, syscall.ECONNRESET) {
			return nil // turned away before Dial returned
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	turnedAway := func(c net.Conn) {
		t.Helper()
		if c == nil {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("one too many was let in: %v", err)
		}
	}
	from("127.0.0.1")
	one := <-in
	from("127.0.0.1")
	two := <-in
	turnedAway(from("127.0.0.1")) // the third of one address
	from("127.0.0.2")
	three := <-in
	turnedAway(from("127.0.0.3")) // the fourth of all
	one.Close()
	one.Close() // leaves once only
	from("127.0.0.1")
	four := <-in
	turnedAway(from("127.0.0.4"))
	for _, c := range []net.Conn{two, three, four} {
		c.Close()
	}
	if gate.all != 0 || len(gate.inside) != 0 {
		t.Errorf("%d inside after all have left: %v", gate.all, gate.inside)
	}
}
