package charger

import (
	"fmt"
	"net"
)

// A MAC is the hardware address of a charger's network interface: its only
// identity. Every Zaptec Go sends the same hostname (F-3), so nothing else
// tells one from another.
type MAC [6]byte

// ParseMAC reads the usual forms: 60:15:92:41:00:07, 60-15-92-41-00-07,
// 6015.9241.0007. Addresses of a group are refused, and so is 00:…:00.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != len(MAC{}) {
		return MAC{}, fmt.Errorf("%q is not a MAC address; write six pairs of hexadecimal digits, like 60:15:92:41:00:07", s)
	}
	m := MAC(hw)
	if m == (MAC{}) || m[0]&1 != 0 {
		return MAC{}, fmt.Errorf("%q is not the address of a single device", s)
	}
	return m, nil
}

// String writes the address as 60:15:92:41:00:07.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText writes the address for JSON and TOML.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what ParseMAC reads.
func (m *MAC) UnmarshalText(text []byte) error {
	parsed, err := ParseMAC(string(text))
	if err == nil {
		*m = parsed
	}
	return err
}
