package dhcp

import "fmt"

// What to do about a network's trouble.
const (
	doInterface = "Is the radio or the network adapter plugged in? Run: ip link. If its name has changed, correct interface in the configuration and run: systemctl restart chargegate-prepare."
	doCarrier   = "Is the cable plugged in at both ends, and does the access point have power?"
	doRadio     = "Look why the access point of this network does not run: systemctl status chargegate-ap@%s."
	doAddress   = "Look whether something else manages the interface, as NetworkManager does: ip address; networkctl. Then run: systemctl restart chargegate-prepare."
	doRival     = "One of the two boxes must go: unplug one from this network, or make their networks separate ones."
	doRogue     = "Find the device by its MAC address, mostly a router or an access point, and switch its DHCP server off."
)

// Trouble says what is wrong with a network as a whole and what to do about it,
// the first thing of several; empty: nothing is.
func (s *Server) Trouble(network string) (problem, do string) {
	for _, l := range s.links {
		if l.Name == network {
			return l.trouble()
		}
	}
	return "", ""
}

func (l *link) trouble() (problem, do string) {
	switch {
	case l.current() == nil:
		return fmt.Sprintf("there is no interface %s, so nobody on it is served", l.Interface), doInterface
	case l.dark.Load() && l.OwnRadio:
		return fmt.Sprintf("the radio %s is not on the air, so nobody on it is reached", l.Interface), fmt.Sprintf(doRadio, l.Name)
	case l.dark.Load():
		return fmt.Sprintf("%s has no carrier, so nobody on it is reached", l.Interface), doCarrier
	case l.bare.Load():
		return fmt.Sprintf("%s does not have the gateway's address %s, so nobody on it is given one", l.Interface, l.Gateway.Addr()), doAddress
	}
	if other, down := l.place.down(); down {
		return fmt.Sprintf("another chargegate at %s (%s) gives addresses, so this one does not", other.server, other.mac), doRival
	}
	switch k, n := l.rogues.first(); {
	case n > 1:
		return fmt.Sprintf("other DHCP servers give addresses: %s (%s) and %d more", k.server, k.mac, n-1), doRogue
	case n == 1:
		return fmt.Sprintf("another DHCP server gives addresses: %s (%s)", k.server, k.mac), doRogue
	}
	return "", ""
}
