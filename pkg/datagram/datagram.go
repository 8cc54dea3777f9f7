// Package datagram reads and answers UDP datagrams many at a time, with one
// system call for each direction (recvmmsg(2), sendmmsg(2)): what a garage asks
// after a power cut is waiting in the socket all at once (F-1).
//
// What is in the datagrams it leaves to the rooms.
package datagram

import (
	"errors"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// A Batch is what was read at once from a socket, and the answers to it. It
// belongs to one goroutine.
type Batch struct {
	c       *ipv4.PacketConn
	in, out []ipv4.Message
	n       int // of in, what was read last
}

// New makes a batch of at most many datagrams, each of at most size bytes with
// at most oob bytes of control data. A longer datagram is cut short by the
// kernel; Datagram says so.
func New(c *net.UDPConn, many, size, oob int) *Batch {
	b := &Batch{c: ipv4.NewPacketConn(c), in: make([]ipv4.Message, many), out: make([]ipv4.Message, 0, many)}
	for i := range b.in {
		b.in[i] = ipv4.Message{Buffers: [][]byte{make([]byte, size)}, OOB: make([]byte, oob)}
	}
	return b
}

// Read waits for at least one datagram, takes all that are there up to the size
// of the batch, and returns how many. What was read before, and answers that were
// not sent, are forgotten. A shortage of memory in the kernel is no error: the
// datagram is lost and the socket is not.
func (b *Batch) Read() (int, error) {
	for i := range b.n {
		m := &b.in[i]
		m.Buffers[0], m.OOB = m.Buffers[0][:cap(m.Buffers[0])], m.OOB[:cap(m.OOB)]
	}
	b.out = b.out[:0]
	n, err := b.c.ReadBatch(b.in, 0)
	b.n = max(n, 0)
	if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) {
		return 0, nil
	}
	return b.n, err
}

// Datagram returns one of those that were read, its control data and who sent
// it. They are valid until the next Read. whole is false when it did not fit.
func (b *Batch) Datagram(i int) (data, control []byte, from netip.AddrPort, whole bool) {
	m := &b.in[i]
	if at, ok := m.Addr.(*net.UDPAddr); ok {
		from = at.AddrPort()
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	}
	return m.Buffers[0][:m.N], m.OOB[:m.NN], from, m.Flags&unix.MSG_TRUNC == 0
}

// Answer puts an answer to a datagram in line. data must not change until Flush.
func (b *Batch) Answer(i int, data []byte) {
	b.out = append(b.out, ipv4.Message{Buffers: [][]byte{data}, Addr: b.in[i].Addr})
}

// Flush sends the answers that are in line and returns how many the kernel did
// not take. One that cannot be sent does not keep back the others.
func (b *Batch) Flush() (unsent int) {
	for left := b.out; len(left) > 0; {
		n, err := b.c.WriteBatch(left, 0)
		left = left[max(n, 0):]
		if err != nil && len(left) > 0 {
			unsent++
			left = left[1:]
		}
	}
	b.out = b.out[:0]
	return unsent
}
