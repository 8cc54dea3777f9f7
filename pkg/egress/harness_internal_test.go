package egress

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"golang.org/x/sys/unix"
)

// names is a resolver that knows what it is told.
type names struct {
	err atomic.Pointer[error]

	mu    sync.Mutex
	addrs map[string][]netip.Addr
	at    map[netip.Addr][]string
}

func (n *names) resolve(name string, addrs ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs[name] = addrs
}

func (n *names) remember(addr netip.Addr, names ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at[addr] = names
}

func (n *names) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	if p := n.err.Load(); p != nil {
		return nil, *p
	}
	if network != "ip4" {
		return nil, errors.New("asked for " + network)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addrs[host], nil
}

// Known knows what LookupNetIP does, unless every call is to go the long way.
func (n *names) Known(host string) []netip.Addr {
	if *long || n.err.Load() != nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addrs[host]
}

// long has no call go straight, so that what is tested of those is tested of both.
var long = flag.Bool("long", false, "have every call go the long way")

// NamesAt returns what was remembered, for whomever.
func (n *names) NamesAt(_, a netip.Addr) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.at[a]
}

const (
	apiName  = "api.zaptec.com"
	ocppName = "ocpp.example.com"
)

var (
	home    = netip.MustParseAddr("127.0.0.1")
	asked   = netip.MustParseAddr("192.0.2.10") // what chargers dial: never reached
	p107    = charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 7}
	patient = 10 * time.Second
)

// A house is the whole room on loopback, with a server behind it.
type house struct {
	*Server
	t     testing.TB
	names *names
	log   *event.Log
	book  *charger.Book
	moved chan charger.Stage
	to    atomic.Pointer[netip.AddrPort] // where callers "wanted to go"
	addr  string                         // where the room listens
	stop  func() error                   // ends Serve and returns its error
	ended func() error                   // waits for the end of Serve and returns its error
	after time.Duration                  // how old a conversation is given that is not made to last
}

type change func(*Config, *[]policy.Rule)

// newHouse opens a room whose list holds apiName, and the hub, on the port
// given. Names lead to 127.0.0.1; callers are P1-07.
func newHouse(t testing.TB, port uint16, changes ...change) *house {
	t.Helper()
	cfg := Config{
		Listen:   []netip.AddrPort{netip.AddrPortFrom(home, 0)},
		Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}
	rules := []policy.Rule{
		{Name: apiName, Ports: []uint16{port}, Reason: "test"},
		{Name: policy.Hub, Ports: []uint16{policy.HubPort}, Reason: "test"},
	}
	for _, c := range changes {
		c(&cfg, &rules)
	}
	list, err := policy.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, moved: make(chan charger.Stage, 100),
		names: &names{addrs: map[string][]netip.Addr{apiName: {home}, ocppName: {home}, policy.Hub: {home}}, at: map[netip.Addr][]string{}}}
	h.to.Store(new(netip.AddrPortFrom(asked, port)))
	h.book = charger.NewBook(charger.Inventory{p107: {MAC: p107, Name: "P1-07", Network: "P1"}},
		func(_ charger.Charger, _, to charger.Stage) { h.moved <- to })
	h.book.Leased(p107, "P1", home, true, time.Now())
	<-h.moved
	h.log = event.New(event.Options{Level: event.Debug, Keep: 1000, Who: func([6]byte, netip.Addr) event.Subject {
		return event.Subject{Charger: "P1-07"}
	}})
	h.Server = New(cfg, list, h.names, h.book, nil, h.log)
	h.original = func(int) (netip.AddrPort, error) { return *h.to.Load(), nil }
	h.wayOut = func() bool { return true }
	h.dialler.mayDial = func(netip.Addr) error { return nil }
	h.dialler.outside = h.dialler.mayDial
	return h
}

// open lets the room work until the test ends.
func (h *house) open() *house {
	h.t.Helper()
	if err := h.Listen(); err != nil {
		h.t.Fatal(err)
	}
	h.addr = h.Addrs()[0].String()
	if h.keeper != nil {
		h.keeper.after = h.after
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Serve(ctx) }()
	var ended bool
	h.ended = func() error {
		if ended {
			return nil
		}
		ended = true
		select {
		case err := <-done:
			return err
		case <-time.After(4 * time.Second): // run.Grace
			return errors.New("Serve did not end within 4 s")
		}
	}
	h.stop = func() error {
		cancel()
		return h.ended()
	}
	h.t.Cleanup(func() {
		if err := h.stop(); err != nil {
			h.t.Error(err)
		}
	})
	return h
}

// call connects as a charger does.
func (h *house) call() *net.TCPConn {
	h.t.Helper()
	conn, err := h.dial(home.String())
	if err != nil {
		h.t.Fatal(err)
	}
	return conn
}

func (h *house) dial(from string) (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp4", h.addr)
	if err != nil {
		return nil, err
	}
	h.t.Cleanup(func() { conn.Close() })
	deadline(h.t, conn)
	return conn.(*net.TCPConn), nil
}

// wantTurnedAway calls and expects a reset without a word. It may come before
// the caller knows that it was connected.
func (h *house) wantTurnedAway(from string) {
	h.t.Helper()
	conn, err := h.dial(from)
	if errors.Is(err, unix.ECONNRESET) {
		return
	}
	if err != nil {
		h.t.Fatal(err)
	}
	wantReset(h.t, conn)
}

func deadline(t testing.TB, conn net.Conn) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(patient)); err != nil {
		t.Fatal(err)
	}
}

// says returns the events of a kind, waiting until there is one.
func (h *house) says(k *event.Kind) event.Record {
	h.t.Helper()
	var found event.Record
	eventually(h.t, k.ID, func() bool {
		for _, r := range h.log.Recent(0, "") {
			if r.Kind == k {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

// how many events of a kind were said.
func (h *house) said(k *event.Kind) int {
	n := 0
	for _, r := range h.log.Recent(0, "") {
		if r.Kind == k {
			n++
		}
	}
	return n
}

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patient); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// wantReset reads until the connection ends and expects a TCP reset.
func wantReset(t testing.TB, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the connection ended with %v, want a reset", err)
	}
}

// A backend is a server in the cloud: each of its connections goes to serve.
type backend struct {
	l    *net.TCPListener
	port uint16
}

func newBackend(t testing.TB, addr string, serve func(*net.TCPConn)) *backend {
	t.Helper()
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn.(*net.TCPConn))
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return &backend{l.(*net.TCPListener), l.Addr().(*net.TCPAddr).AddrPort().Port()}
}

// echo gives everything back and hangs up when the caller does.
func echo(conn *net.TCPConn) {
	defer conn.Close()
	_, _ = io.Copy(conn, conn)
}

// tlsEcho is echo behind TLS.
func tlsEcho(cfg *tls.Config) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		defer conn.Close()
		c := tls.Server(conn, cfg)
		_, _ = io.Copy(c, c)
		_ = c.CloseWrite()
	}
}

// authority makes a certificate for the names, and a pool that trusts it.
func authority(t testing.TB, names ...string) (server *tls.Config, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: names,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}

// helloTo is the first flight of a TLS client that asks for name.
func helloTo(t testing.TB, name string) []byte {
	t.Helper()
	client, server := net.Pipe()
	got := make(chan []byte, 1)
	go func() {
		b := make([]byte, 16<<10)
		n, err := io.ReadAtLeast(server, b, 5)
		if err == nil {
			want := 5 + int(b[3])<<8 + int(b[4])
			if n < want {
				_, err = io.ReadFull(server, b[n:want])
				n = want
			}
		}
		server.Close()
		if err != nil {
			n = 0
		}
		got <- b[:n]
	}()
	_ = tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: name == ""}).Handshake()
	client.Close()
	b := <-got
	if len(b) == 0 || name != "" && !strings.Contains(string(b), name) {
		t.Fatalf("no hello for %q", name)
	}
	return b
}

// cameIn is the address that a connection came in on.
func cameIn(t testing.TB, fd int) netip.AddrPort {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Error(err)
		return netip.AddrPort{}
	}
	in := sa.(*unix.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port))
}
