package radio

import (
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/mdlayher/wifi"

	band "chargegate/pkg/air"
	"chargegate/pkg/event"
)

const (
	// airSpan is what a channel is judged by.
	airSpan = 10 * time.Minute
	// airGap is how long nothing may be heard of the counters before the judging
	// begins anew: the radio was away.
	airGap = 2 * time.Minute
	// airPace is the shortest time between two looks: there may be more rounds when
	// stations come and go.
	airPace = 10 * time.Second
	// airLeast is how many looks there must be to judge by.
	airLeast = 10
	// Others take so much of the air when it is said, and so little when it is over.
	busyFrom, busyUntil = 0.60, 0.45
)

// A surveyor can be asked what the driver counts of the channels.
type surveyor interface {
	SurveyInfo(*wifi.Interface) ([]*wifi.SurveyInfo, error)
}

// An airtime follows how much of one radio's channel others take. Where the driver
// counts nothing it stays silent.
type airtime struct {
	driver func(ifname string) string // nil: driverOf

	frequency int // MHz
	at        time.Time
	last      band.Count
	since     time.Time // what the judging begins with
	shares    []airShare
	said      bool
}

type airShare struct {
	at    time.Time
	share float64
}

// listenIn asks a serving radio what it has counted of its channel.
func (s *Server) listenIn(c stations, i int, now time.Time, ifi *wifi.Interface) {
	a, driver := &s.watches[i].busy, driverOf
	if a.driver != nil {
		driver = a.driver
	}
	sv, ok := c.(surveyor)
	if !ok || now.Sub(a.at) < airPace || !bystander(driver(ifi.Name)) {
		return
	}
	var infos []*wifi.SurveyInfo
	err := s.guarded(func() (err error) { infos, err = sv.SurveyInfo(ifi); return err })
	if err != nil {
		return // many drivers count nothing and say so
	}
	for _, in := range infos {
		if in != nil && in.Frequency == ifi.Frequency && ifi.Frequency > 0 {
			a.look(now, in.Frequency, band.Count{Time: in.ChannelTime, Busy: in.ChannelTimeBusy, Own: in.ChannelTimeTx + in.ChannelTimeBssRx}, s.watches[i])
			return
		}
	}
}

// bystander reports whether a driver only reads counters when it is asked what it
// has counted. brcmfmac, that of the Pi's own radio, takes the radio to every
// channel in turn, 80 ms each (its brcmf_cfg80211_dump_survey), and the chargers
// would lose it. A driver whose name is not known is not asked either.
func bystander(driver string) bool { return driver != "" && driver != "brcmfmac" }

// driverOf is the name of an interface's driver, empty where it is not known.
func driverOf(ifname string) string {
	to, err := os.Readlink(filepath.Join("/sys/class/net", ifname, "device", "driver"))
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// look takes the counters of the channel, and says what has become of it.
func (a *airtime) look(now time.Time, frequency int, c band.Count, w *watch) {
	if frequency != a.frequency {
		*a = airtime{driver: a.driver, frequency: frequency}
	}
	if passed := now.Sub(a.at); passed > airGap {
		a.since, a.shares = now, nil
	} else if d := c.Since(a.last); d.Time <= 2*passed { // more has not been listened
		a.add(now, d)
	}
	a.at, a.last = now, c
	if now.Sub(a.since) >= airSpan {
		a.judge(w)
	}
}

func (a *airtime) add(now time.Time, d band.Count) {
	if share, ok := d.Share(); ok {
		a.shares = append(a.shares, airShare{now, share})
	}
	old := 0
	for old < len(a.shares) && now.Sub(a.shares[old].at) >= airSpan {
		old++
	}
	a.shares = a.shares[old:]
}

func (a *airtime) judge(w *watch) {
	if len(a.shares) < airLeast {
		return
	}
	shares := make([]float64, len(a.shares))
	for i, s := range a.shares {
		shares[i] = s.share
	}
	var k *event.Kind
	median := band.Median(shares)
	switch {
	case !a.said && median > busyFrom:
		k = event.RadioChannelBusy
	case a.said && median < busyUntil:
		k = event.RadioChannelFreer
	default:
		return
	}
	a.said = !a.said
	w.log.Say(k, event.Network(w.net.Name), event.F("INTERFACE", w.net.Interface),
		event.F("CHANNEL", band.Channel(a.frequency)), event.F("BUSY", math.Round(100*median)))
}
