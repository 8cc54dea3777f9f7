package status

import (
	"fmt"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// crowded is the part of a pool, in percent, from which on it needs attention.
const crowded = 80

// troubles says what needs somebody, the house first, from the cable up, then
// the chargers.
func troubles(st Status) []Trouble {
	out := []Trouble{}
	say := func(about, do, format string, args ...any) {
		out = append(out, Trouble{About: about, Text: fmt.Sprintf(format, args...), Do: do})
	}
	first := func(do string) string { // what follows from a dead uplink
		if st.Link != nil && st.Link.Down() {
			return "Mend the uplink first; this follows from it."
		}
		return do
	}
	if l := st.Link; l != nil {
		switch {
		case l.Down():
			say(AboutLink, l.Do, "The uplink %s is down: %s.", l.Interface, l.Missing)
		case !l.Known && l.Problem != "":
			say(AboutLink, checkLink(*l).do, "The uplink %s cannot be looked at: %s.", l.Interface, l.Problem)
		}
	}
	if c := st.Clock; c != nil && !c.Synchronised {
		do := checkClock(*c).do
		if !ownFault(*c) {
			do = first(do)
		}
		say(AboutClock, do, "This box does not know the time, so chargers get none: %s.", orElse(c.Reason, "its clock is not synchronised"))
	}
	if u := st.Uplink; u != nil && !u.OK() {
		say(AboutNames, first(checkUplink(*u).do), "Names are not answered: %s.", orElse(u.Problem, "no DNS server answers"))
	}
	for _, o := range st.Outages {
		if o.Quiet.Duration() < current {
			text, do := outageTrouble(o)
			say(AboutOutage, first(do), "%s", text)
		}
	}
	for _, n := range st.Networks {
		about := AboutNetwork + n.Name
		if n.Problem != "" {
			say(about, n.Do, "%s: %s.", n.Name, n.Problem)
		}
		if p := n.Pool; p != nil && p.Used*100 >= p.Size*crowded {
			say(about, poolAdvice, "%s has given away %d of %d addresses.", n.Name, p.Used, p.Size)
		}
		if p := n.Pool; p != nil && p.StrangersFull() {
			say(about, strangersFullAdvice, "%s: %d of %d addresses for unknown devices are taken: enter the chargers in chargers.csv.", n.Name, p.StrangerUsed, p.StrangerSize)
		}
		if r := n.Radio; r != nil {
			if wrong := r.Wrong(); wrong != "" && wrong != n.Problem {
				say(about, r.mend(), "%s: %s.", n.Name, wrong)
			}
			if r.Unheard != "" {
				say(about, r.advice(event.RadioHostapdUnheard), "%s: %s.", n.Name, r.unheard())
			}
			if n.Misplaced() {
				text, do := n.misplaced()
				say(about, do, "%s: %s.", n.Name, text)
			}
			if r.Full() {
				say(about, r.advice(event.RadioFull), "%s: the radio %s is full: %d of at most %d stations.", n.Name, r.Interface, len(r.Stations), r.MaxStations)
			}
		}
		if weak := tooWeak(st.Chargers, n.Name); len(weak) > 0 {
			say(about, nearerAdvice, "%s: %s heard below Zaptec's minimum (Z-4): %s.", n.Name, plural(len(weak), "charger is", "chargers are"), listed(weak))
		}
	}
	stuck := 0
	for _, c := range st.Chargers {
		if c.Known && c.Stage != charger.OK {
			stuck++
		}
	}
	if stuck > 0 {
		say(AboutChargers, "", "%s.", plural(stuck, "charger does not talk with the cloud", "chargers do not talk with the cloud"))
	}
	return out
}
