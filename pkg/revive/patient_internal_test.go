package revive

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A bed is a patient and the time, which goes on by looks of ten seconds.
type bed struct {
	*patient
	now    time.Duration
	limits func(Step) (bool, string)
	story  []string
}

func lie(reach Step) *bed {
	pace := Pace{}.orDefault()
	return &bed{patient: &patient{Radio: Radio{"P1", "wlan0", reach}, pace: pace}, now: time.Hour,
		limits: func(Step) (bool, string) { return true, "" }}
}

// goes looks for d at what stays the same, and notes what followed and when.
func (b *bed) goes(d time.Duration, s Sight) *bed {
	begin := b.now
	for ; b.now < begin+d; b.now += b.pace.Every {
		b.sees(b.now, s)
		v := b.judge(b.now, b.limits)
		note := func(what string) { b.story = append(b.story, fmt.Sprintf("%s %s", b.now-time.Hour, what)) }
		if v.dead {
			note("dead")
		}
		if v.helped {
			note("helped by " + v.by.String())
		}
		if v.spent {
			note("spent")
		}
		if v.step != No {
			note(v.step.String())
			b.did(b.now, v.step, false)
		}
	}
	return b
}

func (b *bed) says(line string) *bed {
	b.hears(b.now, line)
	return b
}

var (
	busy   = Sight{Serving: true, Report: Report{Stations: 7}}
	lonely = Sight{Serving: true, Report: Report{Stations: 0}}
	blind  = Sight{Serving: true, Report: Report{Stations: -1}}
	dead   = Sight{Problem: "hostapd does not answer", Report: Report{Stations: -1}}
	wedge  = Sight{Serving: true, Report: Report{Stations: -1, Amiss: "failed (connection timed out)"}}
	off    = Sight{Stopped: true, Report: Report{Stations: -1}}
)

// as is a busy radio that the kernel calls so.
func as(phy string) Sight { return Sight{Serving: true, Phy: phy, Report: Report{Stations: 7}} }

func TestStoriesOfOneRadio(t *testing.T) {
	const m = time.Minute
	for name, tt := range map[string]struct {
		of   *bed
		want string
	}{
		"it serves":                                {lie(Reboot).goes(60*m, busy), ""},
		"hostapd is away for less than a minute":   {lie(Reboot).goes(m, busy).goes(50*time.Second, dead).goes(10*m, busy), ""},
		"a restart helps":                          {lie(Reboot).goes(m, busy).goes(61*time.Second, dead).goes(10*m, busy), "2m0s dead|2m0s restart|4m0s helped by restart"},
		"the driver helps":                         {lie(Reboot).goes(m, busy).goes(3*m+time.Second, dead).goes(10*m, busy), "2m0s dead|2m0s restart|4m0s driver|6m0s helped by driver"},
		"nothing helps":                            {lie(Reboot).goes(m, busy).goes(20*m, dead), "2m0s dead|2m0s restart|4m0s driver|6m0s reboot|8m0s spent"},
		"no further than a restart":                {lie(Restart).goes(20*m, dead), "1m0s dead|1m0s restart|3m0s spent"},
		"every hour anew":                          {lie(Restart).goes(140*m, dead), "1m0s dead|1m0s restart|3m0s spent|1h1m0s restart|2h1m0s restart"},
		"it serves again after all":                {lie(Restart).goes(20*m, dead).goes(10*m, busy), "1m0s dead|1m0s restart|3m0s spent|20m0s helped by restart"},
		"a hiccup when the time to help is over":   {lie(Driver).goes(m, busy).goes(61*time.Second, dead).goes(110*time.Second, busy).goes(40*time.Second, dead).goes(10*m, busy), "2m0s dead|2m0s restart|4m40s helped by restart"},
		"somebody stops it":                        {lie(Reboot).goes(m, busy).goes(30*time.Second, dead).goes(60*m, off).goes(50*time.Second, dead).goes(10*m, busy), ""},
		"somebody takes over in the middle":        {lie(Reboot).goes(90*time.Second, dead).goes(60*m, off).goes(10*m, busy), "1m0s dead|1m0s restart"},
		"the firmware stops":                       {lie(Reboot).goes(m, busy).says("halted").goes(10*m, busy), "1m20s dead|1m20s restart|3m20s helped by restart"},
		"the firmware stops again after a restart": {lie(Reboot).says("halted").goes(m, busy).says("halted").goes(10*m, busy), "20s dead|20s restart|2m20s driver|4m20s helped by driver"},
		"many lines are one sign":                  {lie(Reboot).says("halted").goes(10*time.Second, busy).says("halted").goes(m, busy), "20s dead|20s restart"},
		"everybody leaves":                         {lie(Reboot).goes(m, busy).goes(60*m, lonely), "11m0s dead|11m0s restart|21m0s driver|31m0s spent"},
		"everybody leaves for weeks":               {lie(Reboot).goes(m, busy).goes(21*24*60*m, lonely), "11m0s dead|11m0s restart|21m0s driver|31m0s spent"},
		"they come back hours later":               {lie(Reboot).goes(m, busy).goes(8*60*m, lonely).goes(10*m, busy), "11m0s dead|11m0s restart|21m0s driver|31m0s spent|8h1m0s helped by no"},
		"everybody leaves, and one comes back":     {lie(Reboot).goes(m, busy).goes(12*m, lonely).goes(m, Sight{Serving: true, Report: Report{Stations: 1}}), "11m0s dead|11m0s restart|13m0s helped by restart"},
		"nobody is tried for twice":                {lie(Restart).goes(m, busy).goes(300*m, lonely), "11m0s dead|11m0s restart|21m0s spent"},
		"somebody is heard, but not by the radio":  {lie(Reboot).goes(m, busy).goes(60*m, Sight{Serving: true, Report: Report{Stations: 0, Heard: 1}}), ""},
		"the driver does not answer":               {lie(Reboot).goes(m, busy).goes(30*m, wedge), "6m0s dead|6m0s restart|8m0s driver|10m0s reboot|12m0s spent"},
		"the driver does not answer for minutes":   {lie(Reboot).goes(m, busy).goes(5*m, wedge).goes(60*m, busy), ""},
		"one look in between that it answers":      {lie(Reboot).goes(m, busy).goes(4*m, wedge).goes(10*time.Second, busy).goes(4*m, wedge).goes(m, busy), ""},
		"the driver has never answered":            {lie(Reboot).goes(60*m, wedge), ""},
		"the driver does not, and somebody works":  {lie(Reboot).goes(m, busy).goes(600*m, Sight{Serving: true, Report: Report{Stations: -1, Heard: 1, Amiss: "failed"}}), ""},
		"the driver begins anew, and it answers":   {lie(Reboot).goes(m, busy).goes(8*m, wedge).goes(10*m, busy), "6m0s dead|6m0s restart|8m0s driver|10m0s helped by driver"},
		"the restart ends it for good":             {lie(Reboot).goes(m, busy).goes(5*m+time.Second, wedge).goes(6*m, dead), "6m0s dead|6m0s restart|8m0s driver|10m0s reboot|12m0s spent"},
		"then nobody knows: that is no help":       {lie(Driver).goes(m, busy).goes(8*m, wedge).goes(60*m, blind), "6m0s dead|6m0s restart|8m0s driver"},
		"the driver mends it, with a break":        {lie(Reboot).goes(m, busy).says("halted").goes(10*time.Second, dead).goes(60*m, busy), ""},
		"the driver mends it, as another radio":    {lie(Reboot).goes(m, as("phy0")).says("halted").goes(60*m, as("phy1")), ""},
		"a break before the line mends nothing":    {lie(Reboot).goes(m, dead).says("halted").goes(60*m, busy), "1m20s dead|1m20s restart|3m20s helped by restart"},
		"the firmware stops, and hostapd later":    {lie(Driver).goes(m, busy).says("halted").goes(15*time.Second, busy).goes(10*m, dead), "1m20s dead|1m20s restart|3m20s driver|5m20s spent"},
		"two have left":                            {lie(Reboot).goes(m, Sight{Serving: true, Report: Report{Stations: 2}}).goes(60*m, lonely), ""},
		"they left one by one over hours":          {lie(Reboot).goes(m, busy).goes(90*m, Sight{Serving: true, Report: Report{Stations: 1}}).goes(60*m, lonely), ""},
		"nobody was ever there":                    {lie(Reboot).goes(300*m, lonely), ""},
		"the daemon does not know":                 {lie(Reboot).goes(m, busy).goes(60*m, blind), ""},
		"not knowing is no help":                   {lie(Restart).goes(m, busy).goes(12*m, lonely).goes(60*m, blind), "11m0s dead|11m0s restart"},
		"first deserted, then silent":              {lie(Driver).goes(m, busy).goes(31*m, lonely).goes(4*m, dead).goes(5*m, busy), "11m0s dead|11m0s restart|21m0s driver|31m0s spent|33m0s restart|35m0s driver|37m0s helped by driver"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(tt.of.story, "|")
			if tt.want != got {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
