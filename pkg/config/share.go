package config

import (
	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

// Shares says of each network, in the file's order, what the inventory takes of
// its addresses. A charger that names no network belongs to the only one; where
// there are several, to none.
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

// TellShares says where the inventory leaves too few addresses.
func (c *Config) TellShares(inv charger.Inventory, log *event.Log) {
	for i, s := range c.Shares(inv) {
		network := event.Network(c.Networks[i].Name)
		if left, need, short := s.Short(lease.Size(c.Networks[i].Chargers)); short {
			log.Say(event.InventoryPoolSmall, network, event.F("LEFT", left), event.F("CHARGERS", need))
		}
		if left, short := s.StrangersShort(); short {
			log.Say(event.InventoryStrangersSmall, network, event.F("LEFT", left), event.F("OF", lease.Strangers))
		}
	}
}
