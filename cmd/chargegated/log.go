package main

import (
	"context"
	"io"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"chargegate/pkg/config"
	"chargegate/pkg/event"
)

// keep is how many of the last events the tool can ask for.
const keep = 2000

// openLog makes the log in the form that the configuration asks for: by itself
// the journal where stderr is the journal's, else text. What it returns second
// writes out what is queued, within a moment, and must be called last.
func openLog(c config.Log, w io.Writer) (*event.Log, func()) {
	format := c.Format
	if under, _ := journal.StderrIsJournalStream(); under && (format == "auto" || format == "") {
		format = "journal"
	}
	sink := event.Text(w)
	switch format {
	case "journal":
		sink = event.Journal()
	case "json":
		sink = event.JSON(w)
	}
	queue := event.NewQueue(sink)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		queue.Run(ctx)
	}()
	return event.New(event.Options{Level: c.Level, Keep: keep}, queue), func() {
		stop()
		select {
		case <-ended:
		case <-time.After(time.Second): // whoever reads the log is stuck; we are leaving
		}
	}
}
