package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"

	"chargegate/pkg/sim"
)

// A contestant is a DHCP server that is measured.
type contestant interface {
	Name() string
	Version() string
	// Open makes its stand, and Close removes it.
	Open(ctx context.Context) error
	Close()
	Stand() *sim.Stand
	// Start starts it with its leases in a directory, and returns when it is ready.
	Start(ctx context.Context, leases string) (*sim.Program, error)
	// Syncs is how often it says that it has synced since its start; ok is false
	// when it does not tell.
	Syncs() (n float64, ok bool)
}

// The addresses of the bench: what chargegate chooses itself for so many
// chargers.
var (
	benchAddress = netip.MustParsePrefix("10.83.0.1/21")
	benchFirst   = netip.MustParseAddr("10.83.0.2")
	benchLast    = netip.MustParseAddr("10.83.5.231") // 1510 addresses (Z-5)
)

// facts are what the templates of the configurations are filled with.
type facts struct {
	Interface, State, Run     string
	Server, First, Last, Mask string
	Subnet                    string
	Chargers                  int
	Quiet                     bool
}

func (b *bench) facts(iface, state string) facts {
	return facts{
		Interface: iface, State: state, Run: sim.Dir,
		Server: benchAddress.Addr().String(), First: benchFirst.String(), Last: benchLast.String(),
		Mask: net.IP(net.CIDRMask(benchAddress.Bits(), 32)).String(), Subnet: benchAddress.Masked().String(),
		Chargers: benchChargers, Quiet: b.quiet,
	}
}

// fill returns a configuration.
func (b *bench) fill(name string, f facts) (string, error) {
	t, err := template.ParseFiles(filepath.Join(b.configs, name))
	if err != nil {
		return "", fmt.Errorf("reading a configuration of the bench: %w; it is run from the project's directory, or with -configs", err)
	}
	var text strings.Builder
	if err := t.Execute(&text, f); err != nil {
		return "", err
	}
	return text.String(), nil
}

// gate is chargegated.
type gate struct {
	*bench
	stand *sim.Stand
}

func (g *gate) Name() string      { return "chargegate" }
func (g *gate) Stand() *sim.Stand { return g.stand }

func (g *gate) Version() string { return said(filepath.Join(g.bin, "chargegated"), "-version") }

func (g *gate) Open(ctx context.Context) error {
	text, err := g.fill("chargegate.toml", g.facts("garage-p1", ""))
	if err != nil {
		return err
	}
	g.stand, err = sim.OpenStand(ctx, sim.StandOptions{Bin: g.bin, Config: text, Listed: benchChargers, CPUs: g.server})
	return err
}

func (g *gate) Close() { g.stand.Close() }

func (g *gate) Start(ctx context.Context, leases string) (*sim.Program, error) {
	if g.stand.Address != benchAddress {
		return nil, fmt.Errorf("chargegate chose %s, and the others are given %s", g.stand.Address, benchAddress)
	}
	g.stand.Gateway.State = leases
	_, err := g.stand.Gateway.StartDaemon(ctx)
	return g.stand.Gateway.Daemon, err
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

// A peerKind is a server of somebody else.
type peerKind struct {
	name, program, config string
	version               []string
	args                  func(config string) []string
	env                   []string
	ready                 string // what it says when it is
}

// peers are those of docs/design.md that a garage could have in our place.
var peers = []peerKind{
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

func peerNames() []string {
	var names []string
	for _, p := range peers {
		names = append(names, p.name)
	}
	return names
}

// peer is one of them on its stand.
type peer struct {
	*bench
	peerKind
	stand *sim.Stand
}

func (p *peer) Name() string           { return p.name }
func (p *peer) Stand() *sim.Stand      { return p.stand }
func (p *peer) Close()                 { p.stand.Close() }
func (p *peer) Syncs() (float64, bool) { return 0, false }

func (p *peer) Version() string { return said(p.program, p.peerKind.version...) }

func (p *peer) Open(ctx context.Context) (err error) {
	p.stand, err = sim.OpenStand(ctx, sim.StandOptions{Address: benchAddress, CPUs: p.server})
	return err
}

func (p *peer) Start(ctx context.Context, leases string) (*sim.Program, error) {
	text, err := p.fill(p.config, p.facts(p.stand.Iface, leases))
	if err != nil {
		return nil, err
	}
	// A pidfile of the one before would make it believe that it runs already.
	config := filepath.Join(sim.Dir, p.config)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		program, err := p.launch(ctx, config)
		if err == nil || try == starts || ctx.Err() != nil {
			return program, err
		}
	}
}

// A peer that is not ready in time is started anew: kea now and then hangs in its
// start.
const (
	starts      = 3
	readyWithin = 6 * time.Second
)

// launch starts it once.
func (p *peer) launch(ctx context.Context, config string) (*sim.Program, error) {
	if err := os.RemoveAll(filepath.Join(sim.Dir, p.program+".log")); err != nil { // what it said before
		return nil, err
	}
	program, err := p.stand.Launch(p.env, p.program, p.args(config)...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := program.WaitSaid(ctx, p.ready); err != nil {
		program.Stop()
		return nil, err
	}
	return program, nil
}

// said is the first line of what a program says of itself.
func said(name string, args ...string) string {
	path, err := sim.Find(name)
	if err != nil {
		return err.Error()
	}
	text, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(first)
}

// straced is how many new bindings are made while the syncs are counted.
const straced = 200

// countSyncs counts the syncs for new bindings with strace, which slows the
// server down: nothing else is measured meanwhile.
func (b *bench) countSyncs(ctx context.Context, s contestant, got results) error {
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
