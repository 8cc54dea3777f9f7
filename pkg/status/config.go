package status

import "net/netip"

// Config is what the noticeboard needs to know.
type Config struct {
	// Socket is the path of the unix socket that the tool asks on.
	Socket string
	// Metrics is where Prometheus may scrape, on loopback; invalid: nowhere.
	Metrics netip.AddrPort
}
