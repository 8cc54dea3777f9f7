package resolver

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"chargegate/pkg/policy"

	"github.com/miekg/dns"
)

// The fast path. A question in the plainest form for a name that is remembered is
// answered from the bytes that the ordinary path (respond) made for the same
// question before: the asker's id and spelling stay where they are, and the TTLs
// are counted down. It knows nothing of the meaning of an answer. Whatever is
// unusual in a question, whatever is not remembered, and the first question after
// each change takes the ordinary way, and both give the same bytes.

const (
	headerSize = 12
	optSize    = 11 // of an OPT record without options
	// questionTail is what follows the name: type and class.
	questionTail = 4
)

// A question is one in the plainest form: an address of a name of letters,
// digits, hyphens and underscores, with nothing but an OPT record beside it that
// holds no option.
type question struct {
	name  []byte // lower case with the final dot, as key makes it
	end   int    // of the question section
	form  form
	limit int // of the answer over UDP, in bytes
}

// A form is all that may differ between questions for one name, but for the id,
// the spelling and the size.
type form int

// Forms are counted in bits: RD, AD and CD, then OPT, and OPT with DO.
const (
	desired form = 1 << iota
	authentic
	unchecked
	withOPT
	withDO
	forms
)

// hostByte is the lower case of a byte that a host name may have, else 0.
var hostByte = func() (t [256]byte) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyz0123456789-_") {
		t[c] = c
		t[bytes.ToUpper([]byte{c})[0]] = c
	}
	return t
}()

// readQuestion reads a question, if it is one in the plainest form. The name is
// written over buf.
func readQuestion(in, buf []byte) (q question, ok bool) {
	const (
		rd       = 0x01 // of the third byte
		ad, cd   = 0x20, 0x10
		counts   = "\x00\x01\x00\x00\x00\x00\x00"
		addrIN   = "\x00\x01\x00\x01"
		optOwner = "\x00\x00\x29"
	)
	if len(in) < headerSize+questionTail || in[2]&^rd != 0 || in[3]&^(ad|cd) != 0 ||
		string(in[4:11]) != counts || in[11] > 1 {
		return q, false
	}
	q.form = form(in[2]) | form(in[3]>>4&2) | form(in[3]>>2&4)
	at, name := headerSize, buf[:0]
	for at < len(in) && in[at] != 0 {
		label := in[at+1:]
		n := int(in[at])
		if n > 63 || n >= len(label) || len(name)+n+2 > 255 {
			return q, false
		}
		for _, c := range label[:n] {
			if c = hostByte[c]; c == 0 {
				return q, false
			}
			name = append(name, c)
		}
		name = append(name, '.')
		at += 1 + n
	}
	q.end = at + 1 + questionTail
	if len(name) == 0 || len(in) < q.end || string(in[at+1:q.end]) != addrIN {
		return q, false
	}
	q.name, q.limit = name, dns.MinMsgSize
	opt := in[q.end:]
	if in[11] == 0 {
		return q, len(opt) == 0
	}
	if len(opt) != optSize || string(opt[:3]) != optOwner || string(opt[5:7]) != "\x00\x00" || string(opt[8:]) != "\x00\x00\x00" {
		return q, false
	}
	q.form |= withOPT
	switch opt[7] {
	case 0:
	case 0x80:
		q.form |= withDO
	default:
		return q, false
	}
	q.limit = min(max(int(binary.BigEndian.Uint16(opt[3:])), dns.MinMsgSize), udpSize)
	return q, true
}

// readies are what is ready to answer with one kept answer, for each form of the
// question.
type readies [forms]atomic.Pointer[ready]

// readyOthers is how many forms of one answer may be ready for a name that the list
// holds by a pattern only: without EDNS and with it. A stranger who asks for
// maxNames such names in every form fills no more than that many times twice 2 kB,
// 4 MB; the other forms go the ordinary way.
const readyOthers = 2

// mayHold reports whether a form may be made ready.
func (rs *readies) mayHold(f form, exact bool) bool {
	if exact || rs[f].Load() != nil {
		return true
	}
	n := 0
	for i := range rs {
		if rs[i].Load() != nil {
			n++
		}
	}
	return n < readyOthers
}

// A ready is an answer as bytes, but for the id and the question. It is never
// changed, and is good as long as the list is the one that allowed the name.
type ready struct {
	name  string
	rules policy.Edition
	head  [headerSize - 2]byte // behind the id
	tail  []byte               // behind the question
	ttls  []ttl
	limit int // the smallest for which the ordinary path gave it whole
}

// A ttl is where one is in the tail, and what it was when it came.
type ttl struct {
	at   int
	came uint32
}

// A fast answers from what is ready. It belongs to one goroutine.
type fast struct {
	s   *Server
	buf [256]byte
}

func newFast(s *Server) *fast { return &fast{s: s} }

// answer turns a datagram into its answer, if one is ready and fits, else it
// returns nil and leaves the datagram as it was. The answer is what respond would
// give at the same moment, and all that it counts and tells has been done.
func (f *fast) answer(in []byte, from netip.Addr, now time.Time) []byte {
	q, ok := readQuestion(in, f.buf[:])
	if !ok {
		return nil
	}
	k, ok := f.s.memory.peekBytes(q.name, now)
	if !ok {
		return nil
	}
	r := k.ready[q.form].Load()
	if !r.suits(q, f.s.list.Edition()) || cap(in) < q.end+len(r.tail) {
		return nil
	}
	was := k.foundAt(now)
	f.s.noteOrigin(r.name, was)
	if len(k.addrs) > 0 {
		f.s.told(from, r.name, k.addrs, now)
	}
	out := in[:q.end+len(r.tail)]
	copy(out[2:], r.head[:])
	copy(out[q.end:], r.tail)
	for _, t := range r.ttls {
		binary.BigEndian.PutUint32(out[q.end+t.at:], was.left(t.came))
	}
	return out
}

// suits reports whether there is something ready that answers a question, while
// the list is a given one.
func (r *ready) suits(q question, rules policy.Edition) bool {
	return r != nil && r.limit <= q.limit && r.rules == rules
}

// remembered returns the answer for a name that may be asked now, while it lasts.
func (s *Server) remembered(name string, now time.Time) (*kept, bool) {
	if s.rule(dns.Question{Name: name, Qtype: dns.TypeA, Qclass: dns.ClassINET}) != lookup {
		return nil, false
	}
	return s.memory.peek(name, now)
}

// foundAt is the answer as it stands at a moment. It may have come a little later
// than that.
func (k *kept) foundAt(now time.Time) found {
	return found{answer: k.answer, origin: fromCache, age: max(now.Sub(k.since), 0), kept: k}
}

// respondSpelled is respond for an asker who hears his own spelling again, as 0x20 wants
// it. The rest of an answer does not depend on it: the question is answered in
// lower case, and the owners that repeat it point to it.
func (s *Server) respondSpelled(ctx context.Context, in []byte, from netip.Addr, over transport) []byte {
	asked := questionName(in)
	spelled := slices.Clone(asked)
	for i, c := range asked {
		if 'A' <= c && c <= 'Z' { // never the length of a label, which is less
			asked[i] = c + 'a' - 'A'
		}
	}
	out := s.respond(ctx, in, from, over)
	if len(out) > headerSize && bytes.HasPrefix(out[headerSize:], asked) {
		copy(out[headerSize:], spelled)
	}
	copy(asked, spelled)
	return out
}

// questionName returns the name of the first question where it stands, empty if
// there is none that is whole and written out.
func questionName(in []byte) []byte {
	for at := headerSize; at < len(in) && in[at] < 64; at += 1 + int(in[at]) {
		if in[at] == 0 {
			return in[headerSize : at+1]
		}
	}
	return nil
}

// respondReady is respondSpelled over UDP, and makes the answer ready for the next who asks
// the same.
func (s *Server) respondReady(ctx context.Context, in []byte, from netip.Addr) []byte {
	var buf [256]byte
	q, plainest := readQuestion(in, buf[:])
	before, rules := time.Now(), s.list.Edition()
	var k *kept
	if plainest {
		k, _ = s.remembered(string(q.name), before)
	}
	if k == nil {
		return s.respondSpelled(ctx, in, from, overUDP)
	}
	if k.ready[q.form].Load().suits(q, rules) {
		return s.respondSpelled(ctx, in, from, overUDP)
	}
	out := s.respondSpelled(ctx, in, from, overUDP)
	after := time.Now()
	// What was remembered before and is still so afterwards is what answered.
	if again, _ := s.memory.peek(string(q.name), after); again == k && k.ready.mayHold(q.form, s.memory.isExact(string(q.name))) {
		if r := k.newReady(q, in, out, before, after); r != nil {
			r.rules = rules
			k.ready[q.form].Store(r)
		}
	}
	return out
}

// newReady makes an answer ready that was given between two moments, or returns
// nil if it is not exactly the kept one, whole.
func (k *kept) newReady(q question, in, out []byte, before, after time.Time) *ready {
	const tc, rcode = 0x02, 0x0f
	if len(out) < q.end || !bytes.Equal(out[headerSize:q.end], in[headerSize:q.end]) || out[2]&tc != 0 || int(out[3]&rcode) != k.rcode {
		return nil
	}
	r := &ready{name: string(q.name), head: [headerSize - 2]byte(out[2:]), tail: slices.Clone(out[q.end:]), limit: q.limit}
	type record struct {
		kind uint16
		ttl  uint32
	}
	var want []record
	for _, rr := range k.records {
		want = append(want, record{rr.Header().Rrtype, rr.Header().Ttl})
	}
	answers, authorities, extras := len(want), 0, 0
	if len(k.addrs) == 0 && k.soa != nil {
		authorities = 1
		want = append(want, record{dns.TypeSOA, k.absent()})
	}
	if q.form&withOPT != 0 {
		extras = 1
	}
	for i, n := range []int{1, answers, authorities, extras} {
		if int(binary.BigEndian.Uint16(out[4+2*i:])) != n {
			return nil
		}
	}
	at := 0
	for _, w := range want {
		kind, ttlAt, next, ok := readRecord(r.tail, at)
		if !ok || kind != w.kind {
			return nil
		}
		left := binary.BigEndian.Uint32(r.tail[ttlAt:])
		if left > k.foundAt(before).left(w.ttl) || left < k.foundAt(after).left(w.ttl) {
			return nil
		}
		r.ttls = append(r.ttls, ttl{ttlAt, w.ttl})
		at = next
	}
	if kind, _, next, ok := readRecord(r.tail, at); extras == 1 && ok && kind == dns.TypeOPT {
		at = next
	}
	if at != len(r.tail) {
		return nil
	}
	return r
}

// readRecord finds the TTL of the record that begins at a place, and the next
// record.
func readRecord(b []byte, at int) (kind uint16, ttlAt, next int, ok bool) {
	for at < len(b) && b[at] != 0 && b[at] < 64 {
		at += 1 + int(b[at])
	}
	if at >= len(b) {
		return 0, 0, 0, false
	}
	if b[at] == 0 {
		at++
	} else {
		at += 2 // a pointer ends a name
	}
	const fixed = 10
	if at+fixed > len(b) {
		return 0, 0, 0, false
	}
	next = at + fixed + int(binary.BigEndian.Uint16(b[at+8:]))
	return binary.BigEndian.Uint16(b[at:]), at + 4, next, next <= len(b)
}
