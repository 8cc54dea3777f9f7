package ntprelay

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"time"

	"chargegate/pkg/datagram"
	"chargegate/pkg/event"

	ntp "github.com/facebook/time/ntp/protocol"
	"golang.org/x/sys/unix"
)

const (
	// together is how many requests are answered at once. The answers leave one
	// after the other, and the last one is stamped as early as the first: more
	// would make the time worse, fewer would cost more system calls.
	together = 16
	// longest is how much of a request is read. Only its header is looked at.
	longest = 512
	// controlSize is room for the kernel's stamp and one more message.
	controlSize = 64
)

// A clerk answers what arrives at one socket. It belongs to one goroutine and
// allocates nothing for an answer.
type clerk struct {
	s         *Server
	batch     *datagram.Batch
	precision int8
	out       [together][ntp.PacketSizeBytes]byte
	given     []netip.Addr // who gets the time with the next flush
}

// answerAll answers what arrives at a socket until it is closed.
func (s *Server) answerAll(ctx context.Context, c *net.UDPConn, precision int8) error {
	k := &clerk{s: s, batch: datagram.New(c, together, longest, controlSize), precision: precision, given: make([]netip.Addr, 0, together)}
	for {
		n, err := k.batch.Read()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		k.answer(n)
	}
}

// answer answers the datagrams that were read. First it is found out who may be
// answered; the stamps are put in last, right before all leave.
func (k *clerk) answer(n int) {
	var may [together]bool
	for i := range n {
		may[i] = k.guarded(i, k.mayHaveTime)
	}
	for i := range n {
		if may[i] {
			k.guarded(i, k.giveTime)
		}
	}
	unsent := k.batch.Flush()
	k.s.count.unsent.Add(uint64(unsent))
	k.s.count.answered.Add(uint64(max(0, len(k.given)-unsent)))
	if unsent == 0 { // else nobody knows whose it was
		now := time.Now()
		for _, asker := range k.given {
			k.s.book.Timed(asker, now)
		}
	}
	k.given = k.given[:0]
}

// guarded keeps a defect that one datagram finds from harming the others.
func (k *clerk) guarded(i int, do func(i int) bool) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			k.s.count.panics.Add(1)
			k.s.log.Say(event.PanicRecovered, event.F("SERVICE", k.s.Name()),
				event.F("ERROR", fmt.Sprint(p)), event.F("STACK", string(debug.Stack())))
		}
	}()
	return do(i)
}

// mayHaveTime reports whether a datagram is a request from somebody who may have
// the time now. Who asks too often is told so once in a while, and counted.
func (k *clerk) mayHaveTime(i int) bool {
	s := k.s
	q, _, from, _ := k.batch.Datagram(i)
	if !isRequest(q) {
		s.count.invalid.Add(1)
		return false
	}
	st, now := s.now.Load(), time.Now()
	reason, may := st.silence(now), s.mayAsk(from.Addr(), now)
	switch {
	case reason != "" && may:
		s.count.early.Add(1)
		s.log.Say(event.NTPAskedTooEarly, event.IP(from.Addr()), event.F("REASON", reason))
		return false
	case !may:
		s.count.limited.Add(1)
		if reason == "" && s.kisses.Allow(from.Addr(), now) {
			kiss(&k.out[i], q, k.precision)
			k.batch.Answer(i, k.out[i][:])
			s.count.kissed.Add(1)
			s.log.Say(event.NTPAskedTooOften, event.IP(from.Addr()), event.F("RATE", s.cfg.Rate))
		}
		return false
	}
	return true
}

// giveTime puts the answer to a request in line, or stays silent and counts why.
func (k *clerk) giveTime(i int) bool {
	q, control, from, _ := k.batch.Datagram(i)
	rx, stamped := arrival(control)
	if !stamped { // the kernel may not have begun to stamp when this one came
		rx = time.Now()
	}
	if !k.s.give(&k.out[i], q, rx, k.precision) {
		return false
	}
	k.batch.Answer(i, k.out[i][:])
	k.given = append(k.given, from.Addr())
	return true
}

// give writes the answer to a request that arrived at rx, stamped now. false means
// silence.
func (s *Server) give(out *[ntp.PacketSizeBytes]byte, request []byte, rx time.Time, precision int8) bool {
	st := s.now.Load()
	step, tx, _ := s.look.step(st.drift)
	switch {
	case step != 0:
		s.count.early.Add(1)
		s.readSoon()
		return false
	case !reply(out, request, rx, tx, precision, st):
		s.count.late.Add(1)
		return false
	}
	return true
}

// mayAsk reports whether a device keeps to its rate, and counts its request. This
// box itself may ask as it likes.
func (s *Server) mayAsk(who netip.Addr, now time.Time) bool {
	return who.IsLoopback() || s.limit.Allow(who, now)
}

// readSoon wakes the follower.
func (s *Server) readSoon() {
	select {
	case s.again <- struct{}{}:
	default: // it has been told
	}
}

// wordSize is the size of a size_t in bytes: 8 or 4.
const wordSize = strconv.IntSize / 8

// arrival reads the kernel's stamp (SO_TIMESTAMPNS) from the control data of a
// datagram: messages of a length, a level, a type and what they say, each begun
// at a multiple of the word size (cmsg(3)).
func arrival(control []byte) (time.Time, bool) {
	const head = wordSize + 8
	e := binary.NativeEndian
	for len(control) >= head {
		length := uint64(e.Uint32(control))
		if wordSize == 8 {
			length = e.Uint64(control)
		}
		if length < head || length > uint64(len(control)) {
			return time.Time{}, false
		}
		level, kind, said := e.Uint32(control[wordSize:]), e.Uint32(control[wordSize+4:]), control[head:length]
		if level == unix.SOL_SOCKET && kind == unix.SCM_TIMESTAMPNS {
			return timespec(said)
		}
		control = control[min((int(length)+wordSize-1)&^(wordSize-1), len(control)):]
	}
	return time.Time{}, false
}

// timespec reads a struct timespec of 64-bit or of 32-bit machines.
func timespec(b []byte) (time.Time, bool) {
	switch e := binary.NativeEndian; len(b) {
	case 16:
		return time.Unix(int64(e.Uint64(b)), int64(e.Uint64(b[8:]))), true
	case 8:
		return time.Unix(int64(int32(e.Uint32(b))), int64(e.Uint32(b[4:]))), true
	}
	return time.Time{}, false
}
