package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
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
	shown, more := shownInStatus(st.Chargers)
	if len(shown) > 0 {
		tb := c.statusTable(shown)
		if columns := tb.print(c.terminal, 0); slices.Contains(columns, signalColumn) {
			fmt.Fprintln(c, c.in(faint, c.wrap("SIGNAL is the uplink: how well this box hears the charger.", 0)))
		}
	}
	if more > 0 {
		fmt.Fprintln(c, c.wrap(fmt.Sprintf("and %s without an address: chargegate chargers", count(more, "unknown device")), 0))
	}
	fmt.Fprintln(c, c.in(bold, c.wrap(safe(st.Summary), 0)))
}

// mostStrangers bounds what strangers can do to the page.
const mostStrangers = 8

// shownInStatus is who stands on the page: the chargers, and of the strangers
// that are here those of whom there is something to say.
func shownInStatus(all []status.Charger) (shown []status.Charger, more int) {
	strangers := 0
	for _, ch := range all {
		switch {
		case ch.Known:
			shown = append(shown, ch)
		case ch.Advice == "" || ch.Stage == charger.Wifi || !ch.ProbablyCharger && ch.Address.IsValid():
		case strangers < mostStrangers:
			strangers++
			shown = append(shown, ch)
		default:
			more++
		}
	}
	return shown, more
}

// signalColumn is the place of SIGNAL in statusTable.
const signalColumn = 3

// statusTable is each charger by parking space, with advice below those that
// are stuck.
func (c *call) statusTable(all []status.Charger) *table {
	tb := &table{columns: []column{{head: "NAME"}, {head: "STAGE"}, {head: "ADDRESS", rank: 1}, {head: "SIGNAL", rank: 3},
		{head: "LAST SEEN", rank: 2, right: true}, {head: "TODAY", rank: 4, right: true}}}
	alike, signals := 0, run{}
	for i, ch := range all {
		name := cell{text: safe(ch.Name)}
		if !ch.Known {
			name = cell{ch.MAC.String(), faint}
		}
		// A cause that many share is said once, below the last of them.
		switch alike++; {
		case ch.Advice == "":
			alike = 0
		case i+1 < len(all) && all[i+1].Advice == ch.Advice:
			ch.Advice = ""
		case alike > 1:
			ch.Advice = fmt.Sprintf("These %d: %s", alike, ch.Advice)
			alike = 0
		default:
			alike = 0
		}
		told := signals.note(ch, i+1 == len(all) || all[i+1].SignalAdvice != ch.SignalAdvice)
		tb.rows = append(tb.rows, row{cells: []cell{name, stageCell(ch.Stage), {text: addressText(ch)}, signalCell(ch),
			{text: ago(ch.LastSeenAge)}, {text: traffic(ch.UpToday + ch.DownToday)}}, notes: append(notes(ch), told...)})
	}
	return tb
}

// recently is how long the last refusal stays on the page.
const recently = 15 * time.Minute

// notes are the sentences below a charger: what to do, and what it was refused
// lately. A charger that is ok may still lack something.
func notes(ch status.Charger) []string {
	var out []string
	if ch.Advice != "" {
		out = append(out, safe(ch.Advice))
	}
	if ch.Refused != "" && ch.RefusedAge != nil && ch.RefusedAge.Duration() <= recently && !strings.Contains(ch.Advice, ch.Refused) {
		out = append(out, fmt.Sprintf("refused: %s, %s", safe(ch.Refused), ago(ch.RefusedAge)))
	}
	return out
}

// A run is chargers below each other whose signal has been of one grade for long.
type run struct{ n, least, most int }

// note takes the next charger, and is the sentence below the last of a run: what to do
// about its signal. The number stands here too, since a narrow page has no SIGNAL.
func (r *run) note(ch status.Charger, last bool) []string {
	if ch.SignalAdvice == "" {
		return nil
	}
	if r.n++; r.n == 1 {
		r.least, r.most = ch.Median, ch.Median
	}
	r.least, r.most = min(r.least, ch.Median), max(r.most, ch.Median)
	if !last {
		return nil
	}
	text := fmt.Sprintf("this box hears it with %d dBm, %s: %s", r.least, ch.Said, ch.SignalAdvice)
	if r.n > 1 {
		text = fmt.Sprintf("These %d: this box hears them with %d to %d dBm, %s: %s", r.n, r.least, r.most, ch.Said, ch.SignalAdvice)
	}
	*r = run{}
	return []string{safe(text)}
}

// short writes a fraction of a second.
func short(s status.Seconds) string {
	if d := s.Duration(); d < time.Second {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return lasting(s.Duration())
}
