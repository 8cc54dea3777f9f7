package ntprelay

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// FuzzChronyd lets a chronyd answer with anything. Nothing of it does harm, and
// whatever passes for a right clock can be told to a charger.
func FuzzChronyd(f *testing.F) {
	good := trackingReply(0, 3, 0, time.Now(), 0.01, 0.001)
	f.Add(good, true)
	f.Add(good[:60], true)
	f.Add(good, false)
	f.Add([]byte("PONG"), false)
	sources := append(slices.Clone(good[:28]), 0, 0, 0, 2)
	sources[7] = 2 // RPY_N_SOURCES
	f.Add(sources, true)
	source := append(slices.Clone(good[:28]), make([]byte, 48)...)
	source[7] = 3 // RPY_SOURCE_DATA
	f.Add(source, true)
	for _, at := range []int{60, 76, 80, 84, 88, 104, 108, 112} { // numbers of the tracking report at their limits
		wild := slices.Clone(good)
		binary.BigEndian.PutUint32(wild[min(at, len(wild)-4):], 0x7dffffff)
		f.Add(wild, true)
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { c.Close() })
	at := c.LocalAddr().(*net.UDPAddr).AddrPort()
	f.Fuzz(func(t *testing.T, answer []byte, honest bool) {
		if len(answer) == 0 {
			return // UDP has empty datagrams; the library waits for the next one
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			in := make([]byte, 2048)
			for {
				n, from, err := c.ReadFromUDPAddrPort(in)
				if err != nil {
					return
				}
				out := slices.Clone(answer)
				if honest && len(out) >= 20 && n >= 12 {
					copy(out[16:20], in[8:12]) // the sequence number
				}
				_, _ = c.WriteToUDPAddrPort(out, from)
			}
		}()
		defer func() { _ = c.SetReadDeadline(time.Now()); <-done; _ = c.SetReadDeadline(time.Time{}) }()
		if list, err := askSources(ctx, at); err == nil && len(list) > maxSources {
			t.Errorf("%d sources", len(list))
		}
		r, err := askChronyd(ctx, at)
		if err != nil {
			return
		}
		for _, later := range []time.Duration{0, time.Second, time.Minute} {
			now := time.Now().Add(later)
			st := &state{read: r, limit: time.Second, reason: judge(r, time.Second, time.Now())}
			heard := st.silence(now) == ""
			st.read = r.unheard()
			if still := st.silence(now) == ""; still && !heard {
				t.Errorf("the time is given because nobody is heard: %+v", r)
			}
			st.read = r
			q := request()
			if out, ok := answered(q, now, now, -20, st); ok {
				checkAnswer(t, q, out)
				if d := r.distance(now); d < 0 || d > time.Second || r.stratum == 0 || r.leap > 2 {
					t.Errorf("the time is given with %+v", r)
				}
			}
		}
	})
}

// FuzzHandler lets anybody send anything to a relay that knows the time.
func FuzzHandler(f *testing.F) {
	f.Add(request())
	f.Add(request()[:47])
	f.Add([]byte{0x16, 2, 0, 1})
	f.Add(make([]byte, 1400))
	f.Add(append(request(), 0, 1, 2))
	s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}}, charger.NewBook(nil, nil), event.New(event.Options{Keep: 1}))
	s.watch = func(context.Context) (reading, error) { return goodReading(time.Now()), nil }
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Listen(); err != nil {
		f.Fatal(err)
	}
	to := net.UDPAddrFromAddrPort(s.Addrs()[0])
	end := make(chan error, 1)
	go func() { end <- s.Serve(ctx) }()
	f.Cleanup(func() { cancel(); <-end })
	for !s.Clock().Synchronised {
		time.Sleep(time.Millisecond)
	}
	last := request()
	copy(last[40:], "the last")
	f.Fuzz(func(t *testing.T, q []byte) {
		c, err := net.DialUDP("udp4", nil, to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if len(q) > 1400 {
			q = q[:1400]
		}
		for _, out := range [][]byte{q, last} { // the answer to the last one ends the wait for one to q
			if _, err := c.Write(out); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		in := make([]byte, 2048)
		for answers := 0; ; answers++ {
			n, err := c.Read(in)
			if err != nil {
				t.Fatalf("%x: %v", q, err)
			}
			if n == 48 && string(in[24:32]) == "the last" {
				if answers == 0 && isRequest(q) && string(q[40:48]) != "the last" {
					t.Fatalf("%x was not answered", q)
				}
				break
			}
			if answers > 0 || !isRequest(q) {
				t.Fatalf("%x has answer %d, %x", q, answers+1, in[:n])
			}
			checkAnswer(t, q, in[:n])
		}
		if s.count.panics.Load() > 0 {
			t.Fatal("it panicked")
		}
	})
}
