package garage

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// leases lets foreign clients get, renew and release a lease, and get the same
// address again, all at the same time. Those that can, ask by ARP whether the
// address is free before they use it.
func leases(t *testing.T) {
	for name, client := range map[string]func(*testing.T, *sim.Host) leaseClient{
		udhcpc: newUdhcpc, dhclient: newDhclient, dhcpcd: newDhcpcd, networkd: newNetworkd, library: newLibrary,
	} {
		t.Run(name, func(t *testing.T) {
			h := host(t, name)
			c := client(t, h)
			t.Parallel()
			first := c.get(t, h)
			said(t, name, "dhcp-lease-granted", first)
			before := len(garage.Gateway.Events())
			c.renew(t, h)
			saidSince(t, before, name, "dhcp-lease-renewed", first)
			if now := address(t, h); now != first {
				t.Errorf("renewed, the address is %s, want %s still", now, first)
			}
			c.release(t, h)
			said(t, name, "dhcp-lease-released", first)
			if again := c.get(t, h); again != first {
				t.Errorf("asked again, %s was given %s, want %s as before", name, again, first)
			}
			c.stop()
			never(t, 0, name, "dhcp-lease-declined", "dhcp-request-refused")
		})
	}
}

// A leaseClient is a DHCP client that somebody else has written.
type leaseClient interface {
	get(*testing.T, *sim.Host) string // starts the client, returns the address
	renew(*testing.T, *sim.Host)
	release(*testing.T, *sim.Host)
	stop()
}

// awaitAddress waits until the host has its address and its resolver.
func awaitAddress(t *testing.T, h *sim.Host, p *sim.Program) string {
	t.Helper()
	var addr string
	eventually(t, 25*time.Second, h.Name+" has an address", func() (bool, string) {
		addrs, err := h.Addresses()
		if err != nil || len(addrs) != 1 {
			return false, sprint(addrs, err, p.Last(8))
		}
		addr, _, _ = strings.Cut(addrs[0], "/")
		return true, ""
	})
	return addr
}

// running is what the clients share: a program, its script and the notes.
type running struct {
	program     *sim.Program
	path, notes string
}

func (r *running) stop() { r.program.Stop() }

// noted waits until the script was called for a reason.
func (r *running) noted(t *testing.T, reason string, seen int) {
	t.Helper()
	eventually(t, 10*time.Second, "the client calls its script for "+reason, func() (bool, string) {
		notes := read(r.notes)
		return strings.Count(notes, reason) > seen, notes + r.program.Last(8)
	})
}

type udhcpcClient struct{ running }

func newUdhcpc(t *testing.T, h *sim.Host) leaseClient {
	c := &udhcpcClient{}
	c.path, c.notes = hook(t, h, "udhcpc")
	return c
}

func (c *udhcpcClient) get(t *testing.T, h *sim.Host) string {
	var err error
	if c.program, err = h.Launch("udhcpc", "-f", "-i", h.Iface, "-s", c.path, "-t", "5", "-T", "1", "-a500"); err != nil {
		t.Fatal(err)
	}
	return awaitAddress(t, h, c.program)
}

func (c *udhcpcClient) renew(t *testing.T, _ *sim.Host) {
	seen := strings.Count(read(c.notes), "renew ")
	c.program.Signal(syscall.SIGUSR1)
	c.noted(t, "renew ", seen)
}

func (c *udhcpcClient) release(t *testing.T, _ *sim.Host) {
	seen := strings.Count(read(c.notes), "deconfig ")
	c.program.Signal(syscall.SIGUSR2)
	c.noted(t, "deconfig ", seen)
	c.program.Stop()
}

type dhclientClient struct {
	running
	conf, leaseFile, pidFile string
}

func newDhclient(t *testing.T, h *sim.Host) leaseClient {
	c := &dhclientClient{}
	c.path, c.notes = hook(t, h, "dhclient")
	var err error
	// The server's times stand; only this client's patience is shortened, so that
	// it renews within the test.
	c.conf, err = h.File("dhclient.conf", "initial-interval 1;\nsupersede dhcp-renewal-time 4;\n", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	c.leaseFile, c.pidFile = filepath.Join(filepath.Dir(c.conf), "dhclient.leases"), filepath.Join(filepath.Dir(c.conf), "dhclient.pid")
	return c
}

func (c *dhclientClient) args(more ...string) []string {
	return append([]string{"-4", "-v", "-cf", c.conf, "-lf", c.leaseFile, "-pf", c.pidFile, "-sf", c.path}, more...)
}

func (c *dhclientClient) get(t *testing.T, h *sim.Host) string {
	var err error
	if c.program, err = h.Launch("dhclient", c.args("-d", h.Iface)...); err != nil {
		t.Fatal(err)
	}
	return awaitAddress(t, h, c.program)
}

func (c *dhclientClient) renew(t *testing.T, _ *sim.Host) {
	c.noted(t, "RENEW ", strings.Count(read(c.notes), "RENEW "))
}

func (c *dhclientClient) release(t *testing.T, h *sim.Host) {
	c.program.Stop()
	if out, err := h.Run(within(t, 10*time.Second), "dhclient", c.args("-r", h.Iface)...); err != nil {
		t.Fatalf("releasing: %v\n%s", err, out)
	}
}

type dhcpcdClient struct {
	running
	conf string
}

func newDhcpcd(t *testing.T, h *sim.Host) leaseClient {
	c := &dhcpcdClient{}
	c.path, c.notes = hook(t, h, "dhcpcd")
	var err error
	c.conf, err = h.File("dhcpcd.conf", fmt.Sprintf("ipv4only\nnoipv4ll\nnodev\nscript %s\n", c.path), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	// Without its user dhcpcd does not separate privileges, which it cannot where
	// root is the only user there is.
	if err := h.Hide("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/var/lib/dhcpcd"} {
		if err := h.HideDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *dhcpcdClient) get(t *testing.T, h *sim.Host) string {
	var err error
	if c.program, err = h.Launch("dhcpcd", "-B", "-d", "-f", c.conf, h.Iface); err != nil {
		t.Fatal(err)
	}
	return awaitAddress(t, h, c.program)
}

func (c *dhcpcdClient) tell(t *testing.T, h *sim.Host, word string) {
	t.Helper()
	if out, err := h.Run(within(t, 10*time.Second), "dhcpcd", "-f", c.conf, word, h.Iface); err != nil {
		t.Fatalf("dhcpcd %s: %v\n%s", word, err, out)
	}
}

func (c *dhcpcdClient) renew(t *testing.T, h *sim.Host) {
	seen := strings.Count(read(c.notes), "RENEW ")
	c.tell(t, h, "-N")
	c.noted(t, "RENEW ", seen)
}

func (c *dhcpcdClient) release(t *testing.T, h *sim.Host) {
	c.tell(t, h, "-k")
	<-c.program.Ended()
}
