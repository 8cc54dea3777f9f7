package sim

import (
	"fmt"
	"net"
	"sync"
	"time"

	ntp "github.com/facebook/time/ntp/protocol"
)

// A Lie is what a time server says that should not be believed.
type Lie struct {
	// Leap is 0 to 3; 3 means that it does not know the time itself.
	Leap uint8
	// Stratum is 0 to 16; 0 and 16 mean the same.
	Stratum uint8
	// RootDelay and RootDispersion are how wrong it says it may be; at most some
	// 18 hours.
	RootDelay, RootDispersion time.Duration
	// Off is how far its time is from the machine's when it begins to tell it,
	// ahead when positive. From then on it runs evenly: who sets the machine's
	// clock does not move it.
	Off time.Duration
}

// A liar is a time server that lies.
type liar struct {
	conn net.PacketConn
	wg   sync.WaitGroup
}

// Lie puts a time server that lies in the place of the one that the gateway
// follows, which is stopped. StopLie and StartClock bring that one back.
func (c *Cloud) Lie(l Lie) error {
	if c.Clock != nil {
		c.StopClock()
	}
	c.StopLie()
	conn, err := c.Space.listenUDP(TimeAddr + ":123")
	if err != nil {
		return err
	}
	c.liar = &liar{conn: conn}
	c.liar.wg.Go(func() { l.tell(conn) })
	return nil
}

// StopLie takes the lying time server away.
func (c *Cloud) StopLie() {
	if c.liar == nil {
		return
	}
	c.liar.conn.Close()
	c.liar.wg.Wait()
	c.liar = nil
}

// tell answers every request until the socket is closed.
func (l Lie) tell(conn net.PacketConn) {
	buf := make([]byte, 1024)
	began := time.Now()
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if out, err := l.answer(buf[:n], began.Add(time.Since(began))); err == nil {
			conn.WriteTo(out, from)
		}
	}
}

// answer is the lie as an NTP packet (RFC 5905, 7.3).
func (l Lie) answer(request []byte, now time.Time) ([]byte, error) {
	if len(request) < ntp.PacketSizeBytes {
		return nil, fmt.Errorf("a request of %d bytes", len(request))
	}
	var q ntp.Packet
	if err := q.UnmarshalBinary(request[:ntp.PacketSizeBytes]); err != nil {
		return nil, err
	}
	const server = 4
	p := ntp.Packet{
		Settings: l.Leap<<6 | q.Settings&0x38 | server, Stratum: l.Stratum, Poll: q.Poll, Precision: -20,
		RootDelay: shortFormat(l.RootDelay), RootDispersion: shortFormat(l.RootDispersion),
		OrigTimeSec: q.TxTimeSec, OrigTimeFrac: q.TxTimeFrac,
	}
	told := now.Add(l.Off)
	p.RefTimeSec, p.RefTimeFrac = ntp.Time(told.Add(-time.Second))
	p.RxTimeSec, p.RxTimeFrac = ntp.Time(told)
	p.TxTimeSec, p.TxTimeFrac = ntp.Time(told)
	return p.Bytes()
}

// shortFormat writes a duration as 16.16 bits of seconds (RFC 5905, 6).
func shortFormat(d time.Duration) uint32 { return uint32(d.Seconds() * (1 << 16)) }
