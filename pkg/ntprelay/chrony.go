package ntprelay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/facebook/time/ntp/chrony"
)

const (
	// exchangeTime is how long chronyd has for an answer.
	exchangeTime = 500 * time.Millisecond
	// localRefID is what chronyd calls its reference in "local" mode, when it has
	// no source at all: 127.127.1.1.
	localRefID = 0x7f7f0101
)

// A line is a conversation with chronyd's command port. Each has a socket of its
// own, so that what comes too late finds nobody.
type line struct {
	net.Conn
	client chrony.Client
}

// callChronyd opens a line that lasts exchangeTime at most, and not longer than
// ctx. The func closes it.
func callChronyd(ctx context.Context, at netip.AddrPort) (*line, func(), error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", at.String())
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	hangUp := func() { stop(); c.Close() }
	if err := c.SetDeadline(time.Now().Add(exchangeTime)); err != nil {
		hangUp()
		return nil, nil, err
	}
	return &line{Conn: c, client: chrony.Client{Connection: c, Sequence: rand.Uint32()}}, hangUp, nil
}

// askChronyd asks chronyd how right the clock is.
func askChronyd(ctx context.Context, at netip.AddrPort) (reading, error) {
	l, hangUp, err := callChronyd(ctx, at)
	if err != nil {
		return reading{}, err
	}
	defer hangUp()
	now := time.Now() // the answer is of this moment or a later one, and so not too young
	answer, err := l.ask(chrony.NewTrackingPacket())
	if err != nil {
		return reading{}, fmt.Errorf("asking chronyd at %s: %w", at, err)
	}
	t, ok := answer.(*chrony.ReplyTracking)
	if !ok || !l.fits(t.ReplyHead) {
		return reading{}, errAnother
	}
	return fromTracking(t.Tracking, now), nil
}

// errAnother is what an answer is that was not asked for.
var errAnother = errors.New("asking chronyd: its answer belongs to another question")

// ask asks one thing. Whether the answer fits is to be looked at by fits.
func (l *line) ask(q chrony.RequestPacket) (chrony.ResponsePacket, error) {
	answer, err := l.client.Communicate(q)
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err // the rest repeats what is known
	}
	return answer, err
}

// fits reports whether an answer belongs to the last question: the library does
// not compare the numbers.
func (l *line) fits(h chrony.ReplyHead) bool {
	const version, reply = 6, 2 // candm.h: PROTO_VERSION_NUMBER, PKT_TYPE_CMD_REPLY
	return h.Version == version && h.PKTType == reply && h.Sequence == l.client.Sequence
}

// fromTracking turns chronyd's report into a reading. What chronyd is still
// slewing away is part of the possible error, and between reports that grows
// with the uncertainty of the frequency, and 1 ppm for what nobody knows.
func fromTracking(t chrony.Tracking, now time.Time) reading {
	return reading{
		at:         now,
		leap:       uint8(min(t.LeapStatus, 3)),
		stratum:    uint8(min(t.Stratum, 255)),
		refID:      t.RefID,
		reference:  reference(t),
		refTime:    t.RefTime,
		rootDelay:  duration(t.RootDelay),
		dispersion: duration(t.RootDispersion + math.Abs(t.CurrentCorrection)),
		growth:     (math.Abs(t.SkewPPM) + math.Abs(t.ResidFreqPPM) + 1) * 1e-6,
		offset:     duration(t.CurrentCorrection),
		corrected:  -duration(t.LastOffset),
		local:      t.RefID == localRefID,
	}
}

// reference is the source as people know it: its address, or the word that a
// reference clock goes by.
func reference(t chrony.Tracking) string {
	if len(t.IPAddr) > 0 && !t.IPAddr.IsUnspecified() {
		return t.IPAddr.String()
	}
	return chrony.RefidToString(t.RefID)
}
