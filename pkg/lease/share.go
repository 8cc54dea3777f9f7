package lease

import "net/netip"

// A Share is how much of a pool the inventory takes.
type Share struct {
	// Named counts the chargers of the inventory that belong to the network.
	Named int `json:"named"`
	// Reserved counts those of them that have an address of their own, Inside
	// those whose address is one of the chargers' range, and Strangers those whose
	// address is one of the strangers'.
	Reserved  int `json:"reserved"`
	Inside    int `json:"reserved_inside"`
	Strangers int `json:"reserved_of_strangers"`
}

// Add counts one more charger; the address is invalid if none is reserved for
// it.
func (s *Share) Add(p Pool, reserved netip.Addr) {
	s.Named++
	if !reserved.IsValid() {
		return
	}
	s.Reserved++
	switch {
	case between(p.First, reserved, p.Last):
		s.Inside++
	case between(p.FirstStranger, reserved, p.LastStranger):
		s.Strangers++
	}
}

func between(first, a, last netip.Addr) bool { return !a.Less(first) && !last.Less(a) }

// Short says how many of size addresses are left for the chargers that have
// none of their own, how many these are, and whether it is too few.
func (s Share) Short(size int) (left, need int, short bool) {
	left, need = max(0, size-s.Inside), s.Named-s.Reserved
	return left, need, left < need
}

// StrangersShort says how many of the strangers' addresses are left, and whether
// it is fewer than half.
func (s Share) StrangersShort() (left int, short bool) {
	left = Strangers - s.Strangers
	return left, left < Strangers/2
}
