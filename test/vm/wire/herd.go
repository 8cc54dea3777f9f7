package wire

import (
	"net/netip"
	"time"
)

// Herd is the argument of the op "herd": chargers on the wire of the namespace site
// that ask for their addresses. Each has a number, and with it always the same MAC
// (sim.CrowdMAC). Its answer's Out is a HerdTally.
type Herd struct {
	First    int           `json:"first"`    // the number of the first
	Clients  int           `json:"clients"`  // how many
	Together int           `json:"together"` // how many at a time; 0: all
	Remember bool          `json:"remember"` // they ask for the address that they had since the agent began (INIT-REBOOT)
	Limit    time.Duration `json:"limit"`    // who has none then goes without
}

// HerdTally is how a herd fared.
type HerdTally struct {
	Leased  int           `json:"leased"`
	Refused int           `json:"refused"` // NAKs
	Doubles int           `json:"doubles"` // ACKs of an address that another one has
	Moved   int           `json:"moved"`   // ACKs of another address than before
	Resent  int           `json:"resent"`
	Last    time.Duration `json:"last"` // when the last one had its address
}

// Promises is the argument of the op "promises": what the herd has been promised
// since the agent began. Its answer's Out is a list of Promise, in their order.
type Promises struct {
	After int           `json:"after"` // without the first so many
	Wait  time.Duration `json:"wait"`  // at most, while there is nothing
}

// A Promise is an ACK that was read: a charger has the address from then on.
type Promise struct {
	MAC  [6]byte    `json:"mac"`
	Addr netip.Addr `json:"addr"`
}
