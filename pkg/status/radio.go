package status

import (
	"fmt"
	"slices"
	"strings"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// Wrong says in words why a radio cannot be watched; empty: it can be, or has not
// been looked at yet.
func (r Radio) Wrong() string {
	const lost = ", so nobody has Wi-Fi"
	switch r.State {
	case "watched", "waiting":
		return ""
	case "missing":
		return r.Interface + " is not there" + lost
	case "unsupported":
		return "this kernel has no wireless interface at all" + lost
	case "not-access-point":
		return r.Interface + " is not an access point" + lost
	case "silent":
		return fmt.Sprintf("%s sends no beacons%s: %s", r.Interface, lost, orElse(r.Problem, "hostapd is not at work"))
	}
	return fmt.Sprintf("%s does not say who is on it: %s", r.Interface, orElse(r.Problem, r.State))
}

// mend is what to do where Wrong says something: what the event advises.
func (r Radio) mend() string {
	switch r.State {
	case "missing":
		return r.advice(event.RadioMissing)
	case "unsupported":
		return r.advice(event.RadioUnsupported)
	case "not-access-point":
		return r.advice(event.RadioNotAccessPoint)
	case "silent":
		return r.advice(event.RadioSilent)
	}
	return r.advice(event.RadioFailed)
}

// advice is that of an event, for this radio.
func (r Radio) advice(k *event.Kind) string {
	return strings.NewReplacer("{NETWORK}", r.Network, "{INTERFACE}", r.Interface).Replace(k.Advice)
}

// Full reports whether the next station is refused, and somebody may still come.
func (r Radio) Full() bool {
	return r.Watched() && r.MaxStations > 0 && len(r.Stations) >= r.MaxStations && !r.Planned
}

// crowded reports whether there is little room, and somebody may still come.
func (r Radio) crowded() bool {
	return r.MaxStations > 0 && len(r.Stations)*100 >= r.MaxStations*crowded && !r.Planned
}

// unheard says that hostapd hangs, which stations that are on the radio do not notice.
func (r Radio) unheard() string {
	return fmt.Sprintf("hostapd of %s has not been heard for a minute, and probably nobody can join meanwhile: %s", r.Interface, r.Unheard)
}

// Misplaced reports whether the radio serves on another channel than the configuration
// says: hostapd was not started anew when that was changed.
func (n NetworkState) Misplaced() bool {
	return n.Radio != nil && n.Radio.Watched() && n.Channel != 0 && n.Radio.Channel != 0 && n.Radio.Channel != n.Channel
}

// misplaced says it, and what to do.
func (n NetworkState) misplaced() (text, do string) {
	return fmt.Sprintf("%s is on channel %d, and the configuration says %d", n.Radio.Interface, n.Radio.Channel, n.Channel),
		fmt.Sprintf("Run: sudo systemctl restart chargegate-prepare chargegate-radio@%s; its chargers reconnect within a minute.", n.Name)
}

// settle says once what the room of the addresses and that of the radios both say: that
// the radio is not at work. The latter knows better why.
func (n *NetworkState) settle() {
	r := n.Radio
	if r == nil || r.Wrong() == "" {
		return
	}
	if strings.Contains(n.Problem, r.Interface+" is not on the air") || strings.Contains(n.Problem, "there is no interface "+r.Interface) {
		n.Problem, n.Do = r.Wrong(), r.mend()
	}
}

// planned reports whether everybody on a radio is a charger of the inventory that
// belongs to its network, and all of those have room: then nobody is to come who has
// none.
func (s *Server) planned(r Radio) bool {
	mine := s.src.Book.Inventory(r.Network)
	return mine > 0 && mine <= r.MaxStations && !slices.ContainsFunc(r.Stations, func(st Station) bool {
		c, known := s.src.Book.Known(st.MAC)
		return !known || !c.On(r.Network)
	})
}

const nearerAdvice = "Bring an access point nearer to these parking spaces (Z-4)."

// checkRadio looks at the radio of a network; inventory is how many chargers may be
// on it.
func checkRadio(n NetworkState, inventory int, name func(charger.MAC) string) finding {
	r := *n.Radio
	if r.State == "waiting" {
		return pass("it has not been looked at yet; that happens every 15 s")
	}
	if wrong := r.Wrong(); wrong != "" {
		return fail(r.mend(), "%s", wrong)
	}
	here := plural(len(r.Stations), "station", "stations")
	if r.MaxStations > 0 {
		here = fmt.Sprintf("%d of at most %d stations", len(r.Stations), r.MaxStations)
	}
	weak := weakest(r.Stations, name)
	switch {
	case r.NoSignal:
		here += "; this radio does not say how well it hears anybody, so Zaptec's minimum (Z-4) cannot be checked"
	case len(weak) > 0:
		here += "; too weak: " + listed(weak)
	default:
		here += ", none of them too weak"
	}
	f := pass("%s", here)
	also := func(result Result, do, text string) {
		if f.result != Fail {
			f.result = result
		}
		f.found += after("; ", text)
		f.do = strings.TrimSpace(f.do + " " + do)
	}
	if r.Unheard != "" {
		also(Fail, r.advice(event.RadioHostapdUnheard), r.unheard())
	}
	if n.Misplaced() {
		text, do := n.misplaced()
		also(Warn, do, text)
	}
	switch {
	case r.MaxStations > 0 && inventory > r.MaxStations:
		also(Warn, "Spread the chargers over more radios, or use an external access point (F-10).", fmt.Sprintf("the inventory has %d chargers for it", inventory))
	case r.Full():
		also(Warn, r.advice(event.RadioFull), "")
	case r.crowded():
		also(Warn, r.advice(event.RadioNearlyFull), "")
	}
	switch {
	case r.NoSignal:
		also(Warn, "Check each charger's signal in Zaptec's portal instead, or use a USB adapter whose driver reports it (F-11).", "")
	case len(weak) > 0:
		also(Warn, nearerAdvice, "")
	}
	return f
}

// weakest names the stations with a verdict worse than good, and how they are heard.
func weakest(stations []Station, name func(charger.MAC) string) []string {
	var out []string
	for _, st := range stations {
		switch st.Grade {
		case "weak", "below minimum", "critical":
			out = append(out, fmt.Sprintf("%s (%d dBm)", name(st.MAC), st.Median))
		}
	}
	return out
}

// TooWeak reports whether a charger has been heard below Zaptec's minimum (Z-4) for so
// long that it was said.
func (c Charger) TooWeak() bool {
	return c.Median != 0 && (c.Said == "below minimum" || c.Said == "critical")
}

// hear adds to a charger how the radio hears it, and what is advised where that has
// been too little for long enough to be said.
func (c *Charger) hear(st Station) {
	c.Median, c.Grade, c.Said = st.Median, st.Grade, st.Said
	if st.Median == 0 {
		return
	}
	switch st.Said {
	case "weak":
		c.SignalAdvice = event.ChargerSignalWeak.Advice
	case "below minimum":
		c.SignalAdvice = event.ChargerSignalBelowMinimum.Advice
	case "critical":
		c.SignalAdvice = event.ChargerSignalCritical.Advice
	}
}

// tooWeak names the chargers of a network that are.
func tooWeak(all []Charger, network string) []string {
	var out []string
	for _, c := range all {
		if c.Known && c.Network == network && c.TooWeak() {
			out = append(out, fmt.Sprintf("%s (%d dBm)", c.Name, c.Median))
		}
	}
	return out
}
