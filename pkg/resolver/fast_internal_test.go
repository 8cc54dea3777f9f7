package resolver

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

var asker = netip.MustParseAddr("10.83.0.7")

// depot is a resolver whose upstream knows one name of every kind.
func depot(t testing.TB) *Server {
	t.Helper()
	const soa = "depot.example. 300 IN SOA ns.example. root.example. 1 2 3 4 120"
	books := map[string]*dns.Msg{
		"one":  {Answer: rrs(t, "one.depot.example. 60 IN A 192.0.2.1")},
		"odd":  {Answer: rrs(t, "ODD.Depot.example. 60 IN A 192.0.2.1")},
		"none": {MsgHdr: dns.MsgHdr{Rcode: dns.RcodeNameError}, Ns: rrs(t, soa)},
		"bare": {Ns: rrs(t, soa)},
		"gone": {Answer: rrs(t, "gone.depot.example. 30 IN CNAME away.depot.example."), Ns: rrs(t, soa)},
		// The target shares its end with the question, in another spelling.
		"near": {Answer: rrs(t, "near.depot.example. 7200 IN CNAME Far.DEPOT.example.", "Far.DEPOT.example. 7 IN A 192.0.2.1", "Far.DEPOT.example. 70 IN A 192.0.2.2")},
		"zero": {Answer: rrs(t, "zero.depot.example. 0 IN A 192.0.2.1")},
	}
	long, many := &dns.Msg{}, &dns.Msg{}
	for i := range maxChain - 2 {
		long.Answer = append(long.Answer, rrs(t, fmt.Sprintf("%s.depot.example. %d IN CNAME link%d.depot.example.", cmpOr(i == 0, "long", fmt.Sprintf("link%d", i-1)), 100+i, i))...)
	}
	long.Answer = append(long.Answer, rrs(t, fmt.Sprintf("link%d.depot.example. 50 IN A 192.0.2.1", maxChain-3))...)
	for i := range maxAddrs {
		many.Answer = append(many.Answer, rrs(t, fmt.Sprintf("many.depot.example. 60 IN A 192.0.2.%d", i+1))...)
	}
	books["long"], books["many"] = long, many
	list := zaptecAnd(t, policy.Rule{Name: "*.depot.example", Ports: []uint16{443}, Reason: "test"})
	s := New(Config{Gateways: []netip.Prefix{netip.MustParsePrefix("10.83.0.1/24")}}, list,
		charger.NewBook(nil, nil), event.New(event.Options{Keep: 10}))
	exact := map[string]bool{}
	for name := range books { // as if the list held each itself, so that every form is made ready
		exact[name+".depot.example."] = true
	}
	s.memory.follow(exact)
	own := usable([]netip.Prefix{netip.MustParsePrefix("10.83.0.1/24")})
	s.memory.ask = func(_ context.Context, name string) (answer, error) {
		book, ok := books[strings.TrimSuffix(name, ".depot.example.")]
		if !ok {
			return answer{}, errDown
		}
		return reduce(name, book, own)
	}
	return s
}

func cmpOr(first bool, a, b string) string {
	if first {
		return a
	}
	return b
}

// wire is a question as bytes, with room for its answer.
func wire(t testing.TB, name string, qtype uint16, edit ...func(*dns.Msg)) []byte {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, qtype)
	q.Id = 0x4711
	for _, e := range edit {
		e(q)
	}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return roomy(b)
}

func roomy(b []byte) []byte { return append(make([]byte, 0, max(udpSize, len(b))), b...) }

// bothWays answers a question quickly and the ordinary way, and checks that
// nothing tells the answers apart, nor what was counted. quick is nil if the fast
// path left it to the other.
func bothWays(t *testing.T, s *Server, f *fast, in []byte) (quick []byte) {
	t.Helper()
	counted := func() [3]uint64 {
		return [3]uint64{s.count.lookups[fromCache].Load(), s.count.gateway.Load(), s.count.invalid.Load()}
	}
	start := counted()
	datagram := roomy(in)
	quick = f.answer(datagram, asker, time.Now())
	between := counted()
	ordinary := s.respondSpelled(t.Context(), slices.Clone(in), asker, overUDP)
	if quick == nil {
		if !bytes.Equal(datagram, in) || between != start {
			t.Errorf("what it leaves to the ordinary path was changed or counted: %x", datagram)
		}
		return nil
	}
	if !bytes.Equal(quick, ordinary) {
		t.Errorf("two answers to %x:\nquick    %x\nordinary %x", in, quick, ordinary)
	}
	for i, n := range counted() {
		if n-between[i] != between[i]-start[i] {
			t.Errorf("counter %d: quick counted %d, ordinary %d", i, between[i]-start[i], n-between[i])
		}
	}
	return quick
}

func TestBothPathsGiveTheSameAnswer(t *testing.T) {
	t.Parallel()
	type edit = func(*dns.Msg)
	opt := func(size uint16, do bool) edit { return func(q *dns.Msg) { q.SetEdns0(size, do) } }
	edits := []struct {
		name  string
		edit  edit
		quick bool
	}{
		{"plain", func(*dns.Msg) {}, true},
		{"no recursion desired", func(q *dns.Msg) { q.RecursionDesired = false }, true},
		{"AD", func(q *dns.Msg) { q.AuthenticatedData = true }, true},
		{"CD", func(q *dns.Msg) { q.CheckingDisabled = true }, true},
		{"EDNS", opt(1232, false), true},
		{"EDNS of less than the minimum", opt(100, false), true},
		{"EDNS of 512", opt(512, false), true},
		{"EDNS with DO", opt(1232, true), true},
		{"EDNS of 600", opt(600, false), true},
		{"EDNS of 4096 with DO, AD and CD", func(q *dns.Msg) { q.SetEdns0(4096, true); q.AuthenticatedData, q.CheckingDisabled = true, true }, true},
		{"EDNS with Z", func(q *dns.Msg) { q.SetEdns0(1232, false); q.IsEdns0().SetZ(1) }, false},
		{"EDNS of the future", func(q *dns.Msg) { q.SetEdns0(1232, false); q.IsEdns0().SetVersion(1) }, false},
		{"EDNS with a cookie", func(q *dns.Msg) {
			q.SetEdns0(1232, false)
			q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}}
		}, false},
		{"EDNS with padding", func(q *dns.Msg) {
			q.SetEdns0(1232, false)
			q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_PADDING{Padding: make([]byte, 8)}}
		}, false},
		{"EDNS twice", func(q *dns.Msg) { q.SetEdns0(1232, false); q.Extra = append(q.Extra, q.Extra[0]) }, false},
		{"Z", func(q *dns.Msg) { q.Zero = true }, false},
		{"TC", func(q *dns.Msg) { q.Truncated = true }, false},
		{"AA", func(q *dns.Msg) { q.Authoritative = true }, false},
		{"an update", func(q *dns.Msg) { q.Opcode = dns.OpcodeUpdate }, false},
		{"a response", func(q *dns.Msg) { q.Response = true }, false},
		{"another type", func(q *dns.Msg) { q.Question[0].Qtype = dns.TypeAAAA }, false},
		{"another class", func(q *dns.Msg) { q.Question[0].Qclass = dns.ClassCHAOS }, false},
		{"an answer beside it", func(q *dns.Msg) { q.Answer = rrs(t, "x. 1 IN A 192.0.2.1") }, false},
		{"another record beside it", func(q *dns.Msg) { q.Extra = rrs(t, "x. 1 IN A 192.0.2.1") }, false},
	}
	ages := []time.Duration{0, 300 * time.Millisecond, 1700 * time.Millisecond, 2500 * time.Millisecond, 499 * time.Millisecond}
	synctest.Test(t, func(t *testing.T) {
		s := depot(t)
		defer s.memory.shut()
		f := newFast(s)
		for _, name := range []string{"one", "odd", "none", "bare", "gone", "near", "zero", "long", "many"} {
			if _, err := s.memory.find(t.Context(), name+".depot.example."); err != nil {
				t.Fatal(err)
			}
		}
		for _, age := range ages { // 4.999 s in the end: the shortest lasts 5 s
			time.Sleep(age)
			for _, name := range []string{"one", "odd", "none", "bare", "gone", "near", "zero", "long", "many"} {
				for _, e := range edits {
					for _, spell := range []func(string) string{strings.ToLower, strings.ToUpper, mixed} {
						in := wire(t, spell(name+".depot.example."), dns.TypeA, e.edit)
						bothWays(t, s, f, in)
						s.respondReady(t.Context(), slices.Clone(in), asker)
						quick := bothWays(t, s, f, in)
						ordinary := s.respondSpelled(t.Context(), slices.Clone(in), asker, overUDP)
						// What is cut for this asker is left to the ordinary path.
						want := e.quick && ordinary[2]&0x02 == 0
						if (quick != nil) != want {
							t.Errorf("%s, %s: quick is %v, want %v", name, e.name, quick != nil, want)
						}
					}
				}
			}
		}
		for _, name := range []string{"pool.ntp.org.", "example.com.", "x.depot.example.", ".", `a\.b.depot.example.`, "*.depot.example."} {
			in := wire(t, name, dns.TypeA)
			s.respondReady(t.Context(), slices.Clone(in), asker)
			if bothWays(t, s, f, in) != nil {
				t.Errorf("%s was answered quickly", name)
			}
		}
	})
}

// mixed spells every other letter large.
func mixed(name string) string {
	b := []byte(name)
	for i := range b {
		if i%2 == 0 && 'a' <= b[i] && b[i] <= 'z' {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}

// The story of one name that is answered quickly, as long as it may be.
func TestQuickAnswersEndWhenTheyMust(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := depot(t)
		defer s.memory.shut()
		f := newFast(s)
		in := wire(t, "ONE.depot.example.", dns.TypeA)
		learn := func() { s.respondReady(t.Context(), slices.Clone(in), asker) }
		quick := func() string {
			out := bothWays(t, s, f, in)
			if out == nil {
				return "ordinary"
			}
			m := new(dns.Msg)
			if err := m.Unpack(out); err != nil {
				t.Fatal(err)
			}
			return strings.Join(texts(m.Answer), ", ")
		}
		expect := func(chapter, want string) {
			t.Helper()
			if got := quick(); got != want {
				t.Errorf("%s: %s, want %s", chapter, got, want)
			}
		}
		learn()
		expect("the first question was answered by an upstream", "ordinary")
		learn()
		expect("the second from memory", "ONE.depot.example. 60 IN A 192.0.2.1")
		time.Sleep(59*time.Second + 999*time.Millisecond)
		expect("at the last moment", "ONE.depot.example. 1 IN A 192.0.2.1")
		ask := s.memory.ask
		s.memory.ask = func(context.Context, string) (answer, error) { return answer{}, errDown }
		time.Sleep(time.Millisecond)
		expect("after its end, and no upstream answers", "ordinary")
		learn()
		expect("an old answer is not made ready", "ordinary")
		s.memory.ask = ask
		time.Sleep(time.Minute)
		learn()
		learn()
		expect("the upstream is back", "ONE.depot.example. 60 IN A 192.0.2.1")
		before := s.list.Rules()
		if err := s.list.Replace(policy.Zaptec()); err != nil {
			t.Fatal(err)
		}
		expect("the rule is gone", "ordinary")
		learn()
		expect("it was asked for without the rule", "ordinary")
		if err := s.list.Replace(before); err != nil {
			t.Fatal(err)
		}
		expect("the rule is back, and nobody has asked since", "ordinary")
		learn()
		expect("somebody has", "ONE.depot.example. 60 IN A 192.0.2.1")
	})
}

// Whoever is answered quickly has proved as much as who is answered otherwise.
func TestAQuickAnswerIsAStepOfTheLadder(t *testing.T) {
	t.Parallel()
	s := depot(t)
	defer s.memory.shut()
	mac := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 7}
	s.book = charger.NewBook(charger.Inventory{mac: {MAC: mac, Name: "P1-07"}}, nil)
	f, in := newFast(s), wire(t, "one.depot.example.", dns.TypeA)
	for range 2 {
		s.respondReady(t.Context(), slices.Clone(in), netip.MustParseAddr("10.83.0.8"))
	}
	s.book.Leased(mac, "P1", asker, true, time.Now())
	if stage := s.book.StageOf(mac); stage != charger.DNS {
		t.Fatalf("before: %s", stage)
	}
	if f.answer(in, asker, time.Now()) == nil {
		t.Fatal("not answered quickly")
	}
	if stage := s.book.StageOf(mac); stage != charger.Time {
		t.Errorf("afterwards: %s, want %s", stage, charger.Time)
	}
}

func TestQuickAnswersAllocateNothing(t *testing.T) {
	s := depot(t)
	defer s.memory.shut()
	f, in := newFast(s), wire(t, "near.depot.example.", dns.TypeA, func(q *dns.Msg) { q.SetEdns0(1232, false) })
	for range 2 {
		s.respondReady(t.Context(), slices.Clone(in), asker)
	}
	buf := roomy(in)
	if n := testing.AllocsPerRun(100, func() {
		buf = buf[:copy(buf[:cap(buf)], in)]
		if f.answer(buf, asker, time.Now()) == nil {
			t.Fatal("not answered quickly")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// Whatever is sent: a quick answer is the ordinary one, allowed, and lasts no
// longer than what is remembered.
func FuzzFast(f *testing.F) {
	for _, name := range []string{"one", "odd", "none", "bare", "gone", "near", "zero", "long", "many", "x"} {
		for _, spell := range []func(string) string{strings.ToLower, mixed} {
			f.Add(slices.Clip(wire(f, spell(name+".depot.example."), dns.TypeA)))
			f.Add(slices.Clip(wire(f, spell(name+".depot.example."), dns.TypeA, func(q *dns.Msg) { q.SetEdns0(1232, true) })))
		}
	}
	f.Add(slices.Clip(wire(f, "no.pool.ntp.org.", dns.TypeA)))
	f.Add(slices.Clip(wire(f, "api.zaptec.com.", dns.TypeAAAA)))
	s := depot(f)
	quick := newFast(s)
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > udpSize {
			return
		}
		reply := func() []byte { return s.respondSpelled(t.Context(), slices.Clone(in), asker, overUDP) }
		sent := slices.Clone(in)
		s.respondReady(t.Context(), sent, asker)
		s.respondReady(t.Context(), sent, asker)
		if !bytes.Equal(sent, in) {
			t.Fatalf("the question was changed: %x", sent)
		}
		before := reply() // a second may pass between the two
		datagram := roomy(in)
		out := quick.answer(datagram, asker, time.Now())
		if out == nil {
			if !bytes.Equal(datagram, in) {
				t.Fatalf("left to the ordinary path, but changed: %x", datagram)
			}
			return
		}
		if after := reply(); !bytes.Equal(out, before) && !bytes.Equal(out, after) {
			t.Fatalf("two answers to %x:\nquick    %x\nordinary %x", in, out, after)
		}
		m := new(dns.Msg)
		if err := m.Unpack(out); err != nil || m.Id != binary.BigEndian.Uint16(in) || len(out) > udpSize {
			t.Fatalf("%v: %x", err, out)
		}
		if !s.list.Holds(m.Question[0].Name) {
			t.Fatalf("%s may not be asked for", m.Question[0].Name)
		}
		k, ok := s.memory.peek(key(m.Question[0].Name), time.Now())
		if !ok {
			return // it has just ended
		}
		for _, rr := range slices.Concat(m.Answer, m.Ns) {
			if left := seconds(rr.Header().Ttl); left > maxTTL || left < time.Second || m.Answer == nil && left > k.ttl {
				t.Fatalf("%v is kept for %v", rr, k.ttl)
			}
		}
	})
}

func TestReadyIsMadeOfNothingElse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := depot(t)
		defer s.memory.shut()
		in := wire(t, "near.depot.example.", dns.TypeA, func(q *dns.Msg) { q.SetEdns0(1232, false) })
		s.respondSpelled(t.Context(), in, asker, overUDP)
		now := time.Now()
		k, _ := s.remembered("near.depot.example.", now)
		good := s.respondSpelled(t.Context(), in, asker, overUDP)
		q, ok := readQuestion(in, make([]byte, 256))
		if !ok || k.newReady(q, in, good, now, now) == nil {
			t.Fatal("a good answer is not made ready")
		}
		spoiled := map[string]func([]byte) []byte{
			"cut":               func(b []byte) []byte { b[2] |= 0x02; return b },
			"another rcode":     func(b []byte) []byte { b[3] |= 0x02; return b },
			"another name":      func(b []byte) []byte { b[14] ^= 0x20; return b },
			"a record less":     func(b []byte) []byte { b[7]--; return b },
			"a record more":     func(b []byte) []byte { b[9]++; return b },
			"no OPT":            func(b []byte) []byte { b[11] = 0; return b[:len(b)-optSize] },
			"a byte less":       func(b []byte) []byte { return b[:len(b)-1] },
			"a byte more":       func(b []byte) []byte { return append(b, 0) },
			"a TTL that is not": func(b []byte) []byte { b[q.end+2+4+3]++; return b },
			"another type":      func(b []byte) []byte { b[q.end+2+1] = byte(dns.TypeDNAME); return b },
			"nothing":           func([]byte) []byte { return nil },
		}
		for name, spoil := range spoiled {
			if k.newReady(q, in, spoil(slices.Clone(good)), now, now) != nil {
				t.Errorf("%s: made ready", name)
			}
		}
		if diff := cmp.Diff(good, s.respondSpelled(t.Context(), in, asker, overUDP)); diff != "" {
			t.Error(diff)
		}
	})
}

func BenchmarkQuickAnswer(b *testing.B) {
	s := depot(b)
	defer s.memory.shut()
	f, in := newFast(s), wire(b, "near.depot.example.", dns.TypeA)
	for range 2 {
		s.respondReady(b.Context(), slices.Clone(in), asker)
	}
	buf := roomy(in)
	b.ReportAllocs()
	for b.Loop() {
		buf = buf[:copy(buf[:cap(buf)], in)]
		if f.answer(buf, asker, time.Now()) == nil {
			b.StopTimer()
			for range 2 {
				s.respondReady(b.Context(), slices.Clone(in), asker)
			}
			b.StartTimer()
		}
	}
}
