package event

// What the daemon says of itself.
var (
	DaemonStarting = &Kind{
		ID: "daemon-starting", Level: Info,
		Text:    "chargegate {VERSION} starts for {SITE}: {NETWORKS}",
		Explain: "The daemon has read its configuration and takes its sockets.",
	}
	DaemonReady = &Kind{
		ID: "daemon-ready", Level: Info,
		Text:    "ready after {TOOK}: chargers are served",
		Explain: "Every socket is taken; from now on packets are answered, and systemd has been told.",
	}
	DaemonFailed = &Kind{
		ID: "daemon-failed", Level: Error,
		Text:    "the daemon ends: {ERROR}",
		Explain: "The daemon could not start, or one of its parts could not be kept alive. Nothing is forwarded while it is down; systemd starts it again.",
		Advice:  "The line names the part and the cause: a port or an interface somebody else holds, a directory that cannot be written, or a missing permission. Mend it and run: sudo systemctl restart chargegated.",
	}
	DaemonStopping = &Kind{
		ID: "daemon-stopping", Level: Info,
		Text:    "stopping, as it was asked to",
		Explain: "The daemon was asked to stop and closes what is open. It has five seconds.",
	}
	DaemonStopped = &Kind{
		ID: "daemon-stopped", Level: Info,
		Text:    "stopped after {UPTIME}",
		Explain: "Everything the daemon started has ended.",
	}
	DaemonReloaded = &Kind{
		ID: "daemon-reloaded", Level: Info,
		Text:    "reloaded: {CHANGES}",
		Explain: "The daemon was asked to read its configuration again and took over what can change without closing anything.",
	}
	DaemonReloadNeedsRestart = &Kind{
		ID: "daemon-reload-needs-restart", Level: Warning,
		Text:    "changed, but only a restart takes it over: {KEYS}",
		Explain: "These keys size sockets, subnets or files. The daemon goes on with the old values.",
		Advice:  "Run: sudo systemctl restart chargegate-prepare. It renders the files anew; the firewall and the daemon restart with it, and open conversations go on, except where an address has changed: those come back by themselves. For a changed radio also: sudo systemctl restart chargegate-radio@NAME.",
	}
	DaemonReloadFailed = &Kind{
		ID: "daemon-reload-failed", Level: Error,
		Text:    "not reloaded, the old configuration stays in force: {ERROR}",
		Explain: "The daemon was asked to read its configuration again and found a fault in it.",
		Advice:  "Run: sudo chargegated -check. It names every fault with its line; mend them and reload again.",
	}
	ServiceFailed = &Kind{
		ID: "service-failed", Level: Error,
		Text:    "{SERVICE} failed and is started again: {ERROR}",
		Explain: "One part of the daemon ended when it should not have. The supervisor starts it again alone, with back-off; the others go on.",
		Advice:  "If it repeats, send the log of the last hour to whoever maintains this box.",
	}
	ServiceGaveUp = &Kind{
		ID: "service-gave-up", Level: Error,
		Text:    "{SERVICE} keeps failing; the daemon ends so that systemd starts it afresh",
		Explain: "One part of the daemon failed again and again. A fresh process is the only remedy left.",
		Advice:  "Read the service-failed lines before this one: they name the cause.",
	}
	PanicRecovered = &Kind{
		ID: "panic-recovered", Level: Error,
		Text:    "a packet confused {SERVICE}; it was dropped and everything goes on: {ERROR}",
		Explain: "Code that handles a stranger's packet met a fault of its own. The packet is lost, nothing else.",
		Advice:  "Send this line with its STACK field to whoever maintains this box: it is a defect in chargegate.",
		Every:   minute, Per: []string{"SERVICE"},
	}
	WatchdogStarved = &Kind{
		ID: "watchdog-starved", Level: Error,
		Text:    "the daemon could not answer its own question: {ERROR}",
		Explain: "Before each sign of life to systemd the daemon asks its own resolver a real question. It got no answer, so no sign of life was given; systemd restarts the daemon if that goes on.",
		Advice:  "One line alone is a hiccup. If the daemon is restarted by the watchdog, look at the load of the machine and at the lines before this one.",
	}
)

var daemonKinds = []*Kind{
	DaemonStarting, DaemonReady, DaemonFailed, DaemonStopping, DaemonStopped, DaemonReloaded, DaemonReloadNeedsRestart,
	DaemonReloadFailed, ServiceFailed, ServiceGaveUp, PanicRecovered, WatchdogStarved,
}
