package event

// What chargegate-revive says. It is a service of its own, so the noticeboard does not
// know these; they stand in the journal with the daemon's.
var (
	ReviveWatching = &Kind{
		ID: "revive-watching", Level: Info,
		Text:    "watching over the radio {INTERFACE} of {NETWORK}; what may be done for it goes as far as: {REACH}",
		Explain: "The configuration has revive for this radio. It counts as dead when hostapd does not serve for a minute, when the kernel's log says that its firmware has stopped and the driver has not started it again after twenty seconds, or when for five minutes its driver, that did before, does not say who is on it and nobody is heard on the network. It may be dead, too, when at least three chargers were there and for ten minutes nobody is: for that alone the box is never restarted. Then, one after the other and each only if the one before has not helped: restart hostapd; have the driver begin anew; restart the box. REACH is the last of these that is allowed. Nothing is done within three minutes of a boot, while chargegated is not running, or while somebody has stopped the radio's unit.",
	}
	ReviveNeeded = &Kind{
		ID: "revive-needed", Level: Warning,
		Text:    "the radio {INTERFACE} of {NETWORK} is dead: {SIGN}",
		Explain: "Chargers of this network have no Wi-Fi. SIGN says what showed it. What is done about it stands in the lines that follow.",
		Advice:  "If it comes often: look at the power supply of the box, at chargers that are heard very weakly (they can halt the firmware of the Raspberry Pi's own radio), and think of a USB adapter or an external access point.",
		Every:   hour,
	}
	ReviveDeserted = &Kind{
		ID: "revive-deserted", Level: Warning,
		Text:    "everybody has left the radio {INTERFACE} of {NETWORK}, though it seems to work ({SIGN}): were the chargers switched off?",
		Explain: "Everything about the radio seems to be well. Either the chargers have no supply, or the radio's firmware has stopped without a word. So hostapd is restarted and then the driver, as far as revive allows, while there is nobody whom that disturbs. The box is not restarted for this.",
		Advice:  "Nothing, if the chargers' supply was switched off, at the breaker, by a contactor or with the tariff: they come back with it, and after three times in a row something is done about it only once a week. If they have supply, read what follows.",
	}
	ReviveLeft = &Kind{
		ID: "revive-left", Level: Info,
		Text:    "nobody has come back to the radio {INTERFACE} of {NETWORK}; it is left as it is until somebody does",
		Explain: "What revive-deserted announced was done, as far as it is allowed, and brought nobody back. So it is probably the chargers that are off. Signs that the radio is dead for sure are looked for all the time.",
		Advice:  "Do the chargers have supply? If they do, and this box lists none of them: sudo systemctl reboot.",
	}
	ReviveLulled = &Kind{
		ID: "revive-lulled", Level: Info,
		Text:    "that everybody leaves the radio {INTERFACE} of {NETWORK} at once is no sign of a dead radio any more: {COUNT} times in a row they came back by themselves",
		Explain: "The chargers' supply is probably switched, every night perhaps. If it comes again, something is done about it once in {WITHIN}, in case it is the radio after all. The other signs of a dead radio are not touched by this.",
	}
	ReviveRestart = &Kind{
		ID: "revive-restart", Level: Warning,
		Text:    "hostapd of {NETWORK} is restarted (number {COUNT} so far)",
		Explain: "The first step for a dead radio: chargegate-radio@ of this network is restarted. Chargers that still were on it connect again within seconds. It has two minutes to help, or ten where chargers are missed. There are at most 6 in an hour and 24 in a day for each radio.",
		Advice:  "Nothing, if revive-helped follows and it stays rare.",
	}
	ReviveDriver = &Kind{
		ID: "revive-driver", Level: Warning,
		Text:    "the driver of the radio {INTERFACE} of {NETWORK} is started anew (number {COUNT} so far): {DEVICE}",
		Explain: "The second step for a dead radio: its device is taken from the driver and given back, which loads the firmware again; then hostapd is restarted. It has two minutes to help, or ten where chargers are missed. There are at most 2 in an hour and 8 in a day for each radio.",
		Advice:  "Nothing, if revive-helped follows and it stays rare.",
	}
	ReviveReboot = &Kind{
		ID: "revive-reboot", Level: Error,
		Text:    "the box restarts to bring the radio {INTERFACE} of {NETWORK} back (number {COUNT} so far)",
		Explain: "The last step for a dead radio, because neither hostapd nor the driver could bring it back. All networks of this box are without service for the time of a boot. There is at most one in an hour and three in a day, counted over reboots and by the time the box runs, and none after three in a row that did not bring the radio back (until it has been back: with somebody on it for two minutes, or for a day without). Nor is there one only because nobody is on the radio.",
		Advice:  "A radio that needs this more than once a month should be replaced: use a USB adapter or an external access point.",
	}
	ReviveHelped = &Kind{
		ID: "revive-helped", Level: Info,
		Text:    "the radio {INTERFACE} of {NETWORK} serves again after {TOOK}: {BY} helped",
		Explain: "What revive-needed or revive-deserted spoke of is over.",
	}
	ReviveRecovered = &Kind{
		ID: "revive-recovered", Level: Info,
		Text:    "the radio {INTERFACE} of {NETWORK} is well again after {TOOK}, by itself or by somebody's hand",
		Explain: "What revive-needed or revive-deserted spoke of is over, and nothing that was done here brought it about: the radio serves, or, where everybody had left, somebody has come back.",
		Every:   hour,
	}
	ReviveRebooted = &Kind{
		ID: "revive-rebooted", Level: Warning,
		Text:    "the box was restarted for the radio {INTERFACE} of {NETWORK} (number {COUNT} so far), because {SIGN}",
		Explain: "What revive-needed and revive-reboot said in the boot before this one, once more: the log is kept in memory and has begun anew. Neither a restart of hostapd nor one of the driver had helped. What came of it stands in the lines that follow.",
		Advice:  "A radio that needs this more than once a month should be replaced: use a USB adapter or an external access point.",
	}
	ReviveRebootHelped = &Kind{
		ID: "revive-reboot-helped", Level: Info,
		Text:    "the radio {INTERFACE} of {NETWORK} serves again since the box was restarted for it",
		Explain: "The reboot that revive-reboot announced in the boot before this one has brought the radio back.",
	}
	ReviveSpent = &Kind{
		ID: "revive-spent", Level: Error,
		Text:    "nothing more may be done for the radio {INTERFACE} of {NETWORK}: {WHY}",
		Explain: "The radio is still dead. This is said once. Every hour it is begun anew with the first step, as far as the limits allow; when the radio serves again by whatever means, that is said.",
		Advice:  "Go there. Run: sudo dmesg | tail -50, and sudo systemctl status chargegate-radio@{NETWORK}. Pull the plug of the box for ten seconds; if that does not help either, replace the adapter.",
		Every:   hour,
	}
	ReviveStepFailed = &Kind{
		ID: "revive-step-failed", Level: Warning,
		Text:    "what should bring the radio {INTERFACE} of {NETWORK} back could not be done ({STEP}): {ERROR}",
		Explain: "The step counts all the same, except where there is no driver to start anew; the next one is taken without waiting.",
		Advice:  "If it says virtual or that no driver holds the device, leave out the driver for this radio: revive = \"restart\". Else read the lines of the driver: sudo dmesg | tail -50.",
		Every:   hour, Per: []string{"STEP", "ERROR"},
	}
	ReviveBlind = &Kind{
		ID: "revive-blind", Level: Warning,
		Text:    "dead radios may be noticed later or not at all, because {WHAT} cannot be asked: {ERROR}",
		Explain: "One of the places where signs of a dead radio show, or who says whether anything may be done, does not answer. As long as it is unclear whether something may be done, nothing is done. It is tried again all the time.",
		Advice:  "Run: sudo systemctl status chargegated chargegate-revive. The kernel's log is read from /dev/kmsg, which needs the unit as it was delivered.",
		Every:   hour, Per: []string{"WHAT"},
	}
	ReviveRecordUnread = &Kind{
		ID: "revive-record-unread", Level: Warning,
		Text:    "what was done for dead radios is not known any more: {FILE} cannot be used: {ERROR}",
		Explain: "So that the limits surely hold, it counts as if the box had just been restarted three times: there is no reboot for a day of service. Everything else goes on. A damaged file was set aside beside its place, for whoever wants to know what happened to it.",
		Advice:  "After a single power cut nothing needs to be done. If it comes back, the card is wearing out: replace it.",
	}
	ReviveRecordUnwritten = &Kind{
		ID: "revive-record-unwritten", Level: Error,
		Text:    "what is done for dead radios cannot be written to {FILE}: {ERROR}",
		Explain: "A reboot that is forgotten would not be limited, so there is none as long as this lasts. The other steps go on, and are counted in memory.",
		Advice:  "Is the disk full, or read-only? Run: df -h and sudo dmesg | tail.",
		Every:   hour,
	}
)

var reviveKinds = []*Kind{
	ReviveWatching, ReviveNeeded, ReviveDeserted, ReviveLeft, ReviveLulled, ReviveRestart, ReviveDriver, ReviveReboot, ReviveHelped, ReviveRecovered, ReviveRebooted, ReviveRebootHelped,
	ReviveSpent, ReviveStepFailed, ReviveBlind, ReviveRecordUnread, ReviveRecordUnwritten,
}
