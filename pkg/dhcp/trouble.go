package dhcp

import (
	"fmt"
	"strings"
	"time"
)

// What to do about a network's trouble.
const (
	doInterface = "Is the radio or the network adapter plugged in? Run: ip link. If its name has changed, correct interface in the configuration and run: sudo systemctl restart chargegate-prepare."
	doCarrier   = "Is the cable plugged in at both ends, and does the access point have power?"
	doOff       = "Run: sudo systemctl restart chargegate-prepare. If it is switched off again, something else manages it: networkctl; nmcli device."
	doImpostor  = "Find the device with that MAC address and take it off the network. If it is a router or a second chargegate box, one of the two needs another address."
	doRadio     = "Look why the access point of this network does not run: sudo systemctl status chargegate-radio@%s."
	doAddress   = "Look whether something else manages the interface, as NetworkManager does: ip address; networkctl. Then run: sudo systemctl restart chargegate-prepare."
	doRival     = "One of the two boxes must go: unplug one from this network, or make their networks separate ones."
	doRogue     = "Find the device with that MAC address, mostly a router or an access point, and switch its DHCP server off. Then switch off and on the power of the chargers that stay away."
)

// claimed is how long a claim of the gateway's address stays a trouble: whoever
// has an address announces it now and then.
const claimed = 10 * time.Minute

// named is how many other servers are named.
const named = 3

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
	case l.dark.Load() && l.off.Load() && !l.OwnRadio:
		return fmt.Sprintf("%s is switched off, so nobody on it is reached", l.Interface), doOff
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
	if i := l.impostor.Load(); i != nil && time.Since(i.at) < claimed {
		return fmt.Sprintf("%s says that it has the gateway's own address %s, so chargers may lose the cloud", i.mac, l.Gateway.Addr()), doImpostor
	}
	var others []string
	known := l.rogues.known()
	for _, k := range known[:min(len(known), named)] {
		others = append(others, fmt.Sprintf("%s (%s)", k.server, k.mac))
	}
	switch more := len(known) - len(others); {
	case len(known) == 0:
		return "", ""
	case len(known) == 1:
		return "another DHCP server gives addresses: " + others[0], doRogue
	case more > 0:
		others = append(others, fmt.Sprintf("and %d more", more))
	}
	return "other DHCP servers give addresses: " + strings.Join(others, ", "), doRogue
}
