package carry

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A waiter waits for an epoll by way of the runtime's poller, which takes it as it
// takes a socket. A goroutine that waited in epoll_wait(2) itself would keep a
// thread there: the runtime takes that thread's processor away after some 20 µs,
// and every word from the kernel then costs a switch between threads.
type waiter struct {
	epoll   int
	file    *os.File
	raw     syscall.RawConn
	look    func(epoll uintptr) bool
	events  [128]unix.EpollEvent
	n       int
	err     error
	bounded bool // a deadline is set
}

// newWaiter makes an epoll, which belongs to the file.
func newWaiter() (*waiter, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(epoll, true); err != nil { // the runtime's poller takes nothing else
		unix.Close(epoll)
		return nil, os.NewSyscallError("fcntl", err)
	}
	w := &waiter{epoll: epoll, file: os.NewFile(uintptr(epoll), "epoll")}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		w.file.Close()
		return nil, fmt.Errorf("preparing to wait: %w", err)
	}
	w.look = func(epoll uintptr) bool {
		w.n, w.err = pollOnce(int(epoll), w.events[:])
		return w.n > 0 || w.err != nil
	}
	return w, nil
}

// wait returns what has happened, after most at the latest; 0 does not wait, and
// less than 0 does so without end.
func (w *waiter) wait(most time.Duration) ([]unix.EpollEvent, error) {
	switch {
	case most == 0:
		w.look(uintptr(w.epoll))
	default:
		if err := w.bound(most); err != nil {
			return nil, err
		}
		if err := w.raw.Read(w.look); errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, nil
		} else if err != nil {
			return nil, fmt.Errorf("waiting: %w", err)
		}
	}
	return w.events[:w.n], w.err
}

// bound sets a deadline, or takes it away.
func (w *waiter) bound(most time.Duration) error {
	var at time.Time
	if most > 0 {
		at = time.Now().Add(most)
	}
	if at.IsZero() && !w.bounded {
		return nil
	}
	w.bounded = !at.IsZero()
	if err := w.file.SetReadDeadline(at); err != nil {
		return fmt.Errorf("preparing to wait: %w", err)
	}
	return nil
}
