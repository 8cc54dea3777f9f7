package air

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// A Neighbour is a network that was heard, or another radio of this box.
type Neighbour struct {
	SSID    string  // as it was sent; empty: hidden
	BSSID   [6]byte // the address of its access point
	Channel int     // of its beacons
	Signal  int     // dBm; 0: not known
	Own     bool    // a radio of this box
}

// What is reckoned with. A scan hears a channel for parts of a second, and who is
// silent then may be loud in the evening: so each network counts, busy or not.
const (
	// each is the share of the air that a network is taken to use which is as loud
	// as loudest, and own what another radio of this box does: it carries chargers,
	// and its antenna is beside this one.
	each, own = 0.10, 0.30
	// From faintest to loudest, in dBm, a network counts from nothing to in full.
	faintest, loudest = -95, -50
	// worth is how much more of the air another channel must leave free to be worth
	// a change, which costs every charger its Wi-Fi for a moment.
	worth = 0.05
)

// A Load is what is known of one of the Candidates.
type Load struct {
	Channel int `json:"channel"`
	// Radios is how many access points are heard that reach into the channel.
	Radios int `json:"radios"`
	// Busy is the share of the time that was measured with something on the air, and
	// Taken what is reckoned with altogether, both from 0 to 1.
	Busy  float64 `json:"busy"`
	Taken float64 `json:"taken"`
}

// An Advice is which channel to use.
type Advice struct {
	Channel  int    `json:"channel"`
	Change   bool   `json:"change"`   // it is not the present one
	Measured bool   `json:"measured"` // the busy time of all Candidates was known, and counts
	Reason   string `json:"reason"`
	Loads    []Load `json:"loads"` // of the Candidates
}

// Advise chooses among the Candidates for a radio that is on present (0: on none).
// Busy are the shares by channel, as Counted tells them: unless it knows all
// Candidates, only the neighbours count.
func Advise(present int, busy map[int]float64, all []Neighbour) Advice {
	a := Advice{Measured: true}
	for _, channel := range Candidates {
		if _, known := busy[channel]; !known {
			a.Measured = false
		}
	}
	radios := Radios(all)
	for _, channel := range Candidates {
		l := Load{Channel: channel}
		if a.Measured {
			l.Busy = busy[channel]
		}
		l.Taken = l.Busy
		for _, n := range radios {
			if part := Overlap(channel, n.Channel); part > 0 {
				l.Radios++
				l.Taken += part * n.weight()
			}
		}
		l.Busy, l.Taken = round(l.Busy), round(min(1, l.Taken))
		a.Loads = append(a.Loads, l)
	}
	a.choose(present)
	return a
}

// weight is the share of the air that a neighbour is taken to use.
func (n Neighbour) weight() float64 {
	switch {
	case n.Own:
		return own
	case n.Signal == 0: // how loud is not known
		return each / 2
	}
	return each * min(1, max(0, float64(n.Signal-faintest)/(loudest-faintest)))
}

// Radios leaves one of the networks that one access point sends, the loudest.
// Access points number their networks in the first or in the last digits of their
// address.
func Radios(all []Neighbour) []Neighbour {
	type radio struct {
		channel int
		middle  [4]byte
		last    byte
	}
	loud := slices.Clone(all)
	slices.SortStableFunc(loud, func(a, b Neighbour) int { return cmp.Compare(heard(b), heard(a)) })
	seen := map[radio]bool{}
	return slices.DeleteFunc(loud, func(n Neighbour) bool {
		r := radio{n.Channel, [4]byte(n.BSSID[1:5]), n.BSSID[5] >> 4}
		again := seen[r] && !n.Own
		seen[r] = true
		return again
	})
}

// heard is a signal for sorting: what is not known comes last.
func heard(n Neighbour) int {
	if n.Signal == 0 {
		return math.MinInt
	}
	return n.Signal
}

func (a *Advice) choose(present int) {
	best := slices.MinFunc(a.Loads, func(x, y Load) int { return cmp.Compare(x.Taken, y.Taken) })
	at := slices.IndexFunc(a.Loads, func(l Load) bool { return l.Channel == present })
	stays := at >= 0 && a.Loads[at].Taken-best.Taken < worth
	if stays {
		best = a.Loads[at]
	}
	a.Channel, a.Change = best.Channel, best.Channel != present
	a.Reason = a.reason(best, stays)
}

// reason says why in one sentence.
func (a *Advice) reason(best Load, stays bool) string {
	others := slices.DeleteFunc(slices.Clone(a.Loads), func(l Load) bool { return l.Channel == best.Channel })
	least := slices.MinFunc(others, func(x, y Load) int { return cmp.Compare(x.Taken, y.Taken) })
	var than []string
	for _, l := range others {
		than = append(than, fmt.Sprintf("%s on %d", percent(l.Taken), l.Channel))
	}
	against := strings.Join(than, " and ")
	switch {
	case stays && least.Taken < best.Taken:
		return fmt.Sprintf("%s of the air is taken there; %d would be hardly better with %s, and a change costs every charger its Wi-Fi for a moment",
			percent(best.Taken), least.Channel, percent(least.Taken))
	case percent(least.Taken) == percent(best.Taken):
		return fmt.Sprintf("%s of the air is taken there, against %s", percent(best.Taken), against)
	}
	return fmt.Sprintf("the least of the air is taken there: %s, against %s", percent(best.Taken), against)
}

// round leaves tenths of a per cent: nothing here is known better.
func round(share float64) float64 { return math.Round(1000*share) / 1000 }

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }
