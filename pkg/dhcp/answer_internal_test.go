package dhcp

import (
	"bytes"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

var (
	epoch   = time.Date(1970, 1, 1, 0, 0, 20, 0, time.UTC)
	gateway = netip.MustParsePrefix("10.83.0.1/26")
	client  = charger.MAC{0x60, 0x15, 0x92, 0x41, 0x00, 0x07}
	other   = charger.MAC{0x60, 0x15, 0x92, 0x41, 0x00, 0x08}
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// aDesk returns the desk of a network for 16 chargers.
func aDesk(t testing.TB) *desk {
	t.Helper()
	p, err := lease.NewPool("P1", gateway, 16)
	if err != nil {
		t.Fatal(err)
	}
	leases, report, err := lease.Open(t.TempDir(), []lease.Pool{p}, nil, epoch)
	if err != nil || report.Storage != nil {
		t.Fatal(err, report.Storage)
	}
	t.Cleanup(func() { leases.Close() })
	n := Network{Name: "P1", Interface: "eth1", Gateway: gateway, Relays: []netip.Addr{ip("10.83.0.60")}}
	d := newDesk(n, []Network{n, {Name: "P2", Interface: "wlan0", Gateway: netip.MustParsePrefix("10.83.1.1/26")}}, leases, 12*time.Hour)
	return &d
}

// lwip is a message as the chargers send it (F-3).
func lwip(kind dhcpv4.MessageType, hw charger.MAC, more ...func(*dhcpv4.DHCPv4)) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootRequest, HWType: iana.HWTypeEthernet, ClientHWAddr: hw[:],
		TransactionID: dhcpv4.TransactionID{1, 2, 3, 4},
		Options: dhcpv4.OptionsFromList(dhcpv4.OptMessageType(kind), dhcpv4.OptHostName("Zaptec Go"), dhcpv4.OptMaxMessageSize(1500),
			dhcpv4.OptParameterRequestList(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionBroadcastAddress, dhcpv4.OptionDomainNameServer),
			dhcpv4.OptClientIdentifier(append([]byte{1}, hw[:]...))),
	}
	for _, f := range more {
		f(m)
	}
	return m
}

type edit = func(*dhcpv4.DHCPv4)

func wants(a string) edit {
	return func(m *dhcpv4.DHCPv4) { m.UpdateOption(dhcpv4.OptRequestedIPAddress(netIP(ip(a)))) }
}

func toServer(a string) edit {
	return func(m *dhcpv4.DHCPv4) { m.UpdateOption(dhcpv4.OptServerIdentifier(netIP(ip(a)))) }
}

func has(a string) edit { return func(m *dhcpv4.DHCPv4) { m.ClientIPAddr = netIP(ip(a)) } }

func relayed(a string) edit {
	return func(m *dhcpv4.DHCPv4) {
		m.GatewayIPAddr = netIP(ip(a))
		m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionRelayAgentInformation, []byte{1, 2, 'p', '4'}))
	}
}

func broadcast(m *dhcpv4.DHCPv4) { m.SetBroadcast() }

// ask sends a message through the desk as a packet.
func ask(t testing.TB, d *desk, known bool, m *dhcpv4.DHCPv4) answer {
	t.Helper()
	q, drop := parse(m.ToBytes(), d.Network)
	if drop != fine {
		return answer{drop: drop}
	}
	q.known = known
	return d.answer(q, epoch)
}

// seen is what a table of tests compares.
type seen struct {
	Reply  string // message type; empty: silence
	Yours  string
	To     string
	Way    way
	Said   string
	Drop   reason
	Lesson lesson
}

func look(a answer) seen {
	s := seen{Drop: a.drop, Lesson: a.learn}
	if a.kind != nil {
		s.Said = a.kind.ID
	}
	if a.reply != nil {
		s.Reply, s.Way, s.To = a.reply.MessageType().String(), a.route.way, a.route.to.String()
		if y := address(a.reply.YourIPAddr); y.IsValid() {
			s.Yours = y.String()
		}
	}
	return s
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	const everyone = "255.255.255.255:68"
	mine, theirs := "10.83.0.20", "10.83.0.21"
	nak := func(to string, w way) seen {
		return seen{Reply: "NAK", To: to, Way: w, Said: event.LeaseRefused.ID}
	}
	ack := func(w way, to, said string) seen {
		return seen{Reply: "ACK", Yours: mine, To: to, Way: w, Said: said, Lesson: leased}
	}
	for _, tt := range []struct {
		name    string
		nothing bool // no binding yet: else client has mine and other has theirs
		known   bool
		msg     *dhcpv4.DHCPv4
		want    seen
	}{
		{"DISCOVER gets what it had", false, true, lwip(discover, client),
			seen{Reply: "OFFER", Yours: mine, To: mine + ":68", Way: toFrame, Said: event.LeaseOffered.ID}},
		{"DISCOVER gets what it asks for", true, true, lwip(discover, client, wants(mine)),
			seen{Reply: "OFFER", Yours: mine, To: mine + ":68", Way: toFrame, Said: event.LeaseOffered.ID}},
		{"DISCOVER with the broadcast flag", true, true, lwip(discover, client, wants(mine), broadcast),
			seen{Reply: "OFFER", Yours: mine, To: everyone, Way: toAll, Said: event.LeaseOffered.ID}},
		{"DISCOVER through a relay", true, true, lwip(discover, client, wants(mine), relayed("10.83.0.60")),
			seen{Reply: "OFFER", Yours: mine, To: "10.83.0.60:67", Way: toRelay, Said: event.LeaseOffered.ID}},
		{"DISCOVER through a relay of another network", true, true, lwip(discover, client, relayed("10.99.0.60")), seen{Drop: strangeRelay}},
		{"DISCOVER through a relay with our own address", true, true, lwip(discover, client, relayed("10.83.0.1")), seen{Drop: strangeRelay}},
		{"DISCOVER through a relay that the configuration does not name", true, true, lwip(discover, client, relayed("10.83.0.61")), seen{Drop: strangeRelay}},
		{"DISCOVER of one who claims to have an address", true, true, lwip(discover, client, wants(mine), has("192.0.2.1")),
			seen{Reply: "OFFER", Yours: mine, To: mine + ":68", Way: toFrame, Said: event.LeaseOffered.ID}},

		{"SELECTING, its own", false, true, lwip(request, client, wants(mine), toServer("10.83.0.1")), ack(toFrame, mine+":68", event.LeaseKept.ID)},
		{"SELECTING, new", true, true, lwip(request, client, wants(mine), toServer("10.83.0.1")), ack(toFrame, mine+":68", event.LeaseGranted.ID)},
		{"SELECTING, somebody else's", false, true, lwip(request, client, wants(theirs), toServer("10.83.0.1")), nak(everyone, toAll)},
		{"SELECTING another server", false, true, lwip(request, client, wants("10.83.0.30"), toServer("10.83.0.99")),
			seen{Drop: foreignServer, Said: event.LeaseElsewhere.ID}},

		{"INIT-REBOOT, its own", false, true, lwip(request, client, wants(mine)), ack(toFrame, mine+":68", event.LeaseKept.ID)},
		{"INIT-REBOOT, unknown but free", true, true, lwip(request, client, wants(mine)), ack(toFrame, mine+":68", event.LeaseGranted.ID)},
		{"INIT-REBOOT, another network's", true, true, lwip(request, client, wants("192.168.1.5")), nak(everyone, toAll)},
		{"INIT-REBOOT, somebody else's", false, true, lwip(request, client, wants(theirs)), nak(everyone, toAll)},
		{"INIT-REBOOT, not what it has", false, true, lwip(request, client, wants("10.83.0.30")), nak(everyone, toAll)},
		{"INIT-REBOOT, the gateway's", true, true, lwip(request, client, wants("10.83.0.1")), nak(everyone, toAll)},
		{"INIT-REBOOT, a charger's by a stranger", true, false, lwip(request, client, wants(mine)), nak(everyone, toAll)},
		{"INIT-REBOOT through a relay, another network's", true, true, lwip(request, client, wants("192.168.1.5"), relayed("10.83.0.60")),
			nak("10.83.0.60:67", toRelay)},

		{"RENEWING", false, true, lwip(request, client, has(mine)), ack(toAddress, mine+":68", event.LeaseKept.ID)},
		{"REBINDING, with the broadcast flag", false, true, lwip(request, client, has(mine), broadcast), ack(toAddress, mine+":68", event.LeaseKept.ID)},
		{"REBINDING, unknown but free", true, true, lwip(request, client, has(mine)), ack(toAddress, mine+":68", event.LeaseGranted.ID)},
		{"REBINDING, another network's", true, true, lwip(request, client, has("192.168.1.5")), nak(everyone, toAll)},
		{"REBINDING, somebody else's", false, true, lwip(request, client, has(theirs)), nak(everyone, toAll)},
		{"REQUEST for nothing", true, true, lwip(request, client), seen{Drop: malformed}},

		{"RELEASE", false, true, lwip(dhcpv4.MessageTypeRelease, client, has(mine), toServer("10.83.0.1")),
			seen{Said: event.LeaseReleased.ID, Lesson: unleased}},
		{"RELEASE of somebody else's", false, true, lwip(dhcpv4.MessageTypeRelease, client, has(theirs), toServer("10.83.0.1")), seen{Drop: notOurs}},
		{"RELEASE to another server", false, true, lwip(dhcpv4.MessageTypeRelease, client, has(mine), toServer("10.83.0.9")), seen{Drop: foreignServer}},
		{"DECLINE", false, true, lwip(dhcpv4.MessageTypeDecline, client, wants(mine), toServer("10.83.0.1")),
			seen{Said: event.LeaseDeclined.ID, Lesson: unleased}},
		{"DECLINE of somebody else's", false, true, lwip(dhcpv4.MessageTypeDecline, client, wants(theirs), toServer("10.83.0.1")), seen{Drop: notOurs}},
		{"INFORM", true, true, lwip(dhcpv4.MessageTypeInform, client, has("10.83.0.55")),
			seen{Reply: "ACK", To: "10.83.0.55:68", Way: toAddress}},
		{"INFORM from another network", true, true, lwip(dhcpv4.MessageTypeInform, client, has("192.0.2.55")), seen{Drop: notOurs}},

		{"a reply of another server", true, true, lwip(dhcpv4.MessageTypeOffer, client, func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootReply }), seen{Drop: notRequest}},
		{"an OFFER as a request", true, true, lwip(dhcpv4.MessageTypeOffer, client), seen{Drop: unknownType}},
		{"BOOTP without a type", true, true, lwip(discover, client, func(m *dhcpv4.DHCPv4) { m.DeleteOption(dhcpv4.OptionDHCPMessageType) }), seen{Drop: bootp}},
		{"token ring", true, true, lwip(discover, client, func(m *dhcpv4.DHCPv4) { m.HWType = iana.HWTypeIEEE802 }), seen{Drop: notEthernet}},
		{"a hardware address of 16 bytes", true, true, lwip(discover, client, func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = make([]byte, 16) }), seen{Drop: notEthernet}},
		{"no hardware address", true, true, lwip(discover, client, func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = nil }), seen{Drop: notEthernet}},
		{"a group's hardware address", true, true, lwip(discover, charger.MAC{1, 0, 0x5e, 0, 0, 1}), seen{Drop: badHardware}},
		{"the empty hardware address", true, true, lwip(discover, charger.MAC{}), seen{Drop: badHardware}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := aDesk(t)
			if !tt.nothing {
				ask(t, d, true, lwip(request, client, wants(mine)))
				ask(t, d, true, lwip(request, other, wants(theirs)))
			}
			got := look(ask(t, d, tt.known, tt.msg))
			if got.Said == event.LeaseRenewed.ID && tt.want.Said == event.LeaseKept.ID {
				got.Said = event.LeaseKept.ID // the difference has a test of its own
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatIsSaidOfALease(t *testing.T) {
	t.Parallel()
	d := aDesk(t)
	for _, step := range []struct {
		name string
		msg  *dhcpv4.DHCPv4
		want *event.Kind
	}{
		{"new", lwip(dhcpv4.MessageTypeRequest, client, wants("10.83.0.20")), event.LeaseGranted},
		{"renewal", lwip(dhcpv4.MessageTypeRequest, client, has("10.83.0.20")), event.LeaseRenewed},
		{"reboot", lwip(dhcpv4.MessageTypeRequest, client, wants("10.83.0.20")), event.LeaseKept},
		{"release", lwip(dhcpv4.MessageTypeRelease, client, has("10.83.0.20")), event.LeaseReleased},
		{"again", lwip(dhcpv4.MessageTypeRequest, client, wants("10.83.0.20")), event.LeaseKept},
	} {
		if a := ask(t, d, true, step.msg); a.kind != step.want {
			t.Errorf("%s: said %v, want %s", step.name, look(a).Said, step.want.ID)
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	self := []byte{10, 83, 0, 1}
	always := dhcpv4.Options{
		53: {2}, 54: self, 1: {255, 255, 255, 192},
		51: {0, 0, 168, 192}, 58: {0, 0, 84, 37}, 59: {0, 0, 147, 109}, // 12 h; 6 h and 10 h 30 min, less 59 s for the 7 in its MAC
	}
	id := dhcpv4.Options{61: {1, 0x60, 0x15, 0x92, 0x41, 0, 7}}
	whole := dhcpv4.Options{3: self, 6: self, 28: {10, 83, 0, 63}}
	agent := bytes.Repeat([]byte{9}, 255)
	for _, tt := range []struct {
		name string
		edit edit
		want []dhcpv4.Options
	}{
		{"a charger gets what it asks for", func(*dhcpv4.DHCPv4) {}, []dhcpv4.Options{always, id, whole}},
		{"one without a list gets everything", func(m *dhcpv4.DHCPv4) { m.DeleteOption(dhcpv4.OptionParameterRequestList) },
			[]dhcpv4.Options{always, id, whole, {42: self}}},
		{"one that asks for the time and a portal gets mask and time", func(m *dhcpv4.DHCPv4) {
			m.UpdateOption(dhcpv4.OptParameterRequestList(dhcpv4.OptionNTPServers, dhcpv4.GenericOptionCode(114)))
		}, []dhcpv4.Options{always, id, {42: self}}},
		{"without a client identifier none comes back", func(m *dhcpv4.DHCPv4) { m.DeleteOption(dhcpv4.OptionClientIdentifier) },
			[]dhcpv4.Options{always, whole}},
		{"what a relay added comes back", relayed("10.83.0.60"), []dhcpv4.Options{always, id, whole, {82: {1, 2, 'p', '4'}}}},
		{"a long client identifier leaves no room for what is needed least", func(m *dhcpv4.DHCPv4) {
			m.DeleteOption(dhcpv4.OptionMaximumDHCPMessageSize)
			m.DeleteOption(dhcpv4.OptionParameterRequestList)
			m.UpdateOption(dhcpv4.OptClientIdentifier(agent[:249]))
		}, []dhcpv4.Options{always, {61: agent[:249], 3: self, 6: self, 28: {10, 83, 0, 63}}}},
		{"a long identifier and a relay's option", func(m *dhcpv4.DHCPv4) {
			m.GatewayIPAddr = netIP(ip("10.83.0.60"))
			m.UpdateOption(dhcpv4.OptMaxMessageSize(576))
			m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionRelayAgentInformation, agent))
			m.UpdateOption(dhcpv4.OptClientIdentifier(agent[:200]))
		}, []dhcpv4.Options{always, whole, {61: agent[:200], 82: agent}}},
		{"what a relay added does not count against what the client takes", func(m *dhcpv4.DHCPv4) {
			m.UpdateOption(dhcpv4.OptMaxMessageSize(576))
			m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionRelayAgentInformation, bytes.Repeat([]byte{9}, 900)))
		}, []dhcpv4.Options{always, id, whole, {82: bytes.Repeat([]byte{9}, 900)}}},
		{"what a relay added and does not fit into a packet is left out", func(m *dhcpv4.DHCPv4) {
			m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionRelayAgentInformation, bytes.Repeat([]byte{9}, 1200)))
		}, []dhcpv4.Options{always, {3: self, 6: self}}},
		{"a client identifier that does not fit is left out", func(m *dhcpv4.DHCPv4) {
			m.DeleteOption(dhcpv4.OptionMaximumDHCPMessageSize)
			m.UpdateOption(dhcpv4.OptClientIdentifier(bytes.Repeat([]byte{7}, 1000)))
		}, []dhcpv4.Options{always, {3: self, 6: self}}},
		{"nobody can say that it takes more than a frame holds", func(m *dhcpv4.DHCPv4) {
			m.UpdateOption(dhcpv4.OptMaxMessageSize(65535))
			m.UpdateOption(dhcpv4.OptClientIdentifier(bytes.Repeat([]byte{7}, 1400)))
		}, []dhcpv4.Options{always, {3: self, 6: self}}},
		{"a long message for one who takes it", func(m *dhcpv4.DHCPv4) {
			m.GatewayIPAddr = netIP(ip("10.83.0.60"))
			m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionRelayAgentInformation, agent))
			m.UpdateOption(dhcpv4.OptClientIdentifier(agent[:200]))
		}, []dhcpv4.Options{always, whole, {61: agent[:200], 82: agent}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := lwip(dhcpv4.MessageTypeDiscover, client)
			tt.edit(m)
			want := dhcpv4.Options{}
			for _, part := range tt.want {
				maps.Copy(want, part)
			}
			if diff := cmp.Diff(want, ask(t, aDesk(t), true, m).reply.Options); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInformPromisesNothing(t *testing.T) {
	t.Parallel()
	d := aDesk(t)
	reply := ask(t, d, true, lwip(dhcpv4.MessageTypeInform, client, has("10.83.0.55"))).reply
	for _, code := range []uint8{51, 58, 59} {
		if _, ok := reply.Options[code]; ok {
			t.Errorf("option %d in the answer to an INFORM", code)
		}
	}
	if y := address(reply.YourIPAddr); y.IsValid() {
		t.Errorf("yiaddr %s in the answer to an INFORM", y)
	}
	if n := d.leases.Counts(epoch)[0].Used; n != 0 {
		t.Errorf("an INFORM took %d addresses", n)
	}
}

func TestARefusalSaysWhyAndNothingElse(t *testing.T) {
	t.Parallel()
	reply := ask(t, aDesk(t), true, lwip(dhcpv4.MessageTypeRequest, client, wants("192.168.1.5"), relayed("10.83.0.60"))).reply
	want := dhcpv4.Options{53: {6}, 54: {10, 83, 0, 1}, 56: []byte("it is of another network"), 61: {1, 0x60, 0x15, 0x92, 0x41, 0, 7}, 82: {1, 2, 'p', '4'}}
	if diff := cmp.Diff(want, reply.Options); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	if !reply.IsBroadcast() {
		t.Error("the relay is not told to broadcast it (RFC 2131, 4.3.2)")
	}
}

func TestEveryAnswerFitsIntoAFrame(t *testing.T) {
	t.Parallel()
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform} {
		for _, size := range []int{7, 200, 255, 256, 400, 1000, 1400} {
			for _, takes := range []uint16{0, 100, 576, 1000, 1500, 9000, 65535} {
				m := lwip(kind, client, wants("192.168.1.5"), has("10.83.0.55")) // a REQUEST of one more is refused
				if kind == dhcpv4.MessageTypeRequest {
					m.ClientIPAddr = nil
				}
				m.UpdateOption(dhcpv4.OptClientIdentifier(bytes.Repeat([]byte{7}, size)))
				m.UpdateOption(dhcpv4.OptMaxMessageSize(takes))
				limit := min(max(576, int(takes)), 1500) - headers
				r := ask(t, aDesk(t), true, m).reply
				if got := len(r.ToBytes()); got > limit {
					t.Errorf("%s: an identifier of %d bytes makes an answer of %d for one who takes %d", kind, size, got, takes)
				}
				if size < 200 && r.Options.Get(dhcpv4.OptionClientIdentifier) == nil {
					t.Errorf("%s: an identifier of %d bytes is not echoed to one who takes %d", kind, size, takes)
				}
			}
		}
	}
}

func TestAClientThatDoesNotHearItsOfferGetsItBroadcast(t *testing.T) {
	t.Parallel()
	var r repeats
	now := epoch
	q := query{DHCPv4: lwip(dhcpv4.MessageTypeDiscover, client), kind: dhcpv4.MessageTypeDiscover, hw: client}
	var got []int
	for range 3 {
		got = append(got, r.count(q, now))
		now = now.Add(time.Second)
	}
	q.TransactionID = dhcpv4.TransactionID{9} // it begins anew
	got = append(got, r.count(q, now), r.count(q, now.Add(time.Hour)))
	if diff := cmp.Diff([]int{0, 1, 2, 0, 0}, got); diff != "" {
		t.Errorf("repeats (-want +got):\n%s", diff)
	}
	q.repeats = tries
	if to := routeOf(q, &dhcpv4.DHCPv4{YourIPAddr: netIP(ip("10.83.0.20")), Options: dhcpv4.OptionsFromList(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))}); to.way != toAll {
		t.Errorf("after %d repeats it goes %v", tries, to)
	}
	for n := range 3 * maxRepeats {
		q.hw = charger.MAC{2, 0, 0, 0, byte(n >> 8), byte(n)}
		r.count(q, now)
	}
	if len(r.last) > maxRepeats {
		t.Errorf("%d clients are remembered, at most %d should be", len(r.last), maxRepeats)
	}
}
