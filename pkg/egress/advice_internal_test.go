package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/hello"
	"chargegate/pkg/policy"

	"golang.org/x/sys/unix"
)

// A name to which the DNS servers give nothing but false addresses is told from one
// that they do not know.
func TestFalseAnswersAreNamed(t *testing.T) {
	for name, tt := range map[string]struct {
		err         error
		cause, want string
		do          string
	}{
		"false addresses": {&net.DNSError{Err: "unusable", Name: ocppName, UnwrapErr: falsely{home}}, causeAddress, "127.0.0.1 is a loopback address", "false answer"},
		"no such name":    {&net.DNSError{Err: "no DNS server knows this name: check its spelling", Name: ocppName, IsNotFound: true}, causeDNS, "no DNS server knows this name: check its spelling", "spelling"},
		"servers fail":    {&net.DNSError{Err: "SERVFAIL", Name: ocppName, IsTemporary: true}, causeDNS, "SERVFAIL", "asks every DNS server"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, 443, withRule(policy.Rule{Name: ocppName, Ports: []uint16{443}, Reason: "test"}))
			h.dialler.mayDial = newDialler(h.cfg, h.names).mayDial
			h.names.err.Store(&tt.err)
			_, err := h.dialler.dial(t.Context(), ocppName, 443, nil)
			h.unreachable(t.Context(), home, decision{name: ocppName}, 443, time.Now(), err)
			r := h.says(event.EgressUnreachable)
			if r.Field("CAUSE") != tt.cause || r.Field("ERROR") != tt.want || !strings.Contains(r.Advice(), tt.do) {
				t.Errorf("said %q: %q", r.Message, r.Advice())
			}
		})
	}
}

// falsely is an answer of false addresses alone.
type falsely []netip.Addr

func (falsely) Error() string            { return "unusable" }
func (f falsely) Unusable() []netip.Addr { return f }

func withRule(rule policy.Rule) change {
	return func(_ *Config, rules *[]policy.Rule) { *rules = append(*rules, rule) }
}

// Who asks which addresses may be dialled, as doctor does, hears what a charger would.
func TestDialable(t *testing.T) {
	h := newHouse(t, 443, withRule(policy.Rule{Name: ocppName, Ports: []uint16{443}, Reason: "test", Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32")}}))
	h.dialler.mayDial = func(a netip.Addr) error { return outside(Config{}, a) }
	for _, tt := range []struct{ name, addrs, may, why, do string }{
		{ocppName, "192.168.7.7", "[]", "192.168.7.7 is private and the rule does not name it",
			`If the server stands inside the building, add addresses = ["192.168.7.7"] to its rule under [[egress.allow]], then: sudo systemctl reload chargegated. If not, the DNS server gives a false answer.`},
		{ocppName, "10.1.2.3", "[10.1.2.3]", "", ""},
		{ocppName, "192.168.7.7 192.0.2.1", "[192.0.2.1]", "", ""},
		{ocppName, "127.0.0.1", "[]", "127.0.0.1 is a loopback address", addressAdvice(ocppName, nil)},
		{policy.Hub, "192.168.7.7", "[]", "hub on port 443", "Run it again: the rules have changed meanwhile."},
		{apiName, "192.168.7.7", "[]", "192.168.7.7 is private and the rule does not name it", addressAdvice(ocppName, nil)},
	} {
		var addrs []netip.Addr
		for _, a := range strings.Fields(tt.addrs) {
			addrs = append(addrs, netip.MustParseAddr(a))
		}
		may, why, do := h.Dialable(tt.name, 443, addrs)
		if tt.name == policy.Hub {
			tt.why = policy.Hub + " on port 443 (no rule allows it)"
		}
		if fmt.Sprint(may) != tt.may || why != tt.why || do != tt.do {
			t.Errorf("%s at %s: %v, %q, %q", tt.name, tt.addrs, may, why, do)
		}
	}
}

// An advice is a field of an event, and none may be cut. Every command in one is whole.
func TestAdviceFits(t *testing.T) {
	a := netip.MustParseAddr("192.168.100.100")
	var all []string
	for _, name := range []string{policy.Hub, ocppName} {
		for _, cause := range causes {
			for _, way := range []string{"", wayRefused, waySilent, wayNone, wayBox, wayUnknown, wayOut} {
				for n := range 5 {
					all = append(all, unreachableAdvice(target{name, 65535}, fault{cause: cause, way: way, private: slices.Repeat([]netip.Addr{a}, n)}))
				}
			}
		}
		all = append(all, portAdvice(name, 65535), plainAdvice(name, 65535, hello.Hello{Protocol: hello.HTTP}), plainAdvice(name, 65535, hello.Hello{}), trustAdvice)
	}
	for _, do := range all {
		if got := event.F("DO", do).Value; got != do || do == "" || !strings.HasSuffix(do, ".") {
			t.Errorf("%d bytes: %q", len(do), do)
		}
		for _, command := range []string{"chargegate doctor", "systemctl"} {
			if strings.Count(do, command) != strings.Count(do, "sudo "+command) {
				t.Errorf("without sudo: %q", do)
			}
		}
	}
	if do := portAdvice(policy.Hub, 443); strings.Contains(do, "[[egress.allow]]") {
		t.Errorf("a rule for what Zaptec's chargers do not need: %q", do)
	}
	if do := plainAdvice(apiName, 443, hello.Hello{Protocol: hello.HTTP}); strings.Contains(do, "plain = true") {
		t.Errorf("plain for a name of Zaptec's: %q", do)
	}
}

// While this box has no way out, that is what is said, and it is no name's error. What
// still does not answer when the way is back is said as ever.
func TestNoWayOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, 443)
		away := true
		h.wayOut = func() bool { return !away }
		fails := func(err error) {
			h.unreachable(t.Context(), home, decision{name: policy.Hub}, policy.HubPort, time.Now(), err)
		}
		noRoute := newTCPError([]error{&tryError{at(1), 0, unix.ENETUNREACH}})
		fails(noRoute)
		fails(newDNSError(errors.New("no upstream answers")))
		if h.said(event.EgressNoWay) != 1 || h.said(event.EgressHubUnreachable) != 0 {
			t.Fatalf("said %d and %d times", h.said(event.EgressNoWay), h.said(event.EgressHubUnreachable))
		}
		if o := h.Outages(); len(o) != 1 || o[0].Words != "this box has no way out" {
			t.Errorf("%+v", o)
		}
		away = false
		time.Sleep(time.Minute)
		fails(newTCPError([]error{&tryError{at(1), 3 * time.Second, os.ErrDeadlineExceeded}}))
		if r := h.says(event.EgressHubUnreachable); !strings.Contains(r.Advice(), "TCP 8883") || h.said(event.EgressNoWay) != 1 {
			t.Errorf("said %q: %q", r.Message, r.Advice())
		}
	})
}
