package hostapd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// A Monitor is a way on which hostapd tells what happens. It is used by one
// goroutine.
type Monitor struct {
	c    *Conn
	hear func(Event) bool
	buf  []byte
}

// listening asks for what hostapd tells from the level of debugging on: there, and
// nowhere else, is the reason with which a station leaves. That is a line for each
// frame of management but probes and beacons.
const listening = "LEVEL 2"

// Attach has hostapd tell us what happens; each event is handed to hear, which says
// whether Listen shall go on. It must not wait: hostapd 2.10 waits itself, for ever, when a few hundred events have not
// been read (its socket blocks). It goes on as soon as we read or our socket is closed,
// so a process that hangs costs others the Wi-Fi only until the watchdog ends it.
func Attach(ctx context.Context, path string, hear func(Event) bool) (*Monitor, error) {
	c, err := Dial(path)
	if err != nil {
		return nil, err
	}
	m := &Monitor{c: c, hear: hear, buf: make([]byte, maxDatagram)}
	for _, command := range []string{"ATTACH", listening} {
		if _, err := m.Ask(ctx, command); err != nil {
			c.Close()
			return nil, err
		}
	}
	return m, nil
}

// Close gives the socket back. hostapd forgets us when it next has something to tell.
func (m *Monitor) Close() error { return m.c.Close() }

// Ask is Conn.Ask; events that come meanwhile are heard.
func (m *Monitor) Ask(ctx context.Context, command string) (string, error) {
	return m.c.ask(ctx, command, func(datagram string) { m.take(datagram) })
}

// Attached asks whether hostapd still counts us among those it tells. It fails when
// hostapd is gone, hangs, was started anew, or has given us up.
func (m *Monitor) Attached(ctx context.Context) error {
	_, err := m.Ask(ctx, listening)
	return err
}

// Listen hears events for a while, or until one of them is enough. That the time is over
// is no error; that ctx is done is one.
func (m *Monitor) Listen(ctx context.Context, d time.Duration) error {
	stop, err := m.c.within(ctx, d)
	if err != nil {
		return fmt.Errorf("hearing hostapd: %w", err)
	}
	defer stop()
	for {
		n, err := m.c.c.Read(m.buf)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("hearing hostapd: %w", err)
		}
		if !m.take(string(m.buf[:n])) {
			return nil
		}
	}
}

// take hands an event on, and says whether there is to be more.
func (m *Monitor) take(datagram string) bool {
	e, ok := ParseEvent(datagram)
	if !ok {
		return true // a late answer, or a word that we cannot read
	}
	return m.hear(e)
}
