package ntprelay

import (
	"time"

	ntp "github.com/facebook/time/ntp/protocol"
)

const (
	modeClient = 3
	modeServer = 4
)

// isRequest reports whether a datagram is a client's request (RFC 5905, 7.3):
// whole, in mode 3, of a version that has modes. What follows the header
// (extensions, an authenticator) is not looked at, and is not answered.
func isRequest(datagram []byte) bool {
	if len(datagram) < ntp.PacketSizeBytes {
		return false
	}
	version := datagram[0] >> 3 & 7
	return datagram[0]&7 == modeClient && version >= 1 && version <= 4
}

// reply makes the answer to a datagram that arrived at rx and is answered at
// tx, which carries the monotonic clock. false means silence: the datagram is no
// request, the clock is not known to be right, or the two stamps cannot come
// from one clock.
func reply(datagram []byte, rx, tx time.Time, precision int8, st *state) ([]byte, bool) {
	if !isRequest(datagram) || st.silence(tx) != "" || !oneClock(rx, tx) {
		return nil, false
	}
	var q ntp.Packet
	if err := q.UnmarshalBinary(datagram[:ntp.PacketSizeBytes]); err != nil {
		return nil, false
	}
	r := st.read
	p := ntp.Packet{
		Settings:       r.leap<<6 | q.Settings&0x38 | modeServer, // the version is the client's
		Stratum:        r.stratum,
		Poll:           q.Poll,
		Precision:      precision,
		RootDelay:      short(r.rootDelay),
		RootDispersion: short(r.rootDispersion(tx)),
		ReferenceID:    r.refID,
		OrigTimeSec:    q.TxTimeSec,
		OrigTimeFrac:   q.TxTimeFrac,
	}
	p.RefTimeSec, p.RefTimeFrac = ntp.Time(r.refTime)
	p.RxTimeSec, p.RxTimeFrac = ntp.Time(rx)
	p.TxTimeSec, p.TxTimeFrac = ntp.Time(tx)
	out, err := p.Bytes()
	return out, err == nil && len(out) <= len(datagram)
}

// maxWait is how long a request may wait for its answer.
const maxWait = time.Second

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
