package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"chargegate/pkg/sim"
)

// namesContest is DNS: names that are remembered, names that are not, and names
// that are denied.
func namesContest() contest {
	return contest{
		peers: namePeers, stand: sim.StandOptions{Names: true}, boxed: true, most: devices, where: sim.Dir,
		flags: func(b *bench, f *flag.FlagSet) {
			b.lastsFlag(f)
			f.StringVar(&b.profile, "profile", "", "record what chargegate spends its time with in one loop (perf record), in a `file`; read it with perf report -i. Programs that were built with make LDFLAGS= have names there")
			f.StringVar(&b.profiled, "profile-of", "cached", "the loop that is recorded: cached or miss")
		},
		visit: (*bench).visitNames, after: (*bench).takeProfile,
		about: func(b *bench) string {
			return fmt.Sprintf("%d devices, %d questions in flight; %d names are remembered; the upstream is as far as a wire; all stand behind chargegate's firewall", devices, b.together, known)
		},
		rows: nameRows, shares: sharesOf("cached", "remembered", "miss", "misses"),
		notes: func(r *report) []string { return r.limits("cached", "remembered names", "miss", "misses") },
	}
}

var nameRows = []row{
	{"cached", "remembered names /s", more},
	{"cached cpu", "CPU µs per remembered name", less},
	{"hit half", "remembered, alone: half, µs", less},
	{"hit 99", "remembered, alone: 99 %, µs", less},
	{"miss half", "miss, alone: half, µs", less},
	{"miss 99", "miss, alone: 99 %, µs", less},
	{"denied half", "denied, alone: half, µs", less},
	{"miss", "misses /s", more},
	{"miss cpu", "CPU µs per miss", less},
	{"beside half", "remembered beside misses: half, µs", less},
	{"beside 99", "remembered beside misses: 99 %, µs", less},
	{"start", "start to first answer, ms", less},
	{"rss", "MB in memory at first", less},
	{"rss after", "MB in memory after all", less},
	{"failed", "SERVFAIL or REFUSED, in all", neither},
	{"lost", "without an answer, in all", neither},
	{"wrong", "wrong answers, in all", neither},
}

// namePeers are those that a garage could have in our place.
var namePeers = []peerKind{
	{
		name: "dnsmasq", program: "dnsmasq", config: "dnsmasq-names.conf", version: []string{"--version"},
		args: func(config string) []string { return []string{"--keep-in-foreground", "--conf-file=" + config} },
	},
	{
		name: "unbound", program: "unbound", config: "unbound.conf", version: []string{"-V"},
		args: func(config string) []string { return []string{"-d", "-p", "-c", config} },
	},
	{
		name: "coredns", program: "coredns", config: "Corefile", version: []string{"-version"}, optional: true,
		args: func(config string) []string { return []string{"-conf", config} },
	},
}

const (
	devices            = 128  // that ask
	known              = 1000 // names that are remembered
	singles            = 2000 // single questions for a percentile
	namePort, timePort = 53, 123
	apart              = 500 * time.Microsecond // between two single questions
)

// lastsFlag lets the length of the loops be chosen.
func (b *bench) lastsFlag(f *flag.FlagSet) {
	f.DurationVar(&b.lasts, "for", b.lasts, "how long each closed loop lasts, 10 ms at least; there are as many single questions as it has milliseconds")
}

func remembered() *sim.NameScript {
	return &sim.NameScript{Word: "known", Zone: sim.BenchZone, Names: known}
}

func unheard(word string) *sim.NameScript { return &sim.NameScript{Word: word, Zone: sim.BenchZone} }

// A session is one server while it is measured.
type session struct {
	*bench
	program *sim.Program
	askers  *sim.Askers
	single  *sim.Askers // who asks while the others do
	got     results
}

// session starts a server on its stand, and waits for its first right answer. end
// must be called.
func (b *bench) session(ctx context.Context, s contestant, port uint16, first sim.Script, got results) (o *session, end func(), err error) {
	if err := s.Open(ctx); err != nil {
		return nil, nil, err
	}
	o = &session{bench: b, got: got}
	end = func() {
		for _, a := range []*sim.Askers{o.askers, o.single} {
			if a != nil {
				a.Close()
			}
		}
		o.program.Stop()
		s.Close()
	}
	o.askers, err = s.Stand().Askers(devices, port)
	if err == nil {
		o.single, err = s.Stand().Askers(1, port)
	}
	began := time.Now()
	if err == nil {
		o.program, err = b.launch(ctx, s)
	}
	if err == nil {
		err = o.answered(ctx, first)
		got.add("start", milliseconds(time.Since(began)))
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	rest(ctx, settled)
	return o, end, o.memory("rss")
}

// answered waits until the server answers rightly.
func (o *session) answered(ctx context.Context, script sim.Script) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		asked, err := o.single.Go(ctx, script, sim.Pace{Together: 1, Most: 1, Patience: 20 * time.Millisecond})
		switch {
		case err != nil || asked.Right > 0:
			return err
		case asked.Wrong > 0:
			return fmt.Errorf("its first answer is wrong; its last words:\n%s", o.program.Last(10))
		case ctx.Err() != nil:
			return fmt.Errorf("it does not answer; its last words:\n%s", o.program.Last(10))
		}
		rest(ctx, 2*time.Millisecond)
	}
}

// memory adds how much of the server is in memory.
func (o *session) memory(row string) error {
	resident, err := sim.Resident(o.program.PID())
	if err == nil {
		o.got.add(row, float64(resident)/1e6)
	}
	return err
}

// tally adds up what must not happen.
func (o *session) tally(asked sim.Asked) {
	o.got.total("wrong", asked.Wrong)
	o.got.total("failed", asked.Failed)
	o.got.total("lost", asked.Lost)
}

// alone asks single questions, one after the other.
func (o *session) alone(ctx context.Context, a *sim.Askers, row string, script sim.Script, many int, every time.Duration) error {
	asked, err := a.Go(ctx, script, sim.Pace{Together: 1, Every: every, Most: many})
	if err != nil {
		return err
	}
	o.tally(asked)
	if asked.Right > 0 {
		o.got.add(row+" half", microseconds(asked.Percentile(0.5)))
		o.got.add(row+" 99", microseconds(asked.Percentile(0.99)))
	}
	return nil
}

// loop is a closed loop, whose processor time is counted.
func (o *session) loop(ctx context.Context, name string, script sim.Script) error {
	rest(ctx, settled)
	var u use
	err := o.measured(o.program, &u, func() (int, time.Duration, error) {
		asked, err := o.askers.Go(ctx, script, sim.Pace{Together: o.together, For: o.lasts})
		o.tally(asked)
		return asked.Right, asked.Wall, cmp.Or(err, ctx.Err())
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(o.progress, " %s %.0f/s,", name, u.rate())
	o.got.use(name, u)
	return nil
}

// while asks single questions of one device while the others ask theirs in a
// closed loop.
func (o *session) while(ctx context.Context, loop sim.Script, ask func(ctx context.Context, a *sim.Askers) error) error {
	rest(ctx, settled)
	looping, stop := context.WithCancel(ctx)
	var asked sim.Asked
	done := make(chan error, 1)
	go func() (err error) {
		defer func() { done <- err }()
		asked, err = o.askers.Go(looping, loop, sim.Pace{Together: o.together, For: 10 * o.lasts})
		return err
	}()
	rest(ctx, settled)
	err := ask(ctx, o.single)
	stop()
	err = errors.Join(err, <-done)
	o.tally(asked)
	return err
}

// visitNames measures one server once, on a stand of its own.
func (b *bench) visitNames(ctx context.Context, s contestant, got results) error {
	o, end, err := b.session(ctx, s, namePort, remembered(), got)
	if err != nil {
		return err
	}
	defer end()
	if err := o.remember(ctx); err != nil {
		return err
	}
	singles := int(b.lasts / time.Millisecond)
	denied := &sim.NameScript{Word: "other", Zone: "example.com", Names: 16, Denied: true}
	for _, step := range []func() error{
		func() error { return o.alone(ctx, o.askers, "hit", remembered(), singles, apart) },
		func() error { return o.loop(ctx, "cached", remembered()) },
		func() error { return o.alone(ctx, o.askers, "miss", unheard("alone"), singles, apart) },
		func() error { return o.alone(ctx, o.askers, "denied", denied, singles/4, apart) },
		func() error { return o.loop(ctx, "miss", unheard("new")) },
		func() error { return o.beside(ctx) },
		func() error { return o.memory("rss after") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// beside asks for remembered names while others miss.
func (o *session) beside(ctx context.Context) error {
	return o.while(ctx, unheard("other"), func(ctx context.Context, a *sim.Askers) error {
		return o.alone(ctx, a, "beside", remembered(), int(o.lasts/(2*time.Millisecond)), time.Millisecond)
	})
}

// remember lets the server learn all known names. On a busy machine a question may
// be lost: then they are asked once more.
func (o *session) remember(ctx context.Context) error {
	var asked sim.Asked
	var err error
	for try := 0; try < 3 && asked.Right < known && err == nil; try++ {
		asked, err = o.askers.Go(ctx, remembered(), sim.Pace{Together: 8, Most: known})
	}
	if err == nil && asked.Right < known {
		err = fmt.Errorf("of %d names %d are answered rightly, %d wrongly, %d with a failure and %d not at all", known, asked.Right, asked.Wrong, asked.Failed, asked.Lost)
	}
	return err
}

// takeProfile records what chargegate does in a loop, where that was asked for.
// Nothing of it is measured.
func (b *bench) takeProfile(ctx context.Context, s contestant, _ results) error {
	if _, ok := s.(*gate); !ok || b.profile == "" {
		return nil
	}
	loops := map[string]*sim.NameScript{"cached": remembered(), "miss": unheard("new")}
	if loops[b.profiled] == nil {
		return fmt.Errorf("-profile-of %s; there are: cached, miss", b.profiled)
	}
	o, end, err := b.session(ctx, s, namePort, remembered(), results{})
	if err != nil {
		return err
	}
	defer end()
	if err := o.remember(ctx); err != nil {
		return err
	}
	return b.recorded(ctx, s, o.program, func() error { return o.loop(ctx, b.profiled, loops[b.profiled]) })
}

// recorded lets perf record what a program does while a loop runs.
func (b *bench) recorded(ctx context.Context, s contestant, p *sim.Program, loop func() error) error {
	fmt.Fprint(b.progress, "profile of ", s.Name(), ":")
	defer fmt.Fprintln(b.progress)
	perf, err := sim.Find("perf")
	if err != nil {
		return err
	}
	file, err := filepath.Abs(b.profile)
	if err != nil {
		return err
	}
	seconds := strconv.Itoa(max(1, int(b.lasts/time.Second)))
	recorder := exec.CommandContext(ctx, perf, "record", "-q", "-g", "-o", file, "-p", strconv.Itoa(p.PID()), "sleep", seconds)
	recorder.Stdout, recorder.Stderr = os.Stderr, os.Stderr
	if err := recorder.Start(); err != nil {
		return err
	}
	err = loop()
	return errors.Join(err, recorder.Wait())
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
