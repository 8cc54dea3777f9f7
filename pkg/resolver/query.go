package resolver

import (
	"crypto/rand"
	"encoding/binary"

	"github.com/miekg/dns"
)

// The header of a message (RFC 1035, 4.1.1), as far as it is read by hand.
const (
	messageHeader = 12
	bitResponse   = 0x80 // of the third octet
	bitTC         = 0x02 // of the third octet
	bitRD         = 0x01 // of the third octet
	opcodeMask    = 0x78 // of the third octet
	rcodeMask     = 0x0f // of the fourth octet
)

// A query is a question in wire form, with what its answer must repeat.
type query struct {
	wire []byte // the whole message
	end  int    // where its question ends
	edns bool
	// mixed means that the letters are in a case that the answer must repeat.
	mixed bool
}

// manners are what a server does not put up with.
type manners struct {
	noEDNS   bool // it does not answer a query with EDNS
	sameCase bool // it does not repeat the letters' case
}

// writeQuery writes the question "A of name" into buf: with an id that nobody can
// guess, and the letters of the name in a case that nobody can guess, which a
// true answer repeats (0x20).
func writeQuery(buf []byte, name string, m manners) (query, error) {
	var random [2 + 32]byte     // for the id, and a bit for each octet of a name
	_, _ = rand.Read(random[:]) // never fails
	buf = append(buf[:0], random[0], random[1], bitRD, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	var at [256]byte
	n, err := dns.PackDomainName(name, at[:], 0, nil, false)
	if err != nil {
		return query{}, err
	}
	if !m.sameCase {
		mixCase(at[:n], random[2:])
	}
	buf = append(buf, at[:n]...)
	buf = append(buf, 0, byte(dns.TypeA), 0, dns.ClassINET)
	q := query{end: len(buf), edns: !m.noEDNS, mixed: !m.sameCase}
	if q.edns { // RFC 6891, 6.1.2: the root, OPT, what we take, no flags, no options
		buf[11] = 1
		buf = append(buf, 0, 0, byte(dns.TypeOPT), udpSize>>8, udpSize&0xff, 0, 0, 0, 0, 0, 0)
	}
	q.wire = buf
	return q, nil
}

// mixCase turns the letters of a name in wire form by the bits given. The octet
// before a label is at most 63, which is no letter.
func mixCase(name, bits []byte) {
	for i, c := range name {
		if isLetter(c) && bits[i/8]>>(i%8)&1 == 1 {
			name[i] = c ^ 0x20
		}
	}
}

func isLetter(c byte) bool { c |= 0x20; return 'a' <= c && c <= 'z' }

// A verdict is what a message from a server is to a query.
type verdict int

// Verdicts. The zero value means that none has come.
const (
	nothing verdict = iota
	wrong           // it belongs to another question
	folded          // it fits but for the case of its letters
	flooded         // so many were wrong that somebody forges them
	right
)

// judge compares a message with a query: its id and its question, by octets.
// Over UDP nothing else tells a true answer from a forged or a late one
// (RFC 5452, 9.1). Only a server that could not read the question may leave it
// out.
func (q query) judge(in []byte) verdict {
	if len(in) < messageHeader || in[0] != q.wire[0] || in[1] != q.wire[1] || in[2]&bitResponse == 0 || in[2]&opcodeMask != 0 {
		return wrong
	}
	questions := binary.BigEndian.Uint16(in[4:])
	if questions == 0 && in[3]&rcodeMask == dns.RcodeFormatError {
		return right
	}
	if questions != 1 || len(in) < q.end {
		return wrong
	}
	v := right
	for i := messageHeader; i < q.end; i++ {
		switch mine, its := q.wire[i], in[i]; {
		case mine == its:
		case mine^its == 0x20 && isLetter(mine) && i < q.end-4:
			v = folded
		default:
			return wrong
		}
	}
	return v
}

// read parses a message that fits. The question is made lower case before that,
// so that names which point into it come out as they are usually written.
func (q query) read(in []byte) (*dns.Msg, error) {
	if binary.BigEndian.Uint16(in[4:]) == 1 {
		for i := messageHeader; i < q.end-4; i++ {
			if isLetter(in[i]) {
				in[i] |= 0x20
			}
		}
	}
	m := new(dns.Msg)
	if err := m.Unpack(in); err != nil {
		return nil, err
	}
	return m, nil
}

func isTruncated(in []byte) bool { return in[2]&bitTC != 0 }

func isFormatError(in []byte) bool { return in[3]&rcodeMask == dns.RcodeFormatError }
