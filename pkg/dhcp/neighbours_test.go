package dhcp_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"

	"chargegate/pkg/charger"
	"chargegate/pkg/dhcp"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

// must ends the story where it cannot go on.
func (g *garage) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// occupy gives the far end an address of its own: its kernel answers for it.
func (g *garage) occupy(addr netip.Addr) {
	g.Helper()
	g.there(func() {
		link, err := netlink.LinkByName("cl0")
		if err == nil {
			err = netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(32, 32)}})
		}
		if err != nil {
			g.Error(err)
		}
	})
}

// announce sends a gratuitous ARP.
func (w *wire) announce(hw charger.MAC, addr netip.Addr) {
	w.Helper()
	f := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, hw[:]...)
	f = append(f, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	f = append(f, hw[:]...)
	f = append(f, addr.AsSlice()...)
	f = append(f, 0, 0, 0, 0, 0, 0)
	f = append(f, addr.AsSlice()...)
	if _, err := w.conn.WriteTo(append(f, make([]byte, 18)...), &packet.Addr{HardwareAddr: f[:6]}); err != nil {
		w.Error(err)
	}
}

// eventually waits for what has no event.
func (g *garage) eventually(what string, ok func() bool) {
	g.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(15 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			g.Fatalf("waited in vain for %s", what)
		}
	}
}

// settled waits until the start is over, in which a server gives way to others.
func (g *garage) settled() {
	g.Helper()
	g.eventually("the end of the start", g.server.Settled)
}

// A device with a fixed address sits on the address that the next charger would
// be given. It is found out before anybody asks, and no OFFER waits for that.
func TestASquattersAddressIsNeverOffered(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	first, err := g.leases.Offer("P1", victim, netip.Addr{}, true, time.Now())
	g.must(err)
	g.leases.Forgo("P1", victim)
	g.plug()
	g.occupy(first)
	defer g.serve(g.server)()
	said := g.await(event.AddressInUse)
	if said.Field("IP") != first.String() || said.Field("MAC") != "60:15:92:00:00:01" {
		t.Errorf("said %q of %s, %s", said.Message, said.Field("IP"), said.Field("MAC"))
	}
	w := g.wire()
	for i := range 40 {
		hw := charger.MAC{0x60, 0x15, 0x92, 2, 0, byte(i)}
		began := time.Now()
		w.say(hw, anybody, everyone, message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{byte(i)}, hw, dhcpv4.OptRequestedIPAddress(first.AsSlice())))
		offer := w.hear(hw)
		if netip.AddrFrom4([4]byte(offer.YourIPAddr.To4())) == first {
			t.Fatalf("%s was offered %s", hw, first)
		}
		if took := time.Since(began); took > 500*time.Millisecond { // F-2
			t.Errorf("the OFFER took %s", took)
		}
	}
	g.eventually("free addresses", func() bool {
		return g.counted("chargegate_dhcp_arp_probes_total", "network", "P1") >= 200
	})
	if n := g.leases.Counts(time.Now())[0].InUse; n != 1 {
		t.Errorf("%d addresses are in use", n)
	}
}

// What a charger says of its address by ARP is a heartbeat; another who says it
// is accused; and a charger that declines names who it was.
func TestWhatARPTells(t *testing.T) {
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
	lastSeen := func() time.Time { return g.book.All(time.Now())[0].LastSeen }
	before := lastSeen()
	w.announce(victim, addr)
	g.eventually("the heartbeat", func() bool { return lastSeen().After(before) })
	before = lastSeen()
	w.announce(intruder, addr)
	if said := g.await(event.AddressClaimed); said.Field("MAC") != intruder.String() || said.Field("ADDRESS") != addr.String() {
		t.Errorf("said %q", said.Message)
	}
	if !lastSeen().Equal(before) {
		t.Error("another's claim was taken for a sign of life")
	}
	w.announce(intruder, netip.MustParseAddr("10.83.0.1"))
	g.await(event.GatewayClaimed)

	decline := func(hw charger.MAC, addr netip.Addr) {
		w.say(hw, anybody, everyone, message(dhcpv4.MessageTypeDecline, dhcpv4.TransactionID{2}, hw,
			dhcpv4.OptServerIdentifier(net.IPv4(10, 83, 0, 1)), dhcpv4.OptRequestedIPAddress(addr.AsSlice())))
	}
	decline(victim, addr)
	if said := g.await(event.LeaseDeclined); !strings.Contains(said.Message, addr.String()+" is used by "+intruder.String()+";") {
		t.Errorf("said %q", said.Message)
	}
	// One that nobody has heard of is looked for at once. The far end's own kernel
	// answers.
	other := charger.MAC{0x60, 0x15, 0x92, 1, 0, 2}
	addr = w.lease(other)
	g.occupy(addr)
	decline(other, addr)
	if said := g.await(event.LeaseDeclined); !strings.Contains(said.Message, "is used by another device;") {
		t.Errorf("said %q", said.Message)
	}
	began := time.Now()
	if said := g.await(event.AddressInUse); said.Field("IP") != addr.String() || said.Field("MAC") != "60:15:92:00:00:01" {
		t.Errorf("said %q", said.Message)
	}
	t.Logf("who uses a declined address is known after %s", time.Since(began))
}

// A flood of ARP is looked at in part, counted, and keeps nobody from being
// served.
func TestAFloodOfARPKeepsNobodyFromAnAddress(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	defer g.serve(g.server)()
	w := g.wire()
	sent := time.Now()
	for i := range 20_000 {
		w.announce(charger.MAC{2, 0, 0, 1, byte(i >> 8), byte(i)}, netip.AddrFrom4([4]byte{10, 83, byte(i >> 8 & 3), byte(i)}))
	}
	began := time.Now()
	w.lease(victim)
	t.Logf("an address after %s", time.Since(began))
	g.until(1, "chargegate_dhcp_neighbour_missed_frames_total", "network", "P1")
	g.await(event.NeighbourFlood)
	looked := 0.0
	for _, claim := range []string{"another's address", "gateway's address", "nobody's address", "one of too many", "not given here"} {
		looked += g.counted("chargegate_dhcp_arp_claims_total", "claim", claim)
	}
	if limit := 1000 * (2 + time.Since(sent).Seconds()); looked > limit {
		t.Errorf("%v frames were looked at", looked)
	}
}

// The real dnsmasq is the other server.
func TestAnotherServerIsSaidAndItsEndToo(t *testing.T) {
	dnsmasq, err := exec.LookPath("dnsmasq")
	if err != nil {
		t.Skip("there is no dnsmasq here; make test installs it")
	}
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	g.occupy(netip.MustParseAddr("10.83.3.250"))
	stopDnsmasq := g.dnsmasq(dnsmasq)
	defer stopDnsmasq()
	g.server.Hurry(200 * time.Millisecond)
	began := time.Now()
	defer g.serve(g.server)()
	said := g.await(event.RogueServer)
	took := time.Since(began)
	if said.Field("SERVER") != "10.83.3.250" || said.Field("MAC") != "60:15:92:00:00:01" {
		t.Errorf("said %q", said.Message)
	}
	t.Logf("said %s after the start", took)
	if took > time.Second {
		t.Errorf("it took %s", took)
	}
	if problem, do := g.server.Trouble("P1"); problem != "another DHCP server gives addresses: 10.83.3.250 (60:15:92:00:00:01)" || do == "" {
		t.Errorf("trouble: %q, %q", problem, do)
	}
	stopDnsmasq()
	g.await(event.RogueServerGone)
	if problem, _ := g.server.Trouble("P1"); problem != "" {
		t.Errorf("trouble: %q", problem)
	}
}

// dnsmasq runs the program at the far end, and waits until it listens.
func (g *garage) dnsmasq(path string) (stop func()) {
	g.Helper()
	dir := g.TempDir()
	cmd := exec.Command(path, "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=cl0", "--bind-interfaces", "--no-ping", "--user=root", "--log-facility=-",
		"--dhcp-range=10.83.3.100,10.83.3.120,255.255.252.0,1h", "--dhcp-authoritative", "--pid-file="+filepath.Join(dir, "pid"), "--dhcp-leasefile="+filepath.Join(dir, "leases"))
	out, err := os.Create(filepath.Join(dir, "log"))
	g.must(err)
	defer out.Close()
	cmd.Stderr, cmd.Stdout = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	g.there(func() { err = cmd.Start() })
	g.must(err)
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	g.Cleanup(stop)
	g.eventually("dnsmasq", func() bool {
		log, _ := os.ReadFile(out.Name())
		if strings.Contains(string(log), "sockets bound exclusively") || strings.Contains(string(log), "DHCP, IP range") {
			return true
		}
		if strings.Contains(string(log), "failed") {
			g.Fatalf("dnsmasq: %s", log)
		}
		return false
	})
	return stop
}

// A pair is two boxes, each with a garage's memory, whose networks are or become
// one segment:
//
//	this process's namespace    the second one
//	one ── gw0 ═══ veth ═══ b0 ──┐
//	two ── gw1 ═══ veth ═══ b1 ──┤ br0
//	                cl0 ══ b2 ───┘
type pair struct{ one, two *garage }

func newPair(t *testing.T, macs [2]string, joined bool) *pair {
	t.Helper()
	g := newGarage(t)
	p := &pair{one: g}
	two := &garage{T: t, dir: t.TempDir(), pools: g.pools, heard: make(chan event.Record, 10_000), book: charger.NewBook(nil, nil), far: g.far}
	var err error
	two.leases, _, err = lease.Open(two.dir, two.pools, nil, time.Now())
	g.must(err)
	t.Cleanup(func() { two.leases.Close() })
	two.server = two.newServerOn("gw1")
	p.two = two
	g.there(func() {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		for _, err := range []error{netlink.LinkAdd(br), netlink.LinkSetUp(br),
			netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "cl0"}, PeerName: "b2"})} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	for i, mac := range macs {
		hw, err := net.ParseMAC(mac)
		g.must(err)
		name := fmt.Sprintf("gw%d", i)
		g.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: hw}, PeerName: fmt.Sprintf("b%d", i), PeerNamespace: netlink.NsFd(g.far)}))
		link, err := netlink.LinkByName(name)
		g.must(err)
		addr, err := netlink.ParseAddr(g.pools[0].Gateway.String())
		g.must(err)
		g.must(netlink.AddrAdd(link, addr))
		g.must(netlink.LinkSetUp(link))
	}
	g.there(func() {
		for _, name := range []string{"cl0", "b0", "b1", "b2"} {
			link, err := netlink.LinkByName(name)
			if err == nil {
				err = netlink.LinkSetUp(link)
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	for i := range macs {
		g.running(fmt.Sprintf("gw%d", i))
	}
	g.there(func() {
		for _, name := range []string{"cl0", "b0", "b1", "b2"} {
			g.running(name)
		}
	})
	p.join("b0", "b2")
	if joined {
		p.join("b1")
	}
	return p
}

// join puts ports into the switch.
func (p *pair) join(ports ...string) {
	p.one.there(func() {
		br, err := netlink.LinkByName("br0")
		if err != nil {
			p.one.Error(err)
			return
		}
		for _, name := range ports {
			port, err := netlink.LinkByName(name)
			if err == nil {
				err = netlink.LinkSetMaster(port, br.(*netlink.Bridge))
			}
			if err != nil {
				p.one.Error(err)
			}
		}
	})
}

// offers counts what a box has offered.
func (g *garage) offers() float64 { return g.counted("chargegate_dhcp_replies_total", "type", "offer") }

const low, high = "02:00:00:00:00:01", "02:00:00:00:00:02"

// The second box is plugged in while the first one serves: it stands down, though
// its MAC is lower, and takes over when the first is gone.
func TestWhoServesStays(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	p := newPair(t, [2]string{high, low}, true)
	p.two.server.Hurry(100 * time.Millisecond)
	stop := p.one.serve(p.one.server)
	p.one.settled()
	began := time.Now()
	defer p.two.serve(p.two.server)()
	said := p.two.await(event.AnotherChargegate)
	t.Logf("it stood down after %s", time.Since(began))
	if said.Field("SERVER") != "10.83.0.1" || said.Field("MAC") != high {
		t.Errorf("said %q of %s", said.Message, said.Field("MAC"))
	}
	if problem, do := p.two.server.Trouble("P1"); !strings.HasPrefix(problem, "another chargegate at 10.83.0.1 ("+high+") gives addresses") || do == "" {
		t.Errorf("trouble: %q, %q", problem, do)
	}
	w := p.one.wire()
	addr := w.lease(victim)
	p.two.until(2, "chargegate_dhcp_dropped_total", "reason", "another chargegate serves")
	if p.one.offers() != 1 || p.two.offers() != 0 {
		t.Errorf("%v offers of the one, %v of the other", p.one.offers(), p.two.offers())
	}
	if problem, _ := p.one.server.Trouble("P1"); problem != "" {
		t.Errorf("trouble of who serves: %q", problem)
	}
	stop()
	p.two.await(event.ServingAgain)
	if again := w.lease(victim); !p.two.pools[0].Gateway.Contains(again) {
		t.Errorf("got %s after %s", again, addr)
	}
	if p.two.offers() != 1 {
		t.Error("the address is not of the second box")
	}
}

// After a power cut both start at once.
func TestOfTwoThatStartTogetherTheLowerServes(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	p := newPair(t, [2]string{high, low}, true)
	defer p.one.serve(p.one.server)()
	defer p.two.serve(p.two.server)()
	p.one.await(event.AnotherChargegate)
	p.two.settled()
	p.one.wire().lease(victim)
	if p.one.offers() != 0 || p.two.offers() != 1 {
		t.Errorf("%v offers of the higher, %v of the lower", p.one.offers(), p.two.offers())
	}
}

// Two garages that run are joined by a cable. Nobody stands down, both say it.
func TestTwoThatAreJoinedBothGoOn(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	p := newPair(t, [2]string{low, high}, false)
	p.one.server.Hurry(100 * time.Millisecond)
	p.two.server.Hurry(100 * time.Millisecond)
	defer p.one.serve(p.one.server)()
	defer p.two.serve(p.two.server)()
	p.one.settled()
	p.two.settled()
	p.join("b1")
	p.one.await(event.RogueServer)
	p.two.await(event.RogueServer)
	w := p.one.wire()
	w.say(victim, anybody, everyone, message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{1}, victim))
	for _, g := range []*garage{p.one, p.two} {
		g.until(1, "chargegate_dhcp_replies_total", "type", "offer")
	}
}

// forge answers the next questions of a box as a chargegate that serves would.
func (w *wire) forge(forger charger.MAC, times int) {
	w.Helper()
	buf := make([]byte, 2048)
	for answered := 0; answered < times; {
		w.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, _, err := w.conn.ReadFrom(buf)
		w.must(err)
		if n < 42 || binary.BigEndian.Uint16(buf[14+22:]) != 67 {
			continue
		}
		q, err := dhcpv4.FromBytes(buf[42:n])
		if err != nil || q.ClassIdentifier() != "chargegate" {
			continue
		}
		answered++
		m := message(dhcpv4.MessageTypeNak, q.TransactionID, charger.MAC(q.ClientHWAddr),
			dhcpv4.OptClassIdentifier("chargegate"), dhcpv4.OptMessage("serving"), dhcpv4.OptServerIdentifier(net.IPv4(10, 83, 0, 1)))
		m.OpCode = dhcpv4.OpcodeBootReply
		frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, forger[:]...)
		frame = append(append(frame, 8, 0), dhcp.Datagram(netip.MustParseAddrPort("10.83.0.9:67"), netip.MustParseAddrPort("255.255.255.255:68"), m.ToBytes())...)
		_, err = w.conn.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]})
		w.must(err)
	}
}

// A box that has given addresses serves after a power cut, whoever says that it
// serves already.
func TestAForgedMarkKeepsNobodyFromServingWhoHasServed(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	addr, err := g.leases.Offer("P1", victim, netip.Addr{}, true, time.Now())
	g.must(err)
	_, err = g.leases.Grant(lease.Claim{Network: "P1", HW: victim, Known: true, Term: time.Hour}, addr, time.Now())
	g.must(err)
	g.plug()
	w := g.wire()
	defer g.serve(g.server)()
	forger := charger.MAC{2, 0, 0, 0, 0, 1}
	w.forge(forger, 3)
	if said := g.await(event.RogueServer); said.Field("MAC") != forger.String() {
		t.Errorf("said %q", said.Message)
	}
	if got := w.lease(victim); got != addr {
		t.Errorf("the charger got %s, had %s", got, addr)
	}
}

// Somebody on the network says that it is a chargegate that serves. One that
// serves already does not give way to it, with whatever question it answers.
func TestAForgedMarkSilencesNobodyWhoServes(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	g.server.Hurry(50 * time.Millisecond)
	defer g.serve(g.server)()
	g.settled()
	w := g.wire()
	forger := charger.MAC{2, 0, 0, 0, 0, 1}
	w.forge(forger, 3)
	if said := g.await(event.RogueServer); said.Field("MAC") != forger.String() {
		t.Errorf("said %q", said.Message)
	}
	w.lease(victim)
}

// Another box is told that this one serves. This box's own question, brought back
// by a switch, is not answered, and neither is taken for a charger's.
func TestOnlyAnotherBoxsQuestionIsAnswered(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	defer g.serve(g.server)()
	g.settled()
	w := g.wire()
	own, err := net.InterfaceByName("gw0")
	g.must(err)
	ask := func(hw charger.MAC) {
		w.say(hw, anybody, everyone, message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{7}, hw, dhcpv4.OptClassIdentifier("chargegate")))
	}
	ask(charger.MAC(own.HardwareAddr))
	g.until(1, "chargegate_dhcp_dropped_total", "reason", "a question of another chargegate")
	another := charger.MAC{2, 0, 0, 0, 0, 3}
	ask(another)
	buf := make([]byte, 2048)
	for {
		w.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, _, err := w.conn.ReadFrom(buf)
		g.must(err)
		m, err := dhcpv4.FromBytes(buf[min(42, n):n])
		if err != nil || m.OpCode != dhcpv4.OpcodeBootReply {
			continue
		}
		if hw := charger.MAC(m.ClientHWAddr); hw != another || m.MessageType() != dhcpv4.MessageTypeNak || m.Message() != "serving" ||
			m.ClassIdentifier() != "chargegate" || m.TransactionID != (dhcpv4.TransactionID{7}) {
			t.Errorf("%s was told %s", hw, m.Summary())
		}
		break
	}
	if n := len(g.book.All(time.Now())); n > 0 {
		t.Errorf("%d devices are in the book", n)
	}
}

// What an interface lacks keeps everybody from being answered, or is at least
// said, and ends.
func TestAnInterfaceWithoutCarrierOrAddress(t *testing.T) {
	if !inside(t) {
		return
	}
	defer goleak.VerifyNone(t)
	g := newGarage(t)
	g.plug()
	defer g.serve(g.server)()
	w := g.wire()
	w.lease(victim)
	trouble := func(want string) {
		t.Helper()
		g.eventually(want, func() bool {
			problem, do := g.server.Trouble("P1")
			return problem == want && (do == "") == (want == "")
		})
	}
	link, err := netlink.LinkByName("gw0")
	g.must(err)
	addr, err := netlink.ParseAddr(g.pools[0].Gateway.String())
	g.must(err)
	g.must(netlink.AddrDel(link, addr))
	trouble("gw0 does not have the gateway's address 10.83.0.1, so nobody on it is given one")
	w.say(intruder, anybody, everyone, message(dhcpv4.MessageTypeDiscover, dhcpv4.TransactionID{3}, intruder))
	g.until(1, "chargegate_dhcp_dropped_total", "reason", "the gateway's address is not on the interface")
	if n := g.offers(); n != 1 {
		t.Errorf("%v offers", n)
	}
	g.await(event.NoAddress)
	g.must(netlink.AddrAdd(link, addr))
	g.await(event.AddressBack)
	trouble("")
	w.lease(intruder)

	far := func(f func(netlink.Link) error) {
		g.there(func() {
			peer, err := netlink.LinkByName("cl0")
			if err == nil {
				err = f(peer)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	far(netlink.LinkSetDown)
	trouble("gw0 has no carrier, so nobody on it is reached")
	probes := g.counted("chargegate_dhcp_arp_probes_total", "network", "P1")
	g.await(event.NoCarrier)
	if n := g.counted("chargegate_dhcp_arp_probes_total", "network", "P1"); n > probes+1 {
		t.Errorf("%v questions without a carrier", n-probes)
	}
	far(netlink.LinkSetUp)
	g.await(event.CarrierBack)
	trouble("")

	g.must(netlink.LinkSetDown(link))
	g.must(netlink.LinkSetName(link, "gw9"))
	g.await(event.DHCPInterfaceMissing)
	trouble("there is no interface gw0, so nobody on it is served")
	g.must(netlink.LinkSetName(link, "gw0"))
	g.must(netlink.LinkSetUp(link))
	g.await(event.DHCPInterfaceFound)
	trouble("")
	g.running("gw0")
	g.there(func() { g.running("cl0") })
	g.wire().lease(victim)
}
