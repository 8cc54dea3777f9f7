package revive

import (
	"slices"
	"strings"
)

// halts are what drivers write to the kernel's log when the firmware of their radio
// has stopped for good: the name of the driver, and how the line goes on behind the
// driver's (or the radio's) name. Only lines after which chargers had no Wi-Fi stand
// here; what a driver mends by itself, it mends. Firmware that goes on
// after its line, as after "PSM's watchdog has fired", is left to the other signs.
var halting = []struct{ driver, text string }{
	{"brcmfmac", "brcmf_sdio_hostmail: mailbox indicates firmware halted"},
	{"brcmfmac", "brcmf_fw_crashed: Firmware has halted or crashed"},
	{"brcmfmac", "brcmf_sdio_dpc: failed backplane access over SDIO, halting operation"},
}

// halts says whether a line may speak of a radio whose firmware has stopped.
func halts(l Line) bool {
	return l.Facility == 0 && slices.ContainsFunc(halting, func(h struct{ driver, text string }) bool { return strings.Contains(l.Text, h.text) })
}

// halted says whether a line says of the radio behind d that its firmware has
// stopped. The line must be the kernel's own, and begin as the driver begins it:
// some lines hold text that a stranger chose, like the name of a USB stick.
//
// Drivers write in three forms:
//
//	brcmfmac: brcmf_sdio_hostmail: mailbox indicates firmware halted
//	brcmfmac mmc1:0001:1: brcmf_sdio_hostmail: …
//	ieee80211 phy0: brcmf_fw_crashed: Firmware has halted or crashed
//
// The first says which driver, not which radio: it counts for all of that driver,
// unless the record names the device.
func (d device) halted(l Line) bool {
	if l.Facility != 0 || d.Driver == "" {
		return false
	}
	for _, h := range halting {
		if h.driver != d.name() {
			continue
		}
		lead, ok := strings.CutSuffix(strings.TrimRight(l.Text, " \n"), ": "+h.text)
		if !ok {
			continue
		}
		switch name, of, _ := strings.Cut(lead, " "); {
		case name == h.driver && of == "":
			return l.Device == "" || d.called(l.Device)
		case name == h.driver:
			return d.has(of)
		case name == "ieee80211" && d.Phy != "":
			return of == d.Phy
		}
	}
	return false
}

// called says whether a record's DEVICE= is one of the radio's functions, like
// "+sdio:mmc1:0001:1", or its radio, "+ieee80211:phy0".
func (d device) called(name string) bool {
	bus, of, ok := strings.Cut(strings.TrimPrefix(name, "+"), ":")
	return !ok || bus == "ieee80211" && of == d.Phy || d.has(of)
}
