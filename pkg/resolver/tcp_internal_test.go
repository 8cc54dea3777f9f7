package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// framed puts messages one after the other as they go over TCP.
func framed(messages ...[]byte) (out []byte) {
	for _, m := range messages {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(m))), m...)
	}
	return out
}

// dial opens a TCP conversation that ends with the test.
func (g *garage) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(g.at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// hear reads one answer.
func hear(t testing.TB, r io.Reader) *dns.Msg {
	t.Helper()
	b, err := readMessage(r)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return m
}

func numbered(id uint16) func(*dns.Msg) { return func(q *dns.Msg) { q.Id = id } }

func TestAnswersOverTCPComeAsSoonAsTheyCan(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	slow := says(t, "api.zaptec.com. 60 IN A 192.0.2.1")
	g := open(t, zaptecAnd(t), upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
		<-release
		slow(w, q)
	}))
	c := g.dial(t)
	// All in one segment; the first has to wait for the upstream.
	if _, err := c.Write(framed(
		wire(t, "api.zaptec.com.", dns.TypeA, numbered(1)), wire(t, "POOL.ntp.org.", dns.TypeA, numbered(2)), wire(t, "example.com.", dns.TypeA, numbered(3)),
	)); err != nil {
		t.Fatal(err)
	}
	got := []uint16{hear(t, c).Id, hear(t, c).Id}
	if slices.Sort(got); !slices.Equal(got, []uint16{2, 3}) {
		t.Errorf("first came %v, want 2 and 3", got)
	}
	// He has asked everything and says so; the answer still comes, then the end.
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	close(release)
	if m := hear(t, c); m.Id != 1 || len(m.Answer) != 1 {
		t.Errorf("at last came %v", m)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the last answer: %v, want the end", err)
	}
}

func TestOneConversationMayAskSoMuch(t *testing.T) {
	t.Parallel()
	g := open(t, zaptecAnd(t))
	c := g.dial(t)
	go func() { // the server may hang up meanwhile
		for i := range tcpQuestions + 5 {
			_, _ = c.Write(framed(wire(t, "pool.ntp.org.", dns.TypeA, numbered(uint16(i)))))
		}
	}()
	heard := map[uint16]bool{}
	for {
		b, err := readMessage(c)
		if err != nil {
			break
		}
		heard[binary.BigEndian.Uint16(b)] = true
	}
	if len(heard) != tcpQuestions {
		t.Errorf("%d answers, want %d", len(heard), tcpQuestions)
	}
}

// The manners of who asks over TCP, on the bubble's clock. The far end is the
// asker's.
func TestMannersOverTCP(t *testing.T) {
	t.Parallel()
	q := framed(wire(t, "pool.ntp.org.", dns.TypeA))
	tests := []struct {
		name   string
		do     func(c net.Conn) // until the server hangs up, or he does
		lasts  time.Duration
		wanted int // answers
	}{
		{"says nothing", func(c net.Conn) {}, tcpFirst, 0},
		{"asks, then says nothing", func(c net.Conn) { _, _ = c.Write(q) }, tcpIdle, 1},
		{"asks again before the end", func(c net.Conn) {
			_, _ = c.Write(q)
			time.Sleep(tcpIdle - time.Second)
			_, _ = c.Write(q)
		}, 2*tcpIdle - time.Second, 2},
		{"sends a byte a second", func(c net.Conn) {
			for _, b := range q {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, tcpFirst, 0},
		{"sends half a question and leaves", func(c net.Conn) { _, _ = c.Write(q[:9]); c.Close() }, 0, 0},
		{"announces too long a question", func(c net.Conn) { _, _ = c.Write([]byte{0xff, 0xff}) }, 0, 0},
		{"sends an empty message, then a question", func(c net.Conn) { _, _ = c.Write(append([]byte{0, 0}, q...)) }, tcpIdle, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := depot(t)
				defer s.memory.shut()
				far, near := net.Pipe()
				began := time.Now()
				answers := 0
				var heard sync.WaitGroup
				heard.Go(func() {
					for {
						if _, err := readMessage(far); err != nil {
							return
						}
						answers++
					}
				})
				heard.Go(func() { tt.do(far) })
				s.converse(t.Context(), near, asker)
				took := time.Since(began)
				heard.Wait()
				far.Close()
				if took != tt.lasts || answers != tt.wanted {
					t.Errorf("lasted %v with %d answers, want %v with %d", took, answers, tt.lasts, tt.wanted)
				}
			})
		})
	}
}

func TestWhoDoesNotReadHisAnswersIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := depot(t)
		defer s.memory.shut()
		far, near := net.Pipe()
		var sent sync.WaitGroup
		sent.Go(func() {
			for range 40 {
				if _, err := far.Write(framed(wire(t, "pool.ntp.org.", dns.TypeA))); err != nil {
					return
				}
			}
			t.Error("all was read while no answer was")
		})
		began := time.Now()
		s.converse(t.Context(), near, asker)
		if took := time.Since(began); took != tcpPatience {
			t.Errorf("waited %v for him, want %v", took, tcpPatience)
		}
		sent.Wait()
	})
}

func TestWhoAsksTooMuchOverTCPIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := depot(t)
		defer s.memory.shut()
		far, near := net.Pipe()
		go func() {
			for {
				if _, err := far.Write(framed(wire(t, "pool.ntp.org.", dns.TypeA))); err != nil {
					return
				}
			}
		}()
		answers := make(chan int)
		go func() {
			n := 0
			for ; ; n++ {
				if _, err := readMessage(far); err != nil {
					break
				}
			}
			answers <- n
		}()
		for s.limit.Allow(asker, time.Now()) { // all but ten of the burst are used up
		}
		time.Sleep(10 * time.Second / DefaultRate)
		s.converse(t.Context(), near, asker)
		if n := <-answers; n < 10 || n > 40 { // a quarter of what is over leaks
			t.Errorf("%d answers, want 10 and not many more", n)
		}
	})
}

// Serve ends at once with conversations in every state, and leaves nothing
// behind.
func TestEndingWithOpenConversations(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("ends", func(t *testing.T) {
		silence := upstream(t, nil, silent)
		s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Upstreams: []Upstream{{Addr: silence}}}, zaptecAnd(t), nil, nil)
		for range 2 {
			if err := s.Listen(); err != nil {
				t.Fatal(err)
			}
			g := &garage{Server: s, at: s.Addrs()[0]}
			ctx, cancel := context.WithCancel(t.Context())
			end := make(chan error, 1)
			go func() { end <- s.Serve(ctx) }()
			idle, half, waits := g.dial(t), g.dial(t), g.dial(t)
			for c, what := range map[net.Conn][]byte{half: {0}, waits: framed(wire(t, "api.zaptec.com.", dns.TypeA))} {
				if _, err := c.Write(what); err != nil {
					t.Fatal(err)
				}
			}
			eventually(func() bool { return s.waiting.open() == 1 })
			began := time.Now()
			cancel()
			if err := <-end; err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("the end took %v", took)
			}
			for i, c := range []net.Conn{idle, half, waits} {
				if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
					t.Errorf("conversation %d goes on: %v", i, err)
				}
			}
		}
	})
}

// A listener that meets every shortage in turn, and ends.
type short struct {
	net.Listener
	errs []error
}

func (s *short) Accept() (net.Conn, error) {
	err := s.errs[0]
	s.errs = s.errs[1:]
	return nil, err
}

func TestShortagesDoNotEndTheListening(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		last := errors.New("the listener is broken")
		l := &short{errs: []error{fmt.Errorf("accept: %w", unix.EMFILE), fmt.Errorf("accept: %w", unix.ECONNABORTED), last}}
		if err := depot(t).serveTCP(t.Context(), l, new(sync.WaitGroup)); err != last {
			t.Errorf("ended with %v, want %v", err, last)
		}
	})
}
