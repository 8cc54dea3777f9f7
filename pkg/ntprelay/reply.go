package ntprelay

import (
	"encoding/binary"
	"time"

	ntp "github.com/facebook/time/ntp/protocol"
)

const (
	modeClient = 3
	modeServer = 4
	// alarm is the leap indicator of who does not know the time (RFC 5905, 7.3).
	alarm = 3
)

// isRequest reports whether a datagram is a client's request (RFC 5905, 7.3):
// whole, in mode 3, of a version that has modes. Version 1 as its authors meant
// it had none (RFC 1059 knows no field for it), and what claims version 1 and
// mode 0 is silently left: nobody has sent it for thirty years. What follows the
// header (extensions, an authenticator) is not looked at, and is not answered.
func isRequest(datagram []byte) bool {
	if len(datagram) < ntp.PacketSizeBytes {
		return false
	}
	version := datagram[0] >> 3 & 7
	return datagram[0]&7 == modeClient && version >= 1 && version <= 4
}

// reply writes the answer to a request that arrived at rx and is answered at tx,
// which carries the monotonic clock. false means silence: the clock is not known
// to be right, or the two stamps cannot come from one clock.
func reply(out *[ntp.PacketSizeBytes]byte, request []byte, rx, tx time.Time, precision int8, st *state) bool {
	if !isRequest(request) || st.silence(tx) != "" || !oneClock(rx, tx) {
		return false
	}
	r, e := &st.read, binary.BigEndian
	begin(out, request, r.leap)
	out[1], out[2], out[3] = r.stratum, request[2], byte(precision)
	e.PutUint32(out[4:], short(r.rootDelay))
	e.PutUint32(out[8:], short(r.rootDispersion(tx)+slewed(rx, tx)))
	e.PutUint32(out[12:], r.refID)
	putTime(out[16:], r.refTime)
	putTime(out[32:], rx)
	putTime(out[40:], tx)
	return true
}

// kiss writes the answer to one who asks too often: a kiss-o'-death with the code
// RATE (RFC 5905, 7.4). It is no time and cannot be taken for one: stratum 0, leap
// 3, and every time in it but the client's own is zero.
func kiss(out *[ntp.PacketSizeBytes]byte, request []byte, precision int8) {
	// The poll interval, a power of two of seconds, that it should keep to: longer
	// than its own, and within what is usual and what there is (RFC 5905, 7.3).
	const usual, longest = 6, 17
	*out = [ntp.PacketSizeBytes]byte{}
	begin(out, request, alarm)
	out[2], out[3] = byte(min(max(int8(request[2]), usual-1), longest-1)+1), byte(precision)
	copy(out[12:], "RATE")
}

// begin writes what every answer has: the mode, and the client's own version and
// transmit time, by which it knows whose answer it is.
func begin(out *[ntp.PacketSizeBytes]byte, request []byte, leap uint8) {
	out[0] = leap<<6 | request[0]&0x38 | modeServer
	copy(out[24:32], request[40:48])
}

// putTime writes a moment in NTP's format of 32.32 bits (RFC 5905, 6). The era
// is not told: the seconds begin anew in 2036.
func putTime(out []byte, t time.Time) {
	sec, frac := ntp.Time(t)
	binary.BigEndian.PutUint64(out, uint64(sec)<<32|uint64(frac))
}

// maxWait is how long a request may wait for its answer.
const maxWait = time.Second

// slewed is by how much the mean of both stamps can be more wrong than the second,
// because the clock was being corrected while the request waited: microseconds as
// a rule.
func slewed(rx, tx time.Time) time.Duration {
	return time.Duration(float64(tx.Round(0).Sub(rx.Round(0))) * (fastestSlew / 2))
}

// oneClock reports whether a request that arrived at rx can have been read at
// tx. If the clock was set in between, it cannot.
func oneClock(rx, tx time.Time) bool {
	wait := tx.Round(0).Sub(rx.Round(0)) // both on the wall clock
	return wait >= 0 && wait <= maxWait
}

// short writes a duration in NTP's short format, 16.16 bits of seconds (RFC
// 5905, 6), rounded up: an error bound must not shrink.
func short(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	const most = 1<<32 - 1
	s := uint64(d / time.Second)
	if s > 0xffff {
		return most
	}
	frac := (uint64(d%time.Second)<<16 + uint64(time.Second) - 1) / uint64(time.Second)
	return uint32(min(s<<16+frac, most))
}

// measurePrecision returns the clock's precision as a power of two of seconds
// (RFC 5905, 7.3): the shortest time in which it is seen to go on.
func measurePrecision() int8 {
	best := time.Second
	for range 100 {
		a, b := time.Now(), time.Now()
		if d := b.Sub(a); d > 0 {
			best = min(best, d)
		}
	}
	p := int8(0)
	for d := time.Second; d > best && p > -29; d /= 2 {
		p--
	}
	return p
}
