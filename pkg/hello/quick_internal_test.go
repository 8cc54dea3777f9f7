package hello

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// long reads a hello as if quick were not there.
func long(b []byte) (Hello, error) {
	rec := &recorder{r: bytes.NewReader(b), limit: MaxLimit}
	if err := rec.open(); err != nil {
		return Hello{}, err
	}
	return readTLS(rec)
}

// A vector is a message of testdata, and what its index says of it.
type vector struct {
	bytes []byte
	hello Hello // without Bytes
	quick bool
	err   error
}

// corpus reads testdata. Every file has its line, and every line its file.
func corpus(t testing.TB) map[string]vector {
	t.Helper()
	index, err := os.ReadFile("testdata/index.tsv")
	if err != nil {
		t.Fatal(err)
	}
	errs := map[string]error{"-": nil, "truncated": ErrTruncated, "too long": ErrTooLong, "malformed": ErrMalformed, "proxy": ErrProxy}
	protocols := map[string]Protocol{"TLS": TLS, "HTTP": HTTP, "unknown": Other}
	all := map[string]vector{}
	for _, line := range strings.Split(strings.TrimSpace(string(index)), "\n")[1:] {
		f := strings.Split(line, "\t")
		if len(f) != 11 || f[10] == "" {
			t.Fatalf("the index has a line of %d columns: %s", len(f), line)
		}
		v := vector{quick: f[6] == "quick"}
		if v.bytes, err = os.ReadFile(filepath.Join("testdata", f[0])); err != nil {
			t.Fatal(err)
		}
		var ok bool
		if v.err, ok = errs[f[7]]; !ok {
			t.Fatalf("%s: unknown error %q", f[0], f[7])
		}
		if v.hello.Protocol, ok = protocols[f[1]]; !ok {
			t.Fatalf("%s: unknown protocol %q", f[0], f[1])
		}
		if v.hello.ServerName = f[2]; f[2] == "-" {
			v.hello.ServerName = ""
		} else if name, err := strconv.Unquote(f[2]); err == nil {
			v.hello.ServerName = name
		}
		if f[3] != "-" {
			v.hello.Version = 0x0301 + uint16(f[3][2]-'0')
		}
		if f[4] != "-" {
			v.hello.ALPN = strings.Split(f[4], ",")
		}
		v.hello.ECH = f[5] == "ech"
		all[f[0]] = v
	}
	files, err := filepath.Glob("testdata/*.bin")
	if err != nil || len(files) != len(all) || len(files) < 30 {
		t.Fatalf("%d files and %d lines in testdata, %v", len(files), len(all), err)
	}
	return all
}

// Every message of the corpus is read as its index says, whole or byte by byte, and
// given back as it came.
func TestCorpus(t *testing.T) {
	t.Parallel()
	for name, v := range corpus(t) {
		for way, r := range map[string]io.Reader{"at once": bytes.NewReader(v.bytes), "byte by byte": iotest.OneByteReader(bytes.NewReader(v.bytes))} {
			got, err := Read(r, 0)
			if !errors.Is(err, v.err) || err != nil && v.err == nil {
				t.Errorf("%s %s: error %v, want %v", name, way, err, v.err)
			}
			if !bytes.HasPrefix(v.bytes, got.Bytes) {
				t.Errorf("%s %s: other bytes are given back than came", name, way)
			}
			got.Bytes = nil
			if diff := cmp.Diff(v.hello, got); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", name, way, diff)
			}
		}
	}
}

// agree wants what quick accepts to mean the same to crypto/tls.
func agree(t *testing.T, b []byte) (quickly bool) {
	t.Helper()
	got, ok := quick(b)
	if !ok {
		return false
	}
	want, err := long(b)
	if err != nil {
		t.Fatalf("quick accepts what crypto/tls does not: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("quick reads another hello than crypto/tls (-crypto/tls +quick):\n%s", diff)
	}
	return true
}

// The hellos of ordinary clients take the quick way.
func TestQuickIsUsual(t *testing.T) {
	t.Parallel()
	for name, v := range corpus(t) {
		if quickly := agree(t, v.bytes); quickly != v.quick {
			t.Errorf("%s: read quickly: %t", name, quickly)
		}
	}
}

// Wherever a hello is cut or a byte of it is another one, quick accepts no more
// than crypto/tls does.
func TestQuickIsStrict(t *testing.T) {
	t.Parallel()
	for name, v := range corpus(t) {
		if !v.quick || len(v.bytes) > 600 {
			continue
		}
		b := v.bytes
		for i := range b {
			if _, ok := quick(b[:i]); ok {
				t.Errorf("%s: accepted without its end, after %d bytes", name, i)
			}
			for _, c := range []byte{0, 1, b[i] + 1, b[i] - 1, 0xff} {
				bad := bytes.Clone(b)
				bad[i] = c
				agree(t, bad)
			}
		}
	}
}

// A hello that comes in segments is read as quickly as one that comes at once.
func TestSegmentsAreUsual(t *testing.T) {
	all := corpus(t)
	for _, name := range []string{"mbedtls-1.2.bin", "go-mlkem.bin"} {
		b := all[name].bytes
		if n := testing.AllocsPerRun(10, func() { Read(iotest.OneByteReader(bytes.NewReader(b)), 0) }); n > 6 {
			t.Errorf("%s byte by byte: %v allocations, as crypto/tls makes them", name, n)
		}
	}
}

// FuzzHello compares quick with crypto/tls.
func FuzzHello(f *testing.F) {
	for _, v := range corpus(f) {
		f.Add(v.bytes)
	}
	f.Fuzz(func(t *testing.T, b []byte) { agree(t, b) })
}

// BenchmarkHello is the charger's own hello, read by each of the two.
func BenchmarkHello(b *testing.B) {
	hello := corpus(b)["mbedtls-1.2.bin"].bytes
	b.Run("quick", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := quick(hello); !ok {
				b.Fatal("turned down")
			}
		}
	})
	b.Run("crypto-tls", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := long(hello); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Read(bytes.NewReader(hello), 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}
