package sim

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is how much processor time a process has had, in the kernel and out of it.
// The scheduler counts it in nanoseconds for each thread; one that has ended is
// no longer counted.
func CPU(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("reading what process %d has used: it has no threads", pid)
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue // it has ended
		}
		first, _, _ := bytes.Cut(text, []byte(" "))
		ns, err2 := strconv.ParseInt(string(first), 10, 64)
		if err != nil || err2 != nil {
			return 0, fmt.Errorf("reading %s: %q, %v", file, text, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// Resident is how many bytes of a process are in memory.
func Resident(pid int) (int64, error) {
	return kilobytes(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:")
}

// Family are a process and all that it has started and that is still there.
func Family(pid int) []int {
	all := []int{pid}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range files {
		text, _ := os.ReadFile(file) // it may have ended
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(all, Family(child)...)
			}
		}
	}
	return all
}

// Proportional is how many bytes of memory a process has for itself, with its part
// of what it shares with others (PSS, proc_pid_smaps(5)).
func Proportional(pid int) (int64, error) {
	return kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:")
}

// KernelMemory is how many bytes the kernel has for its own objects, of everybody on
// this machine, and for what lies in TCP's queues.
func KernelMemory() (sum int64, err error) {
	if sum, err = kilobytes("/proc/meminfo", "Slab:", "KernelStack:", "PageTables:", "Percpu:"); err != nil {
		return 0, err
	}
	text, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if n := len(fields); n > 2 && fields[0] == "TCP:" {
			pages, err := strconv.ParseInt(fields[n-1], 10, 64)
			return sum + pages*int64(os.Getpagesize()), err
		}
	}
	return sum, nil
}

// kilobytes adds up lines of a file that tell kilobytes, and returns bytes.
func kilobytes(file string, names ...string) (sum int64, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || !slices.Contains(names, fields[0]) {
			continue
		}
		kB, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading %s: %w", file, err)
		}
		sum += kB << 10
	}
	if sum == 0 {
		return 0, fmt.Errorf("%s does not tell %s", file, strings.Join(names, " or "))
	}
	return sum, nil
}

// Busy is the processor time of everything that ran on the machine since it was
// started, by all its CPUs together, in steps of 10 ms.
func Busy() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	all, _, _ := strings.Cut(string(text), "\n")
	var ticks int64
	for i, field := range strings.Fields(all) {
		n, err := strconv.ParseInt(field, 10, 64)
		if i == 0 || i == 4 || i == 5 || i > 8 { // its name, idle, waiting for a disk, guests (counted before)
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("reading /proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// CPUs are the numbers of those that this program may run on.
func CPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("asking for the CPUs: %w", err)
	}
	var all []int
	for i := 0; len(all) < set.Count(); i++ {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	return all, nil
}

// Stay keeps this program, with all its threads, on some CPUs. Programs that it
// starts from then on stay there as well, unless they are told otherwise.
func Stay(cpus []int) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return err
		}
		if err := runOn(id, cpus); err != nil {
			return err
		}
	}
	return nil
}

// runOn keeps a thread on some CPUs; 0 is the calling one.
func runOn(thread int, cpus []int) error {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(thread, &set); err != nil && err != unix.ESRCH {
		return fmt.Errorf("keeping to the CPUs %v: %w", cpus, err)
	}
	return nil
}

// PID is the process of the program.
func (p *Program) PID() int { return p.cmd.Process.Pid }
