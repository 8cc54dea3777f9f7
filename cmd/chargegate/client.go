package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"chargegate/pkg/status"
)

const (
	// answerWithin bounds a question that the daemon answers from memory.
	answerWithin = 10 * time.Second
	// doctorWithin bounds the self-test, which bounds itself to half a minute.
	doctorWithin = 45 * time.Second
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 64 << 20
)

// ask asks the daemon and returns its answer. Whoever asked closes it. What the
// error says is for the technician.
func (c *call) ask(ctx context.Context, path string) (io.ReadCloser, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
		}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://chargegate"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", path, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var told status.Fault
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&told); err != nil || told.Error == "" {
		return nil, fmt.Errorf("%s is answered by something else (%s): is it chargegated?", c.socket, resp.Status)
	}
	if told.Right != "" {
		told.Error += "; " + told.Right
	}
	return nil, errors.New(told.Error)
}

// explain says what to do about a daemon that does not answer.
func (c *call) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("you may not ask at %s: use sudo, or join the group chargegate (sudo adduser $USER chargegate) and log in again", c.socket)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody answers at %s: is the daemon running? Run: systemctl status chargegated", c.socket)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the daemon does not answer at %s: it hangs, and systemd should restart it soon. Run: systemctl status chargegated", c.socket)
	}
	return fmt.Errorf("asking at %s: %w", c.socket, err)
}

// get asks, and reads the whole answer into out. With -json it prints the
// answer as it is, too, and printed is true.
func (c *call) get(ctx context.Context, path string, out any, within time.Duration) (printed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	body, err := c.ask(ctx, path)
	if err != nil {
		return false, err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxAnswer))
	if err != nil {
		return false, c.explain(err)
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(out); err != nil {
		return false, fmt.Errorf("the daemon's answer cannot be read (%w): are chargegate and chargegated of one version?", err)
	}
	if c.json {
		if _, err := c.Write(text); err != nil {
			return true, fmt.Errorf("printing: %w", err)
		}
	}
	return c.json, nil
}
