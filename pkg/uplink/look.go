package uplink

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// look asks the kernel about an interface.
func look(name string) (view, error) {
	all, err := net.Interfaces()
	if err != nil {
		return view{}, fmt.Errorf("listing the interfaces: %w", err)
	}
	i := slices.IndexFunc(all, func(i net.Interface) bool { return i.Name == name })
	if i < 0 {
		return view{}, nil
	}
	at := all[i]
	v := view{exists: true, on: at.Flags&net.FlagUp != 0, carrier: at.Flags&net.FlagRunning != 0}
	addrs, err := at.Addrs()
	if err != nil {
		return view{}, fmt.Errorf("listing the addresses of %s: %w", name, err)
	}
	v.addrs = usable(addrs)
	over, err := defaults()
	if err != nil {
		return view{}, err
	}
	v.routes = over[at.Index]
	for _, other := range all {
		if r := over[other.Index]; other.Index != at.Index && (r.four || r.six) {
			v.elsewhere = other.Name
			break
		}
	}
	return v, nil
}

// usable returns the addresses that lead somewhere.
func usable(addrs []net.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		if addr, ok := netip.AddrFromSlice(n.IP); ok && addr.Unmap().IsGlobalUnicast() {
			out = append(out, addr.Unmap())
		}
	}
	return out
}

// defaults returns over which interfaces, by index, default routes lead.
func defaults() (map[int]families, error) {
	rib, err := syscall.NetlinkRIB(syscall.RTM_GETROUTE, syscall.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("listing the routes: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(rib)
	if err != nil {
		return nil, fmt.Errorf("reading the list of routes: %w", err)
	}
	over := map[int]families{}
	for _, m := range messages {
		if m.Header.Type != syscall.RTM_NEWROUTE {
			continue
		}
		four, indices, err := defaultRoute(m)
		if err != nil {
			return nil, fmt.Errorf("reading a route: %w", err)
		}
		for _, i := range indices {
			f := over[i]
			f.four, f.six = f.four || four, f.six || !four
			over[i] = f
		}
	}
	return over, nil
}

// defaultRoute returns the interfaces that a default route leads over, by index,
// and whether it is one of IPv4; none for another route (rtnetlink(7)).
func defaultRoute(m syscall.NetlinkMessage) (four bool, indices []int, err error) {
	if len(m.Data) < unix.SizeofRtMsg {
		return false, nil, fmt.Errorf("%d bytes are no route", len(m.Data))
	}
	family, length, table, kind := m.Data[0], m.Data[1], m.Data[4], m.Data[7]
	if family != unix.AF_INET && family != unix.AF_INET6 || length != 0 || table == unix.RT_TABLE_LOCAL || kind != unix.RTN_UNICAST {
		return false, nil, nil
	}
	attrs, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil {
		return false, nil, err
	}
	for _, a := range attrs {
		switch {
		case a.Attr.Type == unix.RTA_OIF && len(a.Value) == 4:
			indices = append(indices, int(binary.NativeEndian.Uint32(a.Value)))
		case a.Attr.Type == unix.RTA_MULTIPATH:
			indices = append(indices, hops(a.Value)...)
		}
	}
	return family == unix.AF_INET, indices, nil
}

// hops returns the interfaces of a route over several (struct rtnexthop: its
// length, flags, weight and the index).
func hops(b []byte) []int {
	var out []int
	for len(b) >= unix.SizeofRtNexthop {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtNexthop {
			break
		}
		out = append(out, int(binary.NativeEndian.Uint32(b[4:])))
		b = b[min(len(b), (n+3)&^3):]
	}
	return out
}
