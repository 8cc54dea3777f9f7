package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// A Forger writes whole frames on a host's interface, past the host's own kernel:
// with any address, of any protocol, whole or not.
type Forger struct {
	// MAC is the host's own, Gateway that of the gateway on its network.
	MAC, Gateway [6]byte
	conn         *packet.Conn
}

// Forge opens a forger on a host that is plugged in.
func (g *Garage) Forge(h *Host) (*Forger, error) {
	i := slices.IndexFunc(g.Options.Networks, func(n Network) bool { return n.Name == h.Network })
	f := &Forger{MAC: h.MAC, Gateway: gatewayMAC(i)}
	err := h.Space.Do(func() error {
		ifi, err := net.InterfaceByName(h.Iface)
		if err != nil {
			return err
		}
		f.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket on %s: %w", h.Name, err)
	}
	return f, nil
}

// Close ends the forger.
func (f *Forger) Close() { f.conn.Close() }

// Send writes frames. What the wire cannot hold at once is written a moment later;
// what it refuses, as too short or too long, is passed over.
func (f *Forger) Send(frames ...[]byte) error {
	for _, frame := range frames {
		for tries := 0; ; tries++ {
			_, err := f.conn.WriteTo(frame, &packet.Addr{HardwareAddr: f.Gateway[:]})
			if errors.Is(err, unix.ENOBUFS) && tries < 100 {
				time.Sleep(time.Millisecond)
				continue
			}
			if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EMSGSIZE) && !errors.Is(err, unix.ENOBUFS) {
				return fmt.Errorf("writing a frame: %w", err)
			}
			break
		}
	}
	return nil
}

// Hear returns the first frame that comes from the gateway within d and matches,
// or nil.
func (f *Forger) Hear(d time.Duration, match func(frame []byte) bool) ([]byte, error) {
	f.conn.SetReadDeadline(time.Now().Add(d))
	buf := make([]byte, 65536)
	for {
		n, _, err := f.conn.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("listening for answers: %w", err)
		}
		if n >= 14 && [6]byte(buf[6:12]) == f.Gateway && match(buf[:n]) {
			return buf[:n], nil
		}
	}
}

// To puts a packet into a frame from the host to the gateway.
func (f *Forger) To(ether uint16, packet []byte) []byte {
	return Frame(f.MAC, f.Gateway, ether, packet)
}

// Announce is an ARP packet that says to everybody that the host has an address
// (RFC 5227, 2.3).
func (f *Forger) Announce(addr netip.Addr) []byte { return arpFrame(f.MAC, addr, addr) }

// gatewayMAC is the gateway's hardware address on a network.
func gatewayMAC(network int) [6]byte { return [6]byte{0xdc, 0xa6, 0x32, 1, 0, byte(network)} }

// Frame is an Ethernet frame.
func Frame(from, to [6]byte, ether uint16, body []byte) []byte {
	f := append(append([]byte{}, to[:]...), from[:]...)
	return append(binary.BigEndian.AppendUint16(f, ether), body...)
}

// IPv4 is a packet (RFC 791) with a right checksum.
func IPv4(from, to netip.Addr, proto byte, body []byte) []byte {
	p := make([]byte, 20, 20+len(body))
	p[0], p[8], p[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(p[2:], uint16(20+len(body)))
	src, dst := from.As4(), to.As4()
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	binary.BigEndian.PutUint16(p[10:], checksum(p))
	return append(p, body...)
}

// UDP is an IPv4 packet with a datagram in it, without the checksum that IPv4 lets
// out (RFC 768).
func UDP(from, to netip.AddrPort, body []byte) []byte {
	d := make([]byte, 8, 8+len(body))
	binary.BigEndian.PutUint16(d, from.Port())
	binary.BigEndian.PutUint16(d[2:], to.Port())
	binary.BigEndian.PutUint16(d[4:], uint16(8+len(body)))
	return IPv4(from.Addr(), to.Addr(), unix.IPPROTO_UDP, append(d, body...))
}

// SYN is an IPv4 packet that opens a TCP connection (RFC 9293), or whatever else
// the flags say.
func SYN(from, to netip.AddrPort, flags byte) []byte {
	s := make([]byte, 20)
	binary.BigEndian.PutUint16(s, from.Port())
	binary.BigEndian.PutUint16(s[2:], to.Port())
	s[12], s[13] = 0x50, flags
	binary.BigEndian.PutUint16(s[14:], 1024)
	src, dst := from.Addr().As4(), to.Addr().As4()
	sum := slices.Concat(src[:], dst[:], []byte{0, unix.IPPROTO_TCP, 0, 20}, s)
	binary.BigEndian.PutUint16(s[16:], checksum(sum))
	return IPv4(from.Addr(), to.Addr(), unix.IPPROTO_TCP, s)
}
