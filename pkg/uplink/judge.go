package uplink

import (
	"fmt"
	"net/netip"
	"slices"
)

// A view is what the kernel says of the interface at one moment.
type view struct {
	exists  bool
	on      bool // switched on (IFF_UP)
	carrier bool // operational (IFF_RUNNING): a cable, or a Wi-Fi that was joined
	// addrs are the interface's addresses, without those that lead nowhere:
	// link-local ones, which a host gives itself when no DHCP server answers.
	addrs []netip.Addr
	// routes says for which families a default route leads over the interface.
	routes families
	// elsewhere names another interface that has a default route.
	elsewhere string
}

// families are versions of IP.
type families struct{ four, six bool }

// address returns the one to show: IPv4 before IPv6.
func (v view) address() netip.Addr {
	if i := slices.IndexFunc(v.addrs, netip.Addr.Is4); i >= 0 {
		return v.addrs[i]
	}
	if len(v.addrs) > 0 {
		return v.addrs[0]
	}
	return netip.Addr{}
}

// routed reports whether some address has a default route of its own family.
func (v view) routed() bool {
	return slices.ContainsFunc(v.addrs, func(a netip.Addr) bool {
		return a.Is4() && v.routes.four || a.Is6() && v.routes.six
	})
}

// judge returns what is missing first, from the cable up, and what to do about
// it; both are empty when nothing is.
func judge(name string, v view) (missing, do string) {
	switch {
	case !v.exists:
		return "no such interface", "Is the adapter plugged in? The command ip link lists the interfaces there are; write the right one as interface under [uplink]."
	case !v.on:
		return "switched off", fmt.Sprintf("Run: sudo ip link set %s up. If it does not stay so, find out what switches it off: networkctl status %s.", name, name)
	case !v.carrier:
		return "no cable", "Is the cable plugged in at both ends, and the router or switch at the other end powered? A light at the socket says that there is a link."
	case len(v.addrs) == 0:
		return "no address", fmt.Sprintf("Is the router on, and does its DHCP server have an address left? Run: networkctl status %s.", name)
	case !v.routed() && v.elsewhere != "":
		return "no default route; it leads over " + v.elsewhere, fmt.Sprintf("If %s is the way to the Internet, write it as interface under [uplink]; if not, take its default route away.", v.elsewhere)
	case !v.routed():
		return "no default route", fmt.Sprintf("The router has given an address but no way out, or the fixed settings have no gateway. Run: networkctl status %s.", name)
	}
	return "", ""
}
