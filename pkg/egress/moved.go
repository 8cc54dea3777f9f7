package egress

import (
	"errors"
	"net"
	"net/netip"

	"chargegate/pkg/carry"

	"golang.org/x/sys/unix"
)

// errMoved is why a conversation ends whose address on the uplink is no longer
// ours: nothing can be sent from it any more, and nothing that is sent to it
// arrives here. The kernel would keep it for two minutes more (F-5).
var errMoved = errors.New("the gateway has another address on the uplink")

// address is the one that the server knows this box by.
func (c *conversation) address() netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.local.IsValid() {
		return c.local
	}
	// Of a pair that has ended meanwhile the descriptor may be somebody else's. That
	// does no harm: nothing can be done to it any more.
	if sa, err := unix.Getsockname(c.pair.Sockets[carry.Far]); err == nil {
		if in, ok := sa.(*unix.SockaddrInet4); ok {
			c.local = netip.AddrFrom4(in.Addr)
		}
	}
	return c.local
}

// followUplink resets the conversations that leave from an address which this
// box has lost and replaced by another.
func (s *Server) followUplink(open []*conversation) {
	lost := map[netip.Addr]bool{}
	for _, c := range open {
		local := c.address()
		is, known := lost[local]
		if !known {
			is = local.IsValid() && replaced(local, c.remote)
			lost[local] = is
		}
		if is {
			s.carrier.Reset(c.pair, errMoved)
		}
	}
}

// replaced reports whether an address is no longer this box's, while another one
// leads to a server. An address that is only gone may come back, as when the
// uplink's cable is put in again: the conversation survives that.
func replaced(local netip.Addr, server netip.AddrPort) bool {
	own, err := net.ListenUDP("udp4", &net.UDPAddr{IP: local.AsSlice()})
	if err == nil {
		own.Close()
	}
	if !errors.Is(err, unix.EADDRNOTAVAIL) {
		return false
	}
	way, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(server)) // no packet leaves
	if err != nil {
		return false
	}
	defer way.Close()
	return way.LocalAddr().(*net.UDPAddr).AddrPort().Addr() != local
}
