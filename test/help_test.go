package garage

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// within is a context that ends with the test or after d.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually asks again and again until ok, for at most d. The text is what was
// seen last.
func eventually(t *testing.T, d time.Duration, what string, ok func() (bool, string)) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); ; <-tick.C {
		good, seen := ok()
		if good {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s; last seen: %s", d, what, seen)
		}
	}
}

func sprint(values ...any) string { return strings.TrimSpace(fmt.Sprintln(values...)) }

// said waits until the daemon has said an event about a charger whose message
// holds a text.
func said(t *testing.T, charger, id, text string) sim.Event {
	t.Helper()
	return saidSince(t, 0, charger, id, text)
}

// saidSince is said for the events after the first n.
func saidSince(t *testing.T, n int, charger, id, text string) (found sim.Event) {
	t.Helper()
	eventually(t, 3*time.Second, fmt.Sprintf("the event %s about %s with %q", id, charger, text), func() (bool, string) {
		var others []string
		for _, e := range garage.Gateway.Events()[n:] {
			if e.Charger != charger {
				continue
			}
			if e.ID == id && strings.Contains(e.Message, text) {
				found = e
				return true, ""
			}
			others = append(others, e.ID+": "+e.Message)
		}
		return false, strings.Join(others[max(0, len(others)-5):], "\n")
	})
	return found
}

// host is a guest of the inventory, as a host for real programs.
func host(t *testing.T, name string) *sim.Host {
	t.Helper()
	h, err := garage.Host(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// script is what udhcpc, dhclient and dhcpcd call: it notes what happened, and
// applies it.
const script = `#!/bin/sh
PATH=/usr/sbin:/sbin:/usr/bin:/bin
echo "$1 $reason ip=$ip$new_ip_address" >> %s
use() { # address mask router resolver
	ip addr replace "$1/$2" dev wlan0
	ip route replace default via "${3%%%% *}" dev wlan0
	echo "nameserver ${4%%%% *}" > /etc/resolv.conf
}
case "$1$reason" in
bound|renew) use "$ip" "$mask" "$router" "$dns" ;;
BOUND|RENEW|REBIND|REBOOT)
	case "$0" in *dhclient*) use "$new_ip_address" "$new_subnet_mask" "$new_routers" "$new_domain_name_servers" ;; esac ;;
deconfig|RELEASE|EXPIRE|STOP)
	case "$0" in *dhcpcd*) ;; *) ip -4 addr flush dev wlan0 ;; esac ;;
esac
exit 0
`

// hook writes the script for a client, and returns it and the file of its notes.
func hook(t *testing.T, h *sim.Host, client string) (path, notes string) {
	t.Helper()
	notes, err := h.File(client+".notes", "", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	path, err = h.File(client+"-hook", fmt.Sprintf(script, notes), 0o755)
	if err != nil {
		t.Fatal(err)
	}
	return path, notes
}

// connected is a host that has got its address by DHCP.
func connected(t *testing.T, name string) *sim.Host {
	t.Helper()
	h := host(t, name)
	if addrs, err := h.Addresses(); err == nil && len(addrs) > 0 {
		return h
	}
	path, _ := hook(t, h, "udhcpc")
	out, err := h.Run(within(t, 10*time.Second), "udhcpc", "-f", "-q", "-n", "-t", "5", "-T", "1", "-i", h.Iface, "-s", path)
	if err != nil {
		t.Fatalf("%s got no address: %v\n%s", name, err, out)
	}
	return h
}

// address is a host's only address, without the length of the subnet.
func address(t *testing.T, h *sim.Host) string {
	t.Helper()
	addrs, err := h.Addresses()
	if err != nil || len(addrs) != 1 {
		t.Fatalf("%s has the addresses %q, %v, want one", h.Name, addrs, err)
	}
	addr, _, _ := strings.Cut(addrs[0], "/")
	return addr
}

// do runs a program on a host and wants it to succeed and to print something
// that matches.
func do(t *testing.T, h *sim.Host, want string, name string, args ...string) string {
	t.Helper()
	out, err := h.Run(within(t, 15*time.Second), name, args...)
	if err != nil {
		t.Errorf("%s: %s %s: %v\n%s", h.Name, name, strings.Join(args, " "), err, out)
	} else if !regexp.MustCompile(want).MatchString(out) {
		t.Errorf("%s: %s %s printed\n%s\nwant something that matches %s", h.Name, name, strings.Join(args, " "), out, want)
	}
	return out
}

// unharmed wants nothing to have reached the cloud that should not have.
func unharmed(t *testing.T) {
	t.Helper()
	if seen := garage.Cloud.Witness.Sightings(); len(seen) > 0 {
		t.Errorf("something reached the cloud that should not have: %q", seen)
		garage.Cloud.Witness.Forget()
	}
}

// read returns a file's text, or "" when there is none yet.
func read(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(text)
}
