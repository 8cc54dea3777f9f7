package event

// What the uplink room says.
var (
	UplinkLost = &Kind{
		ID: "uplink-lost", Level: Error,
		Text:    "the uplink {INTERFACE} is down: {MISSING}",
		Explain: "For five seconds something has been missing on the interface towards the Internet: the interface itself, the cable, an address, or a default route. Chargers keep their addresses and their Wi-Fi, but none of them reaches the cloud. It is said again when something else is missing than before.",
		Advice:  "{DO}",
	}
	UplinkRestored = &Kind{
		ID: "uplink-restored", Level: Info,
		Text:    "the uplink {INTERFACE} is up again after {AFTER}, with the address {ADDRESS}",
		Explain: "For five seconds the interface towards the Internet has had a link, an address and a default route. Chargers call the cloud again by themselves, within four minutes.",
	}
	UplinkUnreadable = &Kind{
		ID: "uplink-unreadable", Level: Warning,
		Text:    "the uplink {INTERFACE} cannot be looked at: {ERROR}",
		Explain: "The kernel did not tell how the interface towards the Internet is. Chargers are served all the same; only the news of the uplink are missing. It is asked again every two seconds.",
		Advice:  "Compare RestrictAddressFamilies= of the unit with the one that came with this version: it must name AF_NETLINK.",
		Every:   hour,
	}
)

var uplinkKinds = []*Kind{UplinkLost, UplinkRestored, UplinkUnreadable}
