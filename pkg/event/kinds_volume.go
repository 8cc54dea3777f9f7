package event

// What the accounts say (Z-14).
var (
	VolumeExcess = &Kind{
		ID: "volume-excess", Level: Warning,
		Text:    "{CHARGER} has moved {VOLUME} today, far more than a charger needs, {OF} of it with {NAME}; it began {SINCE}",
		Explain: "A charger needs about 3 MB a day and 5 MB more for each charging session (Z-14); firmware is 5 MB. More than 100 MB on one day is none of these, whatever the charger does and however often it has to call again. SINCE is when it had moved 8 MB, as much as a day with one charging session takes. This is said once a day for each device. The bytes are those of the conversations, both ways; a mobile contract counts a little more.",
		Advice:  "Run: sudo chargegate charger {CHARGER}. If it is firmware that is fetched again and again, look at the signal and tell Zaptec; if the name is one of [[egress.allow]], ask whoever runs that server; if it is no charger, find out what it is.",
	}
	VolumeExcessOthers = &Kind{
		ID: "volume-excess-others", Level: Warning,
		Text:    "devices without an account of their own have moved {VOLUME} today, {OF} of it with {NAME}; it began {SINCE}",
		Explain: "Those who hold no lease, who use a charger's MAC on another network, or who are unknown and more than 64 on one day, have one account together. More than 100 MB on it is far more than a charger needs. This is said once a day.",
		Advice:  "Run: sudo chargegate chargers, and find out what the devices are that are not in the inventory.",
	}
	VolumeUnread = &Kind{
		ID: "volume-unread", Level: Warning,
		Text:    "the accounts in {FILE} cannot be used: {ERROR}",
		Explain: "The volumes of that day are missing from the pages and sums; nothing else depends on them. The file was set aside as ASIDE, for whoever wants to know what happened to it, and the day was begun anew.",
		Advice:  "After a single power cut nothing needs to be done. If it comes back, the card is wearing out: replace it.",
	}
	VolumeUnwritten = &Kind{
		ID: "volume-unwritten", Level: Error,
		Text:    "the accounts cannot be written to {FILE}: {ERROR}",
		Explain: "Chargers are served and their volumes counted in memory; a restart would lose what was counted since the last time they were written. They are tried again every hour. This is said once until it works again.",
		Advice:  "Is the disk full, or read-only? Run: df -h and sudo dmesg | tail.",
	}
	VolumeWritten = &Kind{
		ID: "volume-written", Level: Info,
		Text:    "the accounts are written again to {FILE}",
		Explain: "What volume-unwritten spoke of is over; nothing that was counted is missing.",
	}
)

var volumeKinds = []*Kind{VolumeExcess, VolumeExcessOthers, VolumeUnread, VolumeUnwritten, VolumeWritten}
