package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"chargegate/pkg/sim"
)

// benchChargers is how many chargers the measured network is planned for: the
// most that a configuration allows.
const benchChargers = 1000

// A bench is what all measurements of one call have in common.
type bench struct {
	contest
	bin, configs string
	state        string // the directory for what the servers keep
	runs         int
	together     int           // clients or questions of a closed loop
	limit        time.Duration // for clients that all ask at once
	quiet        bool
	lasts        time.Duration // a closed loop of questions
	profile      string        // where the profile goes; empty: none is taken
	profiled     string        // the loop that it is of
	server, load []int         // the CPUs of each; nil: all
	progress     io.Writer
	missing      []string // who is left out, and why
}

// A contest is what is measured, and who is measured beside chargegate.
type contest struct {
	peers []peerKind
	// stand is what the stand of each has beside the server; boxed: the peers too
	// stand in chargegate's box, behind its firewall.
	stand sim.StandOptions
	boxed bool
	where string // the directory for what the servers keep
	most  int    // clients or questions in flight
	// flags adds what can be chosen, visit measures one server once, and after
	// (which may be nil) follows the last run.
	flags        func(b *bench, f *flag.FlagSet)
	visit, after func(b *bench, ctx context.Context, s contestant, got results) error
	about        func(b *bench) string // what the figures depend on
	rows, shares []row
	notes        func(r *report) []string // what follows the tables
}

// contests are what can be measured.
func contests() map[string]contest {
	return map[string]contest{"dhcp": dhcpContest(), "names": namesContest(), "time": timeContest(), "egress": egressContest()}
}

// benchmark measures a room of the house beside what others have in its place.
func benchmark(ctx context.Context, args []string) error {
	words := slices.Sorted(maps.Keys(contests()))
	if len(args) == 0 || !slices.Contains(words, args[0]) {
		return fmt.Errorf("what shall be measured? There is: chargesim bench %s", strings.Join(words, "|"))
	}
	b := &bench{contest: contests()[args[0]], lasts: 2 * time.Second, progress: os.Stderr}
	f := flag.NewFlagSet("bench "+args[0], flag.ContinueOnError)
	f.StringVar(&b.bin, "bin", "bin", "the `directory` of chargegated and chargegate")
	f.StringVar(&b.configs, "configs", "configs/bench", "the `directory` of the servers' configurations")
	f.IntVar(&b.runs, "runs", 5, "how often everything is measured")
	f.IntVar(&b.together, "together", 128, "how many the closed loops have in flight")
	f.BoolVar(&b.quiet, "quiet", false, "chargegate says warnings only, and no DHCP server logs single leases; without it all log as they are shipped")
	f.StringVar(&b.state, "state", b.where, "a `directory` on the disk that shall be measured; all that is made there is removed")
	named := f.String("peers", "all", "who is measured beside chargegate: all, none, or names with commas: "+strings.Join(b.peerNames(), ","))
	asJSON := f.Bool("json", false, "print one JSON object in the place of the table")
	b.flags(b, f)
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if b.lasts < 10*time.Millisecond {
		return fmt.Errorf("loops of %s; allowed are 10 ms or more", b.lasts)
	}
	if b.runs < 1 || b.together < 1 || b.together > b.most {
		return fmt.Errorf("%d runs with %d in flight; allowed are 1 run or more and 1 to %d in flight", b.runs, b.together, b.most)
	}
	servers, err := choose(b, *named)
	if err != nil {
		return err
	}
	if b.state, err = os.MkdirTemp(b.state, "chargesim-bench-"); err != nil {
		return fmt.Errorf("making a directory for what the servers keep: %w", err)
	}
	defer os.RemoveAll(b.state)
	if err := b.share(); err != nil {
		return err
	}
	report := newReport(b, servers)
	if err := b.rounds(ctx, servers, report); err != nil {
		return err
	}
	if *asJSON {
		return report.JSON(os.Stdout)
	}
	fmt.Print(report.Table())
	return nil
}

func (b *bench) peerNames() []string {
	var names []string
	for _, p := range b.peers {
		names = append(names, p.name)
	}
	return names
}

// choose returns chargegate and the peers that were named. One that the machine
// may do without is left out, and that is said.
func choose(b *bench, named string) ([]contestant, error) {
	servers := []contestant{&gate{bench: b}}
	wanted := strings.Split(named, ",")
	for _, p := range b.peers {
		if named != "all" && !slices.Contains(wanted, p.name) {
			continue
		}
		if p.program == "" {
			servers = append(servers, &router{bench: b})
			continue
		}
		_, err := sim.Find(p.program)
		switch {
		case err == nil:
			servers = append(servers, &peer{bench: b, peerKind: p})
		case named == "all" && p.optional:
			b.missing = append(b.missing, fmt.Sprintf("NOT MEASURED: %s, which could not be had: %v", p.name, err))
			fmt.Fprintln(cmp.Or(b.progress, io.Discard), b.missing[len(b.missing)-1])
		default:
			return nil, fmt.Errorf("%w; or leave it out with -peers", err)
		}
	}
	if named != "all" && named != "none" && len(servers) != len(wanted)+1 {
		return nil, fmt.Errorf("-peers %s; there are: %s", named, strings.Join(b.peerNames(), ","))
	}
	return servers, nil
}

// share gives the server one processor and the load another, where there are
// two.
func (b *bench) share() error {
	cpus, err := sim.CPUs()
	if err != nil {
		return err
	}
	if len(cpus) < 2 {
		return nil
	}
	b.server, b.load = cpus[:1], cpus[1:2]
	return sim.Stay(b.load)
}

// rounds measures each server in turn, again and again, so that what changes on
// the machine meanwhile meets them all.
func (b *bench) rounds(ctx context.Context, servers []contestant, report *report) error {
	for run := range b.runs {
		for _, s := range servers {
			fmt.Fprintf(b.progress, "run %d of %d, %s:", run+1, b.runs, s.Name())
			err := b.visit(b, ctx, s, report.of(s.Name()))
			fmt.Fprintln(b.progress)
			if err != nil {
				return fmt.Errorf("%s: %w", s.Name(), err)
			}
		}
	}
	for _, s := range servers {
		if b.after == nil {
			break
		}
		if err := b.after(b, ctx, s, report.of(s.Name())); err != nil {
			return fmt.Errorf("%s: %w", s.Name(), err)
		}
	}
	return nil
}

// launch starts the server without a memory, on its stand.
func (b *bench) launch(ctx context.Context, s contestant) (*sim.Program, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir := filepath.Join(b.state, s.Name())
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	starting, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return s.Start(starting, dir)
}

// settled is how long a server is left alone after its start.
const settled = 300 * time.Millisecond

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// A use is what a number of leases or answers took.
type use struct {
	done                 int
	wall                 time.Duration
	server, load, others time.Duration // processor time
}

func (u use) rate() float64 { return float64(u.done) / max(u.wall.Seconds(), 1e-9) }

// measured counts the processor time while work is done, which returns how much
// was done and how long it took.
func (b *bench) measured(p *sim.Program, u *use, work func() (done int, wall time.Duration, err error)) error {
	before, err := spent(p)
	if err != nil {
		return err
	}
	done, wall, err := work()
	if err != nil {
		return err
	}
	after, err := spent(p)
	if err != nil {
		return err
	}
	u.done += done
	u.wall += wall
	for i, sum := range []*time.Duration{&u.server, &u.load, &u.others} {
		*sum += after[i] - before[i]
	}
	return nil
}

// spent is the processor time of the server, of the load and of all others. Where
// the kernel is the server p is nil, and nobody knows.
func spent(p *sim.Program) (all [3]time.Duration, err error) {
	if all[0], err = ofFamily(p, sim.CPU); err != nil {
		return all, err
	}
	if all[1], err = sim.CPU(os.Getpid()); err != nil {
		return all, err
	}
	busy, err := sim.Busy()
	all[2] = busy - all[0] - all[1]
	return all, err
}

// ofFamily adds something up over a server and the processes that it started.
func ofFamily[N ~int64](p *sim.Program, of func(pid int) (N, error)) (sum N, err error) {
	if p == nil {
		return 0, nil
	}
	for _, pid := range sim.Family(p.PID()) {
		n, err := of(pid)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
