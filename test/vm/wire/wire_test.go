package wire

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// pair is a driver and an agent on one port.
func pair(t *testing.T, ops map[string]Op) (*Client, net.Conn) {
	here, there := net.Pipe()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = Serve(there, ops) }()
	c := NewClient(here)
	t.Cleanup(func() { c.Close(); there.Close(); <-ended })
	return c, there
}

func TestAnswersFindTheirQuestion(t *testing.T) {
	slow := make(chan struct{})
	c, there := pair(t, map[string]Op{
		"slow": func(context.Context, json.RawMessage) (any, error) { <-slow; return "slow", nil },
		"fast": func(_ context.Context, args json.RawMessage) (any, error) { return args, nil },
		"fail": func(context.Context, json.RawMessage) (any, error) { return "half", errors.New("no radio") },
	})
	ctx, end := context.WithTimeout(t.Context(), 5*time.Second)
	defer end()
	done := make(chan string)
	go func() {
		var out string
		_ = c.Call(ctx, "slow", nil, &out)
		done <- out
	}()
	// Of a life before the snapshot: half a line, and an answer to nobody.
	if _, err := there.Write([]byte("{\"id\":1,\n{\"id\":7,\"ok\":true}\n")); err != nil {
		t.Fatal(err)
	}
	var out map[string]int
	if err := c.Call(ctx, "fast", map[string]int{"n": 3}, &out); err != nil || out["n"] != 3 {
		t.Errorf("fast: %v, %v", out, err)
	}
	var half string
	if err := c.Call(ctx, "fail", nil, &half); err == nil || !strings.Contains(err.Error(), "no radio") || half != "half" {
		t.Errorf("fail: %q, %v", half, err)
	}
	if err := c.Call(ctx, "fly", nil, nil); err == nil {
		t.Error("an op that does not exist: no error")
	}
	close(slow)
	if got := <-done; got != "slow" {
		t.Errorf("the slow answer is %q", got)
	}
}

func TestNobodyWaitsForEver(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*Client, context.CancelFunc)
	}{
		{"the time is over", func(_ *Client, stop context.CancelFunc) { stop() }},
		{"the guest is gone", func(c *Client, _ context.CancelFunc) { c.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			held := make(chan struct{})
			defer close(held)
			asked := make(chan struct{})
			client, _ := pair(t, map[string]Op{"hang": func(context.Context, json.RawMessage) (any, error) { close(asked); <-held; return nil, nil }})
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go func() { <-asked; c.end(client, stop) }()
			if err := client.Call(ctx, "hang", nil, nil); err == nil {
				t.Error("no error")
			}
		})
	}
}
