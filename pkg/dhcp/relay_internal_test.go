package dhcp

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// framed is a message in a frame of somebody's.
func framed(from charger.MAC, source, to string, m *dhcpv4.DHCPv4) *packet {
	frame := slices.Concat([]byte{2, 0, 0, 0, 0, 1}, from[:], []byte{8, 0},
		datagram(netip.MustParseAddrPort(source), netip.MustParseAddrPort(to), m.ToBytes()))
	p := &packet{n: len(frame)}
	copy(p.buf[:], frame)
	return p
}

// Behind an external access point every station can write giaddr. Whoever is not
// a relay agent of the configuration by giaddr and by its own address takes
// nothing from anybody by it, and is named.
func TestNobodyIsARelayAgentWhomTheConfigurationDoesNotName(t *testing.T) {
	t.Parallel()
	const relay = "10.83.0.60"
	for _, tt := range []struct {
		name           string
		relays         []netip.Addr
		ownRadio       bool
		giaddr, source string
		believed       bool
	}{
		{"none is named", nil, false, "10.83.0.55", "10.83.0.55:68", false},
		{"none is named, nothing is meant by giaddr", nil, false, "255.255.255.255", "10.83.0.55:68", false},
		{"another is named", []netip.Addr{ip(relay)}, false, "10.83.0.55", "10.83.0.55:67", false},
		{"giaddr is the named one's, the sender is not", []netip.Addr{ip(relay)}, false, relay, "10.83.0.55:67", false},
		{"the named one writes another's giaddr", []netip.Addr{ip(relay)}, false, "10.83.0.55", relay + ":67", false},
		{"on a radio of our own", []netip.Addr{ip(relay)}, true, relay, relay + ":67", false},
		{"the named one", []netip.Addr{ip(relay)}, false, relay, relay + ":67", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			o.Relays, o.OwnRadio = tt.relays, tt.ownRadio
			stage := o.book.StageOf(client)
			for _, m := range []*dhcpv4.DHCPv4{
				lwip(dhcpv4.MessageTypeDiscover, client, relayed(tt.giaddr)),
				lwip(dhcpv4.MessageTypeRelease, client, has(o.addr), relayed(tt.giaddr)),
				lwip(dhcpv4.MessageTypeDecline, client, wants(o.addr), relayed(tt.giaddr)),
			} {
				o.handle(o.link, framed(thief, tt.source, "10.83.0.1:67", m))
			}
			b, had := o.Server.leases.Lookup("P1", client)
			kept := had && b.Live(time.Now()) && b.Addr == ip(o.addr) && o.book.StageOf(client) == stage
			said := 0
			for _, r := range o.log.Recent(0, "") {
				if r.Kind == event.RelayUnknown {
					said++
				}
			}
			dropped := o.dropped[strangeRelay].Load()
			if tt.believed && (kept || dropped != 0 || said != 0) {
				t.Errorf("a relay agent of the configuration was not believed: %d dropped, said %d times", dropped, said)
			}
			if !tt.believed && (!kept || dropped != 3 || said != 1) {
				t.Errorf("the charger keeps its address and its stage: %t; %d dropped, want 3; said %d times, want once", kept, dropped, said)
			}
		})
	}
}

// A server that pretends to be this one behind a relay agent is found all the
// same.
func TestARogueServerDoesNotHideBehindARelayAgent(t *testing.T) {
	t.Parallel()
	for giaddr, want := range map[string]int{"": 1, "1.2.3.4": 1, "10.83.0.55": 1, "10.83.0.60": 0} {
		o := newOffice(t)
		o.Relays = []netip.Addr{ip("10.83.0.60")}
		o.link.mu.Lock()
		o.link.sockets = &sockets{hw: ours}
		o.link.mu.Unlock()
		edits := []edit{toServer("10.83.0.1")}
		if giaddr != "" {
			edits = append(edits, relayed(giaddr))
		}
		o.hearForeign(o.link, served(thief, dhcpv4.MessageTypeOffer, edits...), time.Now())
		if got := len(o.rogues.known()); got != want {
			t.Errorf("giaddr %q: %d rogue servers are known, want %d", giaddr, got, want)
		}
	}
}
