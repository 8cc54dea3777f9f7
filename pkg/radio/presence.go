package radio

import (
	"time"

	"chargegate/pkg/event"
)

// A State says what came of the last look at a radio.
type State string

// States of a radio.
const (
	Waiting     State = "waiting"          // not looked at yet
	Watched     State = "watched"          // an access point that says who is on it
	Unsupported State = "unsupported"      // the kernel has no nl80211
	Missing     State = "missing"          // no such wireless interface
	NotAP       State = "not-access-point" // there, but hostapd has not taken it
	Silent      State = "silent"           // an access point that sends no beacons
	Failed      State = "failed"           // the driver did not answer
)

// grace is how long a radio may be away before that is said: hostapd starts
// after the services it announces, and USB adapters take their time.
const grace = time.Minute

// A presence remembers what was said of a radio being there, so that each turn
// is said once.
type presence struct {
	state State
	since time.Time // when this state began
	said  bool      // this state has been said
	mute  bool      // it has been said that hostapd does not speak with us
}

// speech says once that hostapd does not speak with us, and once that it does again.
// It matters where a radio serves: else that it does not is said, and is worse.
func (p *presence) speech(now time.Time, v *voice, state State, w *watch) {
	if v == nil {
		return
	}
	fields := []event.Field{event.Network(w.net.Name), event.F("INTERFACE", w.net.Interface)}
	switch {
	case v.heard && p.mute:
		p.mute = false
		w.log.Say(event.RadioHostapdHeard, fields...)
	case !v.heard && !p.mute && state == Watched && now.Sub(v.since) >= grace && now.Sub(p.since) >= grace:
		p.mute = true
		w.log.Say(event.RadioHostapdUnheard, append(fields, event.F("ERROR", v.why))...)
	}
}

// turn takes the state found now and returns what to say of it, or nil.
func (p *presence) turn(now time.Time, state State) *event.Kind {
	if state != p.state {
		*p = presence{state: state, since: now, mute: p.mute}
	}
	if p.said {
		return nil
	}
	switch state {
	case Watched:
		p.said = true
		return event.RadioWatched
	case Failed:
		p.said = true
		return event.RadioFailed
	case Missing, NotAP, Silent:
		if now.Sub(p.since) < grace {
			return nil
		}
		p.said = true
		switch state {
		case Missing:
			return event.RadioMissing
		case Silent:
			return event.RadioSilent
		}
		return event.RadioNotAccessPoint
	}
	return nil
}
