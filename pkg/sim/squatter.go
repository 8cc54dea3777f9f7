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

// squatterMAC is somebody's who has set an address by hand.
var squatterMAC = [6]byte{2, 0, 0, 0, 0, 0x66}

// Squat lets somebody answer for an address who has set it by hand. It stands
// where the isolation of the access point does not hold it back: on the wire.
// The function returned ends it.
func (g *Garage) Squat(network string, addr netip.Addr) (stop func(), err error) {
	var conn *packet.Conn
	err = g.Gateway.Space.Do(func() error {
		ifi, err := net.InterfaceByName(ifaceOf(network))
		if err != nil {
			return err
		}
		conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("squatting on %s: %w", addr, err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { squat(conn, addr) })
	return func() { conn.Close(); wg.Wait() }, nil
}

func squat(conn *packet.Conn, addr netip.Addr) {
	buf := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		a, ok := parseARP(buf[:n])
		if !ok || a.op != 1 || a.searched != addr || a.senderMAC == squatterMAC {
			continue
		}
		answer := arpFrame(squatterMAC, addr, a.sender)
		copy(answer, a.senderMAC[:])
		binary.BigEndian.PutUint16(answer[20:], 2)
		copy(answer[32:], a.senderMAC[:])
		conn.WriteTo(answer, &packet.Addr{HardwareAddr: a.senderMAC[:]}) // a lost answer is asked for again
	}
}
