package config

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"chargegate/pkg/policy"
)

// Remarks says what deserves a look in the files that the configuration names,
// and on a machine that has these interfaces, and yet is no fault: an adapter
// may be plugged in later, and a password may begin with a quotation mark. The
// last remarks are what this process was not allowed to look at.
func (c *Config) Remarks(interfaces []string) []string {
	var remarks []string
	named := make([]string, 0, len(c.Networks)+1)
	for _, n := range c.Networks {
		named = append(named, n.Interface)
	}
	for _, name := range append(named, c.Uplink.Interface) {
		if !slices.Contains(interfaces, name) {
			remarks = append(remarks, absent(name, interfaces))
		}
	}
	for _, n := range c.Networks {
		for _, up := range c.DNS.Upstreams {
			if a := up.Addr.Addr().Unmap(); a.IsValid() && a == n.Gateway.Addr() {
				remarks = append(remarks, fmt.Sprintf("dns.upstreams: %s is this box itself, on %s, and is not asked; write the router's address", a, n.Name))
			}
		}
	}
	for _, rule := range c.Rules {
		if at := rented(rule.Name); at != "" {
			remarks = append(remarks, fmt.Sprintf("egress.allow: %s allows whatever anybody rents below %s; write the names in full if you know them", rule.Name, at))
		}
	}
	var unseen []string
	for _, n := range c.Networks {
		if n.Radio == nil {
			continue
		}
		text, err := n.Radio.Passphrase.Reveal()
		switch what := oddity(text); {
		case errors.Is(err, fs.ErrPermission):
			unseen = append(unseen, fmt.Sprintf("%s was not looked at: permission denied; run it with sudo", n.Radio.Passphrase.path))
		case errors.Is(err, errNoCredentials):
			unseen = append(unseen, fmt.Sprintf("%s was not looked at: only the unit can read it", n.Radio.Passphrase))
		case err == nil && what != "":
			remarks = append(remarks, fmt.Sprintf("%s: %s to the password", n.Radio.Passphrase.path, what))
		}
	}
	return append(remarks, unseen...)
}

// Allowed says what was understood of each [[egress.allow]], a line for each:
// "ocpp.example.com: port 8080, with or without TLS, may lead to 10.1.2.3".
func (c *Config) Allowed() []string {
	var lines []string
	for _, rule := range c.Rules[len(policy.Zaptec()):] {
		ports := make([]string, len(rule.Ports))
		for i, p := range rule.Ports {
			ports[i] = strconv.Itoa(int(p))
		}
		line := rule.Name + ": port " + ports[0]
		if last := len(ports) - 1; last > 0 {
			line = fmt.Sprintf("%s: ports %s and %s", rule.Name, strings.Join(ports[:last], ", "), ports[last])
		}
		if rule.Plain {
			line += ", with or without TLS"
		} else {
			line += ", with TLS"
		}
		var private []string
		for _, a := range rule.Addresses {
			private = append(private, strings.TrimSuffix(a.String(), "/32"))
		}
		if len(private) > 0 {
			line += ", may lead to " + strings.Join(private, ", ")
		}
		lines = append(lines, line)
	}
	return lines
}

// clouds are more names below which anybody can rent one for himself. They are
// only pointed out: the list can never be whole.
var clouds = [...]string{
	"amazonaws.com", "appspot.com", "azure-api.net", "azureedge.net", "azurefd.net", "cloudfront.net", "digitaloceanspaces.com", "fastly.net",
	"github.io", "googleapis.com", "herokuapp.com", "netlify.app", "ngrok.io", "ondigitalocean.app", "pages.dev", "run.app",
	"servicebus.windows.net", "trafficmanager.net", "vercel.app", "workers.dev",
}

// rented says below which of these a pattern reaches; "" for none.
func rented(pattern string) string {
	base, isPattern := strings.CutPrefix(policy.Normal(pattern), "*.")
	if !isPattern {
		return ""
	}
	for _, s := range clouds {
		if base == s || strings.HasSuffix(s, "."+base) || strings.HasSuffix(base, "."+s) {
			return s
		}
	}
	return ""
}

func absent(name string, interfaces []string) string {
	if len(interfaces) == 0 {
		return name + " is not there now; there are none"
	}
	return fmt.Sprintf("%s is not there now; there are: %s", name, strings.Join(interfaces, ", "))
}

// oddity says what a passphrase has at its ends that was hardly meant. It
// repeats nothing of what lies between.
func oddity(passphrase string) string {
	if passphrase == "" {
		return ""
	}
	first, last := passphrase[0], passphrase[len(passphrase)-1]
	switch {
	case first == last && (first == '"' || first == '\''):
		return "the quotation marks belong"
	case last == ' ':
		return "the last space belongs"
	case first == ' ':
		return "the first space belongs"
	}
	return ""
}
