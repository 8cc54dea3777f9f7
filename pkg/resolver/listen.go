package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"chargegate/pkg/datagram"

	"golang.org/x/sys/unix"
)

// A socket is one address of Config.Listen, over UDP and TCP.
type socket struct {
	udp *net.UDPConn
	tcp net.Listener
	at  netip.AddrPort
}

func (s socket) close() {
	s.udp.Close()
	s.tcp.Close()
}

// Listen takes every address of the configuration, or none and says which one
// could not be had. Addresses that the machine does not have yet are taken all
// the same (IP_FREEBIND): the access point may come up later, or again.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		return nil
	}
	held := []socket{}
	for _, at := range s.cfg.Listen {
		so, err := take(at)
		if err != nil {
			for _, so := range held {
				so.close()
			}
			return err
		}
		held = append(held, so)
	}
	s.held = held
	return nil
}

// Addrs returns the addresses that are held, in the order of Config.Listen,
// with the real ports where the configuration said 0. UDP and TCP have the same.
func (s *Server) Addrs() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var at []netip.AddrPort
	for _, so := range s.held {
		at = append(at, so.at)
	}
	return at
}

// isOurs reports whether asking an address would be asking ourselves.
func (s *Server) isOurs(at netip.AddrPort) bool {
	if slices.Contains(s.cfg.Listen, at) || slices.Contains(s.Addrs(), at) {
		return true
	}
	return at.Port() == House.Port() && slices.ContainsFunc(s.cfg.Gateways, func(g netip.Prefix) bool {
		return g.Addr() == at.Addr()
	})
}

// take binds one address over UDP and TCP. With port 0 the kernel chooses a
// port for UDP that may be taken for TCP: then another one is tried.
func take(at netip.AddrPort) (socket, error) {
	datagrams := net.ListenConfig{Control: func(network, address string, c syscall.RawConn) error {
		return errors.Join(freebind(network, address, c), datagram.Room(c, udpBuffer, udpOnTheirWay))
	}}
	lc := net.ListenConfig{Control: freebind}
	lc.SetMultipathTCP(false)
	for tries := 0; ; tries++ {
		pc, err := datagrams.ListenPacket(context.Background(), "udp4", at.String())
		if err != nil {
			return socket{}, fmt.Errorf("listening on udp %s: %w", at, err)
		}
		udp := pc.(*net.UDPConn)
		bound := udp.LocalAddr().(*net.UDPAddr).AddrPort()
		bound = netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port())
		tcp, err := lc.Listen(context.Background(), "tcp4", bound.String())
		if err == nil {
			return socket{udp: udp, tcp: tcp, at: bound}, nil
		}
		udp.Close()
		if at.Port() != 0 || tries > 16 || !errors.Is(err, unix.EADDRINUSE) {
			return socket{}, fmt.Errorf("listening on tcp %s: %w", bound, err)
		}
	}
}

func freebind(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	}); e != nil {
		return e
	}
	return err
}
