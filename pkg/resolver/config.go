package resolver

import (
	"net/netip"
)

// An Upstream is a server that is asked for what the cache does not hold.
type Upstream struct {
	// System means the servers of /etc/resolv.conf, followed as it changes.
	System bool
	// Addr is the server's address and port when it is not System.
	Addr netip.AddrPort
	// TLSName, when not empty, asks over TLS (RFC 7858) and is the name that the
	// server's certificate must carry.
	TLSName string
}

// Config is what the resolver needs to know.
type Config struct {
	// Listen is where questions are answered, over UDP and TCP: each network's
	// gateway address, and House for the daemon itself.
	Listen []netip.AddrPort
	// Gateways are the gateway's own addresses with their subnets. A question
	// for the NTP pool is answered with the one whose subnet the asker is in.
	Gateways []netip.Prefix
	// Upstreams are asked in this order until it is known which answers quickest.
	Upstreams []Upstream
	// ResolvConf is the file behind the upstream "system"; empty:
	// /etc/resolv.conf.
	ResolvConf string
	// Rate is how many questions a second one device may ask on average, and three
	// times as many at once after a rest; 0: DefaultRate.
	Rate int
	// File is where the last good answers of allowed names are kept, for a garage
	// that has power before its uplink; empty: nowhere.
	File string
	// Synchronised says whether this box knows the time. Until it has once, the
	// dates of certificates prove nothing (F-12). Nil: it always does.
	Synchronised func() bool
}

// DefaultRate is far above what a charger asks, which is a handful of names
// after its start.
const DefaultRate = 20

// House is the loopback address on which the daemon asks its own resolver. It
// is not 127.0.0.1 or 127.0.0.53, so that it meets no other resolver.
var House = netip.MustParseAddrPort("127.83.0.1:53")
