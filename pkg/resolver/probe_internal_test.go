package resolver

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/miekg/dns"
)

func TestProbeNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		rules []policy.Rule
		want  string
	}{
		{"Zaptec's", append(policy.Zaptec(), policy.Rule{Name: "ocpp.example.com", Ports: []uint16{443}, Reason: "x"}),
			"zapcloud.azure-devices.net zapcloud-api.azurewebsites.net devices.zaptec.com api.zaptec.com"},
		{"the site's own", []policy.Rule{{Name: "*.example.com", Ports: []uint16{443}, Reason: "x"}, {Name: "ocpp.example.com", Ports: []uint16{443}, Reason: "x"}}, "ocpp.example.com"},
		{"a pattern alone", []policy.Rule{{Name: "*.example.com", Ports: []uint16{443}, Reason: "x"}}, ""},
		{"nothing allowed", nil, ""},
	} {
		list, err := policy.New(tt.rules)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(probeNames(list), " "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A server is repaired, and no charger asks anything: it is noticed and said.
func TestARepairIsNoticedWithoutACharger(t *testing.T) {
	t.Parallel()
	var works atomic.Bool
	var asked atomic.Int64
	right := says(t, hub+" 60 IN A 192.0.2.1")
	at := upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		if works.Load() {
			right(w, q)
		}
	})
	log := event.New(event.Options{Keep: 100})
	s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Upstreams: []Upstream{{Addr: at}}}, zaptecAnd(t), nil, log)
	s.probeEvery = time.Millisecond
	serve(t, s)
	if s.forward.health.allLost() || asked.Load() > 0 {
		t.Error("it asks though nobody has complained")
	}
	s.forward.health.order([]target{{addr: at}}, time.Now())
	for range lostAfter {
		s.forward.health.failed(target{addr: at}, context.DeadlineExceeded, time.Now())
	}
	until(t, log, event.ResolverNamesLost)
	if _, lost, problem := s.Upstreams(); lost != 1 || problem == "" {
		t.Errorf("%d lost (%s), want 1", lost, problem)
	}
	works.Store(true)
	until(t, log, event.ResolverNamesRestored)
	if _, lost, problem := s.Upstreams(); lost != 0 || problem != "" {
		t.Errorf("%d lost (%s), want none", lost, problem)
	}
}

// The uplink's DHCP client has not written resolv.conf yet; then it has.
func TestAServerThatAppearsIsNoticed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte("# none yet\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := event.New(event.Options{Keep: 100})
	s := New(Config{Upstreams: []Upstream{{System: true}}, ResolvConf: path}, zaptecAnd(t), nil, log)
	s.probeEvery = time.Millisecond
	serve(t, s)
	if _, err := s.LookupNetIP(t.Context(), "ip4", policy.Hub); err == nil {
		t.Fatal("a name was found without a server")
	}
	until(t, log, event.ResolverNamesLost)
	// Nobody listens there, but it is a server that can be asked.
	if err := os.WriteFile(path, []byte("nameserver 127.83.99.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if servers, lost, _ := s.Upstreams(); servers == 1 && lost == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the server that has appeared is not asked")
		}
	}
}

// serve lets a server work until the test ends.
func serve(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan error, 1)
	go func() { end <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-end; err != nil {
			t.Errorf("Serve ended with %v", err)
		}
	})
}

// until waits for an event.
func until(t *testing.T, log *event.Log, kind *event.Kind) {
	t.Helper()
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-pause.C {
		for _, r := range log.Recent(0, "") {
			if r.Kind == kind {
				return
			}
		}
	}
	t.Fatalf("%s was not said", kind.ID)
}

// What is known of each server is told, for the doctor and the metrics.
func TestServersAreTold(t *testing.T) {
	t.Parallel()
	quick, useless := upstream(t, nil, says(t, good)), upstream(t, nil, fails(dns.RcodeRefused))
	g := open(t, zaptecAnd(t), useless, quick, netip.MustParseAddrPort("127.83.99.1:53"))
	for _, s := range g.Servers() {
		if s.Lost || s.Latency != 0 || s.Problem != "" {
			t.Errorf("before any question: %+v", s)
		}
	}
	if _, err := g.LookupNetIP(t.Context(), "ip4", policy.Hub); err != nil {
		t.Fatal(err)
	}
	got := g.Servers()
	if len(got) != 3 || got[0].Name != useless.String() || !strings.Contains(got[0].Problem, "REFUSED") || got[0].Latency != 0 ||
		got[1].Latency == 0 || got[1].Problem != "" || got[2].Latency != 0 {
		t.Errorf("got %+v", got)
	}
	if page := scrape(t, g.Server); page["chargegate_resolver_upstream_latency_seconds/"+quick.String()] <= 0 {
		t.Errorf("the metrics have no latency of %v: %v", quick, page)
	}
	for range lostAfter {
		g.forward.health.failed(target{addr: quick}, errSilent, time.Now())
	}
	if got := g.Servers(); !got[1].Lost || got[1].Problem != "no answer" {
		t.Errorf("after its loss: %+v", got[1])
	}
}
