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
		Advice:  "{DO}",
	}
	NTPUnknown = &Kind{
		ID: "ntprelay-unknown", Level: Warning,
		Text:    "this box has not known the time for {LASTED}, and gives none: {REASON}",
		Explain: "It is said three minutes after a start that has not come to know the time, and once a day for as long as it lasts. Chargers that start meanwhile cannot log in to the portal (Z-11).",
		Advice:  "{DO}",
	}
	NTPChronydUnreachable = &Kind{
		ID: "ntprelay-chronyd-unreachable", Level: Warning,
		Text:    "nobody tells how right the clock is: {REASON}",
		Explain: "Whoever disciplines the clock (chronyd on its command port, or the kernel where the configuration says so) is asked whether it is right. There was no answer several times in a row. It is said when no time was given anyway; else ntprelay-lost says it.",
		Advice:  "{DO}",
	}
	NTPChronydAnswers = &Kind{
		ID: "ntprelay-chronyd-answers", Level: Info,
		Text:    "chronyd (or the kernel) can be asked about the clock again",
		Explain: "After a time of silence there was an answer. Whether it says that the clock is right is another matter: time is given when ntprelay-synchronised is said.",
	}
	NTPAskedTooEarly = &Kind{
		ID: "ntprelay-asked-too-early", Level: Info,
		Text:    "{CHARGER} asked for the time, but this box does not know it: {REASON}",
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
		Explain: "Somebody set the clock. No time is given until chronyd has confirmed the new one, so that no answer mixes two clocks. A small jump that was not chronyd's own counts as possible error until chronyd has asked its source eight more times.",
		Advice:  "One jump after a long outage is normal. If no time is given half an hour later, run: sudo chronyc makestep. If it repeats, find out what sets the clock besides chronyd: systemd-timesyncd, a script, a person.",
		Every:   minute,
	}
	NTPAskedTooOften = &Kind{
		ID: "ntprelay-asked-too-often", Level: Warning,
		Text:    "{CHARGER} asks for the time too often (more than {RATE} a second); what is beyond that is not answered",
		Explain: "A charger asks once when it starts and again after hours. What comes faster than the limit, beyond a first burst of sixteen times that, is not answered; now and then the device is told so in NTP's own way (kiss-o'-death RATE).",
		Advice:  "If it is no charger, remove it from this network (Z-5). If it is one and it goes on, restart it. The limit is rate under [ntp].",
		Every:   hour,
	}
)

var ntprelayKinds = []*Kind{
	NTPSynchronised, NTPLost, NTPUnknown, NTPChronydUnreachable, NTPChronydAnswers, NTPAskedTooEarly, NTPClockSet, NTPClockStepped, NTPAskedTooOften,
}
