package dhcp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	pkt "github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Nothing here ever waits. Frames for a device that does not take them, as one
// that sleeps, stay in the queue of the radio and count against the socket that
// they came from: whoever waited for room would let one such device keep all
// others from their answers.

const (
	// sendBuffer is how many bytes of answers may be on their way; the kernel
	// doubles it, and counts about 1,280 for each: room for 3,000, those of a garage
	// that comes back at once (F-1).
	sendBuffer = 2 << 20
	// renewEvery is the least time between two new sockets. What the old one has
	// sent is bounded by the queue of the interface alone.
	renewEvery = time.Second
)

// A voice sends frames.
type voice struct {
	ifi *net.Interface

	mu   sync.Mutex
	conn *pkt.Conn
	made time.Time // of the last new one; zero: the first is in use
}

func newVoice(ifi *net.Interface) (*voice, error) {
	conn, err := openVoice(ifi)
	if err != nil {
		return nil, err
	}
	return &voice{ifi: ifi, conn: conn}, nil
}

// openVoice opens a socket that hears nothing. Its protocol must be IPv4 all the
// same, or the frames would carry none.
func openVoice(ifi *net.Interface) (*pkt.Conn, error) {
	conn, err := listenOn(ifi, pkt.Datagram, unix.ETH_P_IP, []bpf.Instruction{bpf.RetConstant{Val: 0}})
	if err != nil {
		return nil, err
	}
	if _, err := grow(conn, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, sendBuffer); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (v *voice) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.conn.Close()
}

// send sends a packet to a hardware address. When the frames of one that does
// not take them have used up what the socket may send, the others are answered
// from a new one.
func (v *voice) send(hw [6]byte, packet []byte, now time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	to := linkAddress(v.ifi.Index, unix.ETH_P_IP, hw)
	err := sendNow(v.conn, packet, to)
	if !noRoom(err) || !v.made.IsZero() && now.Sub(v.made) < renewEvery {
		return err
	}
	conn, failed := openVoice(v.ifi)
	if failed != nil {
		return err
	}
	v.conn.Close() // what it has sent stays on its way
	v.conn, v.made = conn, now
	return sendNow(v.conn, packet, to)
}

// noRoom says whether a packet was not taken because too many are on their way.
func noRoom(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) }

// linkAddress is a hardware address on an interface.
func linkAddress(index int, protocol uint16, hw [6]byte) *unix.SockaddrLinklayer {
	to := &unix.SockaddrLinklayer{Ifindex: index, Protocol: networkOrder(protocol), Halen: uint8(len(hw))}
	copy(to.Addr[:], hw[:])
	return to
}

func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// sendNow sends a packet or fails, at once. The first after the link went down
// and up again is refused with ENETDOWN; the second passes.
func sendNow(c syscall.Conn, packet []byte, to unix.Sockaddr) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = rc.Control(func(fd uintptr) {
		for range 2 {
			if sent = unix.Sendto(int(fd), packet, unix.MSG_DONTWAIT, to); !errors.Is(sent, unix.ENETDOWN) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("sendto", sent)
}

// sendFrame sends a datagram to a hardware address.
func (s *sockets) sendFrame(hw [6]byte, from, to netip.AddrPort, payload []byte) error {
	return s.voice.send(hw, datagram(from, to, payload), time.Now())
}

// sendDatagram sends an ordinary datagram.
func (s *sockets) sendDatagram(to netip.AddrPort, payload []byte) error {
	return sendNow(s.udp, payload, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
}

// sendARP sends a whole frame to everybody.
func (s *sockets) sendARP(frame []byte) error {
	return sendNow(s.arp, frame, linkAddress(s.index, unix.ETH_P_ARP, [6]byte(frame)))
}
