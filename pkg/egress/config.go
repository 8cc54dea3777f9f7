package egress

import (
	"net/netip"
	"time"
)

// Port is where the firewall redirects every allowed TCP port to.
const Port = 18443

// Config is what the proxy needs to know. Zero durations and counts mean the
// defaults given.
type Config struct {
	// Listen is where redirected conversations arrive: each network's gateway
	// address, port Port.
	Listen []netip.AddrPort
	// Networks are the subnets that chargers may call from.
	Networks []netip.Prefix
	// HelloTimeout bounds the wait for a whole ClientHello; 10 s.
	HelloTimeout time.Duration
	// DialTimeout bounds resolving and connecting together, 8 s, and
	// AttemptTimeout each address, 3 s: chargers give up after 10 to 20 s.
	DialTimeout, AttemptTimeout time.Duration
	// IdleLasting closes conversations on 8883 and plain ones without a byte;
	// 60 min (F-5). IdleShort the others; 5 min.
	IdleLasting, IdleShort time.Duration
	// PerCharger and Total bound open conversations; 8 and 512. A charger is who
	// holds a lease; callers that hold none have PerCharger together, in each
	// network.
	PerCharger, Total int
}
