package dhcp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	pkt "github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"chargegate/pkg/charger"
)

// askBuffer is how many bytes the kernel is asked to keep for a reader that is
// not quick enough. It doubles that for its own book-keeping, by which a request
// counts 1,280, or up to 4,352 where a driver receives into whole pages: room for
// 1,900 at least.
const askBuffer = 4 << 20

// errNoInterface means that an interface does not exist (yet).
var errNoInterface = errors.New("there is no such interface")

// sockets are what is held of an interface.
type sockets struct {
	index   int
	hw      charger.MAC  // the interface's own
	ear     *pkt.Conn    // hears requests with their frames, which tell who sent them
	udp     *net.UDPConn // answers relay agents; that it is there keeps the kernel from refusing the port
	voice   *voice       // answers everybody else
	arp     *pkt.Conn    // hears who uses which address, and asks
	foreign *pkt.Conn    // hears other servers
}

// openSockets takes the sockets of an interface, and tells how many bytes its
// receive buffer holds.
func openSockets(name string) (s *sockets, buffer int, err error) {
	index, err := indexOf(name)
	if err != nil {
		return nil, 0, err
	}
	if index == 0 {
		return nil, 0, errNoInterface
	}
	ifi := &net.Interface{Index: index, Name: name}
	s = &sockets{index: index, hw: hardware(index)}
	s.udp, err = server4.NewIPv4UDPConn(name, &net.UDPAddr{Port: dhcpv4.ServerPort})
	if err == nil {
		err = deafen(s.udp)
	}
	for _, c := range []struct {
		conn     **pkt.Conn
		kind     pkt.Type
		protocol int
		filter   []bpf.Instruction
	}{
		{&s.ear, pkt.Raw, unix.ETH_P_IP, slices.Concat(arrived(), requests())},
		{&s.arp, pkt.Raw, unix.ETH_P_ARP, claims()},
		{&s.foreign, pkt.Raw, unix.ETH_P_IP, slices.Concat(arrived(), replies())},
	} {
		if err == nil {
			*c.conn, err = listenOn(ifi, c.kind, c.protocol, c.filter)
		}
	}
	if err == nil {
		s.voice, err = newVoice(ifi)
	}
	if err == nil {
		buffer, err = grow(s.ear, unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, askBuffer)
	}
	// The name may have changed its interface meanwhile.
	if again, _ := indexOf(name); again != index {
		err = errNoInterface
	}
	if err != nil {
		s.close()
		return nil, 0, err
	}
	return s, buffer, nil
}

func (s *sockets) close() {
	if s == nil {
		return
	}
	if s.udp != nil {
		s.udp.Close()
	}
	if s.voice != nil {
		s.voice.close()
	}
	for _, c := range []*pkt.Conn{s.ear, s.arp, s.foreign} {
		if c != nil {
			c.Close()
		}
	}
}

// listenOn opens a packet socket with its filter in force before the first frame.
func listenOn(ifi *net.Interface, kind pkt.Type, protocol int, filter []bpf.Instruction) (*pkt.Conn, error) {
	raw, err := bpf.Assemble(filter)
	if err != nil {
		return nil, fmt.Errorf("assembling a filter for %s: %w", ifi.Name, err)
	}
	return pkt.Listen(ifi, kind, protocol, &pkt.Config{Filter: raw})
}

// permitted says whether the sockets could be had on an interface: it tries
// the one that every machine has.
func permitted() error {
	s, _, err := openSockets("lo")
	if errors.Is(err, errNoInterface) {
		return nil
	}
	s.close()
	return err
}

// indexOf returns the number of an interface, 0 if there is none of that name.
func indexOf(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("looking for interface %s: %w", name, err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, fmt.Errorf("looking for interface %q: %w", name, err)
	}
	switch err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); {
	case errors.Is(err, unix.ENODEV):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("looking for interface %s: %w", name, err)
	}
	return int(req.Uint32()), nil
}

// grow makes a buffer as large as may be and returns what it got. Forcing it
// takes a capability that the daemon does not have when it is installed; then
// net.core.rmem_max or wmem_max is the limit.
func grow(conn syscall.Conn, size, force, bytes int) (got int, err error) {
	rc, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var option error
	err = rc.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, force, bytes) != nil {
			option = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, size, bytes)
		}
		if option == nil {
			got, option = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, size)
		}
	})
	return got, errors.Join(err, option)
}

// deafen keeps a socket from hearing anything.
func deafen(conn syscall.Conn) error {
	rc, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	var option error
	err = rc.Control(func(fd uintptr) {
		option = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	return errors.Join(err, os.NewSyscallError("setsockopt", option))
}

// lost returns how many requests did not fit into the receive buffer since it
// was last asked.
func (s *sockets) lost() uint64 {
	stats, err := s.ear.Stats() // resets the kernel's count
	if err != nil {
		return 0
	}
	return uint64(stats.Drops)
}
