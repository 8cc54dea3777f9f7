package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"chargegate/test/vm/wire"
)

const hwsimDelRadio = 5 // HWSIM_CMD_DEL_RADIO

// unplug takes the radio of an interface away, as somebody does who pulls an adapter
// out, or puts one of that address in, which gets the first free name of an interface.
func unplug(_ context.Context, args json.RawMessage) (any, error) {
	var a wire.Unplug
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	if a.Back != "" {
		address, err := net.ParseMAC(a.Back)
		if err != nil {
			return nil, err
		}
		return nil, plugIn(address, a.Named)
	}
	ifi, err := net.InterfaceByName(a.Interface)
	if err != nil {
		return nil, err
	}
	name, err := os.ReadFile(filepath.Join("/sys/class/net", a.Interface, "phy80211/name"))
	if err != nil {
		return nil, fmt.Errorf("%s is no radio: %w", a.Interface, err)
	}
	err = ask(0, hwsimFamily, hwsimDelRadio, func(e *netlink.AttributeEncoder) {
		e.String(hwsimName, strings.TrimSpace(string(name)))
	})
	return ifi.HardwareAddr.String(), err
}

// plugIn makes a radio whose interface gets the first free name, or the one that is
// wanted.
func plugIn(address net.HardwareAddr, name string) error {
	const radio = "adapter"
	// The answer is the radio's number, which generic netlink takes for an error.
	refused := ask(0, hwsimFamily, hwsimNewRadio, func(e *netlink.AttributeEncoder) {
		e.String(hwsimName, radio)
		e.Bytes(hwsimAddress, address)
		e.Flag(hwsimBare, name != "")
	})
	phy, err := phyNumber(radio)
	if err != nil {
		return fmt.Errorf("putting the radio in: %w (%w)", err, refused)
	}
	if name == "" {
		return nil
	}
	return ask(0, unix.NL80211_GENL_NAME, unix.NL80211_CMD_NEW_INTERFACE, func(e *netlink.AttributeEncoder) {
		e.Uint32(unix.NL80211_ATTR_WIPHY, phy)
		e.String(unix.NL80211_ATTR_IFNAME, name)
		e.Uint32(unix.NL80211_ATTR_IFTYPE, unix.NL80211_IFTYPE_STATION)
	})
}
