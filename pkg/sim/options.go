package sim

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Options size a garage.
type Options struct {
	// Bin is the directory of chargegated and chargegate.
	Bin string
	// Networks are the charger networks and how many chargers each has; at least
	// one.
	Networks []Network
	// Guests are devices that the inventory names and that are moved by real
	// programs or by a test instead of simulated firmware.
	Guests []Guest
	// Habits are how the chargers behave.
	Habits Habits
	// LogLevel is the daemon's; empty: info.
	LogLevel string
	// Lease is the lease that the daemon gives, as the configuration writes it;
	// empty: the daemon's own choice.
	Lease string
	// Upstreams are the DNS servers that the daemon asks, as the configuration
	// writes them; nil: the cloud's first resolver.
	Upstreams []string
	// Allow are the names, and patterns, that chargers may reach on port 443 besides
	// Zaptec's; nil: Big.
	Allow []string
	// Plain are the names that chargers may reach without TLS, on OCPPPort and OCPPTLSPort.
	Plain []string
	// NameRate is how many questions a second each device may ask, as the
	// configuration has it; 0: the daemon's own choice.
	NameRate int
	// TimeRate is how many requests for the time a second each device may make; 0:
	// the daemon's own choice.
	TimeRate int
	// Progress is told what is being made, line by line; nil: nobody.
	Progress io.Writer
}

// A Network is one charger network of the garage.
type Network struct {
	Name     string // like P1; the interface is called the same in small letters
	Chargers int
	// Listed are more chargers in the inventory, which nobody simulates: their MACs
	// follow those of the chargers, for whoever speaks in their names.
	Listed int
	// Relays are the addresses of relay agents that the daemon believes.
	Relays []string
}

// A Guest is a device in the inventory.
type Guest struct{ Name, Network string }

// ifaceOf is what a network's interface is called on both ends of its wire.
func ifaceOf(network string) string { return "garage-" + strings.ToLower(network) }

func (o Options) say(format string, args ...any) {
	if o.Progress != nil {
		fmt.Fprintf(o.Progress, format+"\n", args...)
	}
}

// chargerName is what the charger in a parking space is called: P1-07.
func chargerName(network string, i int) string { return fmt.Sprintf("%s-%02d", network, i+1) }

// chargerMAC is the hardware address of a charger, from one of Zaptec's blocks
// as if all came from one production lot.
func chargerMAC(network, i int) [6]byte {
	return [6]byte{0x60, 0x15, 0x92, 0x40 | byte(network), byte(i >> 8), byte(i)}
}

// MAC is the hardware address of the charger in a network's parking space i, from
// 0 on, simulated or only listed.
func (o Options) MAC(network string, i int) [6]byte {
	n := slices.IndexFunc(o.Networks, func(each Network) bool { return each.Name == network })
	return chargerMAC(n, i)
}

// guestMAC is the hardware address of a guest, from Zaptec's other block.
func guestMAC(i int) [6]byte { return [6]byte{0x3c, 0xdc, 0x03, 0x10, byte(i >> 8), byte(i)} }

func hw(mac [6]byte) string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])
}

// serial is the charger's: ZAP and six digits, as on a Zaptec Go.
func serial(network, i int) string { return fmt.Sprintf("ZAP%06d", (network+1)*10000+i+1) }

// inventory is the garage's chargers.csv.
func inventory(o Options) string {
	var b strings.Builder
	b.WriteString("mac,name,serial,model,network\n")
	for n, network := range o.Networks {
		for i := range network.Chargers + network.Listed {
			fmt.Fprintf(&b, "%s,%s,%s,Go,%s\n", hw(chargerMAC(n, i)), chargerName(network.Name, i), serial(n, i), network.Name)
		}
	}
	for i, guest := range o.Guests {
		fmt.Fprintf(&b, "%s,%s,,,%s\n", hw(guestMAC(i)), guest.Name, guest.Network)
	}
	return b.String()
}

// configuration is the garage's chargegate.toml.
func configuration(o Options) string {
	var b strings.Builder
	b.WriteString("[site]\nname = \"A garage\"\ninventory = \"chargers.csv\"\n")
	for _, network := range o.Networks {
		n := network.Chargers + network.Listed
		for _, guest := range o.Guests {
			if guest.Network == network.Name {
				n++
			}
		}
		fmt.Fprintf(&b, "\n[[network]]\nname = %q\ninterface = %q\nchargers = %d\naddress = \"auto\"\n", network.Name, ifaceOf(network.Name), min(max(n, 1), 1000))
		if len(network.Relays) > 0 {
			fmt.Fprintf(&b, "relays = [\"%s\"]\n", strings.Join(network.Relays, `", "`))
		}
	}
	fmt.Fprintf(&b, "\n[uplink]\ninterface = %q\n", uplink)
	if o.Lease != "" {
		fmt.Fprintf(&b, "\n[dhcp]\nlease = %q\n", o.Lease)
	}
	upstreams := o.Upstreams
	if upstreams == nil {
		upstreams = []string{ResolverAddr}
	}
	fmt.Fprintf(&b, "\n[dns]\nupstreams = [\"%s\"]\n", strings.Join(upstreams, `", "`))
	if o.NameRate > 0 {
		fmt.Fprintf(&b, "rate = %d\n", o.NameRate)
	}
	if o.TimeRate > 0 {
		fmt.Fprintf(&b, "\n[ntp]\nrate = %d\n", o.TimeRate)
	}
	allow := o.Allow
	if allow == nil {
		allow = []string{Big}
	}
	for _, name := range allow {
		fmt.Fprintf(&b, "\n[[egress.allow]]\nname = %q\nports = [443]\nreason = \"to try it\"\n", name)
	}
	for _, name := range o.Plain {
		fmt.Fprintf(&b, "\n[[egress.allow]]\nname = %q\nports = [%d, %d]\nplain = true\nreason = \"to try it without TLS\"\n", name, OCPPPort, OCPPTLSPort)
	}
	level := o.LogLevel
	if level == "" {
		level = "info"
	}
	fmt.Fprintf(&b, "\n[log]\nlevel = %q\nformat = \"json\"\n", level)
	return b.String()
}
