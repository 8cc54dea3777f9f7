package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"chargegate/pkg/status"
)

// redraw is the time between two pictures of -watch, and between two questions
// of -follow.
const redraw = time.Second

// watch shows the status again and again until ctx is done. A daemon that does
// not answer for a while is waited for.
func (c *call) watch(ctx context.Context) (int, error) {
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	code := exitNoAnswer
	for {
		var st status.Status
		var page bytes.Buffer
		draft := *c
		draft.terminal = c.onto(&page)
		_, err := draft.get(ctx, "/v1/status", &st, answerWithin)
		switch {
		case ctx.Err() != nil:
			return code, nil
		case err != nil:
			code = exitNoAnswer
			fmt.Fprintln(&page, draft.wrap(safe(err.Error()), 0))
		default:
			code = attention(st.OK)
			draft.showStatus(st)
		}
		c.picture(page.String())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return code, nil
		}
	}
}

// onto is the same terminal, with what is printed going to w.
func (t *terminal) onto(w *bytes.Buffer) *terminal {
	copied := *t
	copied.Writer = w
	return &copied
}

// picture replaces what the terminal shows, without flicker. Where nobody looks
// the pages follow one another.
func (t *terminal) picture(page string) {
	if !t.live {
		fmt.Fprintln(t, page)
		return
	}
	all := strings.Split(strings.TrimRight(page, "\n"), "\n")
	if h := t.height(); h > 1 && len(all) >= h {
		cut := len(all) - (h - 2)
		all = append(all[:h-2], t.in(faint, fmt.Sprintf("%d more lines; make the window higher", cut)))
	}
	// Home, each line with the rest of it cleared, then all below.
	fmt.Fprint(t, "\x1b[H"+strings.Join(all, "\x1b[K\n")+"\x1b[K\n\x1b[J")
}
