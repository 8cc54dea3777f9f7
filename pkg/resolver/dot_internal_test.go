package resolver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"chargegate/pkg/event"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

const dotName = "dns.example"

// overTLS runs a server on loopback that does with each connection what serve
// does; nth counts them from 1. It waits for all at the end of the test.
func overTLS(t testing.TB, cert tls.Certificate, serve func(c *tls.Conn, nth int)) target {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for nth := 1; ; nth++ {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, raw)
			mu.Unlock()
			all.Go(func() {
				defer raw.Close()
				serve(tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}}), nth)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return target{l.Addr().(*net.TCPAddr).AddrPort(), dotName}
}

// nextQuestion reads one question from a connection; nil at the end.
func nextQuestion(c io.Reader) *dns.Msg {
	in, err := readFrame(c)
	q := new(dns.Msg)
	if err != nil || q.Unpack(in) != nil {
		return nil
	}
	return q
}

// reply writes the answer to a question: the address 192.0.2.n.
func reply(c io.Writer, q *dns.Msg, n int) {
	m := new(dns.Msg).SetReply(q)
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
		A: net.IPv4(192, 0, 2, byte(n))}}
	b, _ := m.Pack()
	_, _ = c.Write(withLength(b))
}

// serveAll answers every question of a connection.
func serveAll(c *tls.Conn, nth int) {
	for q := nextQuestion(c); q != nil; q = nextQuestion(c) {
		reply(c, q, nth)
	}
}

// overDoT makes a forwarder to one server whose certificate the roots know.
func overDoT(t *testing.T, log *event.Log, at target, roots *x509.CertPool, synchronised func() bool) *forwarder {
	t.Helper()
	f := newForwarder(Config{Upstreams: []Upstream{{Addr: at.addr, TLSName: at.tlsName}}, Synchronised: synchronised},
		func(netip.AddrPort) bool { return false }, log, new(counters))
	f.dot.cert.roots = roots
	t.Cleanup(f.shut)
	return f
}

// valid makes a certificate that is valid now.
func valid(t *testing.T) (tls.Certificate, *x509.CertPool) {
	return certificate(t, dotName, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
}

// addrOfHub asks for the hub; again where only time was short, as on a busy machine.
func addrOfHub(t *testing.T, f *forwarder) (string, error) {
	t.Helper()
	a, err := f.ask(t.Context(), hub)
	for tries := 1; isTimeout(err) && tries < 5; tries++ {
		a, err = f.ask(t.Context(), hub)
	}
	if err != nil || len(a.addrs) != 1 {
		return "", err
	}
	return a.addrs[0].String(), nil
}

// What a certificate must be like, with the clock set and without (F-12).
func TestCertificatesAndTheClock(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	tests := []struct {
		name        string
		asked       string
		from, until time.Duration // from now
		stranger    bool          // signed by somebody unknown
		set, unset  string        // the fault with the clock set, and without; "" for none
	}{
		{name: "all is right", asked: dotName, from: -hour, until: hour},
		{name: "expired", asked: dotName, from: -2 * hour, until: -hour, set: "its certificate ended on "},
		{name: "not valid yet", asked: dotName, from: hour, until: 2 * hour, set: "its certificate is valid only from "},
		{name: "another name", asked: "other.example", from: -hour, until: hour, set: "its certificate is for dns.example", unset: "its certificate is for dns.example"},
		{name: "another name, and expired", asked: "other.example", from: -2 * hour, until: -hour, set: "its certificate ended on ", unset: "its certificate is for dns.example"},
		{name: "another name, and not valid yet", asked: "other.example", from: hour, until: 2 * hour, set: "its certificate is valid only from ", unset: "its certificate is for dns.example"},
		{name: "signed by a stranger", asked: dotName, from: -hour, until: hour, stranger: true, set: "signed by nobody whom this box knows", unset: "signed by nobody whom this box knows"},
		{name: "signed by a stranger, and expired", asked: dotName, from: -2 * hour, until: -hour, stranger: true, set: "ended on", unset: "signed by nobody whom this box knows"},
	}
	for _, tt := range tests {
		for clock, fault := range map[bool]string{true: tt.set, false: tt.unset} {
			name := tt.name + ", the clock is set"
			if !clock {
				name = tt.name + ", the clock is not set"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				cert, roots := certificate(t, dotName, time.Now().Add(tt.from), time.Now().Add(tt.until))
				if tt.stranger {
					_, roots = certificate(t, dotName, time.Now().Add(tt.from), time.Now().Add(tt.until))
				}
				at := overTLS(t, cert, serveAll)
				at.tlsName = tt.asked
				log := event.New(event.Options{Keep: 10})
				f := overDoT(t, log, at, roots, func() bool { return clock })
				for range 2 {
					got, err := addrOfHub(t, f)
					if (err == nil) != (fault == "") || err != nil && !strings.Contains(err.Error(), fault) {
						t.Fatalf("got %q, %v; want the fault %q", got, err, fault)
					}
					if err != nil && strings.Contains(err.Error(), "x509") {
						t.Errorf("the library's words are repeated: %v", err)
					}
				}
				said := 0
				for _, r := range log.Recent(0, "") {
					if r.Kind == event.ResolverDatesUnchecked {
						said++
					}
				}
				if want := map[bool]int{true: 1}[!clock && fault == ""]; said != want {
					t.Errorf("said %d times that the dates were not checked, want %d", said, want)
				}
			})
		}
	}
}

// issue makes a certificate that is signed by another, or by itself.
func issue(t *testing.T, name string, ca bool, from, until time.Time, by *x509.Certificate, byKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: from, NotAfter: until, IsCA: ca, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	if !ca {
		template.DNSNames, template.KeyUsage = []string{name}, x509.KeyUsageDigitalSignature
	}
	if by == nil {
		by, byKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), byKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// A chain is accepted without a clock when there was a moment at which all of it
// was valid, whichever of it is the oldest.
func TestChainsWithoutAClock(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, n) }
	for _, tt := range []struct {
		name                string
		root, between, leaf [2]int
		fault               string
	}{
		{"each within the one above", [2]int{0, 1000}, [2]int{100, 500}, [2]int{200, 290}, ""},
		{"the leaf outlives the one above", [2]int{0, 1000}, [2]int{100, 250}, [2]int{200, 290}, ""},
		{"the one above is younger", [2]int{0, 1000}, [2]int{250, 500}, [2]int{200, 290}, ""},
		{"the root is younger", [2]int{270, 1000}, [2]int{250, 500}, [2]int{200, 290}, ""},
		{"the one above ended before the leaf began", [2]int{0, 1000}, [2]int{100, 199}, [2]int{200, 290}, "refused"},
		{"the root ended before the leaf began", [2]int{0, 150}, [2]int{100, 500}, [2]int{200, 290}, "refused"},
	} {
		root, rootKey := issue(t, "root", true, day(tt.root[0]), day(tt.root[1]), nil, nil)
		between, betweenKey := issue(t, "between", true, day(tt.between[0]), day(tt.between[1]), root, rootKey)
		leaf, _ := issue(t, dotName, false, day(tt.leaf[0]), day(tt.leaf[1]), between, betweenKey)
		roots := x509.NewCertPool()
		roots.AddCert(root)
		err := verifyUndated([]*x509.Certificate{leaf, between}, dotName, roots)
		if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.fault)
		}
		if err := verifyUndated([]*x509.Certificate{leaf}, dotName, roots); err == nil {
			t.Errorf("%s: accepted without the one in between", tt.name)
		}
		if err := verifyUndated([]*x509.Certificate{leaf, between}, "other.example", roots); err == nil {
			t.Errorf("%s: accepted for another name", tt.name)
		}
	}
	if err := verifyUndated(nil, dotName, x509.NewCertPool()); err == nil {
		t.Error("no certificate is accepted")
	}
}

// What was accepted without a clock ends when the clock is set, and nothing of it
// is carried over.
func TestTheClockIsSet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		from, until time.Duration
		fault       string
		said        int
	}{
		{"the certificate is right after all", -time.Hour, time.Hour, "", 1},
		{"it has expired", -2 * time.Hour, -time.Hour, "ended on", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cert, roots := certificate(t, dotName, time.Now().Add(tt.from), time.Now().Add(tt.until))
			var conns, resumed atomic.Int32
			at := overTLS(t, cert, func(c *tls.Conn, nth int) {
				for q := nextQuestion(c); q != nil; q = nextQuestion(c) {
					reply(c, q, nth)
					conns.Store(int32(nth))
					if c.ConnectionState().DidResume {
						resumed.Add(1)
					}
				}
			})
			var set atomic.Bool
			log := event.New(event.Options{Keep: 10})
			f := overDoT(t, log, at, roots, set.Load)
			for range 3 {
				if got, err := addrOfHub(t, f); err != nil || got != "192.0.2.1" {
					t.Fatalf("got %q, %v", got, err)
				}
			}
			set.Store(true)
			got, err := addrOfHub(t, f)
			if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
				t.Fatalf("got %q, %v; want the fault %q", got, err, tt.fault)
			}
			if tt.fault == "" && got != "192.0.2.2" {
				t.Errorf("got %q, want the second connection's answer", got)
			}
			if resumed.Load() > 0 {
				t.Error("a session was carried over")
			}
			set.Store(false) // somebody sets it wrong: that is said anew, of new conversations
			f.dot.cert.set.Store(&moment{wall: time.Now().Round(0).Add(-2 * maxDrift), steady: time.Now()})
			if _, err := addrOfHub(t, f); err != nil {
				t.Error(err)
			}
			said := 0
			for _, r := range log.Recent(0, "") {
				if r.Kind == event.ResolverDatesUnchecked {
					said++
				}
			}
			if said != tt.said {
				t.Errorf("said %d times that the dates were not checked, want %d", said, tt.said)
			}
		})
	}
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		serve func(c *tls.Conn, nth int)
		want  string // the last octets of three answers: the number of the connection
		fault string // of the first question
		slow  bool
	}{
		{name: "one for all", want: "1 1 1", serve: serveAll},
		{name: "it ends after each answer", want: "1 2 3", serve: func(c *tls.Conn, nth int) {
			if q := nextQuestion(c); q != nil {
				reply(c, q, nth)
			}
		}},
		{name: "it ends within the second question", want: "1 2 2", serve: func(c *tls.Conn, nth int) {
			if q := nextQuestion(c); q != nil {
				reply(c, q, nth)
			}
			if nth == 1 {
				nextQuestion(c)
				return
			}
			serveAll(c, nth)
		}},
		{name: "it ends in the middle of the second answer", want: "1 2 2", serve: func(c *tls.Conn, nth int) {
			if q := nextQuestion(c); q != nil {
				reply(c, q, nth)
			}
			if nth == 1 {
				nextQuestion(c)
				_, _ = c.Write([]byte{0, 99, 1, 2, 3})
				return
			}
			serveAll(c, nth)
		}},
		{name: "it is forgotten by a NAT in between", want: "1 2 2", slow: true, serve: func(c *tls.Conn, nth int) {
			if q := nextQuestion(c); q != nil {
				reply(c, q, nth)
			}
			if nth == 1 {
				_, _ = io.Copy(io.Discard, c)
				return
			}
			serveAll(c, nth)
		}},
		{name: "wrong ids and nonsense come before the answers", want: "1 1 1", serve: func(c *tls.Conn, nth int) {
			for q := nextQuestion(c); q != nil; q = nextQuestion(c) {
				_, _ = c.Write([]byte{0, 0, 0, 3, 1, 2, 3})
				q.Id++
				reply(c, q, 66)
				q.Id--
				other := q.Copy()
				other.Question[0].Name = "api.zaptec.com."
				reply(c, other, 66)
				reply(c, q, nth)
			}
		}},
		{name: "nothing but nonsense", fault: "the connection ended before the answer", serve: func(c *tls.Conn, nth int) {
			nextQuestion(c)
			for {
				if _, err := c.Write([]byte{0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}); err != nil {
					return
				}
			}
		}},
		{name: "every connection ends at the first question", fault: "the connection ended before the answer",
			serve: func(c *tls.Conn, _ int) { nextQuestion(c) }},
		{name: "no TLS at all", fault: "asking tls://", serve: func(c *tls.Conn, _ int) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cert, roots := valid(t)
			f := overDoT(t, nil, overTLS(t, cert, tt.serve), roots, nil)
			var got []string
			for range 3 {
				began := time.Now()
				a, err := addrOfHub(t, f)
				if tt.fault != "" {
					if err == nil || !strings.Contains(err.Error(), tt.fault) {
						t.Fatalf("got %q, %v; want %q", a, err, tt.fault)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > tryTLS && !tt.slow {
					t.Errorf("took %v", took)
				}
				got = append(got, strings.TrimPrefix(a, "192.0.2."))
				time.Sleep(20 * time.Millisecond) // an end of the other side is noticed, or not
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("connections (-want +got):\n%s", diff)
			}
			if n := f.health.of[target{f.upstreams[0].Addr, dotName}].fails; n != 0 {
				t.Errorf("%d failures are noted", n)
			}
		})
	}
}

// Many questions go over one connection at once, and the answers come back in
// another order.
func TestAnswersComeInAnyOrder(t *testing.T) {
	t.Parallel()
	const many = 20
	cert, roots := valid(t)
	var conns atomic.Int32
	at := overTLS(t, cert, func(c *tls.Conn, nth int) {
		if nth == 1 {
			reply(c, nextQuestion(c), 1) // so that the connection is there
		}
		for {
			var all []*dns.Msg
			for range many {
				q := nextQuestion(c)
				if q == nil {
					return
				}
				conns.Store(int32(nth))
				all = append(all, q)
			}
			slices.Reverse(all)
			for _, q := range all {
				n, _ := strconv.Atoi(strings.TrimPrefix(strings.Split(q.Question[0].Name, ".")[0], "n"))
				reply(c, q, n)
			}
		}
	})
	f := overDoT(t, nil, at, roots, nil)
	if _, err := addrOfHub(t, f); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			a, err := f.ask(t.Context(), "n"+strconv.Itoa(i)+".example.")
			if want := "192.0.2." + strconv.Itoa(i); err != nil || len(a.addrs) != 1 || a.addrs[0].String() != want {
				t.Errorf("got %v, %v; want %s", a.addrs, err, want)
			}
		})
	}
	all.Wait()
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A name that takes the server long is no reason to give up a connection on which
// other answers come.
func TestASlowNameDoesNotEndAConnection(t *testing.T) {
	t.Parallel()
	cert, roots := valid(t)
	at := overTLS(t, cert, func(c *tls.Conn, nth int) {
		var slow *dns.Msg
		for q := nextQuestion(c); q != nil; q = nextQuestion(c) {
			if strings.HasPrefix(q.Question[0].Name, "slow.") && slow == nil {
				slow = q
				continue
			}
			reply(c, q, nth)
			if strings.HasPrefix(q.Question[0].Name, "late.") && slow != nil {
				reply(c, slow, nth)
				slow = nil
			}
		}
	})
	f := overDoT(t, nil, at, roots, nil)
	ask := func(name string) string {
		a, err := f.ask(t.Context(), name)
		if err != nil || len(a.addrs) != 1 {
			t.Errorf("%s: %v, %v", name, a.addrs, err)
			return ""
		}
		return a.addrs[0].String()
	}
	ask(hub)
	var asking sync.WaitGroup
	asking.Go(func() {
		if got := ask("slow.example."); got != "192.0.2.1" {
			t.Errorf("the slow name came over another connection: %s", got)
		}
	})
	for began := time.Now(); time.Since(began) < streamStuck+streamStuck/4; time.Sleep(50 * time.Millisecond) {
		ask(hub)
	}
	ask("late.example.")
	asking.Wait()
}

// More questions than one connection should carry get a second one, and no third.
func TestTwoConnectionsAtMost(t *testing.T) {
	t.Parallel()
	cert, roots := valid(t)
	second := make(chan struct{})
	var conns atomic.Int32
	at := overTLS(t, cert, func(c *tls.Conn, nth int) {
		conns.Store(int32(nth))
		if c.Handshake() == nil && nth == 2 {
			close(second)
		}
		first := true
		for q := nextQuestion(c); q != nil; q = nextQuestion(c) {
			if nth == 1 && !first { // the others wait for the second connection
				<-second
			}
			first = false
			reply(c, q, nth)
		}
	})
	f := overDoT(t, nil, at, roots, nil)
	if _, err := addrOfHub(t, f); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 3 * manyPending {
		all.Go(func() {
			for range 2 {
				if _, err := addrOfHub(t, f); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := conns.Load(); n < 2 || n > 3 { // a third one only in place of one that was given up
		t.Errorf("%d connections, want 2", n)
	}
	f.dot.mu.Lock()
	defer f.dot.mu.Unlock()
	if n := len(f.dot.streams[at]); n > maxStreams {
		t.Errorf("%d connections are kept", n)
	}
}

// Questions over TLS are filled up to one length (RFC 8467).
func TestQuestionsOverTLSHaveOneLength(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a.", hub, strings.Repeat("x", 63) + "." + strings.Repeat("y", 63) + ".example."} {
		q, err := writeQuery(nil, name, manners{sameCase: true})
		if err != nil {
			t.Fatal(err)
		}
		wire := padded(q.wire)
		m := new(dns.Msg)
		if err := m.Unpack(wire); err != nil || m.Question[0].Name != name || m.IsEdns0() == nil {
			t.Errorf("%s: %v, %v", name, m, err)
		}
		if len(wire)%padTo != 0 || len(wire) > 2*padTo {
			t.Errorf("%s: %d bytes", name, len(wire))
		}
	}
}

// Messages come out of a stream as they were, however it was cut.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x03abc\x00\x00\x00\x01z"), byte(3))
	f.Add([]byte("\xff\xffabc"), byte(0))
	f.Fuzz(func(t *testing.T, stream []byte, cut byte) {
		var readers = []io.Reader{bytes.NewReader(stream), iotest.OneByteReader(bytes.NewReader(stream)), iotest.HalfReader(bytes.NewReader(stream)),
			io.MultiReader(bytes.NewReader(stream[:min(int(cut), len(stream))]), bytes.NewReader(stream[min(int(cut), len(stream)):]))}
		var want [][]byte
		rest := stream
		for len(rest) >= 2 && len(rest)-2 >= int(binary.BigEndian.Uint16(rest)) {
			n := 2 + int(binary.BigEndian.Uint16(rest))
			want = append(want, rest[2:n])
			rest = rest[n:]
		}
		for _, r := range readers {
			var got [][]byte
			for {
				in, err := readFrame(r)
				if err != nil {
					if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Fatal(err)
					}
					break
				}
				got = append(got, in)
			}
			if !slices.EqualFunc(want, got, bytes.Equal) {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	})
}

// Whatever comes over a stream, one who waits gets the answer to his own question
// or none.
func FuzzStream(f *testing.F) {
	q, err := writeQuery(nil, hub, manners{sameCase: true})
	if err != nil {
		f.Fatal(err)
	}
	answer := append(bytes.Clone(q.wire[:q.end]), 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1)
	answer[2], answer[3], answer[7], answer[11] = 0x81, 0x80, 1, 0
	f.Add(withLength(answer))
	f.Add(append(withLength([]byte("\x00\x01nonsense12345")), withLength(answer)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		s := &stream{c: here, waiting: map[uint16]*waiter{}, ignored: func() {}, outdated: func() bool { return false }}
		w := &waiter{query: q, done: make(chan struct{})}
		s.waiting[q.id()] = w
		end := make(chan struct{})
		go func() {
			defer close(end)
			s.serve(context.Background())
		}()
		_, _ = there.Write(b)
		there.Close()
		<-end
		<-w.done
		if (w.err == nil) != (w.in != nil) {
			t.Fatalf("%v with %q", w.err, w.in)
		}
		if w.in != nil && q.judge(w.in) != right && q.judge(w.in) != folded {
			t.Fatalf("somebody else's answer: %q", w.in)
		}
	})
}
