package sim

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageKey is the environment variable by which a program that re-executes
// itself knows how far it has come. Nobody else sets it.
const stageKey = "CHARGEGATE_SIM_STAGE"

// The stages, in order. Outside it is empty.
const (
	stageFirst  = "first"  // process 1 of the new namespaces: prepares, waits, reaps
	stageInside = "inside" // the program's own work
	stageBecome = "become" // about to become another program, see become.go
)

// Dir is where everything that a garage writes lives: on a file system in
// memory that only the program itself sees and that ends with it.
const Dir = "/run/garage"

// Enter moves the program into namespaces of its own (network, mounts,
// processes, host name, and for an ordinary user a user namespace in which it is
// root), and returns there. It must be called first thing in main or TestMain,
// before any goroutine is started.
//
// It does so by starting the program once more: the process that called it
// first never returns from Enter, but hands signals on, waits, and exits as the
// one inside does. When that one ends, however it ends, and when the outer one
// is killed, the kernel ends every process and every namespace inside: nothing
// is left behind.
//
// The error says why the machine does not allow it, and the remedy.
func Enter() error {
	switch os.Getenv(stageKey) {
	case stageFirst:
		os.Exit(first())
	case stageBecome:
		fmt.Fprintln(os.Stderr, "becoming another program:", become())
		os.Exit(127)
	case stageInside:
		return os.Unsetenv(stageKey)
	}
	code, err := outside()
	if err != nil {
		return err
	}
	os.Exit(code)
	return nil
}

// Outside reports whether Enter has not been passed yet: what needs the
// machine's own network must be done now.
func Outside() bool { return os.Getenv(stageKey) == "" && !inside() }

// inside reports whether Enter has been passed: there is a file system of our
// own at Dir.
func inside() bool { return os.Getenv("TMPDIR") == Dir }

// outside starts the program again in fresh namespaces and waits for it.
func outside() (int, error) {
	// The kernel sends the parent-death signal when the thread that started the
	// child ends, so this thread must live as long as the process.
	runtime.LockOSThread()
	cmd, err := startInside(os.Getuid() != 0)
	if err != nil && os.Getuid() == 0 {
		cmd, err = startInside(true) // root of a container may make user namespaces only
	}
	if err != nil {
		return 0, fmt.Errorf("making namespaces: %w. %s", err, remedy())
	}
	defer handSignalsOn(cmd.Process)()
	return exitCode(cmd.Wait()), nil
}

// startInside starts the program as process 1 of fresh namespaces.
func startInside(asUser bool) (*exec.Cmd, error) {
	cmd := restarted(stageFirst)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	if asUser {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return cmd, cmd.Start()
}

// restarted is this very program with the same arguments, at another stage.
func restarted(stage string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), stageKey+"="+stage)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// handSignalsOn passes the signals that ask a program to end on to p, until the
// function returned is called.
func handSignalsOn(p *os.Process) (stop func()) {
	got := make(chan os.Signal, 4)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range got {
			p.Signal(s) // it may have ended already: then there is nobody to tell
		}
	}()
	return func() { signal.Stop(got); close(got); <-done }
}

// exitCode is what a shell would say of a process that ended so.
func exitCode(err error) int {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		if err != nil {
			return 1
		}
		return 0
	}
	return waitCode(exit.Sys().(syscall.WaitStatus))
}

func waitCode(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// remedy is what to do when namespaces are refused.
func remedy() string {
	for file, want := range map[string]string{
		"/proc/sys/kernel/unprivileged_userns_clone":             "1",
		"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "0",
	} {
		text, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(text)) != want {
			name := strings.ReplaceAll(strings.TrimPrefix(file, "/proc/sys/"), "/", ".")
			return fmt.Sprintf("Run it as root, or allow namespaces to ordinary users with: sysctl -w %s=%s", name, want)
		}
	}
	return "Run it as root; in a container, give it --privileged"
}

// first is process 1 inside: it makes the file systems, starts the program's
// own work, and collects whatever dies until that work is done. All else ends
// with process 1.
func first() int {
	if err := furnish(); err != nil {
		fmt.Fprintln(os.Stderr, "preparing the namespaces:", err)
		return 1
	}
	cmd := restarted(stageInside)
	cmd.Env = append(cmd.Env, "TMPDIR="+Dir)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "starting inside the namespaces:", err)
		return 1
	}
	defer handSignalsOn(cmd.Process)()
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, 0, nil)
		if err == nil && pid == cmd.Process.Pid {
			return waitCode(ws)
		}
		if err != nil && err != syscall.EINTR {
			fmt.Fprintln(os.Stderr, "waiting inside the namespaces:", err)
			return 1
		}
	}
}

// furnish gives the new namespaces their own /proc and /run. /tmp stays the
// machine's, because the program itself may lie there: what is written goes to
// Dir, which TMPDIR names.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keeping mounts to ourselves: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w. In a container it must not be masked: run it with --privileged", err)
	}
	resolv := danglingAfter("/run")
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	for _, dir := range []string{"/run/netns", "/run/lock", Dir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if resolv != "" {
		if err := writeFile(resolv, "nameserver 127.0.0.1\n"); err != nil {
			return err
		}
	}
	if err := unix.Sethostname([]byte("garage")); err != nil {
		return fmt.Errorf("naming the host: %w", err)
	}
	return nil
}

// danglingAfter returns where /etc/resolv.conf points when that is below dir,
// which is about to be hidden: private copies are mounted over that file, so
// that it must be there.
func danglingAfter(dir string) string {
	to, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		if to, err = os.Readlink("/etc/resolv.conf"); err != nil {
			return ""
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join("/etc", to)
		}
	}
	if strings.HasPrefix(to, dir+"/") {
		return to
	}
	return ""
}

// writeFile writes text to a file, and makes its directory.
func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
