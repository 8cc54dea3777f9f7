package resolver

import (
	"net/netip"
	"testing"
	"time"

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

// A charger whose questions fail asks again every few seconds: whoever looks at
// its page must be sent to the uplink, not to the app.
func TestNameThatCannotBeFoundIsOnTheChargersPage(t *testing.T) {
	list, err := policy.New(policy.Zaptec())
	if err != nil {
		t.Fatal(err)
	}
	asker, now := netip.MustParseAddr("10.83.0.17"), time.Now()
	book := charger.NewBook(nil, nil)
	book.Leased(charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 7}, "P1", asker, true, now)
	s := New(Config{}, list, book, nil)
	s.memory.open()
	defer s.memory.shut()
	m := s.answer(t.Context(), new(dns.Msg).SetQuestion("api.zaptec.com.", dns.TypeA), asker)
	if m == nil || m.Rcode != dns.RcodeServerFailure {
		t.Fatalf("without an upstream: %v", m)
	}
	if got, want := book.All(now)[0].Unreachable, "api.zaptec.com (its address cannot be found)"; got != want {
		t.Errorf("the page says %q, want %q", got, want)
	}
}
