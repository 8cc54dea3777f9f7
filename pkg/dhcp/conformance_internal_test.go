package dhcp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// A visit is a test at a desk, where clients come one after the other.
type visit struct {
	*testing.T
	*desk
	now time.Time
}

// ask sends a message as a packet and returns what follows from it.
func (c *visit) ask(m *dhcpv4.DHCPv4) answer {
	c.Helper()
	return c.hand(m.ToBytes())
}

func (c *visit) hand(packet []byte) answer {
	c.Helper()
	q, drop := parse(packet, c.Network)
	if drop != fine {
		return answer{drop: drop}
	}
	q.known = true
	return c.answer(q, c.now)
}

// gets asks, and wants an answer of a type.
func (c *visit) gets(want dhcpv4.MessageType, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	c.Helper()
	a := c.ask(m)
	if a.reply == nil || a.reply.MessageType() != want {
		c.Fatalf("%s is answered with %+v, want %s", m.MessageType(), look(a), want)
	}
	return a.reply
}

// same compares.
func (c *visit) same(want, got any) {
	c.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		c.Errorf("(-want +got):\n%s", diff)
	}
}

const (
	discover = dhcpv4.MessageTypeDiscover
	offer    = dhcpv4.MessageTypeOffer
	request  = dhcpv4.MessageTypeRequest
	ack      = dhcpv4.MessageTypeAck
	nak      = dhcpv4.MessageTypeNak
	inform   = dhcpv4.MessageTypeInform
)

func with(code uint8, value ...byte) edit {
	return func(m *dhcpv4.DHCPv4) { m.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), value)) }
}

func without(code uint8) edit {
	return func(m *dhcpv4.DHCPv4) { m.DeleteOption(dhcpv4.GenericOptionCode(code)) }
}

var atOnce = with(80)

// overload moves options into the fields file and sname of a packet.
func overload(m *dhcpv4.DHCPv4, file, sname []byte) []byte {
	var kind byte
	if file != nil {
		kind |= 1
	}
	if sname != nil {
		kind |= 2
	}
	with(52, kind)(m)
	packet := m.ToBytes()
	copy(packet[fileAt:fileEnd], file)
	copy(packet[snameAt:fileAt], sname)
	return packet
}

// TestConformance shows, section by section, what docs/dhcp.md says of the RFCs
// beyond what TestAnswer shows of each message.
func TestConformance(t *testing.T) {
	t.Parallel()
	const here, mine = "10.83.0.1", "10.83.0.20"
	for _, tt := range []struct {
		name string
		show func(*visit)
	}{
		{"RFC 2131 2: flags that must be zero are ignored and not sent back", func(c *visit) {
			r := c.gets(offer, lwip(discover, client, func(m *dhcpv4.DHCPv4) { m.Flags = 0xffff }))
			c.same(uint16(broadcastFlag), r.Flags)
			r = c.gets(offer, lwip(discover, client, func(m *dhcpv4.DHCPv4) { m.Flags = 0x7fff }))
			c.same(uint16(0), r.Flags)
		}},
		{"RFC 1542 2.1: an answer is at least 300 bytes long", func(c *visit) {
			for _, m := range []*dhcpv4.DHCPv4{
				lwip(discover, client, without(61), with(55, 1)), lwip(request, client, without(61), wants("192.168.1.5")),
			} {
				if n := len(c.ask(m).reply.ToBytes()); n < 300 {
					c.Errorf("%d bytes", n)
				}
			}
		}},
		{"RFC 2131 3.1: OFFER and ACK say the same", func(c *visit) {
			offered := c.gets(offer, lwip(discover, client))
			acked := c.gets(ack, lwip(request, client, wants(offered.YourIPAddr.String()), toServer(here)))
			acked.UpdateOption(dhcpv4.OptMessageType(offer))
			c.same(offered, acked)
		}},
		{"RFC 2131 3.1: a binding is promised after it is on disk", func(c *visit) {
			a := c.ask(lwip(request, client, wants(mine)))
			if !c.leases.Pending(a.ticket) {
				c.Error("the ACK does not wait for the disk")
			}
		}},
		{"RFC 2131 3.1: who chooses another server gives the offer back", func(c *visit) {
			c.gets(offer, lwip(discover, client, wants(mine)))
			c.gets(offer, lwip(discover, other, wants("10.83.0.21")))
			if got := c.gets(offer, lwip(discover, numbered(1), wants(mine))); got.YourIPAddr.String() == mine {
				c.Error("it was offered to somebody else meanwhile (4.3.1)")
			}
			c.ask(lwip(request, client, wants("10.83.0.40"), toServer("10.83.0.9")))
			c.same(mine, c.gets(offer, lwip(discover, numbered(2), wants(mine))).YourIPAddr.String())
		}},
		{"RFC 2131 4.1: each address of the gateway stands for this server", func(c *visit) {
			a := c.ask(lwip(request, client, wants("10.83.1.20"), toServer("10.83.1.1"))) // offered on the network beside
			c.same(seen{Reply: "NAK", To: "255.255.255.255:68", Way: toAll, Said: event.LeaseRefused.ID}, look(a))
			c.gets(ack, lwip(request, client, wants(mine)))
			c.same(event.LeaseReleased, c.ask(lwip(dhcpv4.MessageTypeRelease, client, has(mine), toServer("10.83.1.1"))).kind)
		}},
		{"RFC 2131 4.1: options stand in file and sname as well", func(c *visit) {
			a := c.hand(overload(lwip(request, client), []byte{50, 4, 10, 83, 0, 20, 255}, []byte{54, 4, 10, 83, 0, 1, 255}))
			c.same(seen{Reply: "ACK", Yours: mine, To: mine + ":68", Way: toFrame, Said: event.LeaseGranted.ID, Lesson: leased}, look(a))
			a = c.hand(overload(lwip(request, other), nil, []byte{50, 4, 10, 83, 0, 21, 255}))
			c.same("10.83.0.21", look(a).Yours)
			packet := lwip(request, numbered(1)).ToBytes() // without option 52 they are names
			copy(packet[fileAt:], []byte{50, 4, 10, 83, 0, 22, 255})
			c.same(seen{Drop: malformed}, look(c.hand(packet)))
		}},
		{"RFC 2132 9.3: options in file and sname that cannot be are dropped", func(c *visit) {
			for _, kind := range [][]byte{{0}, {4}, {255}, {1, 1}, {}} {
				c.same(seen{Drop: malformed}, look(c.ask(lwip(discover, client, with(52, kind...)))))
			}
			c.same(seen{Drop: malformed}, look(c.hand(overload(lwip(discover, client), bytes.Repeat([]byte{12, 100}, 64), nil))))
			c.same(seen{Drop: malformed}, look(c.hand(overload(lwip(discover, client), nil, append(make([]byte, 62), 12, 9)))))
			c.gets(offer, lwip(discover, client))
		}},
		{"RFC 2132 9: a type, an address or a server of a wrong length is malformed", func(c *visit) {
			for _, e := range []edit{with(53, 1, 1), with(50, 10, 83, 0), with(54, 10, 83, 0, 1, 10, 83, 0, 2), with(54)} {
				c.same(seen{Drop: malformed}, look(c.ask(lwip(discover, client, e))))
			}
		}},
		{"RFC 2131 4.3.1: the address it has, it had, it wishes, or a free one", func(c *visit) {
			free := c.gets(offer, lwip(discover, client)).YourIPAddr.String()
			c.leases.Forgo(c.desk.Name, client)
			c.same("10.83.0.30", c.gets(offer, lwip(discover, client, wants("10.83.0.30"))).YourIPAddr.String())
			c.leases.Forgo(c.desk.Name, client)
			c.gets(ack, lwip(request, client, wants(mine)))
			c.same(mine, c.gets(offer, lwip(discover, client, wants("10.83.0.30"))).YourIPAddr.String())
			c.ask(lwip(dhcpv4.MessageTypeRelease, client, has(mine)))
			c.same(mine, c.gets(offer, lwip(discover, client, wants("10.83.0.30"))).YourIPAddr.String())
			if free == mine {
				c.Error("the test shows nothing: the free one is the same")
			}
		}},
		{"RFC 2131 4.3.1: a shorter lease is given to who asks for it", func(c *visit) {
			for wish, want := range map[time.Duration]time.Duration{
				time.Second: time.Hour, time.Hour: time.Hour, 2 * time.Hour: 2 * time.Hour, 12 * time.Hour: 12 * time.Hour,
				1<<32*time.Second - time.Second: 12 * time.Hour, // for ever (3.3)
			} {
				r := c.gets(ack, lwip(request, client, wants(mine), func(m *dhcpv4.DHCPv4) { m.UpdateOption(dhcpv4.OptIPAddressLeaseTime(wish)) }))
				c.same(want, r.IPAddressLeaseTime(0))
				if b, _ := c.leases.Lookup(c.desk.Name, client); !b.Expires.Equal(c.now.Add(12 * time.Hour)) {
					c.Errorf("the table believes in %s", b.Expires.Sub(c.now)) // a longer one later costs no disk
				}
			}
			c.same(12*time.Hour, c.gets(ack, lwip(request, client, wants(mine), with(51, 1, 2))).IPAddressLeaseTime(0))
		}},
		{"RFC 2131 4.3.2: the address of a renewal alone is believed to be in use", func(c *visit) {
			for _, m := range []*dhcpv4.DHCPv4{
				lwip(request, client, wants(mine), toServer(here), has("192.0.2.1")), lwip(discover, client, has("192.0.2.1"), atOnce),
			} {
				a := c.ask(m)
				c.same(seen{Reply: "ACK", Yours: mine, To: mine + ":68", Way: toFrame, Lesson: leased}, func() seen { s := look(a); s.Said = ""; return s }())
				if own := address(a.reply.ClientIPAddr); own.IsValid() {
					c.Errorf("the answer says that the client has %s", own)
				}
			}
			c.same(mine, c.gets(ack, lwip(request, client, has(mine), toServer(here))).ClientIPAddr.String()) // one that names the server in a renewal
		}},
		{"RFC 2131 4.3.5: INFORM is believed to come from an address that a device can have", func(c *visit) {
			for _, from := range []string{"10.83.0.0", "10.83.0.1", "10.83.0.63", "192.0.2.1", "0.0.0.0", "255.255.255.255", "224.0.0.1"} {
				c.same(seen{Drop: notOurs}, look(c.ask(lwip(inform, client, has(from)))))
			}
			c.gets(ack, lwip(request, other, wants(mine)))
			c.same(mine, c.gets(ack, lwip(inform, client, has(mine))).ClientIPAddr.String()) // the leases are not looked at
		}},
		{"RFC 2131 4.4.5: clients that came together do not renew together", func(c *visit) {
			times := map[time.Duration]bool{}
			for n := range 16 {
				hw := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, byte(n * 16)}
				r := c.gets(offer, lwip(discover, hw))
				t1, t2, term := r.IPAddressRenewalTime(0), r.IPAddressRebindingTime(0), r.IPAddressLeaseTime(0)
				if t1 > term/2 || t1 < term*9/20 || t2 > term*7/8 || t2 < term*33/40 {
					c.Errorf("%s: T1 %s, T2 %s of %s", hw, t1, t2, term)
				}
				times[t1] = true
			}
			c.same(16, len(times))
		}},
		{"RFC 2131 table 3: the fields of OFFER, ACK and NAK", func(c *visit) {
			from := lwip(request, client, has(mine), broadcast, relayed("10.83.0.60"), func(m *dhcpv4.DHCPv4) {
				m.HopCount, m.NumSeconds, m.ServerHostName, m.BootFileName = 3, 77, "boot", "file"
				m.ServerIPAddr, m.YourIPAddr = netIP(ip("10.83.0.9")), netIP(ip("10.83.0.9"))
			})
			for _, kind := range []dhcpv4.MessageType{offer, ack, nak} {
				m, ciaddr, yiaddr := *from, "0.0.0.0", "0.0.0.0"
				m.Options = dhcpv4.OptionsFromList(dhcpv4.OptMessageType(request))
				switch kind {
				case offer:
					m.UpdateOption(dhcpv4.OptMessageType(discover))
					yiaddr = mine
					wants(mine)(&m)
				case ack:
					ciaddr, yiaddr = mine, mine
				case nak:
					has("192.0.2.9")(&m)
				}
				wire := c.gets(kind, &m).ToBytes()
				r, err := dhcpv4.FromBytes(wire)
				if err != nil {
					c.Fatal(err)
				}
				c.same([]any{dhcpv4.OpcodeBootReply, m.HWType, m.ClientHWAddr, uint8(0), m.TransactionID, uint16(0), uint16(broadcastFlag), ciaddr, yiaddr, "0.0.0.0", "10.83.0.60", "", ""},
					[]any{r.OpCode, r.HWType, r.ClientHWAddr, r.HopCount, r.TransactionID, r.NumSeconds, r.Flags, r.ClientIPAddr.String(), r.YourIPAddr.String(),
						r.ServerIPAddr.String(), r.GatewayIPAddr.String(), r.ServerHostName, r.BootFileName})
				for _, never := range []uint8{50, 52, 55, 57} {
					if r.Options.Has(dhcpv4.GenericOptionCode(never)) {
						c.Errorf("option %d in %s", never, kind)
					}
				}
			}
		}},
		{"RFC 2132 3.3: the mask stands before the router", func(c *visit) {
			options := c.gets(offer, lwip(discover, client, with(55, 3, 1))).ToBytes()[240:]
			if mask, router := bytes.Index(options, []byte{1, 4, 255}), bytes.Index(options, []byte{3, 4, 10}); mask < 0 || router < mask {
				c.Errorf("mask at %d, router at %d", mask, router)
			}
		}},
		{"RFC 2132 9.9: a NAK says why in plain ASCII", func(c *visit) {
			c.gets(ack, lwip(request, other, wants(mine)))
			for addr, want := range map[string]string{
				"192.168.1.5": "it is of another network", mine: mine + " belongs to somebody else", here: here + " is not given to anybody on P1",
			} {
				got := c.gets(nak, lwip(request, client, wants(addr))).Message()
				c.same(want, got)
				for _, b := range []byte(got) {
					if b < ' ' || b > '~' {
						c.Errorf("%q is not ASCII", got)
					}
				}
			}
		}},
		{"RFC 3046 2.2: what a relay agent added comes back last in every answer", func(c *visit) {
			added := []byte{82, 4, 1, 2, 'p', '4', 255}
			for want, m := range map[dhcpv4.MessageType]*dhcpv4.DHCPv4{
				offer: lwip(discover, client, relayed("10.83.0.60")), nak: lwip(request, client, wants("192.168.1.5"), relayed("10.83.0.60")),
				ack: lwip(inform, client, has(mine), relayed("10.83.0.60")),
			} {
				a := c.ask(m)
				c.same(want, a.reply.MessageType())
				if want := (route{toRelay, netip.MustParseAddrPort("10.83.0.60:67")}); a.route != want {
					c.Errorf("it goes to %+v, want %+v", a.route, want)
				}
				if wire := bytes.TrimRight(a.reply.ToBytes(), "\x00"); !bytes.HasSuffix(wire, added) {
					c.Errorf("%s ends with % x", want, wire[len(wire)-8:])
				}
			}
			bridge := lwip(discover, client, relayed("0.0.0.0")) // a switch or access point that only adds the option
			if wire := bytes.TrimRight(c.gets(offer, bridge).ToBytes(), "\x00"); !bytes.HasSuffix(wire, added) {
				c.Errorf("it ends with % x", wire[len(wire)-8:])
			}
		}},
		{"RFC 3046 2.1: nobody relays where the radio is ours", func(c *visit) {
			c.OwnRadio = true
			c.same(seen{Drop: strangeRelay}, look(c.ask(lwip(discover, client, relayed("10.83.0.60")))))
			c.OwnRadio = false
			for _, from := range []string{"10.83.0.0", "10.83.0.1", "10.83.0.20", "10.83.0.63", "255.255.255.255"} {
				c.same(seen{Drop: strangeRelay}, look(c.ask(lwip(discover, client, relayed(from)))))
			}
		}},
		{"RFC 3527, RFC 5107: a relay agent chooses neither the subnet nor the server", func(c *visit) {
			r := c.gets(offer, lwip(discover, client, relayed("10.83.0.60"), with(82, 5, 4, 10, 99, 0, 0, 11, 4, 10, 83, 0, 60)))
			c.same(here, r.ServerIdentifier().String())
			c.same(true, gateway.Contains(address(r.YourIPAddr)))
		}},
		{"RFC 3396 5: the parts of an option go together, wherever they stand", func(c *visit) {
			m := lwip(request, client, without(61), without(57))
			packet := overload(m, []byte{50, 2, 10, 83, 61, 3, 1, 2, 3, 255}, []byte{50, 2, 0, 20, 61, 3, 4, 5, 6, 255})
			r := c.hand(packet).reply
			c.same(mine, r.YourIPAddr.String())
			c.same([]byte{1, 2, 3, 4, 5, 6}, r.Options.Get(dhcpv4.OptionClientIdentifier))
			long := bytes.Repeat([]byte{7}, 300)
			back, err := dhcpv4.FromBytes(c.gets(offer, lwip(discover, other, with(61, long...))).ToBytes())
			if err != nil {
				c.Fatal(err)
			}
			c.same(long, back.Options.Get(dhcpv4.OptionClientIdentifier))
		}},
		{"RFC 4039 3.1: who asks for it is given an address at once", func(c *visit) {
			first := c.ask(lwip(discover, client, wants(mine), atOnce))
			c.same(seen{Reply: "ACK", Yours: mine, To: mine + ":68", Way: toFrame, Said: event.LeaseGranted.ID, Lesson: leased}, look(first))
			c.same(true, c.leases.Pending(first.ticket))
			c.same(true, first.reply.Options.Has(dhcpv4.OptionRapidCommit))
			again := c.ask(lwip(discover, client, wants(mine), atOnce))
			c.same(first.reply, again.reply)
			c.same(event.LeaseKept, again.kind)
			for _, m := range []*dhcpv4.DHCPv4{lwip(discover, client), lwip(request, client, wants(mine), atOnce), lwip(discover, client, with(80, 1))} {
				if c.ask(m).reply.Options.Has(dhcpv4.OptionRapidCommit) {
					c.Errorf("the answer to %s says that it was at once", m.MessageType())
				}
			}
			c.gets(offer, lwip(discover, client))
			c.same(event.LeaseDeclined, c.ask(lwip(dhcpv4.MessageTypeDecline, client, wants(mine), toServer(here))).kind)
		}},
		{"RFC 4039 3.1: who may have no binding now is offered one", func(c *visit) {
			for range maxBindings {
				c.bindings.use(client, false, c.now)
			}
			if r := c.gets(offer, lwip(discover, client, atOnce)); r.Options.Has(dhcpv4.OptionRapidCommit) {
				c.Error("the OFFER says that it was at once")
			}
			c.same(0, c.leases.Counts(c.now)[0].Used)
		}},
		{"RFC 4039 3.1: when nothing is free there is no answer", func(c *visit) {
			for n := range c.leases.Counts(c.now)[0].Size {
				c.gets(ack, lwip(discover, numbered(n), atOnce))
			}
			c.same(seen{Said: event.PoolExhausted.ID}, look(c.ask(lwip(discover, client, atOnce))))
		}},
		{"RFC 4361 6: the MAC is who somebody is, whatever identifier it sends", func(c *visit) {
			duid := with(61, 255, 0x92, 0x41, 0, 7, 0, 2, 0, 0, 0xab, 0x11, 1, 2, 3, 4)
			first := c.gets(ack, lwip(discover, client, duid, atOnce)).YourIPAddr
			clone := c.gets(ack, lwip(discover, other, duid, atOnce)).YourIPAddr
			if first.Equal(clone) {
				c.Errorf("two devices have %s", first)
			}
			for _, e := range []edit{with(61, 0, 'x', 'y'), without(61), with(61, 255, 1, 1, 1, 1, 0, 3, 0, 1)} {
				c.same(first.String(), c.gets(offer, lwip(discover, client, e)).YourIPAddr.String())
				c.same(first.String(), c.gets(ack, lwip(request, client, e, has(first.String()))).YourIPAddr.String())
			}
		}},
		{"RFC 6842 3: the client identifier comes back in every answer", func(c *visit) {
			id := []byte{255, 0x92, 0x41, 0, 7, 0, 2, 0, 0, 0xab, 0x11, 0, 255, 0}
			for want, m := range map[dhcpv4.MessageType]*dhcpv4.DHCPv4{
				offer: lwip(discover, client, with(61, id...)), nak: lwip(request, client, wants("192.168.1.5"), with(61, id...)),
				ack: lwip(inform, client, has(mine), with(61, id...)),
			} {
				c.same(id, c.gets(want, m).Options.Get(dhcpv4.OptionClientIdentifier))
				without(61)(m)
				if c.gets(want, m).Options.Has(dhcpv4.OptionClientIdentifier) {
					c.Errorf("%s names a client identifier that was not sent", want)
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.show(&visit{T: t, desk: aDesk(t), now: epoch})
		})
	}
}

func TestARefusalIsNotRepeatedWithoutEnd(t *testing.T) {
	t.Parallel()
	c := &visit{T: t, desk: aDesk(t), now: epoch}
	naks := func(hw charger.MAC) (n int) {
		for i := range 1000 {
			a := c.ask(lwip(request, hw, wants(netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)}).String())))
			if a.reply != nil {
				n++
			} else if a.drop != naksTooMany || a.kind != nil {
				t.Fatalf("%+v", look(a))
			}
		}
		return n
	}
	c.same(maxNaks, naks(client))
	c.same(maxNaks, naks(other)) // somebody else does not have to bear it
	c.now = c.now.Add(3 * naksEvery)
	c.same(3, naks(client))
	c.gets(offer, lwip(discover, client))
}

// seedOf reads a packet of FuzzAnswer's corpus.
func seedOf(t *testing.T, path string) (packet []byte, known bool) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 3 {
		t.Fatalf("%s is not a seed", path)
	}
	s, err := strconv.Unquote(strings.TrimSuffix(strings.TrimPrefix(lines[1], "[]byte("), ")"))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return []byte(s), lines[2] == "bool(true)"
}

// What programs of the field send is understood, and what nobody should send is
// not. The packets are those that FuzzAnswer begins with.
func TestWhatTheFieldSends(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"udhcpc-discover": "OFFER", "udhcpc-select": "ACK", "udhcpc-renew": "ACK", "udhcpc-release": "dhcp-lease-released", "udhcpc-decline": "dhcp-lease-declined",
		"dhclient-discover": "OFFER", "dhclient-reboot": "ACK", "dhclient-reboot-elsewhere": "NAK", "dhclient-hour": "ACK",
		"dhcpcd-discover": "OFFER", "dhcpcd-rapid": "ACK", "networkd-discover": "OFFER", "networkd-rebind": "ACK",
		"lwip-discover": "OFFER", "lwip-select": "ACK", "lwip-decline": "dhcp-lease-declined",
		"windows-discover": "OFFER", "windows-request": "ACK", "windows-inform": "ACK", "windows-inform-without-address": notOurs.String(),
		"android-rapid":  "ACK",
		"relay-discover": "OFFER", "relay-nak": "NAK", "relay-selection-and-override": "OFFER", "relay-foreign": strangeRelay.String(), "bridge-adds-82": "OFFER",
		"overload-file": "ACK", "overload-split": "ACK", "overload-unknown": malformed.String(), "overload-cut": malformed.String(),
		"identifier-long": "OFFER", "everything-at-once": "ACK",
		"bootp": bootp.String(), "reply": notRequest.String(), "token-ring": notEthernet.String(), "hlen-16": notEthernet.String(),
		"truncated": malformed.String(), "no-end": malformed.String(), "type-of-two-bytes": malformed.String(), "server-of-three-bytes": malformed.String(),
	}
	files, err := filepath.Glob("testdata/fuzz/FuzzAnswer/*")
	if err != nil || len(files) != len(want) {
		t.Errorf("there are %d seeds, want %d; %v", len(files), len(want), err)
	}
	for _, path := range files {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			packet, known := seedOf(t, path)
			d := aDesk(t)
			ask(t, d, true, lwip(request, client, wants("10.83.0.20")))
			ask(t, d, true, lwip(request, other, wants("10.83.0.21")))
			got := ""
			q, drop := parse(packet, d.Network)
			if drop == fine {
				q.known = known
				s := look(d.answer(q, epoch))
				got, drop = s.Reply, s.Drop
				if got == "" {
					got = s.Said
				}
			}
			if drop != fine {
				got = drop.String()
			}
			if got != want[name] {
				t.Errorf("%s, want %s", got, want[name])
			}
			for i := range packet { // cut anywhere
				if q, drop := parse(packet[:i], d.Network); drop == fine {
					d.answer(q, epoch)
				}
			}
		})
	}
}

// Promises are who was promised which address, by what was sent.
type promises struct {
	owner map[netip.Addr]charger.MAC
	until map[netip.Addr]time.Time
	of    map[charger.MAC]netip.Addr
}

// note takes an answer down, and says who else has the address that it gives.
func (p *promises) note(a answer, now time.Time) (other charger.MAC, bad bool) {
	had, ok := p.of[a.hw]
	if a.learn == unleased && ok {
		delete(p.owner, had)
		delete(p.of, a.hw)
	}
	if a.learn != leased {
		return other, false
	}
	yours := address(a.reply.YourIPAddr)
	if was, taken := p.owner[yours]; taken && was != a.hw {
		if now.Before(p.until[yours]) {
			return was, true
		}
		delete(p.of, was)
	}
	delete(p.owner, had)
	p.owner[yours], p.of[a.hw] = a.hw, yours
	p.until[yours] = now.Add(a.reply.IPAddressLeaseTime(0))
	return other, false
}

// FuzzAnswer sends any packet, each some seconds after the one before: the reply
// is valid or there is none, and nobody is given what is not of the pool or
// somebody else's.
func FuzzAnswer(f *testing.F) {
	for _, m := range []*dhcpv4.DHCPv4{ // and those in testdata
		lwip(discover, client),
		lwip(request, client, wants("10.83.0.20"), toServer("10.83.0.1")),
		lwip(request, client, has("10.83.0.20"), broadcast),
		lwip(dhcpv4.MessageTypeRelease, client, has("10.83.0.20")),
		lwip(dhcpv4.MessageTypeDecline, client, wants("10.83.0.20")),
		lwip(inform, client, has("10.83.0.50")),
		lwip(discover, client, relayed("10.83.0.60")),
	} {
		f.Add(m.ToBytes(), true)
	}
	d, now := aDesk(f), epoch
	said := event.New(event.Options{Keep: 1})
	kept := promises{map[netip.Addr]charger.MAC{}, map[netip.Addr]time.Time{}, map[charger.MAC]netip.Addr{}}
	kept.note(ask(f, d, true, lwip(request, other, wants("10.83.0.21"))), now)
	f.Fuzz(func(t *testing.T, packet []byte, known bool) {
		now = now.Add(7 * time.Second)
		q, drop := parse(packet, d.Network)
		if drop != fine {
			return
		}
		q.known = known
		a := d.answer(q, now)
		if a.kind != nil {
			said.Say(a.kind, a.fields...)
		}
		if was, bad := kept.note(a, now); bad {
			t.Fatalf("%s was given %s, which %s has", q.hw, a.reply.YourIPAddr, was)
		}
		if a.reply != nil {
			sound(t, d, q, a)
		}
	})
}

// sound says what is wrong with a reply.
func sound(t *testing.T, d *desk, q query, a answer) {
	wire := a.reply.ToBytes()
	r, err := dhcpv4.FromBytes(wire)
	if err != nil || len(wire) < 300 || len(wire) > maxMessage {
		t.Fatalf("a reply of %d bytes: %v", len(wire), err)
	}
	if r.OpCode != dhcpv4.OpcodeBootReply || r.TransactionID != q.TransactionID || charger.MAC(r.ClientHWAddr) != q.hw ||
		address(r.GatewayIPAddr) != q.giaddr || address(r.ServerIdentifier()) != d.Gateway.Addr() || r.Flags&^broadcastFlag != 0 {
		t.Fatalf("an invalid reply to\n%s:\n%s", q.Summary(), r.Summary())
	}
	kind, yours := r.MessageType(), address(r.YourIPAddr)
	switch {
	case kind != offer && kind != ack && kind != nak:
		t.Fatalf("a reply that is %s", kind)
	case yours.IsValid() != (kind == offer || kind == ack && q.kind != inform):
		t.Fatalf("%s to %s gives %s", kind, q.kind, yours)
	case yours.IsValid():
		if b, bound := d.leases.At(yours); !d.canHold(yours) || bound && kind == ack && b.HW != q.hw {
			t.Fatalf("%s was given %s, which belongs to %x", q.hw, yours, b.HW)
		}
	}
	if to := a.route.to.Addr(); a.route.way != toAll && !d.canHold(to) {
		t.Fatalf("an answer leaves the network, to %s", to)
	}
	datagram(netip.AddrPortFrom(d.Gateway.Addr(), dhcpv4.ServerPort), a.route.to, wire)
	if n := binary.BigEndian.Uint32(wire[236:]); n != 0x63825363 {
		t.Fatalf("the cookie is %x", n)
	}
}
