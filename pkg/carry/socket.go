package carry

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// splice moves up to most bytes. It is called past the scheduler (RawSyscall): a
// call that cannot wait needs nobody to take its place, and what it would cost
// to get the place back is more than the call.
func splice(from, to, most int) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most),
			unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// pollOnce asks epoll without waiting, past the scheduler as splice does.
func pollOnce(epoll int, events []unix.EpollEvent) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EINTR:
		return 0, nil
	}
	return 0, os.NewSyscallError("epoll_wait", errno)
}

// unblock makes a socket non-blocking: splice(2) goes by the flag of the socket,
// not by its own.
func unblock(fd int) error { return os.NewSyscallError("fcntl", unix.SetNonblock(fd, true)) }

// dead reports whether a connection is no more. Where the bytes have come to an
// end and we have not hung up, it was reset. That is told as an error once, and
// somebody else may have taken it: whoever carried the pair before, or whoever
// looked at SO_ERROR.
func dead(fd int) bool {
	const tcpClose = 7 // TCP_CLOSE; after a FIN it is TCP_CLOSE_WAIT until we hang up, too
	state, err := unix.GetsockoptByte(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && state == tcpClose
}

// ended reports whether nothing more comes from a socket. Then whoever carried
// the pair before may have told the other side already.
func ended(fd int) bool {
	n, _, err := unix.Recvfrom(fd, make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == nil && n == 0
}

// condemn notes on a socket that its connection is to be reset: whoever takes
// over before it was knows it from there, and the last close resets it.
func condemn(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

func condemned(fd int) bool {
	l, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER)
	return err == nil && l.Onoff != 0 && l.Linger == 0
}

// settled reports whether the other end has acknowledged everything, or never
// will.
func settled(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	return err != nil || n == 0 || dead(fd)
}

// failure returns what went wrong with a socket, and forgets it.
func failure(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || code == 0 {
		return nil
	}
	return unix.Errno(code)
}

// disconnect resets a connection at once. A close would not as long as somebody
// else holds a copy; connect(2) to no address does (tcp_disconnect in the
// kernel). What was not sent is dropped.
func disconnect(fd int) {
	to := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	if _, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&to)), unsafe.Sizeof(to)); errno != 0 {
		condemn(fd)
	}
}
