package egress

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"chargegate/pkg/hello"
	"chargegate/pkg/policy"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	list, err := policy.New(append(policy.Zaptec(),
		policy.Rule{Name: ocppName, Ports: []uint16{80, 443}, Plain: true, Reason: "test"},
		policy.Rule{Name: "other.example.com", Ports: []uint16{80}, Plain: true, Reason: "test"},
		policy.Rule{Name: "secure.example.com", Ports: []uint16{80, 443}, Reason: "test"},
		policy.Rule{Name: "*.both.example.com", Ports: []uint16{443}, Reason: "test"},
		policy.Rule{Name: "*.both.example.com", Ports: []uint16{443}, Plain: true, Reason: "test"}))
	if err != nil {
		t.Fatal(err)
	}
	at := map[string][]string{
		"192.0.2.1": {"api.zaptec.com"},
		"192.0.2.2": {"api.zaptec.com", "devices.zaptec.com"},
		"192.0.2.3": {"secure.example.com", "ocpp.example.com"},
		"192.0.2.4": {policy.Hub, "api.zaptec.com"},
		"192.0.2.5": {ocppName, "other.example.com"},
	}
	namesAt := func(a netip.Addr) []string { return at[a.String()] }
	type want struct {
		result result
		name   string
		by     string
	}
	tests := []struct {
		name string
		dst  string
		h    hello.Hello
		want want
	}{
		{"allowed", "192.0.2.9:443", hello.Hello{Protocol: hello.TLS, ServerName: "api.zaptec.com"}, want{resultCarried, "api.zaptec.com", bySNI}},
		{"the name decides, not the address", "192.0.2.4:443", hello.Hello{Protocol: hello.TLS, ServerName: "devices.zaptec.com"}, want{resultCarried, "devices.zaptec.com", bySNI}},
		{"unknown", "192.0.2.1:443", hello.Hello{Protocol: hello.TLS, ServerName: "evil.example"}, want{resultUnknownName, "evil.example", bySNI}},
		{"wrong port", "192.0.2.1:8883", hello.Hello{Protocol: hello.TLS, ServerName: "api.zaptec.com"}, want{resultWrongPort, "api.zaptec.com", bySNI}},
		{"no name, one at the address", "192.0.2.1:443", hello.Hello{Protocol: hello.TLS}, want{resultCarried, "api.zaptec.com", byAddress}},
		{"no name, two at the address", "192.0.2.2:443", hello.Hello{Protocol: hello.TLS}, want{resultNoName, "", byAddress}},
		{"no name, one of two on that port", "192.0.2.4:8883", hello.Hello{Protocol: hello.TLS}, want{resultCarried, policy.Hub, byAddress}},
		{"no name, unknown address", "192.0.2.9:443", hello.Hello{Protocol: hello.TLS}, want{resultNoName, "", byAddress}},
		{"no name on the hub's port", "192.0.2.9:8883", hello.Hello{Protocol: hello.TLS}, want{resultCarried, policy.Hub, byHub}},
		{"TLS to a plain rule is bytes, too", "192.0.2.9:80", hello.Hello{Protocol: hello.TLS, ServerName: ocppName}, want{resultCarried, ocppName, bySNI}},
		{"plain by Host", "192.0.2.9:80", hello.Hello{Protocol: hello.HTTP, ServerName: ocppName}, want{resultCarried, ocppName, byHost}},
		{"plain by Host where TLS is also spoken", "192.0.2.9:443", hello.Hello{Protocol: hello.HTTP, ServerName: ocppName}, want{resultCarried, ocppName, byHost}},
		{"plain to a name that is TLS only", "192.0.2.9:80", hello.Hello{Protocol: hello.HTTP, ServerName: "secure.example.com"}, want{resultNotTLS, "secure.example.com", ""}},
		{"plain to a Zaptec name", "192.0.2.1:443", hello.Hello{Protocol: hello.HTTP, ServerName: "api.zaptec.com"}, want{resultNotTLS, "api.zaptec.com", ""}},
		{"plain to a name that nobody allows", "192.0.2.1:443", hello.Hello{Protocol: hello.HTTP, ServerName: "evil.example"}, want{resultUnknownName, "evil.example", byHost}},
		{"plain to a Zaptec name on another port of plain rules", "192.0.2.1:80", hello.Hello{Protocol: hello.HTTP, ServerName: "api.zaptec.com"}, want{resultUnknownName, "api.zaptec.com", byHost}},
		{"plain by the address of a name that is TLS only", "192.0.2.1:443", hello.Hello{Protocol: hello.Other}, want{resultNotTLS, "", ""}},
		{"plain, and two names at the address", "192.0.2.5:80", hello.Hello{Protocol: hello.Other}, want{resultNoName, "", byAddress}},
		{"plain, and nothing known of the address", "192.0.2.9:80", hello.Hello{Protocol: hello.Other}, want{resultNoName, "", byAddress}},
		{"a plain rule on another port", "192.0.2.9:80", hello.Hello{Protocol: hello.HTTP, ServerName: "a.both.example.com"}, want{resultWrongPort, "a.both.example.com", byHost}},
		{"plain by address", "192.0.2.3:80", hello.Hello{Protocol: hello.Other}, want{resultCarried, ocppName, byAddress}},
		{"plain without Host by address", "192.0.2.3:80", hello.Hello{Protocol: hello.HTTP}, want{resultCarried, ocppName, byAddress}},
		{"plain on a TLS port", "192.0.2.1:8883", hello.Hello{Protocol: hello.Other}, want{resultNotTLS, "", ""}},
		{"HTTP on a TLS port", "192.0.2.1:8883", hello.Hello{Protocol: hello.HTTP, ServerName: "x.example"}, want{resultNotTLS, "x.example", ""}},
		{"a name with both rules, TLS", "192.0.2.9:443", hello.Hello{Protocol: hello.TLS, ServerName: "a.both.example.com"}, want{resultCarried, "a.both.example.com", bySNI}},
		{"a name with both rules, plain", "192.0.2.9:443", hello.Hello{Protocol: hello.HTTP, ServerName: "a.both.example.com"}, want{resultCarried, "a.both.example.com", byHost}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := decide(list, namesAt, netip.MustParseAddrPort(tt.dst), tt.h)
			if diff := cmp.Diff(tt.want, want{d.result, d.name, d.by}, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
			// An empty list lets nobody out.
			for _, empty := range []*policy.List{nil, {}} {
				if d := decide(empty, namesAt, netip.MustParseAddrPort(tt.dst), tt.h); d.allowed() {
					t.Error("allowed by an empty list")
				}
			}
		})
	}
}

// The words for what a caller speaks are a few, whatever it sends.
func TestProtocolInWords(t *testing.T) {
	t.Parallel()
	for begins, want := range map[string]string{
		"SSH-2.0-x\r\n": "SSH", "SSH": "something unknown", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": "HTTP/2 without TLS",
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n": "the PROXY protocol", "\r\n\r\n\x00\r\nQUIT\n\x21": "the PROXY protocol",
		"\x10\x1a\x00\x04MQTT\x04": "MQTT without TLS", "\x10\x9a\x01\x00\x06MQIsdp": "MQTT without TLS", "\x10": "something unknown",
		"\x80\x2e\x01\x03\x01\x00": "SSL 2", "\x80": "something unknown", "\x00\x00\x00\x00\x00\x00": "something unknown", "": "something unknown",
	} {
		if got := protocolInWords(hello.Hello{Bytes: []byte(begins)}); got != want {
			t.Errorf("%q is %s, want %s", begins, got, want)
		}
	}
	if got := protocolInWords(hello.Hello{Protocol: hello.HTTP}); got != "plain HTTP" {
		t.Errorf("HTTP is %s", got)
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	start := time.Now()
	m := meter{moved: start}
	steps := []struct {
		after            time.Duration
		up, down         int64
		wantUp, wantDown int64
		wantSilent       time.Duration
	}{
		{time.Second, 0, 0, 0, 0, time.Second},
		{2 * time.Second, 5, 0, 5, 0, 0},
		{3 * time.Second, 5, 7, 0, 7, 0},
		{time.Hour, 5, 7, 0, 0, time.Hour - 3*time.Second},
		{2 * time.Hour, 6, 9, 1, 2, 0},
	}
	for _, s := range steps {
		now := start.Add(s.after)
		up, down := m.read(s.up, s.down, now)
		if up != s.wantUp || down != s.wantDown || m.silent(now) != s.wantSilent {
			t.Errorf("after %s: %d up, %d down, silent %s", s.after, up, down, m.silent(now))
		}
	}
}

func TestRefusalsForget(t *testing.T) {
	t.Parallel()
	r := &refusals{said: map[share]*said{}}
	at := func(a netip.Addr) share { return share{network: netip.PrefixFrom(a, 32)} }
	start := time.Now()
	for i := range 5 {
		if n := r.note(at(home), start.Add(time.Duration(i)*time.Minute)); n != i+1 {
			t.Errorf("refusal %d counted as %d", i+1, n)
		}
	}
	if n := r.note(at(home), start.Add(time.Hour)); n != 1 {
		t.Errorf("counted %d after an hour", n)
	}
	a := netip.MustParseAddr("10.0.0.0")
	for range 10_000 {
		a = a.Next()
		r.note(at(a), start.Add(3*time.Hour))
	}
	if _, still := r.said[at(home)]; still {
		t.Error("one that was quiet for hours is still remembered")
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	h := newHouse(t, 443)
	h.counts.result(resultCarried)
	h.counts.dialFailed(causeTCP)
	h.counts.up.Add(42)
	want := `
# HELP chargegate_egress_bytes_total Bytes carried, by direction: up is from the chargers.
# TYPE chargegate_egress_bytes_total counter
chargegate_egress_bytes_total{direction="down"} 0
chargegate_egress_bytes_total{direction="up"} 42
# HELP chargegate_egress_conversations_total Calls of chargers, by what became of them.
# TYPE chargegate_egress_conversations_total counter
chargegate_egress_conversations_total{result="carried"} 1
chargegate_egress_conversations_total{result="charger_limit"} 0
chargegate_egress_conversations_total{result="direct"} 0
chargegate_egress_conversations_total{result="hello_failed"} 0
chargegate_egress_conversations_total{result="hello_limit"} 0
chargegate_egress_conversations_total{result="leaseless_limit"} 0
chargegate_egress_conversations_total{result="no_name"} 0
chargegate_egress_conversations_total{result="not_tls"} 0
chargegate_egress_conversations_total{result="outsider"} 0
chargegate_egress_conversations_total{result="strangers_limit"} 0
chargegate_egress_conversations_total{result="total_limit"} 0
chargegate_egress_conversations_total{result="unknown_name"} 0
chargegate_egress_conversations_total{result="unreachable"} 0
chargegate_egress_conversations_total{result="wrong_port"} 0
# HELP chargegate_egress_dial_failures_total Attempts to reach an allowed name that failed, by cause.
# TYPE chargegate_egress_dial_failures_total counter
chargegate_egress_dial_failures_total{cause="address"} 0
chargegate_egress_dial_failures_total{cause="dns"} 0
chargegate_egress_dial_failures_total{cause="tcp"} 1
chargegate_egress_dial_failures_total{cause="tls"} 0
`
	if err := testutil.CollectAndCompare(h, strings.NewReader(want), "chargegate_egress_bytes_total",
		"chargegate_egress_conversations_total", "chargegate_egress_dial_failures_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(h); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}
