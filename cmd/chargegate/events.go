package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"chargegate/pkg/status"
)

func runEvents(ctx context.Context, c *call, fs *flag.FlagSet, args []string) (int, error) {
	follow := fs.Bool("follow", false, "")
	who := fs.String("charger", "", "")
	level := fs.String("level", "", "")
	n := fs.Int("n", 0, "")
	if _, err := parse(fs, args, 0); err != nil {
		return exitNoAnswer, err
	}
	v := url.Values{}
	if *who != "" {
		v.Set("charger", *who)
	}
	if *level != "" {
		v.Set("level", *level)
	}
	first := clone(v)
	if *n != 0 {
		first.Set("limit", strconv.Itoa(*n))
	}
	if *follow {
		return c.follow(ctx, first, v)
	}
	var e status.Events
	printed, err := c.get(ctx, "/v1/events?"+first.Encode(), &e, answerWithin)
	if err != nil {
		return exitNoAnswer, err
	}
	if !printed {
		c.showEvents(e.Events)
		if len(e.Events) == 0 {
			fmt.Fprintln(c, c.in(faint, nothingSince(e, time.Now())))
		}
	}
	return exitWell, nil
}

// follow prints the events that first finds, and then those that come, until
// ctx is done. With -json each is one line.
func (c *call) follow(ctx context.Context, first, then url.Values) (int, error) {
	quiet := *c
	quiet.json = false // the answers are taken apart here
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	var run time.Time
	for query, begun := first, false; ; begun = true {
		var e status.Events
		_, err := quiet.get(ctx, "/v1/events?"+query.Encode(), &e, answerWithin)
		switch {
		case ctx.Err() != nil:
			return exitWell, nil
		case err != nil && !begun:
			return exitNoAnswer, err
		case err != nil: // the daemon is away for a moment; its successor will answer
		case begun && !e.Started.Equal(run):
			// Another run of the daemon counts from 1 again.
			run, query = e.Started, clone(then)
			query.Set("after", "0")
			continue
		default:
			run, query = e.Started, clone(then)
			query.Set("after", strconv.FormatUint(e.Next, 10))
			if err := c.showFollowed(e.Events); err != nil {
				return exitNoAnswer, err
			}
			if begun && len(e.Events) > 0 {
				continue // there may be more than fit into one answer
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return exitWell, nil
		}
	}
}

func clone(v url.Values) url.Values {
	out := url.Values{}
	for key, values := range v {
		out[key] = values
	}
	return out
}

func (c *call) showFollowed(events []status.Event) error {
	if !c.json {
		c.showEvents(events)
		return nil
	}
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("writing an event as JSON: %w", err)
		}
		if _, err := fmt.Fprintf(c, "%s\n", line); err != nil {
			return fmt.Errorf("printing: %w", err)
		}
	}
	return nil
}

func (c *call) showEvents(events []status.Event) {
	now := time.Now()
	for _, e := range events {
		c.showEvent(e, now, true)
	}
}

// showEvent prints one event and, where somebody must act, what to do. names
// says whether to print its identity, too.
func (c *call) showEvent(e status.Event, now time.Time, names bool) {
	p := plain
	switch e.Level {
	case "error":
		p = red
	case "warning":
		p = yellow
	case "debug":
		p = faint
	}
	when := clock(e.Time, now)
	indent := 2 + len(when) + 2
	text := safe(e.Message)
	if e.Suppressed > 0 {
		text += fmt.Sprintf(" (%d more like this since the last one)", e.Suppressed)
	}
	if names {
		text += " [" + safe(e.Event) + "]"
	}
	mark := map[string]string{"error": c.sign("✗", "x"), "warning": "!"}[e.Level]
	fmt.Fprintf(c, "%1s %s  %s\n", mark, c.in(faint, when), c.in(p, c.wrap(text, indent)))
	if e.Advice != "" {
		lead := c.sign("↳ ", "> ")
		fmt.Fprintf(c, "%*s%s%s\n", indent, "", lead, c.wrap(safe(e.Advice), indent+2))
	}
}

// nothingSince says for which time it is true that nothing happened.
func nothingSince(e status.Events, now time.Time) string {
	from := "nothing since " + strings.TrimSuffix(clock(e.Since, now), e.Since.Local().Format(":05"))
	if e.Since.Equal(e.Started) {
		return from + " (start)"
	}
	return from + "; what was before is in the journal: journalctl -t chargegated"
}
