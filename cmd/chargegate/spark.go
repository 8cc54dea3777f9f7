package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"chargegate/pkg/status"
)

// The signs of a signal, from the weakest. Each is 5 dB, and the first three are at
// Zaptec's minimum or below, wherever that was set.
const (
	sparks      = "▁▂▃▄▅▆▇█"
	sparksASCII = "_.:-=+*#"
	sparkStep   = 5
	sparkBelow  = 3
	sparkAway   = ' '
	sparkUntold = '?'
)

// How many columns a day and 90 days may take: numbers that divide them.
var (
	dayColumns     = []int{96, 72, 48, 24, 12, 8}
	quarterColumns = []int{90, 45, 30, 18, 15, 10}
)

// levelOf is the place of a signal among the signs.
func levelOf(dBm, minimum int) int {
	up := dBm - minimum // above 0: better than the minimum
	if up > 0 {
		return min(sparkBelow+(up-1)/sparkStep, len([]rune(sparks))-1)
	}
	return max(sparkBelow-1+up/sparkStep, 0)
}

// showSignals draws how a charger was heard.
func (c *call) showSignals(s *status.Signals) {
	if s == nil || len(s.Minutes.Signal)+len(s.Hours.Signal) == 0 {
		return
	}
	fmt.Fprintf(c, "\n%s\n", c.in(bold, c.wrap("Signal (the uplink: how well this box hears it)", 0)))
	c.spark(s, s.Minutes, "24 hours", 24*60, dayColumns)
	c.spark(s, s.Hours, "90 days", 90*24, quarterColumns)
	if f := s.Fall; f != nil {
		c.detail("falling", fmt.Sprintf("%d -> %d dBm in %s", f.From, f.To, count(f.Days, "day")))
	}
	if known := told(s.Minutes.Resent); len(known) > 0 {
		c.detail("sent again", fmt.Sprintf("%d %% of the tries to reach it in a usual minute, %d %% in the worst", known[(len(known)-1)/2], known[len(known)-1]))
	}
	signs := []rune(c.sign(sparks, sparksASCII))
	c.detail("signs", fmt.Sprintf("%c to %c at %d dBm and below: Zaptec's minimum is missed (Z-4); %c to %c above it, %d dB each, %c from %d dBm on; empty: it was not there; %c: nobody told",
		signs[0], signs[sparkBelow-1], s.Minimum, signs[sparkBelow], signs[len(signs)-1], sparkStep, signs[len(signs)-1], s.Minimum+1+(len(signs)-1-sparkBelow)*sparkStep, sparkUntold))
	if !s.Dated {
		fmt.Fprintf(c, "  %s\n", c.in(faint, c.wrap("Whether this box's clock is right is not known yet; how long ago it was before the daemon's start is not, either.", 2)))
	}
}

// told are the values that are no gaps, from the least.
func told(v status.Values) []int {
	out := slices.DeleteFunc(slices.Clone([]int(v)), func(n int) bool { return n == status.Gap })
	slices.Sort(out)
	return out
}

// spark draws one series over steps of it, the last one at the right end.
func (c *call) spark(s *status.Signals, of status.Series, name string, steps int, columns []int) {
	const indent, bars = 13, 2
	room := columns[0]
	if w := c.width(); w > 0 {
		room = max(w-indent-bars, minRoom-bars)
	}
	n := columns[len(columns)-1]
	for _, k := range columns {
		if k <= room {
			n = k
			break
		}
	}
	fmt.Fprintf(c, "  %s |%s|\n", c.in(faint, fmt.Sprintf("%-10s", name)), c.sparks(s, of, steps, n))
	fmt.Fprintf(c, "%s%s\n", strings.Repeat(" ", indent), c.wrap(sparkText(of, steps, n), indent))
}

// sparks is the line itself: the median of what lies under each sign.
func (c *call) sparks(s *status.Signals, of status.Series, steps, n int) string {
	signs := []rune(c.sign(sparks, sparksASCII))
	each := steps / n
	before := steps - len(of.Signal) // nobody had heard it yet
	var b strings.Builder
	for i := range n {
		from, to := max(i*each-before, 0), min(max((i+1)*each-before, 0), len(of.Signal))
		values := told(of.Signal[min(from, to):to])
		switch {
		case len(values) > 0:
			dBm := values[(len(values)-1)/2]
			p := plain
			if dBm <= s.Minimum {
				p = red
			} else if dBm <= s.Warn {
				p = yellow
			}
			b.WriteString(c.in(p, string(signs[levelOf(dBm, s.Minimum)])))
		case slices.ContainsFunc(of.Present[min(from, to, len(of.Present)):min(to, len(of.Present))], func(n int) bool { return n > 0 }):
			b.WriteRune(sparkUntold)
		default:
			b.WriteRune(sparkAway)
		}
	}
	return b.String()
}

// sparkText says in numbers what the line shows.
func sparkText(of status.Series, steps, n int) string {
	each := fmt.Sprintf("each sign is %s", lasting(of.Step.Duration()*time.Duration(steps/n)))
	all := told(of.Signal)
	if len(all) == 0 {
		return "no signal was told; " + each
	}
	low, high := all[0], all[len(all)-1]
	if v := told(of.Weakest); len(v) > 0 {
		low = v[0]
	}
	if v := told(of.Strongest); len(v) > 0 {
		high = v[len(v)-1]
	}
	return fmt.Sprintf("%d to %d dBm, %d in the middle; %s", low, high, all[(len(all)-1)/2], each)
}
