package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// blank is a card of so many bytes, all zeros, and its socket.
func blank(t *testing.T, size int64) (*card, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "card")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	c, err := openCard(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close() })
	socket := filepath.Join(dir, "s")
	if err := c.power(socket); err != nil {
		t.Fatal(err)
	}
	return c, socket
}

// qemu runs one of QEMU's own clients of the protocol, and returns what it says.
func qemu(t *testing.T, program string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed (Debian: qemu-utils)", program)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// qemuIO gives qemu-io its commands, with a cache of the kind that waits for a
// flush; it flushes when it is closed, unless it is aborted.
func qemuIO(t *testing.T, socket string, commands ...string) string {
	args := []string{"-f", "raw", "-t", "writeback"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	return qemu(t, "qemu-io", append(args, "nbd+unix:///?socket="+socket)...)
}

// lasting is what is in the file behind the card.
func lasting(t *testing.T, c *card, at, n int64) []byte {
	t.Helper()
	buf := make([]byte, n)
	if _, err := c.file.ReadAt(buf, at); err != nil {
		t.Fatal(err)
	}
	return buf
}

func TestQEMUsOwnClients(t *testing.T) {
	t.Parallel()
	c, socket := blank(t, 8<<20)
	if out := qemu(t, "qemu-img", "info", "nbd+unix:///?socket="+socket); !strings.Contains(out, "virtual size: 8 MiB") {
		t.Errorf("qemu-img info says %s, want 8 MiB", out)
	}
	// What qemu-io reads it compares with the pattern itself.
	out := qemuIO(t, socket,
		"write -P 0x11 0 1M", "read -P 0x11 0 1M", "write -P 0x22 4096 512", "read -P 0x22 4096 512", "read -P 0x11 4608 4096",
		"flush", "read -P 0x22 4096 512", "write -f -P 0x33 2M 64k", "read -P 0x33 2M 64k",
		"discard 512k 64k", "read -P 0 512k 64k", "read -P 0x11 576k 64k", "write -P 0x44 100 5", "read -P 0x44 100 5", "read -P 0x11 105 100",
		"write -P 0x55 8388096 512", "read -P 0x55 8388096 512")
	if strings.Contains(out, "failed") {
		t.Errorf("what was written is not what is read:\n%s", out)
	}
	if n := c.counts(); n.Flushes == 0 || n.Sure == 0 || n.Trims == 0 {
		t.Errorf("QEMU's client used %+v, want flushes, sure writes and trims", n)
	}
	// A whole image there and back.
	image := filepath.Join(t.TempDir(), "image")
	data := make([]byte, 8<<20)
	dice := rand.NewChaCha8([32]byte{1})
	dice.Read(data)
	if err := os.WriteFile(image, data, 0o600); err != nil {
		t.Fatal(err)
	}
	qemu(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, "nbd+unix:///?socket="+socket)
	qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", image, "nbd+unix:///?socket="+socket)
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(c.file.Name()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the image behind the card is another one than was written (%v)", err)
	}
}

func TestAfterACutWhatWasFlushedIsThereAndOfTheRestAPart(t *testing.T) {
	t.Parallel()
	c, socket := blank(t, 1<<20)
	// abort: qemu-io dies as the guest does, without a last flush.
	args := []string{"-f", "raw", "-t", "writeback", "-c", "write -P 1 0 256k", "-c", "flush"}
	for i := range 64 { // half of what was flushed is written over
		args = append(args, "-c", fmt.Sprintf("write -P 2 %d 4k", 128<<10+i*4096))
	}
	args = append(args, "-c", "write -f -P 3 512k 4k", "-c", "abort", "nbd+unix:///?socket="+socket)
	if _, err := exec.LookPath("qemu-io"); err != nil {
		t.Skip("qemu-io is not installed (Debian: qemu-utils)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	exec.CommandContext(ctx, "qemu-io", args...).Run() // ends by its own signal
	lost, err := c.cut(rand.New(rand.NewPCG(1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	if lost.Waiting != 64 || lost.Lost == 0 || lost.Torn == 0 || lost.Lost+lost.Torn >= 64 {
		t.Errorf("the cut took %+v, want 64 that waited and a part of them lost, and others torn", lost)
	}
	if got := lasting(t, c, 0, 128<<10); !bytes.Equal(got, bytes.Repeat([]byte{1}, 128<<10)) {
		t.Error("what was flushed has changed")
	}
	if got := lasting(t, c, 512<<10, 4096); !bytes.Equal(got, bytes.Repeat([]byte{3}, 4096)) {
		t.Error("a write that asked to last (FUA) was lost")
	}
	var old, fresh int
	for i := 0; i < 256; i++ {
		at := int64(128<<10 + i*512)
		was := byte(1)
		switch got := lasting(t, c, at, 512); {
		case bytes.Equal(got, bytes.Repeat([]byte{2}, 512)):
			fresh++
		case bytes.Equal(got, bytes.Repeat([]byte{was}, 512)):
			old++
		default:
			t.Fatalf("the sector at %d is neither the old nor the new one", at)
		}
	}
	if old == 0 || fresh == 0 {
		t.Errorf("%d sectors are old and %d new, want some of each", old, fresh)
	}
}

func TestACutWithoutDiceLosesNothing(t *testing.T) {
	t.Parallel()
	c, _ := blank(t, 1<<20)
	for i := range 16 {
		if err := c.write(write{int64(i) * 4096, bytes.Repeat([]byte{byte(i + 1)}, 4096), false}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := c.cut(nil); err != nil || n != (cutCount{Waiting: 16}) {
		t.Errorf("the cut took %+v (%v), want nothing of 16", n, err)
	}
	for i := range 16 {
		if got := lasting(t, c, int64(i)*4096, 4096); got[0] != byte(i+1) || got[4095] != byte(i+1) {
			t.Errorf("write %d is lost", i)
		}
	}
}

// What lasts by itself stays above what was written before it and is kept by the
// dice.
func TestASureWriteStaysAboveEarlierOnes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		c, _ := blank(t, 1<<16)
		for _, w := range []write{
			{0, bytes.Repeat([]byte{1}, 8192), false},
			{4096, bytes.Repeat([]byte{2}, 4096), true},
		} {
			if err := c.write(w); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.cut(rand.New(rand.NewPCG(seed, 0))); err != nil {
			t.Fatal(err)
		}
		if got := lasting(t, c, 4096, 4096); !bytes.Equal(got, bytes.Repeat([]byte{2}, 4096)) {
			t.Fatalf("with seed %d the sure write was lost", seed)
		}
	}
}

// The card and a plain array are asked the same, with flushes and cuts in between:
// each sector holds what was last written, and after a cut one of the versions since
// the last flush.
func TestAgainstAModel(t *testing.T) {
	t.Parallel()
	const sectors = 64
	for seed := range uint64(40) {
		dice := rand.New(rand.NewPCG(seed, 7))
		c, _ := blank(t, sectors*sector)
		c.memory = 40 * sector // so that it is pushed out, too
		var now [sectors]byte
		var may [sectors]map[byte]bool
		settle := func() {
			for i := range may {
				may[i] = map[byte]bool{now[i]: true}
			}
		}
		settle()
		for step := range 400 {
			at := dice.IntN(sectors)
			n := 1 + dice.IntN(min(sectors-at, 8))
			switch what := dice.IntN(20); {
			case what < 12:
				v, sure := byte(step), dice.IntN(8) == 0
				if err := c.write(write{int64(at) * sector, bytes.Repeat([]byte{v}, n*sector), sure}); err != nil {
					t.Fatal(err)
				}
				for i := at; i < at+n; i++ {
					now[i], may[i][v] = v, true
					if sure {
						may[i] = map[byte]bool{v: true}
					}
				}
			case what < 18:
				buf := make([]byte, n*sector)
				if err := c.read(int64(at)*sector, buf); err != nil {
					t.Fatal(err)
				}
				for i := range n {
					if want := bytes.Repeat([]byte{now[at+i]}, sector); !bytes.Equal(buf[i*sector:(i+1)*sector], want) {
						t.Fatalf("seed %d, step %d: sector %d holds %d, want %d", seed, step, at+i, buf[i*sector], now[at+i])
					}
				}
			case what < 19:
				if _, code := c.answer(cmdFlush, false, 0, 0, nil); code != 0 {
					t.Fatalf("a flush fails with %d", code)
				}
				settle()
			default:
				if _, err := c.cut(dice); err != nil {
					t.Fatal(err)
				}
				for i := range now {
					got := lasting(t, c, int64(i)*sector, sector)
					if !bytes.Equal(got, bytes.Repeat(got[:1], sector)) || !may[i][got[0]] {
						t.Fatalf("seed %d, step %d: after the cut sector %d holds %d, want one of %v", seed, step, i, got[0], may[i])
					}
					now[i] = got[0]
				}
				settle()
			}
		}
	}
}

func TestACardThatIsDarkAnswersNobodyAndThenAgain(t *testing.T) {
	t.Parallel()
	c, socket := blank(t, 1<<16)
	c.dark()
	if conn, err := net.Dial("unix", socket); err == nil {
		conn.Close()
		t.Error("a card without power was reached")
	}
	if err := c.power(socket); err != nil {
		t.Fatal(err)
	}
	if out := qemuIO(t, socket, "write -P 7 0 4k", "read -P 7 0 4k"); strings.Contains(out, "failed") {
		t.Error(out)
	}
}

// Whoever asks what is wrong is told so, and whoever speaks another language is
// left; the card goes on.
func TestWrongQuestions(t *testing.T) {
	t.Parallel()
	c, socket := blank(t, 1<<16)
	big := binary.BigEndian
	option := func(kind uint32, data []byte) []byte {
		return append(big.AppendUint32(big.AppendUint32(big.AppendUint64(nil, nbdOption), kind), uint32(len(data))), data...)
	}
	request := func(kind uint16, at uint64, n uint32) []byte {
		b := big.AppendUint16(big.AppendUint32(nil, nbdRequest), 0)
		b = big.AppendUint64(big.AppendUint16(b, kind), 42)
		return big.AppendUint32(big.AppendUint64(b, at), n)
	}
	enter := append(make([]byte, 3), 3) // fixed newstyle, no zeroes
	begin := append(bytes.Clone(enter), option(optExportName, nil)...)
	invalid := big.AppendUint64(big.AppendUint32(big.AppendUint32(nil, nbdAnswer), errInvalid), 42)
	head := len(nbdGreeting) + 2
	for _, test := range []struct {
		name string
		say  []byte
		want []byte // at the end of what is answered
	}{
		{"an option that nobody knows", append(bytes.Clone(enter), option(99, []byte("x"))...), optionAnswer(99, repUnsupported, nil)},
		{"TLS", append(bytes.Clone(enter), option(5, nil)...), optionAnswer(5, repUnsupported, nil)},
		{"a question that is cut short", append(bytes.Clone(enter), option(optGo, []byte{0, 0})...), optionAnswer(optGo, repInvalid, nil)},
		{"a name longer than all", append(bytes.Clone(enter), option(optGo, []byte{255, 255, 255, 255, 0, 0})...), optionAnswer(optGo, repInvalid, nil)},
		{"leaving before it begins", append(bytes.Clone(enter), option(optAbort, nil)...), optionAnswer(optAbort, repACK, nil)},
		{"another language", append(bytes.Clone(enter), bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 2)...), []byte{0, 3}},
		{"an option without end", append(bytes.Clone(enter), big.AppendUint32(big.AppendUint32(big.AppendUint64(nil, nbdOption), optGo), 1<<31)...), []byte{0, 3}},
		{"a read beyond the end", append(bytes.Clone(begin), request(cmdRead, 1<<16, 512)...), invalid},
		{"a read that wraps around", append(bytes.Clone(begin), request(cmdRead, 1<<64-512, 1024)...), invalid},
		{"a read of nothing", append(bytes.Clone(begin), request(cmdRead, 0, 0)...), invalid},
		{"a read of half a sector", append(bytes.Clone(begin), request(cmdRead, 0, 100)...), invalid},
		{"a command that nobody knows", append(bytes.Clone(begin), request(77, 0, 512)...), invalid},
		{"a trim beyond the end", append(bytes.Clone(begin), request(cmdTrim, 0, 1<<31)...), invalid},
		{"a read that is too long", append(bytes.Clone(begin), request(cmdRead, 0, 1<<31)...), c.export()},
	} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		conn.Write(test.say)
		conn.(*net.UnixConn).CloseWrite()
		got, err := io.ReadAll(conn)
		if len(got) < head || !bytes.HasSuffix(got, test.want) {
			t.Errorf("%s: the answer is % x (%v), want one that ends with % x", test.name, got, err, test.want)
		}
		conn.Close()
	}
	if out := qemuIO(t, socket, "write -P 7 0 4k", "read -P 7 0 4k"); strings.Contains(out, "failed") {
		t.Errorf("afterwards: %s", out)
	}
}
