// Package handover keeps open descriptors in systemd's file descriptor store,
// where they outlive the process: its restart, its upgrade and its crash
// (sd_notify(3), FDSTORE=; systemd.service(5), FileDescriptorStoreMax=).
//
// A Store gives back what is kept, by the process before this one or by this
// one, takes in what is to be kept, and closes what nobody wants any more.
// Without systemd it holds nothing, keeps nothing and complains about nothing.
//
// It leaves to others what a descriptor is and what its name means.
package handover

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// maxName is the longest name of a descriptor (sd_notify(3), FDNAME=).
const maxName = 255

// notifyPatience is how long systemd may take to read a notification. Its
// queue is long; when it is full the manager itself hangs.
const notifyPatience = time.Second

// A Store is the descriptors of the process before this one and the way to
// those of the next. It is safe for concurrent use; a nil *Store is one
// without systemd.
//
// It has a copy of its own of what was kept by Keep: nothing can be asked back
// from the manager, and as long as that holds a socket, no other can be bound in
// its place. Of what was kept by Give it has none.
type Store struct {
	manager *net.UnixAddr // nil: no systemd
	room    int           // how many descriptors the manager takes in all; 0: it did not say

	mu    sync.Mutex
	held  map[string]*held // by name, what the manager holds as far as we know
	given map[string]int   // by name, how many of them we have no copy of
	sum   int              // of given
}

// ErrFull is returned by Give when the manager has said how many descriptors it
// takes, and these would be more. It would throw them away without a word.
var ErrFull = errors.New("as many descriptors are kept as FileDescriptorStoreMax= allows")

// held is what the manager holds under one name.
type held struct {
	files   []*os.File // our copies; one, unless somebody else passed more
	claimed bool       // it was taken, or kept by this process
}

func (h *held) close() {
	for _, f := range h.files {
		f.Close()
	}
}

// Open reads the descriptors that systemd passed, and removes the variables
// that told of them from the environment, so that no child takes them for its
// own. It is called once, early. Its error says that NOTIFY_SOCKET is of a kind
// that cannot be spoken to; the Store it comes with works without a manager.
func Open() (*Store, error) {
	s := &Store{held: map[string]*held{}, given: map[string]int{}}
	// systemd says it from version 254 on (systemd.exec(5), $FDSTORE).
	s.room, _ = strconv.Atoi(os.Getenv("FDSTORE"))
	for name, files := range activation.FilesWithNames() {
		s.held[name] = &held{files: files}
	}
	addr, err := managerAddress(os.Getenv("NOTIFY_SOCKET"))
	s.manager = addr
	return s, err
}

// managerAddress reads NOTIFY_SOCKET: a path, or a name in the abstract
// namespace that begins with @ (package net writes it the same way).
func managerAddress(socket string) (*net.UnixAddr, error) {
	switch {
	case socket == "":
		return nil, nil
	case socket[0] == '/' || socket[0] == '@':
		return &net.UnixAddr{Name: socket, Net: "unixgram"}, nil
	}
	return nil, fmt.Errorf("speaking to NOTIFY_SOCKET %q: only unix sockets can carry descriptors", socket)
}

// Take returns a copy of the descriptor that the manager holds under name, by
// the process before this one or by Keep. It is the caller's to close, and can
// be taken again until Drop: who begins anew finds its socket as it left it. Of
// several under one name, which Keep never makes, it returns the last. It
// returns nothing, too, when the process may open no more descriptors.
func (s *Store) Take(name string) (*os.File, bool) {
	if s == nil {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[name]
	if h == nil {
		return nil, false
	}
	f, err := duplicate(h.files[len(h.files)-1])
	if err != nil {
		return nil, false
	}
	h.claimed = true
	return f, true
}

// duplicate returns another descriptor of what f is, which no child inherits.
func duplicate(f *os.File) (*os.File, error) {
	fd, err := duplicateFD(f)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// duplicateFD is duplicate for what the runtime need not know of.
func duplicateFD(f *os.File) (int, error) {
	raw, err := f.SyscallConn() // Fd would make it a blocking one
	if err != nil {
		return -1, err
	}
	var fd int
	var derr error
	if err := raw.Control(func(old uintptr) {
		fd, derr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return -1, err
	}
	if derr != nil {
		return -1, os.NewSyscallError("fcntl", derr)
	}
	return fd, nil
}

// Managed reports whether there is a manager that keeps anything.
func (s *Store) Managed() bool { return s != nil && s.manager != nil }

// Give gives the manager copies of descriptors that belong together, all under
// one name and in one message, so that it gets all of them or none. Nothing must
// be kept under that name. They stay the caller's; what the manager was given
// comes back only to the next process (Given), and until Remove.
//
// It returns ErrFull when the manager has no room for them.
func (s *Store) Give(name string, fds ...int) error {
	if !s.Managed() {
		return nil
	}
	if err := checkName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room > 0 && s.sum+len(s.held)+len(fds) > s.room {
		return fmt.Errorf("keeping %s: %w, %d", name, ErrFull, s.room)
	}
	if err := s.tell(name, fds...); err != nil {
		return err
	}
	s.sum += len(fds) - s.given[name]
	s.given[name] = len(fds)
	return nil
}

// Remove makes the manager close what it was given under name.
func (s *Store) Remove(name string) error { return s.Drop(name) }

// Given returns what the process before this one gave the manager under names
// that begin with prefix. The order within a name means nothing. The descriptors
// are the caller's to close, and are returned once; the manager holds its copies
// until Remove. What could not be opened for lack of descriptors is missing.
func (s *Store) Given(prefix string) map[string][]int {
	if !s.Managed() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string][]int{}
	for name, h := range s.held {
		if h.claimed || !strings.HasPrefix(name, prefix) {
			continue
		}
		fds := make([]int, 0, len(h.files))
		for _, f := range h.files {
			if fd, err := duplicateFD(f); err == nil {
				fds = append(fds, fd)
			}
			f.Close()
		}
		all[name] = fds
		s.given[name], s.sum = len(h.files), s.sum+len(h.files)
		delete(s.held, name)
	}
	return all
}

// Names returns the names of what was passed and not taken yet, sorted.
func (s *Store) Names() []string {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, h := range s.held {
		if !h.claimed {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Keep gives the manager a copy of f under name, in the place of what it held
// under that name. f stays the caller's.
//
// The name is made of printable ASCII without ":" and has at most 255 bytes.
func (s *Store) Keep(name string, f *os.File) error {
	if s == nil || s.manager == nil {
		return nil
	}
	if err := checkName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ours, err := duplicate(f)
	if err != nil {
		return fmt.Errorf("keeping %s: %w", name, err)
	}
	if err := s.giveLocked(name, ours); err != nil {
		ours.Close()
		return err
	}
	s.held[name] = &held{files: []*os.File{ours}, claimed: true}
	return nil
}

// giveLocked puts f in the place of what the manager holds under name.
func (s *Store) giveLocked(name string, f *os.File) error {
	if s.held[name] != nil {
		if err := s.removeLocked(name); err != nil {
			return err
		}
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("keeping %s: %w", name, err)
	}
	var terr error
	if err := raw.Control(func(fd uintptr) { terr = s.tell(name, int(fd)) }); err != nil {
		return fmt.Errorf("keeping %s: %w", name, err)
	}
	return terr
}

// tell sends the manager copies of descriptors. FDPOLL=0: it must not throw a
// connection away because its peer has gone; bytes may still be in it.
func (s *Store) tell(name string, fds ...int) error {
	if err := s.notify("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, unix.UnixRights(fds...)); err != nil {
		return fmt.Errorf("keeping %s: %w", name, err)
	}
	return nil
}

// Drop makes the manager close what it holds under name. What was taken stays
// open.
func (s *Store) Drop(name string) error {
	if s == nil || s.manager == nil {
		return nil
	}
	if err := checkName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.removeLocked(name)
}

func (s *Store) removeLocked(name string) error {
	if err := s.notify("FDSTOREREMOVE=1\nFDNAME="+name, nil); err != nil {
		return fmt.Errorf("dropping %s: %w", name, err)
	}
	if h := s.held[name]; h != nil {
		h.close()
		delete(s.held, name)
	}
	s.sum -= s.given[name]
	delete(s.given, name)
	return nil
}

// CloseUnclaimed closes what was passed and never taken, here and at the
// manager, and returns the names. Sockets are shut down first: closing alone
// ends nothing while somebody else holds a copy.
func (s *Store) CloseUnclaimed() ([]string, error) {
	if s == nil {
		return nil, nil
	}
	names := s.Names()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, name := range names {
		h := s.held[name]
		if h == nil || h.claimed {
			continue // meanwhile
		}
		for _, f := range h.files {
			shutdown(f)
		}
		h.close()
		delete(s.held, name)
		if s.manager != nil && checkName(name) == nil {
			errs = append(errs, s.removeLocked(name))
		}
	}
	return names, errors.Join(errs...)
}

// Close closes the Store's own copies. What was taken stays open, and what the
// manager holds waits there for the next process.
func (s *Store) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.held {
		h.close()
	}
	clear(s.held)
}

// shutdown ends both directions of a socket; of anything else, nothing.
func shutdown(f *os.File) {
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	}
}

// notify sends one message to the manager. The socket is made for each: they
// are rare, and package net refuses ancillary data on a connected one.
func (s *Store) notify(state string, oob []byte) error {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"}) // the kernel names it
	if err != nil {
		return fmt.Errorf("opening a socket to the manager: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyPatience)); err != nil {
		return fmt.Errorf("setting a deadline: %w", err)
	}
	if _, _, err := conn.WriteMsgUnix([]byte(state), oob, s.manager); err != nil {
		return fmt.Errorf("telling the manager at %s: %w", s.manager.Name, err)
	}
	return nil
}

// checkName says what is wrong with the name of a descriptor, or nil.
func checkName(name string) error {
	bad := strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' })
	if name == "" || len(name) > maxName || bad {
		return fmt.Errorf("%q cannot name a descriptor: 1 to %d printable ASCII characters, no colon", name, maxName)
	}
	return nil
}
