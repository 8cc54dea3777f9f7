package dhcp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"

	"chargegate/pkg/charger"
)

// enclose puts a datagram into a frame of the client.
func enclose(from, to string, payload []byte) []byte {
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, client[:]...)
	frame = append(frame, 8, 0)
	return append(frame, datagram(netip.MustParseAddrPort(from), netip.MustParseAddrPort(to), payload)...)
}

// resum makes the checksum of a frame's IP header right again.
func resum(frame []byte) []byte {
	ip := frame[etherHeader:][:int(frame[etherHeader]&0xf)*4]
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], sum(0, ip))
	return frame
}

func TestUnwrap(t *testing.T) {
	t.Parallel()
	n := Network{Gateway: gateway}
	vm, err := bpf.NewVM(requests())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bpf.Assemble(slices.Concat(arrived(), requests())); err != nil {
		t.Fatal(err)
	}
	const anybody, everyone = "0.0.0.0:68", "255.255.255.255:67"
	set := func(at int, value byte) func([]byte) []byte {
		return func(f []byte) []byte { f[etherHeader+at] = value; return resum(f) }
	}
	options := func(f []byte) []byte { // two words of them
		f = slices.Insert(f, etherHeader+ipHeader, 1, 1, 1, 1, 1, 1, 1, 0)
		f[etherHeader] += 2
		binary.BigEndian.PutUint16(f[etherHeader+2:], uint16(len(f)-etherHeader))
		return resum(f)
	}
	for _, tt := range []struct {
		name     string
		from, to string
		edit     func([]byte) []byte // nil: as it is
		want     reason
		unheard  bool // by the filter in the kernel already
	}{
		{"a broadcast of one without an address", anybody, everyone, nil, fine, false},
		{"a renewal", "10.83.0.20:68", "10.83.0.1:67", nil, fine, false},
		{"a broadcast to the subnet", "10.83.0.20:68", "10.83.0.63:67", nil, fine, false},
		{"from another network", "192.168.1.5:68", everyone, nil, fine, false},
		{"from another port", "10.83.0.20:40000", "10.83.0.1:67", nil, fine, false},
		{"padded", anybody, everyone, func(f []byte) []byte { return append(f, make([]byte, 20)...) }, fine, false},
		{"with IP options", anybody, everyone, options, fine, false},
		{"without a UDP checksum", anybody, everyone, set(ipHeader+6, 0), fine, false},
		{"to another server", "10.83.0.20:68", "10.83.0.9:67", nil, wronglyAddressed, false},
		{"to the Internet", "10.83.0.20:68", "192.0.2.1:67", nil, wronglyAddressed, false},
		{"to this machine itself", "10.83.0.20:68", "127.0.0.1:67", nil, wronglyAddressed, false},
		{"from a group", "224.0.0.1:68", everyone, nil, wronglyAddressed, false},
		{"from everybody", "255.255.255.255:68", everyone, nil, wronglyAddressed, false},
		{"from the gateway", "10.83.0.1:68", everyone, nil, wronglyAddressed, false},
		{"from loopback", "127.0.0.1:68", everyone, nil, wronglyAddressed, false},
		{"a wrong header checksum", anybody, everyone, func(f []byte) []byte { f[etherHeader+8]++; return f }, malformed, false},
		{"cut off", anybody, everyone, func(f []byte) []byte { return f[:len(f)-1] }, malformed, false},
		{"an IP header that is too short", anybody, everyone, set(0, 4<<4|4), malformed, true},
		{"version 6", anybody, everyone, set(0, 6<<4|5), malformed, false},
		{"longer than the frame", anybody, everyone, set(2, 0xff), malformed, false},
		{"a UDP length of 7", anybody, everyone, func(f []byte) []byte { f[etherHeader+ipHeader+5] = 7; return f }, malformed, false},
		{"a UDP length beyond the packet", anybody, everyone, func(f []byte) []byte { f[etherHeader+ipHeader+5]++; return f }, malformed, false},
		{"a first fragment", anybody, everyone, set(6, 0x20), malformed, true},
		{"a later fragment", anybody, everyone, set(7, 1), malformed, true},
		{"TCP", anybody, everyone, set(9, 6), malformed, true},
		{"another port", anybody, "255.255.255.255:68", nil, wronglyAddressed, true},
		{"IPv6", anybody, everyone, func(f []byte) []byte { f[12], f[13] = 0x86, 0xdd; return f }, malformed, true},
		{"tagged", anybody, everyone, func(f []byte) []byte { return slices.Insert(f, 12, 0x81, 0, 0, 5) }, malformed, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			message := []byte("a message")
			frame := enclose(tt.from, tt.to, message)
			if tt.edit != nil {
				frame = tt.edit(frame)
			}
			got, why := unwrap(frame, n)
			if why != tt.want || why == fine && (got.sender != client || !bytes.Equal(got.payload, message)) {
				t.Errorf("from %s: %q, %d; want reason %d", got.sender, got.payload, why, tt.want)
			}
			if size, err := vm.Run(frame); err != nil || (size == 0) != tt.unheard {
				t.Errorf("the filter passes %d bytes of it, %v", size, err)
			}
			for i := range frame { // cut anywhere
				unwrap(frame[:i], n)
			}
		})
	}
}

// FuzzUnwrap sends any frame: what is taken out of it lies in it.
func FuzzUnwrap(f *testing.F) {
	f.Add(enclose("0.0.0.0:68", "255.255.255.255:67", []byte("abc")))
	f.Add(enclose("10.83.0.20:68", "10.83.0.1:67", nil))
	f.Fuzz(func(t *testing.T, frame []byte) {
		p, why := unwrap(frame, Network{Gateway: gateway})
		if why != fine {
			return
		}
		if p.sender != charger.MAC(frame[6:12]) || len(p.payload) > len(frame)-etherHeader-headers || !bytes.Contains(frame, p.payload) {
			t.Errorf("%d bytes of %s from a frame of %d", len(p.payload), p.sender, len(frame))
		}
		read(frame, Network{Gateway: gateway})
	})
}
