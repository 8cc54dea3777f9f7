package status

import (
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/policy"
)

// A Status is the answer of /v1/status.
type Status struct {
	Site    string    `json:"site"`
	Version string    `json:"version"`
	Started time.Time `json:"started"` // also tells one run of the daemon from the next
	Uptime  Seconds   `json:"uptime_seconds"`
	// OK says that nothing needs attention; Attention says in sentences what does.
	OK        bool     `json:"ok"`
	Attention []string `json:"attention"`
	// Troubles are the same sentences, each with what it is about and what to do.
	Troubles []Trouble `json:"troubles"`
	Link     *Link     `json:"link,omitempty"`
	Clock    *Clock    `json:"clock,omitempty"`
	Uplink   *Uplink   `json:"uplink,omitempty"`
	// Outages are the allowed names that cannot be reached now.
	Outages  []Outage       `json:"outages,omitempty"`
	Networks []NetworkState `json:"networks"`
	Rules    []policy.Rule  `json:"rules"`
	// Summary counts the chargers by stage, in words.
	Summary  string    `json:"summary"`
	Chargers []Charger `json:"chargers"`
}

// A Trouble is something that needs attention.
type Trouble struct {
	About string `json:"about"` // one of the constants below
	Text  string `json:"text"`
	Do    string `json:"do,omitempty"` // what to do about it
}

// What a Trouble can be about.
const (
	AboutLink     = "uplink"
	AboutClock    = "time"
	AboutNames    = "names"
	AboutOutage   = "outage"   // of an allowed name
	AboutNetwork  = "network " // and its name
	AboutChargers = "chargers" // each says for itself what is missing
)

// A NetworkState is one charger network, as it is configured and as it is.
type NetworkState struct {
	Network
	Problem string   `json:"problem,omitempty"` // what is wrong with it as a whole, in words
	Do      string   `json:"do,omitempty"`      // what to do about that
	Pool    *PoolUse `json:"pool,omitempty"`
	Radio   *Radio   `json:"radio,omitempty"` // absent where an external access point hangs on it
}

// Chargers is the answer of /v1/chargers.
type Chargers struct {
	Summary  string    `json:"summary"`
	Chargers []Charger `json:"chargers"` // by network and name, strangers last
}

// A Charger is what the book says of one device. The times of day are by the
// clock of this box, which may have been wrong then (F-12); the ages are not.
type Charger struct {
	charger.Status
	// ProbablyCharger says of a stranger that its MAC is one of Zaptec's.
	ProbablyCharger bool `json:"probably_charger,omitempty"`
	// Median, Grade and Said are as in Station, where a radio hears it.
	Median int    `json:"median_dbm,omitempty"`
	Grade  string `json:"grade,omitempty"`
	Said   string `json:"said,omitempty"`
	// SignalAdvice is what to do where Said is too weak.
	SignalAdvice   string   `json:"signal_advice,omitempty"`
	StageAge       *Seconds `json:"stage_age_seconds,omitempty"`     // how long it has been at its stage
	LastSeenAge    *Seconds `json:"last_seen_age_seconds,omitempty"` // absent: never seen
	RefusedAge     *Seconds `json:"refused_age_seconds,omitempty"`
	UnreachableAge *Seconds `json:"unreachable_age_seconds,omitempty"`
}

// A ChargerDetail is the answer of /v1/charger/{who}.
type ChargerDetail struct {
	Charger
	// Station is how the radio sees it, where there is one that does.
	Station *Station `json:"station,omitempty"`
	// Signs are why it counts as present, the freshest first; none: it is absent.
	Signs []Sign `json:"signs"`
	// NoSignal says that the radio it is on is known to report no signal.
	NoSignal bool `json:"no_signal,omitempty"`
	// Started is when the daemon did: Past begins there.
	Started time.Time `json:"started"`
	// Conversations are those that it has open, the oldest first, and Past the last
	// twenty that are over or came to nothing since Started, the newest first.
	Conversations []Conversation `json:"conversations"`
	Past          []Past         `json:"past"`
	// Volume is what it moved; absent: nobody keeps accounts, or they are somebody
	// else's whose MAC it uses.
	Volume *Volume `json:"volume,omitempty"`
	// Signals are how it was heard; absent: nobody remembers, or that is somebody else.
	Signals *Signals `json:"signals,omitempty"`
	Events  []Event  `json:"events"` // its last ones, oldest first
}

// A Sign is one that a charger is there.
type Sign struct {
	By  string  `json:"by"` // "radio", "arp" (its address was announced or used) or "cloud" (its open conversation)
	Age Seconds `json:"age_seconds"`
}

// Events is the answer of /v1/events.
type Events struct {
	// Started tells one run of the daemon from the next: sequence numbers count
	// from 1 in each.
	Started time.Time `json:"started"`
	// Since is when the events that are kept begin; older ones are in the journal.
	Since time.Time `json:"since"`
	// Next is what to give as after= for the events that follow these.
	Next   uint64  `json:"next"`
	Events []Event `json:"events"` // oldest first
}

// An Event is something that happened.
type Event struct {
	Seq        uint64            `json:"seq"`
	Time       time.Time         `json:"time"`
	Age        Seconds           `json:"age_seconds"`
	Event      string            `json:"event"` // the kind's ID
	Level      string            `json:"level"` // debug, info, warning, error
	Message    string            `json:"message"`
	Advice     string            `json:"advice,omitempty"`
	Suppressed int               `json:"suppressed,omitempty"` // the same ones that were not said
	Fields     map[string]string `json:"fields,omitempty"`     // CHARGER, MAC, IP, NETWORK and its own
}

// A Result says how a check ended.
type Result string

// Results of a check.
const (
	Pass Result = "ok"
	Warn Result = "warn" // somebody should look at it
	Fail Result = "fail" // chargers cannot work, or soon will not
)

// A Check is one thing that doctor looked at.
type Check struct {
	Name   string  `json:"name"`
	Result Result  `json:"result"`
	Found  string  `json:"found"`        // what was found, in a sentence
	Do     string  `json:"do,omitempty"` // what to do about it
	Took   Seconds `json:"took_seconds"`
}

// A Doctor is the answer of /v1/doctor. With stream=1 the answer is instead one
// Check per line, each as soon as it and those before it have ended.
type Doctor struct {
	OK     bool    `json:"ok"` // every check passed
	Checks []Check `json:"checks"`
}

// A Fault is the answer when there is no other: what was wrong, and what would
// be right.
type Fault struct {
	Code  int    `json:"-"` // the HTTP status
	Error string `json:"error"`
	Right string `json:"right,omitempty"`
}
