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
func originalDestination(conn *net.TCPConn) (netip.AddrPort, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var to netip.AddrPort
	var oerr error
	if err := raw.Control(func(fd uintptr) {
		// The option fills in a sockaddr_in. x/sys has no call for that, but
		// this one reads as many bytes into an array: port in 2 and 3, address in
		// 4 to 7.
		var m *unix.IPv6Mreq
		if m, oerr = unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, unix.SO_ORIGINAL_DST); oerr == nil {
			b := m.Multiaddr
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
		}
	}); err != nil {
		return netip.AddrPort{}, err
	}
	return to, oerr
}

// destination returns where a caller wanted to go, or errDirect, errOutsider or
// what the kernel said.
func (s *Server) destination(conn *net.TCPConn, caller netip.Addr) (netip.AddrPort, error) {
	if !slices.ContainsFunc(s.cfg.Networks, func(p netip.Prefix) bool { return p.Contains(caller) }) {
		return netip.AddrPort{}, errOutsider
	}
	to, err := s.original(conn)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOPROTOOPT) {
		return netip.AddrPort{}, errDirect // no NAT entry: nobody redirected it
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("asking for the original destination: %w", err)
	}
	// A connection that is not redirected, but known to conntrack, gives back
	// the address it came in on.
	if to == conn.LocalAddr().(*net.TCPAddr).AddrPort() || slices.Contains(s.cfg.Listen, to) {
		return netip.AddrPort{}, errDirect
	}
	return to, nil
}
