package radio

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/wifi"

	band "chargegate/pkg/air"
	"chargegate/pkg/event"
)

// counting is a radio whose driver counts, and a clock for it.
type counting struct {
	a   airtime
	w   *watch
	log *event.Log
	c   band.Count
	now time.Time
}

func newCounting() *counting {
	log := event.New(event.Options{Level: event.Debug, Keep: 100})
	return &counting{w: &watch{net: Network{Name: "P1", Interface: "wlan0"}, log: log}, log: log, now: time.Unix(1e9, 0)}
}

// hears lets the radio count for a while, with others taking a share of the air and
// this radio another one.
func (k *counting) hears(d time.Duration, others, own float64) {
	const pace = 15 * time.Second
	for range d / pace {
		k.now = k.now.Add(pace)
		k.c = k.c.Plus(band.Count{Time: pace, Busy: time.Duration((others + own) * float64(pace)), Own: time.Duration(own * float64(pace))})
		k.a.look(k.now, 2437, k.c, k.w)
	}
}

func (k *counting) wants(t *testing.T, when string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, ids(k.log)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func TestBusyChannelIsSaidOnceAndWhenItIsOver(t *testing.T) {
	k := newCounting()
	k.hears(9*time.Minute, 0.8, 0)
	k.wants(t, "after nine minutes")
	k.hears(2*time.Minute, 0.8, 0)
	k.wants(t, "after eleven minutes", "radio-channel-busy")
	if r := k.log.Recent(0, "")[0]; r.Message != "others take 80 % of the air on channel 6, which is the channel of P1" {
		t.Errorf("said %q", r.Message)
	}
	k.hears(time.Hour, 0.8, 0)
	k.hears(time.Hour, 0.5, 0) // not quiet enough for it to be over
	k.hears(time.Hour, 0.8, 0)
	k.wants(t, "after hours", "radio-channel-busy")
	k.hears(4*time.Minute, 0.1, 0)
	k.wants(t, "after some quiet minutes", "radio-channel-busy")
	k.hears(3*time.Minute, 0.1, 0)
	k.wants(t, "when most of ten minutes were quiet", "radio-channel-busy", "radio-channel-freer")
	k.hears(time.Hour, 0.8, 0)
	k.wants(t, "when it comes back", "radio-channel-busy", "radio-channel-freer", "radio-channel-busy")
}

func TestWhatTheRadioSendsItselfIsNotOthers(t *testing.T) {
	k := newCounting()
	k.hears(time.Hour, 0.3, 0.6)
	k.wants(t, "a radio that is busy itself")
}

func TestADriverThatCountsNothing(t *testing.T) {
	k := newCounting()
	for range 1000 {
		k.now = k.now.Add(15 * time.Second)
		k.a.look(k.now, 2437, band.Count{Time: 80 * time.Millisecond, Busy: 80 * time.Millisecond}, k.w)
	}
	k.wants(t, "counters that stand still")
}

func TestADriverThatCountsMoreThanThereIs(t *testing.T) {
	k := newCounting()
	for range 1000 {
		k.now = k.now.Add(15 * time.Second)
		k.c = k.c.Plus(band.Count{Time: time.Hour, Busy: time.Hour})
		k.a.look(k.now, 2437, k.c, k.w)
	}
	k.wants(t, "counters that run away")
}

func TestCountersThatBeginAnew(t *testing.T) {
	k := newCounting()
	for range 20 {
		k.hears(45*time.Second, 0.1, 0)
		k.c = band.Count{Busy: k.c.Busy} // more busy than listened until the next look
	}
	k.wants(t, "a driver that is started again and again")
	k.c = band.Count{}
	k.now = k.now.Add(time.Hour) // the radio was away
	k.hears(9*time.Minute, 0.9, 0)
	k.wants(t, "nine minutes after it came back")
	k.hears(2*time.Minute, 0.9, 0)
	k.wants(t, "eleven minutes after it came back", "radio-channel-busy")
}

func TestAnotherChannelIsAnotherStory(t *testing.T) {
	k := newCounting()
	k.hears(time.Hour, 0.9, 0)
	k.a.look(k.now.Add(15*time.Second), 2412, band.Count{}, k.w)
	if k.a.said || len(k.a.shares) > 0 {
		t.Error("what was said of channel 6 is believed of channel 1")
	}
}

func TestWhatIsRememberedOfTheAirIsBounded(t *testing.T) {
	k := newCounting()
	k.hears(24*time.Hour, 0.1, 0)
	if n := len(k.a.shares); n > 40 {
		t.Errorf("%d shares are kept", n)
	}
}

// countingAir also tells what it counts.
type countingAir struct {
	*talk
	survey func() ([]*wifi.SurveyInfo, error)
	asked  int
}

func (a *countingAir) SurveyInfo(*wifi.Interface) ([]*wifi.SurveyInfo, error) {
	a.asked++
	return a.survey()
}

func TestTheAirIsAskedInService(t *testing.T) {
	for _, tt := range []struct {
		name   string
		driver string
		survey func(passed time.Duration) ([]*wifi.SurveyInfo, error)
		asked  bool
		want   bool
	}{
		{"a driver that counts", "mt76x2u", func(d time.Duration) ([]*wifi.SurveyInfo, error) {
			return []*wifi.SurveyInfo{nil, {Frequency: 2412}, {Frequency: 2437, ChannelTime: d, ChannelTimeBusy: d * 9 / 10, ChannelTimeTx: d / 10, ChannelTimeBssRx: d / 10}}, nil
		}, true, true},
		{"a driver whose own chargers talk", "mt76x2u", func(d time.Duration) ([]*wifi.SurveyInfo, error) {
			return []*wifi.SurveyInfo{{Frequency: 2437, ChannelTime: d, ChannelTimeBusy: d * 9 / 10, ChannelTimeTx: d / 10, ChannelTimeBssRx: d * 3 / 10}}, nil
		}, true, false},
		{"a driver that knows of nothing", "rt2800usb", func(time.Duration) ([]*wifi.SurveyInfo, error) { return nil, errors.ErrUnsupported }, true, false},
		{"a driver that writes too little", "rtl8xxxu", func(time.Duration) ([]*wifi.SurveyInfo, error) { panic("index out of range") }, true, false},
		{"a driver that would leave the channel for it", "brcmfmac", nil, false, false},
		{"a driver without a name", "", nil, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				serving := ap("wlan0")
				serving.Frequency = 2437
				a := &countingAir{talk: &talk{air: &air{ifis: []*wifi.Interface{serving}, info: func() ([]*wifi.StationInfo, error) { return nil, nil }}}}
				a.survey = func() ([]*wifi.SurveyInfo, error) { return tt.survey(time.Since(begin)) }
				s, log := newServer(a.air)
				s.dial = func(context.Context) (stations, func(), error) { return a, func() {}, nil }
				s.watches[0].busy.driver = func(string) string { return tt.driver }
				run(t, s, 15*time.Minute)
				said := false
				for _, id := range ids(log) {
					said = said || id == event.RadioChannelBusy.ID
				}
				if said != tt.want || (a.asked > 0) != tt.asked {
					t.Errorf("said %v, asked %d times; events %v", said, a.asked, ids(log))
				}
			})
		})
	}
}

func TestDriverOfNobody(t *testing.T) {
	if got := driverOf("no-such-radio0"); got != "" || bystander(got) {
		t.Errorf("the driver is %q", got)
	}
}

// Rounds that follow one another quickly, because stations come and go, are not
// more to judge by.
func TestTheAirIsNotAskedMoreOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		serving := ap("wlan0")
		serving.Frequency = 2437
		a := &countingAir{talk: &talk{air: &air{}}, survey: func() ([]*wifi.SurveyInfo, error) {
			return []*wifi.SurveyInfo{{Frequency: 2437, ChannelTime: time.Since(begin)}}, nil
		}}
		s, _ := newServer(a.air)
		s.watches[0].busy.driver = func(string) string { return "mt76x2u" }
		for range 600 {
			s.listenIn(a, 0, time.Now(), serving)
			time.Sleep(100 * time.Millisecond)
		}
		if a.asked != 6 {
			t.Errorf("asked %d times in a minute", a.asked)
		}
	})
}
