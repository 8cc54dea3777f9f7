package sim

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/miekg/dns"
)

// BenchZone is the zone of the names that a bench asks for. FastNames knows all
// that are in it, and the configurations of the bench allow them.
const BenchZone = "bench.example"

// NameScript asks for addresses of names: Word and a number of eight digits, in a
// zone. Of Names numbers each has its turn, again and again; 0: no name comes
// twice.
type NameScript struct {
	Word, Zone string
	Names      int
	// Denied names do not exist; all others have the address that FastNames gives
	// them.
	Denied bool

	asked int
	zone  []byte // as it stands in a message, with type and class
}

const (
	dnsHeader  = 12
	nameDigits = 8
)

// Ask appends a question for the next name.
func (s *NameScript) Ask(to []byte, mark uint16) []byte {
	if s.zone == nil {
		s.zone = append(wireName(s.Zone), 0, byte(dns.TypeA), 0, dns.ClassINET)
	}
	n := s.asked
	if s.asked++; s.Names > 0 {
		n %= s.Names
	}
	to = append(to, byte(mark>>8), byte(mark), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // RD
	to = append(to, byte(len(s.Word)+nameDigits))
	to = append(to, s.Word...)
	to = append(to, "00000000"...)
	for at := len(to) - 1; n > 0; at, n = at-1, n/10 {
		to[at] = byte('0' + n%10)
	}
	return append(to, s.zone...)
}

// wireName is a name as it stands in a message.
func wireName(name string) []byte {
	var b []byte
	for label := range bytes.SplitSeq([]byte(name), []byte(".")) {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0)
}

// Mark is the message's id.
func (*NameScript) Mark(answer []byte) (uint16, bool) {
	if len(answer) < dnsHeader || answer[2]&0x80 == 0 {
		return 0, false
	}
	return binary.BigEndian.Uint16(answer), true
}

// Judge wants the question repeated, and the address of the name; of a denied one
// that it does not exist.
func (s *NameScript) Judge(question, answer []byte, _, _ time.Time) Verdict {
	rcode := int(answer[3] & 0xf)
	switch {
	case rcode == dns.RcodeServerFailure || rcode == dns.RcodeRefused:
		return Failed
	case len(answer) < len(question) || !bytes.Equal(question[dnsHeader:], answer[dnsHeader:len(question)]):
		return Wrong
	case s.Denied && rcode == dns.RcodeNameError && answer[6]|answer[7] == 0:
		return Right
	case s.Denied || rcode != dns.RcodeSuccess:
		return Wrong
	}
	got, ok := firstAddress(answer, len(question))
	if !ok || got != benchAddr(question[dnsHeader:len(question)-4]) {
		return Wrong
	}
	return Right
}

// firstAddress is the first address among the answers of a message whose
// questions end at a place.
func firstAddress(m []byte, at int) (addr [4]byte, ok bool) {
	for range binary.BigEndian.Uint16(m[6:]) {
		if at = nameEnd(m, at); at < 0 || at+10 > len(m) {
			return addr, false
		}
		kind, length := binary.BigEndian.Uint16(m[at:]), int(binary.BigEndian.Uint16(m[at+8:]))
		if at += 10; at+length > len(m) {
			return addr, false
		}
		if kind == dns.TypeA && length == 4 {
			return [4]byte(m[at:]), true
		}
		at += length
	}
	return addr, false
}

// nameEnd is where a name ends that begins at a place; below 0: nowhere.
func nameEnd(m []byte, at int) int {
	for at < len(m) {
		switch length := int(m[at]); {
		case length == 0:
			return at + 1
		case length >= 0xc0:
			return at + 2
		case length > 63:
			return -1
		default:
			at += 1 + length
		}
	}
	return -1
}

// benchAddr is the address of a name as it stands in a message: one of benchNets,
// whatever the case of its letters.
func benchAddr(name []byte) [4]byte {
	h := uint32(2166136261) // FNV-1a
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		h = (h ^ uint32(c)) * 16777619
	}
	return [4]byte{198, 16 | byte(h>>16&1), byte(h >> 8), byte(h)}
}
