package dhcp_test

import (
	"encoding/hex"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
	"go.uber.org/goleak"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// asleep lets the frames for one device stay in the queue of the gateway's end,
// as a radio's do for a station that sleeps: a class of HTB for its maker's MACs that lets
// a byte through in a second.
func (g *garage) asleep(hw charger.MAC) {
	g.Helper()
	tc, err := exec.LookPath("tc")
	if err != nil {
		g.Skip("there is no tc here (iproute2)")
	}
	for _, c := range []string{
		"qdisc add dev gw0 root handle 1: htb default 1",
		"class add dev gw0 parent 1: classid 1:1 htb rate 1gbit",
		"class add dev gw0 parent 1: classid 1:3 htb rate 8bit burst 1 cburst 1",
		"qdisc add dev gw0 parent 1:3 handle 30: pfifo limit 100000",
		"filter add dev gw0 parent 1: protocol all prio 1 u32 match u16 0x" + hex.EncodeToString(hw[:2]) + " 0xffff at -14 flowid 1:3",
	} {
		if out, err := exec.Command(tc, strings.Fields(c)...).CombinedOutput(); err != nil {
			g.Skipf("the kernel has no HTB: %s: %v", out, err)
		}
	}
}

// A device that asks without end and takes no frame fills what may be on its way.
// Its own answers are dropped and counted, all others are answered, and the
// server ends when it is told to.
func TestADeviceThatTakesNoFramesKeepsNobodyFromAnAddress(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	g.asleep(intruder)
	stop := g.serve(g.server)
	w := g.wire()
	w.lease(victim)
	stuck := func() float64 {
		return g.counted("chargegate_dhcp_dropped_total", "reason", "send buffer full")
	}
	asked := 0
	ask := func() {
		for range 500 {
			asked++
			w.say(intruder, anybody, everyone, message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{9, byte(asked >> 16), byte(asked >> 8), byte(asked)}, intruder))
		}
	}
	for stuck() == 0 && asked < 60_000 {
		ask()
		g.until(float64(asked-4000), "chargegate_dhcp_requests_total", "type", "discover")
	}
	if stuck() == 0 {
		t.Fatalf("after %d requests of a device that takes no frame all answers are on their way", asked)
	}
	said := g.await(event.DHCPSendFull)
	if said.Field("NETWORK") != "P1" {
		t.Errorf("said %q of %s", said.Message, said.Field("NETWORK"))
	}
	for i := range 5 { // a charger asks again within seconds
		time.Sleep(time.Second)
		began := time.Now()
		w.lease(charger.MAC{0x60, 0x15, 0x92, 1, 0, byte(2 + i)})
		t.Logf("%d requests, %v answers dropped; an address after %s", asked, stuck(), time.Since(began))
		ask()
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took > 2*time.Second { // systemd waits for 5 s
		t.Errorf("it took %s to end", took)
	}
}

// claimed sends an ARP question for the gateway in which a device says that an
// address is its own: the kernel believes whoever said so last.
func (w *wire) claimed(hw charger.MAC, addr netip.Addr) {
	w.Helper()
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, hw[:]...)
	f = append(f, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	f = append(f, hw[:]...)
	f = append(f, addr.AsSlice()...)
	f = append(f, 0, 0, 0, 0, 0, 0, 10, 83, 0, 1)
	if _, err := w.conn.WriteTo(append(f, make([]byte, 18)...), &packet.Addr{HardwareAddr: f[:6]}); err != nil {
		w.Error(err)
	}
}

// Whoever says by ARP that a charger's address is its own does not get the
// charger's answers.
func TestARenewalIsAnsweredToTheOneWhoSentIt(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	defer g.serve(g.server)()
	w := g.wire()
	addr := w.lease(victim)
	w.claimed(intruder, addr)
	g.await(event.AddressClaimed) // so the kernel has heard it, too
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform} {
		m := message(kind, dhcpv4.TransactionID{5}, victim)
		m.ClientIPAddr = addr.AsSlice()
		w.say(victim, addr.String()+":68", server, m)
		got, to := w.hearTo(victim)
		if got.MessageType() != dhcpv4.MessageTypeAck || to != victim {
			t.Errorf("%s: %s to %s", kind, got.MessageType(), to)
		}
	}
}

// A question of another chargegate that was relayed would let anybody send a
// charger a refusal that the charger takes for its own.
func TestARelayedQuestionOfAChargegateIsNotAnswered(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	defer g.serve(g.server)()
	w := g.wire()
	w.lease(victim)
	g.settled()
	m := message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{0xaa, 0xbb, 0xcc, 0xdd}, victim, dhcpv4.OptClassIdentifier("chargegate"))
	m.GatewayIPAddr = net.IPv4(10, 83, 2, 200)
	w.say(intruder, "10.83.2.200:67", server, m)
	g.until(1, "chargegate_dhcp_dropped_total", "reason", "a question of another chargegate")
	w.say(victim, anybody, everyone, message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{1}, victim))
	if got := w.hear(victim); got.MessageType() != dhcpv4.MessageTypeOffer {
		t.Errorf("the charger was sent a %s", got.MessageType())
	}
}
