package event

// What the denied room says.
var (
	DeniedRefused = &Kind{
		ID: "denied-refused", Level: Info,
		Text:    "{CHARGER} was refused {WHAT}: only the allowed names on their ports may be reached",
		Explain: "A packet of the charger met the firewall, which refused it at once (a reset for TCP, an ICMP message otherwise). Names and the time are always answered by this box, wherever they are asked for, so they never show up here.",
		Advice:  "If the charger needs it, it is a TCP port of a server with a name: add both under [[egress.allow]]. If not, nothing needs doing unless it goes on; then find out what this device is.",
		Every:   hour, Per: []string{"DST", "PROTO", "PORT"},
	}
	DeniedDirect = &Kind{
		ID: "denied-direct", Level: Warning,
		Text:    "{CHARGER} was refused the proxy's own port ({WHAT})",
		Explain: "Somebody called the proxy itself instead of a server behind it. No charger does that. The firewall reset the connection.",
		Advice:  "Find out what this device is: it looks at the network it is in.",
		Every:   hour,
	}
	DeniedSpoofed = &Kind{
		ID: "denied-spoofed", Level: Warning,
		Text:    "{CHARGER} was refused {WHAT}: it came from {SRC}, which no charger of this network can have",
		Explain: "The packet carries a source address outside the network's subnet, or the gateway's own. The firewall dropped it. A device with a fixed or an old address does that, and one that pretends to be another.",
		Advice:  "Set the charger to DHCP and switch its power off and on. An address that begins with 169.254 says that it got none.",
		Every:   hour, Per: []string{"SRC"},
	}
	DeniedNoise = &Kind{
		ID: "denied-noise", Level: Debug,
		Text:    "{CHARGER} sent {WHAT}, which nobody here listens to",
		Explain: "Announcements to everybody (multicast, broadcast, IPv6 neighbour discovery) and fragments of packets. They are normal and lead nowhere.",
		Every:   day, Per: []string{"DST", "PROTO", "PORT"},
	}
	DeniedManyRefusals = &Kind{
		ID: "denied-many-refusals", Level: Warning,
		Text:    "{CHARGER} was refused {COUNT} different things within an hour; more are counted, not written, until the hour is over",
		Explain: "A device that tries more than a healthy charger ever would, such as one port after the other. The log is kept readable for the others.",
		Advice:  "Find out what this device is: it tries what is open.",
	}
	DeniedManyDevices = &Kind{
		ID: "denied-many-devices", Level: Warning,
		Text:    "more than {COUNT} devices that nobody knows were refused something within an hour, lastly in {NETWORK}; more are counted, not written, until the hour is over",
		Explain: "Addresses of devices (MAC) are easy to make up: most likely it is one device that writes ever new ones on its packets. All of it is refused. The chargers of the inventory are written about as ever.",
		Advice:  "Find the device that makes them up: change the network's password if it is not a charger.",
		Every:   hour,
	}
	DeniedUplink = &Kind{
		ID: "denied-uplink", Level: Info,
		Text:    "{SRC} was refused {WHAT} on the uplink {INTERFACE}",
		Explain: "Somebody on the side of the Internet called this box, where nothing listens but what [uplink] allow names. It was refused. Where the uplink has a public address this never ends and means nothing.",
		Every:   hour, Per: []string{"SRC"},
	}
	DeniedWaiting = &Kind{
		ID: "denied-waiting", Level: Info,
		Text:    "what is refused on {INTERFACE} cannot be seen yet: {ERROR}",
		Explain: "The interface is not there or not up. The firewall refuses all the same; only the lines about it are missing until the interface comes. The room looks for it every second.",
		Every:   minute, Per: []string{"INTERFACE"},
	}
	DeniedWatching = &Kind{
		ID: "denied-watching", Level: Info,
		Text:    "what is refused on {INTERFACE} is seen again",
		Explain: "The interface that was missing is there.",
		Every:   minute, Per: []string{"INTERFACE"},
	}
	DeniedFlood = &Kind{
		ID: "denied-flood", Level: Warning,
		Text:    "more packets are refused on {INTERFACE} than are looked at ({RATE} a second); the rest is only counted",
		Explain: "So that a flood of refused packets costs no more than a little of the processor, only so many are looked at. The firewall refuses every one of them.",
		Advice:  "Look at the other denied lines of this minute for who it is, and take that device off the network.",
		Every:   hour, Per: []string{"INTERFACE"},
	}
)

var deniedKinds = []*Kind{
	DeniedRefused, DeniedDirect, DeniedSpoofed, DeniedNoise, DeniedManyRefusals, DeniedManyDevices,
	DeniedUplink, DeniedWaiting, DeniedWatching, DeniedFlood,
}
