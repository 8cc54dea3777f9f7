package sim

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// A play is a DHCP client on a clock that the test turns, and a server that
// does as it is told.
type play struct {
	t      *testing.T
	now    time.Time
	client dhcpClient
}

func newPlay(t *testing.T, h Habits) *play {
	return &play{t: t, now: time.Unix(1e9, 0), client: dhcpClient{mac: testMAC, habits: h, rand: rand.New(rand.NewPCG(1, 2))}}
}

// answer is what a server says to the client's last message.
func (p *play) answer(kind dhcpv4.MessageType, addr string) dhcpStep {
	p.t.Helper()
	m, err := dhcpv4.New(dhcpv4.WithTransactionID(p.client.xid), dhcpv4.WithHwAddr(testMAC[:]), dhcpv4.WithMessageType(kind),
		dhcpv4.WithServerIP(net.IPv4(10, 83, 0, 1)), dhcpv4.WithYourIP(net.ParseIP(addr)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithRouter(net.IPv4(10, 83, 0, 1)), dhcpv4.WithDNS(net.IPv4(10, 83, 0, 1)), dhcpv4.WithLeaseTime(3600),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 83, 0, 1))))
	if err != nil {
		p.t.Fatal(err)
	}
	m.OpCode = dhcpv4.OpcodeBootReply
	return p.client.hear(m, p.now)
}

// wait turns the clock to when the client wants to be called, and calls it.
func (p *play) wait() (time.Duration, dhcpStep) {
	d := p.client.wake.Sub(p.now)
	p.now = p.client.wake
	return d, p.client.tick(p.now)
}

func (p *play) sends(step dhcpStep, want dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	p.t.Helper()
	if step.send == nil || step.send.MessageType() != want {
		p.t.Fatalf("the client sends %v, want %v", step.send, want)
	}
	return step.send
}

// bound plays until the client has its address.
func (p *play) bound() {
	p.t.Helper()
	p.sends(p.client.start(p.now), dhcpv4.MessageTypeDiscover)
	p.sends(p.answer(dhcpv4.MessageTypeOffer, "10.83.0.7"), dhcpv4.MessageTypeRequest)
	step := p.answer(dhcpv4.MessageTypeAck, "10.83.0.7")
	for !step.bound {
		if !step.probe {
			p.t.Fatalf("between ACK and use the client does %+v, want a probe", step)
		}
		_, step = p.wait()
	}
}

func TestDHCPAsksAsTheFirmwareDoes(t *testing.T) {
	p := newPlay(t, Firmware())
	m := p.sends(p.client.start(p.now), dhcpv4.MessageTypeDiscover)
	if m.HostName() != "Zaptec Go" || m.ClassIdentifier() != "" {
		t.Errorf("hostname %q, vendor class %q, want Zaptec Go and none (F-3)", m.HostName(), m.ClassIdentifier())
	}
	id := m.Options.Get(dhcpv4.OptionClientIdentifier)
	if len(id) != 7 || id[0] != 1 || [6]byte(id[1:]) != testMAC {
		t.Errorf("client-id % x, want type 1 and the MAC (F-3)", id)
	}
	for _, want := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second} {
		waited, step := p.wait()
		if waited != want {
			t.Errorf("waited %s, want %s (F-2)", waited, want)
		}
		p.sends(step, dhcpv4.MessageTypeDiscover)
	}
}

func TestDHCPTakesAnAddress(t *testing.T) {
	p := newPlay(t, Firmware())
	p.bound()
	want := Binding{
		Addr: netip.MustParsePrefix("10.83.0.7/24"), Router: netip.MustParseAddr("10.83.0.1"),
		DNS: netip.MustParseAddr("10.83.0.1"), Server: netip.MustParseAddr("10.83.0.1"), Lease: time.Hour,
	}
	if p.client.binding != want {
		t.Errorf("bound to %+v, want %+v", p.client.binding, want)
	}
	if took := p.now.Sub(time.Unix(1e9, 0)); took != time.Second {
		t.Errorf("the two probes took %s, want 1s", took)
	}
}

func TestDHCPWithoutWaitingForTheProbe(t *testing.T) {
	h := Firmware()
	h.Probe = 0
	p := newPlay(t, h)
	p.client.start(p.now)
	p.answer(dhcpv4.MessageTypeOffer, "10.83.0.7")
	if step := p.answer(dhcpv4.MessageTypeAck, "10.83.0.7"); !step.bound || !step.probe {
		t.Errorf("at the ACK the client does %+v, want a probe and the address at once", step)
	}
}

func TestDHCPHangsAfterAConflict(t *testing.T) {
	p := newPlay(t, Firmware())
	p.client.start(p.now)
	p.answer(dhcpv4.MessageTypeOffer, "10.83.0.7")
	p.answer(dhcpv4.MessageTypeAck, "10.83.0.7")
	m := p.sends(p.client.conflict(), dhcpv4.MessageTypeDecline)
	if got := m.RequestedIPAddress().String(); got != "10.83.0.7" {
		t.Errorf("declined %s, want 10.83.0.7", got)
	}
	if !p.client.wake.IsZero() || p.client.state != dhcpHung {
		t.Errorf("the client is %s and wants to be called at %s, want hung, and never (F-2)", p.client.state, p.client.wake)
	}
	if step := p.client.conflict(); step.send != nil {
		t.Error("it declines again")
	}
}

func TestDHCPKeepsItsLease(t *testing.T) {
	p := newPlay(t, Firmware())
	p.bound()
	waited, step := p.wait()
	m := p.sends(step, dhcpv4.MessageTypeRequest)
	if waited != 30*time.Minute-time.Second || !step.unicast || m.ClientIPAddr.String() != "10.83.0.7" || m.ServerIdentifier() != nil {
		t.Errorf("after %s it sends (unicast %v) %s, want a renewal at T1 to the server (RFC 2131, 4.3.2)", waited, step.unicast, m.Summary())
	}
	if step := p.answer(dhcpv4.MessageTypeAck, "10.83.0.7"); step.bound || step.lost || p.client.state != dhcpBound {
		t.Errorf("the same lease again means %+v in state %s, want nothing to do", step, p.client.state)
	}
}

func TestDHCPLosesItsLease(t *testing.T) {
	p := newPlay(t, Firmware())
	p.bound()
	broadcast := false
	for range 2000 {
		_, step := p.wait()
		if step.lost {
			p.sends(step, dhcpv4.MessageTypeDiscover)
			if !broadcast || p.now.Sub(p.client.got) < time.Hour-time.Second {
				t.Errorf("it gave up after %s, having asked everybody: %v", p.now.Sub(time.Unix(1e9, 0)), broadcast)
			}
			return
		}
		p.sends(step, dhcpv4.MessageTypeRequest)
		broadcast = broadcast || !step.unicast
	}
	t.Error("it never gives its address up")
}

func TestDHCPObeysANAK(t *testing.T) {
	p := newPlay(t, Firmware())
	p.bound()
	p.wait()
	if step := p.answer(dhcpv4.MessageTypeNak, "0.0.0.0"); !step.lost || p.client.binding.Addr.IsValid() {
		t.Errorf("at a NAK the client does %+v and keeps %s, want that it begins anew", step, p.client.binding.Addr)
	}
}

func TestDHCPPassesOverStrangers(t *testing.T) {
	p := newPlay(t, Firmware())
	p.client.start(p.now)
	p.client.xid[0]++
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(testMAC[:]), dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer))
	if err != nil {
		t.Fatal(err)
	}
	m.OpCode = dhcpv4.OpcodeBootReply
	if step := p.client.hear(m, p.now); step != (dhcpStep{}) {
		t.Errorf("an answer to somebody else makes it do %+v", step)
	}
}
