package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/ntprelay"
	"chargegate/pkg/resolver"
	"chargegate/pkg/signal"
)

const (
	allowUplink   = `write the name of the interface towards the Internet, like "eth0", as ip link shows it`
	allowLease    = `write a time from "1h" to "24h", like "12h" (Z-6)`
	allowMetrics  = `write an address of this machine with a port, like "127.0.0.1:9180", or "" for none`
	allowSignal   = "write a whole number of dBm from -100 to -1, in the order warn, minimum, critical, each weaker than the one before (Z-4)"
	allowWindow   = `write a time from "1m" to "30m", like "5m"`
	allowLasting  = `write a time from "0s" to "24h", like "10m"`
	allowOffset   = "write a whole number of dB from -20 to 20, which is added to what is measured"
	allowMaxError = `write a time from "10ms" to "10s", like "1s" (Z-11)`
	allowRate     = "write how many questions a second one device may ask, a whole number from 1 to 1000000"
	allowDNS      = `write "system", an address like "1.1.1.1" or "1.1.1.1:53", or for TLS an address with the name in its certificate, like "tls://9.9.9.9#dns.quad9.net"`
)

// services are the inbound services that can be allowed on the uplink by name.
var services = []Service{
	{"ssh", 22}, {"http", 80}, {"https", 443}, {"node-exporter", 9100}, {"cockpit", 9090}, {"vnc", 5900},
}

func (r *reader) uplink(s *section, c *Config) {
	if v, ok := s.text("interface", allowUplink, true); ok {
		if isInterface(v) {
			c.Uplink.Interface = v
		} else {
			s.bad("interface", "%s is not the name of an interface; %s", quote(v), allowUplink)
		}
	}
	names := make([]string, len(services))
	for i, known := range services {
		names[i] = strconv.Quote(known.Name)
	}
	allowed := "allowed are " + strings.Join(names, ", ") + " and TCP ports from 1 to 65535"
	for _, it := range s.items("allow", allowed, isText, isWhole) {
		service, ok := parseService(it.text)
		switch {
		case !ok:
			r.fault(it.at, it.key, "%s is not allowed; %s", quote(it.text), allowed)
		case slices.ContainsFunc(c.Uplink.Allow, func(other Service) bool { return other.Port == service.Port }):
			r.fault(it.at, it.key, "%s stands twice", quote(it.text))
		default:
			c.Uplink.Allow = append(c.Uplink.Allow, service)
		}
	}
	s.close()
}

func parseService(text string) (Service, bool) {
	for _, s := range services {
		if s.Name == text {
			return s, true
		}
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 || text[0] == '0' {
		return Service{}, false
	}
	return Service{Name: text, Port: uint16(port)}, true
}

func (r *reader) dhcp(s *section, c *Config) {
	c.DHCP.Lease = s.span("lease", 12*time.Hour, time.Hour, 24*time.Hour, allowLease)
	s.close()
}

func (r *reader) dns(s *section, c *Config) {
	for _, it := range s.items("upstreams", allowDNS, isText) {
		up, err := parseUpstream(it.text)
		switch {
		case err != nil:
			r.fault(it.at, it.key, "%v; %s", err, allowDNS)
		case slices.Contains(c.DNS.Upstreams, up):
			r.fault(it.at, it.key, "%s stands twice", quote(it.text))
		default:
			c.DNS.Upstreams = append(c.DNS.Upstreams, up)
		}
	}
	if n := s.table.keys["upstreams"]; n == nil {
		c.DNS.Upstreams = []resolver.Upstream{{System: true}}
	} else if n.kind == isList && len(n.list) == 0 {
		s.bad("upstreams", "is empty, so that no name could ever be found; %s", allowDNS)
	}
	c.DNS.Rate = s.rate(resolver.DefaultRate)
	s.close()
}

// parseUpstream reads one server that is asked for names.
func parseUpstream(text string) (resolver.Upstream, error) {
	if text == "system" {
		return resolver.Upstream{System: true}, nil
	}
	rest, tls := strings.CutPrefix(text, "tls://")
	port := uint16(53)
	var up resolver.Upstream
	if tls {
		port = 853
		rest, up.TLSName, _ = strings.Cut(rest, "#")
		if isHostName(rest) && strings.Trim(rest, "0123456789.") != "" {
			return up, fmt.Errorf("%s needs an address, not a name, between tls:// and #", quote(text))
		}
		if !isHostName(up.TLSName) {
			return up, fmt.Errorf("%s does not say which name the server's certificate must carry", quote(text))
		}
	}
	if addr, err := netip.ParseAddr(rest); err == nil {
		up.Addr = netip.AddrPortFrom(addr, port)
	} else if up.Addr, err = netip.ParseAddrPort(rest); err != nil {
		return up, fmt.Errorf("%s is not a server's address", quote(text))
	}
	if up.Addr.Addr() == resolver.House.Addr() {
		return up, fmt.Errorf("%s is this box itself", quote(text))
	}
	if a := up.Addr.Addr(); a.IsUnspecified() || a.IsMulticast() || up.Addr.Port() == 0 {
		return up, fmt.Errorf("%s cannot be asked", quote(text))
	}
	return up, nil
}

func isHostName(name string) bool {
	return name != "" && len(name) <= 253 && only(name, func(r rune) bool { return isWord(r) || r == '.' || r == '-' }) &&
		!strings.HasPrefix(name, ".") && !strings.Contains(name, "..")
}

func (r *reader) ntp(s *section, c *Config) {
	c.NTP.Source = s.oneOf("source", ntprelay.Chrony, ntprelay.Chrony, ntprelay.Kernel)
	c.NTP.MaxDistance = s.span("max_error", ntprelay.DefaultMaxDistance, 10*time.Millisecond, 10*time.Second, allowMaxError)
	c.NTP.Rate = s.rate(ntprelay.DefaultRate)
	s.close()
}

// rate reads how many questions a second one device may ask.
func (s *section) rate(otherwise int) int {
	if v, ok := s.whole("rate", 1, 1_000_000, allowRate, false); ok {
		return v
	}
	return otherwise
}

func (r *reader) signal(s *section, c *Config) {
	level := func(name string, otherwise int) int {
		if v, ok := s.whole(name, -100, -1, allowSignal, false); ok {
			return v
		}
		return otherwise
	}
	l := signal.Default()
	l.Warn, l.Minimum, l.Critical = level("warn", l.Warn), level("minimum", l.Minimum), level("critical", l.Critical)
	if l.Minimum >= l.Warn {
		s.bad("minimum", "%d is not weaker than warn, %d; %s", l.Minimum, l.Warn, allowSignal)
	}
	if l.Critical >= l.Minimum {
		s.bad("critical", "%d is not weaker than minimum, %d; %s", l.Critical, l.Minimum, allowSignal)
	}
	l.Window = s.span("window", l.Window, time.Minute, 30*time.Minute, allowWindow)
	l.WeakAfter = s.span("weak_after", l.WeakAfter, 0, 24*time.Hour, allowLasting)
	l.BelowAfter = s.span("below_after", l.BelowAfter, 0, 24*time.Hour, allowLasting)
	l.UplinkOffset, _ = s.whole("uplink_offset_db", -20, 20, allowOffset, false)
	c.Radio.Signal = l
	s.close()
}

func (r *reader) status(s *section, c *Config) {
	c.Status.Metrics = netip.MustParseAddrPort("127.0.0.1:9180")
	if v, ok := s.text("metrics", allowMetrics, false); ok {
		at, err := netip.ParseAddrPort(v)
		if v != "" && (err != nil || !at.Addr().IsLoopback() || at.Port() == 0) {
			s.bad("metrics", "%s is not allowed; %s", quote(v), allowMetrics)
		}
		c.Status.Metrics = at
	}
	s.close()
}

func (r *reader) log(s *section, c *Config) {
	words := []string{event.Debug.String(), event.Info.String(), event.Warning.String(), event.Error.String()}
	level := s.oneOf("level", event.Info.String(), words...)
	if err := c.Log.Level.UnmarshalText([]byte(level)); err != nil {
		s.bad("level", "%v", err)
	}
	c.Log.Format = s.oneOf("format", "auto", "auto", "journal", "text", "json")
	s.close()
}
