package config

import (
	"slices"

	"chargegate/pkg/policy"
)

// Diff says what a new configuration changes: the keys that a running daemon
// can take over (the inventory's path, the site's rules, how signals are judged,
// the log's level), and those that only a restart takes over, because they size
// sockets and subnets or because the firewall, hostapd and networkd read them,
// too. Keys of a network are named by the network: network.P1.channel.
//
// A changed egress.allow stands in both when it changes which ports the
// firewall hands to egress: see Takeover.
func (c *Config) Diff(next *Config) (live, restart []string) {
	add := func(list *[]string, changed bool, key string) {
		if changed {
			*list = append(*list, key)
		}
	}
	add(&live, c.Inventory != next.Inventory, "site.inventory")
	add(&live, !slices.EqualFunc(c.Rules, next.Rules, sameRule), "egress.allow")
	was, is := c.Radio.Signal, next.Radio.Signal
	add(&live, was.Warn != is.Warn, "signal.warn")
	add(&live, was.Minimum != is.Minimum, "signal.minimum")
	add(&live, was.Critical != is.Critical, "signal.critical")
	add(&live, was.Window != is.Window, "signal.window")
	add(&live, was.WeakAfter != is.WeakAfter, "signal.weak_after")
	add(&live, was.BelowAfter != is.BelowAfter, "signal.below_after")
	add(&live, was.UplinkOffset != is.UplinkOffset, "signal.uplink_offset_db")
	add(&live, c.Log.Level != next.Log.Level, "log.level")

	add(&restart, c.Site != next.Site, "site.name")
	restart = append(restart, c.diffNetworks(next)...)
	add(&restart, c.Uplink.Interface != next.Uplink.Interface, "uplink.interface")
	add(&restart, !slices.Equal(c.Uplink.Allow, next.Uplink.Allow), "uplink.allow")
	add(&restart, c.DHCP.Lease != next.DHCP.Lease, "dhcp.lease")
	add(&restart, !slices.Equal(c.DNS.Upstreams, next.DNS.Upstreams), "dns.upstreams")
	add(&restart, c.DNS.Rate != next.DNS.Rate, "dns.rate")
	add(&restart, c.NTP.Source != next.NTP.Source, "ntp.source")
	add(&restart, c.NTP.MaxDistance != next.NTP.MaxDistance, "ntp.max_error")
	add(&restart, c.NTP.Rate != next.NTP.Rate, "ntp.rate")
	add(&restart, !slices.Equal(policy.Ports(c.Rules), policy.Ports(next.Rules)), "egress.allow (its ports)")
	add(&restart, c.Status.Metrics != next.Status.Metrics, "status.metrics")
	add(&restart, c.Log.Format != next.Log.Format, "log.format")
	return live, restart
}

// Takeover returns the rules of a new configuration as far as they can be in
// force while the old firewall stands: without the ports that it does not hand
// to egress.
func (c *Config) Takeover(next *Config) []policy.Rule {
	handed := policy.Ports(c.Rules)
	var rules []policy.Rule
	for _, r := range next.Rules {
		var ports []uint16
		for _, p := range r.Ports {
			if slices.Contains(handed, p) {
				ports = append(ports, p)
			}
		}
		if r.Ports = ports; len(ports) > 0 {
			rules = append(rules, r)
		}
	}
	return rules
}

func sameRule(a, b policy.Rule) bool {
	return a.Name == b.Name && a.Plain == b.Plain && a.Reason == b.Reason && slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Addresses, b.Addresses)
}

// diffNetworks compares network by network, by their names.
func (c *Config) diffNetworks(next *Config) []string {
	var keys []string
	old, chosen := map[string]Network{}, map[string]bool{}
	for i, n := range c.Networks {
		old[n.Name], chosen[n.Name] = n, c.auto[i]
	}
	for i, n := range next.Networks {
		was, had := old[n.Name]
		delete(old, n.Name)
		if !had {
			keys = append(keys, "network."+n.Name+" (new)")
			continue
		}
		if chosen[n.Name] && next.auto[i] { // nobody touched that key, wherever the choice falls now
			was.Gateway = n.Gateway
		}
		keys = append(keys, was.diff(n)...)
	}
	for _, n := range c.Networks {
		if _, gone := old[n.Name]; gone {
			keys = append(keys, "network."+n.Name+" (gone)")
		}
	}
	return keys
}

func (n Network) diff(next Network) []string {
	var keys []string
	add := func(changed bool, key string) {
		if changed {
			keys = append(keys, "network."+n.Name+"."+key)
		}
	}
	add(n.Interface != next.Interface, "interface")
	add(n.Chargers != next.Chargers, "chargers")
	add(n.Gateway != next.Gateway, "address")
	add(!slices.Equal(n.Relays, next.Relays), "relays")
	if n.Radio == nil || next.Radio == nil {
		add(n.Radio != next.Radio, "radio")
		return keys
	}
	add(n.Radio.SSID != next.Radio.SSID, "radio.ssid")
	add(n.Radio.Passphrase.place != next.Radio.Passphrase.place, "radio.passphrase")
	add(n.Radio.Country != next.Radio.Country, "radio.country")
	add(n.Radio.Channel != next.Radio.Channel, "radio.channel")
	add(n.Radio.MaxStations != next.Radio.MaxStations, "radio.max_stations")
	add(n.Radio.Revive != next.Radio.Revive, "radio.revive")
	return keys
}
