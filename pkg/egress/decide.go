package egress

import (
	"bytes"
	"fmt"
	"net/netip"

	"chargegate/pkg/event"
	"chargegate/pkg/hello"
	"chargegate/pkg/policy"
)

// How the name of a conversation was found.
const (
	bySNI     = "sni"
	byHost    = "host"
	byAddress = "address"
	byHub     = "hub"
)

// A decision is what becomes of a call.
type decision struct {
	result result // resultCarried: it may go out
	name   string // whom it goes to, or asked for
	by     string
	rule   policy.Rule
	// candidates is how many allowed names the address asked for told.
	candidates int
}

func (d decision) allowed() bool { return d.result == resultCarried }

// decide is the whole policy of the room: whom a call that asked for dst and
// began with h may reach. namesAt tells which allowed names had an address.
func decide(list *policy.List, namesAt func(netip.Addr) []string, dst netip.AddrPort, h hello.Hello) decision {
	port := dst.Port()
	if h.Protocol != hello.TLS {
		return decidePlain(list, namesAt, dst, h)
	}
	if h.ServerName != "" {
		return decideName(list, h.ServerName, port, bySNI)
	}
	d := decideAddress(list, namesAt, dst)
	if d.allowed() {
		return d
	}
	// Old stacks name nobody; on this port only one server is ever meant (Z-8).
	if port == policy.HubPort {
		if verdict, rule := list.Decide(policy.Hub, port); verdict == policy.Allowed {
			return decision{result: resultCarried, name: policy.Hub, by: byHub, rule: rule}
		}
	}
	return d
}

// decidePlain is decide for a caller that does not speak TLS: only rules that
// say plain hold for it (F-8). An HTTP request goes by its Host when there is one,
// everything else by the address: HTTP/2 without TLS, MQTT in the clear, the PROXY
// protocol. What only TLS may do is said to be that, not to be unknown.
func decidePlain(list *policy.List, namesAt func(netip.Addr) []string, dst netip.AddrPort, h hello.Hello) decision {
	decide := func(list *policy.List) decision {
		if h.Protocol == hello.HTTP && h.ServerName != "" {
			return decideName(list, h.ServerName, dst.Port(), byHost)
		}
		return decideAddress(list, namesAt, dst)
	}
	plain := list.Plain()
	if !plain.HasPort(dst.Port()) {
		return decision{result: resultNotTLS, name: h.ServerName}
	}
	d := decide(plain)
	if !d.allowed() && d.candidates == 0 && decide(list).allowed() {
		return decision{result: resultNotTLS, name: h.ServerName}
	}
	return d
}

func decideName(list *policy.List, name string, port uint16, by string) decision {
	verdict, rule := list.Decide(name, port)
	d := decision{name: policy.Normal(name), by: by, rule: rule}
	switch verdict {
	case policy.Allowed:
		d.result = resultCarried
	case policy.WrongPort:
		d.result = resultWrongPort
	default:
		d.result = resultUnknownName
	}
	return d
}

// decideAddress finds the one name that the address asked for can mean.
func decideAddress(list *policy.List, namesAt func(netip.Addr) []string, dst netip.AddrPort) decision {
	d := decision{result: resultNoName, by: byAddress}
	for _, name := range namesAt(dst.Addr()) {
		verdict, rule := list.Decide(name, dst.Port())
		if verdict != policy.Allowed || d.candidates > 0 && d.name == policy.Normal(name) {
			continue
		}
		d.candidates++
		d.name, d.rule = policy.Normal(name), rule
	}
	if d.candidates == 1 {
		d.result = resultCarried
	} else {
		d.name, d.rule = "", policy.Rule{}
	}
	return d
}

// refusal returns what is said of a decision that refuses: the event and its
// fields, and the words for the charger's page.
func (d decision) refusal(dst netip.AddrPort, h hello.Hello) (kind *event.Kind, words string, fields []event.Field) {
	port := event.F("PORT", dst.Port())
	to := event.F("DST", dst)
	switch d.result {
	case resultUnknownName:
		return event.EgressNameRefused, fmt.Sprintf("name %s on port %d", shown(d.name), dst.Port()),
			[]event.Field{event.F("NAME", d.name), port, to}
	case resultWrongPort:
		return event.EgressPortRefused, fmt.Sprintf("name %s on port %d", shown(d.name), dst.Port()),
			[]event.Field{event.F("NAME", d.name), port, to, event.F("ALLOWED", portsInWords(d.rule.Ports)), event.F("DO", portAdvice(d.name, dst.Port()))}
	case resultNotTLS:
		whom := dst.String()
		fields = []event.Field{to, port, event.F("PROTOCOL", protocolInWords(h)), event.F("DO", plainAdvice(d.name, dst.Port(), h))}
		if d.name != "" {
			whom = fmt.Sprintf("%s on port %d", shown(d.name), dst.Port())
			fields = append(fields, event.F("NAME", d.name))
		}
		return event.EgressPlainRefused, whom + " without TLS", append(fields, event.F("WHOM", whom))
	}
	return event.EgressNamelessRefused, fmt.Sprintf("%s without a name", dst),
		[]event.Field{to, event.F("CANDIDATES", d.candidates), event.F("WHY", d.namelessInWords())}
}

// namelessInWords is why the address did not tell whom a caller wants who named
// nobody.
func (d decision) namelessInWords() string {
	if d.candidates > 1 {
		return fmt.Sprintf("%d allowed names have this address", d.candidates)
	}
	return "no allowed name has this address"
}

// shown makes a name that a stranger made up fit to be shown.
func shown(name string) string { return event.F("NAME", name).Value }

// openings are how some protocols begin that are neither TLS nor HTTP/1, for the
// words of a refusal. What is not among them stays unknown: a stranger cannot make
// up new words.
var openings = []struct{ begins, words string }{
	{"SSH-", "SSH"},
	{"PRI * HTTP/2", "HTTP/2 without TLS"},
	{"PROXY ", "the PROXY protocol"},
	{"\r\n\r\n\x00\r\nQUIT\n", "the PROXY protocol"},
}

// protocolInWords is what a caller speaks who does not speak TLS.
func protocolInWords(h hello.Hello) string {
	if h.Protocol == hello.HTTP {
		return "plain HTTP"
	}
	b := h.Bytes
	for _, o := range openings {
		if bytes.HasPrefix(b, []byte(o.begins)) {
			return o.words
		}
	}
	switch {
	case len(b) > 8 && b[0] == 0x10 && bytes.Contains(b[:9], []byte("MQ")): // CONNECT (MQTT 3.1.1, 3.1)
		return "MQTT without TLS"
	case len(b) > 4 && b[0]&0x80 != 0 && b[2] == 1 && (b[3] == 3 || b[3] == 0): // RFC 5246, E.2
		return "SSL 2"
	}
	return "something unknown"
}

func portsInWords(ports []uint16) string {
	words := "port"
	if len(ports) > 1 {
		words = "ports"
	}
	for i, p := range ports {
		sep := " "
		if i > 0 {
			sep = ", "
		}
		words += fmt.Sprintf("%s%d", sep, p)
	}
	return words
}
