package egress

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"reflect"
	"testing"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"golang.org/x/sys/unix"
)

var someRecord = record{
	near: 1, far: 2, up: 3, down: 4, opened: time.Minute,
	caller: netip.MustParseAddr("10.83.0.17"), remote: netip.MustParseAddrPort("198.51.100.10:8883"), port: 8883,
	share: share{mac: p107, network: netip.MustParsePrefix("10.83.0.0/24")}, name: policy.Hub, by: bySNI, plain: true,
}

// What one process writes the next one reads, through the file alone.
func TestLedger(t *testing.T) {
	l, err := newLedger()
	if err != nil {
		t.Fatal(err)
	}
	long := someRecord
	long.name = string(bytes.Repeat([]byte("a."), 126)) + "b"
	long.share, long.plain = share{}, false
	for slot, r := range map[int]record{0: someRecord, ledgerSlots - 1: long} {
		l.clear(slot)
		if err := l.fill(slot, r); err != nil {
			t.Fatal(err)
		}
	}
	l.counts(0).Up.Add(5 << 40)
	l.counts(ledgerSlots - 1).Down.Add(7)
	fd, err := unix.Dup(int(l.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	next, err := openLedger(os.NewFile(uintptr(fd), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	for slot, r := range map[int]record{0: someRecord, ledgerSlots - 1: long} {
		got, err := next.read(slot, time.Hour)
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("slot %d: %+v, %v", slot, got, err)
		}
		if s := next.state(slot).Load(); s != slotUsed {
			t.Errorf("slot %d: state %d", slot, s)
		}
	}
	if up, down := next.counts(0).Up.Load(), next.counts(ledgerSlots-1).Down.Load(); up != 5<<40 || down != 7 {
		t.Errorf("%d up, %d down", up, down)
	}
	if next.state(1).Load() != slotFree {
		t.Error("a slot is used that nobody filled")
	}
	if err := l.file.Truncate(0); err == nil {
		t.Error("the file could be made shorter")
	}
	for name, spoil := range map[string]func(r *record){
		"a name too long": func(r *record) { r.name += "c" },
		"no address":      func(r *record) { r.caller = netip.Addr{} },
		"an IPv6 remote":  func(r *record) { r.remote = netip.MustParseAddrPort("[2001:db8::1]:443") },
		"a word too long": func(r *record) { r.by = "seventeenletterss" },
	} {
		r := long
		spoil(&r)
		if err := l.fill(1, r); err == nil || l.state(1).Load() != slotFree {
			t.Errorf("%s was written", name)
		}
	}
}

// Nothing that a record cannot mean is read.
func TestRecordIsChecked(t *testing.T) {
	for name, spoil := range map[string]func(r *record){
		"no socket":              func(r *record) { r.far = 0 },
		"one socket twice":       func(r *record) { r.far = r.near },
		"no pipe":                func(r *record) { r.down = 0 },
		"one pipe twice":         func(r *record) { r.up = r.down },
		"opened after now":       func(r *record) { r.opened = 2 * time.Hour },
		"opened before the boot": func(r *record) { r.opened = -1 },
		"no port":                func(r *record) { r.port = 0 },
		"no port there":          func(r *record) { r.remote = netip.AddrPortFrom(r.remote.Addr(), 0) },
		"no name":                func(r *record) { r.name = "" },
		"no normal name":         func(r *record) { r.name = "API.zaptec.com." },
		"told by nobody":         func(r *record) { r.by = "" },
		"no word":                func(r *record) { r.by = "sni!" },
		"a network's host bits":  func(r *record) { r.share.network = netip.MustParsePrefix("10.83.0.1/24") },
	} {
		t.Run(name, func(t *testing.T) {
			r := someRecord
			spoil(&r)
			b := make([]byte, slotFixed-slotBegin)
			if err := r.encode(b); err != nil {
				t.Fatal(err)
			}
			if got, err := decode(b, time.Hour); err == nil {
				t.Errorf("read as %+v", got)
			}
		})
	}
}

// Whatever is in a ledger, reading it neither ends the process nor yields what
// could not have been written.
func FuzzRecord(f *testing.F) {
	for range 20 {
		b := make([]byte, slotFixed-slotBegin)
		if err := someRecord.encode(b); err != nil {
			f.Fatal(err)
		}
		for range rand.IntN(4) {
			b[rand.IntN(len(b))] ^= byte(1 << rand.IntN(8))
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(b, make([]byte, slotFixed-slotBegin)...)[:slotFixed-slotBegin]
		r, err := decode(b, time.Hour)
		if err != nil {
			return
		}
		again := make([]byte, len(b))
		if err := r.encode(again); err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", r, err)
		}
		if second, err := decode(again, time.Hour); err != nil || !reflect.DeepEqual(second, r) {
			t.Fatalf("%+v became %+v, %v", r, second, err)
		}
	})
}

// A ledger full of anything takes nobody's conversation anywhere, and the room
// works.
func FuzzLedger(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add([]byte{1, 0, 0, 0, 9, 9, 9, 9}, headerSize)
	f.Add(bytes.Repeat([]byte{0xff}, 600), headerSize)
	f.Fuzz(func(t *testing.T, spoil []byte, at int) {
		v := newVault(t)
		h := keeping(t, v, 443)
		l, err := newLedger()
		if err != nil {
			t.Fatal(err)
		}
		defer l.file.Close()
		if at < 0 || at > len(l.mem) {
			at = 0
		}
		copy(l.mem[at:], spoil)
		if err := h.store.Keep(ledgerName, l.file); err != nil {
			t.Fatal(err)
		}
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		v.held["conv-0"] = []int{pipe[0], pipe[1]}
		h.store = v.visit()
		if err := h.Listen(); err != nil {
			t.Fatal(err)
		}
		for _, l := range h.listeners {
			l.Close()
		}
		h.carrier.Close()
		if h.places.open() != 0 {
			t.Error("somebody was given a conversation")
		}
		h.Server.keeper.ledger.file.Close()
		_ = unix.Munmap(h.Server.keeper.ledger.mem)
		_ = unix.Munmap(l.mem)
	})
}

// The kernel counts as we do, whatever was acknowledged, on both kinds of sockets.
func TestWritten(t *testing.T) {
	held := make(chan *net.TCPConn, 1)
	b := newBackend(t, "127.0.0.1:0", func(conn *net.TCPConn) { held <- conn })
	dialled, err := net.Dial("tcp4", b.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()
	accepted := <-held
	defer accepted.Close()
	for _, c := range []struct {
		conn, other *net.TCPConn
		dialled     bool
	}{{dialled.(*net.TCPConn), accepted, true}, {accepted, dialled.(*net.TCPConn), false}} {
		check := func(want int64, what string) {
			t.Helper()
			raw, _ := c.conn.SyscallConn()
			_ = raw.Control(func(fd uintptr) {
				if n, ok := written(int(fd), c.dialled); !ok || n != want {
					t.Errorf("%s: %d, %v, want %d (dialled: %v)", what, n, ok, want, c.dialled)
				}
			})
		}
		check(0, "nothing said")
		sum := int64(0)
		for range 3 {
			if _, err := c.conn.Write(noise(12_345)); err != nil {
				t.Fatal(err)
			}
			sum += 12_345
			check(sum, "said")
		}
		if _, err := io.CopyN(io.Discard, c.other, 20_000); err != nil {
			t.Fatal(err)
		}
		check(sum, "partly read")
		_ = c.conn.SetWriteDeadline(time.Now().Add(30 * time.Millisecond))
		n, _ := c.conn.Write(noise(64 << 20)) // more than the other side takes
		_ = c.conn.SetWriteDeadline(time.Time{})
		check(sum+int64(n), "as full as it gets")
		sum += int64(n)
		if _, err := io.CopyN(io.Discard, c.other, sum-20_000); err != nil {
			t.Fatal(err)
		}
		check(sum, "all read")
	}
}

// What was handed on and not counted before a crash is counted after it.
func TestRecount(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	v, fixed := newVault(t), fixedAddress(t)
	h := keeping(t, v, b.port, fixed).open()
	s := h.stream()
	s.say(t, noise(100_000))
	s.hear(t)
	eventually(t, "it to be kept", func() bool { return v.conversations() == 1 })
	h.crash()
	h.Server.keeper.ledger.counts(0).Up.Add(-5000) // as if it had ended in between
	h.Server.keeper.ledger.counts(0).Down.Add(-7000)
	next := keeping(t, v, b.port, fixed).open()
	s.conn.Close()
	if r := next.says(event.EgressEnded); r.Field("UP") != fmt.Sprint(s.sent.Len()) || r.Field("DOWN") != fmt.Sprint(s.got.Len()) {
		t.Errorf("%s; want %d", r.Message, s.sent.Len())
	}
}
