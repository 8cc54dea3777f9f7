package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"chargegate/pkg/status"
)

func runDoctor(ctx context.Context, c *call, fs *flag.FlagSet, args []string) (int, error) {
	if _, err := parse(fs, args, 0); err != nil {
		return exitNoAnswer, err
	}
	if c.json {
		var d status.Doctor
		if _, err := c.get(ctx, "/v1/doctor", &d, doctorWithin); err != nil {
			return exitNoAnswer, err
		}
		return attention(d.OK), nil
	}
	ctx, cancel := context.WithTimeout(ctx, doctorWithin)
	defer cancel()
	body, err := c.ask(ctx, "/v1/doctor?stream=1")
	if err != nil {
		return exitNoAnswer, err
	}
	count := map[status.Result]int{}
	total := 0
	err = c.eachCheck(body, func(k status.Check) {
		count[k.Result]++
		total++
		c.showCheck(k)
	})
	if err != nil {
		return exitNoAnswer, c.explain(err)
	}
	if total == 0 {
		return exitNoAnswer, errors.New("the doctor said nothing: run it again")
	}
	fmt.Fprintln(c, c.in(bold, fmt.Sprintf("%d ok, %d to look at, %d failed", count[status.Pass], count[status.Warn], count[status.Fail])))
	return attention(count[status.Pass] == total), nil
}

// eachCheck hands over each check as it comes, shows on a terminal that it is
// at work in between, and closes the body.
func (c *call) eachCheck(body io.ReadCloser, f func(status.Check)) error {
	type next struct {
		check status.Check
		err   error
	}
	checks := make(chan next)
	gone := make(chan struct{})
	var reader sync.WaitGroup
	defer reader.Wait()
	defer body.Close()
	defer close(gone)
	reader.Go(func() {
		lines := json.NewDecoder(io.LimitReader(body, maxAnswer))
		for {
			var n next
			n.err = lines.Decode(&n.check)
			select {
			case checks <- n:
			case <-gone:
				return
			}
			if n.err != nil {
				return
			}
		}
	})
	began, tick := time.Now(), time.NewTicker(200*time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case n := <-checks:
			c.progress("")
			if errors.Is(n.err, io.EOF) {
				return nil
			}
			if n.err != nil {
				return n.err
			}
			f(n.check)
		case <-tick.C:
			c.progress(fmt.Sprintf("at work, %s", lasting(time.Since(began))))
		}
	}
}

// progress shows a passing text on the last line, or takes it away.
func (c *call) progress(text string) {
	if c.live {
		fmt.Fprint(c, "\r\x1b[K"+c.in(faint, text))
	}
}

// showCheck prints one check and what to do about it.
func (c *call) showCheck(k status.Check) {
	mark, p := c.sign("✓", "+"), green
	switch k.Result {
	case status.Warn:
		mark, p = "!", yellow
	case status.Fail:
		mark, p = c.sign("✗", "x"), red
	}
	name := safe(k.Name)
	fmt.Fprintf(c, "%s %s: %s\n", c.in(p, mark), c.in(bold, name), c.wrapAfter(safe(k.Found), 2+utf8.RuneCountInString(name)+2, 4))
	if k.Do != "" {
		lead := c.sign("↳ ", "> ")
		fmt.Fprintf(c, "    %s%s\n", lead, c.wrap(safe(k.Do), 6))
	}
}
