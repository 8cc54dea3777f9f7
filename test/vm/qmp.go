package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// qmp is QEMU's own control socket. One goroutine uses it at a time.
type qmp struct {
	conn net.Conn
	in   *bufio.Scanner
}

// openQMP greets QEMU, whose socket may still be about to come.
func openQMP(ctx context.Context, path string) (*qmp, error) {
	conn, err := dial(ctx, path)
	if err != nil {
		return nil, err
	}
	q := &qmp{conn: conn, in: bufio.NewScanner(conn)}
	if _, err := q.ask(ctx, "qmp_capabilities", nil); err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

// dial waits for a socket that is about to be made.
func dial(ctx context.Context, path string) (net.Conn, error) {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ask waits for what a command returns; events are passed over.
func (q *qmp) ask(ctx context.Context, command string, args any) (json.RawMessage, error) {
	if until, ok := ctx.Deadline(); ok {
		if err := q.conn.SetDeadline(until); err != nil {
			return nil, err
		}
	}
	question := map[string]any{"execute": command}
	if args != nil {
		question["arguments"] = args
	}
	if err := json.NewEncoder(q.conn).Encode(question); err != nil {
		return nil, err
	}
	for q.in.Scan() {
		var a struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := json.Unmarshal(q.in.Bytes(), &a); err != nil {
			return nil, err
		}
		switch {
		case a.Error != nil:
			return nil, fmt.Errorf("QEMU refuses %s: %s", command, a.Error.Desc)
		case a.Return != nil:
			return a.Return, nil
		}
	}
	return nil, fmt.Errorf("QEMU has not answered %s: %w", command, errors.Join(q.in.Err(), ctx.Err()))
}

// monitor runs a command of QEMU's monitor for people, which says nothing when all
// is well.
func (q *qmp) monitor(ctx context.Context, line string) error {
	raw, err := q.ask(ctx, "human-monitor-command", map[string]string{"command-line": line})
	if err != nil {
		return err
	}
	var said string
	if err := json.Unmarshal(raw, &said); err != nil {
		return err
	}
	if said != "" {
		return fmt.Errorf("QEMU to %s: %s", line, said)
	}
	return nil
}
