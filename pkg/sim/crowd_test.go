package sim

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// A meeting is a crowd's mind on a clock that the test turns, and a server that
// does as it is told.
type meeting struct {
	t    *testing.T
	mob  mob
	now  time.Duration
	sent [][]byte
}

func newMeeting(t *testing.T) *meeting {
	p := &meeting{t: t}
	p.mob = mob{retry: lwipRetry, salt: 0xa5, mac: crowdMAC, holders: map[[4]byte]int{}}
	p.mob.send = func(frame []byte) error {
		p.sent = append(p.sent, slices.Clone(frame))
		return nil
	}
	return p
}

// says takes the oldest message that was not looked at yet.
func (p *meeting) says(want dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	p.t.Helper()
	if len(p.sent) == 0 {
		p.t.Fatalf("nothing was sent, want %s", want)
	}
	f := p.sent[0]
	p.sent = p.sent[1:]
	if sum := checksum(f[14:34]); sum != 0 {
		p.t.Errorf("the checksum of the IPv4 header leaves %#x, want 0", sum)
	}
	m, err := dhcpv4.FromBytes(f[atDHCP:])
	if err != nil {
		p.t.Fatal(err)
	}
	if m.MessageType() != want {
		p.t.Fatalf("%s was sent, want %s", m.MessageType(), want)
	}
	if [6]byte(f[6:]) != [6]byte(m.ClientHWAddr) {
		p.t.Errorf("the frame comes from %x and speaks for %x", f[6:12], m.ClientHWAddr)
	}
	return m
}

// answer answers a message.
func (p *meeting) answer(m *dhcpv4.DHCPv4, kind dhcpv4.MessageType, addr string) {
	p.t.Helper()
	r, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.ParseIP(addr)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 83, 0, 1))))
	if err != nil {
		p.t.Fatal(err)
	}
	f := toClient(r.ToBytes())
	copy(f, m.ClientHWAddr)
	if err := p.mob.hear(f, p.now); err != nil {
		p.t.Fatal(err)
	}
}

func (p *meeting) start(client int, how Begin) {
	p.t.Helper()
	if err := p.mob.start(client, how, p.now); err != nil {
		p.t.Fatal(err)
	}
}

// wait turns the clock to when somebody has waited long enough.
func (p *meeting) wait() time.Duration {
	p.t.Helper()
	at, ok := p.mob.next()
	if !ok {
		p.t.Fatal("nobody waits")
	}
	d := at - p.now
	p.now = at
	if err := p.mob.tick(p.now); err != nil {
		p.t.Fatal(err)
	}
	return d
}

// lease plays until a client has its address.
func (p *meeting) lease(client int, addr string) {
	p.t.Helper()
	p.start(client, Discover)
	p.answer(p.says(dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeOffer, addr)
	request := p.says(dhcpv4.MessageTypeRequest)
	if got := request.RequestedIPAddress(); !got.Equal(net.ParseIP(addr)) {
		p.t.Errorf("the client asks for %s, and was offered %s", got, addr)
	}
	p.answer(request, dhcpv4.MessageTypeAck, addr)
}

func TestCrowdGetsLeases(t *testing.T) {
	p := newMeeting(t)
	for i := range 3 {
		p.lease(i, netip.AddrFrom4([4]byte{10, 83, 0, byte(10 + i)}).String())
		p.now += time.Millisecond
	}
	tally := p.mob.end()
	if tally.Clients != 3 || tally.Failed() != 0 || tally.Resent+tally.NAKs+tally.Doubles+tally.Moved != 0 {
		t.Errorf("three clients that got their leases are counted as %+v", tally)
	}
	if _, ok := p.mob.next(); ok || len(p.sent) > 0 {
		t.Error("who has a lease still waits")
	}

	p.mob.begin(p.now)
	p.start(1, Reboot)
	if m := p.says(dhcpv4.MessageTypeRequest); !m.RequestedIPAddress().Equal(net.IPv4(10, 83, 0, 11)) || m.ServerIdentifier() != nil || !m.ClientIPAddr.IsUnspecified() {
		t.Errorf("who starts again with a memory sends %s (RFC 2131, 4.3.2)", m.Summary())
	}
	p.start(2, Renew)
	if m := p.says(dhcpv4.MessageTypeRequest); m.RequestedIPAddress() != nil || m.ServerIdentifier() != nil || !m.ClientIPAddr.Equal(net.IPv4(10, 83, 0, 12)) {
		t.Errorf("who renews sends %s (RFC 2131, 4.3.2)", m.Summary())
	}
}

func TestCrowdSendsAgainAsLwIP(t *testing.T) {
	p := newMeeting(t)
	p.start(0, Discover)
	p.start(1, Discover)
	first := p.says(dhcpv4.MessageTypeDiscover)
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 64, 64} {
		if got := p.wait(); got != want*time.Second {
			t.Errorf("the next wait takes %s, want %s", got, want*time.Second)
		}
	}
	if got := p.mob.tally.Resent; got != 14 {
		t.Errorf("two clients that nobody answers have sent %d messages again, want 14", got)
	}
	again := p.sent[len(p.sent)-1]
	if m, err := dhcpv4.FromBytes(again[atDHCP:]); err != nil || m.NumSeconds != 190 {
		t.Errorf("the last DISCOVER says %v, %v, want that it has tried for 190 s", m.NumSeconds, err)
	}
	p.answer(first, dhcpv4.MessageTypeOffer, "10.83.0.10")
	p.sent = p.sent[len(p.sent)-1:]
	p.says(dhcpv4.MessageTypeRequest) // an OFFER for a DISCOVER that was repeated is as good
	if got := p.wait(); got != 2*time.Second {
		t.Errorf("a REQUEST waits %s at first, want 2 s", got)
	}
}

func TestCrowdCountsWhatMustNotBe(t *testing.T) {
	p := newMeeting(t)
	p.lease(0, "10.83.0.10")
	p.lease(1, "10.83.0.10")
	if got := p.mob.tally.Doubles; got != 1 {
		t.Errorf("one address for two is counted %d times, want once", got)
	}
	p.lease(1, "10.83.0.11")
	if got := p.mob.tally.Moved; got != 1 {
		t.Errorf("another address than before is counted %d times, want once", got)
	}
	p.start(0, Reboot)
	request := p.says(dhcpv4.MessageTypeRequest)
	p.answer(request, dhcpv4.MessageTypeNak, "0.0.0.0")
	if p.says(dhcpv4.MessageTypeDiscover).TransactionID == request.TransactionID {
		t.Error("after a NAK the client begins anew with the same transaction id")
	}
	p.answer(request, dhcpv4.MessageTypeAck, "10.83.0.10") // late
	if got := p.mob.tally; got.NAKs != 1 || got.Leased != 3 {
		t.Errorf("after a NAK and an ACK that came late there are %d NAKs and %d leases, want 1 and 3", got.NAKs, got.Leased)
	}
}

func TestCrowdIsManyDevices(t *testing.T) {
	seen := map[[6]byte]bool{}
	for i := range 100_000 {
		for _, mac := range [][6]byte{crowdMAC(i), strangerMAC(i)} {
			if seen[mac] || mac[0]&1 != 0 {
				t.Fatalf("client %d has %x, which is somebody else's or no device's", i, mac)
			}
			seen[mac] = true
		}
	}
}

func TestCrowdAnswersARP(t *testing.T) {
	p := newMeeting(t)
	p.lease(0, "10.83.0.10")
	gateway, addr := netip.MustParseAddr("10.83.0.1"), netip.MustParseAddr("10.83.0.10")
	ask := func(searched netip.Addr) {
		if err := p.mob.hear(arpFrame(testMAC, gateway, searched), p.now); err != nil {
			t.Fatal(err)
		}
	}
	ask(netip.MustParseAddr("10.83.0.11"))
	if len(p.sent) > 0 {
		t.Error("an address that nobody has is answered for")
	}
	ask(addr)
	if len(p.sent) != 1 {
		t.Fatal("who has an address does not answer for it")
	}
	a, ok := parseARP(p.sent[0])
	if !ok || a.op != 2 || a.sender != addr || a.searched != gateway || a.senderMAC != crowdMAC(0) || [6]byte(p.sent[0]) != testMAC {
		t.Errorf("the answer is %+v, to %x", a, p.sent[0][:6])
	}
}

// Whatever arrives, a crowd goes on.
func FuzzCrowdReply(f *testing.F) {
	m, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer), dhcpv4.WithHwAddr(testMAC[:]),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 83, 0, 1))))
	if err != nil {
		f.Fatal(err)
	}
	m.OpCode = dhcpv4.OpcodeBootReply
	frame := toClient(m.ToBytes())
	copy(frame, testMAC[:])
	if r, ok := parseCrowdReply(frame); !ok || r.kind != dhcpv4.MessageTypeOffer || r.server != [4]byte{10, 83, 0, 1} || r.mac != testMAC {
		f.Fatalf("an OFFER is read as %+v, %v", r, ok)
	}
	f.Add(frame)
	f.Fuzz(func(t *testing.T, frame []byte) { parseCrowdReply(frame) })
}
