package garage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// systemdNetworkd is where Debian keeps it; it is not on anybody's path.
const systemdNetworkd = "/usr/lib/systemd/systemd-networkd"

// network tells networkd to get an address, to ask by ARP whether it is free
// (RFC 5227) and to give it back in the end. Versions from 255 on know the rapid
// commit of RFC 4039; older ones pass the line over.
const network = `[Match]
Name=wlan0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
LLDP=no
[DHCPv4]
SendRelease=yes
SendDecline=yes
RapidCommit=yes
`

// bus is a system bus on which root may say anything: networkctl speaks with
// networkd by way of it.
const bus = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>
`

// networkdClient is systemd-networkd. It identifies itself by a DUID and not by
// its MAC (RFC 4361), and is moved over D-Bus.
type networkdClient struct {
	running
	bus *sim.Program
}

func newNetworkd(t *testing.T, h *sim.Host) leaseClient {
	// These lie in the garage's own /run, where nobody else looks for them.
	for _, dir := range []string{"/run/dbus", "/run/systemd/network"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("/run/systemd/network/00-garage.network", []byte(network), 0o644); err != nil {
		t.Fatal(err)
	}
	// networkd becomes its user, who would have to own what it writes: here that is
	// root.
	if err := h.Hide("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nsystemd-network:x:0:0::/:/bin/false\nmessagebus:x:0:0::/:/bin/false\n"); err != nil {
		t.Fatal(err)
	}
	conf, err := h.File("bus.conf", bus, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	c := &networkdClient{}
	if c.bus, err = h.Launch("dbus-daemon", "--nofork", "--nopidfile", "--config-file="+conf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.bus.Stop)
	return c
}

func (c *networkdClient) get(t *testing.T, h *sim.Host) string {
	// There is no udevd that would tell networkd of the interface. It waits for
	// none where /sys is read-only, as in a container.
	const start = "mount -t tmpfs -o ro none /sys && SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console exec " + systemdNetworkd
	var err error
	if c.program, err = h.Launch("sh", "-c", start); err != nil {
		t.Fatal(err)
	}
	addr := awaitAddress(t, h, c.program)
	if lease := c.remembers(t); !strings.Contains(lease, "\nCLIENTID=ff") {
		t.Errorf("networkd's lease is\n%s\nwant that it has a client-id of type 255 (RFC 4361)", lease)
	}
	return addr
}

// remembers is what networkd keeps of its lease.
func (c *networkdClient) remembers(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("/run/systemd/netif/leases/*")
	if err != nil || len(files) != 1 {
		t.Fatalf("networkd keeps the leases %q, %v, want one", files, err)
	}
	return read(files[0])
}

func (c *networkdClient) renew(t *testing.T, h *sim.Host) {
	if out, err := h.Run(within(t, 10*time.Second), "networkctl", "renew", h.Iface); err != nil {
		t.Fatalf("networkctl renew: %v\n%s\nnetworkd said last:\n%s\nand the bus:\n%s", err, out, c.program.Last(8), c.bus.Last(8))
	}
}

// release ends networkd, which gives its address back as it goes.
func (c *networkdClient) release(*testing.T, *sim.Host) { c.program.Stop() }
