package sim

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"
)

// TimeScript asks for the time (RFC 5905, a client in mode 3), of a server that
// goes by the same kernel clock as whoever asks: what it is off is its error, or
// the way's.
type TimeScript struct {
	// Offsets are how far each right answer was off, from its four stamps.
	Offsets []time.Duration
}

// Errors are how far the answers were off, in either direction, ascending.
func (s *TimeScript) Errors() []time.Duration {
	all := make([]time.Duration, len(s.Offsets))
	for i, o := range s.Offsets {
		all[i] = o.Abs()
	}
	slices.Sort(all)
	return all
}

const (
	ntpLength = 48
	// ntpSalt stands where a client may put anything, before the mark.
	ntpSalt = "gate\x00\x00"
	// farOff is how far no clock may be off that goes by the same kernel.
	farOff = time.Second
)

// Ask appends a request of version 4 without an own time (RFC 9109 asks for such).
func (*TimeScript) Ask(to []byte, mark uint16) []byte {
	at := len(to)
	to = append(to, make([]byte, ntpLength)...)
	to[at] = 4<<3 | 3
	copy(to[at+40:], ntpSalt)
	binary.BigEndian.PutUint16(to[at+46:], mark)
	return to
}

// Mark is the end of the origin timestamp, which repeats ours.
func (*TimeScript) Mark(answer []byte) (uint16, bool) {
	if len(answer) < ntpLength || string(answer[24:30]) != ntpSalt {
		return 0, false
	}
	return binary.BigEndian.Uint16(answer[30:]), true
}

// Judge wants the answer of a synchronised server. A kiss-o'-death and a server
// that does not know the time have failed.
func (s *TimeScript) Judge(question, answer []byte, sent, arrived time.Time) Verdict {
	leap, mode, stratum := answer[0]>>6, answer[0]&7, answer[1]
	switch {
	case mode != 4 || answer[0]>>3&7 != 4 || len(answer) != ntpLength || !bytes.Equal(answer[24:32], question[40:48]):
		return Wrong
	case leap == 3 || stratum == 0 || stratum > 15:
		return Failed
	}
	there, back := ntpTime(answer[32:]).Sub(sent), ntpTime(answer[40:]).Sub(arrived)
	offset := (there + back) / 2
	if offset.Abs() > farOff {
		return Wrong
	}
	s.Offsets = append(s.Offsets, offset)
	return Right
}

// ntpTime reads a timestamp of the era that ends in 2036.
func ntpTime(b []byte) time.Time {
	const until1970 = 2208988800
	frac := uint64(binary.BigEndian.Uint32(b[4:]))
	return time.Unix(int64(binary.BigEndian.Uint32(b))-until1970, int64(frac*1e9>>32))
}
