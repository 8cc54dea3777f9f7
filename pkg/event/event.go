// Package event is the vocabulary of the log: every line that the daemon
// writes is one of the Kinds declared here, with an identity that scripts can
// rely on, a sentence that a technician would say, an explanation and, where
// somebody must act, advice.
//
// A room says what happened with (*Log).Say and the fields it knows. Log adds
// who it was (the charger's name from its MAC or address), limits repetition
// at the source, keeps the last events for the status room, and hands the
// record to its sinks: the journal with fields, text on a terminal, or JSON.
//
// The package leaves to others who is who (see Options.Who) and where lines go
// after the sink.
package event

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Level orders events by who must act on them.
type Level int

// Levels, from packets to "the operator, now".
const (
	Debug   Level = iota // one packet, one query: for developers
	Info                 // a rare change of state: for whoever reads the story
	Warning              // the technician, soon
	Error                // the operator, now
)

var levelNames = [...]string{"debug", "info", "warning", "error"}

// String returns the level's name as the configuration writes it.
func (l Level) String() string {
	if l < Debug || l > Error {
		return fmt.Sprintf("level %d", int(l))
	}
	return levelNames[l]
}

// Priority returns the level as a syslog priority (RFC 5424, 6.2.1), the value
// of the journal's PRIORITY field.
func (l Level) Priority() int {
	switch l {
	case Error:
		return 3
	case Warning:
		return 4
	case Info:
		return 6
	}
	return 7
}

// UnmarshalText accepts debug, info, warning and error.
func (l *Level) UnmarshalText(text []byte) error {
	for i, name := range levelNames {
		if string(text) == name {
			*l = Level(i)
			return nil
		}
	}
	return fmt.Errorf("%q is not a log level; allowed are %s", text, strings.Join(levelNames[:], ", "))
}

// MarshalText writes the level's name.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// A Kind is one thing that can be said. Kinds are declared in this package
// only, one file per room, and never change at run time.
type Kind struct {
	// ID names the event for ever: lower-case words joined by hyphens, the
	// room first.
	ID string
	// Level says who must act.
	Level Level
	// Text is the sentence, with {FIELD} where a field's value goes. {CHARGER},
	// {MAC}, {IP} and {NETWORK} are filled in by Log where it knows them.
	Text string
	// Explain says what the event means, for journalctl -x and the docs.
	Explain string
	// Advice says what to do. It is empty only where nothing needs doing.
	Advice string
	// Every is the shortest time between two of the same event; those between
	// are counted and the count is said with the next one. Zero: no limit.
	Every time.Duration
	// Per names the fields that, besides the subject (MAC, else IP, else
	// NETWORK), make two events the same for Every.
	Per []string
	// Most is how many different events of this kind one subject may cause
	// within Every; those beyond are counted like repetitions. Zero: any number.
	// It is for what a stranger can make up without end. Those of whom nothing but
	// an address is known count as one subject.
	Most int
}

// MessageID returns the journal's MESSAGE_ID: 128 bits derived from the ID, so
// that it needs no register and can never drift from the name.
func (k *Kind) MessageID() string {
	sum := sha256.Sum256([]byte("chargegate event " + k.ID))
	return hex.EncodeToString(sum[:16])
}

// All returns every kind, grouped by room: the vocabulary that the journal's
// catalogue and the documentation are made from.
func All() []*Kind {
	var all []*Kind
	for _, room := range [][]*Kind{
		daemonKinds, configKinds, chargerKinds, dhcpKinds, resolverKinds, ntprelayKinds,
		egressKinds, deniedKinds, radioKinds, signalKinds, airKinds, statusKinds, handoverKinds, uplinkKinds, volumeKinds, reviveKinds,
	} {
		all = append(all, room...)
	}
	return all
}

// A Record is an event that happened.
type Record struct {
	Seq     uint64 // counts from 1 since the start of the process
	Time    time.Time
	Kind    *Kind
	Message string  // the sentence, filled in
	Fields  []Field // sorted as said, subject first
	// Suppressed counts the same events that Kind.Every held back before this one.
	Suppressed int
}

// Advice returns the kind's advice, with the fields' values filled in.
func (r Record) Advice() string { return fill(r.Kind.Advice, r) }

// Field returns the value of the field named key, or "".
func (r Record) Field(key string) string {
	for _, f := range r.Fields {
		if f.Key == key {
			return f.Value
		}
	}
	return ""
}
