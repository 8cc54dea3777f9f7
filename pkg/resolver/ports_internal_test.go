package resolver

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// nobody is an address on which nothing needs to listen.
var nobody = netip.MustParseAddrPort("127.0.0.1:9")

// draws takes so many ports at once.
func draws(t *testing.T, ps *ports, at netip.AddrPort, many int) []*port {
	t.Helper()
	var all []*port
	for range many {
		p, err := ps.draw(at, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func gives(ps *ports, all []*port) {
	for _, p := range all {
		ps.give(p)
	}
}

func isClosed(p *port) bool { return p.SetDeadline(time.Time{}) != nil }

// waiting returns how many ports wait to be drawn.
func (ps *ports) waiting() int {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return len(ps.idle[nobody])
}

func TestAPortIsDrawnFromMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ps ports
		defer ps.shut()
		for n := range minDrawn { // a question at a time, as in a garage
			p := draws(t, &ps, nobody, 1)[0]
			if p.uses != 1 {
				t.Fatalf("with %d idle ones, one is drawn again", n)
			}
			ps.give(p)
		}
		drawn := map[*port]bool{}
		for range 3 * minDrawn {
			p := draws(t, &ps, nobody, 1)[0]
			if p.uses == 1 {
				t.Fatal("a new one, though there are enough")
			}
			drawn[p] = true
			ps.give(p)
		}
		if len(drawn) < minDrawn*3/4 {
			t.Errorf("%d of %d are drawn", len(drawn), minDrawn)
		}
		all := draws(t, &ps, nobody, maxDrawn+minDrawn)
		gives(&ps, all)
		if n := ps.waiting(); n != maxDrawn {
			t.Errorf("%d wait, want %d", n, maxDrawn)
		}
		if !isClosed(all[len(all)-1]) {
			t.Error("one too many is still open")
		}
	})
}

func TestAPortIsNotUsedForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var ps ports
		defer ps.shut()
		gives(&ps, draws(t, &ps, nobody, minDrawn))
		for range 2 * minDrawn * portUses {
			p := draws(t, &ps, nobody, 1)[0]
			if p.uses > portUses {
				t.Fatalf("drawn for the %dth time", p.uses)
			}
			ps.give(p)
		}
		time.Sleep(portFor - 1)
		young := draws(t, &ps, nobody, 10)[1:] // the first is an old one
		gives(&ps, young)
		time.Sleep(1)
		synctest.Wait()
		if n := ps.waiting(); n != len(young) {
			t.Errorf("after %v %d wait, want the %d younger ones", portFor, n, len(young))
		}
		time.Sleep(portFor)
		synctest.Wait()
		if n := ps.waiting(); n != 0 || !isClosed(young[0]) {
			t.Errorf("%d wait, and nobody has asked for long", n)
		}
	})
}

// Where an answer is still to be expected, or something strange has come, no other
// question goes.
func TestAPortIsUsedAgainOnlyAfterARightAnswer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		after letter
		again bool
	}{
		"a right answer":              {letter{verdict: right}, true},
		"none":                        {letter{}, false},
		"one without the case":        {letter{verdict: folded}, false},
		"too many wrong ones":         {letter{verdict: flooded, wrong: maxWrong}, false},
		"a right one, after a wrong":  {letter{verdict: right, wrong: 1}, false},
		"a right one, then abandoned": {letter{verdict: right, broken: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var ps ports
			defer ps.shut()
			l := tt.after
			l.home, l.port, l.space = &ps, draws(t, &ps, nobody, 1)[0], new(space)
			l.end()
			if again := !isClosed(l.port); again != tt.again || again != (ps.waiting() == 1) {
				t.Errorf("used again: %t", again)
			}
		})
	}
}

// What comes to a port between two questions belongs to neither.
func TestALateAnswerIsNotForTheNextQuestion(t *testing.T) {
	t.Parallel()
	server, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	at := server.LocalAddr().(*net.UDPAddr).AddrPort()
	answerTo := func(q []byte, last byte) []byte {
		out := append(slices.Clone(q), 0xc0, messageHeader, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, last)
		out[2], out[7] = out[2]|bitResponse, 1
		return out
	}
	var ps ports
	defer ps.shut()
	gives(&ps, draws(t, &ps, at, minDrawn))
	before := map[netip.AddrPort][]byte{} // the question that each port had last
	ignored := 0
	for i := range byte(2 * minDrawn) {
		l, err := ps.post(at, hub, manners{noEDNS: true})
		if err != nil {
			t.Fatal(err)
		}
		in := make([]byte, 512)
		n, to, err := server.ReadFromUDPAddrPort(in)
		if err != nil {
			t.Fatal(err)
		}
		if q := before[to]; q != nil { // its answer once more
			_, _ = server.WriteToUDPAddrPort(answerTo(q, 200), to)
		}
		_, _ = server.WriteToUDPAddrPort(answerTo(in[:n], i), to)
		if err := l.await(t.Context(), time.Now().Add(10*time.Second), func() { ignored++ }); err != nil {
			t.Fatal(err)
		}
		if last := l.in[len(l.in)-1]; last != i {
			t.Errorf("question %d got the answer %d", i, last)
		}
		l.end()
		before[to] = in[:n]
	}
	if ignored == 0 {
		t.Error("no port had a second question")
	}
}
