package main

import (
	"net/netip"
	"testing"
	"time"

	"chargegate/pkg/sim"
)

// TestParseBinding reads what the hook of udhcpc writes, and nothing that is less.
func TestParseBinding(t *testing.T) {
	got, err := parseBinding("10.83.0.18/24 10.83.0.1 10.83.0.1 10.83.0.1 86400\n")
	router := netip.MustParseAddr("10.83.0.1")
	want := sim.Binding{Addr: netip.MustParsePrefix("10.83.0.18/24"), Router: router, DNS: router, Server: router, Lease: 24 * time.Hour}
	if err != nil || got != want {
		t.Errorf("read %+v, %v; want %+v", got, err, want)
	}
	for _, line := range []string{
		"", "10.83.0.18/24", "10.83.0.18 10.83.0.1 10.83.0.1 10.83.0.1 86400", "10.83.0.18/24 router 10.83.0.1 10.83.0.1 86400",
		"10.83.0.18/24 10.83.0.1 10.83.0.1 10.83.0.1 soon", "10.83.0.18/24 10.83.0.1  10.83.0.1 86400",
	} {
		if b, err := parseBinding(line); err == nil {
			t.Errorf("%q was read as %+v", line, b)
		}
	}
}
