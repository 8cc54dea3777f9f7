package ntprelay

import (
	"net/netip"
	"time"
)

// Sources of the knowledge that the kernel clock is right.
const (
	Chrony = "chrony" // chronyd's tracking report
	Kernel = "kernel" // adjtimex(2): whatever disciplines the clock
)

// Config is what the time relay needs to know.
type Config struct {
	// Listen is where the time is given: each network's gateway address, port 123.
	Listen []netip.AddrPort
	// Source is Chrony or Kernel.
	Source string
	// Chronyd is chronyd's command port; zero: 127.0.0.1:323.
	Chronyd netip.AddrPort
	// MaxDistance is the root distance (half the root delay plus the root
	// dispersion, RFC 5905 section 10) above which the clock counts as not
	// known to be right; zero: 1 s.
	MaxDistance time.Duration
	// Rate is how many requests a second one device may make on average, and
	// sixteen times as many at once after a rest, of what is over a part leaks
	// (limit.Leak); 0: DefaultRate.
	Rate int
}

// DefaultRate is far above what a charger asks: once at its start, and again
// after hours.
const DefaultRate = 1
