package sim

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Space is a network namespace of the garage, with a name under /run/netns so
// that `ip netns exec` finds it too.
type Space struct {
	Name string
	fd   netns.NsHandle
	nl   *netlink.Handle
}

// home is the namespace that the program itself lives in. Its sockets need no
// detour, which is why the many chargers live there.
func home(name string) (*Space, error) {
	file := filepath.Join("/run/netns", name)
	if err := os.WriteFile(file, nil, 0o444); err != nil {
		return nil, err
	}
	if err := unix.Mount("/proc/self/ns/net", file, "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("naming the namespace %s: %w", name, err)
	}
	return openSpace(name)
}

// newSpace makes a network namespace whose loopback is up.
func newSpace(name string) (*Space, error) {
	err := onOwnThread(func() error {
		fd, err := netns.NewNamed(name)
		if err == nil {
			fd.Close()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("making the namespace %s: %w", name, err)
	}
	s, err := openSpace(name)
	if err != nil {
		return nil, err
	}
	return s, s.up("lo")
}

func openSpace(name string) (*Space, error) {
	fd, err := netns.GetFromName(name)
	if err != nil {
		return nil, fmt.Errorf("opening the namespace %s: %w", name, err)
	}
	nl, err := netlink.NewHandleAt(fd, unix.NETLINK_ROUTE)
	if err != nil {
		fd.Close()
		return nil, fmt.Errorf("speaking with the kernel of %s: %w", name, err)
	}
	return &Space{Name: name, fd: fd, nl: nl}, nil
}

// close lets the namespace go. The kernel ends it with its last process.
func (s *Space) close() {
	s.nl.Close()
	s.fd.Close()
	if unix.Unmount("/run/netns/"+s.Name, unix.MNT_DETACH) == nil {
		os.Remove("/run/netns/" + s.Name)
	}
}

// Do runs f on a thread that is in the namespace. Sockets that f opens stay
// there for good; goroutines that f starts are not.
func (s *Space) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(s.fd); err != nil {
			return fmt.Errorf("entering the namespace %s: %w", s.Name, err)
		}
		return f()
	})
}

// onOwnThread runs f on a thread of its own, which goes back to where it came
// from; one that cannot ends with its goroutine.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		from, err := netns.Get()
		if err != nil {
			done <- fmt.Errorf("finding the thread's namespace: %w", err)
			return
		}
		defer from.Close()
		err = f()
		if netns.Set(from) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// start starts a program in the namespace: a child belongs to the namespace of
// the thread that starts it.
func (s *Space) start(cmd *exec.Cmd) error { return s.Do(cmd.Start) }

// sysctl sets a switch of the namespace: sysctl("net/ipv4/ip_forward", "0").
func (s *Space) sysctl(name, value string) error {
	return s.Do(func() error {
		err := os.WriteFile("/proc/sys/"+name, []byte(value), 0)
		if err != nil {
			return fmt.Errorf("setting %s to %s in %s: %w", strings.ReplaceAll(name, "/", "."), value, s.Name, err)
		}
		return nil
	})
}

// up switches an interface on.
func (s *Space) up(name string) error {
	link, err := s.nl.LinkByName(name)
	if err == nil {
		err = s.nl.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("switching %s of %s on: %w", name, s.Name, err)
	}
	return nil
}

// address gives an interface an address: "203.0.113.1/24".
func (s *Space) address(name string, addrs ...string) error {
	link, err := s.nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding %s of %s: %w", name, s.Name, err)
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err == nil {
			addr.Flags = unix.IFA_F_NODAD
			err = s.nl.AddrReplace(link, addr)
		}
		if err != nil {
			return fmt.Errorf("giving %s of %s the address %s: %w", name, s.Name, a, err)
		}
	}
	return nil
}

// wire connects an interface of s with one of other, and switches both on.
func (s *Space) wire(name string, other *Space, otherName string, mac, otherMAC [6]byte) error {
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: name, HardwareAddr: mac[:], TxQLen: 1000})
	veth.PeerName, veth.PeerHardwareAddr = otherName, otherMAC[:]
	veth.PeerNamespace = netlink.NsFd(other.fd)
	if err := s.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("wiring %s of %s to %s of %s: %w", name, s.Name, otherName, other.Name, err)
	}
	if err := s.up(name); err != nil {
		return err
	}
	return other.up(otherName)
}

// defaultRoute sends everything that is not near by way of an address.
func (s *Space) defaultRoute(name, via string) error {
	link, err := s.nl.LinkByName(name)
	if err == nil {
		err = s.nl.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(via)})
	}
	if err != nil {
		return fmt.Errorf("routing %s by %s: %w", s.Name, via, err)
	}
	return nil
}

// know tells the kernel a neighbour's hardware address for good.
func (s *Space) know(index int, addr netip.Addr, mac net.HardwareAddr) error {
	return s.nl.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: addr.AsSlice(), HardwareAddr: mac})
}
