package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"chargegate/pkg/status"
)

// showConversations prints what a charger has open and what became of its last
// calls.
func (c *call) showConversations(d status.ChargerDetail) {
	if len(d.Conversations) > 0 {
		fmt.Fprintf(c, "\n%s\n", c.in(bold, "Open conversations"))
		openTable(d.Conversations).print(c.terminal, 2)
	}
	since := ""
	if !d.Started.IsZero() {
		since = fmt.Sprintf("since %s, when the daemon started", clock(d.Started, time.Now()))
	}
	switch {
	case len(d.Past) > 0 && since != "":
		fmt.Fprintf(c, "\n%s\n", c.in(bold, c.wrap("Ended and refused ("+since+")", 0)))
		pastTable(d.Past).print(c.terminal, 2)
	case since != "":
		fmt.Fprintf(c, "\n%s\n  %s\n", c.in(bold, "Ended and refused"), c.wrap("nothing "+since, 2))
	}
}

func openTable(all []status.Conversation) *table {
	tb := &table{columns: []column{{head: "WITH"}, {head: "OPEN FOR", rank: 1, right: true}, {head: "SILENT FOR", rank: 2, right: true},
		{head: "UP", rank: 3, right: true}, {head: "DOWN", rank: 3, right: true}}}
	where, reason := "", "" // of the last one: what stands above already is not repeated
	for _, v := range all {
		r := row{cells: []cell{{text: with(v.Name, v.Port, 1)}, {text: lasting(v.Age.Duration())}, {text: lasting(v.Silent.Duration())},
			{text: volume(v.Up)}, {text: volume(v.Down)}}}
		note := fmt.Sprintf("at %s, %s", v.Remote, namedBy(v.By))
		switch {
		case v.Taken == 1:
			note += "; it has outlived a restart"
		case v.Taken > 1:
			note += fmt.Sprintf("; it has outlived %d restarts", v.Taken)
		}
		same := note == where
		where = note
		if v.Reason != "" && v.Reason != reason {
			note += "; allowed: " + safe(because(v.Reason))
		}
		if !same || v.Reason != reason {
			r.notes = []string{note}
		}
		reason = v.Reason
		tb.rows = append(tb.rows, r)
	}
	return tb
}

// because puts the number of what a rule follows from, as in "Z-8: why", behind why.
func because(reason string) string {
	number, why, ok := strings.Cut(reason, ": ")
	if !ok || !requirement.MatchString(number) {
		return reason
	}
	return why + " (" + number + ")"
}

// requirement is how requirements and findings are numbered.
var requirement = regexp.MustCompile(`^[ZF]-[0-9]+$`)

// namedBy says in words what told whom the charger wants.
func namedBy(by string) string {
	switch by {
	case "sni":
		return "named in the TLS hello"
	case "host":
		return "named in the HTTP request"
	case "address":
		return "told by the address it called"
	case "hub":
		return "named by nobody, and only the hub is meant on this port"
	}
	return "told by " + safe(by)
}

// longestHow is the longest reason that stands in its column; longer ones, and
// those that somebody should read, stand below their row.
const longestHow = 20

func pastTable(all []status.Past) *table {
	tb := &table{columns: []column{{head: "WHEN", right: true}, {head: "WITH"}, {head: "LASTED", rank: 1, right: true},
		{head: "UP", rank: 2, right: true}, {head: "DOWN", rank: 2, right: true}, {head: "HOW IT ENDED"}}}
	for _, p := range all {
		r := row{cells: []cell{{text: ago(&p.Age)}, {text: with(p.Name, p.Port, p.Count)}, {}, {}, {}, {text: safe(p.Reason)}}}
		how := &r.cells[5]
		switch {
		case p.Outcome == "refused":
			*how = cell{"refused", red}
		case p.Outcome == "unreachable":
			*how = cell{"unreachable", yellow}
		case utf8.RuneCountInString(how.text) > longestHow:
			*how = cell{text: "ended"}
		}
		if how.text != safe(p.Reason) {
			r.notes = []string{safe(p.Reason)}
		}
		if p.Outcome == "ended" {
			r.cells[2].text, r.cells[3].text, r.cells[4].text = lasting(p.Lasted.Duration()), volume(p.Up), volume(p.Down)
		}
		tb.rows = append(tb.rows, r)
	}
	return tb
}

// with writes whom somebody wanted, and how many times in a row.
func with(name string, port uint16, times int) string {
	text := "(not asked)"
	switch {
	case name != "" && port != 0:
		text = fmt.Sprintf("%s:%d", safe(name), port)
	case name != "":
		text = safe(name)
	case port != 0:
		text = fmt.Sprintf("port %d", port)
	}
	if times > 1 {
		text += fmt.Sprintf(" x%d", times)
	}
	return text
}

// showVolume prints what a charger moved with whom.
func (c *call) showVolume(v *status.Volume) {
	if v == nil || len(v.Names) == 0 {
		return
	}
	today := "TODAY"
	if !v.Dated {
		today = "SO FAR"
	}
	tb := &table{columns: []column{{head: "WITH"}, {head: today, right: true}, {head: "YESTERDAY", rank: 1, right: true},
		{head: "7 DAYS", rank: 2, right: true}, {head: "30 DAYS", right: true}, {head: "30 DAYS UP", rank: 4, right: true},
		{head: "30 DAYS DOWN", rank: 4, right: true}, {head: "CALLS", rank: 3, right: true}}}
	add := func(name string, r status.VolumeRow, p paint) {
		var cells []cell
		for _, text := range []string{name, traffic(r.Today.Total()), traffic(r.Yesterday.Total()), traffic(r.Week.Total()), traffic(r.Month.Total()),
			traffic(r.Month.Up), traffic(r.Month.Down), fmt.Sprint(r.Month.Sessions)} {
			cells = append(cells, cell{text, p})
		}
		tb.rows = append(tb.rows, row{cells: cells})
	}
	for _, r := range v.Names {
		name := safe(r.Name)
		if name == "" {
			name = "(others)"
		}
		add(name, r, plain)
	}
	if len(v.Names) > 1 {
		add("together", v.Sum, bold)
	}
	fmt.Fprintf(c, "\n%s\n", c.in(bold, "Volume"))
	tb.print(c.terminal, 2)
	switch {
	case !v.Dated:
		fmt.Fprintf(c, "  %s\n", c.in(faint, c.wrap("Whether this box's clock is right is not known yet; so far is since the daemon's start.", 2)))
	case v.Since != "":
		fmt.Fprintf(c, "  %s\n", c.in(faint, c.wrap("Written down since "+safe(v.Since)+".", 2)))
	}
}
