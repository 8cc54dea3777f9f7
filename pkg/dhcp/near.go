package dhcp

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	pkt "github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

// The neighbourhood of a network is everybody on it who does not ask for
// anything: devices with an address that they do not have from here, other
// servers, another chargegate. All of it is found out in the background.
type neighbourhood struct {
	asking asking
	place  place
	rogues rogues

	accusing, squatting, doubting, foreignQuota, relaying quota
	marks                                                 *rate.Limiter // of answers to other chargegates
	every                                                 periods

	claims         [meanings]atomic.Uint64
	questions      atomic.Uint64
	probes         atomic.Uint64
	foreignReplies [messageTypes]atomic.Uint64
	// dark says that there is no carrier, bare that the gateway's address is not on
	// the interface; the conditions behind them are the reader's alone.
	dark, bare       atomic.Bool
	off              atomic.Bool // the interface is switched off
	impostor         atomic.Pointer[impostor]
	carrier, address condition

	deaf      atomic.Uint64 // frames that were not looked at, by the kernel's count
	blindness atomic.Uint64 // see asking.blind
}

const (
	// claimRate and foreignRate bound how many frames a second of each network are
	// looked at; the others stay in the kernel, which drops and counts them.
	claimRate   = 1000
	foreignRate = 200
	// probesSent is how many times the question who else gives addresses is sent:
	// a frame is easily lost.
	probesSent = 3
	// probeEvery is the time between two of them, and startFor how long a start
	// lasts in which this server gives way to another chargegate, and how long
	// answers are waited for.
	probeEvery = 300 * time.Millisecond
	startFor   = time.Second
	// readyEvery is the time between looks whether the network can be asked yet.
	readyEvery = 50 * time.Millisecond
)

// periods are the times between two looks for other servers.
type periods struct {
	calm  time.Duration // as long as none is known
	known time.Duration // one is
	down  time.Duration // another chargegate serves
}

var usual = periods{calm: 10 * time.Minute, known: time.Minute, down: 30 * time.Second}

// settleIn makes a link's neighbourhood ready.
func (l *link) settleIn(leases *lease.Table) {
	l.accusing, l.squatting = quota{each: 30, all: 300}, quota{each: 30, all: 30}
	l.doubting, l.foreignQuota, l.relaying = quota{each: 1, all: 30}, quota{each: 1, all: 30}, quota{each: 1, all: 30}
	l.marks = rate.NewLimiter(10, 10)
	l.every = usual
	l.asking.nudged = make(chan struct{}, 1)
	l.asking.next = func(now time.Time) (netip.Addr, time.Time) { return leases.NextProbe(l.Name, now) }
	l.asking.silent = func(addr netip.Addr, now time.Time) { leases.Silent(l.Name, addr, now) }
	l.asking.ask = l.ask
	l.asking.blind = l.blind
	l.asking.dark = l.dark.Load
}

// ask sends the question who uses an address.
func (l *link) ask(addr netip.Addr) error {
	s := l.current()
	if s == nil {
		return errNoInterface
	}
	l.questions.Add(1)
	return s.sendARP(question(s.hw, addr))
}

// blind is what may have kept an answer from being heard, counted.
func (l *link) blind() uint64 {
	if s := l.current(); s != nil {
		l.overflown(s.arp)
	}
	return l.blindness.Load()
}

// overflown takes over the kernel's count of what did not fit into a socket.
func (l *link) overflown(conn *pkt.Conn) {
	stats, err := conn.Stats() // resets the kernel's count
	if err != nil || stats.Drops == 0 {
		return
	}
	l.deaf.Add(uint64(stats.Drops))
	l.blindness.Add(1)
	l.log.Say(event.NeighbourFlood, event.Network(l.Name), event.F("INTERFACE", l.Interface))
}

// listen looks at what a socket hears, at most so many frames a second, until
// ctx is done or the socket is lost.
func (l *link) listen(ctx context.Context, conn *pkt.Conn, most int, look func(frame []byte, now time.Time)) error {
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	frame := make([]byte, maxPacket)
	second := pace{most: most}
	for {
		n, _, err := conn.ReadFrom(frame)
		switch {
		case errors.Is(err, unix.ENETDOWN):
			continue // told once each time that the link goes down
		case err != nil:
			return err
		}
		now := time.Now()
		look(frame[:n], now)
		if rest := second.next(now); rest > 0 {
			l.blindness.Add(1)
			l.overflown(conn)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(rest):
			}
			l.overflown(conn)
		}
	}
}

// A pace lets most frames through in a second.
type pace struct {
	most  int
	since time.Time
	n     int
}

// next counts a frame and returns how long to rest before the next one.
func (p *pace) next(now time.Time) time.Duration {
	if now.Sub(p.since) >= time.Second {
		p.since, p.n = now, 0
	}
	p.n++
	if p.n < p.most {
		return 0
	}
	return max(0, p.since.Add(time.Second).Sub(now))
}

// scout looks for other servers until ctx is done: at once, and then every few
// minutes. What they tell a charger alone is not overheard, so they are asked.
func (l *link) scout(ctx context.Context) {
	l.place.begin(l.OwnRadio || l.gave(time.Now()))
	for l.dark.Load() || l.bare.Load() {
		if !sleep(ctx, readyEvery) {
			return
		}
	}
	began := time.Now()
	for l.lookAround(ctx, began) {
		l.place.settle()
		l.concludeLook()
		rest := l.every.calm
		if len(l.rogues.known()) > 0 {
			rest = l.every.known
		}
		if _, down := l.place.down(); down {
			rest = l.every.down
		}
		for wait := true; wait; wait = l.dark.Load() {
			if !sleep(ctx, rest) {
				return
			}
		}
		began = time.Now()
	}
}

// gave says whether anybody has an address of the network from here.
func (l *link) gave(now time.Time) bool {
	return slices.ContainsFunc(l.leases.All(now), func(b lease.Binding) bool { return b.Network == l.Name })
}

// lookAround asks who gives addresses and waits for the answers, startFor in all.
func (l *link) lookAround(ctx context.Context, began time.Time) bool {
	xid := newXID()
	l.place.asks(xid)
	for range probesSent {
		l.sendProbe(xid)
		if !sleep(ctx, probeEvery) {
			return false
		}
	}
	return sleep(ctx, time.Until(began.Add(startFor)))
}

// sendProbe asks once; one that cannot be sent is like one that is lost.
func (l *link) sendProbe(xid dhcpv4.TransactionID) {
	s := l.current()
	if s == nil {
		return
	}
	l.probes.Add(1)
	from, to := netip.AddrPortFrom(netip.IPv4Unspecified(), dhcpv4.ClientPort), netip.AddrPortFrom(everybody, dhcpv4.ServerPort)
	_ = s.sendFrame([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, from, to, probe(s.hw, xid).ToBytes())
}

// concludeLook says who has gone.
func (l *link) concludeLook() {
	for _, k := range l.rogues.looked() {
		l.log.Say(event.RogueServerGone, event.MAC(k.mac), event.Network(l.Name), event.F("SERVER", k.server))
	}
	if l.place.looked() {
		other, _ := l.place.down()
		l.log.Say(event.ServingAgain, event.MAC(other.mac), event.Network(l.Name), event.F("SERVER", other.server))
	}
}

// sleep waits, and says whether ctx is not done.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
