package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// A Stand is where a server stands opposite a crowd or askers: two namespaces and
// a wire, and nothing else but what the uplink is wanted for. The server is the
// real gateway, or any other program.
type Stand struct {
	// Gateway is the box; nil on a stand for another server.
	Gateway *Gateway
	// Space is where the server lives.
	Space *Space
	// Iface is the interface of the network, on both ends of its wire.
	Iface string
	// Address is the server's own.
	Address netip.Prefix

	site   *Space
	beyond *Cloud     // the other end of the uplink; nil: it leads to nobody
	names  *FastNames // there
	crowds []*Crowd
	cpus   []int
}

// StandOptions say what stands there.
type StandOptions struct {
	// Bin is the directory of chargegated and chargegate, whose box is made: any
	// program may stand in it. Empty: the stand is for another server, with Address.
	Bin     string
	Address netip.Prefix
	// Chargers is how many chargers the network is planned for, and Listed how many
	// clients of the crowd the inventory names. With none there is no inventory.
	Chargers, Listed int
	// Config is the daemon's configuration, with chargers.csv as its inventory.
	// Empty: one for a network with so many chargers.
	Config string
	// State is the directory where the daemon keeps its leases; empty: one in
	// memory.
	State string
	// LogLevel is the daemon's; empty: info.
	LogLevel string
	// CPUs are those that the server may run on; nil: all.
	CPUs []int
	// Names and Time want a resolver and a chronyd behind the uplink of the box.
	Names, Time bool
	// Unlimited lifts the firewall's limits of how much may happen in a second.
	Unlimited bool
}

// OpenStand makes a stand, and prepares the gateway but for the daemon (see
// StartDaemon of Gateway). It must be called inside Enter, and there can be only
// one stand or garage at a time.
func OpenStand(ctx context.Context, o StandOptions) (*Stand, error) {
	s := &Stand{Iface: ifaceOf("P1"), Address: o.Address, cpus: o.CPUs}
	if err := s.build(ctx, o); err != nil {
		s.Close()
		return nil, fmt.Errorf("making a stand: %w", err)
	}
	return s, nil
}

func (s *Stand) build(ctx context.Context, o StandOptions) (err error) {
	if s.site, err = home("site"); err != nil {
		return err
	}
	if o.Bin == "" {
		s.Space, err = newSpace("gw")
	} else if s.Gateway, err = newGateway(o.Bin); err == nil {
		s.Space = s.Gateway.Space
	}
	if err != nil {
		return err
	}
	if err := s.site.up("lo"); err != nil {
		return err
	}
	if err := s.site.sysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil {
		return err
	}
	if err := s.site.wire(s.Iface, s.Space, s.Iface, [6]byte{2, 0, 0, 1, 0, 0}, [6]byte{0xdc, 0xa6, 0x32, 1, 0, 0}); err != nil {
		return err
	}
	if s.Gateway == nil {
		return s.Space.address(s.Iface, o.Address.String())
	}
	if err := s.lead(ctx, o); err != nil {
		return err
	}
	s.Gateway.State, s.Gateway.CPUs = cmp.Or(o.State, s.Gateway.State), o.CPUs
	if err := s.configure(o); err != nil {
		return err
	}
	if err := s.Gateway.prepare(ctx); err != nil {
		return err
	}
	s.Address = s.Gateway.Addresses[s.Iface]
	if o.Unlimited {
		return s.Gateway.lift(ctx)
	}
	return nil
}

// perSecond is a limit of the rendered firewall.
var perSecond = regexp.MustCompile(`limit rate over \d+/second burst \d+ packets`)

// lift loads the rendered rules again, with limits that nobody reaches.
func (g *Gateway) lift(ctx context.Context) error {
	files, err := rendered(filepath.Join(g.dir, "rendered"))
	if err != nil {
		return err
	}
	for name, text := range files {
		files[name] = perSecond.ReplaceAllString(text, "limit rate over 10000000/second burst 10000000 packets")
	}
	return g.load(ctx, files)
}

// Forward makes the box an ordinary router, without a firewall.
func (s *Stand) Forward(ctx context.Context) error {
	if said, err := s.Space.Run(ctx, "nft", "flush", "ruleset"); err != nil {
		return fmt.Errorf("taking the firewall away: %w: %s", err, said)
	}
	if err := s.Space.sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	return s.beyond.Space.routeTo(uplink, s.Address.Masked(), UplinkAddr)
}

// lead makes the uplink lead to what is wanted there.
func (s *Stand) lead(ctx context.Context, o StandOptions) (err error) {
	if !o.Names && !o.Time {
		return s.site.wireUplink(s.Space)
	}
	space, err := newSpace("cloud")
	if err != nil {
		return err
	}
	s.beyond = &Cloud{Space: space}
	if err := space.wireUplink(s.Space); err != nil {
		return err
	}
	if err := space.address(uplink, RouterAddr+"/24", ResolverAddr+"/32", TimeAddr+"/32"); err != nil {
		return err
	}
	if o.Names {
		if s.names, err = openFastNames(space); err != nil {
			return err
		}
	}
	if o.Time {
		return s.beyond.StartClock(ctx)
	}
	return nil
}

// newGateway makes a gateway that knows nothing of the one before it.
func newGateway(bin string) (*Gateway, error) {
	if err := os.RemoveAll(filepath.Join(Dir, "gw")); err != nil {
		return nil, err
	}
	return openGateway(bin)
}

// configure writes the gateway's files.
func (s *Stand) configure(o StandOptions) error {
	text := cmp.Or(o.Config, configuration(Options{Networks: []Network{{Name: "P1", Chargers: o.Chargers}}, LogLevel: o.LogLevel}))
	return errors.Join(writeFile(s.Gateway.Config, text), s.List(o.Listed))
}

// List writes an inventory with the first clients of a crowd; with none it names
// nobody. The daemon reads it when it is started.
func (s *Stand) List(clients int) error {
	var b strings.Builder
	b.WriteString("mac,name,serial,model,network\n")
	for i := range clients {
		fmt.Fprintf(&b, "%s,%s,%s,Go,P1\n", hw(crowdMAC(i)), chargerName("P1", i), serial(0, i))
	}
	return writeFile(filepath.Join(s.Gateway.dir, "chargers.csv"), b.String())
}

// Crowd opens a crowd of those that the inventory names, or may name.
func (s *Stand) Crowd() (*Crowd, error) { return s.open(crowdMAC) }

// Strangers opens a crowd of devices that the inventory never names.
func (s *Stand) Strangers() (*Crowd, error) { return s.open(strangerMAC) }

func (s *Stand) open(mac func(int) [6]byte) (*Crowd, error) {
	c, err := s.site.openCrowd(s.Iface, mac)
	if err == nil {
		s.crowds = append(s.crowds, c)
	}
	return c, err
}

// Forget removes everything that the daemon keeps across starts. It must be
// stopped.
func (s *Stand) Forget() error { return os.RemoveAll(s.Gateway.State) }

// Launch starts another server, with these variables more in its environment.
func (s *Stand) Launch(env []string, name string, args ...string) (*Program, error) {
	cmd, err := command(name, args...)
	if err != nil {
		return nil, err
	}
	cmd.Env = append(os.Environ(), env...)
	return s.Space.launch(name, cmd, disguise{CPUs: s.cpus})
}

// WaitSaid waits until a program has said a text.
func (p *Program) WaitSaid(ctx context.Context, text string) error {
	return waitFor(ctx, fmt.Sprintf("%s to say %q", p.Name, text), p, func() bool { return strings.Contains(p.Said(), text) })
}

// Close ends what stands there.
func (s *Stand) Close() {
	for _, c := range s.crowds {
		c.Close()
	}
	if s.names != nil {
		s.names.close()
	}
	if s.beyond != nil {
		s.beyond.close()
	}
	switch {
	case s.Gateway != nil:
		s.Gateway.close()
	case s.Space != nil:
		s.Space.close()
	}
	if s.site != nil {
		s.unwire()
		s.site.close()
	}
}

// unwire takes the site's ends of the wires away at once: the next stand has
// some of the same name, and the kernel takes its time with a namespace.
func (s *Stand) unwire() {
	for _, name := range []string{s.Iface, uplink} {
		if link, err := s.site.nl.LinkByName(name); err == nil {
			s.site.nl.LinkDel(link)
		}
	}
}

// OnDisk says what kind of disk a directory is on, and whether it outlasts a
// power cut.
func OnDisk(dir string) (kind string, lasts bool, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return "", false, fmt.Errorf("asking where %s is: %w", dir, err)
	}
	known := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.F2FS_SUPER_MAGIC: "f2fs"}
	switch kind, ok := known[int64(fs.Type)]; {
	case int64(fs.Type) == unix.TMPFS_MAGIC || int64(fs.Type) == unix.RAMFS_MAGIC:
		return "memory", false, nil
	case ok:
		return kind, true, nil
	}
	return fmt.Sprintf("file system %#x", fs.Type), true, nil
}
