package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What mac80211_hwsim is asked over generic netlink (its uapi header).
const (
	hwsimFamily   = "MAC80211_HWSIM"
	hwsimNewRadio = 4
	hwsimName     = 17 // HWSIM_ATTR_RADIO_NAME
	hwsimBare     = 18 // HWSIM_ATTR_NO_VIF: no interface comes with it
	hwsimAddress  = 22 // HWSIM_ATTR_PERM_ADDR
)

// iface is what a station's interface is called in its namespace.
const iface = "wlan0"

// newRadio makes a radio of this name and address, and moves it to the namespace
// of the same name, with one interface. It is made where the access point is: only
// radios that were made in one namespace hear each other.
func newRadio(name, mac string) error {
	address, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	// The answer to a radio that was made is its number, which generic netlink takes
	// for an error: whether it is there is seen below.
	refused := ask(0, hwsimFamily, hwsimNewRadio, func(e *netlink.AttributeEncoder) {
		e.String(hwsimName, name)
		e.Flag(hwsimBare, true)
		e.Bytes(hwsimAddress, address)
	})
	phy, err := phyNumber(name)
	if err != nil {
		return fmt.Errorf("making the radio %s: %w (%w)", name, err, refused)
	}
	space, err := os.Open(filepath.Join("/run/netns", name))
	if err != nil {
		return err
	}
	defer space.Close()
	err = ask(0, unix.NL80211_GENL_NAME, unix.NL80211_CMD_SET_WIPHY_NETNS, func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.NL80211_ATTR_WIPHY, phy)
		e.Uint32(unix.NL80211_ATTR_NETNS_FD, uint32(space.Fd()))
	})
	if err != nil {
		return fmt.Errorf("moving the radio %s: %w", name, err)
	}
	err = ask(int(space.Fd()), unix.NL80211_GENL_NAME, unix.NL80211_CMD_NEW_INTERFACE, func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.NL80211_ATTR_WIPHY, phy)
		e.String(unix.NL80211_ATTR_IFNAME, iface)
		e.Uint32(unix.NL80211_ATTR_IFTYPE, unix.NL80211_IFTYPE_STATION)
	})
	if err != nil {
		return fmt.Errorf("giving the radio %s an interface: %w", name, err)
	}
	return nil
}

// ask puts one request to the kernel, in a namespace; 0: the agent's own.
func ask(space int, family string, command uint8, attributes func(*netlink.AttributeEncoder)) error {
	c, err := genetlink.Dial(&netlink.Config{NetNS: space})
	if err != nil {
		return err
	}
	defer c.Close()
	f, err := c.GetFamily(family)
	if err != nil {
		return fmt.Errorf("looking for %s: %w", family, err)
	}
	e := netlink.NewAttributeEncoder()
	attributes(e)
	data, err := e.Encode()
	if err != nil {
		return err
	}
	m := genetlink.Message{Header: genetlink.Header{Command: command, Version: f.Version}, Data: data}
	_, err = c.Execute(m, f.ID, netlink.Request|netlink.Acknowledge)
	return err
}

func phyNumber(name string) (uint32, error) {
	text, err := os.ReadFile(filepath.Join("/sys/class/ieee80211", name, "index"))
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	return uint32(n), err
}

// power is what radios send with here: what is heard of one is rx_rssi and this.
const power = 20

// debugfs is where the kernel lets one change its simulated radios.
const debugfs = "/sys/kernel/debug"

// heardAt makes everybody hear a radio so well, in dBm.
func heardAt(name string, dbm int) error {
	file := filepath.Join(debugfs, "ieee80211", name, "hwsim/rx_rssi")
	if _, err := os.Stat(file); err != nil {
		if err := unix.Mount("debugfs", debugfs, "debugfs", 0, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", debugfs, err)
		}
	}
	// The kernel reads it as a number without a sign, and refuses a minus.
	return os.WriteFile(file, []byte(strconv.FormatUint(uint64(dbm-power), 10)), 0)
}
