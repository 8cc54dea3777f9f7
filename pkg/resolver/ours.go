package resolver

import (
	"net"
	"net/netip"
	"slices"
)

// asksUs reports whether asking an address would be asking ourselves: what we
// listen on, however it is written. An address without a host means this box to
// the kernel (connect(2)), and one that we listen on without a host is every
// address of this box.
func (s *Server) asksUs(at netip.AddrPort) bool {
	addr := at.Addr().Unmap()
	if addr.IsUnspecified() {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	at = netip.AddrPortFrom(addr, at.Port())
	if s.isOurs(at) {
		return true
	}
	anywhere := slices.ContainsFunc(append(s.Addrs(), s.cfg.Listen...), func(l netip.AddrPort) bool {
		return l.Addr().IsUnspecified() && l.Port() == at.Port()
	})
	return anywhere && isLocal(addr)
}

// isLocal reports whether an address is one of this box.
func isLocal(addr netip.Addr) bool {
	if addr.IsLoopback() {
		return true
	}
	mine, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(mine, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == addr.WithZone("")
	})
}
