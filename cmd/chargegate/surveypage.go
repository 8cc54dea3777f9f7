package main

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"chargegate/pkg/air"
)

// A surveyed is what -json prints of survey.
type surveyed struct {
	Network    string       `json:"network"`
	Interface  string       `json:"interface"`
	SSID       string       `json:"ssid"`
	Channel    int          `json:"channel"` // as configured
	At         time.Time    `json:"at"`
	Radio      string       `json:"radio"` // "was free", "serves again"
	Passes     int          `json:"passes"`
	Failed     int          `json:"failed"` // of these
	Channels   []aChannel   `json:"channels"`
	Neighbours []aNeighbour `json:"neighbours"`
	Unread     int          `json:"unread"` // networks that sent what cannot be read
	Advice     air.Advice   `json:"advice"`
	Twins      []string     `json:"twins"` // strangers' access points with a name of ours
	Notes      []string     `json:"notes"`
}

type aChannel struct {
	Channel  int      `json:"channel"`
	Networks int      `json:"networks"` // with their beacons on it
	Busy     *float64 `json:"busy"`     // 0 to 1; null: not known
	Seconds  float64  `json:"seconds"`  // listened
}

type aNeighbour struct {
	SSID    string `json:"ssid"` // as it was sent; empty: hidden
	BSSID   string `json:"bssid"`
	Channel int    `json:"channel"`
	Signal  *int   `json:"signal"` // dBm; null: not known
	// Network is ours whose radio it is; empty for strangers. Heard is false where it
	// is only known from the configuration.
	Network string `json:"network,omitempty"`
	Heard   bool   `json:"heard"`
	Twin    bool   `json:"twin,omitempty"` // a stranger's, with a name of ours
}

// well reports that nothing needs to be done.
func (f surveyed) well() bool { return !f.Advice.Change && len(f.Twins) == 0 }

// conclude makes the page's facts of what was heard.
func (s *survey) conclude(h *gathered, now time.Time) surveyed {
	radio := s.network.Radio
	f := surveyed{Network: s.network.Name, Interface: s.network.Interface, SSID: radio.SSID, Channel: radio.Channel, At: now.UTC().Truncate(time.Second),
		Passes: passes, Failed: h.failed, Unread: len(h.unread), Neighbours: []aNeighbour{}, Twins: []string{}, Notes: []string{}}
	all := h.list()
	ours := s.ours()
	for i := range all {
		n := &all[i]
		network, own := ours[n.BSSID]
		n.Own = own
		f.Neighbours = append(f.Neighbours, aNeighbour{SSID: n.SSID, BSSID: net.HardwareAddr(n.BSSID[:]).String(), Channel: n.Channel,
			Signal: known(n.Signal), Network: network, Heard: true, Twin: !own && s.named(n.SSID)})
	}
	for _, n := range s.silent(f.Neighbours) {
		f.Neighbours = append(f.Neighbours, n)
		all = append(all, air.Neighbour{Channel: n.Channel, Own: true})
	}
	busy := air.Counted(h.counted)
	for channel := air.First; channel <= air.Last; channel++ {
		c := aChannel{Channel: channel, Seconds: math.Round(h.counted[channel].Time.Seconds()*100) / 100}
		for _, n := range h.networks {
			if n.Channel == channel {
				c.Networks++
			}
		}
		if share, ok := busy[channel]; ok {
			share = math.Round(share*1000) / 1000
			c.Busy = &share
		}
		f.Channels = append(f.Channels, c)
	}
	f.Advice = air.Advise(radio.Channel, busy, all)
	f.say(h)
	return f
}

// ours are the addresses of the box's other radios, with the networks they serve.
func (s *survey) ours() map[[6]byte]string {
	out := map[[6]byte]string{}
	ifis, err := s.Interfaces()
	if err != nil {
		return out
	}
	for _, ifi := range ifis {
		if len(ifi.HardwareAddr) != 6 {
			continue
		}
		name := "this box"
		for _, n := range s.cfg.Networks {
			if n.Interface == ifi.Name {
				name = n.Name
			}
		}
		out[[6]byte(ifi.HardwareAddr)] = name
	}
	return out
}

// named reports whether one of our networks has this name.
func (s *survey) named(ssid string) bool {
	for _, n := range s.cfg.Networks {
		if n.Radio != nil && n.Radio.SSID == ssid {
			return true
		}
	}
	return false
}

// silent are the other radios of the configuration that were not heard: they will
// be.
func (s *survey) silent(heard []aNeighbour) []aNeighbour {
	var out []aNeighbour
	for _, n := range s.cfg.Networks {
		if n.Radio == nil || n.Name == s.network.Name || slices.ContainsFunc(heard, func(a aNeighbour) bool { return a.Network == n.Name }) {
			continue
		}
		out = append(out, aNeighbour{SSID: n.Radio.SSID, Channel: n.Radio.Channel, Network: n.Name})
	}
	return out
}

func known(signal int) *int {
	if signal == 0 {
		return nil
	}
	return &signal
}

// mostTwins is how many access points with our name are spelled out.
const mostTwins = 3

// say writes what must be said about what was heard.
func (f *surveyed) say(h *gathered) {
	var twins []aNeighbour
	for _, n := range f.Neighbours {
		if n.Twin {
			twins = append(twins, n)
		}
	}
	for i, n := range twins {
		if i == mostTwins {
			f.Twins = append(f.Twins, fmt.Sprintf("%d more access points send a name of ours.", len(twins)-i))
			break
		}
		f.Twins = append(f.Twins, fmt.Sprintf("%s on channel %d sends the name %q, too, and is no radio of this box.", n.BSSID, n.Channel, n.SSID))
	}
	if !f.Advice.Measured {
		f.Notes = append(f.Notes, "How busy the channels are is not known: this radio's driver does not count it. Only the networks that were heard are weighed.")
	}
	if f.Failed > 0 {
		f.Notes = append(f.Notes, fmt.Sprintf("%d of %d times nothing was heard: %s.", f.Failed, f.Passes, h.problem))
	}
	if f.Unread > 0 {
		f.Notes = append(f.Notes, fmt.Sprintf("%s sent what cannot be read and is not weighed.", count(f.Unread, "more network")))
	}
}

// mostNeighbours is how many networks the page shows.
const mostNeighbours = 30

// showSurvey prints the page.
func (c *call) showSurvey(f surveyed, file string) {
	fmt.Fprintf(c, "\n%s\n\n", c.in(bold, c.wrap(fmt.Sprintf("%s: the air around %s, Wi-Fi %q on channel %d", safe(f.Network), safe(f.Interface), safe(f.SSID), f.Channel), 0)))
	c.showNeighbours(f)
	fmt.Fprintln(c)
	c.showChannels(f)
	fmt.Fprintln(c)
	mark := c.in(green, c.sign("✓", "+"))
	if f.Advice.Change {
		mark = c.in(red, c.sign("✗", "!"))
	}
	lead := c.sign("↳ ", "> ")
	advise := func(text string) { fmt.Fprintf(c, "  %s%s\n", lead, c.wrap(safe(text), 2+len([]rune(lead)))) }
	text := fmt.Sprintf("channel %d is right: %s", f.Advice.Channel, f.Advice.Reason)
	if f.Advice.Change {
		text = fmt.Sprintf("channel %d would be better than %d: %s", f.Advice.Channel, f.Channel, f.Advice.Reason)
	}
	fmt.Fprintln(c, mark, c.wrap(text, 2))
	if f.Advice.Change {
		advise(f.change(file))
	}
	for _, twin := range f.Twins {
		fmt.Fprintln(c, c.in(red, c.sign("✗", "!")), c.wrap(safe(twin), 2))
	}
	if len(f.Twins) > 0 {
		advise("A charger stays for ever with the access point that it finds first (F-9). Find out whose it is; if it is yours, give it a name of its own, else change ssid here before chargers are installed.")
	}
	for _, note := range f.Notes {
		fmt.Fprintln(c, c.in(faint, c.wrap(safe(note), 0)))
	}
	fmt.Fprintln(c, c.in(faint, c.wrap("Taken is what was measured as busy, and for each access point heard up to 10 % more, since who is silent now may talk in the evening; less where it is faint or on a channel beside, and 30 % for a radio of this box. What the chargers hear at their places can differ.", 0)))
}

// change says how the advised channel is put to work. A restart is not for a box that
// does not run yet: the radio waits for the daemon, and the command with it.
func (f *surveyed) change(file string) string {
	written := fmt.Sprintf("Write channel = %d for %s in %s, then: ", f.Advice.Channel, f.Network, file)
	if f.Radio == radioIsBack {
		return written + fmt.Sprintf("sudo systemctl restart chargegate-prepare chargegate-radio@%s. Its chargers reconnect.", f.Network)
	}
	return written + "sudo chargegated -check. Its last line says what to do next."
}

func (c *call) showNeighbours(f surveyed) {
	if len(f.Neighbours) == 0 {
		fmt.Fprintln(c, "No other network was heard on 2.4 GHz.")
		return
	}
	tb := &table{columns: []column{{head: "CHANNEL", right: true}, {head: "SIGNAL", right: true}, {head: "NAME"}, {head: "ADDRESS", rank: 1}}}
	longest := 32
	if w := c.width(); w > 0 {
		longest = max(8, min(longest, w-len("CHANNEL")-gap-len("-100 dBm")-gap))
	}
	for i, n := range f.Neighbours {
		if i == mostNeighbours {
			break
		}
		r := row{cells: []cell{{text: strconv.Itoa(n.Channel)}, {text: "?", paint: faint}, {text: c.cut(c.letters(safe(n.SSID)), longest)}, {text: n.BSSID}}}
		if n.Signal != nil {
			r.cells[1] = cell{text: fmt.Sprintf("%d dBm", *n.Signal)}
		}
		switch {
		case n.SSID == "":
			r.cells[2] = cell{"(hidden)", faint}
		case n.Twin:
			r.cells[2].paint = red
		}
		switch {
		case n.Network != "" && n.Heard:
			r.notes = []string{safe(n.Network) + ", of this box"}
		case n.Network != "":
			r.cells[1].text = ""
			r.notes = []string{safe(n.Network) + ", of this box: planned, and not heard"}
		}
		tb.rows = append(tb.rows, r)
	}
	tb.print(c.terminal, 0)
	if more := len(f.Neighbours) - mostNeighbours; more > 0 {
		fmt.Fprintln(c, c.in(faint, fmt.Sprintf("and %d more", more)))
	}
}

// letters writes a question mark for each letter of a stranger's that cannot be shown.
func (t *terminal) letters(text string) string {
	if t.signs {
		return text
	}
	return strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII {
			return '?'
		}
		return r
	}, text)
}

// cut shortens a text to n columns.
func (t *terminal) cut(text string, n int) string {
	r := []rune(text)
	if len(r) <= n {
		return text
	}
	end := t.sign("…", "...")
	return string(r[:n-len([]rune(end))]) + end
}

func (c *call) showChannels(f surveyed) {
	bar := 30
	if w := c.width(); w > 0 {
		bar = max(4, min(bar, w-35)) // beside the other columns
	}
	tb := &table{columns: []column{{head: ""}, {head: "CHANNEL", right: true}, {head: "NETWORKS", right: true}, {head: "BUSY", right: true}, {head: "", rank: 1}, {head: "TAKEN", right: true}}}
	for _, ch := range f.Channels {
		r := row{cells: []cell{{}, {text: strconv.Itoa(ch.Channel)}, {text: some(ch.Networks)}, {}, {}, {}}}
		if ch.Busy != nil {
			r.cells[3].text, r.cells[4] = fmt.Sprintf("%.0f %%", 100**ch.Busy), c.bar(*ch.Busy, bar)
		}
		if i := slices.IndexFunc(f.Advice.Loads, func(l air.Load) bool { return l.Channel == ch.Channel }); i >= 0 {
			r.cells[5].text = fmt.Sprintf("%.0f %%", 100*f.Advice.Loads[i].Taken)
		}
		if ch.Channel == f.Advice.Channel {
			r.cells[0] = cell{c.sign("→", "*"), green}
		}
		tb.rows = append(tb.rows, r)
	}
	tb.print(c.terminal, 0)
}

// some is a number, and nothing for nothing.
func some(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// bar draws a share of the air.
func (c *call) bar(share float64, width int) cell {
	n := int(math.Round(share * float64(width)))
	p := green
	switch {
	case share > 0.6:
		p = red
	case share > 0.3:
		p = yellow
	}
	return cell{strings.Repeat(c.sign("█", "#"), n) + strings.Repeat(c.sign("·", "."), width-n), p}
}
