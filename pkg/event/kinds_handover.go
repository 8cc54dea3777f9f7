package event

// What is said of descriptors that outlive the process.
var (
	HandoverTaken = &Kind{
		ID: "handover-taken", Level: Info,
		Text:    "{WHAT} was taken over from the process before this one",
		Explain: "systemd kept the descriptor while the daemon was restarted, so nobody who called meanwhile was turned away.",
	}
	HandoverKeepFailed = &Kind{
		ID: "handover-keep-failed", Level: Warning,
		Text:    "{WHAT} could not be given to systemd to keep: {ERROR}",
		Explain: "Everything works, but what is not kept is closed when the daemon is restarted; chargers call again by themselves.",
		Advice:  "Compare FileDescriptorStoreMax= and NotifyAccess= of the unit with the one that came with this version.",
		Every:   hour,
	}
	HandoverUnusable = &Kind{
		ID: "handover-unusable", Level: Info,
		Text:    "{WHAT} was kept from the process before this one and is not used any more: {REASON}",
		Explain: "A descriptor of the former process does not fit the configuration or the version of this one. It was closed.",
	}
)

var handoverKinds = []*Kind{HandoverTaken, HandoverKeepFailed, HandoverUnusable}
