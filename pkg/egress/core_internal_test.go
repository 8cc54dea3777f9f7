package egress

import (
	"context"
	"errors"
	"net"
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
		{"plain to a name that is TLS only", "192.0.2.9:80", hello.Hello{Protocol: hello.HTTP, ServerName: "secure.example.com"}, want{resultUnknownName, "secure.example.com", byHost}},
		{"plain to a Zaptec name", "192.0.2.1:443", hello.Hello{Protocol: hello.HTTP, ServerName: "api.zaptec.com"}, want{resultUnknownName, "api.zaptec.com", byHost}},
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

func TestOutside(t *testing.T) {
	t.Parallel()
	cfg := Config{
		Networks: []netip.Prefix{netip.MustParsePrefix("10.83.0.0/24"), netip.MustParsePrefix("10.83.1.0/24")},
		Listen:   []netip.AddrPort{netip.MustParseAddrPort("172.31.0.1:18443")},
	}
	for addr, ok := range map[string]bool{
		"20.50.2.1": true, "10.84.0.1": true, "192.168.1.1": true, "172.16.0.9": true, "100.64.0.1": true, "::ffff:20.50.2.1": true,
		"10.83.0.1": false, "10.83.1.200": false, "::ffff:10.83.0.1": false, "172.31.0.1": false, "127.0.0.1": false,
		"127.83.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "169.254.169.254": false, "224.0.0.251": false,
		"255.255.255.255": false, "240.0.0.1": false, "::1": false, "2001:db8::1": false,
	} {
		if err := outside(cfg, netip.MustParseAddr(addr)); (err == nil) != ok {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// The dialler starts with the address that answered last, tries the next one
// after a failure at once and past a black hole soon, and gives up in time.
func TestDialler(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	good, refusing, hole := home, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	n := &names{addrs: map[string][]netip.Addr{}}
	d := newDialler(Config{DialTimeout: 2 * time.Second, AttemptTimeout: 300 * time.Millisecond}, n)
	d.mayDial = func(netip.Addr) error { return nil }
	tried := make(chan netip.Addr, 10)
	d.connect = func(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
		tried <- to.Addr()
		switch to.Addr() {
		case refusing:
			return nil, errors.New("connection refused")
		case hole:
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return connect(ctx, to)
	}
	dial := func(addrs ...netip.Addr) ([]netip.Addr, time.Duration, error) {
		n.resolve(apiName, addrs...)
		start := time.Now()
		conn, err := d.dial(t.Context(), apiName, b.port)
		if conn != nil {
			conn.Close()
		}
		var order []netip.Addr
		for len(tried) > 0 {
			order = append(order, <-tried)
		}
		return order, time.Since(start), err
	}
	order, took, err := dial(refusing, hole, good)
	if diff := cmp.Diff([]netip.Addr{refusing, hole, good}, order, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || diff != "" || took > time.Second {
		t.Errorf("%v after %s, tried (-want +got):\n%s", err, took, diff)
	}
	if order, _, err = dial(refusing, hole, good); err != nil || len(order) != 1 || order[0] != good {
		t.Errorf("tried %v, %v; want the one that answered last", order, err)
	}
	_, took, err = dial(hole, refusing)
	var de *dialError
	if !errors.As(err, &de) || de.cause != causeTCP || took > 1500*time.Millisecond || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v after %s", err, took)
	}
	if _, _, err = dial(); !errors.As(err, &de) || de.cause != causeDNS {
		t.Errorf("no addresses: %v", err)
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

func TestOutages(t *testing.T) {
	t.Parallel()
	o := &outages{open: map[string]*outage{}}
	start := time.Now()
	if !o.failed(apiName, 443, start) || o.failed(apiName, 443, start.Add(time.Second)) || !o.failed(apiName, 444, start) {
		t.Error("an outage is news once for each name and port")
	}
	if lasted, failed, over := o.reached(apiName, 443, start.Add(time.Minute)); !over || failed != 2 || lasted != time.Minute {
		t.Errorf("%s, %d, %t", lasted, failed, over)
	}
	if _, _, over := o.reached(apiName, 443, start); over {
		t.Error("over twice")
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
chargegate_egress_conversations_total{result="leaseless_limit"} 0
chargegate_egress_conversations_total{result="no_name"} 0
chargegate_egress_conversations_total{result="not_tls"} 0
chargegate_egress_conversations_total{result="outsider"} 0
chargegate_egress_conversations_total{result="total_limit"} 0
chargegate_egress_conversations_total{result="unknown_name"} 0
chargegate_egress_conversations_total{result="unreachable"} 0
chargegate_egress_conversations_total{result="wrong_port"} 0
# HELP chargegate_egress_dial_failures_total Attempts to reach an allowed name that failed, by cause.
# TYPE chargegate_egress_dial_failures_total counter
chargegate_egress_dial_failures_total{cause="address"} 0
chargegate_egress_dial_failures_total{cause="dns"} 0
chargegate_egress_dial_failures_total{cause="tcp"} 1
`
	if err := testutil.CollectAndCompare(h, strings.NewReader(want), "chargegate_egress_bytes_total",
		"chargegate_egress_conversations_total", "chargegate_egress_dial_failures_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(h); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}
