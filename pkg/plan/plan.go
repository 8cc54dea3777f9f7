// Package plan reckons what a garage needs: addresses, radios, channels, mobile
// data; says what of it does not fit and what to do; and lays out a garage that
// does not exist yet. Everything is arithmetic on what it is given.
package plan

import (
	"net/netip"
	"time"

	"chargegate/pkg/lease"
)

// What one charger sends and receives (Z-14), in bytes.
const (
	// PerDay is the base load of a Pro. A Go is taken to need as much.
	PerDay = 3_000_000
	// PerSession is what a charging session adds.
	PerSession = 5_000_000
	// Sessions is how many there are taken to be for each charger and day.
	Sessions = 1
	// Month is the days that a month is reckoned with.
	Month = 30
)

// When all chargers fetch a new firmware at once, each has to get it within the
// time that it allows itself (F-7; Zaptec Go: 4.3 MiB, 60 minutes).
const (
	// Firmware is how large it is, in bytes.
	Firmware = 4_500_000
	// FirmwareTime is what a charger allows itself.
	FirmwareTime = time.Hour
)

// PerBox is how many chargers one box is laid out for: LimitNOFILE of
// chargegated.service allows for 1000 at six descriptors each, and for one
// [[network]] the configuration takes no more either.
const PerBox = 1000

// A Site is what is known of one box.
type Site struct {
	Name     string
	Lease    time.Duration
	Networks []Network
	// Conversations is how many the daemon holds open at once, PerCharger how
	// many of one charger; 0: not known.
	Conversations, PerCharger int
	// Listed is how many chargers the inventory names, Homeless how many of them
	// belong to no network. Listed is -1 where there is no inventory, or none that
	// could be read.
	Listed, Homeless int
}

// A Network is one [[network]].
type Network struct {
	Name      string
	Interface string
	Chargers  int // planned
	Pool      lease.Pool
	Chosen    bool        // the gateway's address, because the configuration says "auto"
	Share     lease.Share // of the inventory
	Radio     *Radio      // nil: an external access point
}

// A Radio is one that hangs on the box itself.
type Radio struct {
	SSID     string `json:"ssid"`
	Channel  int    `json:"channel"`
	Stations int    `json:"max_stations"` // how many it holds (F-10)
}

// A Plan is what follows from a Site.
type Plan struct {
	Site     string `json:"site,omitempty"`
	Chargers int    `json:"chargers"` // planned, or as many as the inventory names where these are more
	// Listed is absent where nothing is known of an inventory.
	Listed   *int   `json:"listed,omitempty"`
	Homeless int    `json:"without_network,omitempty"`
	Networks []Part `json:"networks"`
	Lease    Times  `json:"lease"`
	Volume   Volume `json:"volume"`
	// Uplink is how many bits a second the uplink must bring at the least, for
	// all chargers to fetch new firmware at once.
	Uplink        int64     `json:"uplink_bits_per_second"`
	Conversations int       `json:"conversations,omitempty"`
	PerCharger    int       `json:"conversations_per_charger,omitempty"`
	Findings      []Finding `json:"findings"` // what does not fit
}

// A Part is what follows for one network.
type Part struct {
	Name          string       `json:"name"`
	Interface     string       `json:"interface"`
	Chargers      int          `json:"chargers"`
	Share         *lease.Share `json:"inventory,omitempty"`
	Subnet        netip.Prefix `json:"subnet"`
	Gateway       netip.Addr   `json:"gateway"`
	Addresses     int          `json:"addresses"` // for chargers (Z-5)
	First         netip.Addr   `json:"first"`
	Last          netip.Addr   `json:"last"`
	Strangers     int          `json:"strangers"` // addresses for devices that are not in the inventory
	FirstStranger netip.Addr   `json:"first_stranger"`
	LastStranger  netip.Addr   `json:"last_stranger"`
	// Free is what of the subnet is in no range: best for addresses that the
	// inventory keeps. Chosen says that the gateway's address is "auto".
	Free   []Range `json:"free,omitempty"`
	Chosen bool    `json:"gateway_chosen,omitempty"`
	Radio  *Radio  `json:"radio,omitempty"` // absent: an external access point
	Volume Volume  `json:"volume"`
}

// Times are those of a lease (Z-6).
type Times struct {
	Lease  int `json:"seconds"`
	Renew  int `json:"renew_seconds"`  // T1: asks who gave it
	Rebind int `json:"rebind_seconds"` // T2: asks anybody
}

// A Volume is bytes in both directions together.
type Volume struct {
	Day   int64 `json:"day_bytes"`
	Month int64 `json:"month_bytes"`
}

// A Finding is something that does not fit.
type Finding struct {
	Network string `json:"network,omitempty"` // empty: the whole box
	Text    string `json:"text"`
	Do      string `json:"do"`
}

// Of reckons a site.
func Of(s Site) Plan {
	p := Plan{Site: s.Name, Lease: times(s.Lease), Conversations: s.Conversations, PerCharger: s.PerCharger, Findings: []Finding{}}
	if s.Listed >= 0 {
		p.Listed, p.Homeless = &s.Listed, s.Homeless
	}
	for _, n := range s.Networks {
		p.Networks = append(p.Networks, n.part(s.Listed >= 0))
		p.Chargers += n.there()
	}
	p.Volume, p.Uplink = volume(p.Chargers), uplink(p.Chargers)
	p.Findings = append(p.Findings, findings(s, p)...)
	return p
}

// there is how many chargers are to be reckoned with.
func (n Network) there() int { return max(n.Chargers, n.Share.Named) }

func (n Network) part(listed bool) Part {
	part := Part{
		Name: n.Name, Interface: n.Interface, Chargers: n.Chargers, Radio: n.Radio,
		Subnet: n.Pool.Gateway.Masked(), Gateway: n.Pool.Gateway.Addr(),
		Addresses: lease.Size(n.Chargers), First: n.Pool.First, Last: n.Pool.Last,
		Strangers: lease.Strangers, FirstStranger: n.Pool.FirstStranger, LastStranger: n.Pool.LastStranger,
		Free: free(n.Pool), Chosen: n.Chosen,
		Volume: volume(n.there()),
	}
	if listed {
		part.Share = &n.Share
	}
	return part
}

// times are those that the DHCP server gives with each lease (RFC 2131, 4.4.5).
func times(d time.Duration) Times {
	s := int(d / time.Second)
	return Times{Lease: s, Renew: s / 2, Rebind: s * 7 / 8}
}

func volume(chargers int) Volume {
	day := int64(chargers) * (PerDay + Sessions*PerSession)
	return Volume{Day: day, Month: Month * day}
}

func uplink(chargers int) int64 {
	return int64(chargers) * 8 * Firmware / int64(FirmwareTime/time.Second)
}
