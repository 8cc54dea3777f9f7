package status

import (
	"fmt"
	"net/netip"
	"time"

	"chargegate/pkg/charger"
)

// A Conversation is one that a charger has open.
type Conversation struct {
	Name string `json:"name"`
	Port uint16 `json:"port"`
	// By is what told the name: "sni" (the ClientHello), "host" (of a plain request),
	// "address" (the one that was asked for), "hub" (on 8883 only that is ever meant).
	By     string         `json:"by"`
	Reason string         `json:"reason,omitempty"` // of the rule that allows it
	Remote netip.AddrPort `json:"remote"`
	Opened time.Time      `json:"opened"`
	Age    Seconds        `json:"age_seconds"`
	Silent Seconds        `json:"silent_seconds"` // since a byte last moved
	Up     int64          `json:"up_bytes"`
	Down   int64          `json:"down_bytes"`
	Taken  int            `json:"taken_over,omitempty"` // how many restarts and crashes of the daemon it has outlived
}

// A Past is a conversation that is over, or a call that came to nothing. Those that
// followed each other and differ in nothing but their bytes are one.
type Past struct {
	Outcome string `json:"outcome"` // "ended", "refused", or "unreachable": nobody answered
	Name    string `json:"name,omitempty"`
	Port    uint16 `json:"port,omitempty"`
	// Cause is one word: of an unreachable one as in Outage, of a refused one "name" (it
	// is not on the list), "port" (not on this one), "plain" (it was not TLS), "nameless"
	// (nothing told a name), "hello" (it did not say what it wants), "direct" (the
	// proxy's own port) or "limit" (too many at once).
	Cause  string         `json:"cause,omitempty"`
	Reason string         `json:"reason"`          // in words
	Remote netip.AddrPort `json:"remote,omitzero"` // the server of the last one, where one took it
	Count  int            `json:"count"`
	First  time.Time      `json:"first"` // when the first of them ended
	At     time.Time      `json:"at"`    // and the last
	Age    Seconds        `json:"age_seconds"`
	Lasted Seconds        `json:"lasted_seconds"` // all of them together
	Up     int64          `json:"up_bytes"`
	Down   int64          `json:"down_bytes"`
}

// A Volume is what a charger moved, by day and name (Z-14).
type Volume struct {
	// Dated says that this box knows what day it is. Until then Today is what moved
	// since the daemon began.
	Dated bool        `json:"dated"`
	Since string      `json:"since,omitempty"` // the first of the 30 days that is written down, as 2026-11-21
	Sum   VolumeRow   `json:"sum"`
	Names []VolumeRow `json:"names"` // the largest of the 30 days first
}

// A VolumeRow is the volume of one name; the empty one is all that there was no room
// for.
type VolumeRow struct {
	Name      string `json:"name,omitempty"`
	Today     Moved  `json:"today"`
	Yesterday Moved  `json:"yesterday"`
	Week      Moved  `json:"last_7_days"`
	Month     Moved  `json:"last_30_days"`
}

// Moved is bytes, and conversations begun.
type Moved struct {
	Up       int64 `json:"up_bytes"`
	Down     int64 `json:"down_bytes"`
	Sessions int64 `json:"conversations"`
}

// Total is the bytes both ways.
func (m Moved) Total() int64 { return m.Up + m.Down }

// An Outage is an allowed name that cannot be reached now, whoever asks.
type Outage struct {
	Name   string    `json:"name"`
	Port   uint16    `json:"port"`
	Cause  string    `json:"cause"` // one word: "dns", "tcp", "address", "tls"
	Words  string    `json:"words"` // the cause in words
	Do     string    `json:"do"`    // what to do about it
	Since  time.Time `json:"since"`
	Age    Seconds   `json:"age_seconds"`
	Failed int       `json:"failed"` // calls
	Last   time.Time `json:"last"`   // when the last of them did
	Quiet  Seconds   `json:"last_age_seconds"`
	// Shaky says that calls succeed between those that fail.
	Shaky bool `json:"shaky,omitempty"`
}

// today puts the accounts of the day in place of what the book remembers since the
// start of the daemon.
func (s *Server) today(all []charger.Status, now time.Time) []charger.Status {
	if s.src.Today == nil {
		return all
	}
	today := s.src.Today(now)
	for i := range all {
		m := today[all[i].MAC]
		if all[i].Known || !s.chargers(all[i].MAC) { // who copies a charger's MAC has not its account
			all[i].UpToday, all[i].DownToday = m.Up, m.Down
		}
	}
	return all
}

// chargers reports whether a MAC is in the inventory.
func (s *Server) chargers(mac charger.MAC) bool {
	_, known := s.src.Book.Known(mac)
	return known
}

// outages are the names that cannot be reached now, with their ages.
func (s *Server) outages(now time.Time) []Outage {
	if s.src.Outages == nil {
		return nil
	}
	all := s.src.Outages()
	for i := range all {
		all[i].Age, all[i].Quiet = Seconds(max(0, now.Sub(all[i].Since))), Seconds(max(0, now.Sub(all[i].Last)))
	}
	return all
}

// current is how long after the last failed call an outage needs somebody: a name
// that nobody calls any more stays an outage until it is called again.
const current = time.Hour

// outageTrouble says an outage, and what to do about it.
func outageTrouble(o Outage) (text, do string) {
	how := "cannot be reached"
	if o.Shaky {
		how = "can be reached now and then only"
	}
	text = fmt.Sprintf("%s on port %d %s%s: %s.", o.Name, o.Port, how, since(o.Age), orElse(plainText(o.Words), o.Cause))
	return text, orElse(o.Do, "Run: sudo chargegate doctor.")
}

// since says for how long, when that is worth saying.
func since(age Seconds) string {
	switch d := age.Duration(); {
	case d < time.Minute:
		return ""
	case d < 2*time.Hour:
		return fmt.Sprintf(", for %d min now", int(d.Minutes()))
	default:
		return fmt.Sprintf(", for %d h now", int(d.Hours()))
	}
}

// addVolume adds what a charger said and moved to its page.
func (s *Server) addVolume(d *ChargerDetail, now time.Time) {
	d.Conversations, d.Past = []Conversation{}, []Past{}
	if s.src.Conversations != nil {
		open, past := s.src.Conversations(d.MAC, d.Address)
		for _, c := range open {
			c.Age, c.Silent = Seconds(max(0, now.Sub(c.Opened))), max(0, c.Silent)
			d.Conversations = append(d.Conversations, c)
		}
		for _, p := range past {
			p.Age = Seconds(max(0, now.Sub(p.At)))
			d.Past = append(d.Past, p)
		}
	}
	if s.src.Volume != nil && (d.Known || !s.chargers(d.MAC)) {
		v := s.src.Volume(d.MAC, now)
		if v.Names == nil {
			v.Names = []VolumeRow{}
		}
		d.Volume = &v
	}
}
