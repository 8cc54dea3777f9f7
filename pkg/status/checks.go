package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"chargegate/pkg/charger"
)

const (
	poolAdvice          = "Write the true number as chargers of this [[network]]; its pool is sized from it (Z-5)."
	strangersFullAdvice = "Enter the chargers among them in chargers.csv and run: sudo systemctl reload chargegated. If there are none, change the Wi-Fi password. The command chargegate chargers lists them."
)

// checkLink: without a link nothing else here can work.
func checkLink(l Link) finding {
	switch {
	case !l.Known && l.Problem != "":
		return warn("Compare RestrictAddressFamilies= of the unit with the one that came with this version: it must name AF_NETLINK.",
			"%s cannot be looked at: %s", l.Interface, l.Problem)
	case !l.Known:
		return pass("%s has not been looked at yet", l.Interface)
	case !l.Up:
		return fail(l.Do, "%s: %s", l.Interface, l.Missing)
	}
	return pass("%s has a link, the address %s and a default route", l.Interface, l.Address)
}

const (
	noServerAdvice = "Has the uplink an address, and does cat /etc/resolv.conf show the router's? If not, or if it shows only this box: write the router's address as upstreams under [dns], then: sudo systemctl restart chargegate-prepare."
	silentAdvice   = "Does the router answer, and does the site's firewall let DNS out (UDP and TCP port 53)? Another server can be written as upstreams under [dns], then: sudo systemctl restart chargegate-prepare."
	restAdvice     = "Names are still answered, by the others."
	unaskedAdvice  = "Nothing was asked of it yet. Allow a name, so that it can be asked for one, and run chargegate doctor again."
)

// checkUplink says of the DNS servers what came of the last questions, or of one
// that was put to each.
func checkUplink(u Uplink) finding {
	bad := u.Lost + u.Errors
	switch {
	case u.Servers == 0:
		return fail(noServerAdvice, "there is no DNS server to ask%s", after(": ", u.Problem))
	case !u.OK():
		return fail(mend(u.Each, silentAdvice), "%s%s", allTroubled(u), eachServer(u.Each))
	case bad > 0:
		return warn(restAdvice+after(" ", mend(u.Each, silentAdvice)), "%d of %d DNS servers %s%s", bad, u.Servers, troubled(u), eachServer(u.Each))
	case slices.ContainsFunc(u.Each, DNSServer.untested):
		return warn(unaskedAdvice, "%s%s", plural(u.Servers, "server is there", "servers are there"), eachServer(u.Each))
	}
	return pass("%s, and none fails%s", plural(u.Servers, "server is asked", "servers are asked"), eachServer(u.Each))
}

// allTroubled says of servers none of which is of use what they do.
func allTroubled(u Uplink) string {
	switch {
	case u.Servers == 1:
		return "the only DNS server " + strings.Replace(troubled(u), "only with", "with", 1)
	case u.Errors == 0:
		return fmt.Sprintf("none of %d DNS servers answers", u.Servers)
	}
	return fmt.Sprintf("none of %d DNS servers gives an answer that can be used", u.Servers)
}

// troubled says what those do that fail.
func troubled(u Uplink) string {
	one := u.Lost+u.Errors == 1
	switch {
	case u.Lost == 0 && one:
		return "answers only with errors"
	case u.Lost == 0:
		return "answer only with errors"
	case u.Errors > 0:
		return "do not answer, or only with errors"
	case one:
		return "does not answer"
	}
	return "do not answer"
}

// mend is what to do about the servers that fail, each advice once.
func mend(servers []DNSServer, otherwise string) string {
	var all []string
	for _, s := range servers {
		if s.Do != "" && !slices.Contains(all, s.Do) {
			all = append(all, s.Do)
		}
	}
	return orElse(strings.Join(all, " "), otherwise)
}

// after is a text with something before it, if there is one.
func after(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

// untested reports whether a server has never answered and is not known to fail.
func (s DNSServer) untested() bool { return !s.Lost && !s.Errors && s.Latency == 0 }

// eachServer says of each DNS server how quickly it answers, or why not.
func eachServer(servers []DNSServer) string {
	words := make([]string, len(servers))
	for i, s := range servers {
		switch usual := s.Latency.Duration(); {
		case s.Lost && (s.Problem == "" || s.Problem == "no answer"):
			words[i] = s.Name + " is silent"
		case s.Lost:
			words[i] = s.Name + " fails (" + strings.TrimPrefix(plainText(s.Problem), "read: ") + ")"
		case s.Errors:
			words[i] = s.Name + " says " + orElse(plainText(s.Problem), "nothing of use")
		case usual == 0 && s.Problem == "":
			words[i] = s.Name + " was not asked yet"
		case usual == 0:
			words[i] = s.Name + " has not answered yet"
		case usual < time.Millisecond:
			words[i] = s.Name + " answers in less than 1 ms"
		default:
			words[i] = fmt.Sprintf("%s answers in %d ms", s.Name, usual.Round(time.Millisecond).Milliseconds())
		}
	}
	if len(words) == 0 {
		return ""
	}
	return ": " + strings.Join(words, ", ")
}

func checkPool(p PoolUse) finding {
	used := fmt.Sprintf("%d of %d addresses are taken; strangers have %d of %d", p.Used, p.Size, p.StrangerUsed, p.StrangerSize)
	switch {
	case p.Used >= p.Size:
		return fail(poolAdvice, "%s: the next charger gets none", used)
	case p.Used*100 >= p.Size*crowded:
		return warn(poolAdvice, "%s", used)
	case p.Quarantined > 0:
		return warn("Something uses an address of this network that it does not have from here. Who it is: journalctl -t chargegated EVENT=dhcp-address-in-use. Remove it: the network must be dedicated (Z-5).",
			"%s; %d were declined, because somebody else uses them", used, p.Quarantined)
	case p.StrangersFull():
		return warn(strangersFullAdvice, "%s: no stranger gets one any more", used)
	}
	return pass("%s", used)
}

// checkInventory compares who should be there with who was seen.
func checkInventory(all []Charger, inventory int) finding {
	if inventory == 0 {
		return pass("there is none, so chargers are called by their MAC").
			advise("Name them by parking space: write chargers.csv with the columns mac and name, and inventory = \"chargers.csv\" under [site].")
	}
	var unseen []string
	for _, c := range all {
		if c.Known && c.LastSeenAge == nil {
			unseen = append(unseen, c.Name)
		}
	}
	if len(unseen) > 0 {
		return warn("Are they powered? Is Communication mode set to Wi-Fi in the app, and not to 4G or PLC (Z-15)? Is the password right?",
			"%d of %s not seen since the daemon started: %s", len(unseen), plural(inventory, "charger", "chargers"), listed(unseen))
	}
	return pass("%s seen", plural(inventory, "charger, and it was", "chargers, and all were"))
}

func checkStrangers(all []Charger) finding {
	var strangers []string
	for _, c := range all {
		if !c.Known {
			strangers = append(strangers, c.MAC.String())
		}
	}
	if len(strangers) > 0 {
		return warn("Add the chargers among them to chargers.csv; find out what the others are: the network must be dedicated (Z-5).",
			"%s not in the inventory: %s", plural(len(strangers), "device is", "devices are"), listed(strangers))
	}
	return pass("nobody is here who is not in the inventory")
}

// checkChargers looks at those that were seen but do not get all the way.
func checkChargers(all []Charger) finding {
	var stuck []string
	well := 0
	for _, c := range all {
		switch {
		case !c.Known || c.LastSeenAge == nil:
		case c.Stage == charger.OK:
			well++
		default:
			stuck = append(stuck, fmt.Sprintf("%s (missing: %s)", c.Name, c.Stage))
		}
	}
	if len(stuck) > 0 {
		return warn("Run chargegate charger NAME for each: it says what is missing.", "%s short of the cloud: %s", plural(len(stuck), "has stopped", "have stopped"), listed(stuck))
	}
	if well == 0 {
		return pass("none has been seen yet")
	}
	return pass("%s with the cloud", plural(well, "charger talks", "chargers talk"))
}

// listed joins names, and counts those that would make the line too long.
func listed(names []string) string {
	const most = 8
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
