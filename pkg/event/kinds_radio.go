package event

// What the radio room says. Every signal here is the uplink's: how well this
// box hears the charger (Z-4).
var (
	ChargerSignalWeak = &Kind{
		ID: "charger-signal-weak", Level: Warning,
		Text:    "{CHARGER} is heard weakly: {SIGNAL} dBm, and Zaptec asks for {MINIMUM} dBm or better",
		Explain: "The median of the last five minutes has come down to the edge of what Zaptec asks for (Z-4). What is measured is the uplink: how well this box hears the charger. The charger may hear this box better or worse.",
		Advice:  "Look at what stands between the charger and the antenna; move the access point nearer or plan another one before it gets worse.",
	}
	ChargerSignalBelowMinimum = &Kind{
		ID: "charger-signal-below-minimum", Level: Error,
		Text:    "{CHARGER} is heard below Zaptec's minimum: {SIGNAL} dBm, and {MINIMUM} dBm is already too little",
		Explain: "The median of the last five minutes is worse than Zaptec allows (Z-4). It may still work, with retries; it will be the first to lose the cloud. What is measured is the uplink: how well this box hears the charger.",
		Advice:  "Bring an access point nearer to this parking space, or give the charger another means of communication.",
	}
	ChargerSignalCritical = &Kind{
		ID: "charger-signal-critical", Level: Error,
		Text:    "{CHARGER} is hardly heard at all: {SIGNAL} dBm",
		Explain: "At this level most frames are lost. Weak distant stations can also halt the firmware of the Raspberry Pi's own radio for everybody. What is measured is the uplink: how well this box hears the charger.",
		Advice:  "Bring an access point nearer to this parking space now; until then expect this charger to come and go.",
	}
	ChargerSignalImproved = &Kind{
		ID: "charger-signal-improved", Level: Info,
		Text:    "{CHARGER} is heard better, though not well: {SIGNAL} dBm ({GRADE})",
		Explain: "The median of the last five minutes has risen by more than 3 dB above the threshold that it had fallen below, but not above all of them.",
	}
	ChargerSignalRecovered = &Kind{
		ID: "charger-signal-recovered", Level: Info,
		Text:    "{CHARGER} is heard well again: {SIGNAL} dBm",
		Explain: "The median of the last five minutes has risen at least 3 dB above the first threshold.",
	}
	ChargerJoined = &Kind{
		ID: "charger-joined", Level: Info,
		Text:    "{CHARGER} has joined the Wi-Fi of {NETWORK} (signal in dBm: {SIGNAL})",
		Explain: "The radio lists a station that it did not list before. Next it asks for an address.",
		Every:   minute,
	}
	ChargerLeft = &Kind{
		ID: "charger-left", Level: Info,
		Text:    "{CHARGER} has left the Wi-Fi of {NETWORK} after {CONNECTED}",
		Explain: "The radio no longer lists the station, or has not heard it for ten minutes. Chargers come back by themselves; all of them leaving within seconds means a power cut or an access point that stopped.",
		Every:   minute,
	}
	RadioUnsupported = &Kind{
		ID: "radio-unsupported", Level: Warning,
		Text:    "no radio can be watched: this kernel has no nl80211 ({ERROR})",
		Explain: "The configuration has networks with a radio, but the kernel offers no wireless interface at all. Nobody's signal can be measured, and hostapd cannot run either. It is tried again every few minutes without further words.",
		Advice:  "Is the Wi-Fi adapter plugged in and its driver loaded (lsmod, sudo dmesg)? If an external access point hangs on this network, remove its [network.radio] section.",
	}
	RadioMissing = &Kind{
		ID: "radio-interface-missing", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} is not there",
		Explain: "No wireless interface has this name. Chargers of this network have no Wi-Fi.",
		Advice:  "Is the adapter plugged in? The command iw dev lists the radios there are; write the right name as interface of this [[network]].",
	}
	RadioNotAccessPoint = &Kind{
		ID: "radio-not-access-point", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} is not an access point but: {TYPE}",
		Explain: "The interface is there, but nothing has made it an access point. hostapd does that, once the services of this box are ready. Chargers of this network have no Wi-Fi.",
		Advice:  "Run: sudo systemctl status chargegate-ap@{NETWORK}, and read the last lines of its log. Nothing else, like NetworkManager or wpa_supplicant, may use this interface.",
	}
	RadioFailed = &Kind{
		ID: "radio-failed", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} does not say who is on it: {ERROR}",
		Explain: "The driver refused or did not answer the question for its stations. What was known stays; it is asked again at the next round.",
		Advice:  "If it lasts, the firmware of the radio has probably stopped: run sudo dmesg, look for lines of the driver, and restart the box.",
		Every:   hour,
	}
	RadioWatched = &Kind{
		ID: "radio-watched", Level: Info,
		Text:    "the radio {INTERFACE} of {NETWORK} is an access point, with {STATIONS} stations",
		Explain: "The radio is there and can be asked who is on it.",
	}
	RadioSignalUnknown = &Kind{
		ID: "radio-signal-unknown", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} does not say how well it hears anybody",
		Explain: "For five minutes no station had a signal. Some drivers, the Raspberry Pi's own among them, report none as access point (F-11). Everything else works; only the signal of this network's chargers stays unknown, and Zaptec's minimum (Z-4) cannot be checked from here.",
		Advice:  "Check each charger's signal in Zaptec's portal instead (it shows the other direction), or use a USB adapter whose driver reports it.",
	}
	RadioNearlyFull = &Kind{
		ID: "radio-nearly-full", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} holds {STATIONS} stations of at most {LIMIT}",
		Explain: "Four fifths of what the radio can hold are taken (F-10). At the limit the next station is refused, on some radios without a word.",
		Advice:  "Plan another radio or an external access point before more chargers are installed here.",
	}
	RadioFull = &Kind{
		ID: "radio-full", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} is full: {STATIONS} stations of at most {LIMIT}",
		Explain: "The radio holds as many stations as max_stations allows (F-10). The next one cannot join.",
		Advice:  "Look for strangers on it (sudo chargegate chargers); if there are none, this network needs another radio or an external access point.",
	}
)

var radioKinds = []*Kind{
	ChargerSignalWeak, ChargerSignalBelowMinimum, ChargerSignalCritical, ChargerSignalImproved, ChargerSignalRecovered,
	ChargerJoined, ChargerLeft, RadioUnsupported, RadioMissing, RadioNotAccessPoint, RadioFailed, RadioWatched,
	RadioSignalUnknown, RadioNearlyFull, RadioFull,
}
