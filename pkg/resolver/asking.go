package resolver

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

const (
	headerLen = 12
	// maxName is the longest name as it stands in a message (RFC 1035, 2.3.4).
	maxName = 255
)

// An asking is what a message asks, as far as it matters here. Other records than
// OPT are passed over unopened, so that whatever is packed into them costs
// nothing.
type asking struct {
	msg       *dns.Msg // header, question if there is one, and OPTs without their options
	cookie    []byte   // the first cookie's value (RFC 7873); nil: none, or one that cannot be
	badCookie bool     // its length is none that a cookie has
	keepalive bool     // edns-tcp-keepalive (RFC 7828)
	signed    bool     // by TSIG (RFC 8945) or SIG(0) (RFC 2931)
}

// readAsking takes a message apart whose opcode is QUERY. It is not ok when the
// message is no question: cut short, more than one question (RFC 9619), a name
// that points elsewhere before there is an elsewhere, records where only answers
// have them, or options that reach beyond their record. Bytes after the last
// record are nobody's business and passed over, as unbound does.
func readAsking(in []byte) (q asking, ok bool) {
	counts := func(i int) int { return int(binary.BigEndian.Uint16(in[4+2*i:])) }
	bits := binary.BigEndian.Uint16(in[2:])
	q.msg = &dns.Msg{MsgHdr: dns.MsgHdr{
		Id:               binary.BigEndian.Uint16(in),
		RecursionDesired: bits&(1<<8) != 0,
		CheckingDisabled: bits&(1<<4) != 0,
	}}
	at := headerLen
	switch counts(0) {
	case 0:
	case 1:
		if at, ok = q.question(in); !ok {
			return q, false
		}
	default:
		return q, false
	}
	// An IXFR brings its SOA in the authority section (RFC 1995, 3).
	isIXFR := len(q.msg.Question) == 1 && q.msg.Question[0].Qtype == dns.TypeIXFR
	if counts(1) > 0 || counts(2) > 0 && !isIXFR {
		return q, false
	}
	for range counts(2) {
		if _, at, ok = nextRecord(in, at); !ok {
			return q, false
		}
	}
	for i := range counts(3) {
		var rr rawRecord
		if rr, at, ok = nextRecord(in, at); !ok {
			return q, false
		}
		switch rr.kind {
		case dns.TypeOPT:
			if !q.opt(rr) {
				return q, false
			}
		case dns.TypeTSIG, dns.TypeSIG:
			if i != counts(3)-1 { // RFC 8945, 5.2: it must be the last
				return q, false
			}
			q.signed = true
		}
	}
	return q, true
}

// question reads the question and returns where it ends.
func (q *asking) question(in []byte) (end int, ok bool) {
	end = headerLen
	for {
		if end >= len(in) || in[end] > 63 || end-headerLen >= maxName {
			return 0, false
		}
		label := int(in[end])
		end += 1 + label
		if label == 0 {
			break
		}
	}
	if end+4 > len(in) {
		return 0, false
	}
	name, _, err := dns.UnpackDomainName(in[:end], headerLen)
	if err != nil {
		return 0, false
	}
	q.msg.Question = []dns.Question{{
		Name:   name,
		Qtype:  binary.BigEndian.Uint16(in[end:]),
		Qclass: binary.BigEndian.Uint16(in[end+2:]),
	}}
	return end + 4, true
}

// A rawRecord is a record as it stands in a message.
type rawRecord struct {
	root  bool // its name is the root
	kind  uint16
	class uint16
	ttl   uint32
	data  []byte
}

// nextRecord reads the record that begins at at, and returns where it ends. Its
// name is not followed.
func nextRecord(in []byte, at int) (rr rawRecord, end int, ok bool) {
	const fixed = 10 // type, class, TTL, length
	end = at
	for {
		if end >= len(in) || end-at > maxName {
			return rr, 0, false
		}
		label := int(in[end])
		if label >= 0xc0 { // a pointer ends a name
			end += 2
			break
		}
		if label > 63 {
			return rr, 0, false
		}
		end += 1 + label
		if label == 0 {
			break
		}
	}
	if end+fixed > len(in) {
		return rr, 0, false
	}
	h := in[end : end+fixed]
	rr = rawRecord{root: end == at+1, kind: binary.BigEndian.Uint16(h), class: binary.BigEndian.Uint16(h[2:]), ttl: binary.BigEndian.Uint32(h[4:])}
	end += fixed
	length := int(binary.BigEndian.Uint16(h[8:]))
	if end+length > len(in) {
		return rr, 0, false
	}
	rr.data = in[end : end+length]
	return rr, end + length, true
}

// opt takes over an OPT record (RFC 6891, 6.1). The options of a version that
// we do not speak are not read.
func (q *asking) opt(rr rawRecord) bool {
	if !rr.root {
		return false
	}
	o := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: rr.class, Ttl: rr.ttl}}
	if len(q.msg.Extra) < 2 { // two are one too many already
		q.msg.Extra = append(q.msg.Extra, o)
	}
	if o.Version() != 0 {
		return true
	}
	for data := rr.data; len(data) > 0; {
		if len(data) < 4 {
			return false
		}
		code, length := binary.BigEndian.Uint16(data), int(binary.BigEndian.Uint16(data[2:]))
		if len(data) < 4+length {
			return false
		}
		q.option(code, data[4:4+length])
		data = data[4+length:]
	}
	return true
}

// option takes over an option that we know. All others are ignored (RFC 6891,
// 6.1.2).
func (q *asking) option(code uint16, value []byte) {
	switch code {
	case dns.EDNS0COOKIE:
		switch {
		case q.cookie != nil || q.badCookie: // the first one counts (RFC 7873, 5.2)
		case isCookie(value):
			q.cookie = value
		default:
			q.badCookie = true
		}
	case dns.EDNS0TCPKEEPALIVE:
		q.keepalive = true
	}
}
