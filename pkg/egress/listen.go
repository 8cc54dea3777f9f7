package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"chargegate/pkg/event"

	"golang.org/x/sys/unix"
)

// listen takes the listening socket for addr: the one that was kept for us, by
// the process before or by ourselves when the room worked before, or a new one.
// The caller holds s.mu.
func (s *Server) listen(addr netip.AddrPort) (*door, error) {
	name := storeName(addr)
	if l := s.kept(name, addr); l != nil {
		if !s.own[addr] {
			s.log.Say(event.HandoverTaken, event.F("WHAT", "the proxy's socket "+addr.String()))
		}
		s.own[addr] = true
		return l, nil
	}
	lc := net.ListenConfig{Control: freebind, KeepAlive: -1} // tune sets keep-alive, for both legs alike
	lc.SetMultipathTCP(false)                                // MPTCP sockets cannot be spliced
	nl, err := lc.Listen(context.Background(), "tcp4", addr.String())
	if err != nil {
		return nil, err
	}
	if err := longestQueue(nl.(*net.TCPListener)); err != nil {
		nl.Close()
		return nil, err
	}
	l, err := newDoor(nl.(*net.TCPListener))
	if err != nil {
		return nil, err
	}
	s.own[addr] = true
	if err := s.keep(name, l); err != nil {
		s.log.Say(event.HandoverKeepFailed, event.F("WHAT", "the proxy's socket "+addr.String()), event.Err(err))
	}
	return l, nil
}

// longestQueue lets as many callers wait as the kernel allows anybody
// (net.core.somaxconn): all at once after a power cut (F-1). Package net reads that
// figure from /proc, which the unit hides, and takes 128 instead. The kernel cuts what
// is asked here down to it.
func longestQueue(l *net.TCPListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 1<<16-1) }); cerr != nil {
		return cerr
	}
	return err
}

// storeName is what the listening socket for addr is kept under. Colons are
// not allowed in such names (sd_notify(3), FDNAME).
func storeName(addr netip.AddrPort) string {
	return "egress-" + strings.ReplaceAll(addr.String(), ":", "-")
}

func (s *Server) keep(name string, l *door) error {
	if s.store == nil {
		return nil
	}
	return s.store.Keep(name, l.file)
}

// kept returns the listening socket that was kept under name, if it is one for addr.
func (s *Server) kept(name string, addr netip.AddrPort) *door {
	if s.store == nil {
		return nil
	}
	f, ok := s.store.Take(name)
	if !ok {
		return nil
	}
	defer f.Close()
	nl, err := net.FileListener(f)
	if err == nil {
		if l, ok := nl.(*net.TCPListener); ok && l.Addr().(*net.TCPAddr).AddrPort() == addr {
			if d, derr := newDoor(l); derr == nil {
				return d
			}
		}
		nl.Close()
		err = fmt.Errorf("it is no TCP socket on %s", addr)
	}
	s.log.Say(event.HandoverUnusable, event.F("WHAT", name), event.F("REASON", err))
	return nil
}

// freebind lets a socket be bound before its interface has the address.
func freebind(_, _ string, raw syscall.RawConn) error {
	var err error
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	}); cerr != nil {
		return cerr
	}
	return err
}

// acceptPause is how long the room waits when the kernel has no descriptor or
// memory for one more connection.
const acceptPause = 100 * time.Millisecond

// accept takes calls until ctx is done.
func (s *Server) accept(ctx context.Context, l *door) error {
	if s.places.total < s.cfg.Total {
		s.log.Say(event.EgressFewPlaces, event.F("LIMIT", s.places.total), event.F("WANTED", s.cfg.Total))
	}
	for {
		fd, caller, err := l.accept()
		switch {
		case err == nil:
			s.admit(visit{fd: fd, caller: caller, at: l.at, came: time.Now()})
		case ctx.Err() != nil:
			return nil
		case passing(err):
			s.acceptFailed(err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(acceptPause):
			}
		default:
			return fmt.Errorf("accepting conversations on %s: %w", l.at, err)
		}
	}
}

func (s *Server) acceptFailed(err error) {
	s.counts.acceptFailed.Add(1)
	s.log.Say(event.EgressAcceptFailed, event.Err(err))
}

// passing reports whether an error of accept(2) says something about the
// moment and not about the socket.
func passing(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EPROTO, unix.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// crowded says that a call was refused because its share is taken.
func (s *Server) crowded(caller netip.Addr, sh share) {
	if sh.leased() {
		s.counts.result(resultChargerLimit)
		s.cameToNothing(caller, Refused, causeLimit, "", 0, fmt.Sprintf("it had %d conversations open, as many as one may", s.cfg.PerCharger))
		s.log.Say(event.EgressChargerLimit, s.subject(caller, sh), event.F("LIMIT", s.cfg.PerCharger))
		return
	}
	s.counts.result(resultLeaselessLimit)
	network := "elsewhere"
	if sh.network.IsValid() {
		network = sh.network.String()
	}
	// Without event.IP: the network is the subject, so that a device which goes
	// through every address there is makes one line and not thousands.
	s.log.Say(event.EgressLeaselessLimit, event.F("ADDRESS", caller), event.F("SUBNET", network), event.F("LIMIT", s.cfg.PerCharger))
}

// admit finds a place for a new call and starts it, or resets it.
func (s *Server) admit(v visit) {
	caller, sh := v.caller, s.shareOf(v.caller)
	v.share = sh
	switch s.places.take(sh, s.named(sh, caller)) {
	case placeTaken:
		s.setOut(v)
		return
	case shareFull:
		s.crowded(caller, sh)
	case hellosFull:
		s.counts.result(resultHelloLimit)
		s.cameToNothing(caller, Refused, causeLimit, "", 0, fmt.Sprintf("it had %d calls open in which it had not said yet what it wants", s.places.hellos))
		s.log.Say(event.EgressHelloLimit, s.subject(caller, sh), event.F("LIMIT", s.places.hellos))
	case strangersFull:
		s.counts.result(resultStrangersLimit)
		s.cameToNothing(caller, Refused, causeLimit, "", 0, "those who are not in the inventory held all the places that they may")
		s.log.Say(event.EgressStrangersLimit, event.F("ADDRESS", caller), event.F("LIMIT", s.places.strangers), event.F("TOTAL", s.places.total))
	case houseFull:
		s.counts.result(resultTotalLimit)
		s.cameToNothing(caller, Refused, causeLimit, "", 0, "this box held as many conversations as it can")
		s.log.Say(event.EgressTotalLimit, event.F("LIMIT", s.places.total))
	}
	resetSocket(v.fd)
}

// subject is who a call is said to be of: the device that the share is of, where
// the address tells nobody.
func (s *Server) subject(caller netip.Addr, sh share) event.Field {
	if _, ok := s.book.At(caller); !ok && sh.leased() {
		_, caller = s.book.Where(sh.mac)
	}
	return event.IP(caller)
}
