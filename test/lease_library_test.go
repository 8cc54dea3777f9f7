package garage

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"chargegate/pkg/sim"
)

// libraryClient is the client of the library whose messages the daemon also
// reads: it is there for what the programs cannot be made to send.
type libraryClient struct {
	*nclient4.Client
	lease *nclient4.Lease
}

func newLibrary(t *testing.T, h *sim.Host) leaseClient {
	c := &libraryClient{}
	err := h.Space.Do(func() (err error) {
		c.Client, err = nclient4.New(h.Iface, nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(3))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (c *libraryClient) get(t *testing.T, h *sim.Host) string {
	t.Helper()
	if c.lease != nil {
		return c.getAtOnce(t, h)
	}
	lease, err := c.Request(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	c.lease = lease
	return c.use(t, h, lease.ACK)
}

// getAtOnce asks for an address by two messages instead of four (RFC 4039).
func (c *libraryClient) getAtOnce(t *testing.T, h *sim.Host) string {
	t.Helper()
	rapid := dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil)
	m, err := dhcpv4.NewDiscovery(h.MAC[:], dhcpv4.WithOption(rapid))
	if err != nil {
		t.Fatal(err)
	}
	ack, err := c.SendAndRead(within(t, 10*time.Second), nclient4.DefaultServers, m, nclient4.IsMessageType(dhcpv4.MessageTypeAck))
	if err != nil {
		t.Fatalf("asking with rapid commit: %v", err)
	}
	if !ack.Options.Has(dhcpv4.OptionRapidCommit) {
		t.Errorf("the answer lacks the option that makes it final (RFC 4039, 3.1):\n%s", ack.Summary())
	}
	c.lease = &nclient4.Lease{Offer: ack, ACK: ack}
	c.informs(t)
	return c.use(t, h, ack)
}

// use gives the host what an ACK says.
func (c *libraryClient) use(t *testing.T, h *sim.Host, ack *dhcpv4.DHCPv4) string {
	t.Helper()
	addr, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	bits, _ := ack.SubnetMask().Size()
	if !ok || bits == 0 || len(ack.Router()) != 1 || len(ack.DNS()) != 1 {
		t.Fatalf("the lease lacks something:\n%s", ack.Summary())
	}
	if err := h.Reset(); err != nil {
		t.Fatal(err)
	}
	err := h.Configure(sim.Binding{Addr: netip.PrefixFrom(addr, bits), Router: near(ack.Router()[0]), DNS: near(ack.DNS()[0])})
	if err != nil {
		t.Fatal(err)
	}
	return addr.String()
}

func near(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip.To4())
	return a
}

func (c *libraryClient) renew(t *testing.T, h *sim.Host) {
	t.Helper()
	lease, err := c.Renew(within(t, 10*time.Second), c.lease)
	if err != nil {
		t.Fatal(err)
	}
	c.lease = lease
	c.informs(t)
}

// informs asks for everything but an address (RFC 2131, 4.3.5).
func (c *libraryClient) informs(t *testing.T) {
	t.Helper()
	ack, err := c.Inform(within(t, 10*time.Second), c.lease.ACK.YourIPAddr)
	if err != nil {
		t.Fatal(err)
	}
	if !ack.YourIPAddr.IsUnspecified() || ack.IPAddressLeaseTime(0) != 0 {
		t.Errorf("the answer to an INFORM promises an address (RFC 2131, 4.3.5):\n%s", ack.Summary())
	}
	if len(ack.Router()) != 1 || len(ack.DNS()) != 1 {
		t.Errorf("the answer to an INFORM lacks router or resolver:\n%s", ack.Summary())
	}
}

func (c *libraryClient) release(t *testing.T, h *sim.Host) {
	t.Helper()
	if err := c.Release(c.lease); err != nil {
		t.Fatal(err)
	}
	if err := h.Reset(); err != nil {
		t.Fatal(err)
	}
}

func (c *libraryClient) stop() { c.Close() }
