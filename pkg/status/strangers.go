package status

import (
	"fmt"
	"slices"
	"strings"

	"chargegate/pkg/charger"
)

// isZaptec reports whether a MAC is from one of the blocks of 28 bits that the
// IEEE has assigned to Zaptec: 60:15:92:4 and 3C:DC:03:1.
func isZaptec(mac charger.MAC) bool {
	block := [4]byte{mac[0], mac[1], mac[2], mac[3] >> 4}
	return block == [4]byte{0x60, 0x15, 0x92, 0x4} || block == [4]byte{0x3c, 0xdc, 0x03, 0x1}
}

// strangersAdvice is what is said of a device that is not in the inventory. The
// row for chargers.csv stands at the end and has no full stop, so that it can be
// copied.
func strangersAdvice(c Charger, pools []PoolUse) string {
	advice := c.Advice
	i := slices.IndexFunc(pools, func(p PoolUse) bool { return p.Network == c.Network })
	full := !c.Address.IsValid() && i >= 0 && pools[i].StrangersFull()
	if full {
		advice = fmt.Sprintf("Has no address: all %d for unknown devices are taken.", pools[i].StrangerSize)
	}
	row := fmt.Sprintf("enter it in chargers.csv: %s,NAME", c.MAC)
	switch {
	case c.ProbablyCharger:
		return strings.TrimSpace(advice + " Probably a charger: " + row)
	case full:
		return advice + " If it is a charger, " + row
	}
	return advice
}
