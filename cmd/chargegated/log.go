package main

import (
	"context"
	"io"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"

	"chargegate/pkg/config"
	"chargegate/pkg/event"
)

// keep is how many of the last events the tool can ask for.
const keep = 2000

// openLog makes the log in the form that the configuration asks for: by itself
// the journal where stderr is the journal's, else text. What it returns second
// writes out what is queued and must be called last.
func openLog(c config.Log, w io.Writer) (*event.Log, func()) {
	o := event.Options{Level: c.Level, Keep: keep}
	format := c.Format
	if under, _ := journal.StderrIsJournalStream(); under && (format == "auto" || format == "") {
		format = "journal"
	}
	switch format {
	case "journal":
		j := event.NewJournal()
		ctx, stop := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { j.Run(ctx) })
		return event.New(o, j), func() { stop(); wg.Wait() }
	case "json":
		return event.New(o, event.JSON(w)), func() {}
	}
	return event.New(o, event.Text(w)), func() {}
}
