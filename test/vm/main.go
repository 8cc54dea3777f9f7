// Command vm is the lab: the installed system in a virtual machine, with systemd
// as its first process, a real 802.11 stack and radios that the kernel plays
// (mac80211_hwsim). Each scenario has a guest of its own, most of them from a
// snapshot, and two run at a time, for most of each is waiting; none can last longer
// than its limit.
//
//	make test-vm                  all that is not nightly
//	make test-vm SCENARIO=boot    some by name, with commas
//	go run ./test/vm -list        what there is
//
// Directory image says what is in the guest, guest is the hand in it, and wire what
// the two say to each other. What takes long to make, Debian and its kernel, is kept
// below ~/.cache/chargegate/vm; removing that is always safe, and brings newer
// packages. When a scenario fails its console, journal and state are kept, and the
// last line says where. Two guests at most run at once on one machine, whoever
// started them; others wait, and say so.
//
// Whoever writes a scenario saves the boot with -snapshots DIR, as long as neither
// the programs nor the image change.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"chargegate/test/vm/image"
)

// imageLimit is for a machine that has nothing yet and a slow line.
const imageLimit = 15 * time.Minute

type options struct {
	names            []string
	list, nightly    bool
	update           bool
	cache, snapshots string
	keep             string
	together         int
}

func main() {
	o, err := flags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, end := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer end()
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "test-vm:", err)
		os.Exit(1)
	}
}

func flags(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("vm", flag.ContinueOnError)
	names := f.String("scenario", "", "run only these `names`, with commas")
	f.BoolVar(&o.list, "list", false, "say which scenarios there are")
	f.BoolVar(&o.nightly, "nightly", false, "run the nightly ones, too")
	f.BoolVar(&o.update, "update", false, "write the screens in docs anew")
	f.StringVar(&o.cache, "cache", cacheDir(), "the `directory` that keeps what takes long to make")
	f.StringVar(&o.snapshots, "snapshots", "", "keep and use snapshots in this `directory`: for whoever writes a scenario; they hold the programs of their time")
	f.StringVar(&o.keep, "keep", "", "keep console and journal in this `directory`, whatever becomes of the run")
	f.IntVar(&o.together, "together", min(places, runtime.NumCPU()), "run so many scenarios at a time")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.together < 1 || o.together > places {
		return o, fmt.Errorf("-together %d: 1 to %d scenarios run at a time", o.together, places)
	}
	o.names = strings.FieldsFunc(*names, func(r rune) bool { return r == ',' || r == ' ' })
	return o, nil
}

func cacheDir() string {
	if dir := os.Getenv("PEERS"); dir != "" {
		return filepath.Join(dir, "vm")
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "chargegate", "vm")
}

func run(ctx context.Context, o options) error {
	wanted, err := choose(o)
	if err != nil || o.list {
		return err
	}
	began := time.Now()
	dir, leave, err := den(os.TempDir())
	if err != nil {
		return err
	}
	defer leave()
	r := &runner{options: o, dir: dir, state: map[string]error{}}
	r.changed.L = &r.mu
	if o.keep == "" {
		r.keep = dir + "-kept"
	}
	if o.snapshots == "" {
		r.snapshots = dir
	}
	for _, d := range []string{r.cache, r.snapshots} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := r.build(ctx); err != nil {
		return err
	}
	all := r.complete(wanted)
	var lanes sync.WaitGroup
	for range o.together {
		lanes.Go(func() {
			for {
				s, more := r.next(ctx, all)
				if !more {
					return
				}
				r.done(s, r.run(ctx, s))
			}
		})
	}
	lanes.Wait()
	fmt.Printf("test-vm: %d of %d scenarios passed in %s\n", r.passed, len(all), round(time.Since(began)))
	if r.passed < len(all) {
		return fmt.Errorf("%d did not pass; what they left is in %s", len(all)-r.passed, r.keep)
	}
	return nil
}

// choose gives the scenarios that are wanted, in their order.
func choose(o options) ([]Scenario, error) {
	var wanted []Scenario
	unknown := slices.Clone(o.names)
	for _, s := range scenarios() {
		if o.list {
			night := ""
			if s.Nightly {
				night = " (nightly)"
			}
			fmt.Printf("%-12s from %-7s at most %4s  %s%s\n", s.Name, s.From, s.Limit, s.What, night)
		}
		i := slices.Index(unknown, s.Name)
		switch {
		case len(o.names) == 0 && s.Nightly && !o.nightly:
		case len(o.names) == 0:
			wanted = append(wanted, s)
		case i >= 0:
			unknown = slices.Delete(unknown, i, i+1)
			wanted = append(wanted, s)
		}
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("there is no scenario %s; -list says which there are", strings.Join(unknown, ", "))
	}
	return wanted, nil
}

// runner runs scenarios, some at a time.
type runner struct {
	options
	dir   string // everything that ends with the run
	image image.Built

	mu      sync.Mutex // guards what follows
	changed sync.Cond  // one is over
	begun   []string
	state   map[string]error // what became of each that is over
	passed  int
}

// complete adds who leaves a snapshot that somebody needs and that is not there, in
// front of the first who needs it.
func (r *runner) complete(wanted []Scenario) (all []Scenario) {
	has := func(s Scenario) bool {
		return slices.ContainsFunc(all, func(o Scenario) bool { return o.Name == s.Name })
	}
	var add func(s Scenario)
	add = func(s Scenario) {
		if has(s) {
			return
		}
		if by, needed := r.leaver(s); needed {
			add(by)
		}
		all = append(all, s)
	}
	for _, s := range wanted {
		add(s)
	}
	return all
}

// leaver is who leaves the snapshot that a scenario needs, if that is not there yet.
func (r *runner) leaver(s Scenario) (Scenario, bool) {
	if s.From == "power" || exists(r.snapshot(s.From)) {
		return Scenario{}, false
	}
	everybody := scenarios()
	i := slices.IndexFunc(everybody, func(o Scenario) bool { return o.Leaves == s.From })
	return everybody[i], true
}

// next gives the first scenario that can begin, and waits for one while others run.
func (r *runner) next(ctx context.Context, all []Scenario) (Scenario, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		waiting := false
		for _, s := range all {
			if ctx.Err() != nil || slices.Contains(r.begun, s.Name) {
				continue
			}
			if by, needed := r.leaver(s); needed {
				if _, over := r.state[by.Name]; !over {
					waiting = true
					continue
				}
			}
			r.begun = append(r.begun, s.Name)
			return s, true
		}
		if !waiting {
			return Scenario{}, false
		}
		r.changed.Wait()
	}
}

// done enters what became of a scenario.
func (r *runner) done(s Scenario, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state[s.Name] = err
	if err == nil {
		r.passed++
	}
	r.changed.Broadcast()
}

func (r *runner) build(ctx context.Context) (err error) {
	ctx, end := context.WithTimeoutCause(ctx, imageLimit, fmt.Errorf("not done after %v", imageLimit))
	defer end()
	source, err := os.Getwd()
	if err != nil {
		return err
	}
	dir := r.dir
	if r.options.snapshots != "" && r.snapshots != r.dir {
		// A snapshot needs the very disk that it was taken over.
		dir = r.snapshots
		if kept := dir + "/root.ext4"; exists(dir+"/booted.qcow2") && exists(kept) {
			base, err := image.Base(ctx, image.Options{Cache: r.cache, Say: say})
			r.image = base
			r.image.Root = kept
			return err
		}
	}
	r.image, err = image.Build(ctx, image.Options{Cache: r.cache, Dir: dir, Source: source, Say: say})
	return err
}

// run runs a scenario, and tells what became of it.
func (r *runner) run(ctx context.Context, s Scenario) error {
	if by, needed := r.leaver(s); needed {
		err := fmt.Errorf("%s has left no snapshot %q to begin from", by.Name, s.From)
		say("FAIL  %-12s          %v", s.Name, err)
		return err
	}
	l := &Lab{Image: r.image, Source: ".", Dir: filepath.Join(r.dir, s.Name), Update: r.update}
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return err
	}
	held, err := place(ctx, r.cache, say)
	if err != nil {
		return err
	}
	defer held.Close()
	began := time.Now()
	life, end := context.WithCancel(ctx) // the guest outlives the limit, to tell why
	defer end()
	l.life = life
	err = r.within(ctx, l, s)
	l.Cut()
	for _, f := range l.ends {
		f()
	}
	word, lines := "ok  ", l.told()
	if err != nil {
		word, lines = "FAIL", append(lines, err.Error())
	}
	head := fmt.Sprintf("%s  %-12s %6s  %s", word, s.Name, round(time.Since(began)), s.What)
	say("%s", strings.ReplaceAll(strings.Join(append([]string{head}, lines...), "\n"), "\n", "\n      "))
	if err != nil || r.options.keep != "" {
		r.retain(l.Dir, s.Name)
	}
	return err
}

// within runs it for no longer than its limit, whatever it waits for.
func (r *runner) within(ctx context.Context, l *Lab, s Scenario) error {
	ctx, end := context.WithTimeoutCause(ctx, s.Limit, fmt.Errorf("the scenario's limit of %v is over", s.Limit))
	defer end()
	l.ctx = ctx
	done := make(chan error, 1)
	go func() {
		done <- func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("the scenario itself is broken: %v", p)
				}
			}()
			if s.From != "power" {
				if err := l.load(s.From, r.snapshot(s.From)); err != nil {
					return fmt.Errorf("loading the snapshot %s: %w", s.From, err)
				}
			}
			return s.Run(l)
		}()
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		select {
		case err = <-done:
			err = errors.Join(context.Cause(ctx), err)
		case <-time.After(10 * time.Second):
			err = fmt.Errorf("%w, and it does not end", context.Cause(ctx))
		}
	}
	if err != nil {
		// The scenario's time may be over; the guest's is not, and nobody waits for it
		// but this.
		return errors.Join(err, l.artefacts())
	}
	if s.Leaves != "" {
		err = l.save(s.Leaves, r.snapshot(s.Leaves))
	}
	return err
}

func (r *runner) snapshot(name string) string { return filepath.Join(r.snapshots, name+".qcow2") }

// retain keeps what a scenario left, but its disk.
func (r *runner) retain(dir, name string) {
	to := filepath.Join(r.keep, name)
	_ = os.Remove(filepath.Join(dir, "root.qcow2"))
	if err := errors.Join(os.MkdirAll(r.keep, 0o755), os.RemoveAll(to), command(context.Background(), "cp", "-r", dir, to)); err != nil {
		say("what %s left could not be kept: %v", name, err)
	}
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func round(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// command runs a program of the host.
func command(ctx context.Context, name string, args ...string) error {
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}
