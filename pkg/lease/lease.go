// Package lease knows who has which address. It chooses an address for
// everybody who asks, keeps the promise that a MAC always gets the same one and
// that no two MACs ever share one, and remembers across power cuts.
//
// A Table holds the addresses of every network. Offer reserves in memory only.
// Bind makes a binding, and Commit waits until it is on disk; one fdatasync
// serves everybody who waits. Renewing costs no disk at all. On disk the table
// is a journal of records with a length and a checksum each, and a snapshot
// that shortens it (see files.go).
//
// An address that was reserved for a MAC is that MAC's alone. An address that
// somebody was seen with who does not have it from here is offered to nobody
// else (F-2); see neighbours.go.
//
// Lifetimes are monotonic (F-12): after a start every binding is good for one
// whole lease, because nobody knows how long the power was off.
//
// The package leaves to others who is in the inventory, how addresses are asked
// for, and what is said of it all.
package lease

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

const (
	// holdFor is how long an address that was offered is kept for the one it was
	// offered to. A client decides within seconds.
	holdFor = time.Minute
	// quarantine is how long an address that was declined is given to nobody who
	// can have another.
	quarantine = time.Hour
	// crowdedFor is how long it is remembered that a charger found no address, unless
	// one finds one meanwhile: every stranger renews at least once (Z-6).
	crowdedFor = 24 * time.Hour
)

// MaxTerm bounds how long a lease may last.
const MaxTerm = 366 * 24 * time.Hour

// maxHost bounds what is remembered of the name that a client gives itself.
const maxHost = 63

var (
	// ErrExhausted means that no address is left for this kind of client.
	ErrExhausted = errors.New("no address is free")
	// ErrRefused means that a client may not have the address that it asked for.
	// The error that wraps it says why.
	ErrRefused = errors.New("refused")
	// ErrVolatile means that a change is in force, but that it could not be
	// written: it is lost at the next power cut.
	ErrVolatile = errors.New("not on disk")
)

// A Claim is who wants an address, and how.
type Claim struct {
	Network string
	HW      [6]byte
	// Known says whether the MAC is in the inventory, which decides the range.
	Known bool
	// Host is the name that the client gives itself. It is untrusted; the first 63
	// bytes are kept.
	Host string
	// Term is how long the address is promised, more than 0 and at most MaxTerm.
	Term time.Duration
	// Starting says that the client does not use the address yet: it was just
	// offered it (SELECTING) or remembers it (INIT-REBOOT). One that renews uses it.
	Starting bool
}

// A Binding is an address that was promised to somebody.
type Binding struct {
	Network string
	HW      [6]byte
	Addr    netip.Addr
	Known   bool   // in the inventory when it was last heard
	Host    string // untrusted
	Term    time.Duration
	// Expires is when the address may be given to somebody else, if it is needed.
	Expires time.Time
	// Heard says whether the owner has asked since the daemon's start.
	Heard bool
}

// Live says whether the promise is still in force.
func (b Binding) Live(now time.Time) bool { return now.Before(b.Expires) }

// A Ticket stands for a change that has to reach the disk. The zero Ticket
// stands for none.
type Ticket uint64

// A Granted is the outcome of Bind.
type Granted struct {
	Binding
	// New says that the binding is new or another one than before. It is false for
	// a renewal, which writes nothing unless the lease has become longer.
	New bool
	// First says that the owner was not heard since the daemon's start.
	First bool
	// Ticket is to be given to Commit before the client is told. It is set for
	// renewals, too: they may follow a binding that is still on its way.
	Ticket Ticket
}

// A Count is how full one network is.
type Count struct {
	Network string
	// Size and Used count the chargers' addresses, StrangerSize and StrangerUsed
	// the strangers'. Used are those promised now.
	Size, Used, StrangerSize, StrangerUsed int
	// Quarantined counts the addresses that were declined within the last hour.
	Quarantined int
	// InUse counts the addresses that somebody was seen with who does not have
	// them from here.
	InUse int
	// Reserved counts the addresses that are kept for one MAC each. Those within
	// the ranges are part of Size and StrangerSize.
	Reserved int
}

// refused is an ErrRefused with its reason.
func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}
