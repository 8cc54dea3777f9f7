package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/carry"
	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestReadSign(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		first []byte
		want  sign
		alert string
	}{
		"nothing":                                {nil, signNothing, ""},
		"ServerHello":                            {[]byte{22, 3, 3, 0, 80, 2, 0, 0}, signGoesOn, ""},
		"one byte of it":                         {[]byte{22}, signGoesOn, ""},
		"ChangeCipherSpec":                       {[]byte{20, 3, 3, 0, 1, 1, 23, 3}, signGoesOn, ""},
		"data of TLS 1.3":                        {[]byte{23, 3, 3, 1, 0, 7, 7, 7}, signGoesOn, ""},
		"handshake_failure":                      {[]byte{21, 3, 1, 0, 2, 2, 40}, signAlert, "handshake_failure: they have no cipher or key exchange in common"},
		"and more behind it":                     {[]byte{21, 3, 3, 0, 2, 2, 48, 21}, signAlert, "unknown_ca"},
		"the header alone":                       {[]byte{21, 3, 3, 0, 2}, signAlert, "an alert"},
		"the warning unrecognized_name":          {[]byte{21, 3, 3, 0, 2, 1, 112, 22}, signGoesOn, ""},
		"the fatal unrecognized_name":            {[]byte{21, 3, 3, 0, 2, 2, 112}, signAlert, "unrecognized_name: it does not serve that name"},
		"goodbye":                                {[]byte{21, 3, 3, 0, 2, 1, 0}, signGoesOn, ""},
		"a warning that 1.3 takes for fatal":     {[]byte{21, 3, 3, 0, 2, 1, 80}, signAlert, "internal_error: something is broken inside it"},
		"an alert that nobody knows":             {[]byte{21, 3, 3, 0, 2, 2, 200}, signAlert, "alert 200"},
		"an alert behind encryption":             {[]byte{21, 3, 3, 0, 26, 9, 9, 9}, signGoesOn, ""},
		"a login page":                           {[]byte("HTTP/1.1"), signStranger, ""},
		"SSH":                                    {[]byte("SSH-2.0-"), signStranger, ""},
		"a record of SSL 2, which nobody speaks": {[]byte{0x80, 0x2e, 1, 0, 2}, signStranger, ""},
		"a heartbeat, which nobody begins with":  {[]byte{24, 3, 3, 0, 3}, signStranger, ""},
	} {
		got, alert := readSign(tt.first)
		words := ""
		if got == signAlert {
			words = alertInWords(alert)
		}
		if got != tt.want || words != tt.alert {
			t.Errorf("%s: %d, %q; want %d, %q", name, got, words, tt.want, tt.alert)
		}
	}
}

// Whatever a side sends first, it is one of the four signs; only an alert has a number,
// and its words are those of a technician.
func FuzzReadSign(f *testing.F) {
	for _, first := range []string{"", "\x16\x03\x03\x00\x50\x02", "\x15\x03\x01\x00\x02\x02\x28", "\x15\x03\x03\x00\x02", "\x15\x03\x03\x00\x1a\x09\x09", "HTTP/1.1"} {
		f.Add([]byte(first))
	}
	f.Fuzz(func(t *testing.T, first []byte) {
		s, alert := readSign(first)
		switch {
		case (s == signNothing) != (len(first) == 0):
			t.Fatalf("%x is sign %d", first, s)
		case s != signAlert && alert != 0, s < signNothing || s > signStranger:
			t.Fatalf("%x is sign %d with the alert %d", first, s, alert)
		case s == signAlert && (first[0] != recordAlert || alertInWords(alert) == ""):
			t.Fatalf("%x is the alert %d", first, alert)
		}
		if len(first) > 8 {
			if again, number := readSign(first[:8]); again != s || number != alert {
				t.Fatalf("%x: the first eight bytes say %d, %d; all of them %d, %d", first, again, number, s, alert)
			}
		}
	})
}

// neighbour gives a further charger an address, so that it has a share of its own.
func (h *house) neighbour(n byte) (addr string) {
	h.t.Helper()
	inv := charger.Inventory{p107: {MAC: p107, Name: "P1-07", Network: "P1"}}
	for n := range byte(20) {
		mac := charger.MAC{0x60, 0x15, 0x92, 0x41, 1, n}
		inv[mac] = charger.Charger{MAC: mac, Name: fmt.Sprintf("P9-%d", n), Network: "P1"}
	}
	h.book.Replace(inv)
	a := netip.AddrFrom4([4]byte{127, 0, 1, n})
	h.book.Leased(charger.MAC{0x60, 0x15, 0x92, 0x41, 1, n}, "P1", a, true, time.Now())
	return a.String()
}

// stranger gives a device that the inventory does not name an address.
func (h *house) stranger(n byte) (addr string) {
	h.t.Helper()
	a := netip.AddrFrom4([4]byte{127, 0, 2, n})
	h.book.Leased(charger.MAC{2, 0, 0, 0, 0, n}, "P1", a, true, time.Now())
	return a.String()
}

// later lets what handshakes told be of ten minutes ago.
func (h *house) later() {
	h.handshakes.mu.Lock()
	defer h.handshakes.mu.Unlock()
	for _, x := range h.handshakes.of {
		for _, at := range []*time.Time{&x.went, &x.accepted} {
			if !at.IsZero() {
				*at = at.Add(-wellFor)
			}
		}
	}
}

// handshake calls from an address and does the handshake as a charger does, with
// TLS 1.2.
func (h *house) handshake(from string, cfg *tls.Config) error {
	h.t.Helper()
	conn, err := h.dial(from)
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	cfg = cfg.Clone()
	cfg.ServerName, cfg.MaxVersion = apiName, tls.VersionTLS12
	c := tls.Client(conn, cfg)
	if err := c.Handshake(); err != nil {
		return err
	}
	return c.Close()
}

// One charger that does not trust the server is its own trouble, several are the
// name's: said once, until one trusts it again.
func TestCertificateRefused(t *testing.T) {
	server, roots := authority(t, apiName)
	b := newBackend(t, "127.0.0.1:0", tlsEcho(server))
	h := newHouse(t, b.port).open()
	trusting, doubting := &tls.Config{RootCAs: roots}, &tls.Config{RootCAs: x509.NewCertPool()}
	if err := h.handshake("127.0.0.1", trusting); err != nil {
		t.Fatal(err)
	}
	for range 3 { // as often as it likes
		if err := h.handshake("127.0.0.1", doubting); err == nil {
			t.Fatal("the certificate was accepted")
		}
		h.emptied(t)
	}
	r := h.says(event.EgressCertificateRefused)
	if h.said(event.EgressCertificateRefused) != 1 || r.Field("NAME") != apiName || r.Field("ALERT") != "bad_certificate" || !strings.Contains(r.Advice(), "-servername "+apiName+" </dev/null") {
		t.Errorf("said %d times: %q, advice %q", h.said(event.EgressCertificateRefused), r.Message, r.Advice())
	}
	page := fmt.Sprintf("%s on port %d (the charger does not accept its certificate: bad_certificate)", apiName, b.port)
	eventually(t, page, func() bool { return h.book.All(time.Now())[0].Unreachable == page })
	if n := h.outages.count(); n != 0 {
		t.Errorf("%d names are out", n)
	}
	// All the others, as long as one has just accepted it.
	for n := range byte(5) {
		if err := h.handshake(h.neighbour(n+1), doubting); err == nil {
			t.Fatal("the certificate was accepted")
		}
		h.emptied(t)
	}
	if n := h.said(event.EgressCertificateDoubted) + h.outages.count(); n != 0 {
		t.Error("it is the name's trouble, though a charger has just accepted it")
	}
	h.later()
	for n := range byte(4) {
		_ = h.handshake(h.neighbour(n+1), doubting)
		h.emptied(t)
	}
	r = h.says(event.EgressCertificateDoubted)
	if h.said(event.EgressCertificateDoubted) != 1 || r.Field("CHARGERS") != "3" {
		t.Errorf("said %d times: %q", h.said(event.EgressCertificateDoubted), r.Message)
	}
	if o := h.Outages(); len(o) != 1 || o[0].Cause != causeTLS || o[0].Words != "the chargers do not accept its certificate" || o[0].Failed != 4 {
		t.Errorf("%+v", o)
	}
	if err := h.handshake(h.neighbour(9), trusting); err != nil {
		t.Fatal(err)
	}
	if r := h.says(event.EgressRestored); r.Field("NAME") != apiName || h.outages.count() != 0 {
		t.Errorf("said %q, %d names are out", r.Message, h.outages.count())
	}
}

// emptied waits until all conversations have ended.
func (h *house) emptied(t *testing.T) {
	t.Helper()
	eventually(t, "the end of all conversations", func() bool {
		h.Server.mu.Lock()
		defer h.Server.mu.Unlock()
		return len(h.Server.open) == 0 && h.places.open() == 0
	})
}

// A server that refuses every hello is out; one that refuses a single caller is
// not, whatever that one sends.
func TestHelloRefused(t *testing.T) {
	server, roots := authority(t, apiName)
	strict := server.Clone()
	strict.MinVersion = tls.VersionTLS13
	b := newBackend(t, "127.0.0.1:0", tlsEcho(strict))
	h := newHouse(t, b.port).open()
	old := &tls.Config{RootCAs: roots}
	for range 2 {
		if err := h.handshake("127.0.0.1", old); err == nil {
			t.Fatal("the server speaks TLS 1.2")
		}
		h.emptied(t)
	}
	const words = "its server answered with the alert protocol_version: it does not speak the version of TLS that was offered"
	r := h.says(event.EgressUnreachable)
	if h.said(event.EgressUnreachable) != 1 || r.Field("CAUSE") != causeTLS || r.Field("ERROR") != words {
		t.Errorf("said %d times: %q", h.said(event.EgressUnreachable), r.Message)
	}
	if o := h.Outages(); len(o) != 1 || o[0].Words != "its server refuses the conversation" || o[0].Detail != words {
		t.Errorf("%+v", o)
	}
	page := fmt.Sprintf("%s on port %d (%s)", apiName, b.port, words)
	eventually(t, page, func() bool { return h.book.All(time.Now())[0].Unreachable == page })

	modern := func(from string) {
		t.Helper()
		conn, err := h.dial(from)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: apiName}).Handshake(); err != nil {
			t.Fatal(err)
		}
	}
	modern("127.0.0.1")
	h.says(event.EgressRestored)
	h.emptied(t)
	// It goes on with others: now it is that caller's trouble, said once.
	stubborn := h.neighbour(1)
	for range 10 {
		if err := h.handshake(stubborn, old); err == nil {
			t.Fatal("the server speaks TLS 1.2")
		}
		h.emptied(t)
	}
	if h.says(event.EgressHelloRefused); h.said(event.EgressHelloRefused) != 1 || h.said(event.EgressUnreachable) != 1 {
		t.Errorf("said %d times of the caller, %d of the name", h.said(event.EgressHelloRefused), h.said(event.EgressUnreachable))
	}
	// Ten minutes later it goes on with nobody any more.
	h.later()
	_ = h.handshake(stubborn, old)
	h.emptied(t)
	eventually(t, "the outage", func() bool { return h.said(event.EgressUnreachable) == 2 })
	// And one that it goes on with ends that at once, though it came back soon.
	modern(h.neighbour(2))
	h.emptied(t)
	eventually(t, "its end", func() bool { return h.outages.count() == 0 })
}

// Strangers whose hellos no server likes, and who like no certificate, make no trouble
// of a name: neither do they begin one, nor keep it up, nor end it.
func TestStrangersTellNothingOfAName(t *testing.T) {
	server, roots := authority(t, apiName)
	strict := server.Clone()
	strict.MinVersion = tls.VersionTLS12
	b := newBackend(t, "127.0.0.1:0", tlsEcho(strict))
	h := newHouse(t, b.port).open()
	bad := func(from string) {
		t.Helper()
		conn, err := h.dial(from)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(withoutCiphers(t, apiName)); err != nil {
			t.Fatal(err)
		}
		if s, _ := readSign(first(conn)); s != signAlert {
			t.Fatal("the server goes on")
		}
		conn.Close()
		h.emptied(t)
	}
	shakes := func(from string, roots *x509.CertPool) {
		t.Helper()
		_ = h.handshake(from, &tls.Config{RootCAs: roots})
		h.emptied(t)
	}
	nobody := x509.NewCertPool()
	for range 2 { // as often as they like, also when they are the first of all
		for n := range byte(4) {
			bad(h.stranger(n + 1))
			shakes(h.stranger(n+1), nobody)
		}
		bad("127.0.9.9") // without a lease
		shakes("127.0.9.9", nobody)
	}
	if n := h.outages.count() + h.said(event.EgressUnreachable) + h.said(event.EgressCertificateDoubted); n != 0 {
		t.Fatalf("strangers made trouble: %+v", h.Outages())
	}
	h.says(event.EgressHelloRefused)
	h.says(event.EgressCertificateRefused)
	if n := len(h.handshakes.of); n != 0 {
		t.Errorf("%d names are remembered for them", n)
	}
	// A trouble of the chargers.
	bad(h.neighbour(1))
	for n := range byte(3) {
		shakes(h.neighbour(n+2), nobody)
	}
	h.later() // the server went on with those
	bad(h.neighbour(1))
	before := h.Outages()
	if len(before) != 2 {
		t.Fatalf("%+v", before)
	}
	// Strangers do not prolong it, and do not end it.
	for n := range byte(4) {
		bad(h.stranger(n + 1))
		shakes(h.stranger(n+1), nobody)
		shakes(h.stranger(n+1), roots)
	}
	if diff := cmp.Diff(before, h.Outages()); diff != "" {
		t.Errorf("(-before +after strangers):\n%s", diff)
	}
	// A charger that goes on ends it, and while one does it does not come back, not even
	// with three others.
	shakes("127.0.0.1", roots)
	for n := range byte(5) {
		bad(h.neighbour(n + 1))
		shakes(h.neighbour(n+1), nobody)
	}
	if n := h.outages.count(); n != 0 {
		t.Errorf("%+v", h.Outages())
	}
}

// A stranger who talks with a name does not hide that it refuses the chargers.
func TestTalksWith(t *testing.T) {
	h := newHouse(t, 443)
	talker := func(addr string) *conversation {
		a := netip.MustParseAddr(addr)
		return &conversation{caller: a, share: h.shareOf(a), name: apiName, port: 443, pair: &carry.Pair{Counts: &carry.Counts{}}}
	}
	c := talker(home.String())
	for _, tt := range []struct {
		other string
		down  int64
		want  bool
	}{{h.neighbour(1), 1000, true}, {h.neighbour(1), 7, false}, {h.stranger(1), 1000, false}, {home.String(), 1000, false}} {
		o := talker(tt.other)
		o.pair.Counts.Down.Store(tt.down)
		h.Server.open = map[*conversation]struct{}{c: {}, o: {}}
		if got := h.talksWith(c); got != tt.want {
			t.Errorf("beside %d bytes to %s: %t", tt.down, tt.other, got)
		}
	}
}

// Without an inventory everybody who calls tells of a name.
func TestWithoutAnInventoryEverybodyTells(t *testing.T) {
	server, _ := authority(t, apiName)
	b := newBackend(t, "127.0.0.1:0", tlsEcho(server))
	h := newHouse(t, b.port).open()
	h.book.Replace(charger.Inventory{})
	conn, err := h.dial("127.0.9.9") // without a lease
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(withoutCiphers(t, apiName)); err != nil {
		t.Fatal(err)
	}
	first(conn)
	h.says(event.EgressUnreachable)
}

// withoutCiphers is a hello that nobody can go on with: its ciphers are none.
func withoutCiphers(t *testing.T, name string) []byte {
	hello := helloTo(t, name)
	at := 5 + 4 + 2 + 32
	at += 1 + int(hello[at])
	for i := at + 2; i < at+2+int(hello[at])<<8+int(hello[at+1]); i++ {
		hello[i] = 0xfe
	}
	return hello
}

// first is what the other side says first.
func first(conn net.Conn) []byte {
	answer, _ := io.ReadAll(conn)
	return answer
}

// A caller cannot make an alarm of a name that another one talks with.
func TestHelloRefusedBesideAnOpenConversation(t *testing.T) {
	server, roots := authority(t, policy.Hub, apiName)
	b := newBackend(t, "127.0.0.1:0", tlsEcho(server))
	h := newHouse(t, b.port).open()
	conn, err := h.dial("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: apiName, MaxVersion: tls.VersionTLS12})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	echoed := make([]byte, 1)
	if _, err := c.Write(echoed); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, echoed); err != nil {
		t.Fatal(err)
	}
	h.handshakes.mu.Lock()
	h.handshakes.of = map[target]*handshake{} // that was long ago
	h.handshakes.mu.Unlock()
	bad, err := h.dial(h.neighbour(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bad.Write(withoutCiphers(t, apiName)); err != nil {
		t.Fatal(err)
	}
	answer := first(bad)
	if s, alert := readSign(answer); s != signAlert || alert != 40 {
		t.Fatalf("the server said %x", answer)
	}
	if r := h.says(event.EgressHelloRefused); !strings.Contains(r.Field("ERROR"), "handshake_failure") || h.said(event.EgressUnreachable) != 0 {
		t.Errorf("said %q", r.Message)
	}
}

// What answers in the place of the hub is not the cloud: neither an alert nor a
// login page makes a charger online.
func TestStrangerInTheHubsPlace(t *testing.T) {
	for name, answer := range map[string]string{"an alert": "\x15\x03\x03\x00\x02\x02\x50", "a login page": "HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, 443)
			c := &conversation{caller: home, share: h.shareOf(home), name: policy.Hub, port: policy.HubPort, cloud: true, opened: time.Now(), pair: &carry.Pair{Counts: &carry.Counts{}}}
			h.book.Opened(home, true, c.opened)
			h.glanceOf(c, []byte{22})(carry.Far, []byte(answer)[:7])
			if r := h.says(event.EgressHubUnreachable); r.Field("CAUSE") != causeTLS {
				t.Errorf("said %q", r.Message)
			}
			c.pair.Counts.Down.Store(int64(len(answer)))
			h.Server.open[c] = struct{}{}
			h.places.take(c.share, true)
			h.finish(c, "the server hung up")
			if st := h.book.All(time.Now())[0]; st.Stage == charger.OK || !strings.HasPrefix(st.Unreachable, policy.Hub) {
				t.Errorf("stage %q, unreachable %q", st.Stage, st.Unreachable)
			}
		})
	}
}

func TestHandshakesAreBounded(t *testing.T) {
	t.Parallel()
	h, now := newHandshakes(), time.Now()
	for i := range 10_000 {
		h.wentOn(target{fmt.Sprintf("n%d.example.com", i), 443}, now.Add(time.Duration(i)))
	}
	for i := range 1000 {
		h.doubt(target{apiName, 443}, share{mac: charger.MAC{byte(i >> 8), byte(i)}}, now.Add(time.Hour))
	}
	if x := h.of[target{apiName, 443}]; len(h.of) > maxHandshakes || x == nil || len(x.doubters) != many {
		t.Errorf("%d names, %+v", len(h.of), x)
	}
}

// pemFiles writes a server's certificate and key, and an authority that has
// nothing to do with it.
func pemFiles(t *testing.T, server *tls.Config) (cert, key, stranger string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	der, err := x509.MarshalPKCS8PrivateKey(server.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := authority(t, "other.example")
	return write("cert.pem", "CERTIFICATE", server.Certificates[0].Certificate[0]), write("key.pem", "PRIVATE KEY", der),
		write("stranger.pem", "CERTIFICATE", other.Certificates[0].Certificate[0])
}

// Other stacks than Go's, as they refuse a certificate.
func TestOtherStacksRefuseTheCertificate(t *testing.T) {
	server, _ := authority(t, apiName)
	b := newBackend(t, "127.0.0.1:0", tlsEcho(server))
	_, _, stranger := pemFiles(t, server)
	for name, tt := range map[string]struct {
		args func(host, port string) []string
		want string
	}{
		"openssl": {func(host, port string) []string {
			return []string{"openssl", "s_client", "-connect", host + ":" + port, "-servername", apiName, "-tls1_2", "-CAfile", stranger, "-verify_return_error"}
		}, "unknown_ca"},
		"gnutls": {func(host, port string) []string {
			return []string{"gnutls-cli", "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2", "--x509cafile", stranger, "--sni-hostname", apiName, "--verify-hostname", apiName, "-p", port, host}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, b.port).open()
			host, port, _ := net.SplitHostPort(h.addr)
			args := tt.args(host, port)
			if _, err := exec.LookPath(args[0]); err != nil {
				t.Skip(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patient)
			defer cancel()
			out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
			if err == nil {
				t.Fatalf("it was accepted:\n%s", out)
			}
			r := h.says(event.EgressCertificateRefused)
			if tt.want != "" && r.Field("ALERT") != tt.want {
				t.Errorf("said %q", r.Message)
			}
			t.Logf("%s: %s", args[0], r.Message)
		})
	}
}

// Another stack than Go's, as it refuses a hello.
func TestOtherStacksRefuseTheHello(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip(err)
	}
	server, roots := authority(t, apiName)
	cert, key, _ := pemFiles(t, server)
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"the version": {[]string{"-tls1_3"}, "protocol_version"},
		"the ciphers": {[]string{"-tls1_2", "-cipher", "PSK"}, "handshake_failure"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patient)
			defer cancel()
			cmd := exec.CommandContext(ctx, "openssl", append([]string{"s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key}, tt.args...)...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = cmd.Stdout
			if _, err := cmd.StdinPipe(); err != nil { // it ends with its input
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cancel(); _ = cmd.Wait() }()
			var at netip.AddrPort
			lines := bufio.NewScanner(out)
			for lines.Scan() {
				if text, ok := strings.CutPrefix(lines.Text(), "ACCEPT "); ok {
					at, err = netip.ParseAddrPort(text)
					break
				}
			}
			if err != nil || !at.IsValid() {
				t.Fatal("s_server does not say where it listens", err)
			}
			go func() { _, _ = io.Copy(io.Discard, out) }()
			h := newHouse(t, at.Port()).open()
			if err := h.handshake("127.0.0.1", &tls.Config{RootCAs: roots}); err == nil {
				t.Fatal("the handshake went well")
			}
			h.emptied(t)
			if r := h.says(event.EgressUnreachable); r.Field("CAUSE") != causeTLS || !strings.Contains(r.Field("ERROR"), tt.want) {
				t.Errorf("said %q", r.Message)
			}
		})
	}
}

// What does not begin with a hello is not looked at.
func TestPlainIsNotGlancedAt(t *testing.T) {
	h := newHouse(t, 443)
	c := &conversation{}
	for _, first := range []string{"", "GET / HTTP/1.1\r\n", "\x15\x03\x03"} {
		if h.glanceOf(c, []byte(first)) != nil {
			t.Errorf("%q is glanced at", first)
		}
	}
	if h.glanceOf(c, []byte{recordHandshake, 3, 1}) == nil {
		t.Error("a hello is not")
	}
}

// A server, or a firewall in its place, that ends the conversation at the hello
// without a word. The glance takes no error away from who hears of it: a reset is
// still one.
func TestUnanswered(t *testing.T) {
	for name, tt := range map[string]struct {
		serve func(*net.TCPConn)
		hello string
		want  string
	}{
		"a reset": {func(conn *net.TCPConn) {
			_, _ = conn.Read(make([]byte, 4096))
			reset(conn)
		}, "", "its server reset the connection at the first message, without an answer"},
		"hung up": {func(conn *net.TCPConn) {
			_, _ = conn.Read(make([]byte, 4096))
			conn.Close()
		}, "", "its server hung up at the first message, without an answer"},
		"after an answer": {func(conn *net.TCPConn) {
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = conn.Write([]byte{22, 3, 3, 0, 1, 2})
			conn.Close()
		}, "", ""},
		"not TLS": {func(conn *net.TCPConn) {
			_, _ = conn.Read(make([]byte, 4096))
			reset(conn)
		}, "GET / HTTP/1.1\r\nHost: " + ocppName + "\r\n\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, "127.0.0.1:0", tt.serve)
			h := newHouse(t, b.port, func(_ *Config, r *[]policy.Rule) {
				*r = append(*r, policy.Rule{Name: ocppName, Ports: []uint16{b.port}, Plain: true, Reason: "test"})
			}).open()
			conn := h.call()
			hello := []byte(tt.hello)
			if len(hello) == 0 {
				hello = helloTo(t, apiName)
			}
			if _, err := conn.Write(hello); err != nil {
				t.Fatal(err)
			}
			_, err := io.Copy(io.Discard, conn)
			conn.Close()
			h.emptied(t)
			if r := h.says(event.EgressEnded); errors.Is(err, unix.ECONNRESET) != strings.Contains(r.Field("REASON"), "reset") {
				t.Errorf("the charger saw %v, but it was said that %s", err, r.Message)
			}
			if tt.want == "" {
				if n := h.said(event.EgressUnreachable); n != 0 {
					t.Errorf("said %d times that it is unreachable", n)
				}
			} else if r := h.says(event.EgressUnreachable); r.Field("CAUSE") != causeTLS || r.Field("ERROR") != tt.want {
				t.Errorf("said %q", r.Message)
			}
		})
	}
}
