package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Holder plays systemd's part: it hears what the daemon tells it, keeps the
// descriptors that it is given (systemd.service(5), FileDescriptorStoreMax=), and
// passes them to the next daemon in no order at all. It is safe for concurrent
// use.
type Holder struct {
	// Max is how many descriptors it keeps; what is too many is thrown away without
	// a word, as systemd does. 0: 4096, as in the unit.
	Max int

	socket string
	conn   *net.UnixConn
	done   chan struct{}

	mu       sync.Mutex
	held     []heldFD
	ready    chan struct{} // closed at READY=1; nil: said, or nobody waits
	barriers map[string]chan struct{}
	turns    int
}

// heldFD is one descriptor that is kept.
type heldFD struct {
	name string
	fd   int
}

// openHolder listens on a socket for what the daemon says.
func openHolder(socket string) (*Holder, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	h := &Holder{socket: socket, conn: conn, done: make(chan struct{}), barriers: map[string]chan struct{}{}}
	go h.listen()
	return h, nil
}

// close forgets everything.
func (h *Holder) close() {
	if h == nil {
		return
	}
	h.conn.Close()
	<-h.done
	h.release()
}

// Held returns how many descriptors are kept under names that begin with prefix.
func (h *Holder) Held(prefix string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, f := range h.held {
		if strings.HasPrefix(f.name, prefix) {
			n++
		}
	}
	return n
}

// release closes what is kept, as systemd does when a service has ended and is not
// started again.
func (h *Holder) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dropLocked(func(heldFD) bool { return true })
}

func (h *Holder) dropLocked(which func(heldFD) bool) {
	h.held = slices.DeleteFunc(h.held, func(f heldFD) bool {
		if which(f) {
			unix.Close(f.fd)
			return true
		}
		return false
	})
}

// listen hears messages until the socket is closed.
func (h *Holder) listen() {
	defer close(h.done)
	// systemd's own bounds: a page of text, and as many descriptors as the kernel
	// sends in one message (unix(7)).
	text, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*253))
	for {
		n, oobn, _, _, err := h.conn.ReadMsgUnix(text, oob)
		if err != nil {
			return
		}
		h.hear(text[:n], descriptors(oob[:oobn]))
	}
}

// descriptors takes them out of a message.
func descriptors(oob []byte) (all []int) {
	messages, _ := unix.ParseSocketControlMessage(oob)
	for _, m := range messages {
		fds, _ := unix.ParseUnixRights(&m)
		all = append(all, fds...)
	}
	return all
}

// hear does what one message says.
func (h *Holder) hear(text []byte, fds []int) {
	said := map[string]string{}
	for line := range bytes.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
		said[key] = value
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	name := said["FDNAME"]
	switch {
	case said["FDSTORE"] == "1":
		for _, fd := range fds {
			if len(h.held) >= h.most() {
				unix.Close(fd)
				continue
			}
			h.held = append(h.held, heldFD{name, fd})
		}
		fds = nil
	case said["FDSTOREREMOVE"] == "1":
		h.dropLocked(func(f heldFD) bool { return f.name == name })
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	if said["READY"] == "1" && h.ready != nil {
		close(h.ready)
		h.ready = nil
	}
	if c := h.barriers[said["X_BARRIER"]]; c != nil {
		close(c)
		delete(h.barriers, said["X_BARRIER"])
	}
}

func (h *Holder) most() int {
	if h.Max > 0 {
		return h.Max
	}
	return 4096
}

// catchUp waits until everything that was sent so far has been heard.
func (h *Holder) catchUp(ctx context.Context) error {
	h.mu.Lock()
	h.turns++
	turn, heard := fmt.Sprint(h.turns), make(chan struct{})
	h.barriers[turn] = heard
	h.mu.Unlock()
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: h.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("X_BARRIER=" + turn)); err != nil {
		return err
	}
	select {
	case <-heard:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the holder: %w", ctx.Err())
	}
}

// pass gives cmd what is kept, in no order. The function returned closes the
// copies that were made for it. LISTEN_PID is set by whoever becomes the program.
func (h *Holder) pass(cmd *exec.Cmd) (closed func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	closed = func() {
		for _, f := range cmd.ExtraFiles {
			f.Close()
		}
	}
	var names []string
	for _, i := range rand.Perm(len(h.held)) {
		// exec.Cmd makes what it passes blocking: it gets the same file, but one that
		// the runtime does not watch.
		fd, err := unix.FcntlInt(uintptr(h.held[i].fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closed()
			return nil, err
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(fd), h.held[i].name))
		names = append(names, h.held[i].name)
	}
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+h.socket)
	if len(names) > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	return closed, nil
}

// expect returns what is closed when the daemon that is about to be started is
// ready.
func (h *Holder) expect() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = make(chan struct{})
	return h.ready
}

// restartSec is how long systemd waits before it starts a service again that has
// failed (RestartSec= of the unit).
const restartSec = 250 * time.Millisecond

// Restart stops the daemon and starts it again as `systemctl restart` does: what it
// had kept is passed to the next one. It returns how long nobody was there, from
// the signal to READY.
func (g *Gateway) Restart(ctx context.Context) (time.Duration, error) {
	return g.replace(ctx, syscall.SIGTERM, 0)
}

// Crash is Restart for a daemon that is killed.
func (g *Gateway) Crash(ctx context.Context) (time.Duration, error) {
	return g.replace(ctx, syscall.SIGKILL, restartSec)
}

func (g *Gateway) replace(ctx context.Context, how syscall.Signal, wait time.Duration) (time.Duration, error) {
	g.keep.Store(true)
	defer g.keep.Store(false)
	began := time.Now()
	if err := g.Daemon.Signal(how); err != nil {
		return 0, err
	}
	select {
	case <-g.over:
	case <-ctx.Done():
		return 0, fmt.Errorf("waiting for the daemon to end: %w", ctx.Err())
	}
	if exit := g.Daemon.Exit(); how == syscall.SIGTERM && exit != 0 {
		return 0, fmt.Errorf("asked to stop, the daemon ended with %d", exit)
	}
	if err := g.Holder.catchUp(ctx); err != nil {
		return 0, err
	}
	if !sleep(ctx, wait) {
		return 0, ctx.Err()
	}
	_, err := g.start(ctx)
	return time.Since(began), err
}

// OpenFiles counts the descriptors of a process.
func OpenFiles(pid int) (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	return len(entries), err
}
