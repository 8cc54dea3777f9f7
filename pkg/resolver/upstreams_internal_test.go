package resolver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/miekg/dns"
)

// Every server is asked at once, whoever is asked usually.
func TestEachServerIsAsked(t *testing.T) {
	t.Parallel()
	nobody := netip.MustParseAddrPort("127.83.99.2:53")
	well, errs := upstream(t, nil, says(t, good)), upstream(t, nil, fails(dns.RcodeServerFailure))
	mute := upstream(t, nil, silent)
	g := open(t, zaptecAnd(t), well, errs, nobody, mute)
	began := time.Now()
	got := g.AskEach(t.Context())
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if len(got) != 4 {
		t.Fatalf("%d servers, want 4: %+v", len(got), got)
	}
	for i, tt := range []struct {
		name          string
		lost, errors  bool
		problem, does string
	}{
		{"answers", false, false, "", ""},
		{"only errors", false, true, "SERVFAIL", "Restart the router"},
		{"nobody listens", true, false, "refused", "port 53"},
		{"silent", true, false, "no answer", "port 53"},
	} {
		s := got[i]
		if s.Lost != tt.lost || s.Errors != tt.errors || !strings.Contains(s.Problem, tt.problem) || (tt.problem == "") != (s.Problem == "") || !strings.Contains(s.Do, tt.does) {
			t.Errorf("%s: %+v", tt.name, s)
		}
	}
	if got[0].Latency <= 0 || strings.Contains(got[1].Problem, "asking") {
		t.Errorf("latency %v; problem %q", got[0].Latency, got[1].Problem)
	}
	if known := g.Servers(); known[0].Latency == 0 {
		t.Errorf("nothing was learnt of it: %+v", known[0])
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := g.AskEach(ctx); len(got) != 4 {
		t.Errorf("after its end: %+v", got)
	}
	if got := open(t, nil, well).AskEach(t.Context()); got != nil {
		t.Errorf("with no name to ask for: %+v", got)
	}
}

// A router whose own uplink is dead answers SERVFAIL to everything. That is said
// once, and not for every name, and again when it is over.
func TestAServerThatGivesOnlyErrors(t *testing.T) {
	t.Parallel()
	var works atomic.Bool
	right, wrong := says(t, good), fails(dns.RcodeServerFailure)
	at := upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
		if works.Load() {
			right(w, q)
		} else {
			wrong(w, q)
		}
	})
	log := event.New(event.Options{Keep: 100})
	s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Upstreams: []Upstream{{Addr: at}}}, zaptecAnd(t), nil, log)
	s.probeEvery = time.Millisecond
	serve(t, s)
	for range 2 {
		for _, r := range policy.Zaptec() {
			if _, err := s.LookupNetIP(t.Context(), "ip4", r.Name); err == nil {
				t.Fatalf("%s was found", r.Name)
			}
		}
	}
	until(t, log, event.ResolverOnlyErrors)
	_, lost, problem := s.Upstreams()
	if want := "the only DNS server answers with errors (SERVFAIL)"; lost != 0 || problem != want {
		t.Errorf("%d lost, %q; want none, %q", lost, problem, want)
	}
	if got := s.Servers()[0]; !got.Errors || got.Lost || got.Problem != "SERVFAIL" || got.Do == "" {
		t.Errorf("its state: %+v", got)
	}
	works.Store(true)
	until(t, log, event.ResolverNamesRestored)
	if _, _, problem := s.Upstreams(); problem != "" || s.Servers()[0].Errors {
		t.Errorf("after its end: %q", problem)
	}
	said := map[*event.Kind]int{}
	for _, r := range log.Recent(0, "") {
		said[r.Kind]++
	}
	if said[event.ResolverOnlyErrors] != 1 || said[event.ResolverNamesRestored] != 1 || said[event.ResolverNameFailed] >= lostAfter || said[event.ResolverNamesLost] > 0 {
		t.Errorf("said %v", said)
	}
}

// One name that no server knows anything of says nothing of the servers.
func TestOneBrokenNameIsNotTheServers(t *testing.T) {
	t.Parallel()
	right, wrong := says(t, good), fails(dns.RcodeServerFailure)
	at := upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
		if strings.EqualFold(q.Question[0].Name, "broken.example.") {
			wrong(w, q)
		} else {
			right(w, q)
		}
	})
	g := open(t, zaptecAnd(t, policy.Rule{Name: "broken.example", Ports: []uint16{443}, Reason: "x"}), at)
	for range 10 * lostAfter {
		if _, err := g.forward.ask(t.Context(), "broken.example."); err == nil {
			t.Fatal("it was found")
		}
	}
	if _, _, problem := g.Upstreams(); problem != "" || g.forward.health.allLost() || !g.forward.health.suspicious() {
		t.Errorf("%q; all lost %v, suspicious %v", problem, g.forward.health.allLost(), g.forward.health.suspicious())
	}
	if _, err := g.forward.ask(t.Context(), hub); err != nil || g.forward.health.suspicious() {
		t.Errorf("%v; suspicious after a good answer: %v", err, g.forward.health.suspicious())
	}
}

func TestServersInShort(t *testing.T) {
	t.Parallel()
	ok, lost, errs := ServerState{}, ServerState{Lost: true}, ServerState{Errors: true, Problem: "SERVFAIL"}
	for _, tt := range []struct {
		name string
		each []ServerState
		want string
	}{
		{"none", nil, ""},
		{"all is well", []ServerState{ok, ok}, ""},
		{"the only one is silent", []ServerState{lost}, "the only DNS server does not answer"},
		{"the only one shows another's certificate", []ServerState{{Lost: true, Problem: "its certificate is for dns.example"}}, "the only DNS server does not answer: its certificate is for dns.example"},
		{"the only one gives errors", []ServerState{errs}, "the only DNS server answers with errors (SERVFAIL)"},
		{"all are silent", []ServerState{lost, lost}, "none of 2 DNS servers answers"},
		{"all give errors", []ServerState{errs, errs}, "none of 2 DNS servers gives an answer that can be used (SERVFAIL)"},
		{"one silent, one with errors", []ServerState{lost, errs}, "none of 2 DNS servers gives an answer that can be used (SERVFAIL)"},
		{"one of two is silent", []ServerState{ok, lost}, "1 of 2 DNS servers does not answer"},
		{"two of three are silent", []ServerState{ok, lost, lost}, "2 of 3 DNS servers do not answer"},
		{"one of two gives errors", []ServerState{errs, ok}, "1 of 2 DNS servers answers only with errors (SERVFAIL)"},
		{"each fails in its way, but for one", []ServerState{errs, ok, lost}, "2 of 3 DNS servers do not answer, or only with errors (SERVFAIL)"},
	} {
		if got := inShort(slices.Clone(tt.each)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// What to do about a server that fails goes with how it fails.
func TestAdviceAboutAServer(t *testing.T) {
	t.Parallel()
	now := time.Now()
	theirs, _ := certificate(t, "elsewhere.example", now.Add(-time.Hour), now.Add(time.Hour))
	ended, roots := certificate(t, dotName, now.Add(-2*time.Hour), now.Add(-time.Hour))
	leaf := func(c tls.Certificate) *x509.Certificate {
		x, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	wrongName := leaf(theirs).VerifyHostname(dotName)
	_, expired := leaf(ended).Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now})
	over := target{netip.MustParseAddrPort("192.0.2.53:853"), dotName}
	for _, tt := range []struct {
		name        string
		t           target
		err         error
		problem, do string
	}{
		{"silent", target{addr: netip.MustParseAddrPort("192.0.2.53:53")}, errSilent, "no answer", "UDP and TCP port 53"},
		{"silent over TLS", over, errSilent, "no answer", "Outgoing TCP port 853 must be open"},
		{"somebody else's certificate", over, inWords(wrongName, now), "its certificate is for elsewhere.example", "Correct the name after # in [dns] upstreams, then: sudo systemctl restart chargegate-prepare."},
		{"a certificate that has ended", over, inWords(expired, now), "its certificate ended on ", "Tell its operator, or write another server"},
		{"a stranger's certificate", over, inWords(x509.UnknownAuthorityError{Cert: leaf(theirs)}, now), "its certificate is signed by nobody whom this box knows", "ca-certificates"},
		{"errors", over, fmt.Errorf("%w: REFUSED", errAnswer), "REFUSED", "Restart the router"},
	} {
		c := condition{fails: lostAfter, err: about(tt.t, hub, tt.err)}
		got := c.state(tt.t)
		if !strings.HasPrefix(got.Problem, tt.problem) || !strings.Contains(got.Do, tt.do) || strings.Contains(got.Problem, "x509") {
			t.Errorf("%s: %q, %q; want %q, %q", tt.name, got.Problem, got.Do, tt.problem, tt.do)
		}
	}
}
