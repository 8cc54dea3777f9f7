package ntprelay

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"

	ntp "github.com/facebook/time/ntp/protocol"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

// chronyFloat writes a number as chronyd does: a signed exponent of 7 bits and a
// signed coefficient of 25 (candm.h).
func chronyFloat(f float64) uint32 {
	frac, exp := math.Frexp(f)
	return uint32(exp+1)<<25 | uint32(int32(frac*(1<<24)))&(1<<25-1)
}

// trackingReply is what chronyd answers to a tracking request.
func trackingReply(sequence uint32, stratum, leap uint16, ref time.Time, delay, dispersion float64) []byte {
	var b bytes.Buffer
	write := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&b, binary.BigEndian, v) // a buffer takes everything
		}
	}
	write(uint8(6), uint8(2), uint16(0), uint16(33), uint16(5), uint16(0), [3]uint16{}, sequence, [2]uint32{})
	write(uint32(0xc0000201), [4]byte{192, 0, 2, 1}, [12]byte{}, uint16(1), uint16(0), stratum, leap)
	write(uint32(ref.Unix()>>32), uint32(ref.Unix()), uint32(ref.Nanosecond()))
	for _, f := range []float64{0, 0, 0, 10, 0, 1, delay, dispersion, 64} {
		write(chronyFloat(f))
	}
	return b.Bytes()
}

// fakeChronyd answers each request with what reply makes of its sequence number.
func fakeChronyd(t *testing.T, reply func(sequence uint32) [][]byte) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		in := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromUDPAddrPort(in)
			if err != nil {
				return
			}
			if n < 12 {
				continue
			}
			for _, out := range reply(binary.BigEndian.Uint32(in[8:])) {
				_, _ = c.WriteToUDPAddrPort(out, from)
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// serving runs a relay until the test ends, and returns its address.
func serving(t *testing.T, cfg Config, book *charger.Book, log *event.Log) (*Server, netip.AddrPort) {
	t.Helper()
	cfg.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	s := New(cfg, book, log)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	at := s.Addrs()[0]
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan error, 1)
	go func() { end <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-end; err != nil {
			t.Errorf("Serve ended with %v", err)
		}
	})
	return s, at
}

// until waits for a condition that another goroutine brings about.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("waited too long until %s", what)
		case <-tick.C:
		}
	}
}

// ask sends a datagram and returns the answer, or nil for silence.
func ask(t *testing.T, at netip.AddrPort, q []byte, patience time.Duration) []byte {
	t.Helper()
	c, err := net.Dial("udp4", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(q); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	in := make([]byte, 1024)
	n, err := c.Read(in)
	if err != nil {
		return nil
	}
	return in[:n]
}

func TestAChargerGetsTheTime(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("served", func(t *testing.T) {
		ref := time.Now().Add(-time.Minute)
		chronyd := fakeChronyd(t, func(seq uint32) [][]byte {
			return [][]byte{trackingReply(seq, 3, 0, ref, 0.02, 0.005)}
		})
		mac, me := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 7}, netip.MustParseAddr("127.0.0.1")
		book := charger.NewBook(charger.Inventory{mac: {MAC: mac, Name: "P1-07"}}, nil)
		book.Leased(mac, "P1", me, true, time.Now())
		book.Resolved(me, time.Now())
		log := event.New(event.Options{Keep: 10})
		s, at := serving(t, Config{Source: Chrony, Chronyd: chronyd}, book, log)
		until(t, "the clock is known", func() bool { return s.Clock().Synchronised })

		before := time.Now()
		out := ask(t, at, request(), 5*time.Second)
		after := time.Now()
		p, err := ntp.BytesToPacket(out)
		if err != nil {
			t.Fatalf("answer %x: %v", out, err)
		}
		rx, tx := ntp.Unix(p.RxTimeSec, p.RxTimeFrac), ntp.Unix(p.TxTimeSec, p.TxTimeFrac)
		if slack := time.Microsecond; rx.Before(before.Add(-slack)) || tx.Before(rx) || tx.After(after.Add(slack)) {
			t.Errorf("asked at %v, received %v, sent %v, answered %v", before, rx, tx, after)
		}
		if p.Stratum != 3 || p.ReferenceID != 0xc0000201 || p.RefTimeSec != uint32(ref.Unix()+2_208_988_800) {
			t.Errorf("answer %+v", p)
		}
		if got := book.All(time.Now())[0].Stage; got != charger.Cloud {
			t.Errorf("the charger stands on %q, want %q", got, charger.Cloud)
		}
		c := s.Clock()
		if c.Stratum != 3 || c.RefID != "192.0.2.1" || c.Reason != "" || c.RootDistance < 14*time.Millisecond || c.RootDistance > 17*time.Millisecond {
			t.Errorf("Clock() = %+v", c)
		}
		for _, q := range [][]byte{request()[:47], append([]byte{0x16}, request()[1:]...), {}} {
			if out := ask(t, at, q, 50*time.Millisecond); out != nil {
				t.Errorf("%x was answered with %x", q, out)
			}
		}
		page := scrape(t, s)
		if page["chargegate_ntprelay_synchronised"] != 1 || page["chargegate_ntprelay_requests_total/answered"] != 1 ||
			page["chargegate_ntprelay_requests_total/invalid"] != 3 {
			t.Errorf("metrics %v", page)
		}
	})
}

func TestSilenceIsSaid(t *testing.T) {
	log := event.New(event.Options{Keep: 10})
	chronyd := fakeChronyd(t, func(seq uint32) [][]byte { return [][]byte{trackingReply(seq, 0, 3, time.Unix(0, 0), 1, 1)} })
	s, at := serving(t, Config{Source: Chrony, Chronyd: chronyd}, charger.NewBook(nil, nil), log)
	until(t, "chronyd was asked", func() bool { return s.count.polls.Load() > 0 })
	for range 3 {
		if out := ask(t, at, request(), 50*time.Millisecond); out != nil {
			t.Errorf("an unsynchronised relay answered %x", out)
		}
	}
	var said []string
	for _, r := range log.Recent(0, "") {
		said = append(said, r.Message)
	}
	want := []string{"127.0.0.1 asked for the time, but this box does not know it: the clock is not synchronised"}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestChronydThatCannotBeTrusted(t *testing.T) {
	t.Parallel()
	good := func(seq uint32) []byte { return trackingReply(seq, 3, 0, time.Now(), 0.01, 0.001) }
	tests := []struct {
		name  string
		reply func(seq uint32) [][]byte
		want  string // in the error
	}{
		{"another question's answer", func(seq uint32) [][]byte { return [][]byte{good(seq + 1)} }, "another question"},
		{"cut short", func(seq uint32) [][]byte { return [][]byte{good(seq)[:60]} }, "EOF"},
		{"garbage", func(uint32) [][]byte { return [][]byte{[]byte("PONG")} }, "EOF"},
		{"not authorised", func(seq uint32) [][]byte {
			b := good(seq)
			b[9] = 2
			return [][]byte{b}
		}, "UNAUTH"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, err := askChronyd(t.Context(), fakeChronyd(t, tt.reply))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, %v; want an error with %q", r, err, tt.want)
			}
		})
	}
}

func TestChronydThatIsSilentDoesNotHoldUsUp(t *testing.T) {
	t.Parallel()
	at := fakeChronyd(t, func(uint32) [][]byte { return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := askChronyd(ctx, at); err == nil {
		t.Error("no error")
	}
}

func TestTheKernelCanBeAsked(t *testing.T) {
	t.Parallel()
	r, err := askKernel(t.Context())
	if err != nil && os.IsPermission(err) {
		t.Skip("adjtimex is denied here")
	}
	if err != nil || r.stratum != kernelStratum || r.limit != kernelLimit {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestListenSaysWhatIsTaken(t *testing.T) {
	t.Parallel()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	taken := c.LocalAddr().(*net.UDPAddr).AddrPort()
	s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0"), taken}}, charger.NewBook(nil, nil), nil)
	err = s.Serve(t.Context())
	if want := "listening on udp " + taken.String(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	if len(s.Addrs()) != 0 {
		t.Errorf("holds %v after a failure", s.Addrs())
	}
}

func TestListenBeforeTheInterfaceHasItsAddress(t *testing.T) {
	t.Parallel()
	s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.1:0")}}, charger.NewBook(nil, nil), nil)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Errorf("again: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Serve(ctx); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// scrape returns the room's metrics as name/label to value.
func scrape(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	page := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "/" + l.GetValue()
			}
			page[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return page
}

// Somebody asks under a charger's address, as often as he likes: the charger, which
// asks every 15 s, is heard all the same.
func TestWhoseAddressIsBorrowedIsNotSilenced(t *testing.T) {
	t.Parallel()
	for _, perSecond := range []int{2, 50, 2000} {
		synctest.Test(t, func(t *testing.T) {
			s, heard := New(Config{}, nil, nil), 0
			const asked = 60
			for range asked {
				for range 15 * perSecond {
					s.mayAsk(charger7, time.Now())
					time.Sleep(time.Second / time.Duration(perSecond))
				}
				if s.mayAsk(charger7, time.Now()) {
					heard++
				}
			}
			if heard < 3 { // a quarter is 15
				t.Errorf("%d a second in its name: the charger is heard %d times of %d", perSecond, heard, asked)
			}
		})
	}
}
