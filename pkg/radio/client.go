package radio

import (
	"bytes"
	"context"
	"time"

	"github.com/mdlayher/wifi"

	"chargegate/pkg/charger"
)

// stations is what is asked of nl80211.
type stations interface {
	Interfaces() ([]*wifi.Interface, error)
	StationInfo(*wifi.Interface) ([]*wifi.StationInfo, error)
}

var _ stations = (*wifi.Client)(nil)

// answerWithin bounds one conversation with the kernel. With a dying
// radio each station costs its own timeout of seconds.
const answerWithin = 20 * time.Second

// dial opens a conversation with nl80211 for one round. A fresh one for each
// round costs three messages and cannot go stale: the family's number changes
// when the wireless drivers are loaded again.
func dial(ctx context.Context) (stations, func(), error) {
	c, err := wifi.New()
	if err != nil {
		return nil, nil, err
	}
	if err := c.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		c.Close()
		return nil, nil, err
	}
	// A deadline in the past ends a question that is under way when ctx ends.
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	return c, func() { stop(); c.Close() }, nil
}

// A Station is one device on a radio, as the driver describes it.
type Station struct {
	MAC       charger.MAC
	Signal    int           // dBm of the last frame; 0: unknown (F-11)
	Median    int           // dBm over five minutes; 0: unknown
	Grade     Grade         // the verdict on Median
	Inactive  time.Duration // since its last frame
	Connected time.Duration // since it joined; 0: the driver does not say
	Retries   int           // frames to it that had to be sent again, since it joined
	Failed    int           // frames to it that were lost, since it joined
	BitrateUp int           // bit/s from it; 0: unknown
	BitrateDn int           // bit/s to it; 0: unknown
}

// read makes Stations of what the driver says. Entries without the address of
// a single device are passed over.
func read(infos []*wifi.StationInfo) []Station {
	out := make([]Station, 0, len(infos))
	for _, in := range infos {
		if in == nil || len(in.HardwareAddr) != len(charger.MAC{}) ||
			in.HardwareAddr[0]&1 != 0 || bytes.Equal(in.HardwareAddr, make([]byte, len(charger.MAC{}))) {
			continue
		}
		out = append(out, Station{
			MAC: charger.MAC(in.HardwareAddr), Signal: known(in.Signal, in.SignalAverage),
			Inactive: max(0, in.Inactive), Connected: max(0, in.Connected),
			Retries: max(0, in.TransmitRetries), Failed: max(0, in.TransmitFailed),
			BitrateUp: max(0, in.ReceiveBitrate), BitrateDn: max(0, in.TransmitBitrate),
		})
	}
	return out
}

// known returns the first value that can be a signal: a driver that reports
// none leaves 0, and above 0 dBm nothing is ever received (F-11).
func known(values ...int) int {
	for _, v := range values {
		if v < 0 {
			return v
		}
	}
	return 0
}
