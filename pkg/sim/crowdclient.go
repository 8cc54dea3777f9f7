package sim

import (
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// A Lease is what a server has promised to a client of a crowd.
type Lease struct {
	MAC  [6]byte
	Addr netip.Addr
	At   time.Time // when the ACK was read
}

// A Tally is how a wave of clients fared.
type Tally struct {
	Clients, Leased int
	// Times are when each client had its lease, since the first packet of all,
	// ascending; Waits the same since its own first packet.
	Times, Waits []time.Duration
	// Resent counts messages that were sent again, NAKs the refusals, Doubles the
	// ACKs of an address that another client has, and Moved those of another
	// address than the client had. Unheard are answers that this side had no room
	// for.
	Resent, NAKs, Doubles, Moved, Unheard int
}

// Failed is how many got no lease.
func (t Tally) Failed() int { return t.Clients - t.Leased }

// Last is when the last of those that got a lease had it; zero when nobody has.
func (t Tally) Last() time.Duration {
	if len(t.Times) == 0 {
		return 0
	}
	return t.Times[len(t.Times)-1]
}

// Rate is leases a second.
func (t Tally) Rate() float64 {
	if t.Last() == 0 {
		return 0
	}
	return float64(t.Leased) / t.Last().Seconds()
}

// Median is of ascending times; zero of none.
func Median(ascending []time.Duration) time.Duration {
	if len(ascending) == 0 {
		return 0
	}
	return ascending[len(ascending)/2]
}

// How a client of a crowd begins.
type Begin int

const (
	Discover Begin = iota // it looks for any address
	Reboot                // it remembers its address and asks for that (INIT-REBOOT)
	Renew                 // it uses its address and asks for more time
)

// The states that a crowd's client knows beside a charger's.
const (
	dhcpOff       dhcpState = ""
	dhcpRebooting dhcpState = "rebooting"
)

// A crowdClient is one of many.
type crowdClient struct {
	mac       [6]byte
	state     dhcpState
	attempt   uint8  // in its transaction ids
	tries     int    // of the message that waits for an answer
	armed     uint32 // the wait that counts; those before it are over
	began     time.Duration
	addr      [4]byte // had last; zero: never
	offered   [4]byte
	server    [4]byte
	serverMAC [6]byte
}

// A due is the end of a client's wait.
type due struct {
	client int
	armed  uint32
	at     time.Duration
}

// crowdTries are the waits of lwIP: each twice as long as the one before, and
// from then on a minute.
const crowdTries = 5

// A mob is what the clients of a crowd think: it is told what arrives and what
// time it is, and tells what to send. All waits of one length end in the order
// in which they began, so each length has a line of its own.
type mob struct {
	retry   time.Duration // the first wait
	steady  bool          // all waits are as long as the first
	salt    byte          // of this crowd's transaction ids
	mac     func(int) [6]byte
	send    func(frame []byte) error
	frame   crowdFrame
	clients []crowdClient
	lines   [crowdTries + 1][]due
	holders map[[4]byte]int // who was promised an address last

	tally  Tally
	begun  time.Duration // of this wave
	active int
	leases func(client int, addr [4]byte, now time.Duration)
}

// client returns client n.
func (m *mob) client(n int) *crowdClient {
	for len(m.clients) <= n {
		m.clients = append(m.clients, crowdClient{mac: m.mac(len(m.clients))})
	}
	return &m.clients[n]
}

// idBits are what a transaction id has for the number of the client and its
// attempt.
const idBits, attemptBits = 24, 4

func (m *mob) xid(n int, c *crowdClient) uint32 {
	return uint32(m.salt)<<idBits | uint32(n)<<attemptBits | uint32(c.attempt%(1<<attemptBits))
}

// maxCrowd is how many clients the transaction ids have room for.
const maxCrowd = 1 << (idBits - attemptBits)

// start lets a client begin.
func (m *mob) start(n int, how Begin, now time.Duration) error {
	c := m.client(n)
	c.began, c.state = now, dhcpSelecting
	if c.addr != nobodyIP {
		switch how {
		case Reboot:
			c.state = dhcpRebooting
		case Renew:
			c.state = dhcpRenewing
		}
	}
	m.tally.Clients++
	m.active++
	return m.ask(n, c, now)
}

// ask sends a message for the first time.
func (m *mob) ask(n int, c *crowdClient, now time.Duration) error {
	if c.state != dhcpRequesting { // which goes on with the id of its DISCOVER
		c.attempt++
	}
	c.tries = 0
	return m.speak(n, c, now)
}

// speak says it and waits for the answer.
func (m *mob) speak(n int, c *crowdClient, now time.Duration) error {
	line := min(c.tries, crowdTries)
	wait := m.retry << line
	switch {
	case m.steady:
		wait = m.retry
	case line == crowdTries:
		wait = max(wait, time.Minute)
	}
	c.tries++
	c.armed++
	m.lines[line] = append(m.lines[line], due{n, c.armed, now + wait})
	return m.say(n, c, now)
}

// shout sends a DISCOVER for which nobody will wait.
func (m *mob) shout(n int, now time.Duration) error {
	c := m.client(n)
	c.state, c.began = dhcpSelecting, now
	c.attempt++
	defer func() { c.state = dhcpOff }()
	return m.say(n, c, now)
}

// say sends what the client's state sends.
func (m *mob) say(n int, c *crowdClient, now time.Duration) error {
	kind := dhcpv4.MessageTypeRequest
	if c.state == dhcpSelecting {
		kind = dhcpv4.MessageTypeDiscover
	}
	f := &m.frame
	f.begin(c.mac, m.xid(n, c), uint16((now - c.began).Seconds()), kind)
	f.address(nobodyIP, everybodyIP)
	switch c.state {
	case dhcpRequesting:
		f.wants(c.offered)
		f.chose(c.server)
	case dhcpRebooting:
		f.wants(c.addr)
	case dhcpRenewing:
		f.renews(c.addr, c.server, c.serverMAC)
	}
	return m.send(f.end())
}

// hear takes what arrived.
func (m *mob) hear(frame []byte, now time.Duration) error {
	if a, ok := parseARP(frame); ok {
		return m.answerARP(a, [6]byte(frame[6:]))
	}
	r, ok := parseCrowdReply(frame)
	if !ok || byte(r.xid>>idBits) != m.salt {
		return nil
	}
	n := int(r.xid << (32 - idBits) >> (32 - idBits + attemptBits))
	if n >= len(m.clients) {
		return nil
	}
	c := &m.clients[n]
	if c.mac != r.mac || m.xid(n, c) != r.xid || c.state == dhcpBound || c.state == dhcpOff {
		return nil // for somebody else, or late
	}
	switch {
	case r.kind == dhcpv4.MessageTypeOffer && c.state == dhcpSelecting:
		c.offered, c.server, c.state = r.addr, r.server, dhcpRequesting
		return m.ask(n, c, now)
	case r.kind == dhcpv4.MessageTypeAck && c.state != dhcpSelecting:
		c.server, c.serverMAC = r.server, r.serverMAC
		m.bound(n, c, r.addr, now)
	case r.kind == dhcpv4.MessageTypeNak && c.state != dhcpSelecting:
		m.tally.NAKs++
		c.state = dhcpSelecting
		return m.ask(n, c, now)
	}
	return nil
}

// bound notes that a client was promised an address.
func (m *mob) bound(n int, c *crowdClient, addr [4]byte, now time.Duration) {
	if c.addr != nobodyIP && c.addr != addr {
		m.tally.Moved++
	}
	if other, ok := m.holders[addr]; ok && other != n && m.clients[other].addr == addr {
		m.tally.Doubles++
	}
	c.addr, c.state = addr, dhcpBound
	c.armed++ // whatever it waited for is over
	m.holders[addr] = n
	m.active--
	m.tally.Leased++
	m.tally.Times = append(m.tally.Times, now-m.begun)
	m.tally.Waits = append(m.tally.Waits, now-c.began)
	if m.leases != nil {
		m.leases(n, addr, now)
	}
}

// answerARP answers who asks for a client's address.
func (m *mob) answerARP(a arp, from [6]byte) error {
	n, ok := m.holders[a.searched.As4()]
	if a.op != 1 || !ok {
		return nil
	}
	return m.send(arpReply(m.clients[n].mac, a.searched, from, a.sender))
}

// arpReply tells one asker who has an address (RFC 826).
func arpReply(mac [6]byte, addr netip.Addr, to [6]byte, asker netip.Addr) []byte {
	f := arpFrame(mac, addr, asker)
	copy(f, to[:])
	copy(f[32:], to[:])
	f[21] = 2
	return f
}

// tick sends again what was not answered in time.
func (m *mob) tick(now time.Duration) error {
	for i := range m.lines {
		for len(m.lines[i]) > 0 && m.lines[i][0].at <= now {
			d := m.lines[i][0]
			m.lines[i] = m.lines[i][1:]
			c := &m.clients[d.client]
			if c.armed != d.armed {
				continue
			}
			m.tally.Resent++
			if err := m.speak(d.client, c, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// next is when tick has something to do; ok is false when nobody waits.
func (m *mob) next() (at time.Duration, ok bool) {
	for i := range m.lines {
		for len(m.lines[i]) > 0 && m.clients[m.lines[i][0].client].armed != m.lines[i][0].armed {
			m.lines[i] = m.lines[i][1:]
		}
		if len(m.lines[i]) > 0 && (!ok || m.lines[i][0].at < at) {
			at, ok = m.lines[i][0].at, true
		}
	}
	return at, ok
}

// begin starts the count of a wave anew. Whoever still waits from before has
// given up.
func (m *mob) begin(now time.Duration) {
	m.tally, m.begun, m.active = Tally{}, now, 0
	for i := range m.lines {
		m.lines[i] = nil
	}
	for i := range m.clients {
		if m.clients[i].state != dhcpBound {
			m.clients[i].state = dhcpOff
		}
	}
}

// end returns the count.
func (m *mob) end() Tally {
	slices.Sort(m.tally.Waits)
	return m.tally
}
