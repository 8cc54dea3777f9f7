package status

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"chargegate/pkg/charger"
	"chargegate/pkg/policy"
)

// Sources is what the noticeboard shows. Every func is called when somebody
// asks, must be safe for concurrent use, and must not wait for anything but a
// lock, except TimeSources, AskEach, LookupNetIP and Dial. A func that is nil leaves its part out,
// or has the default that is named.
type Sources struct {
	Site    string
	Version string
	Started time.Time // when the daemon began, with its monotonic reading

	// Book is who is who; it must not be nil.
	Book *charger.Book
	// List is what may be reached. Nil allows nothing.
	List *policy.List
	// Networks are the charger networks, in the configuration's order.
	Networks []Network
	// Clock says whether this box knows the time (Z-11).
	Clock func() Clock
	// TimeSources says whom the clock follows, for Clock.Sources. It may wait for a
	// second, and should remember what it was told.
	TimeSources func(ctx context.Context) []TimeSource
	// Trouble says in words what is wrong with a network as a whole, and what to do
	// about it; empty: nothing. Nil: nothing is wrong with any.
	Trouble func(network string) (problem, do string)
	// Pools say how full each network is.
	Pools func(now time.Time) []PoolUse
	// Radios are what was last seen on each radio.
	Radios func() []Radio
	// Link says how the interface towards the Internet is.
	Link func() Link
	// Uplink says whether names can be asked for.
	Uplink func() Uplink
	// AskEach puts one question to every DNS server, for doctor, and says what each
	// made of it; none: nothing can be asked. It may wait for three seconds.
	AskEach func(ctx context.Context) []DNSServer

	// Conversations are what a device has open, the oldest first, and its last calls
	// that are over, the newest first, without their ages. addr tells it from one that
	// uses its MAC on another network.
	Conversations func(mac charger.MAC, addr netip.Addr) ([]Conversation, []Past)
	// Volume is what a device moved, and Today what each moved today. Nil: today is
	// what the book saw since the start.
	Volume func(mac charger.MAC, now time.Time) Volume
	Today  func(now time.Time) map[charger.MAC]Moved
	// Signals is how a device was heard. Nil: nobody remembers.
	Signals func(mac charger.MAC, now time.Time) Signals
	// Outages are the allowed names that cannot be reached now, without their ages.
	Outages func() []Outage

	// LookupNetIP is how doctor resolves an allowed name: as egress does.
	LookupNetIP func(ctx context.Context, network, host string) ([]netip.Addr, error)
	// Confirmed says how long ago the addresses that LookupNetIP gives were last
	// confirmed, when they are old ones that no DNS server has confirmed since they
	// ended.
	Confirmed func(host string) (ago time.Duration, old bool)
	// Dialable says which addresses of an allowed name egress would dial, or why it would
	// dial none and what to do about it. Doctor sends nothing to any other. Nil: all.
	Dialable func(name string, port uint16, addrs []netip.Addr) (may []netip.Addr, why, do string)
	// Dial is how doctor reaches an allowed name; nil: a plain net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Collectors are what each room counts.
	Collectors []prometheus.Collector
}

// A Network is one charger network as it is configured. There is no passphrase
// here, on purpose.
type Network struct {
	Name      string       `json:"name"`
	Interface string       `json:"interface"`
	Gateway   netip.Prefix `json:"gateway"`           // this box's address in it, with the length of the subnet
	Chargers  int          `json:"chargers"`          // how many it was planned for
	SSID      string       `json:"ssid,omitempty"`    // empty: an external access point
	Channel   int          `json:"channel,omitempty"` // 1 to 11 (Z-2)
}

// A Clock is what is known of this box's own time.
type Clock struct {
	Source       string    `json:"source,omitempty"`      // who says whether it is right: "chrony" or "kernel"
	Synchronised bool      `json:"synchronised"`          // whether chargers are given the time (Z-11)
	Stratum      int       `json:"stratum,omitempty"`     // of this box, as its time source counts
	RefID        string    `json:"ref_id,omitempty"`      // whom it follows
	RootDistance Seconds   `json:"root_distance_seconds"` // the most it can be wrong (RFC 5905, 10)
	Offset       Seconds   `json:"offset_seconds"`        // how far it was off when last corrected
	Since        time.Time `json:"since,omitzero"`        // when this state began
	Reason       string    `json:"reason,omitempty"`      // why no time is given
	LastStep     *Step     `json:"last_step,omitempty"`   // the last time the clock was set; absent: not since the daemon began
	// Sources are those whom the clock may follow; nil: unknown.
	Sources []TimeSource `json:"sources,omitempty"`
}

// A Step is that the clock was set.
type Step struct {
	At time.Time `json:"at"`         // on the new clock
	By Seconds   `json:"by_seconds"` // positive: forward
}

// A TimeSource is one server that this box's clock may follow.
type TimeSource struct {
	Address string `json:"address"`
	Name    string `json:"name,omitempty"` // in chronyd's configuration
	// State is chronyd's word for it: "selected" (followed), "candidate" and
	// "outlier" (agree with it), "jittery", "falseticker" (contradicts the others),
	// "unusable" (not good for anything yet), "unreachable".
	State   string `json:"state"`
	Stratum int    `json:"stratum,omitempty"`
	// Reach is how the last eight questions went, in octal as chronyc writes it: 377
	// is all answered, 0 none.
	Reach string `json:"reach"`
	// Age is how long ago it last gave the time, Offset by how much this box was
	// ahead of it then, and Error how sure that is; absent: it never did.
	Age    *Seconds `json:"age_seconds,omitempty"`
	Offset *Seconds `json:"offset_seconds,omitempty"`
	Error  *Seconds `json:"error_seconds,omitempty"`
}

// Answers reports whether it has answered lately.
func (t TimeSource) Answers() bool { return t.Reach != "" && t.Reach != "0" }

// Called is what people call it.
func (t TimeSource) Called() string {
	if t.Name == "" || t.Name == t.Address {
		return t.Address
	}
	return t.Name + " (" + t.Address + ")"
}

// PoolUse is how full one network's addresses are. Strangers have addresses of
// their own (Z-5).
type PoolUse struct {
	Network      string `json:"network"`
	Size         int    `json:"size"` // the chargers' addresses
	Used         int    `json:"used"`
	StrangerSize int    `json:"stranger_size"` // the strangers'
	StrangerUsed int    `json:"stranger_used"`
	Quarantined  int    `json:"quarantined"` // declined, because somebody else uses them
}

// StrangersFull reports whether the next stranger gets no address.
func (p PoolUse) StrangersFull() bool { return p.StrangerSize > 0 && p.StrangerUsed >= p.StrangerSize }

// A Radio is what was last seen on one radio.
type Radio struct {
	Network     string    `json:"network"`
	Interface   string    `json:"interface"`
	State       string    `json:"state"`                     // "watched", or why not: "waiting", "unsupported", "missing", "not-access-point", "silent", "failed"
	Problem     string    `json:"problem,omitempty"`         // why not, in words
	At          time.Time `json:"at,omitzero"`               // when it was looked at; absent: never
	Channel     int       `json:"channel,omitempty"`         // on which it serves; absent: not known
	Unheard     string    `json:"hostapd_unheard,omitempty"` // why hostapd has not been heard for a minute, though the radio serves
	MaxStations int       `json:"max_stations,omitempty"`
	Planned     bool      `json:"as_planned"` // everybody on it is a charger of the inventory, and all of those that belong here have room
	NoSignal    bool      `json:"no_signal"`  // the radio is known to report no signal (F-11)
	Stations    []Station `json:"stations"`
}

// Watched reports whether the radio could be looked at.
func (r Radio) Watched() bool { return r.State == "watched" }

// A Station is one device on a radio. Its signal is the uplink's: how well this
// box hears it.
type Station struct {
	MAC         charger.MAC `json:"mac"`
	Signal      int         `json:"signal_dbm,omitempty"`    // of its last frame; absent: unknown
	Median      int         `json:"median_dbm,omitempty"`    // over the window; absent: unknown
	Early       Seconds     `json:"early_seconds,omitempty"` // until there can be a median, where there is none
	Grade       string      `json:"grade"`                   // of Median: "unknown", "good", "ok", "weak", "below minimum", "critical" (Z-4)
	GradeAge    Seconds     `json:"grade_seconds"`           // how long it has been that
	Said        string      `json:"said"`                    // the grade that has lasted long enough to be said
	Inactive    Seconds     `json:"inactive_seconds"`        // since its last frame
	Connected   Seconds     `json:"connected_seconds,omitempty"`
	Sent        int         `json:"sent"`                     // frames to it, since it joined
	Resent      *int        `json:"resent_percent,omitempty"` // of the tries to reach it in the last ten minutes, how many were not the first; absent: too few to tell
	Retries     int         `json:"retries"`                  // frames to it that had to be sent again, since it joined
	Failed      int         `json:"failed"`                   // frames to it that were lost, since it joined
	BitrateUp   int         `json:"bitrate_up,omitempty"`     // bit/s from it
	BitrateDown int         `json:"bitrate_down,omitempty"`   // bit/s to it
}

// A Link is the interface towards the Internet.
type Link struct {
	Interface string     `json:"interface"`
	Known     bool       `json:"known"`             // it was looked at; the rest is empty until then
	Up        bool       `json:"up"`                // nothing is missing
	Missing   string     `json:"missing,omitempty"` // what is, in words: "no cable"
	Do        string     `json:"do,omitempty"`      // what to do about it
	Address   netip.Addr `json:"address,omitzero"`
	Since     time.Time  `json:"since,omitzero"`    // when this box noticed that it is up, or down
	Problem   string     `json:"problem,omitempty"` // why it cannot be looked at now
}

// Down reports whether nothing can get out for sure.
func (l Link) Down() bool { return l.Known && !l.Up }

// Uplink is what is known of the way out, from the names asked for.
type Uplink struct {
	Servers int    `json:"servers"`           // DNS servers that are asked
	Lost    int    `json:"lost"`              // of these, how many do not answer
	Errors  int    `json:"errors,omitempty"`  // and how many answer, but with nothing but errors
	Problem string `json:"problem,omitempty"` // in words, when something is wrong
	// Each is every server by itself, in the order of the configuration.
	Each []DNSServer `json:"each,omitempty"`
}

// A DNSServer is one server that is asked for names.
type DNSServer struct {
	Name    string  `json:"name"`              // as the configuration writes it
	Lost    bool    `json:"lost"`              // it has not answered the last questions
	Errors  bool    `json:"errors,omitempty"`  // it answers, but with nothing but errors
	Latency Seconds `json:"latency"`           // how long its answers usually take; 0: it has not answered yet
	Problem string  `json:"problem,omitempty"` // what went wrong last, in words; empty after a good answer
	Do      string  `json:"do,omitempty"`      // what to do about it
}

// OK reports whether names can be asked for.
func (u Uplink) OK() bool { return u.Servers > u.Lost+u.Errors }
