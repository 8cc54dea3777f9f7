package garage

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"chargegate/pkg/lease"
	"chargegate/pkg/sim"
)

// TestInventoryMovesClients changes the inventory while clients of other people
// have their addresses. Each of them moves at its next renewal, without anybody's
// help: it is told no, asks anew, and is given what the inventory says now.
func TestInventoryMovesClients(t *testing.T) {
	o := sim.Options{
		Networks: []sim.Network{{Name: "P1", Listed: 1}}, Habits: sim.Brisk(), LogLevel: "debug",
		Guests: []sim.Guest{{Name: udhcpc, Network: "P1"}, {Name: dhclient, Network: "P1"}},
	}
	apart(t, o, func(t *testing.T) {
		pool, err := lease.NewPool("P1", garage.Gateway.Addresses["garage-p1"], 3)
		if err != nil {
			t.Fatal(err)
		}
		u, d := host(t, udhcpc), host(t, dhclient)
		first, second := newUdhcpc(t, u), newDhclient(t, d)
		t.Run("a stranger that is entered moves to a charger's address", func(t *testing.T) {
			enter(t, map[string]string{dhclient: ""})
			was := first.get(t, u)
			saidSince(t, 0, "unknown "+hw(u.MAC), "dhcp-lease-granted", was)
			if in(was, pool.First, pool.Last) || !in(was, pool.FirstStranger, pool.LastStranger) {
				t.Fatalf("a stranger was given %s, want one of %s to %s", was, pool.FirstStranger, pool.LastStranger)
			}
			before := enter(t, map[string]string{udhcpc: "", dhclient: ""})
			renewNow(first)
			now := moved(t, u, was)
			saidSince(t, before, udhcpc, "dhcp-request-refused", was)
			if !in(now, pool.First, pool.Last) {
				t.Errorf("entered in the inventory it was given %s, want one of %s to %s", now, pool.First, pool.Last)
			}
		})
		t.Run("a charger for whom an address is reserved moves there", func(t *testing.T) {
			was := second.get(t, d)
			kept := pool.Last.String() // nobody is given the last one by chance, but to be sure
			if was == kept {
				kept = pool.Last.Prev().String()
			}
			before := enter(t, map[string]string{udhcpc: "", dhclient: kept})
			if now := moved(t, d, was); now != kept {
				t.Errorf("the client was given %s, want %s, which the inventory reserves for it", now, kept)
			}
			saidSince(t, before, dhclient, "dhcp-request-refused", was)
			second.release(t, d)
			if now := second.get(t, d); now != kept {
				t.Errorf("asked anew, the client was given %s, want %s", now, kept)
			}
		})
		t.Run("an address outside of all ranges can be reserved", func(t *testing.T) {
			was, kept := address(t, u), lastOf(garage.Gateway.Addresses["garage-p1"]).String()
			enter(t, map[string]string{udhcpc: kept, dhclient: ""})
			renewNow(first)
			if now := moved(t, u, was); now != kept {
				t.Errorf("the client was given %s, want %s, which the inventory reserves for it", now, kept)
			}
		})
		first.stop()
		second.stop()
	})
}

// in says whether an address is between two others, both included.
func in(addr string, first, last netip.Addr) bool {
	a := netip.MustParseAddr(addr)
	return first.Compare(a) <= 0 && a.Compare(last) <= 0
}

// enter writes an inventory with these guests alone, each with the address that
// is reserved for it or none, makes the daemon read it, and returns how many
// events there were before.
func enter(t *testing.T, guests map[string]string) (before int) {
	t.Helper()
	text := "mac,name,network,address\n"
	for name, addr := range guests {
		text += fmt.Sprintf("%s,%s,P1,%s\n", hw(host(t, name).MAC), name, addr)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(garage.Gateway.Config), "chargers.csv"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	before = len(garage.Gateway.Events())
	garage.Gateway.Daemon.Signal(syscall.SIGHUP)
	saidSince(t, before, "", "daemon-reloaded", "the inventory")
	return before
}

// renewNow tells udhcpc that its time to renew has come. dhclient, as it is
// configured here, renews every few seconds.
func renewNow(c leaseClient) { c.(*udhcpcClient).program.Signal(syscall.SIGUSR1) }

// moved waits until a client has left an address for another one, in the daemon's
// view too, and returns that.
func moved(t *testing.T, h *sim.Host, was string) (now string) {
	t.Helper()
	eventually(t, 15*time.Second, h.Name+" leaves "+was, func() (bool, string) {
		addrs, err := h.Addresses()
		if err != nil || len(addrs) != 1 {
			return false, sprint(addrs, err)
		}
		now, _, _ = strings.Cut(addrs[0], "/")
		return now != was, now
	})
	if has := addresses(t)[h.Name]; has != now {
		t.Errorf("%s uses %s; the daemon says that it has %s", h.Name, now, has)
	}
	return now
}

// hw is a hardware address as it stands on a label.
func hw(mac [6]byte) string { return net.HardwareAddr(mac[:]).String() }
