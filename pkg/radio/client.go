package radio

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"github.com/mdlayher/wifi"
	"golang.org/x/sys/unix"

	"chargegate/pkg/charger"
	"chargegate/pkg/signal"
)

// stations is what is asked of nl80211.
type stations interface {
	Interfaces() ([]*wifi.Interface, error)
	Stations(*wifi.Interface) ([]listed, error)
}

var (
	_ stations = (*line)(nil)
	_ surveyor = (*line)(nil)
)

// answerWithin bounds one question to the kernel. With a dying radio each station costs
// its own timeout of seconds.
const answerWithin = 20 * time.Second

// A standing is whether a station has been let through.
type standing int

// Standings. brcmfmac and whatever is built upon mac80211 tell it; a driver that does
// not leaves it untold, and who is listed counts as let through.
const (
	untold  standing = iota
	outside          // it has authenticated at most: that takes one frame, and no passphrase
	inside           // authorized: the handshake with the passphrase has succeeded
)

// A listed is one entry of what a driver lists.
type listed struct {
	*wifi.StationInfo
	standing standing
}

// A line is a conversation with nl80211, on two sockets: what the library asks, and the
// question for stations, of whose answer the library leaves out who is let through.
type line struct {
	ctx    context.Context
	wifi   *wifi.Client
	own    *genetlink.Conn
	family genetlink.Family
}

// dial opens a conversation with nl80211 for one round. A fresh one for each
// round costs a few messages and cannot go stale: the family's number changes
// when the wireless drivers are loaded again.
func dial(ctx context.Context) (stations, func(), error) {
	w, err := wifi.New()
	if err != nil {
		return nil, nil, err
	}
	own, err := genetlink.Dial(nil)
	if err != nil {
		w.Close()
		return nil, nil, err
	}
	l := &line{ctx: ctx, wifi: w, own: own}
	if l.family, err = own.GetFamily(unix.NL80211_GENL_NAME); err != nil {
		l.close()
		return nil, nil, err
	}
	// A deadline in the past ends a question that is under way when ctx ends.
	stop := context.AfterFunc(ctx, func() { l.until(time.Unix(1, 0)) })
	return l, func() { stop(); l.close() }, nil
}

func (l *line) close() {
	l.wifi.Close()
	l.own.Close()
}

func (l *line) until(t time.Time) error {
	return errors.Join(l.wifi.SetDeadline(t), l.own.SetDeadline(t))
}

// renew gives the next question its own time, unless all is over.
func (l *line) renew() error {
	if err := l.until(time.Now().Add(answerWithin)); err != nil {
		return err
	}
	if l.ctx.Err() != nil {
		return l.until(time.Unix(1, 0))
	}
	return nil
}

// Interfaces lists the wireless interfaces.
func (l *line) Interfaces() ([]*wifi.Interface, error) {
	if err := l.renew(); err != nil {
		return nil, err
	}
	return l.wifi.Interfaces()
}

// SurveyInfo returns what the driver has counted of channels.
func (l *line) SurveyInfo(ifi *wifi.Interface) ([]*wifi.SurveyInfo, error) {
	if err := l.renew(); err != nil {
		return nil, err
	}
	return l.wifi.SurveyInfo(ifi)
}

// Stations lists who is on an interface, let through or not.
func (l *line) Stations(ifi *wifi.Interface) ([]listed, error) {
	if err := l.renew(); err != nil {
		return nil, err
	}
	return dump(l.own, l.family, ifi)
}

// dump asks the driver for the stations of an interface. It asks once: some radios'
// firmware is asked about each station in turn.
func dump(c *genetlink.Conn, f genetlink.Family, ifi *wifi.Interface) ([]listed, error) {
	ask := netlink.NewAttributeEncoder()
	ask.Uint32(unix.NL80211_ATTR_IFINDEX, uint32(ifi.Index))
	data, err := ask.Encode()
	if err != nil {
		return nil, err
	}
	answers, err := c.Execute(genetlink.Message{
		Header: genetlink.Header{Command: unix.NL80211_CMD_GET_STATION, Version: f.Version}, Data: data,
	}, f.ID, netlink.Request|netlink.Dump)
	if err != nil {
		return nil, err
	}
	all := make([]listed, len(answers))
	for i, m := range answers {
		all[i].standing = standingOf(m.Data)
		if all[i].StationInfo, err = wifi.ParseStationInfo(m.Data); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// standingOf reads in one entry of the list whether the station is authorized:
// NL80211_STA_INFO_STA_FLAGS, a mask of the flags that the driver knows and which of
// them are set (struct nl80211_sta_flag_update).
func standingOf(entry []byte) standing {
	const authorized = 1 << unix.NL80211_STA_FLAG_AUTHORIZED
	found := untold
	attrs, err := netlink.NewAttributeDecoder(entry)
	if err != nil {
		return untold
	}
	for attrs.Next() {
		if attrs.Type() != unix.NL80211_ATTR_STA_INFO {
			continue
		}
		attrs.Nested(func(info *netlink.AttributeDecoder) error {
			for info.Next() {
				if info.Type() != unix.NL80211_STA_INFO_STA_FLAGS {
					continue
				}
				flags := info.Bytes()
				switch {
				case len(flags) < 8, binary.NativeEndian.Uint32(flags)&authorized == 0:
				case binary.NativeEndian.Uint32(flags[4:])&authorized == 0:
					found = outside
				default:
					found = inside
				}
			}
			return nil
		})
	}
	return found
}

// A Station is one device on a radio, as the driver describes it.
type Station struct {
	MAC       charger.MAC
	Signal    int           // dBm of the last frame; 0: unknown (F-11)
	Median    int           // dBm over the window; 0: unknown
	Early     time.Duration // until there can be a median, where there is none
	Grade     signal.Grade  // the verdict on Median
	GradeFor  time.Duration // how long it has been that
	Said      signal.Grade  // the verdict that has lasted long enough to be said
	Resent    int           // percent of what was sent to it in the last ten minutes and had to be sent again; -1: too little to tell
	Inactive  time.Duration // since its last frame
	Connected time.Duration // since it joined; 0: the driver does not say
	Sent      int           // frames to it, since it joined
	Retries   int           // frames to it that had to be sent again, since it joined
	Failed    int           // frames to it that were lost, since it joined
	BitrateUp int           // bit/s from it; 0: unknown
	BitrateDn int           // bit/s to it; 0: unknown
}

// read makes Stations of what the driver says. Entries without the address of
// a single device are passed over.
func read(infos []listed) []Station {
	out := make([]Station, 0, len(infos))
	for _, in := range infos {
		if in.StationInfo == nil || len(in.HardwareAddr) != len(charger.MAC{}) ||
			in.HardwareAddr[0]&1 != 0 || bytes.Equal(in.HardwareAddr, make([]byte, len(charger.MAC{}))) {
			continue
		}
		out = append(out, Station{
			MAC: charger.MAC(in.HardwareAddr), Signal: known(in.Signal, in.SignalAverage),
			Inactive: max(0, in.Inactive), Connected: max(0, in.Connected),
			Sent: max(0, in.TransmittedPackets), Retries: max(0, in.TransmitRetries), Failed: max(0, in.TransmitFailed),
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
