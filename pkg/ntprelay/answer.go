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
	// together is how many requests are read at once. Each is answered by itself,
	// and its stamps say when: answers that left together would have waited for each
	// other, which makes the time wrong by as much.
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
	out       [ntp.PacketSizeBytes]byte
}

// answerAll answers what arrives at a socket until it is closed.
func (s *Server) answerAll(ctx context.Context, c *net.UDPConn, precision int8) error {
	k := &clerk{s: s, batch: datagram.New(c, together, longest, controlSize), precision: precision}
	for {
		n, err := k.batch.Read()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		now := time.Now()
		for i := range n {
			k.answer(i, now)
		}
	}
}

// answer answers one of the datagrams that were read by now, or is silent. A defect that
// one finds does not harm the others.
func (k *clerk) answer(i int, now time.Time) {
	defer func() {
		if p := recover(); p != nil {
			k.s.count.panics.Add(1)
			k.s.log.Say(event.PanicRecovered, event.F("SERVICE", k.s.Name()),
				event.F("ERROR", fmt.Sprint(p)), event.F("STACK", string(debug.Stack())))
		}
	}()
	q, control, from, _ := k.batch.Datagram(i)
	if k.mayHaveTime(i, q, from.Addr(), now) {
		k.giveTime(i, q, control, from.Addr())
	}
}

// mayHaveTime reports whether a datagram is a request from somebody who may have
// the time now. Who asks too often is told so once in a while, and counted.
func (k *clerk) mayHaveTime(i int, q []byte, from netip.Addr, now time.Time) bool {
	s := k.s
	if !isRequest(q) {
		s.count.invalid.Add(1)
		return false
	}
	reason, may := s.now.Load().silence(now), s.mayAsk(from, now)
	switch {
	case reason != "" && may:
		s.count.early.Add(1)
		s.log.Say(event.NTPAskedTooEarly, event.IP(from), event.F("REASON", reason))
		return false
	case !may:
		s.count.limited.Add(1)
		if reason == "" && s.kisses.Allow(from, now) {
			kiss(&k.out, q, k.precision)
			if k.send(i) {
				s.count.kissed.Add(1)
			}
			s.log.Say(event.NTPAskedTooOften, event.IP(from), event.F("RATE", s.cfg.Rate))
		}
		return false
	}
	return true
}

// giveTime sends the answer to a request, or stays silent and counts why.
func (k *clerk) giveTime(i int, q, control []byte, from netip.Addr) {
	rx, stamped := arrival(control)
	if !stamped { // the kernel may not have begun to stamp when this one came
		rx = time.Now()
	}
	tx, ok := k.s.give(&k.out, q, rx, k.precision)
	if ok && k.send(i) {
		k.s.count.answered.Add(1)
		k.s.book.Timed(from, tx)
	}
}

// send sends what is written, and reports whether the kernel took it.
func (k *clerk) send(i int) bool {
	if k.batch.Reply(i, k.out[:]) != nil {
		k.s.count.unsent.Add(1)
		return false
	}
	return true
}

// give writes the answer to a request that arrived at rx, stamped now, and returns
// that stamp. false means silence.
func (s *Server) give(out *[ntp.PacketSizeBytes]byte, request []byte, rx time.Time, precision int8) (tx time.Time, ok bool) {
	st := s.now.Load()
	step, tx, _ := s.look.step(st.drift)
	switch {
	case step != 0:
		s.count.early.Add(1)
		s.readSoon()
		return tx, false
	case !reply(out, request, rx, tx, precision, st):
		s.count.late.Add(1)
		return tx, false
	}
	return tx, true
}

// mayAsk reports whether a device keeps to its rate, and counts its request. Some of
// what is over leaks, so that whoever asks under a charger's address does not silence
// it; an answer is no longer than its request. This box itself may ask as it likes.
func (s *Server) mayAsk(who netip.Addr, now time.Time) bool {
	return who.IsLoopback() || s.limit.Allow(who, now) || s.limit.Leak(now)
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

// arrival reads the kernel's stamp (SO_TIMESTAMPNS_NEW, or the old one) from the control data of a
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
		if level == unix.SOL_SOCKET && (kind == unix.SO_TIMESTAMPNS_NEW || kind == unix.SCM_TIMESTAMPNS) {
			return timespec(said)
		}
		control = control[min((int(length)+wordSize-1)&^(wordSize-1), len(control)):]
	}
	return time.Time{}, false
}

// timespec reads a struct timespec of 64 bits, or the old one of 32-bit machines.
func timespec(b []byte) (time.Time, bool) {
	switch e := binary.NativeEndian; len(b) {
	case 16:
		return time.Unix(int64(e.Uint64(b)), int64(e.Uint64(b[8:]))), true
	case 8:
		return time.Unix(int64(int32(e.Uint32(b))), int64(e.Uint32(b[4:]))), true
	}
	return time.Time{}, false
}
