package status

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"
)

// ca is the authority that this test process trusts as one of the system's.
var ca authority

func TestMain(m *testing.M) {
	ca = newAuthority()
	f, err := os.CreateTemp("", "chargegate-status-roots-*.pem")
	if err != nil {
		panic(err)
	}
	f.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}))
	f.Close()
	os.Setenv("SSL_CERT_FILE", f.Name())
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.Remove(f.Name())
		os.Exit(code)
	}))
}

type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority() authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return authority{key, cert}
}

// issue makes a certificate for a name, good until the moment given.
func (a authority) issue(t *testing.T, name string, until time.Time) tls.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

// serveTLS is a server on loopback with the certificate; it shakes hands and
// closes.
func serveTLS(t *testing.T, cert tls.Certificate) netip.AddrPort {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.(*tls.Conn).HandshakeContext(context.Background())
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

var (
	mac7     = charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 7}
	mac8     = charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 8}
	stranger = charger.MAC{2, 0, 0, 0, 0, 1}
	addr7    = netip.MustParseAddr("10.83.0.7")
)

// A house is what a noticeboard shows in the tests.
type house struct {
	src  Sources
	book *charger.Book
	log  *event.Log
}

func newHouse(inv charger.Inventory) *house {
	book := charger.NewBook(inv, nil)
	list, err := policy.New(policy.Zaptec())
	if err != nil {
		panic(err)
	}
	log := event.New(event.Options{Level: event.Debug, Keep: 1000,
		Who: func(mac [6]byte, ip netip.Addr) event.Subject { return event.Subject{Charger: book.NameOf(mac)} }})
	return &house{book: book, log: log, src: Sources{
		Site: "Kungsgatan 12", Version: "1.2.3", Started: time.Now(), Book: book, List: list,
		Networks: []Network{{Name: "P1", Interface: "wlan0", Gateway: netip.MustParsePrefix("10.83.0.1/26"), Chargers: 2, SSID: "garage-p1", Channel: 6}},
	}}
}

func twoChargers() charger.Inventory {
	return charger.Inventory{mac7: {MAC: mac7, Name: "P1-07", Network: "P1"}, mac8: {MAC: mac8, Name: "P1-08", Network: "P1"}}
}

// online brings a charger all the way.
func (h *house) online(mac charger.MAC, addr netip.Addr, now time.Time) {
	h.book.Asked(mac, "P1", "Zaptec Go", now)
	h.book.Leased(mac, "P1", addr, true, now)
	h.book.Resolved(addr, now)
	h.book.Timed(addr, now)
	h.book.Opened(addr, true, now)
	h.book.Moved(addr, true, 1500, 3000, now)
}

// open serves the house on a unix socket, and returns how to ask it.
func (h *house) open(t *testing.T) *asker {
	t.Helper()
	return h.openAs(t, Config{Socket: filepath.Join(t.TempDir(), "status.sock")})
}

func (h *house) openAs(t *testing.T, cfg Config) *asker {
	t.Helper()
	s := New(cfg, h.src, h.log)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket)
	}}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	})
	return &asker{t, s, client}
}

type asker struct {
	t      *testing.T
	server *Server
	client *http.Client
}

// get asks, and reads the answer into out if there is one.
func (a *asker) get(path string, out any) int {
	a.t.Helper()
	return a.do(http.MethodGet, path, out)
}

func (a *asker) do(method, path string, out any) int {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, "http://chargegate"+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		a.t.Fatalf("%s: %v in %s", path, err, body)
	}
	return resp.StatusCode
}
