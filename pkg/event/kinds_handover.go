package event

// What is said of descriptors that outlive the process.
var (
	HandoverTaken = &Kind{
		ID: "handover-taken", Level: Debug,
		Text:    "{WHAT} was taken over from the process before this one",
		Explain: "systemd kept the descriptor while the daemon was restarted, so nobody who called meanwhile was turned away. What became of the conversations is said by handover-conversations.",
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
	HandoverConversations = &Kind{
		ID: "handover-conversations", Level: Info,
		Text:    "conversations that go on from the daemon before this one: {COUNT}; nobody was there for {GAP} at most; lost: {LOST}",
		Explain: "systemd kept the connections and what was on its way in them while the daemon was restarted or had crashed. Chargers and the cloud noticed a pause, nothing else. GAP is counted from the last sign of life that the daemon before wrote down, one each second.",
	}
	HandoverConversationsLost = &Kind{
		ID: "handover-conversations-lost", Level: Warning,
		Text:    "conversations of the daemon before this one that had to end: {COUNT}; {REASON}",
		Explain: "What is not certain to the last detail is not taken over: both sides were told at once, and chargers call again by themselves. After an upgrade that writes its ledger otherwise, or a change of the rules, that is as it should be.",
		Advice:  "If it comes again without an upgrade or a change, compare FileDescriptorStoreMax= and LimitNOFILE= of the unit with the one that came with this version.",
	}
	HandoverLeft = &Kind{
		ID: "handover-left", Level: Info,
		Text:    "conversations left to the next daemon: {COUNT}",
		Explain: "The daemon ends, and systemd keeps the connections. When no daemon is started, systemd closes them.",
	}
)

var handoverKinds = []*Kind{HandoverTaken, HandoverKeepFailed, HandoverUnusable, HandoverConversations, HandoverConversationsLost, HandoverLeft}
