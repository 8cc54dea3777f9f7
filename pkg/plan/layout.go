package plan

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"chargegate/pkg/lease"
)

// A Kind is a kind of radio.
type Kind struct {
	Name string `json:"name"`
	// Stations is how many to plan it with: the least that was seen to be its
	// limit, or a number that was seen to work where no limit was met.
	Stations int    `json:"stations"`
	Seen     string `json:"seen"` // what was seen, in words
	Source   string `json:"source"`
	// How is what to know before using it.
	How string `json:"how"`
}

// Kinds are the radios that a box can have, and the access point beside it
// (F-10). The sources are public issue threads and firmware sources; where none
// gives a figure it is said to be assumed.
var Kinds = [...]Kind{
	pisOwn: {"the Pi's own, usual firmware", 7, "7 to 10", "raspberrypi/linux#3010, raspberrypi/documentation#2520",
		"a Pi 3B+, 4 or 5 as it comes"},
	pisMinimal: {"the Pi's own, \"minimal\" firmware", 19, "19", "RPi-Distro/firmware-nonfree, cypress/README.txt",
		"a Pi 3B+, 4 or 5; choose the firmware with: sudo update-alternatives --config cyfmac43455-sdio.bin, and reboot"},
	ath9k: {"USB, AR9271", 7, "7 to 8", "qca/open-ath9k-htc-firmware#43",
		"its firmware has memory for no more"},
	mt792x: {"USB, MT7921U or MT7925", 15, "15 to 16", "morrownr/USB-WiFi#369 (MT792x_WTBL_STA)",
		"its driver's table ends there"},
	rt5370: {"USB, RT5370 or RT3070", 20, "more than 20", "morrownr/USB-WiFi#44",
		"2.4 GHz only, and known to be solid"},
	mt7612: {"USB, MT7612U", 30, "20 to 40; its table holds 128", "mt76x02.h (MT76x02_N_WCIDS), morrownr/USB-WiFi#576",
		"wlan0 stays the Pi's own radio and unused"},
	external: {"an external access point", 50, "as its maker says; 50 are assumed", "none: each maker's data sheet",
		"an access point may hold more or fewer than 50: its data sheet says how many"},
}

const (
	pisOwn = iota
	pisMinimal
	ath9k
	mt792x
	rt5370
	mt7612
	external
)

// Up to where which kind is chosen. Above handful the Pi's own radio would be
// nearly full; more than three radios would share a channel at one place.
const (
	handful  = 15
	perRadio = 30
)

// A Need is how many of a kind a garage would take.
type Need struct {
	Kind
	Count  int  `json:"count"`
	Chosen bool `json:"chosen"`
}

// A Layout is the smallest sensible garage for a number of chargers.
type Layout struct {
	Chargers int    `json:"chargers"`
	Boxes    int    `json:"boxes"` // all alike
	Radios   []Need `json:"radios"`
	// AccessPoints are the channels of the external access points of one box.
	AccessPoints []int `json:"access_point_channels,omitempty"`
	// Plan is of one box, the fullest.
	Plan Plan `json:"plan"`
	// Fragment is the configuration of its networks.
	Fragment string `json:"fragment"`
}

// Most is how many chargers a layout can be asked for.
const Most = 100 * PerBox

// For lays out a garage of 1 to Most chargers.
func For(n int) (Layout, error) {
	if n < 1 || n > Most {
		return Layout{}, fmt.Errorf("%d chargers cannot be planned for; from 1 to %d can", n, Most)
	}
	l := Layout{Chargers: n, Boxes: over(n, PerBox)}
	each := over(n, l.Boxes)
	kind := choose(each)
	for i, k := range Kinds {
		l.Radios = append(l.Radios, Need{Kind: k, Count: l.Boxes * over(each, k.Stations), Chosen: i == kind})
	}
	s := Site{Lease: 12 * time.Hour, Listed: -1}
	networks := 1
	if kind != external {
		networks = over(each, Kinds[kind].Stations)
	}
	for i := range networks {
		share := each / networks
		if i < each%networks {
			share++
		}
		network, err := lay(i, networks, share, kind)
		if err != nil {
			return Layout{}, err
		}
		s.Networks = append(s.Networks, network)
	}
	if kind == external {
		for i := range over(each, Kinds[external].Stations) {
			l.AccessPoints = append(l.AccessPoints, Channels[i%len(Channels)])
		}
	}
	l.Plan = Of(s)
	l.Fragment = fragment(s.Networks)
	return l, nil
}

// choose finds the kind of radio for the chargers of one box: what the Pi has
// while that is enough, then adapters, up to one for each channel.
func choose(n int) int {
	switch {
	case n <= Kinds[pisOwn].Stations:
		return pisOwn
	case n <= handful:
		return pisMinimal
	case n <= perRadio*len(Channels):
		return mt7612
	}
	return external
}

// apartSubnets is how far the subnets of two networks begin from each other, as
// with address = "auto": each has room to grow up to PerBox chargers.
const apartSubnets = 16

// lay makes the network with an index of so many.
func lay(i, of, n, kind int) (Network, error) {
	name := fmt.Sprintf("P%d", i+1)
	gateway := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 83, byte(apartSubnets * i), 1}), lease.Bits(n))
	pool, err := lease.NewPool(name, gateway, n)
	if err != nil {
		return Network{}, fmt.Errorf("laying out %s: %w", name, err)
	}
	network := Network{Name: name, Chargers: n, Pool: pool}
	if kind == external {
		network.Interface = "eth1"
		return network, nil
	}
	network.Interface = "wlan0"
	if kind == mt7612 {
		network.Interface = fmt.Sprintf("wlan%d", i+1)
	}
	channel := Channels[i]
	if of == 1 {
		channel = Channels[1]
	}
	network.Radio = &Radio{SSID: "garage-" + strings.ToLower(name), Channel: channel, Stations: Kinds[kind].Stations}
	return network, nil
}

// fragment is the networks as the configuration has them.
func fragment(networks []Network) string {
	var b strings.Builder
	for i, n := range networks {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "[[network]]\nname      = %q\ninterface = %q    # as ip link shows it\nchargers  = %d\naddress   = %q\n", n.Name, n.Interface, n.Chargers, n.Pool.Gateway)
		if r := n.Radio; r != nil {
			fmt.Fprintf(&b, "[network.radio]\nssid         = %q\npassphrase   = \"file:%s.psk\"\ncountry      = \"SE\"    # where the box stands\nchannel      = %d\nmax_stations = %d\n",
				r.SSID, strings.ToLower(n.Name), r.Channel, r.Stations)
		}
	}
	return b.String()
}
