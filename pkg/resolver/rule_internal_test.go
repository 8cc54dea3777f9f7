package resolver

import (
	"net/netip"
	"testing"

	"chargegate/pkg/policy"

	"github.com/miekg/dns"
)

func TestRule(t *testing.T) {
	t.Parallel()
	list := zaptecAnd(t, policy.Rule{Name: "*.ocpp.example", Ports: []uint16{443}, Reason: "test"})
	tests := []struct {
		name, asked string
		qtype       uint16
		want        ruling
	}{
		{"the hub", "zapcloud.azure-devices.net.", dns.TypeA, lookup},
		{"the hub, in odd spelling", "ZapCloud.Azure-Devices.NET.", dns.TypeA, lookup},
		{"another hub", "evil.azure-devices.net.", dns.TypeA, refused},
		{"the hub's parent", "azure-devices.net.", dns.TypeA, refused},
		{"below the hub", "x.zapcloud.azure-devices.net.", dns.TypeA, refused},
		{"the hub's IPv6 address", "zapcloud.azure-devices.net.", dns.TypeAAAA, empty},
		{"the hub's HTTPS record", "zapcloud.azure-devices.net.", dns.TypeHTTPS, empty},
		{"the hub's text", "zapcloud.azure-devices.net.", dns.TypeTXT, empty},
		{"everything of the hub", "zapcloud.azure-devices.net.", dns.TypeANY, lookup},
		{"a pattern", "a.b.ocpp.example.", dns.TypeA, lookup},
		{"a pattern's parent", "ocpp.example.", dns.TypeA, refused},
		{"a label with a dot in it", `evil\.ocpp.example.`, dns.TypeA, refused},
		{"the pool", "pool.ntp.org.", dns.TypeA, gateway},
		{"the pool's country", "no.pool.ntp.org.", dns.TypeA, gateway},
		{"the pool's IPv6 address", "2.no.pool.ntp.org.", dns.TypeAAAA, own},
		{"a name that ends like the pool", "spool.ntp.org.", dns.TypeA, refused},
		{"a name with a dot in a label before the pool", `x\.pool.ntp.org.`, dns.TypeA, refused},
		{"the root", ".", dns.TypeNS, refused},
		{"another name's IPv6 address", "example.com.", dns.TypeAAAA, refused},
	}
	for _, tt := range tests {
		if got := rule(list, dns.Question{Name: tt.asked, Qtype: tt.qtype, Qclass: dns.ClassINET}); got != tt.want {
			t.Errorf("%s: ruling %d, want %d", tt.name, got, tt.want)
		}
	}
	if got := rule(list, dns.Question{Name: "version.bind.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}); got != foreign {
		t.Errorf("class CHAOS: ruling %d, want %d", got, foreign)
	}
	if got := rule(nil, dns.Question{Name: "zapcloud.azure-devices.net.", Qtype: dns.TypeA, Qclass: dns.ClassINET}); got != refused {
		t.Errorf("no list: ruling %d, want %d", got, refused)
	}
}

func TestGatewayFor(t *testing.T) {
	t.Parallel()
	gateways := []netip.Prefix{netip.MustParsePrefix("10.83.0.1/24"), netip.MustParsePrefix("10.83.1.1/26")}
	for asker, want := range map[string]string{
		"10.83.0.77": "10.83.0.1", "10.83.1.9": "10.83.1.1", "127.83.0.1": "10.83.0.1", "10.83.1.200": "10.83.0.1",
	} {
		if got := gatewayFor(gateways, netip.MustParseAddr(asker)); got != netip.MustParseAddr(want) {
			t.Errorf("%s gets %s, want %s", asker, got, want)
		}
	}
	if got := gatewayFor(nil, netip.MustParseAddr("10.83.0.77")); got.IsValid() {
		t.Errorf("without gateways: %s", got)
	}
}

func zaptecAnd(t testing.TB, more ...policy.Rule) *policy.List {
	t.Helper()
	list, err := policy.New(append(policy.Zaptec(), more...))
	if err != nil {
		t.Fatal(err)
	}
	return list
}
