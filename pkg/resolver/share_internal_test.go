package resolver

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"
)

// A flood of questions that wait for an upstream must not keep anybody from the
// time's name: chargers need it, and so does the watchdog's sign of life.
func TestFloodOfWaitingQuestionsLeavesTheTimeAnswered(t *testing.T) {
	list, err := policy.New(policy.Zaptec())
	if err != nil {
		t.Fatal(err)
	}
	log := event.New(event.Options{Keep: 10})
	s := New(Config{Gateways: []netip.Prefix{netip.MustParsePrefix("10.83.0.1/24")}}, list, charger.NewBook(nil, nil), log)
	asker := netip.MustParseAddr("10.83.0.17")
	for s.waiting.enter(asker) {
	}
	if n := s.waiting.open(); n != maxEach {
		t.Fatalf("one asker has %d questions waiting, want %d", n, maxEach)
	}
	ask := func(name string) *dns.Msg {
		return s.answer(t.Context(), new(dns.Msg).SetQuestion(name, dns.TypeA), asker)
	}
	if m := ask("api.zaptec.com."); m != nil {
		t.Errorf("one too many was answered: %v", m)
	}
	if got := log.Recent(0, ""); len(got) != 1 || got[0].Kind != event.ResolverOverload {
		t.Errorf("said %v", got)
	}
	if m := ask("pool.ntp.org."); m == nil || len(m.Answer) != 1 {
		t.Errorf("the time's name was answered with %v", m)
	}
	if m := ask("example.com."); m == nil || m.Rcode != dns.RcodeNameError {
		t.Errorf("a foreign name was answered with %v", m)
	}
	if !s.waiting.enter(netip.MustParseAddr("10.83.0.18")) {
		t.Error("another asker is kept out by the first one's questions")
	}
}
