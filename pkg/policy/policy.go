// Package policy is the list of what may be reached: which names, on which
// ports, and why. It is exact by design: a name and a port that no rule holds
// together are refused, and an empty list refuses everything.
//
// It leaves to others where a name came from (a DNS question, the name in a
// ClientHello, an HTTP Host) and what happens to the one who asked.
package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
)

// A Rule lets one name, or all names below one, be reached on some ports.
type Rule struct {
	// Name is exact ("api.zaptec.com") or a pattern for everything below a name
	// ("*.example.com", which does not hold example.com itself).
	Name string `json:"name" toml:"name"`
	// Ports are TCP ports.
	Ports []uint16 `json:"ports" toml:"ports"`
	// Plain says that the conversation need not be TLS: native OCPP over ws:// (F-8).
	// TLS to such a name and port is let out as well: it tells the name more surely
	// than a Host does, and an operator who moves his server to wss:// cuts nobody
	// off.
	Plain bool `json:"plain,omitempty" toml:"plain"`
	// Addresses are the private addresses that the name may have besides public
	// ones. A name that leads into a private network which no rule names is not
	// dialled: DNS answers could turn the proxy against the site's own network.
	Addresses []netip.Prefix `json:"addresses,omitempty" toml:"addresses"`
	// Reason is why, for whoever reads the list in ten years.
	Reason string `json:"reason" toml:"reason"`
}

// Hub is the name of the charger's lasting conversation: MQTT over TLS (Z-8).
const Hub = "zapcloud.azure-devices.net"

// API is the name that tells chargers which host their firmware comes from
// (Z-9, F-7).
const API = "api.zaptec.com"

// HubPort is the port of the lasting conversation (Z-8).
const HubPort = 8883

// Zaptec returns what every Zaptec charger needs (Z-8, Z-9).
func Zaptec() []Rule {
	return []Rule{
		{Name: Hub, Ports: []uint16{HubPort}, Reason: "Z-8: the charger's lasting conversation, MQTT over TLS"},
		{Name: "zapcloud-api.azurewebsites.net", Ports: []uint16{443}, Reason: "Z-9: API of older chargers"},
		{Name: "devices.zaptec.com", Ports: []uint16{443}, Reason: "Z-9: certificates; blocking it turns a change of CA into an outage"},
		{Name: API, Ports: []uint16{443}, Reason: "Z-9: firmware"},
	}
}

// A Verdict says what the list thinks of a name on a port.
type Verdict int

// Verdicts. The zero value refuses.
const (
	UnknownName Verdict = iota // no rule holds the name
	WrongPort                  // a rule holds the name, on other ports
	Allowed
)

// String returns the verdict for logs and metrics.
func (v Verdict) String() string {
	switch v {
	case Allowed:
		return "allowed"
	case WrongPort:
		return "wrong-port"
	}
	return "unknown-name"
}

// A List is a set of rules that can be replaced while it is used. It is safe
// for concurrent use; the zero value and a nil *List allow nothing.
type List struct{ rules atomic.Pointer[index] }

type index struct {
	exact map[string][]Rule
	below map[string][]Rule // "*.example.com" under "example.com"
	above map[string]bool   // every name that has one of the others below it
	all   []Rule
	plain *List // of the plain rules alone; nil without one
}

// New makes a list, or says everything that is wrong with the rules.
func New(rules []Rule) (*List, error) {
	l := &List{}
	return l, l.Replace(rules)
}

// Replace takes over new rules. With a fault in one of them it takes over
// none, and the old ones stay in force.
func (l *List) Replace(rules []Rule) error {
	ix := newIndex()
	var plain *index
	var faults []error
	for _, r := range rules {
		if err := r.Check(); err != nil {
			faults = append(faults, err)
			continue
		}
		r.Name = Normal(r.Name)
		r.Ports = slices.Clone(r.Ports)
		ix.add(r)
		if r.Plain {
			if plain == nil {
				plain, ix.plain = newIndex(), &List{}
			}
			plain.add(r)
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	if plain != nil {
		ix.plain.rules.Store(plain)
	}
	l.rules.Store(ix)
	return nil
}

func newIndex() *index {
	return &index{exact: map[string][]Rule{}, below: map[string][]Rule{}, above: map[string]bool{}}
}

// add enters a rule without faults.
func (ix *index) add(r Rule) {
	if rest, ok := strings.CutPrefix(r.Name, "*."); ok {
		ix.below[rest] = append(ix.below[rest], r)
	} else {
		ix.exact[r.Name] = append(ix.exact[r.Name], r)
	}
	ix.all = append(ix.all, r)
	for _, rest, more := strings.Cut(r.Name, "."); more; _, rest, more = strings.Cut(rest, ".") {
		ix.above[rest] = true
	}
}

// An Edition is one set of rules. Two of one List are equal while nothing was
// replaced in between.
type Edition struct{ of *index }

// Edition returns the set of rules in force: who remembers what the list said also
// remembers which one said it.
func (l *List) Edition() Edition {
	if l == nil {
		return Edition{}
	}
	return Edition{l.rules.Load()}
}

// Normal is the form in which names are compared: ASCII letters in lower case,
// without the trailing dot (RFC 4343). Other letters stay what they are: no rule
// holds them, and a Kelvin sign does not become a k.
func Normal(name string) string {
	name = strings.TrimSuffix(name, ".")
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			return lower(name)
		}
	}
	return name
}

func lower(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// Check says what is wrong with a rule, or nil.
func (r Rule) Check() error {
	if err := CheckName(r.Name); err != nil {
		return err
	}
	if len(r.Ports) == 0 {
		return fmt.Errorf("%s has no ports; write ports = [443], for example", r.Name)
	}
	if slices.Contains(r.Ports, 0) {
		return fmt.Errorf("%s: port 0 does not exist; allowed are 1 to 65535", r.Name)
	}
	if strings.TrimSpace(r.Reason) == "" {
		return fmt.Errorf("%s has no reason; write why it may be reached, for whoever reads the list in ten years", r.Name)
	}
	return nil
}

// CheckName says what is wrong with an exact name or a "*." pattern, or nil.
func CheckName(pattern string) error {
	if _, rest, ok := strings.Cut(pattern, "://"); ok {
		alone, _, _ := strings.Cut(rest, "/")
		alone, _, _ = strings.Cut(alone, ":")
		return fmt.Errorf("%q is more than a name; write the name alone: %s", pattern, alone)
	}
	name := strings.TrimPrefix(Normal(pattern), "*.")
	labels := strings.Split(name, ".")
	if len(labels) < 2 {
		return fmt.Errorf("%q is not a name that can be allowed; write it in full, like ocpp.example.com, or *.example.com for everything below it", pattern)
	}
	if len(name) > 253 {
		return fmt.Errorf("%q is longer than a name can be (253 bytes)", pattern)
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return fmt.Errorf("%q is not a host name: %q cannot stand between dots", pattern, l)
		}
		for _, c := range l {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return fmt.Errorf("%q is not a host name: %q cannot be part of one; write international names in their xn-- form", pattern, c)
			}
		}
	}
	last := labels[len(labels)-1]
	if strings.Trim(last, "0123456789") == "" {
		return fmt.Errorf("%q is an address, not a name; chargers are let out by name only", pattern)
	}
	return nil
}

// match returns the rules that hold a name.
func (l *List) match(name string) []Rule {
	if l == nil {
		return nil
	}
	ix := l.rules.Load()
	if ix == nil {
		return nil
	}
	name = Normal(name)
	rules := ix.exact[name]
	if len(ix.below) == 0 {
		return rules
	}
	rules = slices.Clip(rules)
	for rest := name; ; {
		dot := strings.IndexByte(rest, '.')
		if dot < 0 {
			return rules
		}
		rest = rest[dot+1:]
		rules = append(rules, ix.below[rest]...)
	}
}

// Holds reports whether any rule holds the name: whether it may be resolved. It
// is asked for every question, and unlike match allocates nothing.
func (l *List) Holds(name string) bool {
	if l == nil {
		return false
	}
	ix := l.rules.Load()
	if ix == nil {
		return false
	}
	name = Normal(name)
	if len(ix.exact[name]) > 0 {
		return true
	}
	_, rest, below := strings.Cut(name, ".")
	for ; below; _, rest, below = strings.Cut(rest, ".") {
		if len(ix.below[rest]) > 0 {
			return true
		}
	}
	return false
}

// Above reports whether a name that the list holds lies below this one, however
// deep. The list may hold the name itself as well.
func (l *List) Above(name string) bool {
	if l == nil {
		return false
	}
	ix := l.rules.Load()
	return ix != nil && ix.above[Normal(name)]
}

// Decide says whether a name may be reached on a port, and by which rule.
func (l *List) Decide(name string, port uint16) (Verdict, Rule) {
	rules := l.match(name)
	for _, r := range rules {
		if slices.Contains(r.Ports, port) {
			return Allowed, r
		}
	}
	if len(rules) > 0 {
		return WrongPort, rules[0]
	}
	return UnknownName, Rule{}
}

// Plain returns the part of the list that holds for callers without TLS: nil, which
// allows nothing, without a plain rule. It is made with the rules, not anew for
// each call, and is not replaced with them: whoever decides asks for it each time.
func (l *List) Plain() *List {
	if l == nil {
		return nil
	}
	ix := l.rules.Load()
	if ix == nil {
		return nil
	}
	return ix.plain
}

// HasPort reports whether some rule names the port. It allocates nothing.
func (l *List) HasPort(port uint16) bool {
	if l == nil {
		return false
	}
	ix := l.rules.Load()
	return ix != nil && slices.ContainsFunc(ix.all, func(r Rule) bool { return slices.Contains(r.Ports, port) })
}

// Rules returns the rules in force, in the order they were written.
func (l *List) Rules() []Rule {
	if l == nil {
		return nil
	}
	ix := l.rules.Load()
	if ix == nil {
		return nil
	}
	return slices.Clone(ix.all)
}

// Ports returns every port that some rule names, ascending: what the firewall
// hands to egress.
func (l *List) Ports() []uint16 { return Ports(l.Rules()) }

// Ports returns every port that the rules name, ascending.
func Ports(rules []Rule) []uint16 {
	var ports []uint16
	for _, r := range rules {
		ports = append(ports, r.Ports...)
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// IsTime reports whether a name belongs to the NTP pool, whose names are fixed
// in the chargers and answered with the gateway's own address (Z-10).
func IsTime(name string) bool {
	name = Normal(name)
	return name == "pool.ntp.org" || strings.HasSuffix(name, ".pool.ntp.org")
}
