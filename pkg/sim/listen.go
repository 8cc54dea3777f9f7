package sim

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"time"
)

// command is exec.Command for a program that may lie where an ordinary user
// does not look. It fails with the Debian package's name.
func command(name string, args ...string) (*exec.Cmd, error) {
	path, err := Find(name)
	if err != nil {
		return nil, err
	}
	return exec.Command(path, args...), nil
}

// listenTCP listens in the namespace.
func (s *Space) listenTCP(addr string) (l net.Listener, err error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	err = s.Do(func() (err error) {
		l, err = lc.Listen(context.Background(), "tcp4", addr)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listening in %s: %w", s.Name, err)
	}
	return l, nil
}

// listenUDP listens in the namespace.
func (s *Space) listenUDP(addr string) (p net.PacketConn, err error) {
	err = s.Do(func() (err error) {
		p, err = net.ListenPacket("udp4", addr)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listening in %s: %w", s.Name, err)
	}
	return p, nil
}

// Dial connects from the namespace, for at most five seconds. addr must be an
// address with a port.
func (s *Space) Dial(network, addr string) (c net.Conn, err error) {
	err = s.Do(func() (err error) {
		d := net.Dialer{Timeout: 5 * time.Second}
		c, err = d.Dial(network, addr)
		return err
	})
	return c, err
}

// listens reports whether a TCP connection from inside the namespace succeeds.
func (s *Space) listens(addr netip.AddrPort) bool {
	c, err := s.Dial("tcp4", addr.String())
	if err == nil {
		c.Close()
	}
	return err == nil
}
