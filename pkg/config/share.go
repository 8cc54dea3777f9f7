package config

import (
	"fmt"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

// Shares says of each network, in the file's order, what the inventory takes of
// its addresses. A charger that names no network belongs to the only one; where
// there are several, to none. One that names a network which the file does not
// have belongs to none either.
func (c *Config) Shares(inv charger.Inventory) []lease.Share {
	shares := make([]lease.Share, len(c.Networks))
	for i, n := range c.Networks {
		for _, row := range inv {
			if row.Network == n.Name || row.Network == "" && len(c.Networks) == 1 {
				shares[i].Add(c.Pools[i], row.Reserved)
			}
		}
	}
	return shares
}

// Reservations are the addresses that the inventory keeps for its chargers.
func Reservations(inv charger.Inventory) []lease.Reservation {
	var all []lease.Reservation
	for _, row := range inv {
		if row.Reserved.IsValid() {
			all = append(all, lease.Reservation{Network: row.Network, HW: row.MAC, Addr: row.Reserved})
		}
	}
	return all
}

// Chosen says whether the address of the network with an index was chosen, which
// it is for "auto", and may be another one after the next start.
func (c *Config) Chosen(i int) bool { return c.auto[i] }

// TellShares says where the inventory leaves too few addresses, and where those
// that it keeps may not be the network's own for long.
func (c *Config) TellShares(inv charger.Inventory, log *event.Log) {
	for i, s := range c.Shares(inv) {
		network := event.Network(c.Networks[i].Name)
		if c.Chosen(i) && s.Reserved > 0 {
			log.Say(event.InventoryNetworkAuto, network, event.F("COUNT", s.Reserved), event.F("ADDRESSES", howMany(s.Reserved)), event.F("ADDRESS", c.Pools[i].Gateway))
		}
		if left, need, short := s.Short(lease.Size(c.Networks[i].Chargers)); short {
			log.Say(event.InventoryPoolSmall, network, event.F("LEFT", left), event.F("CHARGERS", need))
		}
		if left, short := s.StrangersShort(); short {
			log.Say(event.InventoryStrangersSmall, network, event.F("LEFT", left), event.F("OF", lease.Strangers))
		}
	}
}

func howMany(n int) string {
	if n == 1 {
		return "1 address"
	}
	return fmt.Sprintf("%d addresses", n)
}
