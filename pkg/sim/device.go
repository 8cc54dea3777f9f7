package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A device is the network side of a charger: a macvlan of its own on the wire
// to the gateway. Its mode is private, which is what an access point with
// isolation of its clients does: devices never hear each other. All live in one
// namespace, and every socket is bound to its own.
type device struct {
	name  string
	mac   [6]byte
	index int
	link  netlink.Link
	addr  *netlink.Addr // nil: none
	space *Space        // where it is; nil: in the program's own namespace
}

// newDevice makes a device on the wire called parent, in the program's own
// namespace. It is down.
func newDevice(name, parent string, mac [6]byte) (*device, error) {
	on, err := netlink.LinkByName(parent)
	if err != nil {
		return nil, fmt.Errorf("finding the wire %s: %w", parent, err)
	}
	vlan := &netlink.Macvlan{
		LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: on.Attrs().Index, HardwareAddr: mac[:], TxQLen: 1000},
		Mode:      netlink.MACVLAN_MODE_PRIVATE,
	}
	if err := netlink.LinkAdd(vlan); err != nil {
		return nil, fmt.Errorf("making the device %s: %w", name, err)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("finding the device %s: %w", name, err)
	}
	return &device{name: name, mac: mac, index: link.Attrs().Index, link: link}, nil
}

// take gives the device its address and its way out. Every device has a default
// route; a socket that is bound to one finds that one's.
func (d *device) take(b Binding) error {
	if err := d.drop(); err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: ipNet(b.Addr), Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE}
	if err := netlink.AddrReplace(d.link, addr); err != nil {
		return fmt.Errorf("giving %s the address %s: %w", d.name, b.Addr, err)
	}
	d.addr = addr
	near := &netlink.Route{
		LinkIndex: d.index, Dst: ipNet(b.Addr.Masked()), Src: b.Addr.Addr().AsSlice(),
		Scope: netlink.SCOPE_LINK, Priority: d.index,
	}
	if err := netlink.RouteReplace(near); err != nil {
		return fmt.Errorf("routing %s to its neighbours: %w", d.name, err)
	}
	if !b.Router.IsValid() {
		return nil
	}
	far := &netlink.Route{LinkIndex: d.index, Gw: b.Router.AsSlice(), Src: b.Addr.Addr().AsSlice(), Priority: d.index}
	if err := netlink.RouteReplace(far); err != nil {
		return fmt.Errorf("routing %s by %s: %w", d.name, b.Router, err)
	}
	return nil
}

// drop takes the address, and with it the routes, from the device.
func (d *device) drop() error {
	if d.addr == nil {
		return nil
	}
	if err := netlink.AddrDel(d.link, d.addr); err != nil {
		return fmt.Errorf("taking %s from %s: %w", d.addr.IPNet, d.name, err)
	}
	d.addr = nil
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// bind is the Control of net.Dialer and net.ListenConfig that keeps a socket on
// this device.
func (d *device) bind(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = errors.Join(
			unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, d.name),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1))
	})
	return errors.Join(err, failed)
}

// dialer connects from this device.
func (d *device) dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, Control: d.bind}
}

// dial connects from this device, wherever it is.
func (d *device) dial(ctx context.Context, timeout time.Duration, network string, to netip.AddrPort) (c net.Conn, err error) {
	if d.space == nil {
		return d.dialer(timeout).DialContext(ctx, network, to.String())
	}
	err = d.space.Do(func() (err error) {
		c, err = d.dialer(timeout).DialContext(ctx, network, to.String())
		return err
	})
	return c, err
}

// A bootWire is what a charger speaks DHCP and ARP on while it has no address.
type bootWire struct{ conn *packet.Conn }

func (d *device) openBootWire(filter []bpf.RawInstruction) (*bootWire, error) {
	ifi := &net.Interface{Index: d.index, Name: d.name, HardwareAddr: d.mac[:], MTU: 1500}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket on %s: %w", d.name, err)
	}
	return &bootWire{conn}, nil
}

func (w *bootWire) send(frame []byte) error {
	_, err := w.conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
	return err
}

// A heardFrame is what came in: one of the two, or neither when the time was
// up.
type heardFrame struct {
	dhcp *dhcpv4.DHCPv4
	from net.HardwareAddr
	arp  *arp
}

// hear waits, until the socket's deadline, for a DHCP message or an ARP packet.
// Whatever cannot be read is passed over.
func (w *bootWire) hear(buf []byte) (heardFrame, error) {
	for {
		n, _, err := w.conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return heardFrame{}, nil
		}
		if err != nil {
			return heardFrame{}, err
		}
		if a, ok := parseARP(buf[:n]); ok {
			return heardFrame{arp: &a}, nil
		}
		if m, err := dhcpv4.FromBytes(dhcpPayload(buf[:n])); err == nil {
			return heardFrame{dhcp: m, from: net.HardwareAddr(append([]byte{}, buf[6:12]...))}, nil
		}
	}
}

// openLeaseWire opens what a charger that has an address renews its lease on.
func (d *device) openLeaseWire(ctx context.Context) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: d.bind}
	p, err := lc.ListenPacket(ctx, "udp4", "0.0.0.0:68")
	if err != nil {
		return nil, fmt.Errorf("opening port 68 on %s: %w", d.name, err)
	}
	return p.(*net.UDPConn), nil
}
