package resolver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"chargegate/pkg/datagram"
	"chargegate/pkg/event"
)

const (
	// udpBatch is how many questions are read at once when so many wait. A single
	// one does not wait for others.
	udpBatch = 32
	// udpBuffer is how many bytes the kernel is asked to keep for a reader that is
	// not quick enough. It doubles that for its own book-keeping, by which a
	// question counts 768, or up to 4,352 where a driver receives into whole
	// pages: room for the first question of a garage (F-1).
	udpBuffer = 4 << 20
	// udpOnTheirWay is how many bytes of answers may be on their way, each counted
	// with some 500 more. Those to a device that sleeps stay in the driver: at the
	// rate that one may ask it takes minutes to use this up, and no driver keeps them
	// so long.
	udpOnTheirWay = 4 << 20
)

// Bounds of the questions over UDP that are being answered the ordinary way, in
// all and of one asker: twice what may wait for an upstream, so that questions
// that need none always find a place.
const (
	maxBusy     = 2 * maxQuestions
	maxBusyEach = 256
)

// serveUDP answers what comes to a socket until it is closed.
func (s *Server) serveUDP(so socket, work *workers) error {
	r := reader{Server: s, b: datagram.New(so.udp, udpBatch, udpSize, 0), udp: so.udp, work: work, fast: newFast(s)}
	for {
		n, err := r.b.Read()
		if err != nil {
			return err
		}
		now := time.Now()
		for i := range n {
			r.receive(i, now)
		}
		s.count.unsent.Add(uint64(r.b.Flush()))
	}
}

// A reader reads one socket.
type reader struct {
	*Server
	b    *datagram.Batch
	udp  *net.UDPConn
	work *workers
	fast *fast
}

// receive answers one datagram at once, or gives it to a worker. One from a
// device that asks too often is not even read.
func (r *reader) receive(i int, now time.Time) {
	defer r.rescue()
	in, _, from, whole := r.b.Datagram(i)
	if !r.mayAsk(from.Addr(), now) {
		return
	}
	if whole {
		if out := r.quick(in, from.Addr(), now); out != nil {
			r.b.Answer(i, out)
			return
		}
	}
	if !r.work.take(r.udp, in, from) {
		r.count.dropped.Add(1)
		r.log.Say(event.ResolverOverload, event.F("LIMIT", maxBusy))
	}
}

// quick answers at once what can be. What meets a fault there goes the ordinary way.
func (r *reader) quick(in []byte, from netip.Addr, now time.Time) []byte {
	defer r.rescue()
	return r.fast.answer(in, from, now)
}

// rescue, deferred, ends the work on one message that met a fault of our own, and
// nothing else.
func (s *Server) rescue() {
	if p := recover(); p != nil {
		s.count.panics.Add(1)
		s.log.Say(event.PanicRecovered, event.F("SERVICE", s.Name()),
			event.F("ERROR", fmt.Sprint(p)), event.F("STACK", string(debug.Stack())))
	}
}

// A job is a question over UDP for a worker.
type job struct {
	udp  *net.UDPConn
	from netip.AddrPort
	in   [udpSize]byte
	n    int
}

// workers answer the questions that may take a while, each by itself.
type workers struct {
	share *share
	crew  *crew[*job]
	spare sync.Pool // of *job
}

func newWorkers(do func(*job)) *workers {
	w := &workers{share: newShare(maxBusy, maxBusyEach), spare: sync.Pool{New: func() any { return new(job) }}}
	w.crew = newCrew(func(j *job) {
		do(j)
		w.share.leave(j.from.Addr())
		w.spare.Put(j)
	})
	return w
}

// take gives a copy of a question to a worker, or reports that too many are being
// answered.
func (w *workers) take(udp *net.UDPConn, in []byte, from netip.AddrPort) bool {
	if !w.share.enter(from.Addr()) {
		return false
	}
	j := w.spare.Get().(*job)
	j.udp, j.from, j.n = udp, from, copy(j.in[:], in)
	w.crew.take(j)
	return true
}

// end waits until the last question is answered. None may be taken any more.
func (w *workers) end() { w.crew.end() }

// answerUDP answers a question the ordinary way, and makes the quick one ready
// for the next who asks the same.
func (s *Server) answerUDP(ctx context.Context, j *job) {
	defer s.rescue()
	in := j.in[:j.n]
	out := s.respondReady(ctx, in, j.from.Addr())
	if out == nil {
		return
	}
	if datagram.Send(j.udp, out, j.from) != nil {
		s.count.unsent.Add(1)
	}
}
