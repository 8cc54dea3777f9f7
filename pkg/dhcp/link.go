package dhcp

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	pkt "github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// A link is one network at work: its sockets, while the interface is there,
// and what waits to be answered.
type link struct {
	desk
	counters
	neighbourhood
	log     *event.Log
	small   *atomic.Bool  // the small buffer has been told
	lanes   [workers]lane // what waits for each worker
	listed  func(charger.MAC) bool
	crowd   *rate.Limiter // of events that made-up MACs can cause
	repeats repeats
	packets sync.Pool  // of *packet
	level   level      // how full the pool is; watch alone uses it
	lessons sync.Mutex // see Server.teach
	// heardARP and heardForeign handle the frames of the neighbourhood.
	heardARP, heardForeign func(frame []byte, now time.Time)

	mu      sync.Mutex
	sockets *sockets // nil while there is no interface
	missing bool     // that it is missing has been told
}

// A lane is what waits for one worker. Whatever comes from one sender is in one
// lane, so that it is decided in the order in which it was sent. regulars are the
// packets of devices that the inventory names or that have an address here, and go
// first. However many made-up MACs ask, those only crowd out each other.
type lane struct{ regulars, queue chan *packet }

func newLane() lane {
	return lane{make(chan *packet, queued/workers), make(chan *packet, queued/workers)}
}

// laneOf spreads senders evenly, whether their numbers count by one or, as those
// of chargers that have several, by four (Fibonacci hashing of the last three
// bytes).
func laneOf(sender charger.MAC) int {
	n := uint32(sender[3])<<16 | uint32(sender[4])<<8 | uint32(sender[5])
	return int(n * 2654435769 >> 16 % workers)
}

// packet is a received frame in a buffer that is used again.
type packet struct {
	n   int
	buf [maxPacket]byte
}

// maxPacket is longer than the frame of any request; what is longer is cut and
// then malformed.
const maxPacket = 2048

func (p *packet) bytes() []byte { return p.buf[:p.n] }

// bind takes the sockets; errNoInterface if there is no interface.
func (l *link) bind() error {
	s, got, err := openSockets(l.Interface)
	if err != nil {
		return err
	}
	if got < askBuffer && l.small.CompareAndSwap(false, true) {
		l.log.Say(event.DHCPBufferSmall, event.F("GOT", got), event.F("WANTED", askBuffer))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sockets = s
	return nil
}

// unbind closes the sockets.
func (l *link) unbind() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sockets != nil {
		l.missed.Add(l.sockets.lost())
		l.carrier, l.address = condition{}, condition{}
		l.sockets.close()
		l.sockets = nil
	}
}

func (l *link) current() *sockets {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sockets
}

// tend reads from the interface until ctx is done, whenever there is one. The
// sockets stay open at the end, for the answers that are still to be sent.
func (l *link) tend(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if s := l.current(); s != nil {
			l.use(ctx, s, tick.C)
			continue
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
			l.find()
		}
	}
}

// use reads until ctx is done, or the sockets have to be given up: a socket on
// an interface that was deleted hears nothing, and is told nothing, when there
// is one of the same name again.
func (l *link) use(ctx context.Context, s *sockets, tick <-chan time.Time) {
	l.look(s, time.Now())
	ctx, leave := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer leave()
	lost := make(chan error, 3)
	all.Go(func() { lost <- l.read(ctx, s.ear) })
	all.Go(func() { lost <- l.listen(ctx, s.arp, claimRate, l.heardARP) })
	all.Go(func() { lost <- l.listen(ctx, s.foreign, foreignRate, l.heardForeign) })
	all.Go(func() { l.asking.run(ctx) })
	all.Go(func() { l.scout(ctx) })
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-lost:
			if ctx.Err() == nil {
				l.unbind()
				l.sayLost(err)
			}
			return
		case <-tick:
			l.overlook()
			if index, err := indexOf(l.Interface); err != nil || index == s.index {
				l.look(s, time.Now())
				continue
			}
			l.unbind()
			l.find()
			return
		}
	}
}

// find takes the sockets if the interface is there.
func (l *link) find() {
	switch err := l.bind(); {
	case err == nil:
		l.mu.Lock()
		l.missing = false
		l.mu.Unlock()
		l.log.Say(event.DHCPInterfaceFound, event.Network(l.Name), event.F("INTERFACE", l.Interface))
	case errors.Is(err, errNoInterface):
		l.sayMissing()
	default:
		l.sayFailed(err)
	}
}

// sayMissing says once that the interface is not there.
func (l *link) sayMissing() {
	l.mu.Lock()
	said := l.missing
	l.missing = true
	l.mu.Unlock()
	if !said {
		l.log.Say(event.DHCPInterfaceMissing, event.Network(l.Name), event.F("INTERFACE", l.Interface))
	}
}

// sayLost says why reading has ended; that the interface has gone is told when
// it is looked for.
func (l *link) sayLost(err error) {
	if index, _ := indexOf(l.Interface); index != 0 {
		l.sayFailed(err)
	}
}

func (l *link) sayFailed(err error) {
	l.log.Say(event.DHCPInterfaceFailed, event.Network(l.Name), event.F("INTERFACE", l.Interface), event.Err(err))
}

// read queues what arrives, and nothing else: whoever is slow is slow behind
// the queue.
func (l *link) read(ctx context.Context, ear *pkt.Conn) error {
	stop := context.AfterFunc(ctx, func() { ear.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		p, ok := l.packets.Get().(*packet)
		if !ok {
			p = new(packet)
		}
		n, _, err := ear.ReadFrom(p.buf[:])
		if err != nil {
			l.packets.Put(p)
			if errors.Is(err, unix.ENETDOWN) {
				continue // told once each time that the link goes down; it may come up again
			}
			return err
		}
		p.n = n
		select {
		case l.line(p) <- p:
		default:
			l.packets.Put(p)
			l.full()
		}
	}
}

// line is where a packet waits. Whose it is tells its frame.
func (l *link) line(p *packet) chan<- *packet {
	if p.n < etherHeader {
		return l.lanes[0].queue
	}
	sender := charger.MAC(p.buf[6:12])
	lane := l.lanes[laneOf(sender)]
	if _, bound := l.leases.Lookup(l.Name, sender); bound || l.listed(sender) {
		return lane.regulars
	}
	return lane.queue
}

// overlook takes over the kernel's count of what did not fit into its buffer.
func (l *link) overlook() {
	s := l.current()
	if s == nil {
		return
	}
	if n := s.lost(); n > 0 {
		l.missed.Add(n)
		l.log.Say(event.DHCPQueueFull, event.Network(l.Name))
	}
}

// full notes that something had to be dropped for want of room.
func (l *link) full() {
	l.overflow.Add(1)
	l.log.Say(event.DHCPQueueFull, event.Network(l.Name))
}

// drop notes that a packet is not answered.
func (l *link) drop(r reason) {
	l.dropped[r].Add(1)
	l.log.Say(event.DHCPPacketDropped, event.Network(l.Name), event.F("REASON", r))
}
