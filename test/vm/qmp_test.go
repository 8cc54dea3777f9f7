package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// aQEMU answers each question with the next of its lines.
func aQEMU(t *testing.T, answers ...string) *qmp {
	here, there := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		in := bufio.NewScanner(there)
		for _, a := range answers {
			if !in.Scan() {
				return
			}
			fmt.Fprintln(there, a)
		}
		in.Scan() // silent from here on
	}()
	t.Cleanup(func() { here.Close(); there.Close(); <-ended })
	return &qmp{conn: here, in: bufio.NewScanner(here)}
}

func TestQMP(t *testing.T) {
	for _, c := range []struct{ name, answer, want string }{
		{"done", `{"return": ""}`, ""},
		{"an event comes first", "{\"event\": \"STOP\"}\n{\"return\": \"\"}", ""},
		{"the monitor complains", `{"return": "Error: no space"}`, "no space"},
		{"refused", `{"error": {"class": "GenericError", "desc": "not now"}}`, "not now"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := aQEMU(t, c.answer).monitor(t.Context(), "savevm x")
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestQEMUThatSaysNothingIsNotWaitedFor(t *testing.T) {
	ctx, end := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer end()
	if err := aQEMU(t).monitor(ctx, "savevm x"); err == nil {
		t.Error("no error")
	}
}
