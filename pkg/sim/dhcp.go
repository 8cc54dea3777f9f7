package sim

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// dhcpState is where a charger's DHCP client stands (RFC 2131, figure 5, with
// the probe of lwIP between REQUESTING and BOUND).
type dhcpState string

const (
	dhcpSelecting  dhcpState = "selecting"
	dhcpRequesting dhcpState = "requesting"
	dhcpProbing    dhcpState = "probing"
	dhcpBound      dhcpState = "bound"
	dhcpRenewing   dhcpState = "renewing"
	dhcpRebinding  dhcpState = "rebinding"
	dhcpHung       dhcpState = "hung" // after a DECLINE the firmware may never ask again (F-2)
)

// hostname is what every Zaptec Go calls itself (F-3).
const hostname = "Zaptec Go"

// A Binding is what DHCP gave.
type Binding struct {
	Addr   netip.Prefix
	Router netip.Addr
	DNS    netip.Addr
	Server netip.Addr
	Lease  time.Duration
}

// A dhcpClient is the charger's DHCP client as a machine without sockets or
// clock: it is told what happened, and answers with what is to be done.
type dhcpClient struct {
	mac    [6]byte
	habits Habits
	rand   *rand.Rand

	state   dhcpState
	xid     dhcpv4.TransactionID
	tries   int
	probes  int
	began   time.Time // of this transaction, for the secs field
	got     time.Time // when the lease in force was given
	offer   *dhcpv4.DHCPv4
	binding Binding
	t1, t2  time.Duration
	wake    time.Time // when tick is due
}

// A dhcpStep is what is to be done.
type dhcpStep struct {
	send    *dhcpv4.DHCPv4
	unicast bool // to the server that gave the lease, else broadcast
	probe   bool // ask by ARP who has binding.Addr
	bound   bool // the binding is new: use it
	lost    bool // the address may not be used any more
}

// start begins with a DISCOVER: the firmware does not remember its last address.
func (c *dhcpClient) start(now time.Time) dhcpStep {
	c.state, c.tries, c.began = dhcpSelecting, 0, now
	c.offer, c.binding = nil, Binding{}
	c.newXID()
	return c.sendAgain(now)
}

func (c *dhcpClient) newXID() { binary.BigEndian.PutUint32(c.xid[:], c.rand.Uint32()) }

// sendAgain sends what the state asks for and sets the next wait.
func (c *dhcpClient) sendAgain(now time.Time) dhcpStep {
	c.wake = now.Add(c.habits.retry(c.tries))
	c.tries++
	step := dhcpStep{send: c.message(now)}
	step.unicast = c.state == dhcpRenewing
	return step
}

// tick is called when wake has come.
func (c *dhcpClient) tick(now time.Time) dhcpStep {
	switch c.state {
	case dhcpSelecting:
		return c.sendAgain(now)
	case dhcpRequesting:
		if c.tries > 5 {
			return c.start(now)
		}
		return c.sendAgain(now)
	case dhcpProbing:
		return c.probeOrBind(now)
	case dhcpBound:
		c.state, c.tries, c.began = dhcpRenewing, 0, now
		c.newXID()
		return c.sendAgain(now)
	case dhcpRenewing, dhcpRebinding:
		return c.extend(now)
	}
	return dhcpStep{}
}

// extend asks for more time: the server that gave the lease until T2, anybody
// until the lease ends.
func (c *dhcpClient) extend(now time.Time) dhcpStep {
	age := now.Sub(c.got)
	if age >= c.binding.Lease {
		step := c.start(now)
		step.lost = true
		return step
	}
	if age >= c.t2 && c.state == dhcpRenewing {
		c.state, c.tries = dhcpRebinding, 0
	}
	step := c.sendAgain(now)
	if end := c.got.Add(c.binding.Lease); end.Before(c.wake) {
		c.wake = end
	}
	return step
}

// probeOrBind sends the next ARP probe, or takes the address after the second.
func (c *dhcpClient) probeOrBind(now time.Time) dhcpStep {
	if c.probes < 2 && (c.habits.Probe > 0 || c.probes == 0) {
		c.probes++
		if c.habits.Probe > 0 {
			c.wake = now.Add(c.habits.Probe)
			return dhcpStep{probe: true}
		}
		step := c.bind(now)
		step.probe = true
		return step
	}
	return c.bind(now)
}

func (c *dhcpClient) bind(now time.Time) dhcpStep {
	c.state = dhcpBound
	c.wake = c.got.Add(c.t1)
	return dhcpStep{bound: true}
}

// conflict tells that somebody else answers for the address being probed. The
// client declines it and never asks again (F-2).
func (c *dhcpClient) conflict() dhcpStep {
	if c.state != dhcpProbing {
		return dhcpStep{}
	}
	m := c.basic(dhcpv4.MessageTypeDecline)
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(c.binding.Addr.Addr().AsSlice()))
	m.UpdateOption(dhcpv4.OptServerIdentifier(c.binding.Server.AsSlice()))
	c.state, c.wake = dhcpHung, time.Time{}
	return dhcpStep{send: m}
}

// hear takes a message from a server. Whatever is not an answer to the last
// message is passed over.
func (c *dhcpClient) hear(m *dhcpv4.DHCPv4, now time.Time) dhcpStep {
	if m.OpCode != dhcpv4.OpcodeBootReply || m.TransactionID != c.xid || string(m.ClientHWAddr) != string(c.mac[:]) {
		return dhcpStep{}
	}
	kind := m.MessageType()
	switch {
	case c.state == dhcpSelecting && kind == dhcpv4.MessageTypeOffer:
		c.offer, c.state, c.tries = m, dhcpRequesting, 0
		return c.sendAgain(now)
	case (c.state == dhcpRequesting || c.state == dhcpRenewing || c.state == dhcpRebinding) && kind == dhcpv4.MessageTypeNak:
		step := c.start(now)
		step.lost = true
		return step
	case c.state == dhcpRequesting && kind == dhcpv4.MessageTypeAck:
		if !c.take(m, now) {
			return dhcpStep{}
		}
		c.state, c.probes = dhcpProbing, 0
		return c.probeOrBind(now)
	case (c.state == dhcpRenewing || c.state == dhcpRebinding) && kind == dhcpv4.MessageTypeAck:
		was := c.binding
		if !c.take(m, now) {
			return dhcpStep{}
		}
		step := c.bind(now)
		step.bound = c.binding != was
		return step
	}
	return dhcpStep{}
}

// take reads the lease out of an ACK.
func (c *dhcpClient) take(m *dhcpv4.DHCPv4, now time.Time) bool {
	addr, ok := netip.AddrFromSlice(m.YourIPAddr.To4())
	bits, _ := m.SubnetMask().Size()
	if !ok || !addr.IsValid() || bits == 0 {
		return false
	}
	c.got = now
	c.binding = Binding{
		Addr: netip.PrefixFrom(addr, bits), Router: firstAddr(m.Router()), DNS: firstAddr(m.DNS()),
		Server: firstAddr([]net.IP{m.ServerIdentifier()}), Lease: m.IPAddressLeaseTime(0),
	}
	c.t1 = m.IPAddressRenewalTime(c.binding.Lease / 2)
	c.t2 = m.IPAddressRebindingTime(c.binding.Lease * 7 / 8)
	return true
}

func firstAddr(ips []net.IP) netip.Addr {
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip.To4()); ok {
			return a
		}
	}
	return netip.Addr{}
}

// message is what the state sends.
func (c *dhcpClient) message(now time.Time) *dhcpv4.DHCPv4 {
	if c.state == dhcpSelecting {
		m := c.basic(dhcpv4.MessageTypeDiscover)
		m.NumSeconds = uint16(now.Sub(c.began).Seconds())
		return m
	}
	m := c.basic(dhcpv4.MessageTypeRequest)
	if c.state == dhcpRequesting {
		m.UpdateOption(dhcpv4.OptRequestedIPAddress(c.offer.YourIPAddr))
		m.UpdateOption(dhcpv4.OptServerIdentifier(c.offer.ServerIdentifier()))
	} else {
		m.ClientIPAddr = c.binding.Addr.Addr().AsSlice()
	}
	return m
}

// basic carries what all messages of lwIP carry: client-id of type 1 with the
// MAC, the hostname, what is asked for, and no vendor class (F-3).
func (c *dhcpClient) basic(kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	m, err := dhcpv4.New(dhcpv4.WithTransactionID(c.xid), dhcpv4.WithHwAddr(c.mac[:]), dhcpv4.WithMessageType(kind))
	if err != nil { // New fails only when it must invent a transaction id
		panic(err)
	}
	m.UpdateOption(dhcpv4.OptClientIdentifier(append([]byte{1}, c.mac[:]...)))
	m.UpdateOption(dhcpv4.OptHostName(hostname))
	if kind != dhcpv4.MessageTypeDecline {
		m.UpdateOption(dhcpv4.OptMaxMessageSize(1500))
		m.UpdateOption(dhcpv4.OptParameterRequestList(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter,
			dhcpv4.OptionBroadcastAddress, dhcpv4.OptionDomainNameServer))
	}
	return m
}
