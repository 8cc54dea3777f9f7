package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
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
	bin, configs string
	state        string // the directory on disk for the servers' leases
	runs         int
	together     int // clients of a closed loop
	limit        time.Duration
	quiet        bool
	server, load []int // the CPUs of each; nil: all
	progress     io.Writer
}

// benchmark measures a room of the house beside what others have in its place.
func benchmark(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] != "dhcp" {
		return fmt.Errorf("what shall be measured? There is: chargesim bench dhcp")
	}
	b := &bench{progress: os.Stderr}
	f := flag.NewFlagSet("bench dhcp", flag.ContinueOnError)
	f.StringVar(&b.bin, "bin", "bin", "the `directory` of chargegated and chargegate")
	f.StringVar(&b.configs, "configs", "configs/bench", "the `directory` of the servers' configurations")
	f.IntVar(&b.runs, "runs", 5, "how often everything is measured")
	f.IntVar(&b.together, "together", 128, "how many clients the closed loops have in flight")
	f.DurationVar(&b.limit, "limit", 45*time.Second, "how long clients that all ask at once have")
	f.BoolVar(&b.quiet, "quiet", false, "no server logs single leases; without it all log as they are shipped")
	state := f.String("state", "/var/tmp", "a `directory` on the disk that shall be measured; all that is made there is removed")
	peers := f.String("peers", "all", "who is measured beside chargegate: all, none, or names with commas: "+strings.Join(peerNames(), ","))
	asJSON := f.Bool("json", false, "print one JSON object in the place of the table")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if b.runs < 1 || b.together < 1 || b.together > benchChargers {
		return fmt.Errorf("%d runs with %d clients in flight; allowed are 1 run or more and 1 to %d clients", b.runs, b.together, benchChargers)
	}
	servers, err := choose(b, *peers)
	if err != nil {
		return err
	}
	if b.state, err = os.MkdirTemp(*state, "chargesim-bench-"); err != nil {
		return fmt.Errorf("making a directory for the leases: %w", err)
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

// choose returns chargegate and the peers that were named.
func choose(b *bench, named string) ([]contestant, error) {
	servers := []contestant{&gate{bench: b}}
	for _, p := range peers {
		if named != "all" && !slices.Contains(strings.Split(named, ","), p.name) {
			continue
		}
		if _, err := sim.Find(p.program); err != nil {
			return nil, fmt.Errorf("%w; or leave it out with -peers", err)
		}
		servers = append(servers, &peer{bench: b, peerKind: p})
	}
	if named != "all" && named != "none" && len(servers) != len(strings.Split(named, ","))+1 {
		return nil, fmt.Errorf("-peers %s; there are: %s", named, strings.Join(peerNames(), ","))
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
			err := b.visit(ctx, s, report.of(s.Name()))
			fmt.Fprintln(b.progress)
			if err != nil {
				return fmt.Errorf("%s: %w", s.Name(), err)
			}
		}
	}
	for _, s := range servers {
		fmt.Fprintf(b.progress, "syncs of %s:", s.Name())
		err := b.countSyncs(ctx, s, report.of(s.Name()))
		fmt.Fprintln(b.progress)
		if err != nil {
			return fmt.Errorf("counting the syncs of %s: %w", s.Name(), err)
		}
	}
	return nil
}

// visit measures one server once, on a stand of its own. Each measurement finds
// it freshly started and without a memory.
func (b *bench) visit(ctx context.Context, s contestant, got results) error {
	if err := s.Open(ctx); err != nil {
		return err
	}
	defer s.Close()
	for _, clients := range []int{50, 250, 1000} {
		if err := b.atOnce(ctx, s, clients, got); err != nil {
			return fmt.Errorf("%d at once: %w", clients, err)
		}
	}
	return b.loops(ctx, s, got)
}

// fresh starts the server without a memory, and opens a crowd.
func (b *bench) fresh(ctx context.Context, s contestant) (*sim.Program, *sim.Crowd, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(b.state, s.Name())
	if err := os.RemoveAll(dir); err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	starting, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	program, err := s.Start(starting, dir)
	if err != nil {
		return nil, nil, err
	}
	crowd, err := s.Stand().Crowd()
	if err != nil {
		program.Stop()
		return nil, nil, err
	}
	return program, crowd, nil
}

// settled is how long a server is left alone after its start.
const settled = 300 * time.Millisecond

// wave is one wave, bounded, once the server has come to rest.
func (b *bench) wave(ctx context.Context, c *sim.Crowd, w sim.Wave) (sim.Tally, error) {
	rest(ctx, settled)
	bounded, cancel := context.WithTimeout(ctx, b.limit)
	defer cancel()
	t, err := c.Go(bounded, w)
	return t, cmp.Or(err, ctx.Err())
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// atOnce lets a garage come back after a power cut, to a server that has never
// seen it.
func (b *bench) atOnce(ctx context.Context, s contestant, clients int, got results) error {
	fmt.Fprintf(b.progress, " %d at once", clients)
	program, crowd, err := b.fresh(ctx, s)
	if err != nil {
		return err
	}
	defer program.Stop()
	defer crowd.Close()
	t, err := b.wave(ctx, crowd, sim.Wave{Clients: clients})
	if err != nil {
		return err
	}
	fmt.Fprintf(b.progress, " %d ms,", t.Last().Milliseconds())
	got.add(fmt.Sprintf("last%d", clients), milliseconds(t.Last()))
	got.add(fmt.Sprintf("half%d", clients), milliseconds(sim.Median(t.Times)))
	got.add(fmt.Sprintf("resent%d", clients), float64(t.Resent))
	got.tally(t)
	return nil
}

// Closed loops are repeated until they have lasted atLeast: with new clients at
// most mostFresh times, for each needs a server without a memory, and with known
// ones at most mostLoops times after each of these.
const (
	atLeast   = time.Second
	mostLoops = 10
	mostFresh = 3
)

// loops measures how many clients a second the server can bear, first new ones
// and then the same again.
func (b *bench) loops(ctx context.Context, s contestant, got results) error {
	fmt.Fprint(b.progress, " new")
	fresh, known := use{}, use{}
	for i := 0; i < mostFresh && fresh.wall < atLeast; i++ {
		if err := b.loop(ctx, s, &fresh, &known, got); err != nil {
			return err
		}
	}
	fmt.Fprintf(b.progress, " %.0f/s, known %.0f/s", fresh.rate(), known.rate())
	got.use("new", fresh)
	got.use("known", known)
	return nil
}

// loop is a loop of new clients, and loops of the same, now known.
func (b *bench) loop(ctx context.Context, s contestant, fresh, known *use, got results) error {
	program, crowd, err := b.fresh(ctx, s)
	if err != nil {
		return err
	}
	defer program.Stop()
	defer crowd.Close()
	loop := sim.Wave{Clients: benchChargers, Together: b.together}
	t, err := b.measured(ctx, program, crowd, loop, fresh)
	if err != nil {
		return err
	}
	got.tally(t)
	if resident, err := sim.Resident(program.PID()); err == nil {
		got.add("rss", float64(resident)/1e6)
	}
	if n, ok := s.Syncs(); ok && t.Leased > 0 {
		got.add("own syncs", n/float64(t.Leased))
	}
	for i := 0; i < mostLoops && known.wall < atLeast; i++ {
		t, err := b.measured(ctx, program, crowd, loop, known)
		if err != nil {
			return err
		}
		got.tally(t)
	}
	return nil
}

// A use is what a number of leases took.
type use struct {
	leases               int
	wall                 time.Duration
	server, load, others time.Duration // processor time
}

func (u use) rate() float64 { return float64(u.leases) / max(u.wall.Seconds(), 1e-9) }

// measured is a wave whose processor time is counted.
func (b *bench) measured(ctx context.Context, p *sim.Program, c *sim.Crowd, w sim.Wave, u *use) (sim.Tally, error) {
	rest(ctx, settled)
	before, err := spent(p)
	if err != nil {
		return sim.Tally{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, b.limit)
	defer cancel()
	t, err := c.Go(bounded, w)
	if err := cmp.Or(err, ctx.Err()); err != nil {
		return t, err
	}
	after, err := spent(p)
	if err != nil {
		return t, err
	}
	u.leases += t.Leased
	u.wall += t.Last()
	for i, sum := range []*time.Duration{&u.server, &u.load, &u.others} {
		*sum += after[i] - before[i]
	}
	return t, nil
}

// spent is the processor time of the server, of the load and of all others.
func spent(p *sim.Program) (all [3]time.Duration, err error) {
	if all[0], err = sim.CPU(p.PID()); err != nil {
		return all, err
	}
	if all[1], err = sim.CPU(os.Getpid()); err != nil {
		return all, err
	}
	busy, err := sim.Busy()
	all[2] = busy - all[0] - all[1]
	return all, err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
