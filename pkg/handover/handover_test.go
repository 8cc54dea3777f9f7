package handover_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/handover"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// childOf marks the test binary that stands for the process after a restart.
const childOf = "CHARGEGATE_HANDOVER_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childOf) != "" {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child takes its listener back, drops the other one, and answers one caller.
func child() error {
	store, err := handover.Open()
	if err != nil {
		return err
	}
	if os.Getenv("LISTEN_FDS") != "" {
		return fmt.Errorf("LISTEN_FDS is still set")
	}
	f, ok := store.Take("door-1")
	if !ok {
		return fmt.Errorf("door-1 was not passed")
	}
	if f, ok = store.Take("door-1"); !ok { // who begins anew takes it again
		return fmt.Errorf("door-1 was not given again")
	}
	given := store.Given("set-")
	if again := store.Given("set-"); len(again) != 0 {
		return fmt.Errorf("given a second time: %v", again)
	}
	if err := store.Remove("set-1"); err != nil {
		return err
	}
	names, err := store.CloseUnclaimed()
	if err != nil {
		return err
	}
	l, err := net.FileListener(f)
	if err != nil {
		return err
	}
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "the child; unclaimed: %s; given: %s\n", strings.Join(names, " "), kinds(given))
	return err
}

// kinds says what descriptors are, by name and in no order of theirs.
func kinds(given map[string][]int) string {
	var all []string
	for name, fds := range given {
		for _, fd := range fds {
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				return err.Error()
			}
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if err != nil || flags&unix.FD_CLOEXEC == 0 {
				return "a child would inherit it"
			}
			all = append(all, fmt.Sprintf("%s %o", name, st.Mode&unix.S_IFMT>>12))
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// manager stands in for systemd: it receives notifications and descriptors.
type manager struct {
	conn *net.UnixConn
	held map[string][]*os.File
}

func newManager(t *testing.T, name string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{conn: conn, held: map[string][]*os.File{}}
	t.Cleanup(func() {
		conn.Close()
		for _, files := range m.held {
			for _, f := range files {
				f.Close()
			}
		}
	})
	t.Setenv("NOTIFY_SOCKET", name)
	return m
}

// hear reads one notification and does what it says.
func (m *manager) hear(t *testing.T) map[string]string {
	t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b, oob := make([]byte, 4096), make([]byte, 4096)
	n, oobn, _, _, err := m.conn.ReadMsgUnix(b, oob)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for line := range strings.SplitSeq(string(b[:n]), "\n") {
		key, value, _ := strings.Cut(line, "=")
		said[key] = value
	}
	name := said["FDNAME"]
	if said["FDSTOREREMOVE"] == "1" {
		for _, f := range m.held[name] {
			f.Close()
		}
		delete(m.held, name)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	for _, msg := range messages {
		fds, err := unix.ParseUnixRights(&msg)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			m.held[name] = append(m.held[name], os.NewFile(uintptr(fd), name))
		}
	}
	return said
}

func listener(t *testing.T) (*net.TCPListener, *os.File) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); f.Close() })
	return l.(*net.TCPListener), f
}

// A process keeps two listeners and goes; the next one takes one of them back
// and answers whoever called in between.
func TestRestart(t *testing.T) {
	for _, name := range []string{"@chargegate-handover-test-" + fmt.Sprint(os.Getpid()), filepath.Join(t.TempDir(), "notify")} {
		t.Run(name[:1], func(t *testing.T) {
			m := newManager(t, name)
			store, err := handover.Open()
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := store.Take("door-1"); ok {
				t.Fatal("something was passed to a first process")
			}
			door1, f1 := listener(t)
			door2, f2 := listener(t)
			for i, f := range []*os.File{f1, f2} {
				name := fmt.Sprintf("door-%d", i+1)
				if err := store.Keep(name, f); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(map[string]string{"FDSTORE": "1", "FDPOLL": "0", "FDNAME": name}, m.hear(t)); diff != "" {
					t.Errorf("said (-want +got):\n%s", diff)
				}
			}
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := store.Give("set-1", int(f1.Fd()), int(r.Fd()), int(w.Fd())); err != nil {
				t.Fatal(err)
			}
			r.Close()
			w.Close()
			if said := m.hear(t); said["FDNAME"] != "set-1" || said["FDPOLL"] != "0" || len(m.held["set-1"]) != 3 {
				t.Errorf("said %v with %d descriptors, want 3 in one message", said, len(m.held["set-1"]))
			}
			addr := door1.Addr().String()
			for _, c := range []interface{ Close() error }{door1, door2, f1, f2} { // the process ends
				c.Close()
			}
			caller, err := net.Dial("tcp4", addr) // nobody is there, and yet nobody is turned away
			if err != nil {
				t.Fatal(err)
			}
			defer caller.Close()
			if got, want := restart(t, m, caller), "the child; unclaimed: door-2; given: set-1 1, set-1 1, set-1 14\n"; got != want {
				t.Errorf("the caller heard %q, want %q", got, want)
			}
			for _, name := range []string{"set-1", "door-2"} {
				if diff := cmp.Diff(map[string]string{"FDSTOREREMOVE": "1", "FDNAME": name}, m.hear(t)); diff != "" {
					t.Errorf("said (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// restart runs the next process with what the manager holds and returns what
// the caller hears.
func restart(t *testing.T, m *manager, caller net.Conn) string {
	t.Helper()
	// LISTEN_PID must be the process itself; only a shell knows that beforehand.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	var names []string
	for name, files := range m.held {
		for _, f := range files {
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
			names = append(names, name)
		}
	}
	cmd.Env = append(os.Environ(), childOf+"=1", fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := caller.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	line, rerr := bufio.NewReader(caller).ReadString('\n')
	if err := cmd.Wait(); err != nil || rerr != nil {
		t.Fatal(err, rerr)
	}
	return line
}

func TestKeepReplaces(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	store, err := handover.Open()
	if err != nil {
		t.Fatal(err)
	}
	_, f := listener(t)
	for range 2 {
		if err := store.Keep("door", f); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for range 3 {
		said := m.hear(t)
		got = append(got, said["FDSTORE"]+"-"+said["FDSTOREREMOVE"])
	}
	if diff := cmp.Diff([]string{"1-", "-1", "1-"}, got); diff != "" {
		t.Errorf("kept and removed (-want +got):\n%s", diff)
	}
	if len(m.held["door"]) != 1 {
		t.Errorf("the manager holds %d descriptors, want 1", len(m.held["door"]))
	}
}

// A room that ends and begins again within the process finds its listener, with
// whoever called in between; binding a new one would fail, because the manager
// still listens.
func TestTakeAgain(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	store, err := handover.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	first, f := listener(t)
	if err := store.Keep("door", f); err != nil {
		t.Fatal(err)
	}
	m.hear(t)
	if names := store.Names(); names != nil {
		t.Errorf("what this process kept is said to wait for somebody: %q", names)
	}
	addr := first.Addr().String()
	first.Close()
	f.Close()
	before := openFiles(t)
	for turn := range 3 {
		if l, err := net.Listen("tcp4", addr); err == nil {
			l.Close()
			t.Fatal("a new one could be bound: the manager does not listen")
		}
		caller, err := net.Dial("tcp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		again, ok := store.Take("door")
		if !ok {
			t.Fatalf("turn %d: it was not given back", turn)
		}
		l, err := net.FileListener(again)
		again.Close()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []interface{ Close() error }{caller, conn, l} {
			c.Close()
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
	if _, err := store.CloseUnclaimed(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp4", addr); err != nil {
		t.Errorf("what is in use was closed: %v", err)
	}
	if err := store.Drop("door"); err != nil {
		t.Fatal(err)
	}
	m.hear(t)
	if _, ok := store.Take("door"); ok {
		t.Error("what was dropped was given")
	}
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		t.Fatalf("somebody still listens: %v", err)
	}
	l.Close()
}

// openFiles counts the descriptors of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// systemd throws away what is more than it was told to keep, and says nothing. It
// has said beforehand how much that is.
func TestManagerIsFull(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("FDSTORE", "6")
	store, err := handover.Open()
	if err != nil {
		t.Fatal(err)
	}
	_, f := listener(t)
	fd := int(f.Fd())
	if err := store.Keep("door", f); err != nil {
		t.Fatal(err)
	}
	if err := store.Give("set-1", fd, fd, fd, fd); err != nil {
		t.Fatal(err)
	}
	m.hear(t)
	m.hear(t)
	if err := store.Give("set-2", fd, fd); !errors.Is(err, handover.ErrFull) {
		t.Errorf("%v, want %v", err, handover.ErrFull)
	}
	if err := store.Remove("set-1"); err != nil {
		t.Fatal(err)
	}
	if said := m.hear(t); said["FDSTOREREMOVE"] != "1" {
		t.Errorf("said %v", said)
	}
	if err := store.Give("set-2", fd, fd, fd, fd, fd); err != nil {
		t.Error(err)
	}
	m.hear(t)
	if err := store.Give("set-3", fd); !errors.Is(err, handover.ErrFull) {
		t.Errorf("%v, want %v", err, handover.ErrFull)
	}
}

func TestNames(t *testing.T) {
	newManager(t, filepath.Join(t.TempDir(), "notify"))
	store, err := handover.Open()
	if err != nil {
		t.Fatal(err)
	}
	_, f := listener(t)
	for _, name := range []string{"", "a:b", "a b", "a\nREADY=1", "å", strings.Repeat("x", 256)} {
		if store.Keep(name, f) == nil || store.Drop(name) == nil || store.Give(name, int(f.Fd())) == nil {
			t.Errorf("%q was taken as a name", name)
		}
	}
}

func TestWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	_, f := listener(t)
	opened, err := handover.Open()
	if err != nil {
		t.Fatal(err)
	}
	for _, store := range []*handover.Store{nil, opened} {
		if _, ok := store.Take("door"); ok {
			t.Error("something was taken")
		}
		if err := store.Keep("door", f); err != nil {
			t.Error(err)
		}
		if err := store.Drop("door"); err != nil {
			t.Error(err)
		}
		if err := store.Give("set", int(f.Fd())); err != nil || store.Managed() {
			t.Error(err)
		}
		if err := store.Remove("set"); err != nil || len(store.Given("")) != 0 {
			t.Error(err)
		}
		if names, err := store.CloseUnclaimed(); err != nil || names != nil {
			t.Error(names, err)
		}
	}
}

// A manager that is gone is an error, not a wait.
func TestManagerGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	store, err := handover.Open()
	if err != nil {
		t.Fatal(err)
	}
	_, f := listener(t)
	if err := store.Keep("door", f); err == nil {
		t.Error("kept by nobody")
	}
	t.Setenv("NOTIFY_SOCKET", "vsock:2:1234")
	if store, err = handover.Open(); err == nil || store == nil {
		t.Errorf("%v, %v", store, err)
	}
	if err := store.Keep("door", f); err != nil {
		t.Error(err)
	}
}
