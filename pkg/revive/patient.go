package revive

import (
	"fmt"
	"time"
)

// A Radio is one that is watched over.
type Radio struct {
	Network   string // also names its unit, chargegate-radio@NETWORK
	Interface string
	Reach     Step // how far it may go for it
}

// A Pace is how long things are waited for. Zero in a field: the default.
type Pace struct {
	Every     time.Duration // between two looks; 10 s
	Silent    time.Duration // how long hostapd may not serve; 1 min
	Settle    time.Duration // how long the driver may help itself after the kernel's line; 20 s
	Mute      time.Duration // how long the driver may keep the daemon without an answer; 5 min
	Empty     time.Duration // how long nobody may be there who was; 10 min
	Wait      time.Duration // how long a step is given to help; 2 min
	AfterBoot time.Duration // how long nothing is done after a boot; 3 min
}

func (p Pace) orDefault() Pace {
	for _, d := range []struct {
		field     *time.Duration
		otherwise time.Duration
	}{
		{&p.Every, 10 * time.Second}, {&p.Silent, time.Minute}, {&p.Settle, 20 * time.Second},
		{&p.Mute, 5 * time.Minute}, {&p.Empty, 10 * time.Minute}, {&p.Wait, 2 * time.Minute}, {&p.AfterBoot, 3 * time.Minute},
	} {
		if *d.field <= 0 {
			*d.field = d.otherwise
		}
	}
	return p
}

const (
	// crowd is how many stations must have been there at once for their absence to
	// mean anything: two chargers may well be off together.
	crowd = 3
	// crowdWithin is how long before the last one left they must have been there:
	// chargers that were moved away one by one over days are no sign.
	crowdWithin = time.Hour
	// again is after how long the ladder begins anew for a radio that nothing has
	// helped. Nobody comes by in the garage.
	again = time.Hour
	// enough is how often in a row everybody may leave and come back by themselves
	// before that is taken for a supply that is switched, every night perhaps. Only once
	// in seldom it is then still taken for a sign.
	enough = 3
	seldom = 7 * 24 * time.Hour
)

// A Sight is what one look at a radio found.
type Sight struct {
	Stopped bool   // somebody has stopped its unit on purpose, or it is not known
	Serving bool   // hostapd answers, and says that it is an access point
	Problem string // why not, in words
	Phy     string // the kernel's name of the radio; empty: not known
	Report
}

// A Report is what the daemon says of one radio.
type Report struct {
	// Stations is how many are on it that hostapd has let in and that were heard not
	// long ago; below 0: not known.
	Stations int
	// Heard is how many devices of its network were heard on the network itself, by
	// ARP, within the last minutes. They are not asked of the driver.
	Heard int
	// Amiss says in words why the radio does not say who is on it, where that may be
	// its own fault; else empty.
	Amiss string
}

// unknown is a report where the daemon says nothing.
var unknown = Report{Stations: -1}

// A sign is what says that a radio is dead.
type sign int

const (
	well     sign = iota
	silent        // hostapd does not answer, or does not serve
	halted        // the kernel's log says that the radio's firmware has stopped
	mute          // its driver does not answer, though hostapd says that it serves
	deserted      // everybody has gone at an access point that seems to work
)

// A moment is a point on the clock that counts since the boot. Nothing here asks
// the time of day: a box without a clock of its own does not know it (F-12).
type moment struct {
	at  time.Duration
	set bool
}

func (m *moment) begin(now time.Duration) {
	if !m.set {
		*m = moment{now, true}
	}
}

func (m moment) lasts(now, d time.Duration) bool { return m.set && now-m.at >= d }

// A patient is a radio and what is known of how it does. It decides, and does
// nothing itself. Not safe for concurrent use.
type patient struct {
	Radio
	pace Pace

	problem string // what hostapd lacks
	line    string // what the kernel's log said
	amiss   string // what the daemon misses
	silent  moment // since when hostapd does not serve
	halted  moment // when the kernel's log said that the firmware has stopped
	broke   bool   // hostapd has not served since then, for a while at least
	phy     string // what the radio was called when that was said, or last
	mute    moment // since when the driver does not answer
	known   bool   // the driver answers now
	watched bool   // it has answered before: there are drivers that never do
	empty   moment // since when nobody is there
	crowd   moment // when at least crowd were last there
	someone bool   // somebody is there now, for sure
	alarms  int    // how often in a row everybody left, and what was done was not why they came back
	alarm   moment // when that was last so

	open *episode // nil: it is well
}

// An episode lasts from the first sign of a dead radio until it serves again.
type episode struct {
	sign  sign
	began time.Duration
	done  Step          // the last step taken; No: none yet
	at    time.Duration // when that was
	until time.Duration // what was done has until then to help
	spent bool          // it was said that nothing more can be done
}

// sees takes in what a look found.
func (p *patient) sees(now time.Duration, s Sight) {
	p.problem, p.someone = s.Problem, s.Serving && (s.Stations > 0 || s.Heard > 0)
	p.known = s.Stations >= 0
	p.watched = p.watched || p.known
	if s.Stopped {
		p.silent, p.halted, p.mute, p.empty, p.crowd, p.open = moment{}, moment{}, moment{}, moment{}, moment{}, nil
		return
	}
	if s.Serving {
		p.silent = moment{}
	} else {
		p.silent.begin(now)
	}
	p.mends(s)
	// Whoever is heard came in through this radio, whatever its driver says.
	if s.Serving && s.Amiss != "" && p.watched && !p.someone {
		p.mute.begin(now)
		p.amiss = s.Amiss
	} else {
		p.mute = moment{}
	}
	switch {
	case !s.Serving || !p.known && !p.someone:
		p.empty = moment{} // nobody knows whether somebody is there
	case s.Stations >= crowd:
		p.empty, p.crowd = moment{}, moment{now, true}
	case p.someone:
		p.empty = moment{}
	default:
		p.empty.begin(now)
	}
}

// mends forgets that the firmware has stopped where the driver has started it again:
// the radio is another one for the kernel, or hostapd serves again after a break.
func (p *patient) mends(s Sight) {
	another := s.Phy != "" && p.phy != "" && s.Phy != p.phy
	p.phy = orElse(s.Phy, p.phy)
	if p.halted.set && (another || s.Serving && p.broke) {
		p.halted = moment{}
	}
	p.broke = p.halted.set && !s.Serving
}

// hears takes in a line of the kernel's log that says that the firmware has stopped.
// Of a series of lines the first counts.
func (p *patient) hears(now time.Duration, line string) {
	if !p.halted.set {
		p.halted, p.line, p.broke = moment{now, true}, line, false
	}
}

// sign is what says now that the radio is dead.
func (p *patient) sign(now time.Duration) sign {
	switch {
	case p.halted.lasts(now, p.pace.Settle):
		return halted
	case p.silent.lasts(now, p.pace.Silent):
		return silent
	case p.mute.lasts(now, p.pace.Mute):
		return mute
	case p.empty.lasts(now, p.pace.Empty) && p.missed():
		return deserted
	}
	return well
}

// missed says whether those who are not there should be.
func (p *patient) missed() bool {
	if p.open != nil && p.open.sign == deserted {
		return true
	}
	if p.alarms >= enough && !p.alarm.lasts(p.empty.at, seldom) {
		return false
	}
	return p.crowd.set && p.empty.at-p.crowd.at <= crowdWithin
}

// said is the sign in words.
func (p *patient) said(s sign) string {
	switch s {
	case silent:
		return fmt.Sprintf("for %s %s", spoken(p.pace.Silent), p.problem)
	case halted:
		return fmt.Sprintf("the kernel's log says %q", p.line)
	case mute:
		return fmt.Sprintf("hostapd seems to serve, and for %s the driver has not said who is on it: %s", spoken(p.pace.Mute), p.amiss)
	case deserted:
		return fmt.Sprintf("at least %d chargers were on it, and for %s there has been nobody", crowd, spoken(p.pace.Empty))
	}
	return "nothing is wrong"
}

// A verdict is what follows from what was seen.
type verdict struct {
	dead   bool // it has just turned out to be dead
	lulled bool // that everybody leaves is no sign any more
	helped bool // it is back
	by     Step // what helped; No: nothing that was done
	after  time.Duration
	step   Step   // what to do now; No: nothing
	spent  bool   // nothing more can be done, said for the first time
	why    string // why nothing more
}

// judge says what to do now. may says whether a step is within its limits, and if
// not why. It must be called after each sees.
func (p *patient) judge(now time.Duration, may func(Step) (bool, string)) verdict {
	found := p.sign(now)
	if p.open == nil {
		if found == well {
			return verdict{}
		}
		p.open = &episode{sign: found, began: now}
		v := p.climb(now, may)
		v.dead = true
		return v
	}
	e := p.open
	if e.sign == deserted && found != well && found != deserted { // now it is known for sure
		*e = episode{sign: found, began: e.began}
	}
	back := p.back(found)
	switch {
	case back && e.sign == deserted:
		p.open = nil
		return p.returned(now, e)
	case back && now >= e.until:
		p.open = nil
		return verdict{helped: true, by: e.done, after: now - e.began}
	case found == well, now < e.until:
		return verdict{}
	}
	if e.done != No && e.sign != deserted && now-e.at >= again {
		e.done = No
	}
	return p.climb(now, may)
}

// back says whether it is over for sure. It is not where nobody can say so.
func (p *patient) back(found sign) bool {
	switch {
	case p.open.sign == deserted:
		return p.someone
	case p.open.sign == mute && !p.known && !p.someone:
		return false
	}
	return found == well && !p.silent.set && !p.halted.set && !p.mute.set
}

// returned says what brought those back who had left. Who comes hours after the last
// step comes for another reason.
func (p *patient) returned(now time.Duration, e *episode) verdict {
	v := verdict{helped: true, after: now - e.began}
	switch {
	case e.done == No:
	case now < e.until:
		v.by, p.alarms = e.done, 0
	default:
		p.alarms++
		p.alarm = moment{now, true}
		v.lulled = p.alarms == enough
	}
	return v
}

// climb chooses the lowest step that was not taken yet and may be taken.
func (p *patient) climb(now time.Duration, may func(Step) (bool, string)) verdict {
	e := p.open
	reach, why := p.Reach, fmt.Sprintf("the configuration allows no more than %q", p.Reach)
	if e.sign == deserted {
		reach = min(reach, Driver) // who is switched off is not brought back by a reboot either
	}
	for step := e.done + 1; step <= reach; step++ {
		ok, limit := may(step)
		if ok {
			return verdict{step: step}
		}
		why = limit
	}
	if e.spent {
		return verdict{}
	}
	e.spent = true
	return verdict{spent: true, why: why}
}

// waits puts the next step off, because none may be taken now. Whoever is waited for
// has time to bring the radio back before anything more is done about it: its hostapd
// does not start without the daemon.
func (p *patient) waits(now time.Duration) {
	if p.open != nil {
		p.open.until = now + p.pace.Wait
	}
}

// did notes that a step was taken; failed, that it could not be, so that the next one
// need not wait for it to help.
func (p *patient) did(now time.Duration, step Step, failed bool) {
	e := p.open
	if e == nil {
		return
	}
	e.done, e.at, e.until = step, now, now+p.pace.Wait
	if e.sign == deserted {
		e.until = now + p.pace.Empty // chargers need a while to look for their Wi-Fi again
	}
	if failed {
		e.until = now
		return
	}
	p.halted = moment{}
	if p.empty.set {
		p.empty.at = now
	}
}
