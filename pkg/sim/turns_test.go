package sim

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

// talk is turns that ask for names, on a clock that the test turns.
type talk struct {
	t *testing.T
	turns
	now time.Time
}

func newTalk(t *testing.T, together int, s Script) *talk {
	return &talk{t, newTurns(s, together, time.Second, new([mostAskers]uint8)), time.Unix(1_800_000_000, 0)}
}

// asks returns the next question.
func (k *talk) asks() []byte {
	k.t.Helper()
	if !k.idle() {
		k.t.Fatal("nobody is free to ask")
	}
	_, question := k.ask(k.now)
	return slices.Clone(question)
}

// hears an answer after a while.
func (k *talk) hears(answer []byte, after time.Duration) {
	k.now = k.now.Add(after)
	k.hear(answer, k.now)
}

// Every answer is looked at: what is right, wrong, a failure, late or nobody's is
// counted as such.
func TestAnswersAreCountedForWhatTheyAre(t *testing.T) {
	k := newTalk(t, 3, &NameScript{Word: "known", Zone: BenchZone})
	one, two, three := k.asks(), k.asks(), k.asks()
	if k.idle() || k.waiting() != 3 {
		t.Errorf("three of three are asked, and %d wait", k.waiting())
	}
	k.hears(fastAnswer(nil, two), 2*time.Millisecond)
	k.hears(fastAnswer(nil, two), 0) // twice
	failed := fastAnswer(nil, one)
	failed[3] |= 2
	k.hears(failed, 0)
	other := fastAnswer(nil, three)
	other[len(other)-1]++
	k.hears(other, 0)
	k.hears([]byte("rubbish"), 0)
	k.asks()
	k.now = k.now.Add(time.Second)
	if !k.overdue(k.now) {
		t.Error("nobody looks for who waits too long")
	}
	k.giveUp(k.now)
	k.hears(fastAnswer(nil, one), 0) // of a round before
	got := k.end()
	want := Asked{Right: 1, Wrong: 1, Failed: 1, Lost: 1, Stray: 3, Wall: 2 * time.Millisecond}
	if len(got.Waits) != 1 || got.Waits[0] != 2*time.Millisecond || k.waiting() > 0 {
		t.Errorf("one answer took 2 ms, and %v is counted; %d wait", got.Waits, k.waiting())
	}
	if got.Waits = nil; !sameCount(got, want) {
		t.Errorf("counted as %+v, want %+v", got, want)
	}
}

// An answer to what was asked in an earlier call is nobody's, though the place is
// the same.
func TestAnswersOfBeforeAreNobodys(t *testing.T) {
	k := newTalk(t, 1, &NameScript{Word: "known", Zone: BenchZone})
	before := k.asks()
	k.turns = newTurns(k.script, 1, time.Second, k.rounds)
	k.asks()
	k.hears(fastAnswer(nil, before), 0)
	if got := k.end(); got.Stray != 1 || got.Wrong > 0 || k.waiting() != 1 {
		t.Errorf("an answer of before is counted as %+v", got)
	}
}

func sameCount(a, b Asked) bool {
	return a.Right == b.Right && a.Wrong == b.Wrong && a.Failed == b.Failed && a.Lost == b.Lost && a.Stray == b.Stray && a.Wall == b.Wall
}

func TestNamesAreJudged(t *testing.T) {
	known := &NameScript{Word: "known", Zone: BenchZone, Names: 2}
	denied := &NameScript{Word: "other", Zone: "example.com", Denied: true}
	change := func(at int, to byte) func([]byte) []byte {
		return func(m []byte) []byte { m[at] = to; return m }
	}
	nameError := func(m []byte) []byte { m[3], m[7] = 0x83, 0; return m }
	for name, c := range map[string]struct {
		script *NameScript
		change func(answer []byte) []byte
		want   Verdict
	}{
		"the right address":                 {known, change(2, 0x81), Right},
		"another name's":                    {known, change(13, 'x'), Wrong},
		"no address":                        {known, change(7, 0), Wrong},
		"cut short":                         {known, func(m []byte) []byte { return m[:len(m)-3] }, Wrong},
		"only a header":                     {known, func(m []byte) []byte { return m[:dnsHeader] }, Wrong},
		"a length beyond the end":           {known, func(m []byte) []byte { m[len(m)-5] = 200; return m }, Wrong},
		"does not exist, though it does":    {known, nameError, Wrong},
		"SERVFAIL":                          {known, change(3, 0x82), Failed},
		"REFUSED":                           {denied, change(3, 0x85), Failed},
		"denied":                            {denied, nameError, Right},
		"denied, and an address all along":  {denied, change(2, 0x81), Wrong},
		"denied, and an address beside it":  {denied, change(3, 0x83), Wrong},
		"denied with the question left out": {denied, func(m []byte) []byte { nameError(m); return m[:dnsHeader] }, Wrong},
	} {
		question := c.script.Ask(nil, 7)
		answer := c.change(fastAnswer(nil, question))
		if got := c.script.Judge(question, answer, time.Time{}, time.Time{}); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestNamesHaveTheirTurn(t *testing.T) {
	known, fresh := &NameScript{Word: "known", Zone: BenchZone, Names: 2}, &NameScript{Word: "new", Zone: BenchZone}
	asked := func(s *NameScript) string { return string(s.Ask(nil, 0)[dnsHeader:]) }
	if a, b, c := asked(known), asked(known), asked(known); a == b || a != c {
		t.Errorf("of two names each has its turn; asked were %q, %q, %q", a, b, c)
	}
	seen := map[string]bool{}
	for range 1000 {
		if name := asked(fresh); seen[name] {
			t.Fatalf("%q comes twice", name)
		} else {
			seen[name] = true
		}
	}
	if !seen["\x0bnew00000999\x05bench\x07example\x00\x00\x01\x00\x01"] {
		t.Error("the thousandth name is not new00000999.bench.example")
	}
}

// The resolver of the uplink answers what resolvers ask, in whatever case.
func TestFastNamesAnswer(t *testing.T) {
	q := append([]byte{1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}, "\x05KnOwN\x05bEnCh\x07eXaMpLe\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"...)
	end := len(q) - 11 // where the OPT begins
	a := fastAnswer(nil, q)
	if string(a[dnsHeader:end]) != string(q[dnsHeader:end]) || a[11] != 1 {
		t.Errorf("the answer is %x: want the question as it was spelt, and EDNS", a)
	}
	if got, ok := firstAddress(a, end); !ok || got != benchAddr(wireName("known.bench.example")) {
		t.Errorf("the address is %v, want the name's", got)
	}
	q[end-3] = 28 // AAAA
	if a := fastAnswer(nil, q); a[3]&0xf != 0 || a[7] != 0 {
		t.Errorf("AAAA is answered with %x, want none", a)
	}
	for _, none := range [][]byte{nil, q[:11], q[:20], {0, 0, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1}} {
		if a := fastAnswer(nil, none); len(a) > 0 {
			t.Errorf("%x is no question, and is answered with %x", none, a)
		}
	}
}

// stamped is an answer of a server whose clock is off.
func stamped(question []byte, received, sent time.Time) []byte {
	a := make([]byte, ntpLength)
	a[0], a[1] = 4<<3|4, 3
	copy(a[24:32], question[40:48])
	for at, when := range map[int]time.Time{32: received, 40: sent} {
		binary.BigEndian.PutUint32(a[at:], uint32(when.Unix()+2208988800))
		binary.BigEndian.PutUint32(a[at+4:], uint32(uint64(when.Nanosecond())<<32/1e9))
	}
	return a
}

func TestTimeIsJudged(t *testing.T) {
	s := &TimeScript{}
	sent := time.Unix(1_800_000_000, 500_000_000)
	answer := func(off time.Duration, change func([]byte)) Verdict {
		q := s.Ask(nil, 9)
		a := stamped(q, sent.Add(20*time.Microsecond+off), sent.Add(30*time.Microsecond+off))
		change(a)
		return s.Judge(q, a, sent, sent.Add(50*time.Microsecond))
	}
	for name, c := range map[string]struct {
		off    time.Duration
		change func([]byte)
		want   Verdict
	}{
		"right":                        {0, func([]byte) {}, Right},
		"fast by 3 µs":                 {3 * time.Microsecond, func([]byte) {}, Right},
		"slow by 9 µs":                 {-9 * time.Microsecond, func([]byte) {}, Right},
		"off by an hour":               {time.Hour, func([]byte) {}, Wrong},
		"of another question":          {0, func(a []byte) { a[24] = 'x' }, Wrong},
		"of a client":                  {0, func(a []byte) { a[0] = 4<<3 | 3 }, Wrong},
		"not synchronised":             {0, func(a []byte) { a[0] |= 3 << 6 }, Failed},
		"a kiss-o'-death":              {0, func(a []byte) { a[1] = 0 }, Failed},
		"of a stratum that is nowhere": {0, func(a []byte) { a[1] = 16 }, Failed},
	} {
		if got := answer(c.off, c.change); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	errors := s.Errors()
	if len(errors) != 3 || errors[0] > 10 || (errors[1]-3*time.Microsecond).Abs() > 10 || (errors[2]-9*time.Microsecond).Abs() > 10 {
		t.Errorf("the errors are %v, want 0, 3 and 9 µs", errors)
	}
	if m, ok := s.Mark(stamped(s.Ask(nil, 513), sent, sent)); !ok || m != 513 {
		t.Errorf("the mark comes back as %d, %v", m, ok)
	}
}

// Whatever arrives, asking goes on.
func FuzzAnswers(f *testing.F) {
	names, clock := &NameScript{Word: "known", Zone: BenchZone, Names: 1}, &TimeScript{}
	f.Add(fastAnswer(nil, names.Ask(nil, 1)))
	f.Add(stamped(clock.Ask(nil, 1), time.Unix(1_800_000_000, 0), time.Unix(1_800_000_000, 0)))
	f.Fuzz(func(t *testing.T, answer []byte) {
		fastAnswer(nil, answer)
		for _, s := range []Script{names, &TimeScript{}} {
			if _, ok := s.Mark(answer); ok {
				s.Judge(s.Ask(nil, 1), answer, time.Unix(1_800_000_000, 0), time.Unix(1_800_000_000, 1000))
			}
		}
	})
}
