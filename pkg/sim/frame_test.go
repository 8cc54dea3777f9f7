package sim

import (
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var testMAC = [6]byte{0x60, 0x15, 0x92, 0x40, 0, 7}

// toClient is a frame as a server sends it: the client's own with the ports
// turned round.
func toClient(payload []byte) []byte {
	f := dhcpFrame(testMAC, payload)
	f[35], f[37] = 67, 68
	return f
}

func TestFrames(t *testing.T) {
	m, err := dhcpv4.NewDiscovery(testMAC[:])
	if err != nil {
		t.Fatal(err)
	}
	f := toClient(m.ToBytes())
	if sum := checksum(f[14:34]); sum != 0 {
		t.Errorf("the checksum of the IPv4 header leaves %#x, want 0", sum)
	}
	got, err := dhcpv4.FromBytes(dhcpPayload(f))
	if err != nil || got.TransactionID != m.TransactionID {
		t.Errorf("a frame gave back %v, %v", got, err)
	}
	if p := dhcpPayload(dhcpFrame(testMAC, m.ToBytes())); p != nil {
		t.Error("a frame to the server's port was taken for one to the client's")
	}
	for n := range f {
		dhcpPayload(f[:n]) // must not panic
	}
}

func TestARP(t *testing.T) {
	addr := netip.MustParseAddr("10.83.0.7")
	got, ok := parseARP(arpFrame(testMAC, netip.IPv4Unspecified(), addr))
	want := arp{op: 1, senderMAC: testMAC, sender: netip.IPv4Unspecified(), searched: addr}
	if !ok || got != want {
		t.Errorf("parseARP = %+v, %v, want %+v", got, ok, want)
	}
	if _, ok := parseARP(make([]byte, 60)); ok {
		t.Error("an empty frame was taken for ARP")
	}
}

func TestBootFilter(t *testing.T) {
	raw, err := bootFilter()
	if err != nil {
		t.Fatal(err)
	}
	program, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the filter cannot be disassembled")
	}
	// The first two instructions ask for the packet's direction, which only the
	// kernel knows.
	vm, err := bpf.NewVM(program[2:])
	if err != nil {
		t.Fatal(err)
	}
	ours := toClient([]byte{1, 2, 3, 4})
	fragment := append([]byte{}, ours...)
	fragment[21] = 1
	tcp := append([]byte{}, ours...)
	tcp[23] = unix.IPPROTO_TCP
	for name, c := range map[string]struct {
		frame []byte
		want  bool
	}{
		"an answer to a client":    {ours, true},
		"a question to a server":   {dhcpFrame(testMAC, []byte{1, 2, 3, 4}), false},
		"arp":                      {arpFrame(testMAC, netip.IPv4Unspecified(), netip.IPv4Unspecified()), true},
		"a later fragment":         {fragment, false},
		"tcp":                      {tcp, false},
		"something that is not ip": {make([]byte, 60), false},
	} {
		n, err := vm.Run(c.frame)
		if err != nil || n > 0 != c.want {
			t.Errorf("%s: let through %v, %v, want %v", name, n > 0, err, c.want)
		}
	}
}
