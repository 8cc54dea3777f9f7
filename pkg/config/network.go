package config

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"chargegate/pkg/revive"
)

// A draft is a network that has been read and not yet been given its subnet.
type draft struct {
	*section
	Network
	auto   bool
	relays []item
	secret place // where the passphrase is named
}

// What is allowed, in the words of every fault about the key.
const (
	allowNetwork    = `write a short name for the network, like "P1": letters, digits, - and _, at most 20`
	allowInterface  = `write the name of the network interface, like "wlan0", as ip link shows it`
	allowChargers   = "write how many chargers it is planned for, a whole number from 1 to 1000"
	allowAddress    = `write "auto", or the gateway's own address with the length of the subnet, like "10.83.0.1/24"`
	allowRelays     = `write the addresses of the relay agents on this network in square brackets, like ["10.83.0.250"], or leave it out: chargers need none`
	allowSSID       = `write the name that chargers see, like "garage-p1": 1 to 31 printable ASCII characters, no space first or last`
	allowPassphrase = `write where it is kept, "file:PATH" or "credential:NAME"; the passphrase itself never stands in this file`
	allowCountry    = `write the country that the box stands in as two capital letters, like "SE"`
	allowChannel    = "write a fixed channel, a whole number from 1 to 11 (Z-2); 1, 6 and 11 do not disturb each other"
	allowStations   = "write how many stations the radio holds, a whole number from 1 to 2007 (F-10)"
)

// networks reads every [[network]].
func (r *reader) networks(top *section, c *Config) []*draft {
	sections := top.sections("network")
	if len(sections) == 0 && top.table.keys["network"] == nil {
		r.fault(place{1, 1}, "network", "is missing; write a section [[network]] for each radio or wired access-point port")
	}
	var drafts []*draft
	for _, s := range sections {
		drafts = append(drafts, s.network())
	}
	return drafts
}

func (s *section) network() *draft {
	d := &draft{section: s}
	if v, ok := s.text("name", allowNetwork, true); ok {
		if isNetworkName(v) {
			d.Name = v
		} else {
			s.bad("name", "%s is not allowed; %s", quote(v), allowNetwork)
		}
	}
	d.Interface = s.iface("interface")
	d.Chargers, _ = s.whole("chargers", 1, 1000, allowChargers, true)
	d.auto = true
	if v, ok := s.text("address", allowAddress, false); ok && v != "auto" {
		d.auto = false
		d.Gateway, _ = netip.ParsePrefix(v)
		if !d.Gateway.IsValid() {
			s.bad("address", "%s is not allowed; %s", quote(v), allowAddress)
		}
	}
	d.relays = s.items("relays", allowRelays, isText)
	if radio := s.section("radio"); radio.present {
		d.Radio = radio.radio()
		d.secret = radio.at("passphrase")
	}
	s.close()
	return d
}

func (s *section) radio() *Radio {
	radio := &Radio{}
	if v, ok := s.text("ssid", allowSSID, true); ok {
		if len(v) < 1 || len(v) > 31 || !printableASCII(v) || strings.TrimSpace(v) != v {
			s.bad("ssid", "%s is not allowed; %s", quote(v), allowSSID)
		} else {
			radio.SSID = v
		}
	}
	radio.Passphrase = s.passphrase()
	if v, ok := s.text("country", allowCountry, true); ok {
		if len(v) != 2 || strings.Trim(v, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			s.bad("country", "%s is not allowed; %s", quote(v), allowCountry)
		}
		radio.Country = v
	}
	radio.Channel = s.channel()
	radio.MaxStations, _ = s.whole("max_stations", 1, 2007, allowStations, true)
	// oneOf has refused every other word.
	radio.Revive, _ = revive.ParseStep(s.oneOf("revive", revive.No.String(), revive.Words()...))
	s.close()
	return radio
}

// passphrase reads where the passphrase is kept. What stands there is never
// repeated: it may be the passphrase.
func (s *section) passphrase() Secret {
	n := s.find("passphrase")
	if n == nil {
		s.bad("passphrase", "is missing; %s", allowPassphrase)
		return Secret{}
	}
	if n.kind == isText {
		if secret, ok := newSecret(n.text, s.dir, s.env.Credentials); ok {
			return secret
		}
	}
	s.bad("passphrase", "what stands here is not allowed; %s", allowPassphrase)
	return Secret{}
}

func (s *section) channel() int {
	if n := s.table.keys["channel"]; n != nil && n.kind == isText && strings.EqualFold(n.text, "auto") {
		s.find("channel")
		s.bad("channel", "%s", noAuto(n.text))
		return 0
	}
	channel, _ := s.whole("channel", 1, 11, allowChannel, true)
	return channel
}

// noAuto says why the radio does not choose its channel itself.
func noAuto(written string) string {
	return fmt.Sprintf("%s is not allowed, because a channel that changes is one that the chargers lose; %s", quote(written), allowChannel)
}

// iface reads the name of an interface that must be there.
func (s *section) iface(name string) string {
	v, ok := s.text(name, allowInterface, true)
	if !ok {
		return ""
	}
	if !isInterface(v) {
		s.bad(name, "%s is not the name of an interface; %s", quote(v), allowInterface)
		return ""
	}
	return v
}

// isInterface says whether the kernel would take the name (at most 15 bytes)
// and nothing that reads it, nftables and networkd, could see a pattern in it.
func isInterface(name string) bool {
	return name != "" && len(name) <= 15 && name != "." && name != ".." && name != "lo" &&
		only(name, func(r rune) bool { return isWord(r) || r == '.' || r == '-' })
}

// isNetworkName: the name becomes part of file and unit names.
func isNetworkName(name string) bool {
	return name != "" && len(name) <= 20 && name[0] != '-' &&
		only(name, func(r rune) bool { return isWord(r) || r == '-' })
}

func isWord(r rune) bool {
	return r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func only(s string, ok func(rune) bool) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !ok(r) })
}

// isTitle says whether a text can stand in a line of the log.
func isTitle(s string) bool {
	return strings.TrimSpace(s) != "" && len(s) <= 60 && only(s, unicode.IsPrint)
}

// apart says which networks share what each must have for itself.
func (r *reader) apart(drafts []*draft, c *Config) {
	names, ssids := map[string]*draft{}, map[string]*draft{}
	ifaces := map[string]string{}
	if c.Uplink.Interface != "" {
		ifaces[c.Uplink.Interface] = "the uplink"
	}
	for _, d := range drafts {
		if first := names[d.Name]; first != nil && d.Name != "" {
			d.bad("name", "%s is the name of %s already; each network has its own", quote(d.Name), first.name)
		} else {
			names[d.Name] = d
		}
		if taken := ifaces[d.Interface]; taken != "" && d.Interface != "" {
			d.bad("interface", "%s belongs to %s already; each network has its own", quote(d.Interface), taken)
		} else {
			ifaces[d.Interface] = d.name
		}
		if d.Radio == nil || d.Radio.SSID == "" {
			continue
		}
		radio := d.section.section("radio")
		if first := ssids[d.Radio.SSID]; first != nil {
			radio.bad("ssid", "%s is sent by %s already; a charger stays with the first access point it finds (F-9), so each radio has its own", quote(d.Radio.SSID), first.name)
		} else {
			ssids[d.Radio.SSID] = d
		}
	}
}
