package garage

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// TestCount lets a device in a namespace of its own, whose address a real client
// got, talk as a charger does and say numbers to the hub, while the daemon is
// replaced and killed: every number comes back, in its order.
func TestCount(t *testing.T) {
	h := connected(t, desk)
	c := h.Space.Charger(desk, h.Iface, garage.Cloud.Authority, sim.Brisk())
	own, router := netip.MustParseAddr(address(t, h)), garage.Gateway.Address("P1")
	leave := c.Settle(t.Context(), sim.Binding{Addr: netip.PrefixFrom(own, 24), Router: router, DNS: router})
	defer leave()
	eventually(t, 20*time.Second, "it is well", func() (bool, string) { return c.View().Well(), c.View().Trouble })

	session, err := c.Session(within(t, 10*time.Second), desk+"-count")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	until, end := context.WithCancel(t.Context())
	defer end()
	heard := uint64(0)
	done := make(chan error, 1)
	go func() {
		done <- session.Count(until, 5*time.Millisecond, 10*time.Second, func(n uint64, _ time.Duration) { heard = n })
	}()
	for _, replace := range []func(context.Context) (time.Duration, error){garage.Gateway.Restart, garage.Gateway.Crash} {
		time.Sleep(200 * time.Millisecond) // numbers are on their way
		if _, err := replace(within(t, 30*time.Second)); err != nil {
			t.Error(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	end()
	if err := <-done; err != nil {
		t.Errorf("after %d numbers: %v", heard, err)
	}
	if heard < 40 {
		t.Errorf("%d numbers came back", heard)
	}
	if n := c.View().Conversations; n != 1 {
		t.Errorf("it began %d conversations of its own", n)
	}
}
