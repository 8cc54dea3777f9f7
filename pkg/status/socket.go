package status

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// socketMode lets the daemon's user and group ask, and nobody else.
const socketMode = 0o660

// listenUnix takes the unix socket at path. A socket file that is already
// there is replaced only when nobody answers on it.
func listenUnix(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := clear(path); err != nil {
			return nil, err
		}
		l, err = net.Listen("unix", path)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		l.Close()
		return nil, fmt.Errorf("letting the group ask on %s: %w", path, err)
	}
	return l, nil
}

// clear removes the leftover of a daemon that did not end well, or says whose
// it is.
func clear(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s is in the way: it is not a socket; move it elsewhere", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
		return fmt.Errorf("somebody answers on %s: is another chargegated running?", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("finding out whether somebody answers on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing the leftover %s: %w", path, err)
	}
	return nil
}
