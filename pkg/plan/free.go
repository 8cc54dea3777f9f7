package plan

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"chargegate/pkg/lease"
)

// A Range is addresses in a row, both ends included.
type Range struct {
	First netip.Addr `json:"first"`
	Last  netip.Addr `json:"last"`
}

// enoughFree is how many addresses of a subnet should be left in no range where
// the inventory keeps some.
const enoughFree = 10

// free is what of a pool's subnet is in neither of its ranges and is not the
// gateway's. The ranges stand at the beginning (lease.NewPool), so it is the end.
func free(p lease.Pool) []Range {
	first, last := number(p.LastStranger)+1, number(p.Gateway.Masked().Addr())+1<<(32-p.Gateway.Bits())-2
	gateway := number(p.Gateway.Addr())
	var out []Range
	add := func(from, to uint32) {
		if from <= to {
			out = append(out, Range{address(from), address(to)})
		}
	}
	if gateway < first || gateway > last {
		add(first, last)
		return out
	}
	add(first, gateway-1)
	add(gateway+1, last)
	return out
}

// freeLeft says how many addresses in no range the inventory leaves, in a subnet
// of a length.
func (n Network) freeLeft(bits int) int {
	ranges := lease.Size(n.Chargers) + lease.Strangers
	outside := n.Share.Reserved - n.Share.Inside - n.Share.Strangers
	return 1<<(32-bits) - 3 - ranges - outside // without the subnet's, the broadcast and the gateway's
}

// roomToReserve says where the inventory keeps addresses and hardly any is left
// that is in no range.
func (n Network) roomToReserve(all []Network) []Finding {
	left := n.freeLeft(n.Pool.Gateway.Bits())
	if n.Share.Reserved == 0 || left >= enoughFree {
		return nil
	}
	return n.finding(n.writeAddress(all), "chargers.csv keeps addresses, and %d more could be kept outside of the ranges", max(0, left))
}

// standsFirm says where addresses are kept in a subnet that may change.
func (n Network) standsFirm(all []Network) []Finding {
	if !n.Chosen || n.Share.Reserved == 0 {
		return nil
	}
	kept := "1 address"
	if n.Share.Reserved > 1 {
		kept = fmt.Sprintf("%d addresses", n.Share.Reserved)
	}
	return n.finding(n.writeAddress(all),
		"chargers.csv keeps %s, and the network's own is \"auto\": it gives way when the uplink wants the same subnet, and the list is wrong then", kept)
}

// writeAddress says how to write the network's address out, with a subnet that has
// room for what the inventory keeps.
func (n Network) writeAddress(all []Network) string {
	bits := n.Pool.Gateway.Bits()
	for bits > 8 && n.freeLeft(bits) < enoughFree {
		bits--
	}
	larger := netip.PrefixFrom(n.Pool.Gateway.Addr(), bits)
	for _, other := range all {
		if other.Name != n.Name && other.Pool.Gateway.Overlaps(larger) {
			return fmt.Sprintf("Write a /%d as address for this network that does not overlap %s, then: sudo systemctl restart chargegate-prepare.", bits, other.Name)
		}
	}
	return fmt.Sprintf("Write address = %q for this network, then: sudo systemctl restart chargegate-prepare.", larger)
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
