package ntprelay

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	ntp "github.com/facebook/time/ntp/protocol"
	"github.com/google/go-cmp/cmp"
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
	out, ok := reply(q, rx, tx, -24, goodState(noon.Add(-10*time.Second)))
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
		RootDispersion: 329,  // 5 ms + 10 s · 2 ppm
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
	out, ok := reply(request(), later, later, -20, goodState(later))
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
			out, ok := reply(q, noon, noon, -20, st)
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
			if out, ok := reply(tt.q, tt.rx, noon, -20, tt.st); ok {
				t.Errorf("answered %x", out)
			}
		})
	}
}

func TestOddTrailersAreNotParsed(t *testing.T) {
	t.Parallel()
	for _, trailer := range []int{1, 3, 4, 20, 24, 500} {
		q := append(request(), bytes.Repeat([]byte{0xff}, trailer)...)
		if out, ok := reply(q, noon, noon, -20, goodState(noon)); !ok || len(out) != 48 {
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

func FuzzReply(f *testing.F) {
	f.Add(request(), int64(0), uint8(0), uint8(3))
	f.Add(append(request(), 1, 2, 3), int64(time.Second), uint8(3), uint8(0))
	f.Add([]byte{0x16, 2, 0, 1}, int64(-1), uint8(1), uint8(15))
	f.Fuzz(func(t *testing.T, q []byte, wait int64, leap, stratum uint8) {
		r := goodReading(noon)
		r.leap, r.stratum = leap, stratum
		st := &state{read: r, limit: time.Second, reason: judge(r, time.Second, noon)}
		out, ok := reply(q, noon.Add(-time.Duration(wait)), noon, -20, st)
		if !ok {
			return
		}
		p, err := ntp.BytesToPacket(out)
		switch {
		case err != nil:
			t.Fatalf("the answer does not parse: %v", err)
		case len(out) > len(q) || len(out) != 48:
			t.Fatalf("%d bytes in, %d bytes out", len(q), len(out))
		case p.Settings&7 != 4 || p.Settings>>6 == 3 || p.Stratum == 0 || p.Stratum > 15:
			t.Fatalf("an answer with settings %#x and stratum %d", p.Settings, p.Stratum)
		case !bytes.Equal(out[24:32], q[40:48]):
			t.Fatalf("origin %x is not the client's %x", out[24:32], q[40:48])
		}
	})
}

func FuzzArrival(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0x20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 35, 0, 0, 0}, 2))
	f.Fuzz(func(_ *testing.T, oob []byte) { arrival(oob) })
}
