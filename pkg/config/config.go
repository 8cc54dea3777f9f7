// Package config reads the one TOML file, strictly, reports every fault with
// its line and column, and composes what each room needs to know.
package config

import (
	"net/netip"

	"chargegate/pkg/denied"
	"chargegate/pkg/dhcp"
	"chargegate/pkg/egress"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
	"chargegate/pkg/ntprelay"
	"chargegate/pkg/policy"
	"chargegate/pkg/radio"
	"chargegate/pkg/resolver"
	"chargegate/pkg/revive"
	"chargegate/pkg/status"
)

// A Config is a whole, valid configuration: the file's own values, and what
// follows from them for each room.
type Config struct {
	// File is where it was read.
	File string
	// Site is what the place is called.
	Site string
	// Inventory is the path of chargers.csv; empty: none.
	Inventory string
	// Networks are the charger networks, in the file's order.
	Networks []Network
	Uplink   Uplink
	Log      Log
	// Rules are the Zaptec profile and the site's own, in this order.
	Rules []policy.Rule
	// Pools are the networks' addresses.
	Pools []lease.Pool

	DHCP   dhcp.Config
	DNS    resolver.Config
	NTP    ntprelay.Config
	Egress egress.Config
	Denied denied.Config
	Radio  radio.Config
	Status status.Config

	// auto says of each network whether its address was chosen.
	auto []bool
	// inventory is where the inventory is named.
	inventory place
	// secrets is where each network's passphrase is named.
	secrets []place
	// forced are the patterns over rented names that the site insists on.
	forced []string
}

// A Network is one radio, or one wired port with an external access point.
type Network struct {
	Name      string
	Interface string
	Chargers  int
	// Gateway is the gateway's own address with the length of the subnet. With
	// address = "auto" it was chosen.
	Gateway netip.Prefix
	// Relays are the relay agents that may speak for others; mostly none.
	Relays []netip.Addr
	// Radio is nil where an external access point hangs on the interface.
	Radio *Radio
}

// A Radio is what hostapd needs to know.
type Radio struct {
	SSID        string
	Passphrase  Secret
	Country     string
	Channel     int
	MaxStations int
	// Revive is how far chargegate-revive may go when the radio is dead.
	Revive revive.Step
}

// Uplink is the side towards the Internet.
type Uplink struct {
	Interface string
	// Allow are the inbound services, all TCP.
	Allow []Service
}

// A Service is an inbound service that is allowed on the uplink.
type Service struct {
	Name string
	Port uint16
}

// Log is how much is said, and in which form.
type Log struct {
	Level  event.Level
	Format string // "auto", "journal", "text" or "json"
}
