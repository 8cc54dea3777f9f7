package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A reader collects the faults of one file.
type reader struct {
	file   string
	env    Env
	dir    string
	faults Faults
	// known are all keys that were asked for, with [] for a counted section:
	// the whole language of the file.
	known map[string]bool
	// named are the private addresses that rules name.
	named []named
}

func (r *reader) fault(at place, key, format string, args ...any) {
	r.faults = append(r.faults, Fault{File: r.file, Line: at.line, Column: at.column, Key: key, Text: fmt.Sprintf(format, args...)})
}

// A section is a table that is being read. Reading a key with the wrong kind of
// value, or one that must be there and is not, is a fault; so is every key that
// nobody asked for (close).
type section struct {
	*reader
	name    string // network[2].radio; empty for the file itself
	pattern string // network[].radio
	table   *table
	present bool
	asked   []string
}

func (r *reader) top(t *table) *section {
	return &section{reader: r, table: t, present: true}
}

// key is the whole name of a key in this section.
func (s *section) key(name string) string { return join(s.name, name) }

func join(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}

// at is where a key's value stands; the section's header where it is missing.
func (s *section) at(name string) place {
	if n := s.table.keys[name]; n != nil {
		return n.at
	}
	return s.table.at
}

// bad says that a key's value is wrong.
func (s *section) bad(name, format string, args ...any) {
	s.fault(s.at(name), s.key(name), format, args...)
}

// find is the key's value, or nil. Keys are remembered as known.
func (s *section) find(name string) *node {
	s.asked = append(s.asked, name)
	s.known[join(s.pattern, name)] = true
	return s.table.keys[name]
}

// want is the key's value if it is of the kind wanted. One of another kind is a
// fault, and so is a missing one when must is true.
func (s *section) want(name, kind, allowed string, must bool) *node {
	n := s.find(name)
	if n == nil {
		if must {
			s.bad(name, "is missing; %s", allowed)
		}
		return nil
	}
	if n.kind != kind {
		s.bad(name, "%s", n.mismatch(kind, allowed))
		return nil
	}
	return n
}

// mismatch says what stands where another kind of value is wanted.
func (n *node) mismatch(kind, allowed string) string {
	switch {
	case n.kind == isText && kind == isWhole && isDigits(n.text):
		return fmt.Sprintf("%s stands in quotation marks; write it without them: %s", quote(n.text), cut(n.text))
	case n.kind == isText:
		return fmt.Sprintf("%s is text, not %s; %s", quote(n.text), kind, allowed)
	case kind == isText && (n.kind == isWhole || n.kind == isNumber || n.kind == isYesNo):
		return fmt.Sprintf("%s is not text, which stands in quotation marks; %s", cut(n.text), allowed)
	}
	return fmt.Sprintf("%s stands here, not %s; %s", n.kind, kind, allowed)
}

// text reads a text. The second result says whether one was there.
func (s *section) text(name, allowed string, must bool) (string, bool) {
	n := s.want(name, isText, allowed, must)
	if n == nil {
		return "", false
	}
	return n.text, true
}

// oneOf reads one of a few words.
func (s *section) oneOf(name, otherwise string, words ...string) string {
	allowed := "allowed are " + list(words, strconv.Quote)
	v, ok := s.text(name, allowed, false)
	if !ok {
		return otherwise
	}
	if !slices.Contains(words, v) {
		s.bad(name, "%s is not allowed; %s", quote(v), allowed)
		return otherwise
	}
	return v
}

// whole reads a whole number between two bounds, both included.
func (s *section) whole(name string, low, high int, allowed string, must bool) (int, bool) {
	n := s.want(name, isWhole, allowed, must)
	if n == nil {
		return 0, false
	}
	if n.whole < int64(low) || n.whole > int64(high) {
		s.bad(name, "%d is not allowed; %s", n.whole, allowed)
		return 0, false
	}
	return int(n.whole), true
}

// yesNo reads true or false; false where it is missing.
func (s *section) yesNo(name, allowed string) bool {
	n := s.want(name, isYesNo, allowed, false)
	return n != nil && n.text == "true"
}

// span reads a time span like 12h.
func (s *section) span(name string, otherwise, low, high time.Duration, allowed string) time.Duration {
	v, ok := s.text(name, allowed, false)
	if !ok {
		return otherwise
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < low || d > high {
		s.bad(name, "%s is not allowed; %s", quote(v), allowed)
		return otherwise
	}
	return d
}

// items reads a list whose values are all of one of the kinds given. Each comes
// with the name it has in faults.
func (s *section) items(name, allowed string, kinds ...string) []item {
	n := s.want(name, isList, allowed, false)
	if n == nil {
		return nil
	}
	var out []item
	for i, v := range n.list {
		key := fmt.Sprintf("%s[%d]", s.key(name), i+1)
		if !slices.Contains(kinds, v.kind) {
			s.fault(v.at, key, "%s", v.mismatch(kinds[0], allowed))
			continue
		}
		out = append(out, item{v, key})
	}
	return out
}

// An item is one value of a list.
type item struct {
	*node
	key string
}

// section reads a section that stands once.
func (s *section) section(name string) *section {
	n := s.find(name)
	sub := &section{reader: s.reader, name: s.key(name), pattern: join(s.pattern, name), table: newTable(s.table.at)}
	switch {
	case n == nil:
	case n.kind == isSection:
		sub.table, sub.present = n.table, true
	case n.kind == isList:
		s.bad(name, "stands once: write [%s] with single brackets", heading(sub.pattern))
	default:
		s.bad(name, "is a section: write [%s] and its keys on the lines below", heading(sub.pattern))
	}
	return sub
}

// heading is a section's name as it stands between brackets.
func heading(pattern string) string { return strings.ReplaceAll(pattern, "[]", "") }

// sections reads a section that is repeated, [[name]].
func (s *section) sections(name string) []*section {
	n := s.find(name)
	if n == nil {
		return nil
	}
	pattern := join(s.pattern, name)
	if n.kind != isList {
		s.fault(s.table.where[name], s.key(name), "can be repeated: write [[%s]] with double brackets", heading(pattern))
		return nil
	}
	var out []*section
	for i, v := range n.list {
		key := fmt.Sprintf("%s[%d]", s.key(name), i+1)
		if v.kind != isSection {
			s.fault(v.at, key, "%s stands here, not a section; write [[%s]] and its keys on the lines below", v.kind, heading(pattern))
			continue
		}
		out = append(out, &section{reader: s.reader, name: key, pattern: pattern + "[]", table: v.table, present: true})
	}
	return out
}

// close says which keys of the section do not exist.
func (s *section) close() {
	for _, name := range s.table.names {
		if !slices.Contains(s.asked, name) {
			s.fault(s.table.where[name], s.key(cut(name)), "%s", s.unknown(name))
		}
	}
}

func (s *section) unknown(name string) string {
	if why, ok := refused[strings.ToLower(name)]; ok {
		return why
	}
	if s.name == "ntp" && (name == "servers" || name == "server" || name == "pool" || name == "upstreams") {
		return ntpServers
	}
	if s.name == "" && elsewhere[name] != "" {
		return "there is no such section; perhaps " + elsewhere[name] + " is meant"
	}
	text := "there is no such key"
	if near := nearest(name, s.asked); near != "" {
		text += "; perhaps " + near + " is meant"
	}
	return text + "; allowed here are " + list(s.asked, func(s string) string { return s })
}

// Keys that somebody may well look for, and why there are none.
const (
	wpa2Only   = "the radio speaks WPA2 and nothing else, as the chargers need (Z-3); there is no key for it, remove the line"
	bandOnly   = "the radio works on 2.4 GHz with 802.11 b/g/n and nothing else, as the chargers need (Z-1); there is no key for it, remove the line"
	noHiding   = "the name is always shown, because Zaptec's app must see it; there is no key for it, remove the line"
	ntpServers = "whom this box asks for the time stands in chronyd's own configuration, /etc/chrony/chrony.conf and the *.sources files beside it; there is no key for it, remove the line"
	noForward  = "nothing is ever forwarded, so there is nothing to set; remove the line"
)

// elsewhere is where sections belong that somebody may well put at the top.
var elsewhere = map[string]string{
	"radio": "[network.radio], below its [[network]],", "allow": "[[egress.allow]]",
}

var refused = map[string]string{
	"wpa": wpa2Only, "wpa2": wpa2Only, "wpa3": wpa2Only, "sae": wpa2Only, "security": wpa2Only, "encryption": wpa2Only,
	"wpa_key_mgmt": wpa2Only, "pmf": wpa2Only, "ieee80211w": wpa2Only, "wps": wpa2Only, "auth": wpa2Only,
	"band": bandOnly, "hw_mode": bandOnly, "mode": bandOnly, "width": bandOnly, "ht": bandOnly,
	"hidden": noHiding, "broadcast": noHiding, "forward": noForward, "nat": noForward, "masquerade": noForward,
}

// nearest is the known name that a misspelt one is nearest to, at most two
// letters away.
func nearest(name string, known []string) string {
	best, distance := "", 3
	if len(name) > 40 {
		return ""
	}
	for _, k := range known {
		if d := letters(strings.ToLower(name), k); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	return best
}

// letters is how many letters must be changed, added or taken away to make one
// word of the other (Levenshtein's distance).
func letters(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// maxQuote bounds how much of a value a fault repeats.
const maxQuote = 60

func quote(s string) string { return strconv.QuoteToASCII(shorten(s)) }

// cut makes what was written fit for one line.
func cut(s string) string {
	q := quote(s)
	return q[1 : len(q)-1]
}

func shorten(s string) string {
	if len(s) > maxQuote {
		return s[:maxQuote] + "..."
	}
	return s
}

func list(words []string, write func(string) string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = write(w)
	}
	return strings.Join(out, ", ")
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
