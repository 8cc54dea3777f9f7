package egress

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if inside() {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// A charger reaches an allowed name: TLS from end to end, certificate checked.
func TestAllowedName(t *testing.T) {
	server, roots := authority(t, apiName)
	for _, max := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(max), func(t *testing.T) {
			b := newBackend(t, "127.0.0.1:0", tlsEcho(server))
			h := newHouse(t, b.port).open()
			c := tls.Client(h.call(), &tls.Config{ServerName: apiName, RootCAs: roots, MaxVersion: max})
			if _, err := c.Write([]byte("firmware, please")); err != nil {
				t.Fatal(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			if err != nil || string(got) != "firmware, please" {
				t.Fatalf("%q, %v", got, err)
			}
			c.Close()
			ended := h.says(event.EgressEnded)
			if ended.Field("NAME") != apiName || ended.Field("REASON") != "the charger hung up" && ended.Field("REASON") != "the server hung up" {
				t.Errorf("said %q", ended.Message)
			}
			st := h.book.All(time.Now())[0]
			if st.Up < 200 || st.Down < 500 || st.Connects != 1 {
				t.Errorf("the book has %d bytes up, %d down, %d conversations", st.Up, st.Down, st.Connects)
			}
			if up, down := h.counts.up.Load(), h.counts.down.Load(); up != st.Up || down != st.Down {
				t.Errorf("counted %d and %d, the book has %d and %d", up, down, st.Up, st.Down)
			}
		})
	}
}

// However a hello is cut, the server gets the very same bytes.
func TestHelloInPieces(t *testing.T) {
	hello := helloTo(t, apiName)
	for _, size := range []int{1, 7, 100, 5000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			got := make(chan []byte, 1)
			b := newBackend(t, "127.0.0.1:0", func(conn *net.TCPConn) {
				defer conn.Close()
				all, _ := io.ReadAll(conn)
				got <- all
			})
			h := newHouse(t, b.port).open()
			conn := h.call()
			sent := append(bytes.Clone(hello), "and what comes behind it"...)
			for rest := sent; len(rest) > 0; {
				n := min(size, len(rest))
				if _, err := conn.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if err := conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(<-got, sent) {
				t.Error("the server got other bytes than the charger sent")
			}
		})
	}
}

// Refusals are told at once, each in its way, and written in the charger's name.
func TestRefusals(t *testing.T) {
	plainRule := func(_ *Config, r *[]policy.Rule) {
		*r = append(*r, policy.Rule{Name: ocppName, Ports: []uint16{8080}, Plain: true, Reason: "test"})
	}
	tests := []struct {
		name  string
		port  uint16
		input []byte
		end   string // alert or reset
		kind  *event.Kind
		text  string
		book  string
	}{
		{"another name", 443, helloTo(t, "evil.example"), "alert", event.EgressNameRefused,
			"P1-07 was refused evil.example on port 443: the name is not on the list", "name evil.example on port 443"},
		{"an allowed name on the wrong port", 8883, helloTo(t, apiName), "alert", event.EgressPortRefused,
			"P1-07 was refused api.zaptec.com on port 8883: that name is allowed on port 443 only", "name api.zaptec.com on port 8883"},
		{"no name", 443, helloTo(t, ""), "alert", event.EgressNamelessRefused,
			"P1-07 was refused 192.0.2.10:443: it named no server, and no allowed name has this address", "192.0.2.10:443 without a name"},
		{"HTTP on a TLS port", 443, []byte("GET / HTTP/1.1\r\nHost: api.zaptec.com\r\n\r\n"), "reset", event.EgressPlainRefused,
			"P1-07 was refused api.zaptec.com on port 443: it speaks plain HTTP where only TLS is allowed", "api.zaptec.com on port 443 without TLS"},
		{"SSH on a TLS port", 443, []byte("SSH-2.0-x\r\n"), "reset", event.EgressPlainRefused,
			"P1-07 was refused 192.0.2.10:443: it speaks SSH where only TLS is allowed", "192.0.2.10:443 without TLS"},
		{"MQTT without TLS", 8883, []byte("\x10\x1a\x00\x04MQTT\x04\x02\x00\x3c\x00\x0echarger-000001"), "reset", event.EgressPlainRefused,
			"P1-07 was refused 192.0.2.10:8883: it speaks MQTT without TLS where only TLS is allowed", "192.0.2.10:8883 without TLS"},
		{"a name with a NUL", 443, vector(t, "nul.bin"), "alert", event.EgressNameRefused,
			`P1-07 was refused api.zaptec.com\x00.evil.example on port 443: the name is not on the list`, `name api.zaptec.com\x00.evil.example on port 443`},
		{"two names", 443, vector(t, "two-names.bin"), "reset", event.EgressHelloFailed,
			"P1-07 called 192.0.2.10:443, but its first message could not be used: the first message is malformed", ""},
		{"a dot at the end", 443, vector(t, "openssl-dot.bin"), "reset", event.EgressHelloFailed,
			"P1-07 called 192.0.2.10:443, but its first message could not be used: the first message is malformed", ""},
		{"an address for a name", 443, vector(t, "openssl-address.bin"), "alert", event.EgressNamelessRefused,
			"P1-07 was refused 192.0.2.10:443: it named no server, and no allowed name has this address", "192.0.2.10:443 without a name"},
		{"a request to a web proxy", 8080, vector(t, "curl-proxy.bin"), "reset", event.EgressHelloFailed,
			"P1-07 called 192.0.2.10:8080, but its first message could not be used: the caller asks for a web proxy, and there is none here", ""},
		{"another Host on a plain port", 8080, []byte("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"), "reset", event.EgressNameRefused,
			"P1-07 was refused evil.example on port 8080: the name is not on the list", "name evil.example on port 8080"},
		{"something unknown on a plain port, to an unknown address", 8080, []byte{0x10, 0}, "reset", event.EgressNamelessRefused,
			"P1-07 was refused 192.0.2.10:8080: it named no server, and no allowed name has this address", "192.0.2.10:8080 without a name"},
		{"a hello of nonsense", 443, []byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"), "reset", event.EgressHelloFailed,
			"P1-07 called 192.0.2.10:443, but its first message could not be used: the first message is malformed", ""},
		{"a hello without end", 443, append([]byte("\x16\x03\x01\x40\x00\x01\x00\xff\x00"), make([]byte, 20000)...), "reset", event.EgressHelloFailed,
			"P1-07 called 192.0.2.10:443, but its first message could not be used: the first message is too long", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHouse(t, 443, plainRule).open()
			h.to.Store(new(netip.AddrPortFrom(asked, tt.port)))
			conn := h.call()
			if _, err := conn.Write(tt.input); err != nil {
				t.Fatal(err)
			}
			switch tt.end {
			case "alert":
				got, err := io.ReadAll(conn)
				if want := []byte{21, 3, 3, 0, 2, 2, 112}; err != nil || !bytes.Equal(got, want) {
					t.Errorf("heard % x, %v; want % x and the end", got, err, want)
				}
			default:
				wantReset(t, conn)
			}
			if r := h.says(tt.kind); r.Message != tt.text {
				t.Errorf("said %q\nwant %q", r.Message, tt.text)
			}
			if got := h.book.All(time.Now())[0].Refused; got != tt.book {
				t.Errorf("the book says %q, want %q", got, tt.book)
			}
		})
	}
}

// vector is a message of the corpus of package hello.
func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("../hello/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A hello that never ends costs its patience and no more, and is told in the
// charger's name.
func TestHelloThatNeverEnds(t *testing.T) {
	h := newHouse(t, 443, func(c *Config, _ *[]policy.Rule) { c.HelloTimeout = 100 * time.Millisecond }).open()
	for _, sent := range [][]byte{nil, vector(t, "unfinished.bin"), []byte("GET / HTTP/1.1\r\nHost: api")} {
		conn := h.call()
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		wantReset(t, conn)
	}
	if r := h.says(event.EgressHelloFailed); r.Message != "P1-07 called 192.0.2.10:443, but its first message could not be used: the caller did not finish its first message within 100ms" {
		t.Errorf("said %q", r.Message)
	}
	if n := h.counts.results[resultHelloFailed].Load(); n != 3 {
		t.Errorf("%d counted", n)
	}
}

// A hidden name is reached by the outer one, and said once.
func TestHidden(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	h := newHouse(t, b.port, func(_ *Config, r *[]policy.Rule) {
		*r = append(*r, policy.Rule{Name: "outer.example", Ports: []uint16{b.port}, Reason: "a test's"})
	}).open()
	h.names.resolve("outer.example", home)
	hidden := vector(t, "go-ech.bin")
	for range 3 {
		conn := h.call()
		if _, err := conn.Write(hidden); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(hidden))
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, hidden) {
			t.Errorf("other bytes came back than were sent, %v", err)
		}
		conn.Close()
	}
	if r := h.says(event.EgressHidden); r.Message != "P1-07 may hide a name behind outer.example (ECH)" || h.said(event.EgressHidden) != 1 {
		t.Errorf("said %d times: %q", h.said(event.EgressHidden), r.Message)
	}
	if r := h.says(event.EgressOpened); r.Field("RULE") != "outer.example" || r.Field("WHY") != "a test's" {
		t.Errorf("allowed by %q because of %q", r.Field("RULE"), r.Field("WHY"))
	}
}

// A real TLS client understands the alert.
func TestAlertIsUnderstood(t *testing.T) {
	h := newHouse(t, 443).open()
	for _, max := range []uint16{tls.VersionTLS10, tls.VersionTLS12, tls.VersionTLS13} {
		err := tls.Client(h.call(), &tls.Config{ServerName: "evil.example", MinVersion: tls.VersionTLS10, MaxVersion: max}).Handshake()
		if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%s: %v, want unrecognized name", tls.VersionName(max), err)
		}
	}
}

// The same refusal is written once an hour, and one charger cannot fill the log.
func TestRefusalsAreLimited(t *testing.T) {
	h := newHouse(t, 443).open()
	for i := range maxRefusals + 10 {
		conn := h.call()
		if _, err := conn.Write(helloTo(t, fmt.Sprintf("n%d.evil.example", i))); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(conn)
		conn.Close()
	}
	eventually(t, "the last refusal", func() bool { return h.counts.results[resultUnknownName].Load() == maxRefusals+10 })
	if n := h.said(event.EgressNameRefused); n != maxRefusals {
		t.Errorf("%d refusals written, want %d", n, maxRefusals)
	}
	if n := h.said(event.EgressManyRefusals); n != 1 {
		t.Errorf("the end of writing was said %d times", n)
	}
}

// Plain OCPP goes by the Host, on its port only.
func TestPlainByHost(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	h := newHouse(t, 443, func(_ *Config, r *[]policy.Rule) {
		*r = append(*r, policy.Rule{Name: ocppName, Ports: []uint16{b.port}, Plain: true, Reason: "test"})
	}).open()
	h.to.Store(new(netip.AddrPortFrom(asked, b.port)))
	conn := h.call()
	request := "GET /ocpp HTTP/1.1\r\nHost: OCPP.example.com:8080\r\nUpgrade: websocket\r\n\r\nframes"
	if _, err := conn.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(request))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != request {
		t.Errorf("%q, %v", got, err)
	}
	if r := h.says(event.EgressOpened); r.Field("BY") != byHost || r.Field("NAME") != ocppName {
		t.Errorf("said %q by %q", r.Message, r.Field("BY"))
	}
}

// Whatever cannot be dialled is a reset at once, one event for all chargers,
// and one when it is over.
func TestUnreachable(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	b.l.Close() // its port is closed now
	h := newHouse(t, b.port).open()
	for range 3 {
		conn := h.call()
		if _, err := conn.Write(helloTo(t, apiName)); err != nil {
			t.Fatal(err)
		}
		wantReset(t, conn)
	}
	r := h.says(event.EgressUnreachable)
	if h.said(event.EgressUnreachable) != 1 || r.Field("CAUSE") != causeTCP || !strings.Contains(r.Field("ERROR"), "refused") {
		t.Errorf("said %d times: %q", h.said(event.EgressUnreachable), r.Message)
	}
	if got := h.book.All(time.Now())[0].Unreachable; got != fmt.Sprintf("%s on port %d (no server takes the connection)", apiName, b.port) {
		t.Errorf("the book says %q is unreachable", got)
	}
	newBackend(t, b.l.Addr().String(), echo)
	conn := h.call()
	if _, err := conn.Write(helloTo(t, apiName)); err != nil {
		t.Fatal(err)
	}
	if r := h.says(event.EgressRestored); r.Field("FAILED") != "3" || h.outages.count() != 0 {
		t.Errorf("said %q, %d names out", r.Message, h.outages.count())
	}
}

func TestUnreachableByName(t *testing.T) {
	h := newHouse(t, 443).open()
	err := errors.New("no upstream answers")
	h.names.err.Store(&err)
	conn := h.call()
	if _, err := conn.Write(helloTo(t, apiName)); err != nil {
		t.Fatal(err)
	}
	wantReset(t, conn)
	if r := h.says(event.EgressUnreachable); r.Field("CAUSE") != causeDNS {
		t.Errorf("said %q", r.Message)
	}
}

// A DNS answer cannot turn the proxy against the house.
func TestInsideIsNotDialled(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", func(conn *net.TCPConn) { t.Error("the house was dialled"); conn.Close() })
	h := newHouse(t, b.port)
	h.dialler.mayDial = newDialler(h.cfg, h.names).mayDial
	h.open()
	conn := h.call()
	if _, err := conn.Write(helloTo(t, apiName)); err != nil {
		t.Fatal(err)
	}
	wantReset(t, conn)
	if r := h.says(event.EgressUnreachable); r.Field("CAUSE") != causeAddress {
		t.Errorf("said %q", r.Message)
	}
}

// Each side may stop speaking and still hear the other out.
func TestHalfClose(t *testing.T) {
	hello := helloTo(t, apiName)
	answer := bytes.Repeat([]byte("x"), 300_000)
	t.Run("the charger first", func(t *testing.T) {
		b := newBackend(t, "127.0.0.1:0", func(conn *net.TCPConn) {
			defer conn.Close()
			_, _ = io.Copy(io.Discard, conn) // until it hangs up
			_, _ = conn.Write(answer)
		})
		conn := newHouse(t, b.port).open().call()
		if _, err := conn.Write(hello); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || len(got) != len(answer) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("the server first", func(t *testing.T) {
		got := make(chan int64, 1)
		b := newBackend(t, "127.0.0.1:0", func(conn *net.TCPConn) {
			defer conn.Close()
			_ = conn.CloseWrite()
			n, _ := io.Copy(io.Discard, conn)
			got <- n
		})
		conn := newHouse(t, b.port).open().call()
		if _, err := conn.Write(hello); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatalf("%d, %v; want the end", n, err)
		}
		if _, err := conn.Write(answer); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if n := <-got; n != int64(len(hello)+len(answer)) {
			t.Errorf("the server got %d bytes, want %d", n, len(hello)+len(answer))
		}
	})
}

// A reset on one side is a reset on the other, at once.
func TestResetIsPassedOn(t *testing.T) {
	hello := helloTo(t, apiName)
	t.Run("of the server", func(t *testing.T) {
		b := newBackend(t, "127.0.0.1:0", func(conn *net.TCPConn) {
			_, _ = conn.Read(make([]byte, 4096))
			reset(conn)
		})
		h := newHouse(t, b.port).open()
		conn := h.call()
		if _, err := conn.Write(hello); err != nil {
			t.Fatal(err)
		}
		wantReset(t, conn)
		if r := h.says(event.EgressEnded); r.Field("REASON") != "the server reset it" {
			t.Errorf("said %q", r.Message)
		}
	})
	t.Run("of the charger", func(t *testing.T) {
		ended := make(chan error, 1)
		began := make(chan struct{})
		b := newBackend(t, "127.0.0.1:0", func(conn *net.TCPConn) {
			defer conn.Close()
			_, err := io.ReadFull(conn, make([]byte, len(hello)))
			close(began)
			if err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
			ended <- err
		})
		h := newHouse(t, b.port).open()
		conn := h.call()
		if _, err := conn.Write(hello); err != nil {
			t.Fatal(err)
		}
		<-began
		reset(conn)
		if err := <-ended; !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the server saw %v, want a reset", err)
		}
		if r := h.says(event.EgressEnded); r.Field("REASON") != "the charger reset it" {
			t.Errorf("said %q", r.Message)
		}
	})
	t.Run("of a server that had hung up, to a charger that is silent", func(t *testing.T) {
		hung, die := make(chan struct{}), make(chan struct{})
		b := newBackend(t, "127.0.0.1:0", func(conn *net.TCPConn) {
			_, _ = conn.Read(make([]byte, 4096))
			_ = conn.CloseWrite()
			close(hung)
			<-die
			reset(conn)
		})
		h := newHouse(t, b.port).open()
		conn := h.call()
		if _, err := conn.Write(hello); err != nil {
			t.Fatal(err)
		}
		<-hung
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatalf("%d, %v; want the end", n, err)
		}
		close(die)
		// The charger has read the end of its stream; that it is over altogether
		// shows when it writes.
		eventually(t, "the reset", func() bool { _, err := conn.Write([]byte("x")); return err != nil })
	})
}

// Idle limits: a short one for firmware, a long one for the hub, and short for
// everybody of whom half has hung up.
func TestIdle(t *testing.T) {
	hold := func(conn *net.TCPConn) { defer conn.Close(); _, _ = io.Copy(io.Discard, conn) }
	api := newBackend(t, "127.0.0.1:0", hold)
	hubAt := netip.AddrFrom4([4]byte{127, 201, byte(os.Getpid() >> 8), byte(os.Getpid())})
	newBackend(t, netip.AddrPortFrom(hubAt, policy.HubPort).String(), hold)
	h := newHouse(t, api.port)
	h.names.resolve(policy.Hub, hubAt)
	h.open()
	start := time.Now()
	short := h.call()
	if _, err := short.Write(helloTo(t, apiName)); err != nil {
		t.Fatal(err)
	}
	h.says(event.EgressOpened)
	h.to.Store(new(netip.AddrPortFrom(asked, policy.HubPort)))
	lasting := h.call()
	if _, err := lasting.Write(helloTo(t, policy.Hub)); err != nil {
		t.Fatal(err)
	}
	open := func() int { h.mu.Lock(); defer h.mu.Unlock(); return len(h.Server.open) }
	eventually(t, "both conversations", func() bool { return open() == 2 && h.said(event.EgressOpened) == 2 })

	h.look(time.Now()) // the hellos are in the meters
	h.look(start.Add(4 * time.Minute))
	if open() != 2 {
		t.Fatal("ended before its time")
	}
	h.look(time.Now().Add(6 * time.Minute))
	if _, err := short.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the short one ended with %v, want an end", err)
	}
	eventually(t, "one conversation left", func() bool { return open() == 1 })
	h.look(start.Add(59 * time.Minute))
	if open() != 1 {
		t.Fatal("the lasting one ended before its time")
	}
	h.look(time.Now().Add(61 * time.Minute))
	if _, err := lasting.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the lasting one ended with %v, want an end", err)
	}
}

// Who says nothing is reset when its time is over.
func TestSilentCaller(t *testing.T) {
	h := newHouse(t, 443, func(c *Config, _ *[]policy.Rule) { c.HelloTimeout = 50 * time.Millisecond }).open()
	conn := h.call()
	wantReset(t, conn)
	slow := h.call()
	if _, err := slow.Write(helloTo(t, apiName)[:100]); err != nil {
		t.Fatal(err)
	}
	wantReset(t, slow)
	if r := h.says(event.EgressHelloFailed); r.Field("ERROR") != "the caller did not finish its first message within 50ms" {
		t.Errorf("said %q", r.Message)
	}
	eventually(t, "free places", func() bool { return h.places.open() == 0 })
}

// At a limit the newest is refused, and a place that is given back can be taken.
func TestLimits(t *testing.T) {
	h := newHouse(t, 443, func(c *Config, _ *[]policy.Rule) { c.PerCharger, c.Total = 2, 3 }).open()
	from := func(host string) *net.TCPConn {
		conn, err := h.dial(host)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	first := from("127.0.0.1")
	from("127.0.0.1")
	h.wantTurnedAway("127.0.0.1")
	h.says(event.EgressChargerLimit)
	if n := h.said(event.EgressLeaselessLimit); n != 0 {
		t.Errorf("%d lines about a lease that is there", n)
	}
	from("127.0.0.9")
	h.wantTurnedAway("127.0.0.10")
	h.says(event.EgressTotalLimit)
	first.Close()
	eventually(t, "a free place", func() bool { return h.places.open() == 2 })
	from("127.0.0.1")
	eventually(t, "all places taken", func() bool { return h.places.open() == 3 })
}

// A device that takes every free address of its subnet gets no more places than
// one charger, leaves the chargers theirs, and makes one line for each network.
func TestOneDeviceWithManyAddresses(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	h := newHouse(t, b.port, func(c *Config, _ *[]policy.Rule) {
		c.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/24"), netip.MustParsePrefix("127.0.1.0/24")}
		c.PerCharger, c.Total = 8, 64
	})
	p108 := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 8}
	h.book.Leased(p108, "P1", netip.MustParseAddr("127.0.0.200"), true, time.Now())
	h.open()
	for host := 2; host < 85; host++ {
		for range 8 {
			// A reset may come before the caller knows that it was connected.
			if _, err := h.dial(fmt.Sprintf("127.0.0.%d", host)); err != nil && !errors.Is(err, unix.ECONNRESET) {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "the last of them", func() bool {
		return h.counts.results[resultLeaselessLimit].Load() == 83*8-8
	})
	if n := h.places.open(); n != 8 {
		t.Errorf("it holds %d places", n)
	}
	hello := helloTo(t, apiName)
	for _, host := range []string{"127.0.0.1", "127.0.0.200", "127.0.1.7"} { // the last has no lease, in another network
		conn, err := h.dial(host)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(hello); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, len(hello))); err != nil {
			t.Errorf("%s was not served: %v", host, err)
		}
	}
	r := h.says(event.EgressLeaselessLimit)
	if want := "127.0.0.3 was refused a conversation: those in 127.0.0.0/24 who hold no lease may have 8 open together, and one device half of them"; r.Message != want {
		t.Errorf("said %q, want %q", r.Message, want)
	}
	if n := h.said(event.EgressLeaselessLimit); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// A place goes back to the share it came from, also when the caller is leased
// its address meanwhile; and a MAC has a share on each network.
func TestShares(t *testing.T) {
	h := newHouse(t, 443, func(c *Config, _ *[]policy.Rule) { c.PerCharger = 1 })
	stranger := netip.MustParseAddr("127.0.0.9")
	before := h.shareOf(stranger)
	if before.leased() || before.whole() != h.shareOf(netip.MustParseAddr("127.9.9.9")).whole() {
		t.Errorf("%v is no share of all who have no lease", before)
	}
	if outside := h.shareOf(netip.MustParseAddr("192.0.2.1")); outside != (share{}) {
		t.Errorf("%v for somebody from elsewhere", outside)
	}
	if h.places.take(before, false) != placeTaken || h.places.take(before, false) != shareFull {
		t.Error("the share has not one place")
	}
	h.book.Leased(p107, "P1", stranger, true, time.Now())
	if now := h.shareOf(stranger); now.mac != p107 || now.network != before.network || h.places.take(now, true) != placeTaken {
		t.Errorf("the leased address counts to %v", now)
	}
	h.places.give(before)
	h.places.give(share{mac: p107, network: before.network})
	if h.places.open() != 0 || len(h.places.held) != 0 {
		t.Errorf("left over: %v", h.places.held)
	}
}

// Both legs are ready for a long, quiet life on a radio link.
func TestBothLegsAreTuned(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	h := newHouse(t, b.port).open()
	conn := h.call()
	hello := helloTo(t, apiName)
	if _, err := conn.Write(hello); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len(hello))); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.Server.open) != 1 {
		t.Fatalf("%d conversations", len(h.Server.open))
	}
	for c := range h.Server.open {
		for leg, name := range []string{"to the charger", "to the server"} {
			got := map[string]int{}
			for _, o := range []struct {
				name       string
				level, opt int
			}{
				{"keep-alive", unix.SOL_SOCKET, unix.SO_KEEPALIVE},
				{"first probe after, s", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
				{"between probes, s", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
				{"probes", unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
				{"user timeout, ms", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
				{"no delay", unix.IPPROTO_TCP, unix.TCP_NODELAY},
			} {
				v, err := unix.GetsockoptInt(c.pair.Sockets[leg], o.level, o.opt)
				if err != nil {
					t.Errorf("%s: %v", o.name, err)
				}
				got[o.name] = v
			}
			want := map[string]int{"keep-alive": 1, "first probe after, s": 60, "between probes, s": 15, "probes": 4,
				"user timeout, ms": 120_000, "no delay": 1}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the leg %s (-want +got):\n%s", name, diff)
			}
		}
	}
}

// The proxy itself cannot be called, nor by somebody from outside.
func TestDirectAndOutsider(t *testing.T) {
	h := newHouse(t, 443)
	h.original = originalDestination // the real one: nobody redirected anything
	h.open()
	h.wantTurnedAway("127.0.0.1")
	h.says(event.EgressDirectRefused)

	h = newHouse(t, 443)
	h.original = func(fd int) (netip.AddrPort, error) { return cameIn(t, fd), nil }
	h.open()
	h.wantTurnedAway("127.0.0.1")
	h.says(event.EgressDirectRefused)

	h = newHouse(t, 443, func(c *Config, _ *[]policy.Rule) {
		c.Networks = []netip.Prefix{netip.MustParsePrefix("10.83.0.0/24")}
	}).open()
	h.wantTurnedAway("127.0.0.1")
	h.says(event.EgressOutsiderRefused)
}

// The ladder shows ok with the first byte of the hub, not with the next tick.
func TestHubIsOnline(t *testing.T) {
	hubAt := netip.AddrFrom4([4]byte{127, 202, byte(os.Getpid() >> 8), byte(os.Getpid())})
	newBackend(t, netip.AddrPortFrom(hubAt, policy.HubPort).String(), echo)
	h := newHouse(t, 443)
	h.names.resolve(policy.Hub, hubAt)
	h.to.Store(new(netip.AddrPortFrom(asked, policy.HubPort)))
	h.open()
	conn := h.call()
	if _, err := conn.Write(helloTo(t, "")); err != nil { // without a name: only the hub is meant here
		t.Fatal(err)
	}
	if stage := <-h.moved; stage != charger.OK {
		t.Errorf("stage %q", stage)
	}
	if r := h.says(event.EgressOpened); r.Field("BY") != byHub || r.Field("NAME") != policy.Hub {
		t.Errorf("said %q by %q", r.Message, r.Field("BY"))
	}
	conn.Close()
	if stage := <-h.moved; stage == charger.OK {
		t.Errorf("stage %q after the end", stage)
	}
}

// A fault of ours costs the call it happened in, and nothing else.
func TestPanic(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	h := newHouse(t, b.port)
	calls := 0
	h.original = func(int) (netip.AddrPort, error) {
		if calls++; calls == 1 {
			panic("a test's own")
		}
		return *h.to.Load(), nil
	}
	h.open()
	h.wantTurnedAway("127.0.0.1")
	if r := h.says(event.PanicRecovered); r.Field("SERVICE") != "egress" || r.Field("STACK") == "" {
		t.Errorf("said %q", r.Message)
	}
	conn := h.call()
	hello := helloTo(t, apiName)
	if _, err := conn.Write(hello); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len(hello))); err != nil {
		t.Error(err)
	}
}

// The end: open conversations are reset, everything is waited for, and the
// room can be opened again.
func TestStop(t *testing.T) {
	ended := make(chan error, 1)
	b := newBackend(t, "127.0.0.1:0", func(conn *net.TCPConn) {
		defer conn.Close()
		_, err := io.Copy(io.Discard, conn)
		ended <- err
	})
	h := newHouse(t, b.port).open()
	conn, silent := h.call(), h.call()
	if _, err := conn.Write(helloTo(t, apiName)); err != nil {
		t.Fatal(err)
	}
	h.says(event.EgressOpened)
	eventually(t, "the silent one", func() bool { return h.places.open() == 2 })
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	wantReset(t, conn)
	wantReset(t, silent)
	if err := <-ended; !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the server saw %v, want a reset", err)
	}
	if r := h.says(event.EgressEnded); r.Field("REASON") != "the gateway stops" {
		t.Errorf("said %q", r.Message)
	}
	h.open()
	if _, err := h.call().Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

// Large amounts arrive whole, past a slow reader, in both directions at once.
func TestBulk(t *testing.T) {
	const size = 24 << 20
	data := make([]byte, size)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(data)
	b := newBackend(t, "127.0.0.1:0", echo)
	h := newHouse(t, 443, func(_ *Config, r *[]policy.Rule) {
		*r = append(*r, policy.Rule{Name: ocppName, Ports: []uint16{b.port}, Plain: true, Reason: "test"})
	}).open()
	h.to.Store(new(netip.AddrPortFrom(asked, b.port)))
	h.names.remember(asked, ocppName)
	conn := h.call()
	if err := conn.SetReadBuffer(256 << 10); err != nil {
		t.Fatal(err)
	}
	data[0], data[1] = 0, 0 // neither TLS nor HTTP
	want = sha256.Sum256(data)
	go func() {
		_, _ = conn.Write(data)
		_ = conn.CloseWrite()
	}()
	sum := sha256.New()
	if n, err := io.CopyBuffer(sum, struct{ io.Reader }{conn}, make([]byte, 1000)); err != nil || n != size {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Error("other bytes came back than were sent")
	}
	h.says(event.EgressEnded)
	if st := h.book.All(time.Now())[0]; st.Up != size || st.Down != size {
		t.Errorf("the book has %d up, %d down, want %d", st.Up, st.Down, size)
	}
}

// shelf is a store of descriptors for tests. Like systemd's it holds copies of
// its own, which go on listening whatever becomes of the room's.
type shelf map[string]*os.File

func newShelf(t *testing.T) shelf {
	s := shelf{}
	t.Cleanup(func() {
		for _, f := range s {
			f.Close()
		}
	})
	return s
}

// It keeps no conversations.
func (shelf) Managed() bool                 { return false }
func (shelf) Give(string, ...int) error     { return nil }
func (shelf) Remove(string) error           { return nil }
func (shelf) Given(string) map[string][]int { return nil }

func (s shelf) Take(name string) (*os.File, bool) {
	f, ok := s[name]
	if ok {
		f, ok = duplicate(f)
	}
	return f, ok
}

func (s shelf) Keep(name string, f *os.File) error {
	if old := s[name]; old != nil {
		old.Close()
	}
	s[name], _ = duplicate(f)
	return nil
}

func duplicate(f *os.File) (copied *os.File, ok bool) {
	raw, err := f.SyscallConn() // Fd would make the socket a blocking one
	if err != nil {
		return nil, false
	}
	_ = raw.Control(func(fd uintptr) {
		if fd, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			copied, ok = os.NewFile(uintptr(fd), f.Name()), true
		}
	})
	return copied, ok
}

// A caller who comes while the room is gone is served by the next one.
func TestListenerIsHandedOver(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	kept, fixed := newShelf(t), fixedAddress(t)
	h := newHouse(t, b.port, fixed)
	h.store = kept
	h.open()
	if err := h.Listen(); err != nil { // held already: nothing happens
		t.Fatal(err)
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 1 {
		t.Fatalf("%d descriptors kept", len(kept))
	}
	conn := h.call() // nobody is there, and yet nobody is turned away
	next := newHouse(t, b.port, fixed)
	next.store = kept
	next.open()
	next.says(event.HandoverTaken)
	hello := helloTo(t, apiName)
	if _, err := conn.Write(hello); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len(hello))); err != nil {
		t.Error(err)
	}
}

// fixedAddress lets a room listen where nobody does now.
func fixedAddress(t *testing.T) change {
	t.Helper()
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	at := free.Addr().(*net.TCPAddr).AddrPort()
	return func(c *Config, _ *[]policy.Rule) { c.Listen = []netip.AddrPort{at} }
}

// The supervisor begins the room anew within the process, while the store goes
// on listening: it takes its socket back, with whoever called meanwhile.
func TestBeginsAnewWithItsOwnListener(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	hello := helloTo(t, apiName)
	h := newHouse(t, b.port, fixedAddress(t))
	h.store = newShelf(t)
	h.open()
	descriptors := 0
	for turn := range 4 {
		if err := h.stop(); err != nil {
			t.Fatal(err)
		}
		waiting := h.call() // nobody serves, and yet nobody is turned away
		h.open()
		if _, err := waiting.Write(hello); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(waiting, make([]byte, len(hello))); err != nil {
			t.Fatalf("turn %d: %v", turn, err)
		}
		waiting.Close()
		eventually(t, "the end of the conversation", func() bool { return h.places.open() == 0 })
		if turn == 1 { // both have what they need for good
			descriptors = openSockets(t)
		}
	}
	eventually(t, "as many sockets as before", func() bool { return openSockets(t) <= descriptors })
	if n := h.said(event.HandoverTaken); n != 0 {
		t.Errorf("said %d times that the process before had kept it", n)
	}
}

// openSockets counts the sockets of this process.
func openSockets(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// What was kept for another address is not used.
func TestKeptListenerMustFit(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, 443)
	h.store = shelf{storeName(h.cfg.Listen[0]): f} // 127.0.0.1:0 is not where it listens
	if err := h.Listen(); err != nil {
		t.Fatal(err)
	}
	h.says(event.HandoverUnusable)
	for _, l := range h.listeners {
		l.Close()
	}
	for _, f := range h.store.(shelf) {
		f.Close()
	}
}

func TestListenFails(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := taken.Addr().(*net.TCPAddr).AddrPort()
	h := newHouse(t, 443, func(c *Config, _ *[]policy.Rule) { c.Listen = append(c.Listen, at) })
	if err := h.Listen(); err == nil || !strings.Contains(err.Error(), at.String()) {
		t.Errorf("%v, want an error that names %s", err, at)
	}
	if err := h.Serve(context.Background()); err == nil {
		t.Error("served without its sockets")
	}
}

// IP_FREEBIND: the room listens before its interface has the address.
func TestFreebind(t *testing.T) {
	h := newHouse(t, 443, func(c *Config, _ *[]policy.Rule) {
		c.Listen = []netip.AddrPort{netip.MustParseAddrPort("198.51.100.77:0")}
	}).open()
	if got := h.Addrs()[0].Addr().String(); got != "198.51.100.77" {
		t.Errorf("listens on %s", got)
	}
}
