package dhcp

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/bpf"

	"chargegate/pkg/charger"
)

// ours is the MAC of the box in the tests, between two others.
var (
	lower = charger.MAC{2, 0, 0, 0, 0, 1}
	ours  = charger.MAC{2, 0, 0, 0, 0, 5}
	upper = charger.MAC{2, 0, 0, 0, 0, 9}
)

// served is a frame of another server.
func served(from charger.MAC, kind dhcpv4.MessageType, more ...edit) []byte {
	m := lwip(kind, client, more...)
	m.OpCode = dhcpv4.OpcodeBootReply
	frame := append(bytes.Repeat([]byte{0xff}, 6), from[:]...)
	frame = append(frame, 8, 0)
	return append(frame, datagram(netip.MustParseAddrPort("192.168.1.1:67"), netip.MustParseAddrPort("255.255.255.255:68"), m.ToBytes())...)
}

func says(m mark) edit {
	return func(d *dhcpv4.DHCPv4) {
		d.UpdateOption(dhcpv4.OptClassIdentifier(vendorClass))
		d.UpdateOption(dhcpv4.OptMessage(string(m)))
	}
}

func TestParseForeign(t *testing.T) {
	t.Parallel()
	xid := dhcpv4.TransactionID{1, 2, 3, 4}
	base := foreign{from: upper, server: ip("192.168.1.1"), to: client, xid: xid}
	with := func(f func(*foreign)) *foreign { v := base; f(&v); return &v }
	vm, err := bpf.NewVM(replies())
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		frame []byte
		want  *foreign // nil: nothing to us
	}{
		"an OFFER":                   {served(upper, dhcpv4.MessageTypeOffer), with(func(f *foreign) { f.kind = dhcpv4.MessageTypeOffer })},
		"an ACK with its identifier": {served(upper, dhcpv4.MessageTypeAck, toServer("10.9.9.9")), with(func(f *foreign) { f.kind, f.server = dhcpv4.MessageTypeAck, ip("10.9.9.9") })},
		"a NAK":                      {served(upper, dhcpv4.MessageTypeNak), with(func(f *foreign) { f.kind = dhcpv4.MessageTypeNak })},
		"through a relay agent":      {served(upper, dhcpv4.MessageTypeAck, relayed("10.83.0.40")), with(func(f *foreign) { f.kind, f.relay = dhcpv4.MessageTypeAck, ip("10.83.0.40") })},
		"a mark":                     {served(upper, dhcpv4.MessageTypeNak, says(serving)), with(func(f *foreign) { f.kind, f.mark = dhcpv4.MessageTypeNak, serving })},
		"a mark that nobody knows":   {served(upper, dhcpv4.MessageTypeNak, says("tired")), with(func(f *foreign) { f.kind = dhcpv4.MessageTypeNak })},
		"a mark on an OFFER":         {served(upper, dhcpv4.MessageTypeOffer, says(serving)), with(func(f *foreign) { f.kind = dhcpv4.MessageTypeOffer })},
		"a client's message":         {served(upper, dhcpv4.MessageTypeRequest), nil},
		"a request":                  {enclose("10.83.0.9:68", "255.255.255.255:67", lwip(dhcpv4.MessageTypeDiscover, client).ToBytes()), nil},
		"rubbish":                    {enclose("10.83.0.9:67", "255.255.255.255:68", bytes.Repeat([]byte{7}, 300)), nil},
		"nothing":                    {nil, nil},
	} {
		got, ok := parseForeign(tt.frame)
		if ok != (tt.want != nil) {
			t.Errorf("%s: ok is %t", name, ok)
		}
		if tt.want != nil && got != *tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, *tt.want)
		}
		if ok && !passes(t, vm, tt.frame) {
			t.Errorf("%s: the filter drops it", name)
		}
	}
}

func FuzzForeign(f *testing.F) {
	f.Add(served(upper, dhcpv4.MessageTypeOffer))
	f.Add(served(upper, dhcpv4.MessageTypeNak, says(serving)))
	vm, err := bpf.NewVM(replies())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		got, ok := parseForeign(frame)
		if ok && (!got.server.IsValid() || !passes(t, vm, frame)) {
			t.Fatalf("%+v", got)
		}
	})
}

func TestPlace(t *testing.T) {
	t.Parallel()
	xid := dhcpv4.TransactionID{1}
	from := func(mac charger.MAC, m mark) foreign {
		return foreign{from: mac, server: ip("10.83.0.1"), to: ours, xid: xid, kind: dhcpv4.MessageTypeNak, mark: m}
	}
	stray := from(lower, serving)
	stray.xid = dhcpv4.TransactionID{2}
	others := from(lower, serving)
	others.to = lower
	for _, tt := range []struct {
		name      string
		steadfast bool
		settled   bool
		hears     foreign
		want      verdict
		says      mark // afterwards
	}{
		{"at its start it hears that another serves", false, false, from(upper, serving), givesWay, unmarked},
		{"at its start another starts whose MAC is lower", false, false, from(lower, starting), givesWay, unmarked},
		{"at its start another starts whose MAC is higher", false, false, from(upper, starting), nothingNew, starting},
		{"at its start it hears an ordinary server", false, false, from(lower, unmarked), aRogue, starting},
		{"an answer to another question", false, false, stray, nothingNew, starting},
		{"an answer to somebody else", false, false, others, nothingNew, starting},
		{"it serves and hears that another does", false, true, from(lower, serving), aRogue, serving},
		{"it serves and another starts", false, true, from(lower, starting), nothingNew, serving},
		{"on its own radio it hears that another serves", true, false, from(lower, serving), aRogue, serving},
		{"on its own radio another starts", true, false, from(lower, starting), nothingNew, serving},
	} {
		var p place
		p.begin(tt.steadfast)
		p.asks(xid)
		if tt.settled {
			p.settle()
		}
		if got := p.hear(tt.hears, ours); got != tt.want {
			t.Errorf("%s: verdict %d, want %d", tt.name, got, tt.want)
		}
		if got := p.says(); got != tt.says {
			t.Errorf("%s: says %q, want %q", tt.name, got, tt.says)
		}
	}
}

// Whatever is heard in whatever order of two that start, one of them serves.
func TestOfTwoThatStartOneServes(t *testing.T) {
	t.Parallel()
	xid := dhcpv4.TransactionID{1}
	for order := range 1 << 6 {
		a, b := &place{}, &place{}
		for _, p := range []*place{a, b} {
			p.begin(false)
			p.asks(xid)
		}
		tell := func(to, of *place, toMAC, ofMAC charger.MAC) {
			if m := of.says(); m != unmarked {
				to.hear(foreign{from: ofMAC, to: toMAC, xid: xid, mark: m}, toMAC)
			}
		}
		settle := []*place{a, b}
		for i := range 6 { // each bit: who asks now; in the middle one has settled
			if order>>i&1 == 0 {
				tell(a, b, lower, upper)
			} else {
				tell(b, a, upper, lower)
			}
			if i%2 == 1 && len(settle) > 0 {
				settle[0].settle()
				settle = settle[1:]
			}
		}
		if _, aDown := a.down(); aDown {
			if _, bDown := b.down(); bDown {
				t.Errorf("in order %06b nobody serves", order)
			}
		}
	}
}

func TestWhoStoodDownServesWhenTheOtherIsGone(t *testing.T) {
	t.Parallel()
	p := place{}
	p.begin(false)
	there := foreign{from: upper, to: ours, mark: serving}
	p.hear(there, ours)
	var got []bool
	for _, answers := range []bool{true, true, false, true, false, false, false} {
		if answers {
			p.hear(there, ours)
		}
		got = append(got, p.looked())
	}
	if diff := cmp.Diff([]bool{false, false, false, false, false, true, false}, got); diff != "" {
		t.Errorf("serves (-want +got):\n%s", diff)
	}
	p.begin(false) // its interface is made anew
	if p.says() != starting {
		t.Errorf("says %q", p.says())
	}
	p.hear(there, ours)
	p.begin(false)
	if _, down := p.down(); !down {
		t.Error("a new interface made it serve beside the other")
	}
}

func TestRoguesComeAndGo(t *testing.T) {
	t.Parallel()
	var r rogues
	now := epoch
	hear := func(mac charger.MAC) bool { return r.hear(foreign{from: mac, server: ip("192.168.1.1")}, now) }
	gone := func() (macs []charger.MAC) {
		for _, k := range r.looked() {
			macs = append(macs, k.mac)
		}
		return macs
	}
	if !hear(upper) || hear(upper) || !hear(lower) {
		t.Error("not each is said once")
	}
	if g := gone(); g != nil {
		t.Errorf("%v gone at once", g)
	}
	hear(lower)
	if g := gone(); g != nil {
		t.Errorf("%v gone after one look", g)
	}
	if g := gone(); !slices.Equal(g, []charger.MAC{upper}) {
		t.Errorf("%v gone", g)
	}
	if left := r.known(); len(left) != 1 || left[0].mac != lower {
		t.Errorf("left are %v", left)
	}
	now = now.Add(remind)
	if !hear(lower) {
		t.Error("it is not said again after an hour")
	}
	for i := range 1000 {
		hear(charger.MAC{6, 0, 0, 0, byte(i >> 8), byte(i)})
	}
	if n := len(r.known()); n != maxRogues {
		t.Errorf("%d are remembered", n)
	}
}

func TestConditionIsSaidOnceWhenItLasts(t *testing.T) {
	t.Parallel()
	var got []string
	var c condition
	for second, missing := range []bool{
		5: true, 6: false, // too short
		20: true, 21: true, 22: true, 23: true, 24: true, 25: true, 26: true, 27: true, 28: true, 29: true, 30: true, 31: true, 32: false, 33: false,
	} {
		missed, back := c.next(missing, epoch.Add(time.Duration(second)*time.Second))
		if missed || back {
			got = append(got, fmt.Sprintf("%ds missing %t", second, missed))
		}
	}
	if diff := cmp.Diff([]string{"30s missing true", "32s missing false"}, got); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

// Without a carrier nothing is said of the address; nobody is answered without it.
func TestWhatAnInterfaceLacks(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	at := time.Now()
	for range 15 {
		o.judge(true, false, at)
		at = at.Add(time.Second)
	}
	if o.closed() != noAddress {
		t.Errorf("closed: %s", o.closed())
	}
	for range 15 {
		o.judge(false, false, at)
		at = at.Add(time.Second)
	}
	o.judge(true, true, at)
	for range 15 {
		o.judge(false, false, at)
		at = at.Add(time.Second)
	}
	o.judge(true, true, at)
	want := []string{
		"error P1: wlan0 does not have the gateway's address 10.83.0.1; nobody is given an address",
		"warning P1: wlan0 has no carrier or is switched off; nobody on it can be reached",
		"info P1: wlan0 has a carrier again",
		"info P1: wlan0 has the gateway's address 10.83.0.1; addresses are given",
		"warning P1: wlan0 has no carrier or is switched off; nobody on it can be reached", // which is why there is no address
		"info P1: wlan0 has a carrier again",
	}
	if diff := cmp.Diff(want, o.messages()); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
	if o.closed() != fine {
		t.Errorf("closed: %s", o.closed())
	}
}
