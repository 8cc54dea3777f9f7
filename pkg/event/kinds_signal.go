package event

// What is said of signals. Every one is the uplink's: how well this box hears the
// charger (Z-4).
var (
	ChargerSignalWeak = &Kind{
		ID: "charger-signal-weak", Level: Warning,
		Text:    "{CHARGER} is heard weakly: {SIGNAL} dBm, and Zaptec asks for better than {MINIMUM} dBm; it counts as heard well again from {BETTER} dBm on",
		Explain: "Zaptec asks for better than -75 dBm (Z-4); weak is -74 dBm and below. The median of the last five minutes has been that for ten minutes; lines and times can be set, in [signal]. A signal counts as better again when it has risen 3 dB above its line, so that one which wanders is not said again and again. What is measured is the uplink: how well this box hears the charger. The charger may hear this box better or worse.",
		Advice:  "Look at what stands between the charger and the antenna; move the access point nearer or plan another one before it gets worse.",
	}
	ChargerSignalBelowMinimum = &Kind{
		ID: "charger-signal-below-minimum", Level: Error,
		Text:    "{CHARGER} is heard below Zaptec's minimum: {SIGNAL} dBm, and Zaptec asks for better than {MINIMUM} dBm; it counts as above it from {BETTER} dBm on",
		Explain: "Zaptec asks for better than -75 dBm (Z-4). The median of the last five minutes has missed that for five minutes; line and times can be set, in [signal]. A signal counts as above the line again when it has risen 3 dB above it. The charger may still work, with retries; it will be the first to lose the cloud. What is measured is the uplink: how well this box hears the charger.",
		Advice:  "Bring an access point nearer to this parking space, or give the charger another means of communication.",
	}
	ChargerSignalCritical = &Kind{
		ID: "charger-signal-critical", Level: Error,
		Text:    "{CHARGER} is hardly heard at all: {SIGNAL} dBm, and Zaptec asks for better than {MINIMUM} dBm",
		Explain: "The median of the last five minutes is so low that most frames are lost. Weak distant stations can also halt the firmware of the Raspberry Pi's own radio for everybody. What is measured is the uplink: how well this box hears the charger.",
		Advice:  "Bring an access point nearer to this parking space now; until then expect this charger to come and go.",
	}
	ChargerSignalImproved = &Kind{
		ID: "charger-signal-improved", Level: Info,
		Text:    "{CHARGER} is heard better, though not well: {SIGNAL} dBm ({GRADE})",
		Explain: "The median of the last five minutes has risen at least 3 dB above the line that it had fallen below, but not above all of them. What has become better is said at once.",
	}
	ChargerSignalRecovered = &Kind{
		ID: "charger-signal-recovered", Level: Info,
		Text:    "{CHARGER} is heard well again: {SIGNAL} dBm",
		Explain: "The median of the last five minutes has risen at least 3 dB above the first line, warn of [signal]. What has become better is said at once.",
	}
	RadioSignalUnknown = &Kind{
		ID: "radio-signal-unknown", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} does not say how well it hears anybody",
		Explain: "For a whole window ([signal], five minutes when left out) no station had a signal. Some drivers, the Raspberry Pi's own among them, report none as access point (F-11). Everything else works; only the signal of this network's chargers stays unknown, and Zaptec's minimum (Z-4) cannot be checked from here.",
		Advice:  "Check each charger's signal in Zaptec's portal instead (it shows the other direction), or use a USB adapter whose driver reports it.",
	}
	ChargerSignalFalling = &Kind{
		ID: "charger-signal-falling", Level: Warning,
		Text:    "{CHARGER} is heard worse from day to day, falling: {FROM} -> {SIGNAL} dBm in {DAYS} days",
		Explain: "A line through the medians of the days has come down by 6 dB or more, and by much more than the days differ from each other. That is no car that is parked in the way, which comes and goes: something was put up or moved, water has got in, or an antenna or its cable comes loose. It is looked for once a day, and said again when it has come down by 6 dB more. What is measured is the uplink: how well this box hears the charger.",
		Advice:  "Run: sudo chargegate charger {CHARGER}, and look when it began. Look at what has changed between the charger and the antenna; if other chargers of this radio fall as well, look at the antenna, its cable and its plug.",
	}
	ChargerInterference = &Kind{
		ID: "charger-interference", Level: Warning,
		Text:    "{CHARGER} is heard well ({SIGNAL} dBm), but of what was sent to it {RESENT} % had to be sent again: the channel is disturbed",
		Explain: "In the last ten minutes at least two of five tries to reach the charger were not the first. At this signal that is not for want of strength: somebody else is on the channel, or something that is no Wi-Fi at all. LOST is how many frames were given up. An access point that stands nearer would not help. It is said once until it is over.",
		Advice:  "Look for a better channel when the chargers can be without Wi-Fi for about half a minute, two at most: sudo chargegate survey -network {NETWORK} -interrupt. It says what to do with what it finds. If it is one charger only, look for what is near it: a camera, a wireless video link, a microwave oven, a charger for bicycles.",
		Every:   hour,
	}
	ChargerInterferenceOver = &Kind{
		ID: "charger-interference-over", Level: Info,
		Text:    "of what is sent to {CHARGER}, an ordinary share has to be sent again: {RESENT} %",
		Explain: "What charger-interference spoke of is over: in the last ten minutes less than a quarter of the tries were not the first.",
		Every:   hour,
	}
	ChargerInterferenceUntold = &Kind{
		ID: "charger-interference-untold", Level: Info,
		Text:    "whether the channel of {CHARGER} is still disturbed cannot be told, because it is heard worse now: {SIGNAL} dBm",
		Explain: "What charger-interference spoke of may last or not. At this signal frames have to be sent again for want of strength, which says nothing of the channel. It is looked at again when the charger is heard well.",
		Every:   hour,
	}
	SignalUnread = &Kind{
		ID: "signal-unread", Level: Warning,
		Text:    "the history of signals in {FILE} cannot be used to its end: {ERROR}",
		Explain: "What stood before the damage is kept, and the rest of the history is missing from the pages; nothing else depends on it. Where the end was missing, as after a power cut in the middle of a write, it was cut off and that hour is lost. Otherwise the file was set aside as ASIDE, for whoever wants to know what happened to it, and a new one was begun.",
		Advice:  "After a single power cut nothing needs to be done. If it comes back, the card is wearing out: replace it.",
	}
	SignalUnwritten = &Kind{
		ID: "signal-unwritten", Level: Error,
		Text:    "the history of signals cannot be written to {FILE}: {ERROR}",
		Explain: "Signals are judged and remembered in memory; a restart would lose what was heard since the last time they were written. It is tried again every hour. This is said once until it works again.",
		Advice:  "Is the disk full, or read-only? Run: df -h and sudo dmesg | tail.",
	}
	SignalWritten = &Kind{
		ID: "signal-written", Level: Info,
		Text:    "the history of signals is written again to {FILE}",
		Explain: "What signal-unwritten spoke of is over; nothing that was heard is missing.",
	}
)

var signalKinds = []*Kind{
	ChargerSignalWeak, ChargerSignalBelowMinimum, ChargerSignalCritical, ChargerSignalImproved, ChargerSignalRecovered,
	RadioSignalUnknown, ChargerSignalFalling, ChargerInterference, ChargerInterferenceOver, ChargerInterferenceUntold, SignalUnread, SignalUnwritten, SignalWritten,
}
