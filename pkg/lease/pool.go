package lease

import (
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
// addresses.
func Bits(chargers int) int {
	need := Size(chargers) + Strangers + 3
	bits := 30
	for 1<<(32-bits) < need {
		bits--
	}
	return bits
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
	if !gateway.Addr().Is4() || gateway.Bits() < 8 || gateway.Bits() > 30 {
		return Pool{}, fmt.Errorf("%s is not an IPv4 address with a subnet length of 8 to 30, like 10.83.0.1/24", gateway)
	}
	if bits := Bits(chargers); gateway.Bits() > bits {
		return Pool{}, fmt.Errorf("%s holds %d addresses, but %d chargers need %d and %d for strangers; give it a /%d",
			gateway.Masked(), 1<<(32-gateway.Bits())-3, chargers, Size(chargers), Strangers, bits)
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
