package event

// What the egress room says.
var (
	EgressOpened = &Kind{
		ID: "egress-opened", Level: Debug,
		Text:    "{CHARGER} talks with {NAME} on port {PORT}",
		Explain: "The charger asked for an allowed name, the name was reached at REMOTE, and bytes go both ways unchanged. BY says what told the name: the ClientHello (sni), the Host of a plain request (host), the address that was asked for (address), or that only the hub is ever meant on port 8883 (hub).",
	}
	EgressEnded = &Kind{
		ID: "egress-ended", Level: Debug,
		Text:    "{CHARGER} ended with {NAME} on port {PORT} after {LASTED}: {REASON}; {UP} bytes up, {DOWN} down",
		Explain: "A conversation has ended. Firmware comes in many short ones (F-7); the one on port 8883 lasts until the charger, the cloud or an idle hour ends it.",
	}
	EgressNameRefused = &Kind{
		ID: "egress-name-refused", Level: Warning,
		Text:    "{CHARGER} was refused {NAME} on port {PORT}: the name is not on the list",
		Explain: "The charger asked for a name that no rule holds. It was told so at once with the TLS alert unrecognized_name, or a reset where it does not speak TLS.",
		Advice:  "If the charger needs it (its operator's OCPP server, a new firmware host), add it under [[egress.allow]] with name, ports and reason, and run: sudo systemctl reload chargegated. If not, find out what this device is.",
		Every:   hour, Per: []string{"NAME", "PORT"},
	}
	EgressPortRefused = &Kind{
		ID: "egress-port-refused", Level: Warning,
		Text:    "{CHARGER} was refused {NAME} on port {PORT}: that name is allowed on {ALLOWED} only",
		Explain: "A rule holds the name, on other ports. It was refused at once.",
		Advice:  "If the charger needs this port, add it to the rule under [[egress.allow]]; if not, find out what this device is.",
		Every:   hour, Per: []string{"NAME", "PORT"},
	}
	EgressNamelessRefused = &Kind{
		ID: "egress-nameless-refused", Level: Warning,
		Text:    "{CHARGER} was refused {DST}: it named no server, and the address tells {CANDIDATES} allowed names",
		Explain: "The charger spoke without saying whom it wants, so the address it called had to tell the name. That works only when the resolver gave the address out for exactly one name that is allowed on this port.",
		Advice:  "Zaptec chargers name their server. If this is an old OCPP client, give its server a name of its own with an address of its own, and let the charger resolve it through this box.",
		Every:   hour, Per: []string{"DST"},
	}
	EgressPlainRefused = &Kind{
		ID: "egress-plain-refused", Level: Warning,
		Text:    "{CHARGER} was refused {DST}: it speaks {PROTOCOL} where only TLS is allowed",
		Explain: "The charger does not speak TLS, and no rule with plain = true lets it reach that name on that port. NAME is what it asked for, where that could be read.",
		Advice:  "If it is native OCPP over ws://, add the server's name and port under [[egress.allow]] with plain = true; if not, find out what this device is.",
		Every:   hour, Per: []string{"DST", "PROTOCOL"},
	}
	EgressHelloFailed = &Kind{
		ID: "egress-hello-failed", Level: Info,
		Text:    "{CHARGER} called {DST}, but its first message could not be used: {ERROR}",
		Explain: "The charger opened a connection and then said nothing in time, hung up in the middle, or sent what cannot be understood. The connection was reset. On a weak radio link this happens to good chargers.",
		Every:   hour, Per: []string{"DST", "ERROR"}, Most: 30,
	}
	EgressDirectRefused = &Kind{
		ID: "egress-direct-refused", Level: Warning,
		Text:    "{CHARGER} was refused the proxy's own port",
		Explain: "Somebody called the proxy itself instead of a server behind it. No charger does that. The connection was reset.",
		Advice:  "Find out what this device is: it looks at the network it is in.",
		Every:   hour,
	}
	EgressOutsiderRefused = &Kind{
		ID: "egress-outsider-refused", Level: Warning,
		Text:    "{IP} was refused: it is in none of the chargers' networks",
		Explain: "A connection reached the proxy from an address outside every charger network. It was reset.",
		Advice:  "Is the firewall loaded? Run: systemctl status chargegate-firewall. Then find out what this device is.",
		Every:   hour,
	}
	EgressHidden = &Kind{
		ID: "egress-hidden", Level: Info,
		Text:    "{CHARGER} may hide a name behind {NAME} (ECH)",
		Explain: "The ClientHello carries an encrypted one inside, or pretends to. The outer name decides, and only its server is reached.",
		Every:   day, Per: []string{"NAME"},
	}
	EgressUnreachable = &Kind{
		ID: "egress-unreachable", Level: Warning,
		Text:    "{NAME} on port {PORT} cannot be reached ({CAUSE}): {ERROR}",
		Explain: "An allowed name did not answer. The cause is dns when its address could not be found, tcp when no address took the connection, address when every address it has belongs to this box or its networks. The charger was reset at once and tries again by itself (F-5). This is said once until the name answers again, whoever asks.",
		Advice:  "Run: chargegate doctor. Where every name fails, it is the uplink of this box; where one fails alone, a firewall of the building, or the service behind it is down.",
	}
	EgressHubUnreachable = &Kind{
		ID: "egress-hub-unreachable", Level: Error,
		Text:    "the cloud, {NAME} on port {PORT}, cannot be reached ({CAUSE}): {ERROR}",
		Explain: "The one conversation that every charger needs cannot be begun: the whole garage is without the cloud. The causes are those of egress-unreachable. This is said once until the name answers again.",
		Advice:  "Run: chargegate doctor. Where the other names answer, a firewall of the building most likely blocks outgoing TCP 8883: ask for it to be opened. Where none does, it is the uplink of this box.",
	}
	EgressRestored = &Kind{
		ID: "egress-restored", Level: Info,
		Text:    "{NAME} on port {PORT} answers again after {LASTED}; {FAILED} attempts had failed",
		Explain: "The name that could not be reached has taken a connection.",
	}
	EgressChargerLimit = &Kind{
		ID: "egress-charger-limit", Level: Warning,
		Text:    "{CHARGER} has {LIMIT} conversations open; its newest was refused",
		Explain: "One charger holds as many conversations as one may. A healthy one has one lasting conversation and a few short ones.",
		Advice:  "Switch the charger's power off and on. If it comes back, tell Zaptec; if it is no charger, find out what it is.",
		Every:   hour,
	}
	EgressLeaselessLimit = &Kind{
		ID: "egress-leaseless-limit", Level: Warning,
		Text:    "{ADDRESS} was refused a conversation: those in {SUBNET} who hold no lease have {LIMIT} open, as many as they may together",
		Explain: "A caller wrote an address on its packets that this box did not lease to it. Such callers are served, because it may be a charger whose lease was lost, but all of them together may hold no more than one charger: a device that takes every free address must not take the places of the others. This is said once in ten minutes for each network; the address is that of the caller refused then.",
		Advice:  "Run: chargegate chargers. A charger that is missing there has a fixed address: set it to DHCP and switch its power off and on. If none is missing, find out what this device is.",
		Every:   10 * minute, Per: []string{"SUBNET"},
	}
	EgressTotalLimit = &Kind{
		ID: "egress-total-limit", Level: Error,
		Text:    "{LIMIT} conversations are open, as many as this box holds; new ones are refused",
		Explain: "The chargers together hold as many conversations as the box may. New ones are reset until some end.",
		Advice:  "Run: chargegate status, and look for a device with very many conversations.",
		Every:   10 * minute,
	}
	EgressManyRefusals = &Kind{
		ID: "egress-many-refusals", Level: Warning,
		Text:    "{CHARGER} was refused {COUNT} times within an hour; more of its refusals are counted, not written, until the hour is over",
		Explain: "A charger that is refused more different things than a healthy one would ever ask for. The log is kept readable for the others.",
		Advice:  "Find out what this device is: it tries what is open.",
	}
	EgressAcceptFailed = &Kind{
		ID: "egress-accept-failed", Level: Error,
		Text:    "no conversation can be taken for the moment: {ERROR}",
		Explain: "The kernel gave no new connection, most likely because a limit of open files or memory is reached. The room goes on trying.",
		Advice:  "Run: systemctl show -p LimitNOFILE chargegated, and compare with sudo ls /proc/$(pidof chargegated)/fd | wc -l.",
		Every:   10 * minute,
	}
)

var egressKinds = []*Kind{
	EgressOpened, EgressEnded, EgressNameRefused, EgressPortRefused, EgressNamelessRefused, EgressPlainRefused,
	EgressHelloFailed, EgressDirectRefused, EgressOutsiderRefused, EgressHidden, EgressUnreachable, EgressHubUnreachable, EgressRestored,
	EgressChargerLimit, EgressLeaselessLimit, EgressTotalLimit, EgressManyRefusals, EgressAcceptFailed,
}
