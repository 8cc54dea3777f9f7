package main

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/status"
)

func runStatus(ctx context.Context, c *call, fs *flag.FlagSet, args []string) (int, error) {
	watch := fs.Bool("watch", false, "")
	if _, err := parse(fs, args, 0); err != nil {
		return exitNoAnswer, err
	}
	if *watch && !c.json {
		return c.watch(ctx)
	}
	var st status.Status
	printed, err := c.get(ctx, "/v1/status", &st, answerWithin)
	if err != nil {
		return exitNoAnswer, err
	}
	if !printed {
		c.showStatus(st)
	}
	return attention(st.OK), nil
}

// showStatus prints the page.
func (c *call) showStatus(st status.Status) {
	c.showHead(st)
	fmt.Fprintln(c)
	var shown []status.Charger
	for _, ch := range st.Chargers {
		if ch.Known {
			shown = append(shown, ch)
		}
	}
	if len(shown) > 0 {
		c.statusTable(shown, st.Networks).print(c.terminal, 0)
	}
	fmt.Fprintln(c, c.in(bold, c.wrap(safe(st.Summary), 0)))
}

// showHead prints how the house is: a line for each thing, with a sign before
// those that need attention.
func (c *call) showHead(st status.Status) {
	head := c.wrap(fmt.Sprintf("%s, chargegate %s, up %s", safe(st.Site), safe(st.Version), lasting(st.Uptime.Duration())), 0)
	fmt.Fprintln(c, c.in(bold, head))
	if k := st.Clock; k != nil {
		if k.Synchronised {
			c.fact("time", true, fmt.Sprintf("right to within %s, stratum %d", short(k.RootDistance), k.Stratum))
		} else {
			c.fact("time", false, "not known, so chargers get none: "+k.Reason)
		}
	}
	if u := st.Uplink; u != nil {
		text := count(u.Servers, "DNS server") + ", and none fails"
		switch {
		case !u.OK():
			text = "not answered: " + u.Problem
		case u.Lost > 0:
			text = fmt.Sprintf("answered, though %d of %s do not answer", u.Lost, count(u.Servers, "DNS server"))
		}
		c.fact("names", u.OK(), text)
	}
	for _, n := range st.Networks {
		c.networkFact(n)
	}
}

func (c *call) networkFact(n status.NetworkState) {
	well := true
	parts := []string{fmt.Sprintf("%s %s", n.Interface, n.Gateway)}
	if n.SSID != "" {
		parts = append(parts, fmt.Sprintf("Wi-Fi %q on channel %d", n.SSID, n.Channel))
	}
	if p := n.Pool; p != nil {
		parts = append(parts, fmt.Sprintf("%d of %d addresses", p.Used, p.Size))
		well = p.Used*5 < p.Size*4
	}
	if r := n.Radio; r != nil {
		switch {
		case r.Watched() && r.MaxStations > 0:
			parts = append(parts, fmt.Sprintf("%d of %d stations", len(r.Stations), r.MaxStations))
		case r.Watched():
			parts = append(parts, fmt.Sprintf("%d stations", len(r.Stations)))
		case r.State != "waiting":
			well = false
			parts = append(parts, "no radio: "+r.Problem)
		}
		if r.NoSignal {
			parts = append(parts, "signal not reported")
		}
	}
	c.fact(n.Name, well, strings.Join(parts, ", "))
}

// fact prints one line of the head. Its text may come from anywhere.
func (c *call) fact(name string, well bool, text string) {
	const indent = 8
	mark := c.in(green, c.sign("✓", "+"))
	if !well {
		mark = c.in(red, c.sign("✗", "!"))
	}
	name = fmt.Sprintf("%-*s", indent-3, safe(name))
	fmt.Fprintf(c, "%s %s %s\n", mark, name, c.wrap(safe(text), max(indent, len([]rune(name))+3)))
}

// statusTable is each charger by parking space, with advice below those that
// are stuck.
func (c *call) statusTable(all []status.Charger, networks []status.NetworkState) *table {
	heard := stations(networks)
	tb := &table{columns: []column{{head: "NAME"}, {head: "STAGE"}, {head: "ADDRESS", rank: 1}, {head: "SIGNAL", rank: 3, right: true},
		{head: "LAST SEEN", rank: 2, right: true}, {head: "TODAY", rank: 4, right: true}}}
	for _, ch := range all {
		r := row{cells: []cell{{text: safe(ch.Name)}, stageCell(ch.Stage), {text: addressText(ch)}, signalCell(ch, heard),
			{text: ago(ch.LastSeenAge)}, {text: traffic(ch.UpToday + ch.DownToday)}}}
		if ch.Advice != "" {
			r.notes = []string{safe(ch.Advice)}
		}
		tb.rows = append(tb.rows, r)
	}
	return tb
}

// stations is who is on some radio.
func stations(networks []status.NetworkState) map[charger.MAC]status.Station {
	heard := map[charger.MAC]status.Station{}
	for _, n := range networks {
		if n.Radio != nil {
			for _, st := range n.Radio.Stations {
				heard[st.MAC] = st
			}
		}
	}
	return heard
}

// short writes a fraction of a second.
func short(s status.Seconds) string {
	if d := s.Duration(); d < time.Second {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return lasting(s.Duration())
}
