package denied

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/net/bpf"
)

var (
	p1    = Network{Name: "P1", Interface: "wlan0", Gateway: netip.MustParsePrefix("10.83.0.1/24")}
	p107  = charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 7}
	p108  = charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 8}
	ports = []uint16{443, 8883}
)

// frame is a frame of P1-07 with that IP packet in it.
func frame(ether uint16, ip []byte) []byte {
	f := append([]byte{2, 0, 0, 0, 0, 1}, p107[:]...)
	f = binary.BigEndian.AppendUint16(f, ether)
	return append(f, ip...)
}

// v4 is an IPv4 packet; options is the number of 4-byte words behind the header.
func v4(src, dst string, proto byte, options int, payload ...byte) []byte {
	b := make([]byte, 20+4*options)
	b[0] = 0x45 + byte(options)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(payload)))
	b[8], b[9] = 64, proto
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	return frame(etherIPv4, append(b, payload...))
}

func tcp(src, dst string, port uint16, flags byte) []byte {
	return v4(src, dst, protoTCP, 0, tcpHeader(port, flags)...)
}

func tcpHeader(port uint16, flags byte) []byte {
	h := make([]byte, 20)
	binary.BigEndian.PutUint16(h, 40000)
	binary.BigEndian.PutUint16(h[2:], port)
	h[12], h[13] = 0x50, flags
	return h
}

func udp(src, dst string, port uint16) []byte {
	h := make([]byte, 12)
	binary.BigEndian.PutUint16(h, 40000)
	binary.BigEndian.PutUint16(h[2:], port)
	return v4(src, dst, protoUDP, 0, h...)
}

func icmp(src, dst string, kind byte) []byte {
	return v4(src, dst, protoICMP, 0, kind, 0, 0, 0, 0, 0, 0, 0)
}

func v6(dst string, next byte, payload ...byte) []byte {
	b := make([]byte, 40)
	b[0], b[6], b[7] = 0x60, next, 255
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	s, d := netip.MustParseAddr("fe80::6215:92ff:fe41:7").As16(), netip.MustParseAddr(dst).As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	return frame(etherIPv6, append(b, payload...))
}

func fragment(f []byte, offset uint16) []byte {
	f = slices.Clone(f)
	binary.BigEndian.PutUint16(f[ipAt+6:], offset)
	return f
}

const (
	me      = "10.83.0.57"
	gateway = "10.83.0.1"
	foreign = "192.0.2.1"
)

type sample struct {
	name  string
	frame []byte
	what  string // empty: nothing is refused
	class class
}

func samples() []sample {
	return []sample{
		{name: "TCP 443 anywhere goes to egress", frame: tcp(me, foreign, 443, flagSYN)},
		{name: "TCP 8883 anywhere", frame: tcp(me, foreign, 8883, flagSYN)},
		{name: "TCP 443 of the gateway, redirected, too", frame: tcp(me, gateway, 443, flagSYN)},
		{name: "DNS anywhere, UDP", frame: udp(me, "8.8.8.8", 53)},
		{name: "DNS anywhere, TCP", frame: tcp(me, "8.8.8.8", 53, flagSYN)},
		{name: "the time, anywhere", frame: udp(me, "198.51.100.9", 123)},
		{name: "DISCOVER", frame: udp("0.0.0.0", "255.255.255.255", 67)},
		{name: "DHCP renewal", frame: udp(me, gateway, 67)},
		{name: "DHCP to the subnet's broadcast, from an old address", frame: udp("192.168.1.4", "10.83.0.255", 67)},
		{name: "ping of the gateway", frame: icmp(me, gateway, 8)},
		{name: "an ICMP error", frame: icmp(me, foreign, 3)},
		{name: "an echo reply", frame: icmp(me, gateway, 0)},
		{name: "the middle of a connection", frame: tcp(me, foreign, 80, flagACK)},
		{name: "the answer to a connection", frame: tcp(me, foreign, 80, flagSYN|flagACK)},
		{name: "ARP", frame: frame(0x0806, make([]byte, 28))},
		{name: "the first fragment is judged by its ports", frame: fragment(udp(me, foreign, 53), 0x2000)},

		{name: "UDP 443", frame: udp(me, foreign, 443), what: "UDP port 443 of 192.0.2.1"},
		{name: "TCP 80", frame: tcp(me, foreign, 80, flagSYN), what: "TCP port 80 of 192.0.2.1"},
		{name: "TCP 80 with ECN and options", frame: v4(me, foreign, protoTCP, 3, tcpHeader(80, flagSYN|0xc0)...), what: "TCP port 80 of 192.0.2.1"},
		{name: "SSH of the gateway", frame: tcp(me, gateway, 22, flagSYN), what: "TCP port 22 of the gateway"},
		{name: "a neighbour", frame: tcp(me, "10.83.0.58", 80, flagSYN), what: "TCP port 80 of 10.83.0.58 in its own network"},
		{name: "ping beyond the gateway", frame: icmp(me, foreign, 8), what: "a ping to 192.0.2.1"},
		{name: "an ICMP redirect", frame: icmp(me, gateway, 5), what: "ICMP type 5 to the gateway"},
		{name: "GRE", frame: v4(me, foreign, 47, 0, 0, 0, 0, 0), what: "IP protocol 47 to 192.0.2.1"},
		{name: "DHCP of another network", frame: udp(me, "192.168.1.1", 67), what: "UDP port 67 of 192.168.1.1"},
		{name: "a first fragment", frame: fragment(udp(me, foreign, 4500), 0x2000), what: "UDP port 4500 of 192.0.2.1"},
		{name: "IPv6 to a server", frame: v6("2001:db8::1", protoTCP, tcpHeader(443, flagSYN)...), what: "IPv6: port 443 of 2001:db8::1"},
		{name: "IPv6 without a transport that is known", frame: v6("2001:db8::1", 59), what: "IPv6 to 2001:db8::1"},

		{name: "the proxy itself", frame: tcp(me, gateway, 18443, flagSYN), what: "TCP port 18443 of the gateway", class: direct},
		{name: "the proxy's port elsewhere", frame: tcp(me, foreign, 18443, flagSYN), what: "TCP port 18443 of 192.0.2.1"},
		{name: "a foreign source", frame: tcp("192.168.1.4", foreign, 443, flagSYN), what: "TCP port 443 of 192.0.2.1", class: spoofed},
		{name: "DNS from a foreign source", frame: udp("169.254.3.4", gateway, 53), what: "UDP port 53 of the gateway", class: spoofed},
		{name: "the gateway's own address as source", frame: udp(gateway, foreign, 53), what: "UDP port 53 of 192.0.2.1", class: spoofed},
		{name: "nobody's address as source", frame: tcp("0.0.0.0", foreign, 443, flagSYN), what: "TCP port 443 of 192.0.2.1", class: spoofed},

		{name: "mDNS", frame: udp(me, "224.0.0.251", 5353), what: "UDP port 5353 of 224.0.0.251", class: noise},
		{name: "a broadcast", frame: udp(me, "255.255.255.255", 1900), what: "UDP port 1900 of 255.255.255.255", class: noise},
		{name: "a broadcast to the subnet", frame: udp(me, "10.83.0.255", 137), what: "UDP port 137 of 10.83.0.255", class: noise},
		{name: "IGMP before there is an address", frame: v4("0.0.0.0", "224.0.0.22", protoIGMP, 1, 0x22, 0, 0, 0), what: "IP protocol 2 to 224.0.0.22", class: noise},
		{name: "a later fragment", frame: fragment(udp(me, foreign, 53), 0x00b9), what: "a fragment of a packet to 192.0.2.1", class: noise},
		{name: "router solicitation", frame: v6("ff02::2", protoICMPv6, 133, 0, 0, 0), what: "IPv6: ICMP type 133 to ff02::2", class: noise},
		{name: "neighbour solicitation to one host", frame: v6("fe80::1", protoICMPv6, 135, 0, 0, 0), what: "IPv6: ICMP type 135 to fe80::1", class: noise},
		{name: "group report behind options", frame: v6("ff02::16", 0, protoICMPv6, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0), what: "IPv6: ICMP type 143 to ff02::16", class: noise},
	}
}

// machine runs a filter as the kernel would, without the part that only the
// kernel can answer.
func machine(t testing.TB, program []bpf.Instruction) *bpf.VM {
	t.Helper()
	if _, err := bpf.Assemble(append(inbound(), program...)); err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func passes(t testing.TB, vm *bpf.VM, frame []byte) bool {
	t.Helper()
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	vm := machine(t, filter(p1, ports))
	for _, tt := range samples() {
		t.Run(tt.name, func(t *testing.T) {
			r, ok := describe(tt.frame, p1, ports)
			if ok != (tt.what != "") || r.what != tt.what || r.class != tt.class {
				t.Errorf("refused %t: %q (%s), want %q (%s)", ok, r.what, classNames[r.class], tt.what, classNames[tt.class])
			}
			if ok && r.mac != p107 {
				t.Errorf("by %s", r.mac)
			}
			if got := passes(t, vm, tt.frame); got != ok {
				t.Errorf("the filter passes it: %t", got)
			}
			for n := range tt.frame { // cut anywhere
				describe(tt.frame[:n], p1, ports)
			}
		})
	}
}

func TestDescribeUplink(t *testing.T) {
	t.Parallel()
	vm := machine(t, uplinkFilter([]uint16{22}))
	for _, tt := range []sample{
		{name: "an allowed port", frame: tcp(foreign, "10.0.0.9", 22, flagSYN)},
		{name: "an answer to us", frame: tcp(foreign, "10.0.0.9", 40000, flagSYN|flagACK)},
		{name: "UDP", frame: udp(foreign, "10.0.0.9", 53)},
		{name: "an answer to a ping", frame: icmp(foreign, "10.0.0.9", 0)},
		{name: "IPv6", frame: v6("2001:db8::1", protoTCP, tcpHeader(22, flagSYN)...)},
		{name: "another port", frame: tcp(foreign, "10.0.0.9", 18443, flagSYN), what: "TCP port 18443"},
		{name: "a ping", frame: icmp(foreign, "10.0.0.9", 8), what: "a ping"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, ok := describeUplink(tt.frame, []uint16{22})
			if ok != (tt.what != "") || r.what != tt.what {
				t.Errorf("refused %t: %q, want %q", ok, r.what, tt.what)
			}
			if got := passes(t, vm, tt.frame); got != ok {
				t.Errorf("the filter passes it: %t", got)
			}
		})
	}
}

// A hundred site ports make a long filter, and it still assembles and decides.
func TestFilterWithManyPorts(t *testing.T) {
	t.Parallel()
	var many []uint16
	for p := range uint16(400) {
		many = append(many, 9000+p)
	}
	vm := machine(t, filter(p1, many))
	if passes(t, vm, tcp(me, foreign, 9399, flagSYN)) || !passes(t, vm, tcp(me, foreign, 9400, flagSYN)) || !passes(t, vm, icmp(me, foreign, 8)) {
		t.Error("a long filter decides otherwise than a short one")
	}
}

// The filter and the words agree about every frame there can be: nothing that
// is refused is missed, nothing else comes through but what is malformed.
func FuzzDescribe(f *testing.F) {
	for _, s := range samples() {
		f.Add(s.frame)
	}
	vm, up := machine(f, filter(p1, ports)), machine(f, uplinkFilter([]uint16{22}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		frame = frame[:min(len(frame), snap)]
		r, ok := describe(frame, p1, ports)
		if ok && r.what == "" {
			t.Fatal("refused without words")
		}
		if ok && !passes(t, vm, frame) {
			t.Fatalf("the filter misses %q", r.what)
		}
		if _, whole := parse(frame); whole && !ok && passes(t, vm, frame) {
			t.Fatal("the filter passes what is not refused")
		}
		if r, ok := describeUplink(frame, []uint16{22}); ok && !passes(t, up, frame) {
			t.Fatalf("the uplink's filter misses %q", r.what)
		}
	})
}

type house struct {
	*Server
	log  *event.Log
	book *charger.Book
}

func newHouse(cfg Config) *house {
	h := &house{book: charger.NewBook(charger.Inventory{
		p107: {MAC: p107, Name: "P1-07", Network: "P1"}, p108: {MAC: p108, Name: "P1-08", Network: "P1"}}, nil)}
	h.book.Leased(p107, "P1", netip.MustParseAddr(me), true, time.Now())
	h.log = event.New(event.Options{Level: event.Debug, Keep: 1000, Who: func(mac [6]byte, _ netip.Addr) event.Subject {
		if mac == p107 {
			return event.Subject{Charger: "P1-07"}
		}
		return event.Subject{}
	}})
	h.Server = New(cfg, h.book, h.log)
	return h
}

func (h *house) messages() []string {
	var out []string
	for _, r := range h.log.Recent(0, "") {
		out = append(out, r.Kind.Level.String()+" "+r.Message)
	}
	return out
}

// The day of a charger that misbehaves, as the technician reads it.
func TestStory(t *testing.T) {
	t.Parallel()
	h := newHouse(Config{Networks: []Network{p1}, Ports: ports, Uplink: "eth0"})
	w, up := h.watches[0], h.watches[1]
	for range 3 { // said once
		h.handle(w, udp(me, foreign, 443))
	}
	h.handle(w, tcp(me, foreign, 443, flagSYN))
	h.handle(w, tcp(me, gateway, 18443, flagSYN))
	h.handle(w, udp("192.168.1.4", foreign, 53))
	if got := h.book.All(time.Now())[0].Refused; got != "UDP port 53 of 192.0.2.1" {
		t.Errorf("the book says %q", got)
	}
	h.handle(w, udp(me, "224.0.0.251", 5353))
	h.handle(up, tcp(foreign, "10.0.0.9", 22, flagSYN))
	h.handle(up, icmp(foreign, "10.0.0.9", 8))
	want := []string{
		"info P1-07 was refused UDP port 443 of 192.0.2.1: only the allowed names on their ports may be reached",
		"warning P1-07 was refused the proxy's own port (TCP port 18443 of the gateway)",
		"warning P1-07 was refused UDP port 53 of 192.0.2.1: it came from 192.168.1.4, which no charger of this network can have",
		"debug P1-07 sent UDP port 5353 of 224.0.0.251, which nobody here listens to",
		"info 192.0.2.1 was refused TCP port 22 on the uplink eth0",
	}
	if diff := cmp.Diff(want, h.messages()); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

// A frame that pretends another's address is told in its sender's name, and
// does not stain the other's page.
func TestAnothersAddress(t *testing.T) {
	t.Parallel()
	h := newHouse(Config{Networks: []Network{p1}, Ports: ports})
	f := udp(me, foreign, 443)
	copy(f[6:], "\x02evil!")
	h.handle(h.watches[0], f)
	if got := h.book.All(time.Now())[0].Refused; got != "" {
		t.Errorf("the book says that P1-07 was refused %q", got)
	}
	want := []string{"info 02:65:76:69:6c:21 was refused UDP port 443 of 192.0.2.1: only the allowed names on their ports may be reached"}
	if diff := cmp.Diff(want, h.messages()); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

// A port scan is one line more than its first few ports, and made-up MACs
// cannot fill the log.
func TestScan(t *testing.T) {
	t.Parallel()
	h := newHouse(Config{Networks: []Network{p1}, Ports: ports})
	for port := range uint16(1000) {
		h.handle(h.watches[0], tcp(me, gateway, 20000+port, flagSYN))
	}
	got := h.messages()
	if len(got) != maxThings+1 || !strings.Contains(got[maxThings], "P1-07 was refused 30 different things") {
		t.Errorf("%d lines, the last: %s", len(got), got[len(got)-1])
	}
	for i := range 5000 {
		f := udp(me, foreign, 443)
		binary.BigEndian.PutUint32(f[8:], uint32(i))
		h.handle(h.watches[0], f)
	}
	got = h.messages()
	if len(got) != maxThings+1+maxStrangers+1 || !strings.Contains(got[len(got)-1], "more than 60 devices that nobody knows") {
		t.Errorf("%d lines, the last: %s", len(got), got[len(got)-1])
	}
	// A charger is written about all the same.
	f := udp(me, foreign, 444)
	copy(f[6:12], p108[:])
	h.handle(h.watches[0], f)
	if got := h.messages(); !strings.Contains(got[len(got)-1], "00:08 was refused UDP port 444") {
		t.Errorf("the last line is %s", got[len(got)-1])
	}
}

func TestBudgetForgets(t *testing.T) {
	t.Parallel()
	b := budget{said: map[string]*said{}}
	start := time.Now()
	for i := range maxThings {
		if got := b.take("a", fmt.Sprint(i), true, start); got != written {
			t.Fatalf("thing %d: %d", i, got)
		}
	}
	for _, want := range []struct {
		what string
		at   time.Duration
		want allowance
	}{
		{"new", time.Minute, last}, {"newer", time.Minute, enough}, {"0", time.Minute, written}, {"new", time.Hour, written},
	} {
		if got := b.take("a", want.what, true, start.Add(want.at)); got != want.want {
			t.Errorf("%s after %s: %d, want %d", want.what, want.at, got, want.want)
		}
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	start := time.Now()
	for i := range frameRate - 1 {
		if rest := p.next(start.Add(time.Duration(i) * time.Millisecond)); rest != 0 {
			t.Fatalf("rest of %s after %d frames", rest, i+1)
		}
	}
	if rest := p.next(start.Add(400 * time.Millisecond)); rest != 600*time.Millisecond {
		t.Errorf("rest of %s, want the rest of the second", rest)
	}
	if rest := p.next(start.Add(time.Second)); rest != 0 {
		t.Errorf("rest of %s in the next second", rest)
	}
}

// A fault of ours costs one frame.
func TestPanic(t *testing.T) {
	t.Parallel()
	h := newHouse(Config{Networks: []Network{p1}, Ports: ports})
	w := h.watches[0]
	look := w.look
	w.look = func([]byte, time.Time) { panic("a test's own") }
	h.handle(w, udp(me, foreign, 443))
	w.look = look
	h.handle(w, udp(me, foreign, 443))
	if got := h.messages(); len(got) != 2 || !strings.Contains(got[0], "confused denied") {
		t.Errorf("said %q", got)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	h := newHouse(Config{Networks: []Network{p1}, Ports: ports})
	h.handle(h.watches[0], udp(me, foreign, 443))
	want := `
# HELP chargegate_denied_frames_total Inbound frames that the firewall refuses, as far as they were looked at, by interface and class.
# TYPE chargegate_denied_frames_total counter
chargegate_denied_frames_total{class="direct",interface="wlan0"} 0
chargegate_denied_frames_total{class="noise",interface="wlan0"} 0
chargegate_denied_frames_total{class="refused",interface="wlan0"} 1
chargegate_denied_frames_total{class="spoofed",interface="wlan0"} 0
`
	if err := testutil.CollectAndCompare(h, strings.NewReader(want), "chargegate_denied_frames_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(h); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

// Without its interfaces the room waits, says so once, and ends when told.
func TestWaits(t *testing.T) {
	if _, err := net.InterfaceByName("wlan0"); err == nil {
		t.Skip("this machine has a wlan0")
	}
	h := newHouse(Config{Networks: []Network{p1}, Ports: ports})
	if err := h.Listen(); err != nil {
		t.Fatal(err)
	}
	stop := serve(t, h.Server)
	eventually(t, "a word", func() bool { return len(h.messages()) > 0 })
	stop()
	if got := h.messages(); len(got) != 1 || !strings.Contains(got[0], "cannot be seen yet") {
		t.Errorf("said %q", got)
	}
}
