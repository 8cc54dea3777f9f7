package wire

import (
	"fmt"
	"net/netip"
	"time"
)

// Cloud is the argument of the op "cloud": the Internet of the garage, with names,
// time, web servers and a hub, is begun in the namespace cloud. Where it is there
// already, only its time is told anew.
type Cloud struct {
	// Now is what time it is; zero: the guest's own, as it is at that moment. From
	// then on it runs evenly, whoever sets the guest's clock.
	Now time.Time `json:"now,omitzero"`
	// Timeless takes the time away.
	Timeless bool `json:"timeless,omitempty"`
}

// Stations is the argument of the op "stations": these stations join a Wi-Fi and
// ask for an address, each with its own wpa_supplicant and udhcpc in a namespace
// of its own. The op answers with a []Station, in their order, when all have an
// address or the time is up; who has none then is no error of the op.
type Stations struct {
	First     int           `json:"first"` // the first one's number, from 1 on
	Count     int           `json:"count"` // how many, one number after the other
	SSID      string        `json:"ssid"`
	PSK       string        `json:"psk"`       // the key in 64 hexadecimal digits: a passphrase costs the guest a second
	Frequency int           `json:"frequency"` // MHz
	Within    time.Duration `json:"within"`
}

// Station is how far a station has come; times are counted from the op's begin.
type Station struct {
	Number     int           `json:"number"`
	MAC        string        `json:"mac"`
	Made       time.Duration `json:"made"`       // its radio is in its namespace
	Associated time.Duration `json:"associated"` // with keys; 0: not
	Leased     time.Duration `json:"leased"`     // 0: not
	Address    netip.Prefix  `json:"address,omitzero"`
	Trouble    string        `json:"trouble,omitempty"`
}

// Quiet is the argument of the op "quiet": these stations break off their
// conversations.
type Quiet = Numbers

// StationMAC is the hardware address of a station, from one of Zaptec's blocks.
func StationMAC(number int) string {
	return fmt.Sprintf("60:15:92:41:%02x:%02x", number>>8, number&255)
}

// Numbers is the argument of ops that are about some of the stations that are
// there; none: all that have an address.
type Numbers struct {
	Numbers []int `json:"numbers,omitempty"`
}

// Talker is one of the answer of the op "talkers": how far the conversations of a
// station have come that "talk" (a Numbers) has begun.
type Talker struct {
	Number        int           `json:"number"`
	Stage         string        `json:"stage"` // pkg/sim's
	Well          bool          `json:"well"`  // it talks with the hub, and api.zaptec.com has answered
	Conversations int           `json:"conversations"`
	Pulses        int           `json:"pulses"` // how often the hub has acknowledged a sign of life
	Clock         time.Duration `json:"clock"`  // how far the time it was given is from the guest's
	Took          time.Duration `json:"took"`   // until it talked with the hub, from its address on
	Trouble       string        `json:"trouble,omitempty"`
	// Addresses are all that DHCP has given the station, each once.
	Addresses []netip.Prefix `json:"addresses,omitempty"`
}

// Count is the argument of the op "count": each of these stations opens one more
// conversation with the hub, says numbers, and hears them come back.
type Count struct {
	Numbers []int         `json:"numbers,omitempty"`
	Every   time.Duration `json:"every"`
}

// Counted is one of the answer of the op "counted", which ends what "count" has
// begun: every number came back, in its order, unless there is Trouble.
type Counted struct {
	Number  int           `json:"number"`
	Back    uint64        `json:"back"`    // how many came back
	Longest time.Duration `json:"longest"` // until one came back
	Trouble string        `json:"trouble,omitempty"`
}

// Beacons is the answer of the op "beacons": what was on the air since the last
// time that it was asked for, or since it was asked for first.
type Beacons struct {
	Heard   int           `json:"heard"`
	Missing int           `json:"missing"` // by the radio's own clock in each beacon
	Longest time.Duration `json:"longest"` // between two beacons, by that clock
}

// Signal is the argument of the op "signal": a station is heard so well from its
// next frame on. One that counts sends frames all the time.
type Signal struct {
	Number int `json:"number"`
	DBm    int `json:"dbm"`
}

// Say is the argument of the op "say": a station's wpa_supplicant is told a command
// of its control interface ("DISCONNECT", "RECONNECT"). The answer is what it said.
type Say struct {
	Number  int    `json:"number"`
	Command string `json:"command"`
}

// Wrong is the argument of the op "wrong": a station, which may be in already, tries
// so often to join with a passphrase that is wrong. Its answer is a Tried.
type Wrong struct {
	Stations
	Tries int `json:"tries"`
}

// Tried is how trying went.
type Tried struct {
	Tries int           `json:"tries"`
	MAC   string        `json:"mac"`
	Took  time.Duration `json:"took"`
}
