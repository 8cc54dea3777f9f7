package sim

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// A Squatter is a device with an address that somebody has set by hand. It stands
// where the isolation of the access point does not hold it back: on the wire,
// between the chargers and the gateway, and answers both when they ask by ARP who
// has the address.
type Squatter struct {
	Addr netip.Addr
	MAC  [6]byte
	// ends are its sockets: one hears the chargers and speaks to them, the other
	// the gateway.
	ends []*packet.Conn
	wg   sync.WaitGroup
}

// Squat sets a squatter on an address. It says nothing until it is asked.
func (g *Garage) Squat(network string, addr netip.Addr) (*Squatter, error) {
	a := addr.As4()
	s := &Squatter{Addr: addr, MAC: [6]byte{2, 0, 0, 0x66, a[2], a[3]}}
	for _, space := range []*Space{g.Gateway.Space, g.site} { // what one end of the wire hears, the other has sent
		if err := s.listen(space, ifaceOf(network)); err != nil {
			s.Stop()
			return nil, fmt.Errorf("squatting on %s: %w", addr, err)
		}
	}
	for _, conn := range s.ends {
		s.wg.Go(func() { s.answer(conn) })
	}
	return s, nil
}

func (s *Squatter) listen(space *Space, name string) error {
	return space.Do(func() error {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, nil)
		if err == nil {
			s.ends = append(s.ends, conn)
		}
		return err
	})
}

// Announce tells everybody about the address, as a device does that has just set
// it (RFC 5227, 2.3).
func (s *Squatter) Announce() error {
	frame := arpFrame(s.MAC, s.Addr, s.Addr)
	for _, conn := range s.ends {
		if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
			return fmt.Errorf("announcing %s: %w", s.Addr, err)
		}
	}
	return nil
}

// Stop takes the squatter away.
func (s *Squatter) Stop() {
	for _, conn := range s.ends {
		conn.Close()
	}
	s.wg.Wait()
}

func (s *Squatter) answer(conn *packet.Conn) {
	buf := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		a, ok := parseARP(buf[:n])
		if !ok || a.op != 1 || a.searched != s.Addr || a.senderMAC == s.MAC {
			continue
		}
		answer := arpFrame(s.MAC, s.Addr, a.sender)
		copy(answer, a.senderMAC[:])
		binary.BigEndian.PutUint16(answer[20:], 2)
		copy(answer[32:], a.senderMAC[:])
		conn.WriteTo(answer, &packet.Addr{HardwareAddr: a.senderMAC[:]}) // a lost answer is asked for again
	}
}
