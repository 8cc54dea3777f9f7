package main

import (
	"context"
	"flag"
	"fmt"

	"chargegate/pkg/charger"
	"chargegate/pkg/status"
)

func runChargers(ctx context.Context, c *call, fs *flag.FlagSet, args []string) (int, error) {
	if _, err := parse(fs, args, 0); err != nil {
		return exitNoAnswer, err
	}
	var all status.Chargers
	printed, err := c.get(ctx, "/v1/chargers", &all, answerWithin)
	if err != nil {
		return exitNoAnswer, err
	}
	well := true
	for _, ch := range all.Chargers {
		well = well && (!ch.Known || ch.Stage == charger.OK && !ch.TooWeak())
	}
	if !printed {
		if len(all.Chargers) > 0 {
			chargersTable(all.Chargers).print(c.terminal, 0)
		}
		fmt.Fprintln(c, c.in(bold, c.wrap(safe(all.Summary), 0)))
	}
	return attention(well), nil
}

// chargersTable is everybody, strangers too, with all that is known.
func chargersTable(all []status.Charger) *table {
	tb := &table{columns: []column{{head: "NAME"}, {head: "STAGE"}, {head: "NETWORK", rank: 5}, {head: "ADDRESS", rank: 1},
		{head: "MAC", rank: 2}, {head: "SERIAL", rank: 4}, {head: "MODEL", rank: 9}, {head: "SIGNAL", rank: 6},
		{head: "LAST SEEN", rank: 3, right: true}, {head: "TODAY", rank: 7, right: true}, {head: "ALL", rank: 8, right: true},
		{head: "HOSTNAME", rank: 10}}}
	for _, ch := range all {
		name, address := cell{text: safe(ch.Name)}, cell{text: addressText(ch)}
		if !ch.Known {
			name = cell{"(stranger)", faint}
		}
		tb.rows = append(tb.rows, row{cells: []cell{name, stageCell(ch.Stage), {text: safe(ch.Network)}, address, {text: ch.MAC.String()},
			{text: safe(ch.Serial)}, {text: safe(ch.Model)}, signalCell(ch), {text: ago(ch.LastSeenAge)},
			{text: traffic(ch.UpToday + ch.DownToday)}, {text: traffic(ch.Up + ch.Down)}, {text: safe(ch.Hostname)}}, notes: strangersNotes(ch)})
	}
	return tb
}

// strangersNotes is what to do about a stranger. What chargers lack stands on
// the page of status.
func strangersNotes(ch status.Charger) []string {
	if ch.Known || ch.Advice == "" {
		return nil
	}
	return []string{safe(ch.Advice)}
}
