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
	exchangeTime = time.Second
	// localRefID is what chronyd calls its reference in "local" mode, when it has
	// no source at all: 127.127.1.1.
	localRefID = 0x7f7f0101
)

// askChronyd asks chronyd how right the clock is. Each question has a socket of
// its own, so that a late answer finds nobody.
func askChronyd(ctx context.Context, at netip.AddrPort) (reading, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", at.String())
	if err != nil {
		return reading{}, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := c.SetDeadline(time.Now().Add(exchangeTime)); err != nil {
		return reading{}, err
	}
	client := chrony.Client{Connection: c, Sequence: rand.Uint32()}
	answer, err := client.Communicate(chrony.NewTrackingPacket())
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err // the rest repeats what follows
	}
	if err != nil {
		return reading{}, fmt.Errorf("asking chronyd at %s: %w", at, err)
	}
	now := time.Now()
	t, ok := answer.(*chrony.ReplyTracking)
	if !ok || t.Sequence != client.Sequence {
		return reading{}, errors.New("asking chronyd: its answer belongs to another question")
	}
	return fromTracking(t.Tracking, now), nil
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
