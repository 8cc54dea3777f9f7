// Package hostapd speaks with hostapd through its control socket: it puts
// questions, and hears what hostapd tells of its own accord. One datagram is one
// question, one answer or one event (hostapd's wpa_ctrl protocol).
//
// A socket of ours needs no file: it is bound to an address that the kernel makes
// up. Both ends must be in one network namespace, and the user in the group that
// ctrl_interface_group names.
//
// It judges nothing of what it hears.
package hostapd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is where hostapd puts its sockets, one for each interface
// (ctrl_interface in the rendered configuration).
const Dir = "/run/hostapd"

// Socket is where hostapd answers for an interface.
func Socket(ifname string) string { return filepath.Join(Dir, ifname) }

// maxDatagram is longer than any answer; hostapd's own buffers are of 4096 bytes.
const maxDatagram = 8192

// ErrFailed is what hostapd answers to a command that it knows and could not do,
// and ErrUnknown to one that it does not know.
var (
	ErrFailed  = errors.New("hostapd could not do it")
	ErrUnknown = errors.New("this hostapd does not know the command")
)

// A Conn is a way to one hostapd, for questions; see Monitor for what it tells of
// its own accord. A Conn that had to wait in vain is of no more use: the answer
// may still come, and would be taken for that of the next question.
type Conn struct{ c *net.UnixConn }

// Dial opens a way to the hostapd whose socket is at path. It fails when nobody is
// there; a hostapd that hangs is found out by the first question.
func Dial(path string) (*Conn, error) {
	d := net.Dialer{Control: bind}
	c, err := d.Dial("unixgram", path)
	if err != nil {
		return nil, fmt.Errorf("asking hostapd: %w", err)
	}
	return &Conn{c.(*net.UnixConn)}, nil
}

// bind gives a socket an address, without which nobody can answer: an abstract one
// that the kernel makes up (unix(7), autobind), so that there is no file to clean up.
func bind(_, _ string, raw syscall.RawConn) error {
	var err error
	if control := raw.Control(func(fd uintptr) { err = unix.Bind(int(fd), &unix.SockaddrUnix{}) }); control != nil {
		return control
	}
	return err
}

// Close gives the socket back.
func (c *Conn) Close() error { return c.c.Close() }

// patience is how long an answer is waited for.
const patience = 2 * time.Second

// Ask puts one command to hostapd and returns its answer. It waits until ctx is
// done, and for two seconds at most.
func (c *Conn) Ask(ctx context.Context, command string) (string, error) {
	return c.ask(ctx, command, func(string) {})
}

// ask is Ask; events that come before the answer are handed to passing.
func (c *Conn) ask(ctx context.Context, command string, passing func(string)) (string, error) {
	stop, err := c.within(ctx, patience)
	if err != nil {
		return "", fmt.Errorf("asking hostapd: %w", err)
	}
	defer stop()
	if _, err := c.c.Write([]byte(command)); err != nil {
		return "", fmt.Errorf("asking hostapd for %s: %w", word(command), err)
	}
	buf := make([]byte, maxDatagram)
	for {
		n, err := c.c.Read(buf)
		if err != nil {
			return "", fmt.Errorf("waiting for hostapd's answer to %s: %w", word(command), err)
		}
		answer := string(buf[:n])
		switch {
		case isEvent(answer):
			passing(answer)
			continue
		case answer == "FAIL\n":
			return "", fmt.Errorf("%s: %w", word(command), ErrFailed)
		case answer == "UNKNOWN COMMAND\n":
			return "", fmt.Errorf("%s: %w", word(command), ErrUnknown)
		}
		return answer, nil
	}
}

// within bounds what is read and written next by a time and by ctx, until stop is
// called.
func (c *Conn) within(ctx context.Context, d time.Duration) (stop func() bool, err error) {
	until := time.Now().Add(d)
	if t, ok := ctx.Deadline(); ok && t.Before(until) {
		until = t
	}
	if err := c.c.SetDeadline(until); err != nil {
		return nil, err
	}
	// A deadline in the past ends what is under way when ctx ends.
	return context.AfterFunc(ctx, func() { c.c.SetDeadline(time.Unix(1, 0)) }), nil
}

// word is the command without what follows it.
func word(command string) string {
	first, _, _ := strings.Cut(command, " ")
	return first
}

// Values reads an answer of lines like "state=ENABLED". Lines of another form are
// passed over; of a key that stands twice the first counts.
func Values(answer string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(answer) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if _, twice := out[key]; ok && key != "" && !twice {
			out[key] = value
		}
	}
	return out
}
