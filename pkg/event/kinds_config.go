package event

// What the config room says.
var (
	ConfigFault = &Kind{
		ID: "config-fault", Level: Error,
		Text:    "{WHERE}: {FAULT}",
		Explain: "The configuration cannot be used as it stands. Each fault is a line of its own, with the line and the column in the file.",
		Advice:  "Mend the line, then run: sudo chargegated -check. It names every fault at once.",
	}
	ConfigAddressChosen = &Kind{
		ID: "config-address-chosen", Level: Info,
		Text:    "network {NETWORK} on {INTERFACE} has the address {ADDRESS}, which was chosen",
		Explain: "The configuration says address = \"auto\": the first private subnet that is large enough and overlaps neither another network nor the uplink. The same file on the same uplink gives the same address.",
	}
	ConfigChannelBetween = &Kind{
		ID: "config-channel-between", Level: Warning,
		Text:    "network {NETWORK} works on channel {CHANNEL}, which overlaps its neighbours",
		Explain: "In the 2.4 GHz band only the channels 1, 6 and 11 do not disturb each other. A radio between them hears, and is heard by, two of them.",
		Advice:  "Choose 1, 6 or 11, whichever is used least in the garage, and set it in the configuration.",
	}
	ConfigRadioTooSmall = &Kind{
		ID: "config-radio-too-small", Level: Warning,
		Text:    "network {NETWORK} is planned for {CHARGERS} chargers, but its radio holds {STATIONS}",
		Explain: "A radio refuses stations beyond what its firmware holds. Some chargers will find no Wi-Fi, and not always the same ones.",
		Advice:  "Add a radio with a network of its own, or put an external access point on a wired network. If the radio does hold more, correct max_stations.",
	}
	ConfigSharedNameForced = &Kind{
		ID: "config-shared-name-forced", Level: Warning,
		Text:    "everything below {NAME} may be reached, because the configuration insists on it",
		Explain: "Anybody can rent a name below this one, so the rule lets a charger, or whoever poses as one, reach servers of anybody's.",
		Advice:  "Replace the pattern by the full names that the chargers need, and remove force = true.",
	}
)

var configKinds = []*Kind{ConfigFault, ConfigAddressChosen, ConfigChannelBetween, ConfigRadioTooSmall, ConfigSharedNameForced}
