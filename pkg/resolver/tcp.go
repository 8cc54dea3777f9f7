package resolver

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of conversations over TCP (RFC 7766, 6.2.3).
const (
	// tcpIdle is how long the next message may take to come, whole: whoever sends
	// it byte by byte has no more time than who sends nothing.
	tcpIdle = 10 * time.Second
	// tcpFirst is that for the first message, which the asker has ready: those who
	// only connect shall not take the room of those who ask.
	tcpFirst = 2 * time.Second
	// tcpPatience is how long one who does not read his answers is waited for.
	tcpPatience = 5 * time.Second
	// tcpFarewell is how long one who has asked enough is waited for.
	tcpFarewell = time.Second
	// tcpQuestions is how many questions one conversation may have, and tcpAtOnce
	// how many of them are being answered at the same time.
	tcpQuestions = 64
	tcpAtOnce    = 16
	// tcpSize is the longest question that is read: one with every option that is
	// in use has a few hundred bytes.
	tcpSize = 4096
	// tcpTotal and tcpPerAddress bound the conversations of one socket.
	tcpTotal      = 128
	tcpPerAddress = 8
)

// serveTCP holds conversations, each in a goroutine of all, until the listener is
// closed.
func (s *Server) serveTCP(ctx context.Context, l net.Listener, all *sync.WaitGroup) error {
	gate := newTurnstile(l, tcpTotal, tcpPerAddress)
	for {
		c, err := gate.Accept()
		switch {
		case err == nil:
			all.Go(func() { s.converse(ctx, c, addrOf(c.RemoteAddr())) })
		case isShortage(err):
			select { // others may end meanwhile
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		default:
			return err
		}
	}
}

// isShortage reports whether an error of accept(2) speaks of one conversation, or
// of what the machine lacks at the moment, and not of the listener.
func isShortage(err error) bool {
	for _, e := range []error{unix.ECONNABORTED, unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// converse answers what an asker sends over one connection, each question by
// itself and as soon as it can be (RFC 7766, 6.2.1.1), until he is done, too slow
// or asks too much. Those he has asked by then are answered.
func (s *Server) converse(ctx context.Context, c net.Conn, from netip.Addr) {
	defer s.rescue()
	gone := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		c.Close()
		close(gone)
	})
	var asked sync.WaitGroup
	defer func() {
		asked.Wait()
		c.Close()
		if !stop() {
			<-gone
		}
	}()
	v := voice{c, make(chan struct{}, 1)}
	in := bufio.NewReaderSize(c, 512)
	slots := make(chan struct{}, tcpAtOnce)
	for i := range tcpQuestions {
		idle := tcpIdle
		if i == 0 {
			idle = tcpFirst
		}
		_ = c.SetReadDeadline(time.Now().Add(idle))
		question, err := readMessage(in)
		if errors.Is(err, errTooLong) {
			s.count.invalid.Add(1)
		}
		if err != nil || !s.mayAsk(from, time.Now()) {
			return
		}
		slots <- struct{}{}
		asked.Go(func() {
			defer s.rescue()
			defer func() { <-slots }()
			if out := s.respondSpelled(ctx, question, from, overTCP); out != nil {
				v.say(out)
			}
		})
	}
	asked.Wait()
	partWith(c)
}

// partWith says that no more will be answered, and waits a little for the asker to
// hear it: to close with unread questions is to reset the connection, which takes
// the last answers with it.
func partWith(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok && h.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(tcpFarewell))
		_, _ = io.CopyN(io.Discard, c, 1<<16)
	}
}

var errTooLong = errors.New("a question longer than any that is known")

// readMessage reads one message behind its length (RFC 1035, 4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(head[:])
	if n > tcpSize {
		return nil, errTooLong
	}
	m := make([]byte, n)
	_, err := io.ReadFull(r, m)
	return m, err
}

// A voice says one answer after the other.
type voice struct {
	c    net.Conn
	turn chan struct{} // holds one
}

// say writes a message behind its length, in one piece (RFC 7766, 8). Whoever
// does not take it is left.
func (v voice) say(m []byte) {
	framed := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(m)), uint16(len(m))), m...)
	v.turn <- struct{}{}
	defer func() { <-v.turn }()
	_ = v.c.SetWriteDeadline(time.Now().Add(tcpPatience))
	if _, err := v.c.Write(framed); err != nil {
		v.c.Close()
	}
}
