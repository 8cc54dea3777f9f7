package charger

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Network is one that a row of the inventory may belong to. Gateway is its
// IPv4 gateway's own address with the length of the subnet. Networks never
// overlap.
type Network struct {
	Name    string
	Gateway netip.Prefix
}

// reserve keeps the address that is written in a row for its charger. With an
// error the charger is returned without it.
func (in *inventoryReader) reserve(c Charger, written string) (Charger, error) {
	within := in.networks
	if c.Network != "" {
		i := slices.IndexFunc(in.networks, func(n Network) bool { return n.Name == c.Network })
		if i < 0 {
			return c, fmt.Errorf("%s belongs to network %q, which the configuration does not have", c.Name, c.Network)
		}
		within = in.networks[i : i+1]
	}
	if written == "" {
		return c, nil
	}
	addr, err := netip.ParseAddr(written)
	if err != nil || !addr.Is4() {
		return c, fmt.Errorf("the address of %s, %q, is not an IPv4 address; write one of %s, or nothing", c.Name, shown(written), subnets(within))
	}
	i := slices.IndexFunc(within, func(n Network) bool { return n.Gateway.Contains(addr) })
	if i < 0 {
		return c, fmt.Errorf("%s cannot have %s; its address must be one of %s", c.Name, addr, subnets(within))
	}
	if err := within[i].possible(c, addr); err != nil {
		return c, err
	}
	if other, taken := in.kept[addr]; taken {
		return c, fmt.Errorf("%s cannot have %s: line %d already gives it to %s; each charger needs its own", c.Name, addr, in.lines[other.Name], other.Name)
	}
	c.Network, c.Reserved = within[i].Name, addr
	in.kept[addr] = c
	return c, nil
}

// possible says why a charger of the network cannot have an address of its
// subnet; nil: it can.
func (n Network) possible(c Charger, addr netip.Addr) error {
	first, last := n.ends()
	whose := ""
	switch addr {
	case n.Gateway.Addr():
		whose = "the gateway's own"
	case first:
		whose = "that of the subnet itself"
	case last:
		whose = "the subnet's broadcast address"
	default:
		return nil
	}
	return fmt.Errorf("%s cannot have %s, which is %s; its address must be another one between %s and %s, but not the gateway's, %s",
		c.Name, addr, whose, first.Next(), last.Prev(), n.Gateway.Addr())
}

// ends are the first and the last address of the subnet, which no device can
// have.
func (n Network) ends() (first, last netip.Addr) {
	first = n.Gateway.Masked().Addr()
	b := first.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|(1<<(32-n.Gateway.Bits())-1))
	return first, netip.AddrFrom4(b)
}

// subnets names the subnets of networks, as far as a line of the log has room.
func subnets(networks []Network) string {
	const most = 4
	var out []string
	for i, n := range networks {
		if i == most {
			out = append(out, "...")
			break
		}
		out = append(out, fmt.Sprintf("%s (%s)", n.Gateway.Masked(), n.Name))
	}
	return strings.Join(out, ", ")
}
