package status

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/policy"
)

// A name that is answered from memory is not a name that resolves.
func TestDoctorTellsAnOldAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	h.src.LookupNetIP = func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("198.51.100.10")}, nil
	}
	h.src.Confirmed = func(host string) (time.Duration, bool) { return time.Hour, host == policy.Hub }
	s := h.open(t).server
	for name, want := range map[string]finding{
		policy.Hub: warn("Chargers get this for up to three days. See the check of the DNS servers.", "198.51.100.10, from memory, confirmed 1h ago"),
		policy.API: pass("198.51.100.10"),
	} {
		if got := s.checkName(t.Context(), name); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

// Doctor says what came of its own question to each server, not what was known
// before.
func TestDoctorAsksEveryDNSServer(t *testing.T) {
	t.Parallel()
	well := DNSServer{Name: "192.0.2.1:53", Latency: Seconds(4e6)}
	for _, tt := range []struct {
		name  string
		known Uplink
		each  []DNSServer // nil: nothing could be asked
		want  string
		do    string
	}{
		{"it was not asked yet, and answers", Uplink{Servers: 1, Each: []DNSServer{{Name: "192.0.2.1:53"}}}, []DNSServer{well},
			"ok: 1 server is asked, and none fails: 192.0.2.1:53 answers in 4 ms", ""},
		{"it was not asked yet, and nobody listens", Uplink{Servers: 1, Each: []DNSServer{{Name: "127.0.0.1:53"}}},
			[]DNSServer{{Name: "127.0.0.1:53", Lost: true, Problem: "connection refused", Do: "Start it."}},
			"fail: the only DNS server does not answer: 127.0.0.1:53 fails (refused)", "Start it."},
		{"the second is dead, and nobody needed it", Uplink{Servers: 2, Each: []DNSServer{well, {Name: "192.0.2.99:53"}}},
			[]DNSServer{well, {Name: "192.0.2.99:53", Lost: true, Problem: "no answer", Do: "Go there."}},
			"warn: 1 of 2 DNS servers does not answer: 192.0.2.1:53 answers in 4 ms, 192.0.2.99:53 is silent", "Go there."},
		{"it was lost, and is back", Uplink{Servers: 1, Lost: 1, Each: []DNSServer{{Name: "192.0.2.1:53", Lost: true}}}, []DNSServer{well},
			"ok: 1 server is asked, and none fails: 192.0.2.1:53 answers in 4 ms", ""},
		{"nothing can be asked for", Uplink{Servers: 1, Each: []DNSServer{{Name: "192.0.2.1:53"}}}, nil,
			"warn: 1 server is there: 192.0.2.1:53 was not asked yet", "Allow a name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(twoChargers())
			h.src.Uplink = func() Uplink { return tt.known }
			h.src.AskEach = func(context.Context) []DNSServer { return tt.each }
			h.src.LookupNetIP = func(context.Context, string, string) ([]netip.Addr, error) { return nil, nil }
			checks := h.open(t).server.doctor(t.Context(), nil).Checks
			i := slices.IndexFunc(checks, func(c Check) bool { return c.Name == "dns servers" })
			if i < 0 {
				t.Fatalf("no such check: %+v", checks)
			}
			if got := string(checks[i].Result) + ": " + checks[i].Found; got != tt.want || !strings.Contains(checks[i].Do, tt.do) {
				t.Errorf("%q, advice %q; want %q, %q", got, checks[i].Do, tt.want, tt.do)
			}
		})
	}
}
