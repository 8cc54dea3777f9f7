package render_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// packet is an IPv4 packet with a SYN, or with a UDP datagram of a few bytes
// that mean nothing.
func packet(proto byte, from, to netip.AddrPort) []byte {
	var l4 []byte
	if proto == unix.IPPROTO_TCP {
		l4 = make([]byte, 20)
		l4[12], l4[13] = 0x50, 2
		binary.BigEndian.PutUint16(l4[14:], 1024)
	} else {
		l4 = make([]byte, 12)
		binary.BigEndian.PutUint16(l4[4:], 12)
	}
	binary.BigEndian.PutUint16(l4, from.Port())
	binary.BigEndian.PutUint16(l4[2:], to.Port())
	b := make([]byte, 20, 40)
	b[0], b[8], b[9] = 0x45, 64, proto
	src, dst := from.Addr().As4(), to.Addr().As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(l4)))
	if proto == unix.IPPROTO_TCP {
		binary.BigEndian.PutUint16(l4[16:], checksum(b[12:20], []byte{0, proto, 0, 20}, l4))
	}
	return append(b, l4...)
}

// checksum is the Internet checksum (RFC 1071) of parts of even length.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, p := range parts {
		for i := 0; i < len(p); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(p[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// spray sends n packets from a namespace, as fast as it can, and returns how
// long that took.
func spray(t *testing.T, ns string, n int, make func(i int) []byte) time.Duration {
	t.Helper()
	began := time.Now()
	in(t, ns, func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		for i := range n {
			p := make(i)
			if err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: [4]byte(p[16:20])}); err != nil {
				t.Fatal(err)
			}
		}
	})
	return time.Since(began)
}

// counted returns the packets that the rules of a chain counted which hold
// those words.
func counted(t *testing.T, chain, words string) int {
	t.Helper()
	sum := 0
	for line := range strings.Lines(command(t, "nft list chain inet chargegate "+chain)) {
		if m := regexp.MustCompile(`counter packets (\d+)`).FindStringSubmatch(line); m != nil && strings.Contains(line, words) {
			n, _ := strconv.Atoi(m[1])
			sum += n
		}
	}
	return sum
}

// conversations returns how many the kernel remembers.
func conversations(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var (
	box     = netip.MustParseAddr("192.168.1.20")
	gateway = netip.MustParseAddr("10.83.0.1")
	mine    = netip.MustParseAddr("10.83.0.5")
)

// Somebody outside who makes up a new source for each packet fills the set that
// tells who asks too fast. The box does not send an answer for each to whomever
// was made up, and the chargers still get theirs at once.
func TestForgedSourcesMakeNoReflector(t *testing.T) {
	if !apart(t) {
		return
	}
	garage(t)
	loadRules(t, small)
	const n = 12_000
	took := spray(t, "world", n, func(i int) []byte {
		from := netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})
		return packet(unix.IPPROTO_TCP, netip.AddrPortFrom(from, 4000), netip.AddrPortFrom(box, 81))
	})
	answered := counted(t, "refuse_outside", "reject")
	if bound := 400 + int(220*(took.Seconds()+1)); answered < 300 || answered > bound {
		t.Errorf("%d of %d were answered within %v, want at most %d", answered, n, took, bound)
	}
	remembered := strings.Count(command(t, "nft list set inet chargegate hasty_outside"), "expires")
	if remembered != 4096 {
		t.Errorf("the set holds %d sources; it was to be full", remembered)
	}
	t.Logf("%d of %d forged SYNs in %v were answered", answered, n, took.Round(time.Millisecond))
	for _, w := range []way{
		{"another port", "charger", "tcp4", "", "203.0.113.9:80", "reset"},
		{"QUIC", "charger", "udp4", "", "203.0.113.9:443", "prohibited"},
		{"a ping", "charger", "ip4:icmp", "", "203.0.113.9", "prohibited"},
	} {
		t.Run(w.what, w.try)
	}
	// The same from a device among the chargers.
	took = spray(t, "charger", n, func(i int) []byte {
		from := netip.AddrFrom4([4]byte{10, 83, 0, byte(2 + i%60)})
		return packet(unix.IPPROTO_UDP, netip.AddrPortFrom(from, 4000), netip.AddrPortFrom(gateway, 81))
	})
	answered = counted(t, "refuse_chargers", "reject")
	if bound := 403 + int(220*(took.Seconds()+1)); answered < 300 || answered > bound {
		t.Errorf("%d of %d were answered within %v, want at most %d", answered, n, took, bound)
	}
}

// Rubbish, whatever it is addressed to, does not fill the table of
// conversations, and who sends it is served all the same.
func TestRubbishIsNotRemembered(t *testing.T) {
	if !apart(t) {
		return
	}
	garage(t)
	loadRules(t, small)
	serve(t)
	const n = 6000
	for _, c := range []struct {
		what    string
		proto   byte
		to      string
		at, per int // how many are remembered at once, and in each second
	}{
		{"names", unix.IPPROTO_UDP, "10.83.0.1:53", 0, 0},
		{"the time", unix.IPPROTO_UDP, "10.83.0.1:123", 0, 0},
		{"addresses", unix.IPPROTO_UDP, "10.83.0.1:67", 0, 0},
		{"names of others", unix.IPPROTO_UDP, "8.8.8.8:53", 100, 20},
		{"calls", unix.IPPROTO_TCP, "203.0.113.9:443", 200, 100},
		{"what is refused", unix.IPPROTO_UDP, "203.0.113.9:4444", 0, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			before := conversations(t)
			took := spray(t, "charger", n, func(i int) []byte {
				return packet(c.proto, netip.AddrPortFrom(mine, uint16(10_000+i)), netip.MustParseAddrPort(c.to))
			})
			got := conversations(t) - before
			if bound := 10 + c.at + c.per*(2+int(took.Seconds())); got > bound {
				t.Errorf("%d conversations are remembered of %d packets in %v, want at most %d", got, n, took, bound)
			}
			t.Logf("%d of %d packets in %v are remembered", got, n, took.Round(time.Millisecond))
			in(t, "charger", func() {
				for _, to := range []string{"10.83.0.1:53", "10.83.0.1:123"} {
					answer := ""
					for range 5 { // the socket's queue may still be full of rubbish
						if answer = ask("udp4", "", to); answer != "silence" {
							break
						}
					}
					if answer != "here "+to {
						t.Errorf("%s says %q", to, answer)
					}
				}
			})
		})
	}
}

// An ARP request from the charger's namespace, by the device there, which asks for
// the gateway in the name of an address (RFC 826).
func arpFrom(t *testing.T, mac [6]byte, senders ...string) {
	t.Helper()
	in(t, "charger", func() {
		ifi, err := net.InterfaceByName("c0")
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		for _, sender := range senders {
			from, to := netip.MustParseAddr(sender).As4(), gateway.As4()
			f := append([]byte{255, 255, 255, 255, 255, 255}, mac[:]...)
			f = append(f, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
			f = append(append(f, mac[:]...), from[:]...)
			f = append(append(f, 0, 0, 0, 0, 0, 0), to[:]...)
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: ifi.Index}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// The kernel has one table of neighbours for all networks and the uplink. Nobody
// enters it under an address that no device of his network can have; who could
// would fill it, and cut off everybody.
func TestNobodyFillsTheTableOfNeighbours(t *testing.T) {
	if !apart(t) {
		return
	}
	garage(t)
	loadRules(t, small)
	strange := []string{"8.8.8.8", "192.168.1.1", "192.168.1.77", "10.83.0.64", "127.0.0.1", "169.254.3.4", "10.83.0.1", "10.83.0.0", "10.83.0.63"}
	arpFrom(t, [6]byte{2, 'e', 'v', 'i', 'l', 1}, strange...)
	arpFrom(t, [6]byte{2, 'e', 'v', 'i', 'l', 1}, "0.0.0.0", "10.83.0.9")
	known := ""
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end) && !strings.Contains(known, "10.83.0.9 "); time.Sleep(10 * time.Millisecond) {
		known = command(t, "ip neigh show dev eth1")
	}
	if !strings.Contains(known, "10.83.0.9 ") {
		t.Errorf("a neighbour is not known:\n%s", known)
	}
	for _, a := range strange {
		if strings.Contains(known, a+" ") {
			t.Errorf("%s is believed to be a neighbour:\n%s", a, known)
		}
	}
	rules := command(t, "nft list table arp chargegate")
	for words, want := range map[string]string{
		"is not of this network": "packets 6 ", "is the gateway": "packets 3 ", "address is free": "packets 1 ", "a neighbour": "packets 1 ",
	} {
		found := false
		for line := range strings.Lines(rules) {
			found = found || strings.Contains(line, words) && strings.Contains(line, want)
		}
		if !found {
			t.Errorf("want %q counted as %s:\n%s", words, want, rules)
		}
	}
	// The charger itself, and the uplink's neighbours, are found as ever.
	command(t, "ip neigh flush all")
	in(t, "charger", func() {
		if got := ask("ip4:icmp", "", "10.83.0.1"); got != "icmp 0/0" {
			t.Errorf("a ping of the gateway: %s", got)
		}
	})
	in(t, "world", func() {
		if got := ask("tcp4", "", "192.168.1.20:81"); got != "reset" {
			t.Errorf("the uplink: %s", got)
		}
	})
}

// A charger asks its gateway, and other servers, from the same ports, in any
// order and at once. Each answer comes from where it was asked for.
func TestAnswersComeFromWhereTheyWereAskedFor(t *testing.T) {
	if !apart(t) {
		return
	}
	garage(t)
	loadRules(t, small)
	serve(t)
	orders := [][]string{
		{"10.83.0.1"}, {"8.8.8.8"}, {"10.83.0.1", "8.8.8.8", "10.83.0.1"}, {"8.8.8.8", "10.83.0.1", "1.1.1.1", "8.8.8.8", "10.83.0.1"},
	}
	// Four ports for each, so that all together stay below what one charger may
	// ask of others at once.
	for _, port := range []string{"53", "123"} {
		for i, order := range orders {
			t.Run(fmt.Sprintf("port %s, %s", port, strings.Join(order, " then ")), func(t *testing.T) {
				in(t, "charger", func() {
					for local := 40_000 + 50*i; local < 40_004+50*i; local++ {
						askInOrder(t, local, port, order)
					}
				})
			})
		}
		// The ports of the first are asked from once more, elsewhere.
		t.Run("port "+port+", later elsewhere", func(t *testing.T) {
			in(t, "charger", func() {
				for local := 40_000; local < 40_004; local++ {
					askInOrder(t, local, port, []string{"9.9.9.9", "10.83.0.1"})
				}
			})
		})
	}
}

// askInOrder asks from one local port and expects an answer of each.
func askInOrder(t *testing.T, local int, port string, order []string) {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: mine.AsSlice(), Port: local})
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	for _, server := range order {
		to := netip.MustParseAddrPort(server + ":" + port)
		if _, err := pc.WriteToUDPAddrPort([]byte("who"), to); err != nil {
			t.Fatal(err)
		}
		_ = pc.SetReadDeadline(time.Now().Add(time.Second))
		buf := make([]byte, 100)
		n, from, err := pc.ReadFromUDPAddrPort(buf)
		if err != nil {
			t.Errorf("from port %d, %s: %v", local, to, err)
			return
		}
		if from != to || string(buf[:n]) != "here 10.83.0.1:"+port {
			t.Errorf("from port %d, %s: %s says %q", local, to, from, buf[:n])
		}
	}
	// All of them at once.
	want := map[netip.AddrPort]bool{}
	for _, server := range order {
		to := netip.MustParseAddrPort(server + ":" + port)
		if !want[to] {
			want[to] = true
			if _, err := pc.WriteToUDPAddrPort([]byte("who"), to); err != nil {
				t.Fatal(err)
			}
		}
	}
	for len(want) > 0 {
		_ = pc.SetReadDeadline(time.Now().Add(time.Second))
		_, from, err := pc.ReadFromUDPAddrPort(make([]byte, 100))
		if err != nil || !want[from] {
			t.Errorf("from port %d, at once: %s, %v; still missing %v", local, from, err, want)
			return
		}
		delete(want, from)
	}
}

// What the firewall lets begin is forgotten before it fills the kernel's table,
// and where answers go is known for as long as the questions are.
func TestTheTableCannotBeFilled(t *testing.T) {
	conf, err := os.ReadFile("../../systemd/sysctl.d/60-chargegate.conf")
	if err != nil {
		t.Fatal(err)
	}
	rules := string(files(t, small)[0].Content)
	number := func(text, pattern string) int {
		t.Helper()
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("there is no %s", pattern)
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	set := func(name string) int {
		return number(string(conf), `(?m)^-net\.netfilter\.nf_conntrack_`+name+` = (\d+)$`)
	}
	room := set("max")
	rate, burst := number(rules, `udp } limit rate over (\d+)/second`), number(rules, `udp } limit rate over \d+/second burst (\d+)`)
	// What is let in from outside is remembered in the same table.
	outside := regexp.MustCompile(`limit rate (\d+)/second burst (\d+) packets counter accept comment "(?:what )?(?:the )?uplink`).FindAllStringSubmatch(
		string(files(t, strings.Replace(small, "[uplink]", "[uplink]\nallow = [\"ssh\"]", 1))[0].Content), -1)
	if len(outside) != 3 {
		t.Fatalf("%d limits for what begins outside, want DHCP, DHCP of IPv6 and what uplink.allow names: %q", len(outside), outside)
	}
	for _, m := range outside {
		rate, burst = rate+number(m[0], `rate (\d+)`), burst+number(m[0], `burst (\d+)`)
	}
	for _, kind := range []string{"udp_timeout", "udp_timeout_stream", "tcp_timeout_syn_recv", "tcp_timeout_time_wait"} {
		if most := burst + rate*set(kind); most > room {
			t.Errorf("%s: %d conversations, and room for %d", kind, most, room)
		}
	}
	if known := number(rules, `(?s)set elsewhere \{.*?timeout (\d+)s`); known < set("udp_timeout") || known < set("udp_timeout_stream") {
		t.Errorf("answers are known for %d s, less than their questions", known)
	}
}
