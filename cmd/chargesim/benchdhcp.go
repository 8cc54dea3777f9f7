package main

import (
	"bufio"
	"cmp"
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"chargegate/pkg/sim"
)

// dhcpContest is DHCP: a garage that comes back at once, and closed loops.
func dhcpContest() contest {
	return contest{
		peers: dhcpPeers, most: benchChargers, where: "/var/tmp",
		flags: func(b *bench, f *flag.FlagSet) {
			f.DurationVar(&b.limit, "limit", 45*time.Second, "how long clients that all ask at once have")
		},
		visit: (*bench).visitDHCP, after: (*bench).countSyncs,
		about: func(b *bench) string {
			return fmt.Sprintf("%d clients in flight; leases on %s; receive buffers: %s", b.together, disk(b.state), buffers())
		},
		rows: dhcpRows, shares: sharesOf("new", "new bindings", "known", "known clients"),
		notes: dhcpNotes,
	}
}

var dhcpRows = []row{
	{"new", "new bindings /s", more},
	{"known", "known clients /s", more},
	{"last50", "50 at once: last lease, ms", less},
	{"last250", "250 at once: last lease, ms", less},
	{"last1000", "1000 at once: last lease, ms", less},
	{"half1000", "1000 at once: half of them, ms", less},
	{"resent50", "50 at once: sent again", neither},
	{"resent250", "250 at once: sent again", neither},
	{"resent1000", "1000 at once: sent again", neither},
	{"new cpu", "CPU µs per new binding", less},
	{"known cpu", "CPU µs per known client", less},
	{"syncs", "syncs per new binding", neither},
	{"rss", "MB in memory, 1000 leases", less},
	{"failed", "without a lease in time, in all", neither},
	{"naks", "NAKs, in all", neither},
	{"doubles", "one address for two, in all", neither},
}

// dhcpPeers are those of docs/design.md that a garage could have in our place.
var dhcpPeers = []peerKind{
	{
		name: "dnsmasq", program: "dnsmasq", config: "dnsmasq.conf", version: []string{"--version"},
		args:  func(config string) []string { return []string{"--keep-in-foreground", "--conf-file=" + config} },
		ready: "IP range",
	},
	{
		name: "kea", program: "kea-dhcp4", config: "kea-dhcp4.json", version: []string{"-V"},
		args:  func(config string) []string { return []string{"-c", config} },
		env:   []string{"KEA_PIDFILE_DIR=" + sim.Dir, "KEA_LOCKFILE_DIR=" + sim.Dir},
		ready: "DHCP4_STARTED",
	},
}

// visitDHCP measures one server once, on a stand of its own. Each measurement finds
// it freshly started and without a memory.
func (b *bench) visitDHCP(ctx context.Context, s contestant, got results) error {
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
	program, err := b.launch(ctx, s)
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

// wave is one wave, bounded, once the server has come to rest.
func (b *bench) wave(ctx context.Context, c *sim.Crowd, w sim.Wave) (sim.Tally, error) {
	rest(ctx, settled)
	bounded, cancel := context.WithTimeout(ctx, b.limit)
	defer cancel()
	t, err := c.Go(bounded, w)
	return t, cmp.Or(err, ctx.Err())
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
	t, err := b.loopWave(ctx, program, crowd, loop, fresh)
	if err != nil {
		return err
	}
	got.tally(t)
	if resident, err := sim.Resident(program.PID()); err == nil {
		got.add("rss", float64(resident)/1e6)
	}
	if g, ok := s.(*gate); ok && t.Leased > 0 {
		if n, ok := g.Syncs(); ok {
			got.add("own syncs", n/float64(t.Leased))
		}
	}
	for i := 0; i < mostLoops && known.wall < atLeast; i++ {
		t, err := b.loopWave(ctx, program, crowd, loop, known)
		if err != nil {
			return err
		}
		got.tally(t)
	}
	return nil
}

// loopWave is a wave whose processor time is counted.
func (b *bench) loopWave(ctx context.Context, p *sim.Program, c *sim.Crowd, w sim.Wave, u *use) (t sim.Tally, err error) {
	rest(ctx, settled)
	err = b.measured(p, u, func() (int, time.Duration, error) {
		bounded, cancel := context.WithTimeout(ctx, b.limit)
		defer cancel()
		t, err = c.Go(bounded, w)
		return t.Leased, t.Last(), cmp.Or(err, ctx.Err())
	})
	return t, err
}

// tally adds up what must not happen at all, over everything that was measured.
func (r results) tally(t sim.Tally) {
	for row, n := range map[string]int{"failed": t.Failed(), "naks": t.NAKs, "doubles": t.Doubles, "moved": t.Moved, "unheard": t.Unheard} {
		r.total(row, n)
	}
}

// dhcpNotes are what the tables do not tell.
func dhcpNotes(r *report) (lines []string) {
	if f, ok := figureOf(r.got["chargegate"]["own syncs"]); ok {
		lines = append(lines, fmt.Sprintf("By its own count chargegate synced %.3f times per new binding while nobody traced it.", f.Median))
	}
	for _, name := range r.names {
		if n := r.got[name]["unheard"]; len(n) > 0 && n[0] > 0 {
			lines = append(lines, fmt.Sprintf("The load had no room for %.0f answers of %s: its figures are worse than it is.", n[0], name))
		}
	}
	return lines
}

// disk says what kind of disk a directory is on.
func disk(dir string) string {
	kind, lasts, err := sim.OnDisk(dir)
	switch {
	case err != nil:
		return err.Error()
	case !lasts:
		kind += ": NOT a disk, syncs cost nothing there"
	}
	return kind
}

// buffers tells the kernel's limits for what waits in a socket.
func buffers() string {
	read := func(name string) string {
		text, err := os.ReadFile("/proc/sys/net/core/" + name)
		if err != nil {
			return "hidden in here"
		}
		return strings.TrimSpace(string(text))
	}
	return fmt.Sprintf("net.core.rmem_default %s, net.core.rmem_max %s (chargegate's package sets 4194304)", read("rmem_default"), read("rmem_max"))
}

// Syncs reads the daemon's own metric.
func (g *gate) Syncs() (n float64, ok bool) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = g.stand.Space.Do(func() error {
				conn, err = net.DialTimeout(network, addr, time.Second)
				return err
			})
			return conn, err
		}}}
	answer, err := client.Get("http://127.0.0.1:9180/metrics")
	if err != nil {
		return 0, false
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if text, found := strings.CutPrefix(lines.Text(), "chargegate_dhcp_storage_syncs_total "); found {
			n, err := strconv.ParseFloat(text, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// straced is how many new bindings are made while the syncs are counted.
const straced = 200

// countSyncs counts the syncs for new bindings with strace, which slows the
// server down: nothing else is measured meanwhile.
func (b *bench) countSyncs(ctx context.Context, s contestant, got results) error {
	fmt.Fprintf(b.progress, "syncs of %s:", s.Name())
	defer fmt.Fprintln(b.progress)
	strace, err := sim.Find("strace")
	if err != nil {
		fmt.Fprint(b.progress, " not counted: ", err)
		return nil
	}
	if err := s.Open(ctx); err != nil {
		return err
	}
	defer s.Close()
	program, crowd, err := b.fresh(ctx, s)
	if err != nil {
		return err
	}
	defer program.Stop()
	defer crowd.Close()
	file := filepath.Join(sim.Dir, "strace")
	tracer := exec.Command(strace, "-f", "-e", "trace=fsync,fdatasync", "-o", file, "-p", strconv.Itoa(program.PID()))
	if err := tracer.Start(); err != nil {
		return err
	}
	rest(ctx, time.Second) // it attaches to each thread
	t, err := b.wave(ctx, crowd, sim.Wave{Clients: straced, Together: b.together})
	tracer.Process.Signal(os.Interrupt)
	tracer.Wait() // says that it was interrupted
	if err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if t.Leased > 0 {
		n := strings.Count(string(text), "sync(")
		got.add("syncs", float64(n)/float64(t.Leased))
		fmt.Fprintf(b.progress, " %d for %d new bindings", n, t.Leased)
	}
	return nil
}
