package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"chargegate/pkg/sim"
)

// direct is what the connection without a proxy is called.
const direct = "direct"

// egressContest is TLS that is passed on by its name: how long a conversation
// takes to begin, what it costs, and how quickly bytes are carried.
func egressContest() contest {
	return contest{
		peers: carrierPeers, stand: sim.StandOptions{Names: true, Unlimited: true}, boxed: true, most: together, where: sim.Dir,
		flags: func(b *bench, f *flag.FlagSet) {
			b.lastsFlag(f)
			b.together = min(b.together, together)
			f.Lookup("together").DefValue = strconv.Itoa(b.together)
			f.StringVar(&b.profile, "profile", "", "record what chargegate spends its time with in one loop (perf record), in a `file`; read it with perf report -i. Programs that were built with make LDFLAGS= have names there")
			f.StringVar(&b.profiled, "profile-of", "sessions", "the loop that is recorded: sessions, bulk1 or bulk8")
		},
		visit: (*bench).visitEgress, after: (*bench).profileEgress,
		about: func(b *bench) string {
			return fmt.Sprintf("%d devices, %d new sessions in flight, %d idle ones; a real ClientHello of crypto/tls, the server answers at once; all but direct stand behind chargegate's firewall, without its limits per second, which redirects to them", callers, b.together, idlers)
		},
		rows: egressRows, shares: sharesOf("sessions", "new sessions", "bulk1", "1 stream", "bulk8", "8 streams"),
		notes: func(r *report) []string {
			return append(r.limits("sessions", "new sessions", "bulk1", "1 stream", "bulk8", "8 streams"),
				"What the kernel holds for idle sessions counts their ends at the load as well, which is all that it holds with direct.")
		},
	}
}

var egressRows = []row{
	{"hello half", "hello to first byte: half, µs", less},
	{"hello 99", "hello to first byte: 99 %, µs", less},
	{"setup half", "call to first byte: half, µs", less},
	{"setup 99", "call to first byte: 99 %, µs", less},
	{"ping half", "there and back: half, µs", less},
	{"ping 99", "there and back: 99 %, µs", less},
	{"sessions", "new sessions /s", more},
	{"sessions cpu", "CPU µs per session", less},
	{"sessions half", "hello to first byte, busy: half, µs", less},
	{"sessions 99", "hello to first byte, busy: 99 %, µs", less},
	{"bulk1", "1 stream, Gbit/s", more},
	{"bulk1 cpu", "1 stream: CPU ms per Gbit", less},
	{"bulk8", "8 streams, Gbit/s", more},
	{"bulk8 cpu", "8 streams: CPU ms per Gbit", less},
	{"start", "start to first session, ms", less},
	{"memory", "MB of the server at first", less},
	{"idle", "MB more for 1000 idle sessions", less},
	{"idle kernel", "MB of the kernel for them", less},
	{"memory after", "MB of the server after all", less},
	{"failed", "sessions that failed, in all", neither},
	{"wrong", "not carried as sent, in all", neither},
}

// carrierPeers are those that a garage could have in our place.
var carrierPeers = []peerKind{
	{
		name: "nginx", program: "nginx", config: "nginx.conf", version: []string{"-v"},
		args: func(config string) []string { return []string{"-e", "stderr", "-c", config} },
	},
	{
		name: "haproxy", program: "haproxy", config: "haproxy.cfg", version: []string{"-v"},
		args: func(config string) []string { return []string{"-db", "-f", config} },
	},
	{name: direct},
}

const (
	callers  = 128 // devices that hold conversations
	together = 64  // new ones of a closed loop
	idlers   = 500 // conversations: a box holds 512, of 8 each charger
)

// An outing is one server while it carries.
type outing struct {
	*bench
	program *sim.Program // nil: the kernel
	callers *sim.Callers
	got     results
}

// outing starts a server on its stand, waits for its first session, and gives the
// callers their addresses. end must be called.
func (b *bench) outing(ctx context.Context, s contestant, got results) (o *outing, end func(), err error) {
	if err := s.Open(ctx); err != nil {
		return nil, nil, err
	}
	o = &outing{bench: b, got: got}
	end = func() {
		if o.callers != nil {
			o.callers.Close()
		}
		o.program.Stop()
		s.Close()
	}
	o.callers, err = s.Stand().Callers()
	if err == nil {
		err = o.callers.Seat([]netip.Addr{benchLast})
	}
	began := time.Now()
	if err == nil {
		o.program, err = b.launch(ctx, s)
	}
	if err == nil {
		err = o.carries(ctx)
		got.add("start", milliseconds(time.Since(began)))
	}
	if err == nil {
		err = o.seat(ctx, s)
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	if err = o.calm(ctx); err != nil {
		end()
		return nil, nil, err
	}
	return o, end, nil
}

// calm waits, but not for ever, until the server does no work of its own: for some
// time after its start chargegate asks who uses the addresses that it may lease.
func (o *outing) calm(ctx context.Context) error {
	const looks, every, busy = 80, 500 * time.Millisecond, 5 * time.Millisecond
	last := time.Duration(0)
	for i := range looks {
		now, err := ofFamily(o.program, sim.CPU)
		if err != nil || i > 0 && now-last < busy {
			return err
		}
		last = now
		rest(ctx, every)
	}
	return ctx.Err()
}

// carries waits until the server carries a session.
func (o *outing) carries(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		called, err := o.callers.Go(ctx, sim.Pace{Together: 1, Most: 1, Patience: 200 * time.Millisecond})
		switch {
		case err != nil || called.Done > 0:
			return err
		case ctx.Err() != nil && o.program != nil:
			return fmt.Errorf("it carries nothing; its last words:\n%s", o.program.Last(10))
		case ctx.Err() != nil:
			return errors.New("nothing is carried")
		}
		rest(ctx, 2*time.Millisecond)
	}
}

// seat gives the callers the addresses that chargegate has leased to them, since it
// counts by device, and as many to those who call by way of others.
func (o *outing) seat(ctx context.Context, s contestant) error {
	var addrs []netip.Addr
	if _, ok := s.(*gate); ok {
		crowd, err := s.Stand().Crowd()
		if err != nil {
			return err
		}
		defer crowd.Close()
		leasing, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if t, err := crowd.Go(leasing, sim.Wave{Clients: callers, Together: 16}); err != nil || t.Leased < callers {
			return fmt.Errorf("%d of %d devices have a lease: %w", t.Leased, callers, cmp.Or(err, ctx.Err()))
		}
		for _, lease := range crowd.Leases {
			addrs = append(addrs, lease.Addr)
		}
	}
	for addr := benchFirst; len(addrs) < callers; addr = addr.Next() {
		addrs = append(addrs, addr)
	}
	return o.callers.Seat(addrs)
}

// visitEgress measures one server once, on a stand of its own.
func (b *bench) visitEgress(ctx context.Context, s contestant, got results) error {
	o, end, err := b.outing(ctx, s, got)
	if err != nil {
		return err
	}
	defer end()
	for _, step := range []func(context.Context) error{
		o.idle, o.alone, o.pings, o.sessions,
		func(ctx context.Context) error { return o.bulk(ctx, "bulk1", 1) },
		func(ctx context.Context) error { return o.bulk(ctx, "bulk8", 8) },
		func(context.Context) error { return o.memory("memory after") },
	} {
		rest(ctx, settled)
		if err := step(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// tally adds up what must not happen.
func (o *outing) tally(called sim.Called) {
	o.got.total("failed", called.Failed)
	o.got.total("wrong", called.Wrong)
}

// waits adds what half and 99 of a hundred waits did not pass.
func (o *outing) waits(row string, waits []time.Duration) {
	if len(waits) > 0 {
		o.got.add(row+" half", microseconds(sim.Percentile(waits, 0.5)))
		o.got.add(row+" 99", microseconds(sim.Percentile(waits, 0.99)))
	}
}

// memory adds what the server has in memory.
func (o *outing) memory(row string) error {
	if o.program == nil {
		return nil
	}
	n, err := ofFamily(o.program, sim.Proportional)
	if err == nil {
		o.got.add(row, float64(n)/1e6)
	}
	return err
}

// idle holds conversations in which nothing moves.
func (o *outing) idle(ctx context.Context) error {
	inKernel, err := sim.KernelMemory()
	if err != nil {
		return err
	}
	own, err := ofFamily(o.program, sim.Proportional)
	if err != nil {
		return err
	}
	if o.program != nil {
		o.got.add("memory", float64(own)/1e6)
	}
	called, err := o.callers.Hold(ctx, idlers, func() error {
		rest(ctx, settled)
		kernelNow, err := sim.KernelMemory()
		if err != nil {
			return err
		}
		o.got.add("idle kernel", float64(kernelNow-inKernel)/1e6*1000/idlers)
		ownNow, err := ofFamily(o.program, sim.Proportional)
		if err == nil && o.program != nil {
			o.got.add("idle", float64(ownNow-own)/1e6*1000/idlers)
		}
		return err
	})
	o.tally(called)
	return err
}

// alone opens sessions one after the other.
func (o *outing) alone(ctx context.Context) error {
	called, err := o.callers.Go(ctx, sim.Pace{Together: 1, Every: apart, Most: int(o.lasts / time.Millisecond)})
	o.tally(called)
	o.waits("hello", called.Waits)
	o.waits("setup", called.Setups)
	return cmp.Or(err, ctx.Err())
}

// pings sends a few bytes to and fro.
func (o *outing) pings(ctx context.Context) error {
	called, err := o.callers.Ping(ctx, int(o.lasts/time.Millisecond), apart)
	o.tally(called)
	o.waits("ping", called.Waits)
	return err
}

// sessions is a closed loop of new sessions, whose processor time is counted.
func (o *outing) sessions(ctx context.Context) error {
	var u use
	err := o.measured(o.program, &u, func() (int, time.Duration, error) {
		called, err := o.callers.Go(ctx, sim.Pace{Together: o.together, For: o.lasts})
		o.tally(called)
		o.waits("sessions", called.Waits)
		return called.Done, called.Wall, cmp.Or(err, ctx.Err())
	})
	fmt.Fprintf(o.progress, " %.0f sessions/s,", u.rate())
	o.got.use("sessions", u)
	return err
}

// bulk carries as much as goes through, in Gbit.
func (o *outing) bulk(ctx context.Context, row string, streams int) error {
	var u use
	called, err := o.callers.Bulk(ctx, streams, o.lasts, func(work func() (int64, time.Duration, error)) error {
		return o.measured(o.program, &u, func() (int, time.Duration, error) {
			bytes, wall, err := work()
			return int(bytes * 8 / 1e6), wall, err // Mbit, so that little is lost to rounding
		})
	})
	o.tally(called)
	fmt.Fprintf(o.progress, " %d: %.1f Gbit/s,", streams, u.rate()/1000)
	mbit := results{}
	mbit.use(row, u)
	for key, samples := range mbit { // µs of a Mbit are ms of a Gbit
		if key == row {
			samples[0] /= 1000
		}
		o.got.add(key, samples[0])
	}
	return err
}

// profileEgress records what chargegate does in a loop, where that was asked for.
// Nothing of it is measured.
func (b *bench) profileEgress(ctx context.Context, s contestant, _ results) error {
	if _, ok := s.(*gate); !ok || b.profile == "" {
		return nil
	}
	o, end, err := b.outing(ctx, s, results{})
	if err != nil {
		return err
	}
	defer end()
	loop, ok := map[string]func() error{
		"sessions": func() error { return o.sessions(ctx) },
		"bulk1":    func() error { return o.bulk(ctx, "bulk1", 1) },
		"bulk8":    func() error { return o.bulk(ctx, "bulk8", 8) },
	}[b.profiled]
	if !ok {
		return fmt.Errorf("-profile-of %s; there are: sessions, bulk1, bulk8", b.profiled)
	}
	return b.recorded(ctx, s, o.program, loop)
}
