package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"chargegate/pkg/egress"
	"chargegate/pkg/sim"
)

// A contestant is a server that is measured.
type contestant interface {
	Name() string
	Version() string
	// Open makes its stand, and Close removes it.
	Open(ctx context.Context) error
	Close()
	Stand() *sim.Stand
	// Start starts it with a directory for what it keeps, and returns when it says
	// that it is ready.
	Start(ctx context.Context, dir string) (*sim.Program, error)
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
	Resolver, Time, Zone      string // what lies beyond the uplink
	Chargers, Proxy           int
	Quiet                     bool
	Called                    []string // names of servers that are called
}

func (b *bench) facts(iface, state string) facts {
	return facts{
		Interface: iface, State: state, Run: sim.Dir,
		Server: benchAddress.Addr().String(), First: benchFirst.String(), Last: benchLast.String(),
		Mask: net.IP(net.CIDRMask(benchAddress.Bits(), 32)).String(), Subnet: benchAddress.Masked().String(),
		Resolver: sim.ResolverAddr, Time: sim.TimeAddr, Zone: sim.BenchZone,
		Chargers: benchChargers, Proxy: egress.Port, Quiet: b.quiet, Called: sim.CalledNames(),
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

func (g *gate) Open(ctx context.Context) (err error) {
	g.stand, err = g.box(ctx)
	return err
}

// box makes a stand with chargegate's box.
func (b *bench) box(ctx context.Context) (*sim.Stand, error) {
	text, err := b.fill("chargegate.toml", b.facts("garage-p1", ""))
	if err != nil {
		return nil, err
	}
	o := b.contest.stand
	o.Bin, o.Config, o.Listed, o.CPUs = b.bin, text, benchChargers, b.server
	stand, err := sim.OpenStand(ctx, o)
	if err == nil && stand.Address != benchAddress {
		stand.Close()
		return nil, fmt.Errorf("chargegate chose %s, and the others are given %s", stand.Address, benchAddress)
	}
	return stand, err
}

func (g *gate) Close() { g.stand.Close() }

func (g *gate) Start(ctx context.Context, dir string) (*sim.Program, error) {
	g.stand.Gateway.State = dir
	if g.contest.stand.Time { // it gives on what its chronyd knows
		if err := g.stand.Gateway.StartClock(ctx); err != nil {
			return nil, err
		}
	}
	_, err := g.stand.Gateway.StartDaemon(ctx)
	return g.stand.Gateway.Daemon, err
}

// A peerKind is a server of somebody else. Without a program it is the kernel, which
// forwards.
type peerKind struct {
	name, program, config string
	version               []string
	args                  func(config string) []string
	env                   []string
	ready                 string // what it says when it is; empty: nothing
	optional              bool   // it is left out where it cannot be had
}

// peer is one of them on its stand.
type peer struct {
	*bench
	peerKind
	stand *sim.Stand
}

func (p *peer) Name() string      { return p.name }
func (p *peer) Stand() *sim.Stand { return p.stand }
func (p *peer) Close()            { p.stand.Close() }

func (p *peer) Version() string { return said(p.program, p.peerKind.version...) }

func (p *peer) Open(ctx context.Context) (err error) {
	if p.boxed {
		p.stand, err = p.box(ctx)
		return err
	}
	p.stand, err = sim.OpenStand(ctx, sim.StandOptions{Address: benchAddress, CPUs: p.server})
	return err
}

func (p *peer) Start(ctx context.Context, dir string) (*sim.Program, error) {
	text, err := p.fill(p.config, p.facts(p.stand.Iface, dir))
	if err != nil {
		return nil, err
	}
	// A pidfile of the one before would make it believe that it runs already.
	config := filepath.Join(sim.Dir, p.config)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		program, err := p.startOnce(ctx, config)
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

// startOnce starts it, and gives up on it when it is not ready in time.
func (p *peer) startOnce(ctx context.Context, config string) (*sim.Program, error) {
	if err := os.RemoveAll(filepath.Join(sim.Dir, p.program+".log")); err != nil { // what it said before
		return nil, err
	}
	program, err := p.stand.Launch(p.env, p.program, p.args(config)...)
	if err != nil {
		return nil, err
	}
	if p.ready == "" {
		return program, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := program.WaitSaid(ctx, p.ready); err != nil {
		program.Stop()
		return nil, err
	}
	return program, nil
}

// router is the box without any server: its kernel forwards what the others carry.
type router struct {
	*bench
	stand *sim.Stand
}

func (r *router) Name() string      { return direct }
func (r *router) Version() string   { return "forwarded by the kernel, without a proxy and a firewall" }
func (r *router) Stand() *sim.Stand { return r.stand }
func (r *router) Close()            { r.stand.Close() }

func (r *router) Open(ctx context.Context) (err error) {
	r.stand, err = r.box(ctx)
	return err
}

func (r *router) Start(ctx context.Context, _ string) (*sim.Program, error) {
	return nil, r.stand.Forward(ctx)
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
