package egress

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"chargegate/pkg/carry"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"golang.org/x/sys/unix"
)

// Why a conversation that was kept cannot go on.
var (
	errIncomplete = errors.New("some of their descriptors are missing")
	errWaiting    = errors.New("systemd had not been given them yet")
	errUnwritten  = errors.New("nothing was written of them")
	errStranger   = errors.New("their descriptors are not those that were written down")
	errNotAllowed = errors.New("the configuration does not allow them any more")
	errNoPlace    = errors.New("this box has no descriptors left for them")
)

// takeOver goes on with the conversations that the process before this one had,
// once, before anybody new is let in. Whatever does not fit to the last detail is
// reset: nobody is ever given somebody else's partner. The caller holds s.mu.
func (s *Server) takeOver() {
	if s.store == nil || !s.store.Managed() {
		return
	}
	k := newKeeper(s.store, s.log)
	given := s.store.Given(keptPrefix)
	l, why := k.open()
	if l == nil { // nothing can be kept here any more: conversations end with the process again
		for name, fds := range given {
			abandon(fds)
			_ = s.store.Remove(name) // what cannot be removed holds sockets that were reset
		}
		s.sayTaken(0, 0, map[error]int{why: len(given)})
		return
	}
	s.keeper = k
	now := sinceBoot()
	boot := time.Now().Add(-now)
	lost := map[error]int{}
	taken := 0
	gap := now - time.Duration(l.alive().Load())
	pending := map[int]bool{} // slots whose name the manager must forget first
	for name, fds := range given {
		slot, ok := slotOf(name)
		err := why
		if err == nil {
			err = errUnwritten
			if ok {
				err = s.resume(l, slot, name, fds, now, boot)
			}
		}
		if err == nil {
			taken++
			continue
		}
		if errors.Is(err, errEnded) {
			closeAll(fds) // both ends were told, and what was said before may still be on its way
		} else {
			lost[err]++
			abandon(fds)
		}
		if !ok {
			slot = -1
		}
		pending[slot] = true
		k.queueLocked(&kept{name: name, slot: slot, given: true, over: true})
	}
	for slot := ledgerSlots - 1; slot >= 0; slot-- { // the first slots are used first: the ledger's pages are touched one by one
		_, here := given[keptName(slot)]
		state := l.state(slot).Load()
		switch {
		case here && pending[slot]:
			l.clear(slot)
		case here:
		default:
			switch state {
			case slotUsed:
				lost[errWaiting]++
			case slotKept:
				lost[errIncomplete]++
			}
			l.clear(slot)
			k.free = append(k.free, slot)
		}
	}
	l.alive().Store(int64(now))
	s.sayTaken(taken, gap, lost)
}

// errEnded says that a conversation had come to its end before.
var errEnded = errors.New("they had ended")

// slotOf returns whose slot a name tells.
func slotOf(name string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimPrefix(name, keptPrefix))
	return n, err == nil && n >= 0 && n < ledgerSlots && keptName(n) == name
}

// open opens the ledger of the process before this one, or a new one and says why
// the old one cannot be used; errNoLedger: there was none. nil: there can be none.
func (k *keeper) open() (*ledger, error) {
	why := errNoLedger
	if f, ok := k.store.Take(ledgerName); ok {
		l, err := openLedger(f)
		if err == nil {
			k.ledger, k.entered = l, true
			return l, nil
		}
		f.Close()
		why = err
	}
	l, err := newLedger()
	if err != nil {
		k.log.Say(event.HandoverKeepFailed, event.F("WHAT", "the ledger of conversations"), event.Err(err))
		return nil, why
	}
	k.ledger = l
	if err := k.store.Keep(ledgerName, l.file); err != nil { // the keeper tries again before the first conversation
		k.log.Say(event.HandoverKeepFailed, event.F("WHAT", "the ledger of conversations"), event.Err(err))
	} else {
		k.entered = true
	}
	return l, why
}

// sayTaken says what became of the conversations of the process before.
func (s *Server) sayTaken(taken int, gap time.Duration, lost map[error]int) {
	sum := 0
	for _, n := range lost {
		sum += n
	}
	if taken > 0 {
		s.log.Say(event.HandoverConversations, event.F("COUNT", taken), event.F("GAP", max(gap, 0).Round(time.Millisecond)), event.F("LOST", sum))
	}
	maps.DeleteFunc(lost, func(_ error, n int) bool { return n == 0 })
	for _, err := range slices.SortedFunc(maps.Keys(lost), func(a, b error) int { return strings.Compare(a.Error(), b.Error()) }) {
		s.log.Say(event.HandoverConversationsLost, event.F("COUNT", lost[err]), event.F("REASON", err))
	}
}

// resume goes on with one conversation. With an error the descriptors are still
// the caller's.
func (s *Server) resume(l *ledger, slot int, name string, fds []int, now time.Duration, boot time.Time) error {
	switch l.state(slot).Load() {
	case slotUsed, slotKept: // it may have died between giving and writing that it had
	case slotOver:
		return errEnded
	default:
		return errUnwritten
	}
	r, err := l.read(slot, now)
	if err != nil {
		return err
	}
	rule, ok := s.stillAllowed(r)
	if !ok {
		return errNotAllowed
	}
	pair, err := r.match(fds)
	if err != nil {
		return err
	}
	pair.Counts = l.counts(slot)
	recount(pair)
	if !r.share.leased() && r.share.network.IsValid() {
		r.share.addr = r.caller
	}
	c := s.resumed(r, rule, time.Duration(l.moved(slot).Load()), boot)
	c.taken = int(l.taken(slot).Add(1))
	c.kept = &kept{name: name, slot: slot, given: true}
	up, down := pair.Count()
	c.meter.up, c.meter.down = up, down
	s.attach(c, pair)
	if err := s.carrier.Add(pair); err != nil {
		_ = unix.Close(pair.Up.Read)
		_ = unix.Close(pair.Down.Read)
		return errNoPlace
	}
	s.places.retake(c.share, s.named(c.share, c.caller))
	s.open[c] = struct{}{}
	s.dialler.remembered(c.name, c.remote.Addr())
	heard := time.Time{}
	if down > 0 {
		heard = c.meter.moved
	}
	s.book.Resumed(c.caller, c.cloud, c.opened, heard, time.Now())
	s.enterUnsaved(c, l.saved(slot))
	return nil
}

// stillAllowed asks the list as it is now, and whether the server's address may be
// dialled: an upgrade or another configuration may lie between.
func (s *Server) stillAllowed(r record) (policy.Rule, bool) {
	if !slices.ContainsFunc(s.cfg.Networks, func(p netip.Prefix) bool { return p.Contains(r.caller) }) {
		return policy.Rule{}, false
	}
	list := s.list
	if r.plain {
		list = list.Plain()
	}
	verdict, rule := list.Decide(r.name, r.port)
	to := errand{dialler: s.dialler, private: rule.Addresses}
	return rule, verdict == policy.Allowed && to.allowed(r.remote.Addr()) == nil
}

// match finds out which of the descriptors is which. They must be the four that
// were written down, each once, and nothing else.
func (r record) match(fds []int) (*carry.Pair, error) {
	if len(fds) != 4 {
		return nil, errIncomplete
	}
	p := &carry.Pair{Sockets: [2]int{-1, -1}, Up: carry.Pipe{Read: -1, Write: -1}, Down: carry.Pipe{Read: -1, Write: -1}}
	for _, fd := range fds {
		place := r.place(p, fd)
		if place == nil || *place >= 0 {
			return nil, errStranger
		}
		*place = fd
	}
	if !speaksWith(p.Sockets[carry.Near], r.caller, 0) || !speaksWith(p.Sockets[carry.Far], r.remote.Addr(), r.remote.Port()) {
		return nil, errStranger
	}
	for _, fd := range fds {
		if err := unix.SetNonblock(fd, true); err != nil { // whoever passed them may have changed that
			return nil, errStranger
		}
	}
	for _, pipe := range []*carry.Pipe{&p.Up, &p.Down} {
		var err error
		if pipe.Read, err = otherEnd(pipe.Write); err != nil {
			closeAll([]int{p.Up.Read, p.Down.Read})
			return nil, errNoPlace
		}
	}
	return p, nil
}

// place returns where in p a descriptor belongs; nil: nowhere.
func (r record) place(p *carry.Pair, fd int) *int {
	if n, err := inode(fd); err == nil {
		switch flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); {
		case err != nil || flags&unix.O_ACCMODE != unix.O_WRONLY:
		case n == r.up:
			return &p.Up.Write
		case n == r.down:
			return &p.Down.Write
		}
		return nil
	}
	switch c, err := cookie(fd); {
	case err != nil:
	case c == r.near:
		return &p.Sockets[carry.Near]
	case c == r.far:
		return &p.Sockets[carry.Far]
	}
	return nil
}

// speaksWith reports whether the other end of a socket is who it should be. One
// that was reset meanwhile has no other end any more, and its cookie must do. Port
// 0 stands for any.
func speaksWith(fd int, addr netip.Addr, port uint16) bool {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return errors.Is(err, unix.ENOTCONN)
	}
	in, ok := sa.(*unix.SockaddrInet4)
	return ok && netip.AddrFrom4(in.Addr) == addr && (port == 0 || in.Port == int(port))
}

// recount adds what a crash kept from being counted: the process may have ended
// between handing bytes to a socket and counting them. The kernel knows how many
// there were.
func recount(p *carry.Pair) {
	up, down := p.Count()
	if n, ok := written(p.Sockets[carry.Far], true); ok && n > up {
		p.Counts.Up.Store(n)
	}
	if n, ok := written(p.Sockets[carry.Near], false); ok && n > down {
		p.Counts.Down.Store(n)
	}
}

// written returns how many bytes were ever handed to a connection: those that the
// other side has acknowledged, and those that it has not. dialled says that the
// connection was, so that its SYN is among them. Once an end was sent nobody can
// tell whether that was counted, too.
func written(fd int, dialled bool) (int64, bool) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || info.State != unix.BPF_TCP_ESTABLISHED && info.State != unix.BPF_TCP_CLOSE_WAIT {
		return 0, false
	}
	waiting, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ) // SIOCOUTQ by its other name
	if err != nil {
		return 0, false
	}
	n := int64(info.Bytes_acked) + int64(waiting)
	if dialled {
		n--
	}
	return n, true
}

// otherEnd opens the end of a pipe to read from. Its bytes live as long as either
// end is open.
func otherEnd(write int) (int, error) {
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", write), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}

// abandon resets the sockets among descriptors, and closes all of them. A close
// alone ends nothing while the manager holds copies; to connect to nobody does
// (connect(2), AF_UNSPEC).
func abandon(fds []int) {
	for _, fd := range fds {
		disconnect(fd)
	}
	closeAll(fds)
}

func disconnect(fd int) {
	nobody := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, _ = unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nobody)), unsafe.Sizeof(nobody))
}
