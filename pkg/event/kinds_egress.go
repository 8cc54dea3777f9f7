package event

// What the egress room says.
var (
	EgressOpened = &Kind{
		ID: "egress-opened", Level: Debug,
		Text:    "{CHARGER} talks with {NAME} on port {PORT}",
		Explain: "The charger asked for an allowed name, the name was reached at REMOTE, and bytes go both ways unchanged. BY says what told the name: the ClientHello (sni), the Host of a plain request (host), the address that was asked for (address), or that only the hub is ever meant on port 8883 (hub). RULE is the rule that allows it, and WHY the reason that stands in it.",
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
		Advice:  "If the charger needs it (its operator's OCPP server, a new firmware host), add it under [[egress.allow]] with name, ports and reason, and run: sudo systemctl reload chargegated; for a port that no rule had: sudo systemctl restart chargegate-prepare. If not, find out what this device is.",
		Every:   hour, Per: []string{"NAME", "PORT"},
	}
	EgressPortRefused = &Kind{
		ID: "egress-port-refused", Level: Warning,
		Text:    "{CHARGER} was refused {NAME} on port {PORT}: that name is allowed on {ALLOWED} only",
		Explain: "A rule holds the name, on other ports; this port is let through to the proxy for another name. It was refused at once. This is a warning, and a port that no rule has is not (denied-refused tells it): many devices try such ports by themselves, but whoever names an allowed server on a wrong port is a charger whose rule is not complete, or tries what is open.",
		Advice:  "{DO}",
		Every:   hour, Per: []string{"NAME", "PORT"},
	}
	EgressNamelessRefused = &Kind{
		ID: "egress-nameless-refused", Level: Warning,
		Text:    "{CHARGER} was refused {DST}: it named no server, and {WHY}",
		Explain: "The charger spoke without saying whom it wants, so the address it called had to tell the name. That works only when the resolver gave the address out for exactly one name that is allowed on this port. CANDIDATES is how many there are.",
		Advice:  "Zaptec chargers name their server. If this is an old OCPP client, give its server a name of its own with an address of its own, and let the charger resolve it through this box. If it is none of these, find out what this device is.",
		Every:   hour, Per: []string{"DST"},
	}
	EgressPlainRefused = &Kind{
		ID: "egress-plain-refused", Level: Warning,
		Text:    "{CHARGER} was refused {WHOM}: it speaks {PROTOCOL} where only TLS is allowed",
		Explain: "The charger does not speak TLS, and no rule with plain = true lets it reach that name on that port. NAME is what it asked for, where that could be read, and DST the address that it called. Zaptec's own names are never plain.",
		Advice:  "{DO}",
		Every:   hour, Per: []string{"DST", "PROTOCOL"},
	}
	EgressHelloFailed = &Kind{
		ID: "egress-hello-failed", Level: Info,
		Text:    "{CHARGER} called {DST}, but its first message could not be used: {ERROR}",
		Explain: "The charger opened a connection and then said nothing in time, hung up in the middle, or sent what cannot be understood: a TLS hello with two names or a dot at the end of one, an HTTP request with two Hosts, a request to a web proxy. The connection was reset. On a weak radio link this happens to good chargers.",
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
		Advice:  "Is the firewall loaded? Run: sudo systemctl status chargegate-firewall. Then find out what this device is.",
		Every:   hour,
	}
	EgressHidden = &Kind{
		ID: "egress-hidden", Level: Info,
		Text:    "{CHARGER} may hide a name behind {NAME} (ECH)",
		Explain: "The ClientHello carries an encrypted one inside, or pretends to. The outer name decides, and only its server is reached.",
		Every:   day, Per: []string{"NAME"}, Most: 10,
	}
	EgressUnreachable = &Kind{
		ID: "egress-unreachable", Level: Warning,
		Text:    "{NAME} on port {PORT} cannot be reached ({CAUSE}): {ERROR}",
		Explain: "An allowed name did not answer. The cause is dns when its address could not be found; tcp when no address took the connection, and ERROR says of each whether it refused, did not answer, or there was no way to it; tls when the connection was taken and the conversation refused, by an alert, by hanging up at the first message, or by something that does not speak TLS; address when it has no address that may be dialled: those of the chargers, of this box and of no server are never dialled, and private ones only where a rule names them. The charger was reset at once and tries again by itself (F-5). This is said once until the name answers again, whoever asks. A name that answered a moment ago (a minute, or ten seconds where somebody said no) must fail three times in a row; one that fails again within ten minutes of being back must then answer for ten minutes before it counts as back.",
		Advice:  "{DO}",
	}
	EgressHubUnreachable = &Kind{
		ID: "egress-hub-unreachable", Level: Error,
		Text:    "the cloud, {NAME} on port {PORT}, cannot be reached ({CAUSE}): {ERROR}",
		Explain: "The one conversation that every charger needs cannot be begun: the whole garage is without the cloud. The causes are those of egress-unreachable. This is said once until the name answers again.",
		Advice:  "{DO}",
	}
	EgressNoWay = &Kind{
		ID: "egress-no-way", Level: Info,
		Text:    "{NAME} on port {PORT} cannot be reached: this box has no way out",
		Explain: "A call for an allowed name failed while this box has no default route, or no link where it leads. That is not the name's trouble: uplink-lost says within seconds what is missing, and what to do. This stands in the place of egress-unreachable and egress-hub-unreachable; they are said when the route is back and the name still does not answer.",
	}
	EgressRestored = &Kind{
		ID: "egress-restored", Level: Info,
		Text:    "{NAME} on port {PORT} answers again after {LASTED}; {FAILED} attempts had failed",
		Explain: "The name that could not be reached takes connections again, or after trouble with TLS the handshakes go on again.",
	}
	EgressChargerLimit = &Kind{
		ID: "egress-charger-limit", Level: Warning,
		Text:    "{CHARGER} has {LIMIT} conversations open; its newest was refused",
		Explain: "One charger holds as many conversations as one may. A healthy one has one lasting conversation and a few short ones.",
		Advice:  "Run: sudo chargegate charger {CHARGER}. It shows with whom. If it is a charger, switch its power off and on, and if it comes back, tell Zaptec; if it is no charger, find out what it is.",
		Every:   hour,
	}
	EgressLeaselessLimit = &Kind{
		ID: "egress-leaseless-limit", Level: Warning,
		Text:    "{ADDRESS} was refused a conversation: those in {SUBNET} who hold no lease may have {LIMIT} open together, and one device half of them",
		Explain: "A caller wrote an address on its packets that this box did not lease to it. Such callers are served, because it may be a charger whose lease was lost, but all of them together may hold no more than one charger: a device that takes every free address must not take the places of the others, nor one that is silent those of the other callers without a lease. A device that has a lease, too, may have no more open than any charger. This is said once in ten minutes for each network; the address is that of the caller refused then.",
		Advice:  "Run: sudo chargegate chargers. A charger that is missing there has a fixed address: set it to DHCP and switch its power off and on. If none is missing, find out what this device is.",
		Every:   10 * minute, Per: []string{"SUBNET"},
	}
	EgressTotalLimit = &Kind{
		ID: "egress-total-limit", Level: Error,
		Text:    "{LIMIT} conversations are open, as many as this box holds; new ones are refused",
		Explain: "The chargers together hold as many conversations as the box may. New ones are reset until some end.",
		Advice:  "Run: sudo chargegate status, and look for a device with very many conversations.",
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
		Advice:  "Run: sudo systemctl show -p LimitNOFILE chargegated, and compare with sudo ls /proc/$(pidof chargegated)/fd | wc -l.",
		Every:   10 * minute,
	}
	EgressDialFailed = &Kind{
		ID: "egress-dial-failed", Level: Error,
		Text:    "this box cannot make a connection to {NAME}: {ERROR}",
		Explain: "The box itself has no file descriptor, no free port or no memory for a connection. It is not the name's fault, and no outage of it. The charger was reset and tries again by itself.",
		Advice:  "Run: sudo chargegate status, and look for a device with very many conversations. Then: sudo systemctl show -p LimitNOFILE chargegated.",
		Every:   10 * minute,
	}
	EgressHelloRefused = &Kind{
		ID: "egress-hello-refused", Level: Warning,
		Text:    "{CHARGER} was refused by {NAME} on port {PORT}: {ERROR}",
		Explain: "The server ended the TLS handshake at this charger's first message, while it goes on with others. The first bytes of the answer tell; TLS is not opened.",
		Advice:  "If it is a charger, its firmware may be too old for the server: let Zaptec update it, or set it to another way (4G) until then. If it is none, find out what this device is.",
		Every:   hour, Per: []string{"NAME", "PORT"}, Most: 10,
	}
	EgressCertificateRefused = &Kind{
		ID: "egress-certificate-refused", Level: Warning,
		Text:    "{CHARGER} does not accept the certificate of {NAME} on port {PORT} ({ALERT})",
		Explain: "The charger ended the TLS handshake with an alert about the server's certificate. Either its own list of authorities is old: a Zaptec charger then fetches a new one from devices.zaptec.com (Z-9). Or it was not the server that answered, but a firewall of the building that opens TLS. This is seen with TLS 1.2, which chargers speak; in 1.3 the alert is encrypted.",
		Advice:  "Look at the certificate from this box: openssl s_client -connect {NAME}:{PORT} -servername {NAME} </dev/null 2>/dev/null | openssl x509 -noout -issuer. If its issuer is not a public authority, ask the building's IT to let the name pass unopened. If it is, see that devices.zaptec.com is reachable, and switch the charger's power off and on.",
		Every:   hour, Per: []string{"NAME", "PORT"}, Most: 10,
	}
	EgressCertificateRefusedToo = &Kind{
		ID: "egress-certificate-refused-too", Level: Info,
		Text:    "{CHARGER} does not accept the certificate of {NAME} on port {PORT} either ({ALERT})",
		Explain: "Another charger refused it before, and none has accepted it since: egress-certificate-refused says what to do. Most likely it is not the charger, and with the third in a row egress-certificate-doubted says so.",
		Every:   hour, Per: []string{"NAME", "PORT"}, Most: 10,
	}
	EgressCertificateDoubted = &Kind{
		ID: "egress-certificate-doubted", Level: Error,
		Text:    "no charger accepts the certificate of {NAME} on port {PORT} ({ALERT}): {CHARGERS} chargers in a row have refused it",
		Explain: "Several chargers ended the TLS handshake with an alert about the server's certificate, and none has accepted it since. Most likely a firewall of the building opens TLS and shows a certificate of its own. This is said once, and egress-restored when one accepts it again.",
		Advice:  "{DO}",
	}
	EgressHandshakeBroken = &Kind{
		ID: "egress-handshake-broken", Level: Info,
		Text:    "{CHARGER} broke off the TLS handshake with {NAME} on port {PORT}: {ALERT}",
		Explain: "The charger ended the handshake after the server's first message, with an alert that is not about the certificate.",
		Every:   hour, Per: []string{"NAME", "PORT", "ALERT"}, Most: 10,
	}
)

// The room's limits for those who say nothing and those whom nobody knows.
var (
	EgressHelloLimit = &Kind{
		ID: "egress-hello-limit", Level: Warning,
		Text:    "{CHARGER} has {LIMIT} conversations open in which it has not said yet what it wants; its newest was refused",
		Explain: "A charger says whom it wants as soon as it is connected. One that opens connections and stays silent holds places that it does not use: each is closed after 10 s, and until then it gets no more of them than LIMIT. Nobody else is kept out.",
		Advice:  "Run: sudo chargegate charger {CHARGER}. A weak signal can do this; if the signal is good, find out what this device is.",
		Every:   hour,
	}
	EgressFewPlaces = &Kind{
		ID: "egress-few-places", Level: Warning,
		Text:    "this box holds {LIMIT} conversations and not {WANTED}, as many as its chargers may need at once: it may open too few files",
		Explain: "A conversation takes six descriptors, and the limit of open files of the daemon does not allow for as many as are wanted. When all chargers call at once, as after a power cut, some are refused at first; they call again by themselves (F-5).",
		Advice:  "Run: sudo systemctl show -p LimitNOFILE chargegated. The unit that is shipped allows for 1000 chargers; a drop-in may have lowered it.",
		Every:   hour,
	}
	EgressStrangersLimit = &Kind{
		ID: "egress-strangers-limit", Level: Warning,
		Text:    "{ADDRESS} was refused a conversation: devices that are not in the inventory hold {LIMIT} of {TOTAL} places, as many as they may together",
		Explain: "Every charger of the inventory finds a place: those that are not in it may hold a quarter of all together and no more. This is said once in ten minutes; the address is that of the caller refused then.",
		Advice:  "Run: sudo chargegate chargers. Enter the chargers among the strangers in chargers.csv, and find out what the others are.",
		Every:   10 * minute,
	}
)

var egressKinds = []*Kind{
	EgressOpened, EgressEnded, EgressNameRefused, EgressPortRefused, EgressNamelessRefused, EgressPlainRefused,
	EgressHelloFailed, EgressDirectRefused, EgressOutsiderRefused, EgressHidden, EgressUnreachable, EgressHubUnreachable, EgressNoWay, EgressRestored,
	EgressChargerLimit, EgressLeaselessLimit, EgressTotalLimit, EgressManyRefusals, EgressAcceptFailed,
	EgressHelloLimit, EgressStrangersLimit, EgressFewPlaces,
	EgressDialFailed, EgressHelloRefused, EgressCertificateRefused, EgressCertificateRefusedToo, EgressCertificateDoubted, EgressHandshakeBroken,
}
