package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// A door is a listening socket. Its callers come as descriptors that the runtime's
// poller does not know: most of them are carried from the first packet on, and what
// registers them there, and takes them out again, would cost as much as the call.
type door struct {
	file *os.File // which that poller knows
	raw  syscall.RawConn
	at   netip.AddrPort
}

// newDoor makes a door of a listener, and closes that.
func newDoor(l *net.TCPListener) (*door, error) {
	defer l.Close()
	file, err := l.File()
	if err != nil {
		return nil, fmt.Errorf("copying the descriptor: %w", err)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	d := &door{file, raw, l.Addr().(*net.TCPAddr).AddrPort()}
	// What a connection inherits from the socket it comes in by need not be set for
	// each: all of tune's.
	if err := raw.Control(func(fd uintptr) { tune(int(fd)) }); err != nil {
		file.Close()
		return nil, err
	}
	return d, nil
}

// Close ends Accept.
func (d *door) Close() error { return d.file.Close() }

// accept takes the next caller. After Close the error is os.ErrClosed.
func (d *door) accept() (fd int, caller netip.Addr, err error) {
	var from unix.Sockaddr
	var aerr error
	if err := d.raw.Read(func(l uintptr) bool {
		fd, from, aerr = unix.Accept4(int(l), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return aerr != unix.EAGAIN
	}); err != nil {
		return -1, netip.Addr{}, err
	}
	if aerr != nil {
		return -1, netip.Addr{}, os.NewSyscallError("accept4", aerr)
	}
	if in, ok := from.(*unix.SockaddrInet4); ok {
		return fd, netip.AddrFrom4(in.Addr), nil
	}
	unix.Close(fd)
	return -1, netip.Addr{}, unix.EPROTO
}

// connection hands a caller over to the runtime's poller, for whoever has to wait
// for it.
func connection(fd int) (*net.TCPConn, error) {
	f := os.NewFile(uintptr(fd), "caller")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		conn.Close()
		return nil, errors.New("it is no TCP connection")
	}
	return tcp, nil
}

// resetSocket is reset for a descriptor.
func resetSocket(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}
