package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Why a caller has no destination.
var (
	errDirect   = errors.New("it called the proxy itself")
	errOutsider = errors.New("it is in none of the chargers' networks")
)

// originalDestination asks the kernel where a redirected connection wanted to
// go (SO_ORIGINAL_DST, netfilter_ipv4.h). Without a redirect there is no such
// entry.
func originalDestination(fd int) (netip.AddrPort, error) {
	// The option fills in a sockaddr_in. x/sys has no call for that, but
	// this one reads as many bytes into an array: port in 2 and 3, address in
	// 4 to 7.
	m, err := unix.GetsockoptIPv6Mreq(fd, unix.IPPROTO_IP, unix.SO_ORIGINAL_DST)
	if err != nil {
		return netip.AddrPort{}, err
	}
	b := m.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3])), nil
}

// destinationOf is destination for a connection.
func (s *Server) destinationOf(conn *net.TCPConn, v visit) (to netip.AddrPort, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	if cerr := raw.Control(func(fd uintptr) { to, err = s.destination(int(fd), v.caller, v.at) }); cerr != nil {
		return netip.AddrPort{}, cerr
	}
	return to, err
}

// destination returns where a caller that came in at an address wanted to go, or errDirect, errOutsider or
// what the kernel said.
func (s *Server) destination(fd int, caller netip.Addr, at netip.AddrPort) (netip.AddrPort, error) {
	if !slices.ContainsFunc(s.cfg.Networks, func(p netip.Prefix) bool { return p.Contains(caller) }) {
		return netip.AddrPort{}, errOutsider
	}
	to, err := s.original(fd)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOPROTOOPT) {
		return netip.AddrPort{}, errDirect // no NAT entry: nobody redirected it
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("asking for the original destination: %w", err)
	}
	// A connection that is not redirected, but known to conntrack, gives back
	// the address it came in on.
	if to == at || slices.Contains(s.cfg.Listen, to) {
		return netip.AddrPort{}, errDirect
	}
	return to, nil
}
