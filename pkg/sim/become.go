package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// becomeKey carries, as JSON, what a process does to itself before it becomes
// the program that was asked for.
const becomeKey = "CHARGEGATE_SIM_BECOME"

// A disguise is what a program finds changed around it.
type disguise struct {
	// Binds are files or directories that stand in the place of the machine's,
	// seen by this program and its children only: target to source.
	Binds map[string]string `json:"binds,omitempty"`
	// Caps, when not nil, are all the capabilities that it keeps, though it is
	// root: what a unit's CapabilityBoundingSet= does.
	Caps []int `json:"caps,omitempty"`
	// CPUs, when not nil, are those that it may run on.
	CPUs []int `json:"cpus,omitempty"`
}

// wear changes cmd so that it starts by way of this program, which puts the
// disguise on and then becomes what cmd was.
func (d disguise) wear(cmd *exec.Cmd) error {
	if len(d.Binds) == 0 && d.Caps == nil && d.CPUs == nil {
		return nil
	}
	if cmd.Err != nil {
		return cmd.Err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	cmd.Args = append([]string{os.Args[0], cmd.Path}, cmd.Args...)
	cmd.Path = "/proc/self/exe"
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, stageKey+"="+stageBecome, becomeKey+"="+string(text))
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Unshareflags |= syscall.CLONE_NEWNS
	return nil
}

// become puts the disguise on and becomes the program. It returns only when
// that failed.
func become() error {
	runtime.LockOSThread() // capabilities are dropped, and kept by exec, per thread
	var d disguise
	if err := json.Unmarshal([]byte(os.Getenv(becomeKey)), &d); err != nil {
		return fmt.Errorf("reading what to change: %w", err)
	}
	os.Unsetenv(becomeKey)
	os.Unsetenv(stageKey)
	for target, source := range d.Binds {
		if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("putting %s in the place of %s: %w", source, target, err)
		}
	}
	if d.Caps != nil {
		if err := keepOnly(d.Caps); err != nil {
			return err
		}
	}
	if d.CPUs != nil {
		if err := runOn(0, d.CPUs); err != nil {
			return err
		}
	}
	if os.Getenv("LISTEN_FDS") != "" { // sd_listen_fds(3): only the process itself knows whom they are for
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	if len(os.Args) < 3 {
		return fmt.Errorf("no program was named")
	}
	return unix.Exec(os.Args[1], os.Args[2:], os.Environ())
}

// keepOnly takes every capability but these out of the bounding set, from which
// root gets its own at the next exec.
func keepOnly(caps []int) error {
	keep := map[int]bool{}
	for _, c := range caps {
		keep[c] = true
	}
	for c := range unix.CAP_LAST_CAP + 1 {
		if keep[c] {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && err != unix.EINVAL { // EINVAL: older kernels do not know it
			return fmt.Errorf("dropping capability %d: %w", c, err)
		}
	}
	return nil
}
