package charger

import (
	"net/netip"
	"time"
)

// A Stage is the one word for how far a charger has come: the name of the step
// that is missing, or ok.
type Stage string

// The ladder, from the bottom.
const (
	Wifi  Stage = "wifi"  // not seen on the network
	DHCP  Stage = "dhcp"  // has Wi-Fi, needs an address
	DNS   Stage = "dns"   // has an address, asks for no name
	Time  Stage = "time"  // resolves names, has not got the time
	Cloud Stage = "cloud" // has the time, has no conversation with the cloud
	OK    Stage = "ok"    // talks with the cloud
)

// Stages lists the ladder from the bottom up.
func Stages() []Stage { return []Stage{Wifi, DHCP, DNS, Time, Cloud, OK} }

// shortest is the least that a conversation with the cloud lasts when the cloud
// has accepted the charger.
const shortest = 15 * time.Second

// seen is what is known of one MAC since the daemon started. Times are zero
// until something was seen; they carry the monotonic clock (F-12).
type seen struct {
	network string
	addr    netip.Addr
	// leasedOn is the network of addr.
	leasedOn string
	// used is when it was last heard with addr, if that is all that is known of it;
	// zero: it has addr from here.
	used time.Time
	host string // hostname it gives itself; untrusted

	last       time.Time // any sign of life
	associated time.Time // on the radio now, since; zero when not, or not known
	onAir      time.Time // its last frame on the radio
	heard      time.Time // when its address was last announced or used
	moved      time.Time // when a byte last went either way on a conversation with the cloud
	left       time.Time // when it last went from the radio
	mistyped   time.Time // when it last tried a wrong passphrase
	turnedAway time.Time // when a radio last had no room for it
	booted     time.Time // last DISCOVER: what was proved before is history
	leased     time.Time
	resolved   time.Time
	timed      time.Time
	talked     time.Time // last time bytes came back from the cloud

	sessions    int // open conversations with the cloud (8883)
	older       int // those from before the last boot: dead, unless bytes say otherwise
	dayOf       int // year·1000+day of the year of today
	up, down    int64
	dayUp       int64
	dayDown     int64
	connects    int       // conversations opened
	resumed     int       // conversations taken over from the daemon before this one
	refused     string    // the last thing that was refused
	refusedAt   time.Time //
	firmware    string    // the last name that was refused and may be its firmware's
	firmwareAt  time.Time //
	unreachable string    // which allowed name could not be reached, and how it failed
	failedAt    time.Time
	cut         int // conversations with the cloud that ended within seconds, in a row
	cutAt       time.Time
	signal      int // dBm, 0 unknown
	stage       Stage
	since       time.Time // when it came to stage
	back        bool      // it is there again, as it was before this daemon; moved is to hear of it
}

// stageNow is the furthest stage proved since the last boot. A step may be
// skipped: a charger with a good clock asks no time.
func (s *seen) stageNow() Stage {
	switch {
	case s.last.IsZero():
		return Wifi
	case s.sessions > 0 && !s.talked.IsZero() && !s.talked.Before(s.booted) && !s.talked.Before(s.left):
		return OK
	case !s.timed.IsZero():
		return Cloud
	case !s.resolved.IsZero():
		return Time
	case !s.leased.IsZero():
		return DNS
	}
	return DHCP
}
