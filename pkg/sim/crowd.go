package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Crowd is any number of DHCP clients on one packet socket, each with its own
// hardware address: for load, where a Charger each would be the bottleneck. They
// get their addresses as lwIP does and send again after 2, 4, 8, 16 and 32 s, in
// step and without jitter; beyond that they are no chargers. They answer ARP for
// the addresses that they have.
//
// A crowd is one goroutine's at a time.
type Crowd struct {
	// Leases are all ACKs since the start, in their order. They are not to be read
	// while a wave is on its way.
	Leases []Lease
	// Heard, if not nil, is called for each ACK as it is read: what was promised is
	// known from then on, even if nothing more is heard of this side.
	Heard func(Lease)

	count atomic.Int64 // of Leases

	fd   int
	zero time.Time // of the mob's clock
	mob  mob
	buf  [2048]byte
}

// lwipRetry is how long lwIP waits before it sends a message again for the
// first time.
const lwipRetry = 2 * time.Second

// crowdBuffer is what the kernel may keep for a crowd that is busy sending.
const crowdBuffer = 32 << 20

// crowdMAC is the hardware address of client n of a crowd: from one of Zaptec's
// blocks, and scattered over it, each one once.
func crowdMAC(n int) [6]byte {
	scattered := uint32(n+1) * 0x9e3779 & 0xffffff // odd: the numbers below 2^24 among each other
	return [6]byte{0x60, 0x15, 0x92, byte(scattered >> 16), byte(scattered >> 8), byte(scattered)}
}

// strangerMAC is the hardware address of client n of a crowd that nobody knows.
func strangerMAC(n int) [6]byte {
	scattered := uint32(n+1) * 0x9e3779 & 0xffffff
	return [6]byte{0xa2, 0x51, 0x7e, byte(scattered >> 16), byte(scattered >> 8), byte(scattered)}
}

// CrowdMAC is the hardware address of client n of a crowd from OpenCrowd.
func CrowdMAC(n int) [6]byte { return crowdMAC(n) }

// OpenCrowd opens a crowd of chargers on an interface of a namespace that
// `ip netns` knows. It needs no garage.
func OpenCrowd(namespace, iface string) (*Crowd, error) {
	fd, err := netns.GetFromName(namespace)
	if err != nil {
		return nil, fmt.Errorf("opening the namespace %s: %w", namespace, err)
	}
	defer fd.Close()
	return (&Space{Name: namespace, fd: fd}).openCrowd(iface, crowdMAC)
}

// openCrowd takes a socket on an interface of the space.
func (s *Space) openCrowd(iface string, mac func(int) [6]byte) (*Crowd, error) {
	c := &Crowd{fd: -1, zero: time.Now()}
	err := s.Do(func() error { return c.listen(iface) })
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("opening a crowd on %s: %w", iface, err)
	}
	c.mob = mob{retry: lwipRetry, salt: byte(rand.Uint32()), mac: mac, send: c.write, holders: map[[4]byte]int{}, leases: c.note}
	return c, nil
}

func (c *Crowd) listen(iface string) error {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return err
	}
	// Protocol 0 hears nothing until the filter is there.
	if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return err
	}
	filter, err := bootFilter()
	if err != nil {
		return err
	}
	program := make([]unix.SockFilter, len(filter))
	for i, f := range filter {
		program[i] = unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	// Forced where that is allowed; what does not fit is counted.
	if unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, crowdBuffer) != nil {
		err = unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, crowdBuffer)
	}
	const ignoreOutgoing = 23 // PACKET_IGNORE_OUTGOING of linux/if_packet.h
	return errors.Join(err,
		unix.SetsockoptSockFprog(c.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}),
		unix.SetsockoptInt(c.fd, unix.SOL_PACKET, ignoreOutgoing, 1),
		unix.SetsockoptPacketMreq(c.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(ifi.Index), Type: unix.PACKET_MR_PROMISC}),
		unix.Bind(c.fd, &unix.SockaddrLinklayer{Ifindex: ifi.Index, Protocol: networkOrder(unix.ETH_P_ALL)}))
}

func networkOrder(n uint16) uint16 { return n<<8 | n>>8 }

// Close gives the socket back.
func (c *Crowd) Close() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

// First makes the clients wait d, and not lwIP's 2 s, before they send a message
// again for the first time; 500ms is a charger's (see Firmware).
func (c *Crowd) First(d time.Duration) { c.mob.retry = d }

// Impatient makes the clients send a message again after d, each time.
func (c *Crowd) Impatient(d time.Duration) { c.mob.retry, c.mob.steady = d, true }

// MAC is the hardware address of client n.
func (c *Crowd) MAC(n int) [6]byte { return c.mob.mac(n) }

// A Wave is what some clients of a crowd do.
type Wave struct {
	// First is the number of the first of the Clients. The same number is the same
	// client in every wave.
	First, Clients int
	// Together is how many do it at a time: when one has its lease the next one
	// begins. Zero: all begin at once.
	Together int
	// How they begin. Who remembers no address begins with a DISCOVER.
	How Begin
}

// greeted is how many clients begin before a crowd listens again.
const greeted = 32

// Go lets the clients of a wave get their leases, and returns when all have one
// or ctx is done: who has none then has failed, which is no error.
func (c *Crowd) Go(ctx context.Context, w Wave) (Tally, error) {
	if w.First < 0 || w.Clients < 1 || w.First+w.Clients > maxCrowd {
		return Tally{}, fmt.Errorf("the clients %d to %d; there are 0 to %d", w.First, w.First+w.Clients-1, maxCrowd-1)
	}
	if w.Together == 0 {
		w.Together = w.Clients
	}
	runtime.LockOSThread() // a thread that waits for the socket, and not a scheduler
	defer runtime.UnlockOSThread()
	if err := c.drain(); err != nil {
		return Tally{}, err
	}
	c.mob.begin(c.now())
	last := w.First + w.Clients
	for next := w.First; (next < last || c.mob.active > 0) && ctx.Err() == nil; {
		for range greeted {
			if next == last || c.mob.active >= w.Together {
				break
			}
			if err := c.mob.start(next, w.How, c.now()); err != nil {
				return c.end(), err
			}
			next++
		}
		busy, err := c.listenOnce()
		if err != nil {
			return c.end(), err
		}
		if err := c.mob.tick(c.now()); err != nil {
			return c.end(), err
		}
		if !busy && (next == last || c.mob.active >= w.Together) {
			if err := c.wait(); err != nil {
				return c.end(), err
			}
		}
	}
	t := c.end()
	t.Clients = w.Clients
	return t, nil
}

// Shout sends a DISCOVER of each client, one after the other, again and again
// until ctx is done, and hears nothing: so many a second, or as fast as it can
// with 0. It returns how many it sent.
func (c *Crowd) Shout(ctx context.Context, clients, perSecond int) (sent int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for began := c.now(); ctx.Err() == nil; sent++ {
		if err := c.mob.shout(sent%clients, c.now()); err != nil {
			return sent, err
		}
		if perSecond > 0 {
			time.Sleep(began + time.Duration(sent)*time.Second/time.Duration(perSecond) - c.now())
		}
	}
	return sent, nil
}

func (c *Crowd) now() time.Duration { return time.Since(c.zero) }

func (c *Crowd) end() Tally {
	t := c.mob.end()
	t.Unheard = c.unheard()
	return t
}

// unheard is how many frames the kernel had no room for since it was last
// asked.
func (c *Crowd) unheard() int {
	stats, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return int(stats.Drops)
}

func (c *Crowd) note(n int, addr [4]byte, now time.Duration) {
	l := Lease{c.mob.clients[n].mac, netip.AddrFrom4(addr), c.zero.Add(now)}
	c.Leases = append(c.Leases, l)
	c.count.Add(1)
	if c.Heard != nil {
		c.Heard(l)
	}
}

// Leased is how many ACKs there were since the start; for whoever watches a wave.
func (c *Crowd) Leased() int { return int(c.count.Load()) }

func (c *Crowd) write(frame []byte) error {
	for {
		_, err := unix.Write(c.fd, frame)
		switch err {
		case nil, unix.ENETDOWN, unix.ENOBUFS: // lost on the way, as on the air: it is sent again
			return nil
		case unix.EINTR:
		case unix.EAGAIN:
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLOUT}}, 100); err != nil && err != unix.EINTR {
				return fmt.Errorf("waiting to send: %w", err)
			}
		default:
			return fmt.Errorf("sending: %w", err)
		}
	}
}

// listenOnce hears what has arrived, but for a time only. busy is false when
// nothing had.
func (c *Crowd) listenOnce() (busy bool, err error) {
	for range greeted {
		n, err := unix.Read(c.fd, c.buf[:])
		switch err {
		case nil:
			if err := c.mob.hear(c.buf[:n], c.now()); err != nil {
				return true, err
			}
			busy = true
		case unix.EAGAIN:
			return busy, nil
		case unix.EINTR, unix.ENETDOWN:
		default:
			return busy, fmt.Errorf("listening: %w", err)
		}
	}
	return busy, nil
}

// drain forgets what arrived since the last wave.
func (c *Crowd) drain() error {
	for {
		switch _, err := unix.Read(c.fd, c.buf[:]); err {
		case nil, unix.EINTR, unix.ENETDOWN:
		case unix.EAGAIN:
			c.unheard()
			return nil
		default:
			return fmt.Errorf("listening: %w", err)
		}
	}
}

// longestWait bounds how long the end of a context goes unnoticed.
const longestWait = 50 * time.Millisecond

// wait waits until something arrives or somebody has waited long enough.
func (c *Crowd) wait() error {
	d := longestWait
	if at, ok := c.mob.next(); ok {
		d = min(d, max(at-c.now(), 0))
	}
	ms := int((d + time.Millisecond - 1) / time.Millisecond)
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, ms); err != nil && err != unix.EINTR {
		return fmt.Errorf("waiting: %w", err)
	}
	return nil
}
