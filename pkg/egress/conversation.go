package egress

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"chargegate/pkg/carry"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"golang.org/x/sys/unix"
)

// A conversation is two connections and the bytes between them, which a
// carry.Carrier carries.
type conversation struct {
	caller netip.Addr
	share  share
	local  netip.Addr // where it leaves this box, once address was asked; mu guards it
	name   string
	port   uint16
	by     string
	rule   policy.Rule // that allowed it
	remote netip.AddrPort
	cloud  bool          // it is the charger's lasting one (Z-8)
	plain  bool          // a plain rule allowed it
	idle   time.Duration // how long it may be silent
	opened time.Time
	taken  int // how many processes before this one had it
	pair   *carry.Pair
	kept   *kept         // nil: it ends with the process
	gone   chan struct{} // closed when it has ended; nil: nobody waits. Server.mu guards it
	// trouble is how the handshake failed, for the charger's page; the carrier's.
	trouble string

	mu    sync.Mutex
	meter meter
	payer payer
	over  bool // its bytes are counted to the end: its pair must not be asked any more
}

// Why the room ends a conversation itself.
var (
	errStops  = errors.New("the gateway stops")
	errSilent = errors.New("silent for too long")
)

func (s *Server) newConversation(caller netip.Addr, sh share, server *net.TCPConn, port uint16, d decision) *conversation {
	return s.conversation(caller, sh, server.RemoteAddr().(*net.TCPAddr).AddrPort(), port, d, time.Now())
}

func (s *Server) conversation(caller netip.Addr, sh share, remote netip.AddrPort, port uint16, d decision, opened time.Time) *conversation {
	c := &conversation{
		caller: caller, share: sh, name: d.name, port: port, by: d.by, rule: d.rule, remote: remote,
		cloud: d.name == policy.Hub && port == policy.HubPort,
		plain: d.rule.Plain,
		idle:  s.cfg.IdleShort, opened: opened,
		meter: meter{moved: opened},
	}
	if port == policy.HubPort || d.rule.Plain {
		c.idle = s.cfg.IdleLasting
	}
	return c
}

// converse replays what was read and hands both connections to the carrier. The
// place of the call is the conversation's from then on. It reports false when it
// came to nothing; then the connections are still the caller's to close.
func (s *Server) converse(c *conversation, charger, server *net.TCPConn, first []byte) (carried bool) {
	_ = charger.SetDeadline(time.Time{})
	tuneConn(charger)
	tuneConn(server)
	_ = server.SetWriteDeadline(time.Now().Add(s.cfg.DialTimeout))
	if _, err := server.Write(first); err != nil {
		s.failed(c, len(first), "the server took no bytes: "+err.Error())
		return false
	}
	pair, err := newPair(charger, server, s.carrier.NewPipe)
	if err != nil {
		s.failed(c, len(first), err.Error())
		return false
	}
	added := false
	defer func() {
		if p := recover(); p != nil && c.pair != nil && !added { // a fault of ours costs this one only
			s.panicked(p, debug.Stack())
			discard(pair)
			s.letGo(c)
			carried = true
		} else if p != nil {
			panic(p)
		}
	}()
	s.pairUp(c, pair, first)
	if err := s.carrier.Add(pair); err != nil {
		discard(pair)
		s.finish(c, err.Error())
		return true
	}
	added = true
	s.keeper.offer(c.kept)
	charger.Close() // the carrier has descriptors of its own
	server.Close()
	return true
}

// discard closes a pair that is not carried.
func discard(pair *carry.Pair) {
	for _, fd := range pair.Sockets {
		unix.Close(fd)
	}
	pair.Up.Close()
	pair.Down.Close()
}

// pairUp begins a conversation with two connections, the second of which has been
// told what the first one said.
func (s *Server) pairUp(c *conversation, pair *carry.Pair, first []byte) {
	pair.Counts = &carry.Counts{}
	pair.Counts.Up.Store(int64(len(first)))
	carrier := s.carrier
	c.kept = s.keeper.keep(pair, c.record(), func() ([]int, error) { return carrier.Copies(pair) })
	pair.Glance = s.glanceOf(c, first)
	s.attach(c, pair)
	s.begin(c)
}

// attach makes pair the connections of c.
func (s *Server) attach(c *conversation, pair *carry.Pair) {
	pair.Moved = func(from carry.Leg) {
		if c.cloud && from == carry.Far && c.trouble == "" { // the ladder shows at once that the cloud answers
			s.report(c, time.Now())
		}
	}
	pair.Ended = func(e carry.Ending) {
		if fault := (*carry.Fault)(nil); errors.As(e.Err, &fault) {
			s.panicked(fault.Value, fault.Stack)
		}
		s.unanswered(c, e)
		s.finish(c, endInWords(e))
	}
	c.pair = pair
}

// record is what the next process must know of c.
func (c *conversation) record() record {
	return record{
		opened: sinceBoot() - time.Since(c.opened), caller: c.caller, remote: c.remote, port: c.port, share: c.share,
		name: c.name, by: c.by, plain: c.plain,
	}
}

// resumed is newConversation for one that the process before this one had. moved
// is when bytes last moved; boot is when the machine was started.
func (s *Server) resumed(r record, rule policy.Rule, moved time.Duration, boot time.Time) *conversation {
	c := s.conversation(r.caller, r.share, r.remote, r.port, decision{name: r.name, by: r.by, rule: rule}, boot.Add(r.opened))
	if moved >= r.opened && moved <= time.Since(boot) {
		c.meter.moved = boot.Add(moved)
	}
	return c
}

// failed accounts for a conversation that ended before it began.
func (s *Server) failed(c *conversation, up int, reason string) {
	s.counts.result(resultCarried)
	now := time.Now()
	s.remember(c, reason, int64(up), 0, now)
	s.log.Say(event.EgressEnded, event.IP(c.caller), event.F("NAME", c.name), event.F("PORT", c.port),
		event.F("LASTED", now.Sub(c.opened)), event.F("REASON", reason), event.F("UP", up), event.F("DOWN", 0))
}

// newPair makes a pair of two connections: with descriptors of its own, which
// the runtime's poller does not know.
func newPair(near, far *net.TCPConn, pipe func() (carry.Pipe, error)) (p *carry.Pair, err error) {
	p = &carry.Pair{Sockets: [2]int{-1, -1}, Up: carry.Pipe{Read: -1, Write: -1}, Down: carry.Pipe{Read: -1, Write: -1}}
	defer func() {
		if err != nil {
			for _, fd := range []int{p.Sockets[0], p.Sockets[1], p.Up.Read, p.Up.Write, p.Down.Read, p.Down.Write} {
				if fd >= 0 {
					unix.Close(fd)
				}
			}
		}
	}()
	for leg, conn := range []*net.TCPConn{near, far} {
		raw, err := conn.SyscallConn()
		if err != nil {
			return nil, err
		}
		var derr error
		if err := raw.Control(func(fd uintptr) {
			p.Sockets[leg], derr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		}); err != nil {
			return nil, err
		}
		if derr != nil {
			return nil, fmt.Errorf("copying a descriptor: %w", derr)
		}
	}
	if p.Up, err = pipe(); err != nil {
		return nil, err
	}
	if p.Down, err = pipe(); err != nil {
		return nil, err
	}
	return p, nil
}

// endInWords says who ended a conversation.
func endInWords(e carry.Ending) string {
	side := "the charger"
	if e.Leg == carry.Far {
		side = "the server"
	}
	switch {
	case e.Asked, errors.As(e.Err, new(*carry.Fault)):
		return e.Err.Error()
	case e.Err == nil:
		return side + " hung up"
	case errors.Is(e.Err, unix.ECONNRESET), errors.Is(e.Err, unix.EPIPE):
		return side + " reset it"
	case errors.Is(e.Err, unix.ETIMEDOUT), errors.Is(e.Err, unix.EHOSTUNREACH), errors.Is(e.Err, unix.ENETUNREACH):
		return side + " does not answer any more"
	}
	return fmt.Sprintf("%s: %v", side, e.Err)
}

// begin enters c among the open ones.
func (s *Server) begin(c *conversation) {
	s.mu.Lock()
	s.open[c] = struct{}{}
	s.mu.Unlock()
	s.counts.result(resultCarried)
	s.book.Opened(c.caller, c.cloud, c.opened)
	s.enter(c, 0, 0, 1, c.opened)
	s.log.Say(event.EgressOpened, event.IP(c.caller), event.F("NAME", c.name), event.F("PORT", c.port),
		event.F("BY", c.by), event.F("REMOTE", c.remote), event.F("RULE", c.rule.Name), event.F("WHY", c.rule.Reason))
}

// finish accounts for the last bytes of c, gives its place back and forgets it.
func (s *Server) finish(c *conversation, reason string) {
	defer s.letGo(c) // whatever happens below: a place that is lost is lost for good
	now := time.Now()
	s.report(c, now)
	s.book.Closed(c.caller, c.cloud, c.opened, now)
	up, down := c.close()
	if c.trouble != "" { // the bytes of an alert were no answer
		s.book.Unreachable(c.caller, c.trouble, now)
	}
	s.log.Say(event.EgressEnded, event.IP(c.caller), event.F("NAME", c.name), event.F("PORT", c.port),
		event.F("LASTED", now.Sub(c.opened)), event.F("REASON", reason),
		event.F("UP", up), event.F("DOWN", down))
	s.remember(c, reason, up, down, now)
}

// letGo gives back what c held.
func (s *Server) letGo(c *conversation) {
	c.close()
	s.places.give(c.share)
	s.keeper.end(c.kept)
	s.mu.Lock()
	delete(s.open, c)
	if c.gone != nil {
		close(c.gone)
	}
	s.mu.Unlock()
}

// count returns the bytes that went each way so far.
func (c *conversation) count() (up, down int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.countLocked()
}

func (c *conversation) countLocked() (up, down int64) {
	if c.over {
		return c.meter.up, c.meter.down
	}
	return c.pair.Count()
}

// close ends the counting: where the pair has counted somebody else's bytes will
// be.
func (c *conversation) close() (up, down int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.meter.up, c.meter.down = c.countLocked()
	c.over = true
	return c.meter.up, c.meter.down
}

// endUnkept resets every open conversation that is not kept, and waits until all
// of those are accounted for.
func (s *Server) endUnkept(reason error) {
	var ending []*conversation
	s.mu.Lock()
	for c := range s.open {
		if !s.keeper.has(c.kept) {
			c.gone = make(chan struct{})
			ending = append(ending, c)
		}
	}
	s.mu.Unlock()
	for _, c := range ending {
		s.carrier.Reset(c.pair, reason)
	}
	for _, c := range ending {
		<-c.gone
	}
}

// leave accounts for the conversations that are left, and leaves them to the next
// process. Nobody carries them any more.
func (s *Server) leave(now time.Time) {
	s.mu.Lock()
	left := slices.Collect(maps.Keys(s.open))
	clear(s.open)
	s.mu.Unlock()
	for _, c := range left {
		s.report(c, now)
		up, down := c.close()
		s.keeper.saved(c.kept, up, down) // the accounts are written when everybody has stopped
		s.places.give(c.share)
	}
	if len(left) > 0 {
		s.log.Say(event.HandoverLeft, event.F("COUNT", len(left)))
	}
}

// patience is how long a side may leave bytes or keep-alive probes unanswered:
// 60 s of silence and four probes 15 s apart.
const patience = 60*time.Second + 4*15*time.Second

// tune prepares a connection for a long, quiet life on a radio link.
func tune(fd int) {
	for _, o := range [...]struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 60},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 4},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience.Milliseconds())},
	} {
		_ = unix.SetsockoptInt(fd, o.level, o.name, o.value)
	}
}

// tuneConn is tune for a connection of the runtime's poller.
func tuneConn(conn *net.TCPConn) {
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { tune(int(fd)) })
	}
}
