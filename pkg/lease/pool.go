package lease

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Strangers is how many addresses a network keeps apart for MACs that are not
// in the inventory, so that they can never exhaust the chargers' (Z-5).
const Strangers = 8

// Size returns how many addresses are kept for a number of chargers:
// max(32, ceil(1.5·n)+10) (Z-5).
func Size(chargers int) int { return max(32, (3*chargers+1)/2+10) }

// Bits returns the length of the smallest subnet that holds the pool for a
// number of chargers, the strangers, the gateway, and the network and broadcast
// addresses. It is never shorter than minBits, whether they fit or not.
func Bits(chargers int) int {
	bits := maxBits
	for bits > minBits && !fits(chargers, bits) {
		bits--
	}
	return bits
}

// A subnet longer than maxBits holds nobody; one shorter than minBits is not
// private address space (RFC 1918, section 3).
const minBits, maxBits = 8, 30

// fits says whether a subnet of a length holds the pool for a number of
// chargers and the three addresses that are never given away.
func fits(chargers, bits int) bool {
	return int64(Size(chargers))+Strangers+3 <= 1<<(32-bits)
}

// A Pool is the addresses of one network.
type Pool struct {
	Network string
	// Gateway is the gateway's own address with the length of the subnet; it is
	// never given away.
	Gateway netip.Prefix
	// First and Last bound the chargers' addresses, both included. A gateway
	// that stands between them is passed over.
	First, Last netip.Addr
	// FirstStranger and LastStranger bound the strangers'.
	FirstStranger, LastStranger netip.Addr
}

// NewPool lays a pool out in the gateway's subnet: the chargers' addresses
// first, then the strangers', skipping the gateway. It fails when they do not
// fit.
func NewPool(network string, gateway netip.Prefix, chargers int) (Pool, error) {
	if !gateway.Addr().Is4() || gateway.Bits() < minBits || gateway.Bits() > maxBits {
		return Pool{}, fmt.Errorf("%s is not an IPv4 address with a subnet length of %d to %d, like 10.83.0.1/24", gateway, minBits, maxBits)
	}
	if addr := gateway.Addr(); addr == gateway.Masked().Addr() || addr == broadcast(gateway) {
		return Pool{}, fmt.Errorf("%s is the first or the last address of its subnet, which no device may have; take the one after the first, like 10.83.0.1/24", gateway)
	}
	if !fits(chargers, gateway.Bits()) {
		return Pool{}, fmt.Errorf("%s holds %d addresses, but %d chargers need %d and %d for strangers; give it a /%d",
			gateway.Masked(), 1<<(32-gateway.Bits())-3, chargers, Size(chargers), Strangers, Bits(chargers))
	}
	p := Pool{Network: network, Gateway: gateway}
	at := gateway.Masked().Addr()
	take := func(n int) (first, last netip.Addr) {
		for ; n > 0; n-- {
			at = at.Next()
			if at == gateway.Addr() {
				at = at.Next()
			}
			if !first.IsValid() {
				first = at
			}
		}
		return first, at
	}
	p.First, p.Last = take(Size(chargers))
	p.FirstStranger, p.LastStranger = take(Strangers)
	return p, nil
}

// valid says what is wrong with a pool that was not made by NewPool.
func (p Pool) valid() error {
	subnet, end := p.Gateway.Masked(), broadcast(p.Gateway)
	for _, r := range p.ranges() {
		if !subnet.Contains(r.first) || !subnet.Contains(r.last) || r.last.Less(r.first) {
			return fmt.Errorf("pool %s: %s to %s is not a range of %s", p.Network, r.first, r.last, subnet)
		}
		if r.first == subnet.Addr() || r.last == end {
			return fmt.Errorf("pool %s: %s to %s holds the network's or the broadcast address of %s", p.Network, r.first, r.last, subnet)
		}
	}
	return nil
}

// A span is a range of addresses, both ends included.
type span struct {
	first, last netip.Addr
	stranger    bool // kept for MACs that are not in the inventory
}

func (p Pool) ranges() [2]span {
	return [2]span{{p.First, p.Last, false}, {p.FirstStranger, p.LastStranger, true}}
}

// broadcast returns the last address of an IPv4 subnet.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	n := binary.BigEndian.Uint32(b[:]) | (1<<(32-p.Bits()) - 1)
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
