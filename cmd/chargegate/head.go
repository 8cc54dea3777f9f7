package main

import (
	"fmt"
	"slices"
	"strings"

	"chargegate/pkg/status"
)

// A head prints how the house is: a line for each thing, with a sign before
// those that need attention, and what to do below these.
type head struct {
	*call
	st   status.Status
	said []string // the sentences of Attention that stand on the page in other words
}

func (c *call) showHead(st status.Status) {
	text := c.wrap(fmt.Sprintf("%s, chargegate %s, up %s", safe(st.Site), safe(st.Version), lasting(st.Uptime.Duration())), 0)
	fmt.Fprintln(c, c.in(bold, text))
	h := &head{call: c, st: st}
	h.link()
	h.clock()
	h.names()
	h.outages()
	for _, n := range st.Networks {
		h.network(n)
	}
	h.rest()
}

func (h *head) link() {
	l := h.st.Link
	if l == nil {
		return
	}
	text := l.Interface + " " + l.Address.String()
	switch {
	case !l.Known && l.Problem != "":
		text = l.Interface + " cannot be looked at: " + l.Problem
	case !l.Known:
		text = l.Interface + " has not been looked at yet"
	case !l.Up:
		text = l.Interface + ": " + l.Missing
	}
	h.fact("uplink", status.AboutLink, text, true)
}

func (h *head) clock() {
	k := h.st.Clock
	if k == nil {
		return
	}
	text := fmt.Sprintf("right to within %s, stratum %d", short(k.RootDistance), k.Stratum)
	if !k.Synchronised {
		text = "not known, so chargers get none: " + k.Reason
	}
	h.fact("time", status.AboutClock, text, true)
}

func (h *head) names() {
	u := h.st.Uplink
	if u == nil {
		return
	}
	text, well := count(u.Servers, "DNS server")+", and none fails", true
	if len(u.Each) > 0 && !slices.ContainsFunc(u.Each, func(d status.DNSServer) bool { return d.Latency > 0 }) {
		text = count(u.Servers, "DNS server") + ", not asked yet"
	}
	switch {
	case u.OK() && h.st.Link != nil && h.st.Link.Down(): // nobody has asked since
		text, well = "answered from memory at best, while the uplink is down", false
	case !u.OK():
		text = "not answered: " + u.Problem
		if u.Errors > 0 {
			text = u.Problem + "; chargers get remembered addresses"
		}
	case u.Lost+u.Errors > 0:
		text = "answered, though " + u.Problem
	}
	h.fact("names", status.AboutNames, text, well)
}

// outages are the allowed names that cannot be reached though names are answered.
func (h *head) outages() {
	var texts []string
	for _, t := range h.st.Troubles {
		if t.About == status.AboutOutage {
			texts = append(texts, t.Text)
		}
	}
	if len(texts) > 0 {
		h.fact("outage", status.AboutOutage, strings.Join(texts, " "), false)
	}
}

func (h *head) network(n status.NetworkState) {
	parts := []string{fmt.Sprintf("%s %s", n.Interface, n.Gateway)}
	if n.Problem != "" {
		parts[0] = n.Problem + "; " + parts[0]
	}
	if n.SSID != "" {
		on := fmt.Sprintf("Wi-Fi %q on channel %d", n.SSID, n.Channel)
		if n.Misplaced() {
			on = fmt.Sprintf("Wi-Fi %q on channel %d (%d in the configuration)", n.SSID, n.Radio.Channel, n.Channel)
		}
		parts = append(parts, on)
	}
	if p := n.Pool; p != nil {
		parts = append(parts, fmt.Sprintf("%d of %d addresses", p.Used, p.Size))
		if p.StrangersFull() {
			parts = append(parts, fmt.Sprintf("%d of %d for unknown devices", p.StrangerUsed, p.StrangerSize))
		}
	}
	if r := n.Radio; r != nil {
		switch {
		case r.Full():
			parts = append(parts, fmt.Sprintf("full: %d of %d stations", len(r.Stations), r.MaxStations))
		case r.Watched() && r.MaxStations > 0:
			parts = append(parts, fmt.Sprintf("%d of %d stations", len(r.Stations), r.MaxStations))
		case r.Watched():
			parts = append(parts, count(len(r.Stations), "station"))
		case r.Wrong() != "" && r.Wrong() != n.Problem:
			parts = append(parts, r.Wrong())
		}
		if r.Unheard != "" {
			parts = append(parts, "probably nobody can join: "+r.Unheard)
		}
		if r.NoSignal {
			parts = append(parts, "signal not reported")
		}
	}
	weak := 0
	for _, ch := range h.st.Chargers {
		if ch.Known && ch.Network == n.Name && ch.TooWeak() {
			weak++
		}
	}
	if weak > 0 {
		parts = append(parts, fmt.Sprintf("%d heard below Zaptec's minimum", weak))
	}
	h.fact(n.Name, status.AboutNetwork+n.Name, strings.Join(parts, ", "), true)
}

// fact prints one line of the head, and below it what to do where something is
// the matter: where something of Troubles is about it, or well is false. Its text
// may come from anywhere.
func (h *head) fact(name, about, text string, well bool) {
	const indent = 9
	var do []string
	for _, t := range h.st.Troubles {
		if t.About != about {
			continue
		}
		well = false
		h.said = append(h.said, t.Text)
		if t.Do != "" && !slices.Contains(do, t.Do) {
			do = append(do, t.Do)
		}
	}
	mark := h.in(green, h.sign("✓", "+"))
	if !well {
		mark = h.in(red, h.sign("✗", "!"))
	}
	name = fmt.Sprintf("%-*s", indent-3, safe(name))
	below := max(indent, len([]rune(name))+3)
	fmt.Fprintf(h, "%s %s %s\n", mark, name, h.wrap(safe(text), below))
	lead := h.sign("↳ ", "> ")
	for _, d := range do {
		fmt.Fprintf(h, "%*s%s%s\n", below, "", lead, h.wrap(safe(d), below+len([]rune(lead))))
	}
}

// rest prints what needs attention and stands nowhere else on the page. The
// chargers tell their own story in the table.
func (h *head) rest() {
	for _, text := range h.st.Attention {
		told := slices.ContainsFunc(h.st.Troubles, func(t status.Trouble) bool { return t.About == status.AboutChargers && t.Text == text })
		if !told && !slices.Contains(h.said, text) {
			fmt.Fprintf(h, "%s %s\n", h.in(red, h.sign("✗", "!")), h.wrap(safe(text), 2))
		}
	}
}
