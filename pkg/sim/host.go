package sim

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Host is a guest of the inventory in a namespace of its own, with one
// interface, for real programs: one more device in the garage.
type Host struct {
	Guest
	Space *Space
	// Iface is the name of its interface.
	Iface string
	MAC   [6]byte
	// Resolv is the file that its programs see as /etc/resolv.conf.
	Resolv string
	dir    string
	binds  map[string]string
}

// Host makes a guest of the inventory a host, or returns the one made before.
// It has no address yet.
func (g *Garage) Host(name string) (*Host, error) {
	if h := g.hosts[name]; h != nil {
		return h, nil
	}
	i := slices.IndexFunc(g.Options.Guests, func(guest Guest) bool { return guest.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("%s is no guest of this garage", name)
	}
	h := &Host{Guest: g.Options.Guests[i], Iface: "wlan0", MAC: guestMAC(i), dir: filepath.Join(Dir, "host-"+name)}
	h.Resolv = filepath.Join(h.dir, "resolv.conf")
	h.binds = map[string]string{"/etc/resolv.conf": h.Resolv}
	if err := writeFile(h.Resolv, ""); err != nil {
		return nil, err
	}
	var err error
	if h.Space, err = newSpace("host-" + name); err != nil {
		return nil, err
	}
	g.hosts[name] = h
	return h, h.plugIn(g.site, ifaceOf(h.Network), i)
}

// plugIn hangs the host's interface on the wire of its network.
func (h *Host) plugIn(site *Space, wire string, i int) error {
	device, err := newDevice(fmt.Sprintf("guest%d", i), wire, h.MAC)
	if err != nil {
		return err
	}
	if err := site.nl.LinkSetNsFd(device.link, int(h.Space.fd)); err != nil {
		return fmt.Errorf("moving the interface of %s: %w", h.Name, err)
	}
	link, err := h.Space.nl.LinkByName(device.name)
	if err == nil {
		err = h.Space.nl.LinkSetName(link, h.Iface)
	}
	if err != nil {
		return fmt.Errorf("naming the interface of %s: %w", h.Name, err)
	}
	return h.Space.up(h.Iface)
}

// Hide makes the host's programs see text in the place of a file of the machine.
func (h *Host) Hide(target, text string) error {
	source := filepath.Join(h.dir, fmt.Sprintf("hidden-%d", len(h.binds)))
	if err := writeFile(source, text); err != nil {
		return err
	}
	h.binds[target] = source
	return nil
}

// HideDir makes the host's programs see an empty directory in the place of one
// of the machine.
func (h *Host) HideDir(target string) error {
	source := filepath.Join(h.dir, fmt.Sprintf("hidden-%d", len(h.binds)))
	h.binds[target] = source
	return os.MkdirAll(source, 0o755)
}

// File writes a file that belongs to the host and returns its path. With a mode
// that says so it can be executed.
func (h *Host) File(name, text string, mode os.FileMode) (string, error) {
	path := filepath.Join(h.dir, name)
	if err := writeFile(path, text); err != nil {
		return "", err
	}
	return path, os.Chmod(path, mode)
}

// disguise is what the host's programs find changed. None may set the clock, which
// is the machine's: clients of NTP run here.
func (h *Host) disguise() disguise {
	d := disguise{Binds: maps.Clone(h.binds)}
	for c := range unix.CAP_LAST_CAP + 1 {
		if c != unix.CAP_SYS_TIME {
			d.Caps = append(d.Caps, c)
		}
	}
	return d
}

// Run runs a real program on the host until it ends or ctx is done, and returns
// everything that it printed. The error tells its exit code.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	cmd, err := command(name, args...)
	if err != nil {
		return "", err
	}
	return h.RunCmd(ctx, cmd)
}

// RunCmd is Run for a command that somebody has put together.
func (h *Host) RunCmd(ctx context.Context, cmd *exec.Cmd) (string, error) {
	if err := h.disguise().wear(cmd); err != nil {
		return "", err
	}
	return h.Space.output(ctx, cmd)
}

// Launch starts a real program on the host that runs until it is stopped.
func (h *Host) Launch(name string, args ...string) (*Program, error) {
	cmd, err := command(name, args...)
	if err != nil {
		return nil, err
	}
	return h.Space.launch(h.Name+"-"+name, cmd, h.disguise())
}

// Addresses are the host's own IPv4 addresses, with the length of the subnet.
func (h *Host) Addresses() ([]string, error) {
	link, err := h.Space.nl.LinkByName(h.Iface)
	if err != nil {
		return nil, err
	}
	addrs, err := h.Space.nl.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, a := range addrs {
		all = append(all, a.IPNet.String())
	}
	return all, nil
}

// Configure gives the host an address, a way out and a resolver by hand, in the
// place of DHCP.
func (h *Host) Configure(b Binding) error {
	if err := h.Space.address(h.Iface, b.Addr.String()); err != nil {
		return err
	}
	if err := h.Space.defaultRoute(h.Iface, b.Router.String()); err != nil {
		return err
	}
	return os.WriteFile(h.Resolv, []byte("nameserver "+b.DNS.String()+"\n"), 0o644)
}

// Reset takes every address and route from the host.
func (h *Host) Reset() error {
	link, err := h.Space.nl.LinkByName(h.Iface)
	if err != nil {
		return err
	}
	addrs, err := h.Space.nl.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if err := h.Space.nl.AddrDel(link, &a); err != nil && err != unix.EADDRNOTAVAIL {
			return fmt.Errorf("taking %s from %s: %w", a.IPNet, h.Name, err)
		}
	}
	return os.WriteFile(h.Resolv, nil, 0o644)
}

func (h *Host) close() { h.Space.close() }
