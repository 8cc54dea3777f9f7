package event

// What is said of the manners and the certificates of upstream servers.
var (
	ResolverCaseNotKept = &Kind{
		ID: "resolver-case-not-kept", Level: Debug,
		Text:    "the DNS server {UPSTREAM} does not repeat the case of a name's letters; it is asked without that for an hour",
		Explain: "Names are asked for in letters of random case, which a true answer repeats and a forged one can hardly guess. This server gave back others, over TCP as well or several times in a row. Its answers are still told from forged ones by their port and their id.",
		Every:   hour, Per: []string{"UPSTREAM"},
	}
	ResolverDatesUnchecked = &Kind{
		ID: "resolver-dates-unchecked", Level: Info,
		Text:    "the clock is not set yet, so the dates in the certificate of {UPSTREAM} were not checked; its name and who signed it were",
		Explain: "A box without a clock of its own does not know after its start what day it is, and needs names to find out (F-12). Until then a certificate that has ended, or begins later, is accepted from a DNS server over TLS, if everything else about it is right. Such conversations end when the clock is set. From then on the dates count, also if the time server is lost.",
	}
)

// What the resolver room says.
var (
	ResolverNameRefused = &Kind{
		ID: "resolver-name-refused", Level: Info,
		Text:    "{CHARGER} asked for {NAME}, which is not on the allow-list",
		Explain: "The charger asked for the address of a name that no rule holds. It was told at once that the name does not exist. A charger that works needs only the names of the Zaptec profile and those that the site adds.",
		Advice:  "Nothing, if the charger reaches ok. If it needs the name (native OCPP, or a change at Zaptec's), add it: " + allowName,
		Every:   hour, Per: []string{"NAME"}, Most: 30,
	}
	ResolverUpstreamLost = &Kind{
		ID: "resolver-upstream-lost", Level: Warning,
		Text:    "the DNS server {UPSTREAM} does not answer: {ERROR}",
		Explain: "A DNS server of the uplink failed several times in a row. Another one answers in its place.",
		Advice:  "If it lasts an hour, ask whoever runs the server, or take it out of [dns] upstreams, then: sudo systemctl restart chargegate-prepare.",
		Every:   10 * minute, Per: []string{"UPSTREAM"},
	}
	ResolverUpstreamRestored = &Kind{
		ID: "resolver-upstream-restored", Level: Info,
		Text:    "the DNS server {UPSTREAM} answers again",
		Explain: "A DNS server that had been lost answered a question.",
		Every:   10 * minute, Per: []string{"UPSTREAM"},
	}
	ResolverNamesLost = &Kind{
		ID: "resolver-names-lost", Level: Error,
		Text:    "names cannot be asked for: {ERROR}",
		Explain: "No DNS server of the uplink can be reached, or none is named. Chargers get the addresses that are still remembered, for up to three days; names that were never asked cannot be resolved.",
		Advice:  "Check the uplink: its cable, its router, and whom this box asks (cat /etc/resolv.conf). If that is nobody, or this box itself, write the router's address as upstreams under [dns], then: sudo systemctl restart chargegate-prepare. Nothing has to be done at the chargers. The command sudo chargegate doctor asks every server.",
		Every:   10 * minute,
	}
	ResolverOnlyErrors = &Kind{
		ID: "resolver-only-errors", Level: Error,
		Text:    "every DNS server answers with errors, lastly: {ERROR}",
		Explain: "The DNS servers of the uplink answer, but to whatever they are asked with an error (SERVFAIL, REFUSED) or with nothing that can be used. A router does that while its own way to the Internet is down. Chargers get the addresses that are still remembered, for up to three days.",
		Advice:  "Restart the router, or write another server as upstreams under [dns], then: sudo systemctl restart chargegate-prepare. The command sudo chargegate doctor asks every server.",
		Every:   10 * minute,
	}
	ResolverNamesRestored = &Kind{
		ID: "resolver-names-restored", Level: Info,
		Text:    "names can be resolved again, {UPSTREAM} answers",
		Explain: "After a time without any that did, a DNS server of the uplink gave an answer that can be used.",
		Every:   10 * minute,
	}
	ResolverUpstreamIsUs = &Kind{
		ID: "resolver-upstream-is-us", Level: Warning,
		Text:    "the DNS server {UPSTREAM} is this daemon itself and is not asked",
		Explain: "The list of upstreams, or /etc/resolv.conf behind the upstream \"system\", names an address on which this daemon answers. Asking it would be asking ourselves without end.",
		Advice:  "Write the router's address as upstreams under [dns], then: sudo systemctl restart chargegate-prepare. Taking it out of /etc/resolv.conf does not last: the uplink's DHCP client writes that file anew.",
		Every:   hour, Per: []string{"UPSTREAM"},
	}
	ResolverStale = &Kind{
		ID: "resolver-stale", Level: Info,
		Text:    "{NAME} was answered from memory, {AGE} after it was last confirmed",
		Explain: "No DNS server of the uplink answered, so the last good answer was given once more (RFC 8767). Addresses seldom change; old ones are far better than none.",
		Every:   hour, Per: []string{"NAME"},
	}
	ResolverNameFailed = &Kind{
		ID: "resolver-name-failed", Level: Warning,
		Text:    "no DNS server could say where {NAME} is: {ERROR}",
		Explain: "The name is on the allow-list and the DNS servers of the uplink answer, but for this name with an error or with something that cannot be used. Chargers get the last good answer while one is remembered.",
		Advice:  "If it is a name of the site's own, check its spelling and its DNS records. If it is one of Zaptec's, write another server as upstreams under [dns], then: sudo systemctl restart chargegate-prepare.",
		Every:   10 * minute, Per: []string{"NAME"},
	}
	ResolverOverload = &Kind{
		ID: "resolver-overload", Level: Warning,
		Text:    "more than {LIMIT} questions at once; some were dropped",
		Explain: "So many questions wait for an answer that new ones are dropped. Whoever asked tries again by itself.",
		Advice:  "If one device asks too much, resolver-asked-too-much names it. Otherwise the DNS servers are slow: run sudo chargegate doctor, which asks each of them.",
		Every:   minute,
	}
	ResolverRecalled = &Kind{
		ID: "resolver-recalled", Level: Info,
		Text:    "the last addresses of {COUNT} names are known from before",
		Explain: "The last good answers were read from the disk. They are given, for up to three days from the start, only while no DNS server of the uplink answers; the first good answer replaces them.",
	}
	ResolverFileUnread = &Kind{
		ID: "resolver-file-unread", Level: Warning,
		Text:    "the file {FILE} with the last addresses of names is not used: {ERROR}",
		Explain: "Names are asked for anew, and nothing is missing as long as a DNS server of the uplink answers. A file that holds what was never written is kept beside it with the ending .damaged. A power cut does not do that; a worn SD card does, and so does another version of this program.",
		Advice:  "Nothing after a change of version. Otherwise look at the disk (sudo dmesg); an SD card that loses what was written should be replaced.",
	}
	ResolverFileUnwritten = &Kind{
		ID: "resolver-file-unwritten", Level: Warning,
		Text:    "the last addresses of names cannot be written to {FILE}: {ERROR}",
		Explain: "Everybody goes on being answered from memory. After a power cut without an uplink, names would not be known, or only where they were before.",
		Advice:  "Look whether the disk is full (df -h) or was made read-only after a fault (sudo dmesg); an SD card that does that should be replaced.",
	}
	ResolverFileWritten = &Kind{
		ID: "resolver-file-written", Level: Info,
		Text:    "the last addresses of names are written to {FILE} again",
		Explain: "What could not be written for a while is on the disk now.",
	}
)

// What is said of names that Zaptec may have changed, and of who asks too much.
var (
	ResolverFirmwareNameRefused = &Kind{
		ID: "resolver-firmware-name-refused", Level: Warning,
		Text:    "{CHARGER} was told where api.zaptec.com is and then asked for {NAME}, which is not on the allow-list: its firmware may come from there now",
		Explain: "The API at api.zaptec.com tells a charger which host its firmware comes from (F-7). Within two minutes of it this charger asked for a name that no rule holds, and was told that it does not exist. If Zaptec has moved its firmware, no charger gets updates until the name is allowed. A telephone or a laptop in this network asks for names of its own, and then it is no sign. Each name is pointed out once an hour, whoever asks for it; the others who do are in resolver-name-refused.",
		Advice:  "Ask Zaptec's support whether {NAME} is theirs. Only then " + allowName,
		Every:   hour, Per: []string{"NAME"}, Most: 3,
	}
	ResolverAskedTooMuch = &Kind{
		ID: "resolver-asked-too-much", Level: Warning,
		Text:    "{CHARGER} asks for more than {RATE} names a second; most of what is beyond that is not answered",
		Explain: "Each device may ask for so many names a second on average, and three times as many at once. A charger asks for a handful after its start. The others are not slowed by this one.",
		Advice:  "If it is a charger, switch its power off and on at the breaker; if it does so again, give Zaptec its serial number. If it is no charger, find it and take it off this network.",
		Every:   hour, Most: 1,
	}
)

// allowName is what lets a name be reached, as it stands in the configuration, on
// one line.
const allowName = `in chargegate.toml write [[egress.allow]] and below it the three lines name = "{NAME}" and ports = [443] and reason = "asked for by {CHARGER}", then: sudo systemctl reload chargegated.`

var resolverKinds = []*Kind{
	ResolverCaseNotKept, ResolverDatesUnchecked,
	ResolverNameRefused, ResolverUpstreamLost, ResolverUpstreamRestored, ResolverNamesLost,
	ResolverNamesRestored, ResolverOnlyErrors, ResolverUpstreamIsUs, ResolverStale, ResolverNameFailed, ResolverOverload,
	ResolverFirmwareNameRefused, ResolverAskedTooMuch,
	ResolverRecalled, ResolverFileUnread, ResolverFileUnwritten, ResolverFileWritten,
}
