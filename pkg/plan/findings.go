package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"chargegate/pkg/lease"
)

// Channels are those of the 2.4 GHz band that do not disturb each other (Z-2).
var Channels = [...]int{1, 6, 11}

// apart is how far from each other two channels of 20 MHz must be.
const apart = 5

// findings are what does not fit, network by network and then of the box.
func findings(s Site, p Plan) []Finding {
	var out []Finding
	for _, n := range s.Networks {
		out = append(out, n.radioHolds()...)
		out = append(out, n.inventoryFits()...)
		out = append(out, n.standsFirm(s.Networks)...)
		out = append(out, n.roomToReserve(s.Networks)...)
		out = append(out, n.channelStands()...)
	}
	out = append(out, channelsApart(s.Networks)...)
	if p.Chargers > PerBox {
		out = append(out, Finding{Text: fmt.Sprintf("%d chargers are more than one box is laid out for, which is %d", p.Chargers, PerBox),
			Do: fmt.Sprintf("Divide them over %d boxes.", over(p.Chargers, PerBox))})
	}
	return out
}

func (n Network) finding(do, format string, args ...any) []Finding {
	return []Finding{{Network: n.Name, Text: fmt.Sprintf(format, args...), Do: do}}
}

// radioHolds says when a radio holds fewer stations than there are chargers.
func (n Network) radioHolds() []Finding {
	if n.Radio == nil || n.there() <= n.Radio.Stations {
		return nil
	}
	return n.finding(fmt.Sprintf("%d such radios would do, each with a network of its own; or an external access point. "+
		"To see what radios hold: chargegate plan -chargers %d. If this one holds more, correct max_stations.", over(n.there(), n.Radio.Stations), n.there()),
		"its radio holds %d stations, and there are %s (F-10)", n.Radio.Stations, chargers(n.there()))
}

// inventoryFits says when the inventory names more chargers than are planned,
// or keeps too many addresses.
func (n Network) inventoryFits() []Finding {
	size := lease.Size(n.Chargers)
	left, need, short := n.Share.Short(size)
	leftStrangers, shortStrangers := n.Share.StrangersShort()
	var out []Finding
	switch {
	case short:
		out = n.finding(n.enlarge(), "the inventory names %s, %d of them with no address of their own; there are addresses for %d of these (Z-5)", chargers(n.Share.Named), need, left)
	case n.Share.Named > n.Chargers:
		out = n.finding(n.enlarge(), "the inventory names %s, and it is planned for %d (Z-5)", chargers(n.Share.Named), n.Chargers)
	}
	if shortStrangers {
		out = append(out, n.finding(fmt.Sprintf("Choose addresses outside of %s to %s for the inventory.", n.Pool.FirstStranger, n.Pool.LastStranger),
			"%d of the %d addresses for devices that are not in the inventory are left (Z-5)", leftStrangers, lease.Strangers)...)
	}
	return out
}

// enlarge says how a network is planned for all that the inventory names.
func (n Network) enlarge() string {
	do := fmt.Sprintf("Write chargers = %d", n.Share.Named)
	if n.Share.Named > PerBox {
		return fmt.Sprintf("Divide them: a network is planned for %d at most.", PerBox)
	}
	if bits := lease.Bits(n.Share.Named); bits < n.Pool.Gateway.Bits() {
		do += fmt.Sprintf(", which needs a /%d as address", bits)
	}
	return do + ", then: sudo systemctl restart chargegate-prepare."
}

// channelStands says when a channel overlaps two of the three that do not
// disturb each other.
func (n Network) channelStands() []Finding {
	if n.Radio == nil || slices.Contains(Channels[:], n.Radio.Channel) {
		return nil
	}
	return n.finding("Choose 1, 6 or 11, whichever is used least in the garage.", "channel %d overlaps its neighbours (Z-2)", n.Radio.Channel)
}

// channelsApart says which radios of the box disturb each other. More than
// three always do.
func channelsApart(networks []Network) []Finding {
	radios := slices.DeleteFunc(slices.Clone(networks), func(n Network) bool { return n.Radio == nil })
	if len(radios) > len(Channels) {
		return []Finding{{Text: fmt.Sprintf("%d radios share the three channels that do not disturb each other", len(radios)),
			Do: "Put external access points where they do not hear each other, instead of more radios on this box."}}
	}
	slices.SortStableFunc(radios, func(a, b Network) int { return cmp.Compare(a.Radio.Channel, b.Radio.Channel) })
	var near []string
	for i := 1; i < len(radios); i++ {
		a, b := radios[i-1], radios[i]
		if b.Radio.Channel-a.Radio.Channel < apart {
			near = append(near, fmt.Sprintf("%s (channel %d) and %s (channel %d)", a.Name, a.Radio.Channel, b.Name, b.Radio.Channel))
		}
	}
	if len(near) == 0 {
		return nil
	}
	return []Finding{{Text: strings.Join(near, ", ") + " disturb each other", Do: "Give each radio of the box another one of the channels 1, 6 and 11."}}
}

// over is how many times a number goes into another one, rounded up.
func over(n, each int) int { return (n + each - 1) / each }

func chargers(n int) string {
	if n == 1 {
		return "1 charger"
	}
	return fmt.Sprintf("%d chargers", n)
}
