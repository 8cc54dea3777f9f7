package ntprelay

import (
	"bytes"
	"encoding/binary"
	"math"
	"net"
	"slices"
	"testing"
	"time"

	ntp "github.com/facebook/time/ntp/protocol"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// noon is a moment whose NTP form is easy to check: it carries a monotonic clock
// only relative to itself.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 500_000_000, time.UTC)

func goodReading(at time.Time) reading {
	return reading{
		at: at, leap: 0, stratum: 3, refID: 0xc0000201, reference: "192.0.2.1", refTime: at.Add(-time.Minute),
		rootDelay: 20 * time.Millisecond, dispersion: 5 * time.Millisecond, growth: 2e-6,
	}
}

func goodState(at time.Time) *state { return &state{read: goodReading(at), limit: time.Second} }

// answered is reply with the answer's bytes, nil for silence.
func answered(q []byte, rx, tx time.Time, precision int8, st *state) ([]byte, bool) {
	var out [ntp.PacketSizeBytes]byte
	if !reply(&out, q, rx, tx, precision, st) {
		return nil, false
	}
	return out[:], true
}

// request is what lwIP's SNTP client sends: version 4, mode 3, and a transmit
// time that only it understands.
func request() []byte {
	q := make([]byte, 48)
	q[0] = 0x23
	binary.BigEndian.PutUint64(q[40:], 0x0123456789abcdef)
	return q
}

func TestReplyCarriesChronydsOwnFields(t *testing.T) {
	t.Parallel()
	q := request()
	q[2] = 6
	rx, tx := noon.Add(-50*time.Microsecond), noon
	out, ok := answered(q, rx, tx, -24, goodState(noon.Add(-10*time.Second)))
	if !ok {
		t.Fatal("silence")
	}
	got, err := ntp.BytesToPacket(out)
	if err != nil {
		t.Fatal(err)
	}
	want := &ntp.Packet{
		Settings: 0x24, Stratum: 3, Poll: 6, Precision: -24,
		RootDelay:      1311, // 20 ms · 65536, rounded up
		RootDispersion: 330,  // 5 ms + 10 s · 2 ppm + 50 µs · 4 %
		ReferenceID:    0xc0000201,
		OrigTimeSec:    0x01234567, OrigTimeFrac: 0x89abcdef,
	}
	want.RefTimeSec, want.RefTimeFrac = ntp.Time(noon.Add(-70 * time.Second))
	want.RxTimeSec, want.RxTimeFrac = ntp.Time(rx)
	want.TxTimeSec, want.TxTimeFrac = ntp.Time(tx)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reply (-want +got):\n%s", diff)
	}
	if got.TxTimeSec-2_208_988_800 != uint32(noon.Unix()) || got.TxTimeFrac != 1<<31 {
		t.Errorf("transmit time %d.%d is not %v", got.TxTimeSec, got.TxTimeFrac, noon)
	}
}

func TestReplyWorksAfter2036(t *testing.T) {
	t.Parallel()
	later := time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
	out, ok := answered(request(), later, later, -20, goodState(later))
	if !ok {
		t.Fatal("silence")
	}
	// Era 1 began on 2036-02-07 06:28:16 (RFC 5905, 6).
	want := uint32(later.Sub(time.Date(2036, 2, 7, 6, 28, 16, 0, time.UTC)) / time.Second)
	if got := binary.BigEndian.Uint32(out[40:]); got != want {
		t.Errorf("transmit seconds %d, want %d", got, want)
	}
}

func TestReplyEchoesVersionAndLeap(t *testing.T) {
	t.Parallel()
	for version := byte(1); version <= 4; version++ {
		for leap := byte(0); leap <= 2; leap++ {
			q := request()
			q[0] = 2<<6 | version<<3 | 3 // the client's own leap state is its own
			st := goodState(noon)
			st.read.leap = leap
			out, ok := answered(q, noon, noon, -20, st)
			if want := leap<<6 | version<<3 | 4; !ok || out[0] != want {
				t.Errorf("version %d, leap %d: first byte %#x, want %#x", version, leap, out[:1], want)
			}
		}
	}
}

func TestSilence(t *testing.T) {
	t.Parallel()
	first := func(b byte) []byte { q := request(); q[0] = b; return q }
	edit := func(f func(*state)) *state { st := goodState(noon); f(st); return st }
	tests := []struct {
		name   string
		q      []byte
		rx, tx time.Time
		st     *state
	}{
		{name: "nothing", q: []byte{}},
		{name: "one byte short", q: request()[:47]},
		{name: "mode 1, symmetric active", q: first(0x21)},
		{name: "mode 4, an answer", q: first(0x24)},
		{name: "mode 5, a broadcast", q: first(0x25)},
		{name: "mode 6, control", q: first(0x26)},
		{name: "mode 7, private", q: first(0x27)},
		{name: "version 0", q: first(0x03)},
		{name: "version 5", q: first(0x2b)},
		{name: "version 7", q: first(0x3b)},
		{name: "a reason not to", st: edit(func(st *state) { st.reason = "not yet" })},
		{name: "the reading is too old", st: edit(func(st *state) { st.read.at = noon.Add(-maxSilence - 1) })},
		{name: "the distance has grown past the limit", st: edit(func(st *state) { st.read.at, st.read.growth = noon.Add(-10*time.Second), 0.1 })},
		{name: "the request is from the future: the clock was set back", rx: noon.Add(time.Millisecond)},
		{name: "the request is a year old: the clock was set forward", rx: noon.AddDate(-1, 0, 0)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.q == nil {
				tt.q = request()
			}
			if tt.rx.IsZero() {
				tt.rx = noon
			}
			if tt.st == nil {
				tt.st = goodState(noon)
			}
			if out, ok := answered(tt.q, tt.rx, noon, -20, tt.st); ok {
				t.Errorf("answered %x", out)
			}
		})
	}
}

func TestOddTrailersAreNotParsed(t *testing.T) {
	t.Parallel()
	for _, trailer := range []int{1, 3, 4, 20, 24, 500} {
		q := append(request(), bytes.Repeat([]byte{0xff}, trailer)...)
		if out, ok := answered(q, noon, noon, -20, goodState(noon)); !ok || len(out) != 48 {
			t.Errorf("%d bytes after the header: answered %v with %d bytes, want 48", trailer, ok, len(out))
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	tests := []struct {
		d    time.Duration
		want uint32
	}{
		{-time.Second, 0}, {0, 0}, {1, 1}, {time.Second / 2, 1 << 15}, {time.Second, 1 << 16},
		{time.Second - 1, 1 << 16}, {65535 * time.Second, 65535 << 16}, {65536 * time.Second, 1<<32 - 1}, {1<<63 - 1, 1<<32 - 1},
	}
	for _, tt := range tests {
		if got := short(tt.d); got != tt.want {
			t.Errorf("short(%v) = %#x, want %#x", tt.d, got, tt.want)
		}
	}
}

func TestPrecisionIsThatOfARealClock(t *testing.T) {
	t.Parallel()
	if p := measurePrecision(); p > -10 || p < -29 {
		t.Errorf("precision 2^%d s", p)
	}
}

// oracle is the same answer made by the library that we parse with.
func oracle(t *testing.T, q []byte, rx, tx time.Time, precision int8, st *state) []byte {
	t.Helper()
	var in ntp.Packet
	if err := in.UnmarshalBinary(q[:48]); err != nil {
		t.Fatal(err)
	}
	p := ntp.Packet{
		Settings: st.read.leap<<6 | in.Settings&0x38 | 4, Stratum: st.read.stratum, Poll: in.Poll, Precision: precision,
		RootDelay: short(st.read.rootDelay), RootDispersion: short(st.read.rootDispersion(tx) + slewed(rx, tx)), ReferenceID: st.read.refID,
		OrigTimeSec: in.TxTimeSec, OrigTimeFrac: in.TxTimeFrac,
	}
	p.RefTimeSec, p.RefTimeFrac = ntp.Time(st.read.refTime)
	p.RxTimeSec, p.RxTimeFrac = ntp.Time(rx)
	p.TxTimeSec, p.TxTimeFrac = ntp.Time(tx)
	out, err := p.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What is true of every answer, whatever was asked.
func checkAnswer(t *testing.T, q, out []byte) {
	t.Helper()
	switch {
	case len(out) != 48 || len(out) > len(q):
		t.Fatalf("%d bytes in, %d bytes out", len(q), len(out))
	case out[0]&7 != 4 || out[0]>>3&7 != q[0]>>3&7:
		t.Fatalf("asked with %#x, answered with %#x", q[0], out[0])
	case !bytes.Equal(out[24:32], q[40:48]):
		t.Fatalf("origin %x is not the client's %x", out[24:32], q[40:48])
	case out[1] > 15 || (out[1] == 0) != (out[0]>>6 == 3):
		t.Fatalf("stratum %d with leap %d", out[1], out[0]>>6)
	}
	if out[1] == 0 {
		if string(out[12:16]) != "RATE" {
			t.Fatalf("stratum 0 with the code %q", out[12:16])
		}
		if nothing := make([]byte, 8); !bytes.Equal(out[16:24], nothing) || !bytes.Equal(out[32:40], nothing) || !bytes.Equal(out[40:], nothing) {
			t.Fatalf("a kiss that tells a time: %x", out)
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add(request(), int64(0), uint8(0), uint8(3), int64(0), int64(0), 1e-6)
	f.Add(append(request(), 1, 2, 3), int64(time.Second), uint8(3), uint8(0), int64(1e9), int64(5e8), 0.5)
	f.Add([]byte{0x16, 2, 0, 1}, int64(-1), uint8(1), uint8(15), int64(-1), int64(1<<62), -1.0)
	f.Add(bytes.Repeat([]byte{0x1b}, 68), int64(50_000), uint8(2), uint8(1), int64(20e6), int64(5e6), math.Inf(1))
	f.Fuzz(func(t *testing.T, q []byte, wait int64, leap, stratum uint8, delay, dispersion int64, growth float64) {
		r := goodReading(noon.Add(-8 * time.Second))
		r.leap, r.stratum, r.growth = leap, stratum, growth
		r.rootDelay, r.dispersion = time.Duration(delay), time.Duration(dispersion)
		st := &state{read: r, limit: time.Second, reason: judge(r, time.Second, r.at)}
		rx := noon.Add(-time.Duration(wait))
		out, ok := answered(q, rx, noon, -20, st)
		if ok != (isRequest(q) && st.silence(noon) == "" && oneClock(rx, noon)) {
			t.Fatalf("answered: %v", ok)
		}
		if ok {
			checkAnswer(t, q, out)
			if r.distance(noon) > time.Second || r.distance(noon) < 0 {
				t.Fatalf("the time is given with a distance of %v", r.distance(noon))
			}
			if diff := cmp.Diff(oracle(t, q, rx, noon, -20, st), out); diff != "" {
				t.Fatalf("the library says (-) otherwise (+):\n%s", diff)
			}
		}
		if isRequest(q) {
			var k [48]byte
			kiss(&k, q, -20)
			checkAnswer(t, q, k[:])
		}
	})
}

func TestKiss(t *testing.T) {
	t.Parallel()
	for poll, want := range map[int8]int8{-128: 6, 0: 6, 5: 6, 6: 7, 10: 11, 16: 17, 17: 17, 127: 17} {
		q := request()
		q[2] = byte(poll)
		out := [48]byte(bytes.Repeat([]byte{0xff}, 48)) // an older answer
		kiss(&out, q, -20)
		checkAnswer(t, q, out[:])
		if got := int8(out[2]); got != want {
			t.Errorf("poll %d becomes %d, want %d", poll, got, want)
		}
		if !bytes.Equal(out[4:12], make([]byte, 8)) {
			t.Errorf("root delay and dispersion are %x", out[4:12])
		}
	}
}

// control is what the kernel writes before what it says.
func control(level, kind uint32, said ...uint64) []byte {
	var b []byte
	e := binary.NativeEndian
	word := func(n uint64) {
		if wordSize == 8 {
			b = e.AppendUint64(b, n)
		} else {
			b = e.AppendUint32(b, uint32(n))
		}
	}
	word(uint64(wordSize + 8 + wordSize*len(said)))
	b = e.AppendUint32(e.AppendUint32(b, level), kind)
	for _, s := range said {
		word(s)
	}
	return b
}

// newStamp is a message with a stamp of 64 bits, on every machine.
func newStamp(sec, nsec uint64) []byte {
	if wordSize == 8 {
		return control(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, sec, nsec)
	}
	low, high := []uint64{sec, sec >> 32, nsec, 0}, []uint64{sec >> 32, sec, 0, nsec}
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		low = high
	}
	return control(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, low...)
}

func TestArrival(t *testing.T) {
	t.Parallel()
	stamp := newStamp(1_795_262_400, 500_000_000)
	other := control(unix.IPPROTO_IP, unix.IP_TTL, 64)
	short := bytes.Clone(stamp)
	short[0]-- // one byte less than a timespec
	tests := []struct {
		name    string
		control []byte
		ok      bool
	}{
		{"the stamp", stamp, true},
		{"the old stamp", control(unix.SOL_SOCKET, unix.SCM_TIMESTAMPNS, 1_795_262_400, 500_000_000), true},
		{"behind another message", slices.Concat(other, stamp), true},
		{"before another message", slices.Concat(stamp, other), true},
		{"nothing", nil, false},
		{"another message", other, false},
		{"cut short", stamp[:len(stamp)-1], false},
		{"of another length", short, false},
		{"a length of nothing", make([]byte, 64), false},
		{"a length beyond everything", bytes.Repeat([]byte{0xff}, 64), false},
	}
	for _, tt := range tests {
		got, ok := arrival(tt.control)
		if ok != tt.ok || ok && !got.Equal(noon) {
			t.Errorf("%s: %v, %v", tt.name, got, ok)
		}
	}
	in2040 := time.Unix(2_208_988_800, 5)
	if got, ok := arrival(newStamp(uint64(in2040.Unix()), 5)); !ok || !got.Equal(in2040) {
		t.Errorf("in 2040: %v, %v", got, ok)
	}
	for _, b := range [][]byte{ // both kinds of machine
		{0xc0, 0x87, 0x01, 0x6b, 0, 0x65, 0xcd, 0x1d},
		{0xc0, 0x87, 0x01, 0x6b, 0, 0, 0, 0, 0, 0x65, 0xcd, 0x1d, 0, 0, 0, 0},
	} {
		if got, ok := timespec(b); !ok || !got.Equal(noon) {
			t.Errorf("%d bytes: %v, %v", len(b), got, ok)
		}
	}
}

// The stamp of a real kernel is of 64 bits on every machine, and of now.
func TestTheKernelStampsWhatArrives(t *testing.T) {
	t.Parallel()
	lc := net.ListenConfig{Control: prepare}
	pc, err := lc.ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := pc.(*net.UDPConn)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	before := time.Now()
	if _, err := c.WriteTo(request(), c.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	in, said := make([]byte, 64), make([]byte, controlSize)
	_, n, _, _, err := c.ReadMsgUDPAddrPort(in, said)
	if err != nil {
		t.Fatal(err)
	}
	const head, timespec64 = wordSize + 8, 16
	at, ok := arrival(said[:n])
	if !ok || at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) || n != head+timespec64 {
		t.Errorf("%v, %v, %d bytes; want a stamp of now in %d", at, ok, n, head+timespec64)
	}
}

// The library's parser allocates; ours does not, and reads the same.
func FuzzArrival(f *testing.F) {
	f.Add([]byte{})
	f.Add(control(unix.SOL_SOCKET, unix.SCM_TIMESTAMPNS, 1, 2))
	f.Add(newStamp(1, 2))
	f.Add(slices.Concat(control(unix.IPPROTO_IP, unix.IP_TTL, 64), control(unix.SOL_SOCKET, unix.SCM_TIMESTAMPNS, 1, 2)))
	f.Add(bytes.Repeat([]byte{0x20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 35, 0, 0, 0}, 2))
	f.Fuzz(func(t *testing.T, oob []byte) {
		at, ok := arrival(oob)
		messages, err := unix.ParseSocketControlMessage(oob)
		if err != nil {
			return // ours may have found the stamp before what is spoiled
		}
		i := slices.IndexFunc(messages, func(m unix.SocketControlMessage) bool {
			return m.Header.Level == unix.SOL_SOCKET && (m.Header.Type == unix.SO_TIMESTAMPNS_NEW || m.Header.Type == unix.SCM_TIMESTAMPNS)
		})
		var want time.Time
		found := false
		if i >= 0 {
			want, found = timespec(messages[i].Data)
		}
		if ok != found || !at.Equal(want) {
			t.Fatalf("%x: %v, %v; the library reads %v, %v", oob, at, ok, want, found)
		}
	})
}

func TestAnAnswerAllocatesNothing(t *testing.T) {
	q, st, stamp := request(), goodState(noon), control(unix.SOL_SOCKET, unix.SCM_TIMESTAMPNS, 1_795_262_400, 500_000_000)
	var out [48]byte
	if n := testing.AllocsPerRun(100, func() {
		rx, ok := arrival(stamp)
		if !ok || !reply(&out, q, rx, noon, -20, st) {
			t.Fatal("silence")
		}
		kiss(&out, q, -20)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
