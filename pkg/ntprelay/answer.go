package ntprelay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"chargegate/pkg/event"

	"golang.org/x/sys/unix"
)

// answerAll answers what arrives at a socket until it is closed.
func (s *Server) answerAll(ctx context.Context, c *net.UDPConn, precision int8) error {
	in, oob := make([]byte, 1024), make([]byte, 128)
	for {
		n, oobn, _, from, err := c.ReadMsgUDPAddrPort(in, oob)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM):
			continue // the packet is lost, the socket is not
		case err != nil:
			return err
		}
		rx, ok := arrival(oob[:oobn])
		if !ok { // the kernel may not have begun to stamp when this one came
			rx = time.Now()
		}
		s.answerOne(c, in[:n], rx, from, precision)
	}
}

// answerOne answers one datagram, or stays silent and counts why.
func (s *Server) answerOne(c *net.UDPConn, datagram []byte, rx time.Time, from netip.AddrPort, precision int8) {
	defer func() {
		if p := recover(); p != nil {
			s.count.panics.Add(1)
			s.log.Say(event.PanicRecovered, event.F("SERVICE", s.Name()),
				event.F("ERROR", fmt.Sprint(p)), event.F("STACK", string(debug.Stack())))
		}
	}()
	asker := from.Addr().Unmap()
	if !isRequest(datagram) {
		s.count.invalid.Add(1)
		return
	}
	st := s.now.Load()
	step, tx, _ := s.look.step(st.drift)
	if reason := st.silence(tx); reason != "" {
		s.count.early.Add(1)
		s.log.Say(event.NTPAskedTooEarly, event.IP(asker), event.F("REASON", reason))
		return
	}
	if step != 0 {
		s.count.early.Add(1)
		s.readSoon()
		return
	}
	out, ok := reply(datagram, rx, tx, precision, st)
	if !ok {
		s.count.late.Add(1)
		return
	}
	if _, err := c.WriteToUDPAddrPort(out, from); err != nil {
		s.count.unsent.Add(1)
		return
	}
	s.count.answered.Add(1)
	s.book.Timed(asker, tx)
}

// readSoon wakes the follower.
func (s *Server) readSoon() {
	select {
	case s.again <- struct{}{}:
	default: // it has been told
	}
}

// arrival reads the kernel's stamp (SO_TIMESTAMPNS) from the control data of a
// datagram.
func arrival(oob []byte) (time.Time, bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return time.Time{}, false
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_TIMESTAMPNS {
			continue
		}
		switch e := binary.NativeEndian; len(m.Data) {
		case 16: // struct timespec on 64-bit machines
			return time.Unix(int64(e.Uint64(m.Data)), int64(e.Uint64(m.Data[8:]))), true
		case 8: // on 32-bit machines
			return time.Unix(int64(int32(e.Uint32(m.Data))), int64(e.Uint32(m.Data[4:]))), true
		}
	}
	return time.Time{}, false
}
