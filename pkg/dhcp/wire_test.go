package dhcp_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"

	"chargegate/pkg/charger"
	"chargegate/pkg/dhcp"
	"chargegate/pkg/event"
)

// A wire is the clients' end of the cable, for frames of any kind.
type wire struct {
	*garage
	conn *packet.Conn
}

var (
	victim   = charger.MAC{0x60, 0x15, 0x92, 1, 0, 1}
	intruder = charger.MAC{0x02, 0xbd, 0, 0, 0, 1}
)

func (g *garage) wire() *wire {
	g.Helper()
	w := &wire{garage: g}
	g.there(func() {
		ifi, err := net.InterfaceByName("cl0")
		if err == nil {
			w.conn, err = packet.Listen(ifi, packet.Raw, 0x0800, nil)
		}
		if err != nil {
			g.Error(err)
		}
	})
	if w.conn == nil {
		g.FailNow()
	}
	g.Cleanup(func() { w.conn.Close() })
	return w
}

// say sends a message in a frame of a device.
func (w *wire) say(from charger.MAC, source, to string, m *dhcpv4.DHCPv4) {
	w.Helper()
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, from[:]...)
	frame = append(frame, 8, 0)
	frame = append(frame, dhcp.Datagram(netip.MustParseAddrPort(source), netip.MustParseAddrPort(to), m.ToBytes())...)
	if _, err := w.conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
		w.Error(err)
	}
}

// hear returns the next answer of the server to a device.
func (w *wire) hear(hw charger.MAC) *dhcpv4.DHCPv4 {
	w.Helper()
	m, _ := w.hearTo(hw)
	return m
}

// hearTo is hear, and tells to which hardware address the answer was sent.
func (w *wire) hearTo(hw charger.MAC) (m *dhcpv4.DHCPv4, to charger.MAC) {
	w.Helper()
	buf := make([]byte, 2048)
	w.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		n, _, err := w.conn.ReadFrom(buf)
		if err != nil {
			w.Fatalf("no answer to %s: %v", hw, err)
		}
		if n < 42 || buf[14+9] != 17 || binary.BigEndian.Uint16(buf[14+20:]) != 67 {
			continue
		}
		if m, err := dhcpv4.FromBytes(buf[42:n]); err == nil && m.OpCode == dhcpv4.OpcodeBootReply && charger.MAC(m.ClientHWAddr) == hw {
			return m, charger.MAC(buf[:6])
		}
	}
}

const (
	anybody  = "0.0.0.0:68"
	everyone = "255.255.255.255:67"
	server   = "10.83.0.1:67"
)

// lease lets a device get an address.
func (w *wire) lease(hw charger.MAC) netip.Addr {
	w.Helper()
	w.say(hw, anybody, everyone, message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{1}, hw))
	offer := w.hear(hw)
	w.say(hw, anybody, everyone, message(dhcpv4.MessageTypeRequest, dhcpv4.TransactionID{1}, hw,
		dhcpv4.OptRequestedIPAddress(offer.YourIPAddr), dhcpv4.OptServerIdentifier(offer.ServerIdentifier())))
	ack := w.hear(hw)
	if ack.MessageType() != dhcpv4.MessageTypeAck {
		w.Fatalf("%s got %s", hw, ack.MessageType())
	}
	return netip.AddrFrom4([4]byte(ack.YourIPAddr.To4()))
}

// counted reads one of the server's counters.
func (g *garage) counted(name, label, value string) float64 {
	g.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(g.server)
	families, err := registry.Gather()
	if err != nil {
		g.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if f.GetName() == name && l.GetName() == label && l.GetValue() == value {
					return m.Counter.GetValue()
				}
			}
		}
	}
	g.Fatalf("there is no %s with %s %s", name, label, value)
	return 0
}

// until waits for a counter.
func (g *garage) until(want float64, name, label, value string) {
	g.Helper()
	limit := time.After(15 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		got := g.counted(name, label, value)
		if got >= want {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			g.Fatalf("%s of %s is %v, want %v", name, value, got, want)
		}
	}
}

func TestNobodySpeaksInTheNameOfAnother(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	defer g.serve(g.server)()
	w := g.wire()
	addr := w.lease(victim)
	g.await(event.LeaseGranted)
	before := g.leases.Counts(time.Now())

	own := func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 { m.ClientIPAddr = addr.AsSlice(); return m }
	self := dhcpv4.OptServerIdentifier(net.IPv4(10, 83, 0, 1))
	forged := []*dhcpv4.DHCPv4{
		own(message(dhcpv4.MessageTypeRelease, dhcpv4.TransactionID{2}, victim, self)),
		message(dhcpv4.MessageTypeDecline, dhcpv4.TransactionID{3}, victim, self, dhcpv4.OptRequestedIPAddress(addr.AsSlice())),
		message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{4}, victim),
		message(dhcpv4.MessageTypeRequest, dhcpv4.TransactionID{5}, victim, dhcpv4.OptRequestedIPAddress(net.IPv4(10, 83, 0, 77))),
		own(message(dhcpv4.MessageTypeRequest, dhcpv4.TransactionID{6}, victim)),
		own(message(dhcpv4.MessageTypeInform, dhcpv4.TransactionID{7}, victim)),
	}
	for range 50 {
		for _, m := range forged {
			w.say(intruder, addr.String()+":68", everyone, m)
			w.say(intruder, addr.String()+":68", server, m)
		}
	}
	g.until(float64(100*len(forged)), "chargegate_dhcp_dropped_total", "reason", "sent by somebody else")
	g.await(event.SenderForged)
	if after := g.leases.Counts(time.Now()); after[0] != before[0] {
		t.Errorf("from %+v to %+v", before[0], after[0])
	}
	if b, ok := g.leases.At(addr); !ok || b.HW != victim || !b.Live(time.Now()) {
		t.Errorf("%s: %+v", addr, b)
	}
	for len(g.heard) > 0 {
		if r := <-g.heard; r.Kind == event.SenderForged {
			t.Errorf("said again: %s", r.Message)
		}
	}

	// What is right goes on: renewals to the gateway alone and to everybody, what a
	// relay agent passes on, and a release.
	for _, to := range []string{server, everyone, "10.83.3.255:67"} {
		w.say(victim, addr.String()+":68", to, own(message(dhcpv4.MessageTypeRequest, dhcpv4.TransactionID{8}, victim)))
	}
	other := charger.MAC{0x60, 0x15, 0x92, 1, 0, 2}
	passed := message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{9}, other)
	passed.GatewayIPAddr = net.IPv4(10, 83, 2, 200)
	offers := g.counted("chargegate_dhcp_replies_total", "type", "offer")
	w.say(intruder, "10.83.2.200:67", server, passed)
	g.until(offers+1, "chargegate_dhcp_replies_total", "type", "offer")
	g.until(4, "chargegate_dhcp_replies_total", "type", "ack")
	w.say(victim, addr.String()+":68", server, forged[0])
	g.await(event.LeaseReleased)
}

// The kernel's buffer holds what arrives while nothing is read.
func TestAThousandAtOnceAreLostNowhere(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	if err := g.server.Listen(); err != nil {
		t.Fatal(err)
	}
	w := g.wire()
	const chargers = 1000
	for n := range chargers {
		hw := charger.MAC{0x60, 0x15, 0x92, 1, byte(n >> 8), byte(n)}
		w.say(hw, anybody, everyone, message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{1}, hw))
	}
	defer g.serve(g.server)()
	g.until(chargers, "chargegate_dhcp_requests_total", "type", "discover")
	if n := g.counted("chargegate_dhcp_dropped_total", "reason", "receive buffer full"); n > 0 {
		t.Errorf("%v were lost", n)
	}
}

// What the buffer does not hold is counted.
func TestWhatTheKernelLosesIsCounted(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	if err := g.server.Listen(); err != nil {
		t.Fatal(err)
	}
	w := g.wire()
	const flood = 20_000
	m := message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{1}, victim)
	for range flood {
		w.say(victim, anybody, everyone, m)
	}
	lost := g.counted("chargegate_dhcp_dropped_total", "reason", "receive buffer full")
	g.await(event.DHCPQueueFull)
	t.Logf("%v of %d waited", flood-lost, flood)
	if lost == 0 || lost > flood-1000 {
		t.Errorf("%v of %d were lost", lost, flood)
	}
	defer g.serve(g.server)()
	g.until(1000, "chargegate_dhcp_requests_total", "type", "discover")
}

func TestTheLinkGoesDownAndUp(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	defer g.serve(g.server)()
	first := g.join().ACK.YourIPAddr
	link, err := netlink.LinkByName("gw0")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := netlink.LinkSetDown(link); err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		if again := g.join().ACK.YourIPAddr; !again.Equal(first) {
			t.Errorf("got %s, had %s", again, first)
		}
	}
	if err := netlink.LinkSetDown(link); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetName(link, "gw1"); err != nil {
		t.Fatal(err)
	}
	g.await(event.DHCPInterfaceMissing)
	if err := netlink.LinkSetName(link, "gw0"); err != nil {
		t.Fatal(err)
	}
	g.await(event.DHCPInterfaceFound) // while it is still down
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	if again := g.join().ACK.YourIPAddr; !again.Equal(first) {
		t.Errorf("got %s under the old name, had %s", again, first)
	}
}

// The kernel would tell whoever renews that there is no such port, if there
// were no ordinary socket.
func TestThePortIsNotRefused(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	defer g.serve(g.server)()
	g.there(func() {
		peer, err := netlink.LinkByName("cl0")
		if err == nil {
			err = netlink.AddrAdd(peer, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 83, 0, 99), Mask: net.CIDRMask(22, 32)}})
		}
		if err != nil {
			t.Error(err)
			return
		}
		conn, err := net.Dial("udp4", server)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		m := message(dhcpv4.MessageTypeRelease, dhcpv4.TransactionID{1}, charger.MAC{0x60, 0x15, 0x92, 0, 0, 1})
		for range 3 {
			if _, err := conn.Write(m.ToBytes()); err != nil {
				t.Error(err)
			}
			conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := conn.Read(make([]byte, 1)); errors.Is(err, syscall.ECONNREFUSED) || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the server's port: %v", err)
			}
		}
	})
	g.until(3, "chargegate_dhcp_requests_total", "type", "release")
}
