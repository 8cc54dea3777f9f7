package event

// What the ntprelay room says.
var (
	NTPSynchronised = &Kind{
		ID: "ntprelay-synchronised", Level: Info,
		Text:    "this box knows the time (stratum {STRATUM}, within {DISTANCE}) and gives it to chargers",
		Explain: "The clock is disciplined and its greatest possible error is below the limit. From now on chargers that ask for the time get it.",
	}
	NTPLost = &Kind{
		ID: "ntprelay-lost", Level: Warning,
		Text:    "this box no longer knows the time and gives none: {REASON}",
		Explain: "The greatest possible error of the clock has passed the limit, or nothing is known of it any more. A wrong time would lock chargers out of the portal (Z-11), so they get silence. Chargers that have the time keep it.",
		Advice:  "Run: chronyc sources. Where no source answers, check the uplink; where chronyc itself says that it cannot talk to the daemon, run: systemctl restart chrony. Time comes back by itself.",
	}
	NTPChronydUnreachable = &Kind{
		ID: "ntprelay-chronyd-unreachable", Level: Warning,
		Text:    "nobody tells how right the clock is: {ERROR}",
		Explain: "Whoever disciplines the clock (chronyd on its command port, or the kernel where the configuration says so) is asked whether it is right. There was no answer several times in a row, so no time is given.",
		Advice:  "Run: systemctl status chrony. Its configuration must keep cmdport 323 and bindcmdaddress 127.0.0.1.",
	}
	NTPChronydAnswers = &Kind{
		ID: "ntprelay-chronyd-answers", Level: Info,
		Text:    "it is known again how right the clock is",
		Explain: "After a time of silence chronyd, or the kernel, told how right the clock is.",
	}
	NTPAskedTooEarly = &Kind{
		ID: "ntprelay-asked-too-early", Level: Info,
		Text:    "{CHARGER} asked for the time, but this box does not know it yet: {REASON}",
		Explain: "A charger believes any time that it is told (F-4), so it is told nothing until the clock is known to be right. It asks again by itself.",
		Every:   10 * minute,
	}
	NTPClockSet = &Kind{
		ID: "ntprelay-clock-set", Level: Info,
		Text:    "the clock was set by {STEP}",
		Explain: "The clock was set while no time was being given, as happens after each start of a machine without a clock of its own (F-12).",
		Every:   minute,
	}
	NTPClockStepped = &Kind{
		ID: "ntprelay-clock-stepped", Level: Warning,
		Text:    "the clock jumped by {STEP} while the time was being given",
		Explain: "Somebody set the clock. No time is given until chronyd has confirmed the new one, so that no answer mixes two clocks.",
		Advice:  "One jump after a long outage is normal. If no time is given some minutes later, run: chronyc makestep. If it repeats, find out what sets the clock besides chronyd: systemd-timesyncd, a script, a person.",
		Every:   minute,
	}
	NTPAskedTooOften = &Kind{
		ID: "ntprelay-asked-too-often", Level: Warning,
		Text:    "{CHARGER} asks for the time more often than {RATE} times a second, and is not answered each time",
		Explain: "A charger asks once when it starts and again after hours. What comes faster than the limit, beyond a first burst of sixteen times that, is not answered; now and then the device is told so in NTP's own way (kiss-o'-death RATE).",
		Advice:  "If it is no charger, remove it from this network (Z-5). If it is one and it goes on, restart it. The limit is rate under [ntp].",
		Every:   hour,
	}
)

var ntprelayKinds = []*Kind{
	NTPSynchronised, NTPLost, NTPChronydUnreachable, NTPChronydAnswers, NTPAskedTooEarly, NTPClockSet, NTPClockStepped, NTPAskedTooOften,
}
