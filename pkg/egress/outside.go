package egress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// privately are the addresses that networks use behind their own doors: RFC 1918,
// and RFC 6598 behind a carrier's NAT. A name may lead there when its rule says
// so.
var privately = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"),
}

// never are ranges beyond those that netip knows which no server on the Internet
// has (RFC 6890): protocol assignments, and networks for measuring routers.
var never = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"),
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// isPrivate reports whether an address is one that a rule must name.
func isPrivate(a netip.Addr) bool { return contains(privately, a) }

// errPrivate is why a private address is not dialled.
var errPrivate = errors.New("is private and the rule does not name it")

// outside reports why an address is never dialled, whatever the rules say, or nil.
// A name may have any address that its owner likes; the answer must not turn the
// proxy against the networks it guards, against this box, or against what answers
// on link-local addresses (the metadata services of clouds, 169.254.169.254).
// The ranges for documentation (RFC 5737) are let through: nobody has them.
func outside(cfg Config, a netip.Addr) error {
	a = a.Unmap()
	switch {
	case !a.Is4():
		return fmt.Errorf("%s is not an IPv4 address", a)
	case a.IsLoopback():
		return fmt.Errorf("%s is a loopback address", a)
	case a.IsLinkLocalUnicast():
		return fmt.Errorf("%s is a link-local address", a)
	case a.IsMulticast():
		return fmt.Errorf("%s is a multicast address", a)
	case contains(never, a):
		return fmt.Errorf("%s is no server's address", a)
	}
	for _, p := range cfg.Networks {
		if p.Contains(a) {
			return fmt.Errorf("%s is in the chargers' network %s", a, p)
		}
	}
	if slices.ContainsFunc(cfg.Listen, func(l netip.AddrPort) bool { return l.Addr() == a }) {
		return fmt.Errorf("%s is this box", a)
	}
	return nil
}

// elsewhere asks the kernel whether an address is this box's own, or a broadcast
// on one of its networks, and says so. Addresses come and go with the uplink's
// lease, so it is asked each time: it is one question to the routing table.
func elsewhere(a netip.Addr) error {
	kind, _, err := routeTo(a)
	if err != nil {
		return fmt.Errorf("whether %s is this box cannot be told: %w", a, err)
	}
	switch kind {
	case unix.RTN_LOCAL:
		return fmt.Errorf("%s is this box", a)
	case unix.RTN_BROADCAST, unix.RTN_ANYCAST, unix.RTN_MULTICAST:
		return fmt.Errorf("%s is not the address of a single host", a)
	}
	return nil
}

// anywhere is an address to which only a default route leads (RFC 5737).
var anywhere = netip.AddrFrom4([4]byte{192, 0, 2, 1})

// hasWayOut asks the kernel whether this box has a default route, and the interface
// that it leads over a link. Where that cannot be told it has.
func hasWayOut() bool {
	kind, over, err := routeTo(anywhere)
	if err != nil {
		return true
	}
	if kind != unix.RTN_UNICAST {
		return false
	}
	link, err := net.InterfaceByIndex(over)
	return err != nil || link.Flags&net.FlagRunning != 0
}

// routeTo returns the type of the route to an IPv4 address (rtnetlink(7),
// RTM_GETROUTE, rtm_type), RTN_UNSPEC where there is none, and the index of the
// interface that it leads over, 0 where it is not known.
func routeTo(a netip.Addr) (kind byte, over int, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(fd)
	const header, route, attribute = unix.SizeofNlMsghdr, unix.SizeofRtMsg, unix.SizeofRtAttr + 4
	var ask [header + route + attribute]byte
	binary.NativeEndian.PutUint32(ask[0:], uint32(len(ask)))
	binary.NativeEndian.PutUint16(ask[4:], unix.RTM_GETROUTE)
	binary.NativeEndian.PutUint16(ask[6:], unix.NLM_F_REQUEST)
	ask[header] = unix.AF_INET
	ask[header+1] = 32 // rtm_dst_len
	binary.NativeEndian.PutUint16(ask[header+route:], attribute)
	binary.NativeEndian.PutUint16(ask[header+route+2:], unix.RTA_DST)
	to := a.As4()
	copy(ask[header+route+unix.SizeofRtAttr:], to[:])
	// Write, not sendto: an unconnected netlink socket speaks to the kernel.
	if _, err := unix.Write(fd, ask[:]); err != nil {
		return 0, 0, err
	}
	var answer [512]byte
	n, err := unix.Read(fd, answer[:]) // the kernel has answered already
	if err != nil {
		return 0, 0, err
	}
	switch kind := binary.NativeEndian.Uint16(answer[4:]); {
	case kind == unix.RTM_NEWROUTE && n >= header+route:
		return answer[header+7], interfaceOf(answer[header+route : n]), nil // rtm_type
	case kind == unix.NLMSG_ERROR && n >= header+4:
		switch errno := unix.Errno(-int32(binary.NativeEndian.Uint32(answer[header:]))); errno {
		case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL:
			return unix.RTN_UNSPEC, 0, nil // no way there: dialling will say so
		default:
			return 0, 0, errno
		}
	}
	return 0, 0, errors.New("the kernel answered something else")
}

// interfaceOf finds the interface among the attributes of a route (RTA_OIF), or 0.
func interfaceOf(attributes []byte) int {
	for len(attributes) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(attributes))
		if length < unix.SizeofRtAttr || length > len(attributes) {
			return 0
		}
		if binary.NativeEndian.Uint16(attributes[2:]) == unix.RTA_OIF && length == unix.SizeofRtAttr+4 {
			return int(binary.NativeEndian.Uint32(attributes[unix.SizeofRtAttr:]))
		}
		attributes = attributes[min((length+3)&^3, len(attributes)):]
	}
	return 0
}
