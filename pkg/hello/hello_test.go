package hello_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"chargegate/pkg/hello"

	"github.com/google/go-cmp/cmp"
)

// clientHello returns the first flight that crypto/tls sends.
func clientHello(t testing.TB, cfg *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan []byte)
	go func() {
		b := make([]byte, 64<<10)
		var got []byte
		for {
			n, err := server.Read(b)
			got = append(got, b[:n]...)
			if err != nil || whole(got) {
				break
			}
		}
		server.Close()
		done <- got
	}()
	_ = tls.Client(client, cfg).Handshake() // fails: nobody answers
	client.Close()
	return <-done
}

func whole(b []byte) bool {
	return len(b) >= 5 && len(b) >= 5+int(binary.BigEndian.Uint16(b[3:]))
}

// records cuts the handshake of a hello into records of n bytes.
func records(b []byte, n int) []byte {
	var out []byte
	for body := b[5:]; len(body) > 0; {
		k := min(n, len(body))
		out = append(out, b[0], b[1], b[2], byte(k>>8), byte(k))
		out = append(out, body[:k]...)
		body = body[k:]
	}
	return out
}

// rename puts another name of the same length into a hello.
func rename(b []byte, from, to string) []byte {
	return bytes.Replace(b, []byte(from), []byte(to), 1)
}

// chunks gives at most n bytes with each Read.
type chunks struct {
	r io.Reader
	n int
}

func (c chunks) Read(p []byte) (int, error) { return c.r.Read(p[:min(c.n, len(p))]) }

func plainConfig(name string) *tls.Config { return &tls.Config{ServerName: name} }

func TestRead(t *testing.T) {
	t.Parallel()
	const name = "api.zaptec.com"
	modern := clientHello(t, plainConfig(name))
	if len(modern) < 1400 {
		t.Fatalf("the default hello has %d bytes: it carries no ML-KEM share, the test proves too little", len(modern))
	}
	old := clientHello(t, &tls.Config{ServerName: name, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10})
	literal := clientHello(t, &tls.Config{ServerName: "192.0.2.10", InsecureSkipVerify: true})
	alpn := clientHello(t, &tls.Config{ServerName: name, NextProtos: []string{"h2", "http/1.1"}})
	mqtt := "\x10\x1a\x00\x04MQTT\x04\x02\x00\x3c\x00\x0echarger-000001"

	tests := []struct {
		name  string
		input io.Reader
		limit int
		want  hello.Hello
		err   error
	}{
		{name: "post-quantum hello", input: bytes.NewReader(modern), want: hello.Hello{Protocol: hello.TLS, ServerName: name, Version: tls.VersionTLS12}},
		{name: "in reads of 7 bytes", input: chunks{bytes.NewReader(modern), 7}, want: hello.Hello{Protocol: hello.TLS, ServerName: name, Version: tls.VersionTLS12}},
		{name: "in reads of one byte", input: iotest.OneByteReader(bytes.NewReader(modern)), want: hello.Hello{Protocol: hello.TLS, ServerName: name, Version: tls.VersionTLS12}},
		{name: "in records of one byte", input: bytes.NewReader(records(modern, 1)), want: hello.Hello{Protocol: hello.TLS, ServerName: name, Version: tls.VersionTLS12}},
		{name: "in records of 100 bytes, with more behind", input: strings.NewReader(string(records(modern, 100)) + "early data"), want: hello.Hello{Protocol: hello.TLS, ServerName: name, Version: tls.VersionTLS12}},
		{name: "TLS 1.0 only", input: bytes.NewReader(old), want: hello.Hello{Protocol: hello.TLS, ServerName: name, Version: tls.VersionTLS10}},
		{name: "ALPN", input: bytes.NewReader(alpn), want: hello.Hello{Protocol: hello.TLS, ServerName: name, Version: tls.VersionTLS12, ALPN: []string{"h2", "http/1.1"}}},
		{name: "upper case", input: bytes.NewReader(rename(modern, name, "API.Zaptec.COM")), want: hello.Hello{Protocol: hello.TLS, ServerName: name, Version: tls.VersionTLS12}},
		{name: "an address instead of a name is not sent", input: bytes.NewReader(literal), want: hello.Hello{Protocol: hello.TLS, Version: tls.VersionTLS12}},
		{name: "an address in the name's place", input: bytes.NewReader(rename(modern, name, "192.168.100.10")), want: hello.Hello{Protocol: hello.TLS, Version: tls.VersionTLS12}},
		{name: "a dot at the end is against RFC 6066", input: bytes.NewReader(rename(modern, name, "api.zaptec.co.")), want: hello.Hello{Protocol: hello.TLS, Version: tls.VersionTLS10}, err: hello.ErrMalformed},
		{name: "ECH shows its outer name", input: bytes.NewReader(echHello(t)), want: hello.Hello{Protocol: hello.TLS, ServerName: "outer.example", ECH: true, Version: tls.VersionTLS12}},
		{name: "cut short", input: bytes.NewReader(modern[:600]), want: hello.Hello{Protocol: hello.TLS, Version: tls.VersionTLS10}, err: hello.ErrTruncated},
		{name: "a first byte and no more", input: bytes.NewReader(modern[:1]), want: hello.Hello{Protocol: hello.TLS, Version: tls.VersionTLS10}, err: hello.ErrTruncated},
		{name: "longer than the limit", input: bytes.NewReader(modern), limit: 1000, want: hello.Hello{Protocol: hello.TLS, Version: tls.VersionTLS10}, err: hello.ErrTooLong},
		{name: "longer than any hello", input: bytes.NewReader(oversized()), limit: hello.MaxLimit, want: hello.Hello{Protocol: hello.TLS, Version: tls.VersionTLS12}, err: hello.ErrTooLong},
		{name: "handshake of nonsense", input: strings.NewReader("\x16\x03\x03\x00\x08\x01\x00\x00\x04oops"), want: hello.Hello{Protocol: hello.TLS, Version: tls.VersionTLS12}, err: hello.ErrMalformed},
		{name: "a 22 that is not TLS", input: strings.NewReader("\x16\x00\x00\x00\x00\x00\x00"), want: hello.Hello{}},
		{name: "nothing", input: strings.NewReader(""), err: hello.ErrEmpty},
		{name: "SSH", input: strings.NewReader("SSH-2.0-OpenSSH_9.2\r\n"), want: hello.Hello{}},
		{name: "MQTT in the clear", input: strings.NewReader(mqtt), want: hello.Hello{}},
		{name: "capitals that are not HTTP", input: strings.NewReader("HELO garage\r\n"), want: hello.Hello{}},
		{name: "a reset", input: iotest.ErrReader(net.ErrClosed), err: net.ErrClosed},
		{name: "a passed deadline", input: io.MultiReader(bytes.NewReader(modern[:9]), iotest.ErrReader(os.ErrDeadlineExceeded)), want: hello.Hello{Protocol: hello.TLS, Version: tls.VersionTLS10}, err: os.ErrDeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var given bytes.Buffer
			got, err := hello.Read(io.TeeReader(tt.input, &given), tt.limit)
			if !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if !bytes.Equal(got.Bytes, given.Bytes()) {
				t.Errorf("%d bytes given back of %d read", len(got.Bytes), given.Len())
			}
			got.Bytes = nil
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("hello (-want +got):\n%s", diff)
			}
		})
	}
}

// oversized is a handshake message that never ends.
func oversized() []byte {
	b := []byte{22, 3, 3, 0x40, 0, 1, 0, 0xff, 0xf0}
	b = append(b, make([]byte, 0x4000-4)...)
	for range 5 {
		b = append(b, 22, 3, 3, 0x40, 0)
		b = append(b, make([]byte, 0x4000)...)
	}
	return b
}

// echHello is a hello that hides a name (RFC 9849) in an outer one.
func echHello(t testing.TB) []byte {
	t.Helper()
	// ECHConfig: DHKEM(X25519), HKDF-SHA256, AES-128-GCM, public name outer.example.
	const public = "outer.example"
	key := bytes.Repeat([]byte{9}, 32)
	body := append([]byte{7, 0, 0x20, 0, 32}, key...)
	body = append(body, 0, 4, 0, 1, 0, 1, 32, byte(len(public)))
	body = append(body, public...)
	body = append(body, 0, 0)
	one := append([]byte{0xfe, 0x0d, 0, byte(len(body))}, body...)
	list := append([]byte{0, byte(len(one))}, one...)
	return clientHello(t, &tls.Config{ServerName: "secret.example", MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: list})
}

func TestReadHTTP(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, input, want string
		err               error
	}{
		{name: "WebSocket of a charger", input: "GET /ocpp/ZAP000001 HTTP/1.1\r\nHost: ocpp.example.com:8080\r\nUpgrade: websocket\r\n\r\n", want: "ocpp.example.com"},
		{name: "with a body behind", input: "POST / HTTP/1.1\r\nhost:\tOCPP.Example.com. \r\nContent-Length: 2\r\n\r\nhi", want: "ocpp.example.com"},
		{name: "HTTP/1.0 without Host", input: "GET / HTTP/1.0\r\nAccept: */*\r\n\r\n"},
		{name: "no field at all", input: "GET / HTTP/1.0\r\n\r\n"},
		{name: "an address", input: "GET / HTTP/1.1\r\nHost: 192.0.2.10:80\r\n\r\n"},
		{name: "an IPv6 address", input: "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n"},
		{name: "two Hosts", input: "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", err: hello.ErrMalformed},
		{name: "space before the colon", input: "GET / HTTP/1.1\r\nHost : a.example\r\n\r\n", err: hello.ErrMalformed},
		{name: "folded line", input: "GET / HTTP/1.1\r\nX: y\r\n Host: a.example\r\n\r\n", err: hello.ErrMalformed},
		{name: "bare line feed", input: "GET / HTTP/1.1\r\nX: y\nHost: a.example\r\n\r\n", err: hello.ErrMalformed},
		{name: "a Host that is no name", input: "GET / HTTP/1.1\r\nHost: a.example/../b\r\n\r\n", err: hello.ErrMalformed},
		{name: "a port that is no number", input: "GET / HTTP/1.1\r\nHost: a.example:http\r\n\r\n", err: hello.ErrMalformed},
		{name: "a head that does not end", input: "GET / HTTP/1.1\r\nHost: a.example\r\n", err: hello.ErrTruncated},
		{name: "a head without measure", input: "GET / HTTP/1.1\r\nX: " + strings.Repeat("y", 20000), err: hello.ErrTooLong},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, r := range []io.Reader{strings.NewReader(tt.input), iotest.OneByteReader(strings.NewReader(tt.input))} {
				got, err := hello.Read(r, 0)
				if !errors.Is(err, tt.err) {
					t.Errorf("error %v, want %v", err, tt.err)
				}
				if got.Protocol != hello.HTTP || got.ServerName != tt.want {
					t.Errorf("%v %q, want HTTP %q", got.Protocol, got.ServerName, tt.want)
				}
			}
		})
	}
}

// What is not HTTP is known with the byte that says so: nobody waits for more.
func TestOtherIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go func() { _, _ = client.Write([]byte("SSH-")) }()
	if err := server.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	got, err := hello.Read(server, 0)
	if err != nil || got.Protocol != hello.Other || string(got.Bytes) != "SSH-" {
		t.Errorf("%v %q, %v", got.Protocol, got.Bytes, err)
	}
}

func FuzzRead(f *testing.F) {
	modern := clientHello(f, plainConfig("api.zaptec.com"))
	files, err := filepath.Glob("testdata/*.bin")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 0)
	}
	f.Add(modern, 0)
	f.Add(records(modern, 50), 4096)
	f.Add(echHello(f), 0)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: ocpp.example.com:80\r\n\r\nbody"), 0)
	f.Add([]byte("SSH-2.0-x\r\n"), 0)
	f.Add([]byte{22, 3, 1, 0, 0}, 16)
	f.Fuzz(func(t *testing.T, b []byte, limit int) {
		got, err := hello.Read(bytes.NewReader(b), limit)
		if !bytes.HasPrefix(b, got.Bytes) {
			t.Fatal("the bytes given back are not those that were read")
		}
		if limit > 0 && limit <= hello.MaxLimit && len(got.Bytes) > limit {
			t.Fatalf("%d bytes read, limit %d", len(got.Bytes), limit)
		}
		if strings.ContainsAny(got.ServerName, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			t.Fatalf("name %q is not in lower case", got.ServerName)
		}
		if err == nil && got.Protocol == hello.TLS && (got.Version < tls.VersionTLS10 || got.Version > tls.VersionTLS12) {
			t.Fatalf("record version %#x", got.Version)
		}
		// However it is cut into reads, the answer is the same, but for what was
		// read beyond it.
		slow, slowErr := hello.Read(iotest.OneByteReader(bytes.NewReader(b)), limit)
		if (err == nil) != (slowErr == nil) || slow.ServerName != got.ServerName || slow.Protocol != got.Protocol {
			t.Fatalf("in one read: %v %q %v; byte by byte: %v %q %v", got.Protocol, got.ServerName, err, slow.Protocol, slow.ServerName, slowErr)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	modern := clientHello(b, plainConfig("api.zaptec.com"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := hello.Read(bytes.NewReader(modern), 0); err != nil {
			b.Fatal(err)
		}
	}
}
