// Package datagram reads and answers UDP datagrams many at a time, with one
// system call for each direction (recvmmsg(2), sendmmsg(2)): what a garage asks
// after a power cut is waiting in the socket all at once (F-1). What must not wait
// for others is sent by itself. Nothing is allocated while it works, so that a
// flood costs no garbage collection.
//
// What is in the datagrams it leaves to the rooms.
package datagram

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// addrSize is room for the address of either family.
const addrSize = unix.SizeofSockaddrInet6

// A Batch is what was read at once from a socket, and the answers to it. It
// belongs to one goroutine.
type Batch struct {
	c    syscall.RawConn
	in   []received
	out  []unix.Mmsghdr
	data []unix.Iovec // of out
	many int          // of out, what is in line

	heads  []unix.Mmsghdr // of in, as the kernel wants them
	n      int            // of in, what was read last
	sent   int            // of out, in the last call
	err    unix.Errno     // of the last call
	closed error          // why c could not be used

	replying int    // of in, what is answered by itself
	said     []byte // the answer

	// recv, send and one are the method values, made once.
	recv, send, one func(fd uintptr) bool
}

// A received is where one datagram goes.
type received struct {
	from    [addrSize]byte
	data    []byte
	control []byte
	iov     unix.Iovec
}

// New makes a batch of at most many datagrams, each of at most size bytes with
// at most oob bytes of control data. A longer datagram is cut short by the
// kernel; Datagram says so.
func New(c *net.UDPConn, many, size, oob int) *Batch {
	b := &Batch{in: make([]received, many), heads: make([]unix.Mmsghdr, many),
		out: make([]unix.Mmsghdr, many), data: make([]unix.Iovec, many)}
	b.c, b.closed = c.SyscallConn()
	b.recv, b.send, b.one = b.receive, b.transmit, b.transmitOne
	// An empty buffer has no first byte to point to: one byte more, not used.
	data, control := make([]byte, many*size+1), make([]byte, many*oob+1)
	for i := range b.in {
		r, h := &b.in[i], &b.heads[i].Hdr
		r.data, r.control = data[i*size:][:size:size], control[i*oob:][:oob:oob]
		r.iov.Base = &data[i*size]
		r.iov.SetLen(size)
		h.Name, h.Iov, h.Control = &r.from[0], &r.iov, &control[i*oob]
		h.SetIovlen(1)
		b.out[i].Hdr.Name, b.out[i].Hdr.Iov = &r.from[0], &b.data[i]
		b.out[i].Hdr.SetIovlen(1)
	}
	return b
}

// Read waits for at least one datagram, takes all that are there up to the size
// of the batch, and returns how many. What was read before, and answers that were
// not sent, are forgotten. A shortage of memory in the kernel is no error: the
// datagram is lost and the socket is not.
func (b *Batch) Read() (int, error) {
	b.many, b.n = 0, 0
	if b.closed != nil {
		return 0, b.closed
	}
	for i := range b.heads {
		h := &b.heads[i].Hdr
		h.Namelen = addrSize
		h.SetControllen(len(b.in[i].control))
	}
	if err := b.c.Read(b.recv); err != nil {
		return 0, err
	}
	if errors.Is(b.err, unix.ENOBUFS) || errors.Is(b.err, unix.ENOMEM) {
		return 0, nil
	}
	if b.err != 0 {
		return 0, os.NewSyscallError("recvmmsg", b.err)
	}
	return b.n, nil
}

// receive takes what is there, and reports false when that is nothing. Go's
// scheduler is not told of the call (RawSyscall6), here and where answers are sent:
// none of them waits, and after 20 µs it would take the processor away from one that
// works.
func (b *Batch) receive(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.heads[0])),
			uintptr(len(b.heads)), unix.MSG_DONTWAIT, 0, 0)
		switch b.err = errno; errno {
		case 0:
			b.n = int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			return true
		}
	}
}

// Datagram returns one of those that were read, its control data and who sent
// it. They are valid until the next Read. whole is false when it did not fit. The
// data may be written to, as far as its capacity: there is the answer's place.
func (b *Batch) Datagram(i int) (data, control []byte, from netip.AddrPort, whole bool) {
	r, h := &b.in[i], &b.heads[i]
	return r.data[:min(int(h.Len), len(r.data))], r.control[:min(int(h.Hdr.Controllen), len(r.control))], r.sender(),
		h.Hdr.Flags&unix.MSG_TRUNC == 0
}

// sender reads the address that the kernel wrote.
func (r *received) sender() netip.AddrPort {
	port := binary.BigEndian.Uint16(r.from[2:])
	switch binary.NativeEndian.Uint16(r.from[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(r.from[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(r.from[8:24])).Unmap(), port)
	}
	return netip.AddrPort{}
}

// Answer puts an answer to a datagram in line. There may be one for each datagram
// and no more; data must not change until Flush.
func (b *Batch) Answer(i int, data []byte) {
	iov, h := &b.data[b.many], &b.out[b.many].Hdr
	iov.Base = unsafe.SliceData(data)
	iov.SetLen(len(data))
	h.Name, h.Namelen = &b.in[i].from[0], b.heads[i].Hdr.Namelen
	b.many++
}

// Flush sends the answers that are in line and returns how many the kernel did
// not take. One that cannot be sent does not keep back the others, and none waits
// for room: what fills a socket is one device that sleeps while its answers come,
// and the others must not sleep with it.
func (b *Batch) Flush() (unsent int) {
	for b.sent = 0; b.sent < b.many; {
		if err := b.c.Write(b.send); err != nil {
			unsent += b.many - b.sent // closed
			break
		}
		if b.err != 0 {
			unsent++
			b.sent++
		}
	}
	b.many = 0
	return unsent
}

// transmit sends what is left, as far as there is room.
func (b *Batch) transmit(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.out[b.sent])),
			uintptr(b.many-b.sent), unix.MSG_DONTWAIT, 0, 0)
		switch b.err = errno; errno {
		case 0:
			b.sent += int(n)
			return true
		case unix.EINTR:
		default:
			return true
		}
	}
}

// Reply answers a datagram at once, or not at all: it waits for room no more than
// Flush does. It is for answers that must not wait for each other.
func (b *Batch) Reply(i int, data []byte) error {
	b.replying, b.said = i, data
	if err := b.c.Write(b.one); err != nil {
		return err
	}
	if b.err != 0 {
		return os.NewSyscallError("sendto", b.err)
	}
	return nil
}

// transmitOne sends the one answer that does not wait.
func (b *Batch) transmitOne(fd uintptr) bool {
	for {
		_, _, b.err = unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b.said))), uintptr(len(b.said)),
			unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&b.in[b.replying].from)), uintptr(b.heads[b.replying].Hdr.Namelen))
		if b.err != unix.EINTR {
			return true
		}
	}
}

// Send sends one datagram from a socket of IPv4, now or not at all: without room it
// fails at once (EAGAIN), and never waits.
func Send(c *net.UDPConn, data []byte, to netip.AddrPort) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	at := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().Unmap().As4()}
	var sending error
	err = raw.Write(func(fd uintptr) bool {
		for {
			sending = unix.Sendto(int(fd), data, unix.MSG_DONTWAIT, at)
			if !errors.Is(sending, unix.EINTR) {
				return true
			}
		}
	})
	return errors.Join(err, os.NewSyscallError("sendto", sending))
}

// Room asks the kernel to keep so many bytes for a reader and for a writer that are
// not quick enough. It doubles them for its own book-keeping. Forcing it takes a
// capability that the daemon does not have when it is installed; then rmem_max and
// wmem_max of net.core are the limits, and less is no reason not to serve.
func Room(c syscall.RawConn, receive, send int) error {
	return c.Control(func(fd uintptr) {
		for _, b := range []struct{ force, ask, bytes int }{
			{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receive}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, send},
		} {
			if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, b.force, b.bytes) != nil {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, b.ask, b.bytes)
			}
		}
	})
}
