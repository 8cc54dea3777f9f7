package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/policy"
)

func list(t *testing.T, more ...policy.Rule) *policy.List {
	t.Helper()
	l, err := policy.New(append(policy.Zaptec(), more...))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDecidesByNameAndPort(t *testing.T) {
	l := list(t,
		policy.Rule{Name: "*.ocpp.example.com", Ports: []uint16{443, 9000}, Reason: "operator's OCPP"},
		policy.Rule{Name: "api.zaptec.com", Ports: []uint16{8443}, Reason: "a second rule for the same name"})
	for _, tt := range []struct {
		what string
		name string
		port uint16
		want policy.Verdict
	}{
		{"the hub on its port", "zapcloud.azure-devices.net", 8883, policy.Allowed},
		{"capitals and a trailing dot change nothing", "ZapCloud.Azure-Devices.NET.", 8883, policy.Allowed},
		{"the hub on the port of the others", "zapcloud.azure-devices.net", 443, policy.WrongPort},
		{"the API", "api.zaptec.com", 443, policy.Allowed},
		{"a second rule adds a port", "api.zaptec.com", 8443, policy.Allowed},
		{"the API on the hub's port", "api.zaptec.com", 8883, policy.WrongPort},
		{"another tenant of the same cloud", "evil.azure-devices.net", 8883, policy.UnknownName},
		{"a name that ends alike", "evilapi.zaptec.com", 443, policy.UnknownName},
		{"a name below an exact one", "x.api.zaptec.com", 443, policy.UnknownName},
		{"the name above an exact one", "zaptec.com", 443, policy.UnknownName},
		{"below a pattern", "a.ocpp.example.com", 9000, policy.Allowed},
		{"far below a pattern", "a.b.c.ocpp.example.com", 443, policy.Allowed},
		{"the pattern's own name is not below it", "ocpp.example.com", 443, policy.UnknownName},
		{"below a pattern on another port", "a.ocpp.example.com", 80, policy.WrongPort},
		{"an address", "192.0.2.7", 443, policy.UnknownName},
		{"nothing", "", 443, policy.UnknownName},
		{"the root", ".", 443, policy.UnknownName},
		{"port 0", "api.zaptec.com", 0, policy.WrongPort},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if got, _ := l.Decide(tt.name, tt.port); got != tt.want {
				t.Errorf("%s on %d: %v, want %v", tt.name, tt.port, got, tt.want)
			}
		})
	}
}

func TestKnowsWhatLiesAboveItsNames(t *testing.T) {
	l := list(t, policy.Rule{Name: "*.OCPP.example.", Ports: []uint16{443}, Reason: "operator's OCPP"})
	for name, want := range map[string]bool{
		"net": true, "NET.": true, "azure-devices.net": true, "com": true, "zaptec.com.": true, "example": true, "ocpp.example": true,
		"zapcloud.azure-devices.net": false, "x.ocpp.example": false, "devices.net": false, "zaptec": false, "": false, ".": false, "org": false,
	} {
		if got := l.Above(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	if err := l.Replace(nil); err != nil || l.Above("net") {
		t.Errorf("a list that was emptied: %v", err)
	}
	for what, l := range map[string]*policy.List{"no list": nil, "the zero list": {}} {
		if l.Above("net") {
			t.Errorf("%s has something below net", what)
		}
	}
}

func TestEmptyListAllowsNothing(t *testing.T) {
	var none *policy.List
	empty, err := policy.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, l := range map[string]*policy.List{"no list": none, "the zero list": {}, "a list without rules": empty} {
		if v, _ := l.Decide("api.zaptec.com", 443); v != policy.UnknownName || l.Holds("api.zaptec.com") || len(l.Ports()) != 0 {
			t.Errorf("%s allows something", what)
		}
	}
}

func TestFaultyRulesLeaveTheOldOnesInForce(t *testing.T) {
	l := list(t)
	err := l.Replace([]policy.Rule{
		{Name: "good.example.com", Ports: []uint16{443}, Reason: "good"},
		{Name: "example", Ports: []uint16{443}, Reason: "one label"},
		{Name: "192.0.2.7", Ports: []uint16{443}, Reason: "an address"},
		{Name: "noports.example.com", Reason: "no ports"},
		{Name: "noreason.example.com", Ports: []uint16{443}},
		{Name: "zero.example.com", Ports: []uint16{0}, Reason: "port 0"},
		{Name: "*", Ports: []uint16{443}, Reason: "everything"},
		{Name: "*.com", Ports: []uint16{443}, Reason: "nearly everything"},
		{Name: "a..example.com", Ports: []uint16{443}, Reason: "an empty label"},
		{Name: "ladda.åäö.se", Ports: []uint16{443}, Reason: "not in its xn-- form"},
		{Name: "a*.example.com", Ports: []uint16{443}, Reason: "a star inside"},
		{Name: "https://ocpp.example.com/", Ports: []uint16{443}, Reason: "a page"},
		{Name: "wss://ocpp.example.com:443/ocpp/P1", Ports: []uint16{443}, Reason: "an endpoint"},
	})
	if err == nil {
		t.Fatal("the faults were not noticed")
	}
	want := `"example" is not a name that can be allowed; write it in full, like ocpp.example.com, or *.example.com for everything below it
"192.0.2.7" is an address, not a name; chargers are let out by name only
noports.example.com has no ports; write ports = [443], for example
noreason.example.com has no reason; write why it may be reached, for whoever reads the list in ten years
zero.example.com: port 0 does not exist; allowed are 1 to 65535
"*" is not a name that can be allowed; write it in full, like ocpp.example.com, or *.example.com for everything below it
"*.com" is not a name that can be allowed; write it in full, like ocpp.example.com, or *.example.com for everything below it
"a..example.com" is not a host name: "" cannot stand between dots
"ladda.åäö.se" is not a host name: 'å' cannot be part of one; write international names in their xn-- form
"a*.example.com" is not a host name: '*' cannot be part of one; write international names in their xn-- form
"https://ocpp.example.com/" is more than a name; write the name alone: ocpp.example.com
"wss://ocpp.example.com:443/ocpp/P1" is more than a name; write the name alone: ocpp.example.com`
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if l.Holds("good.example.com") || !l.Holds("api.zaptec.com") {
		t.Error("a list with faults was taken over")
	}
}

func TestPortsAreWhatTheFirewallRedirects(t *testing.T) {
	l := list(t, policy.Rule{Name: "ocpp.example.com", Ports: []uint16{9000, 443}, Plain: true, Reason: "OCPP"})
	if diff := cmp.Diff([]uint16{443, 8883, 9000}, l.Ports()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestTimeNames(t *testing.T) {
	for name, want := range map[string]bool{
		"pool.ntp.org": true, "no.pool.ntp.org.": true, "0.EUROPE.Pool.NTP.org": true,
		"ntp.org": false, "xpool.ntp.org": false, "pool.ntp.org.example.com": false, "": false,
	} {
		if got := policy.IsTime(name); got != want {
			t.Errorf("%q is a time name: %v, want %v", name, got, want)
		}
	}
}

func FuzzDecide(f *testing.F) {
	l, err := policy.New(append(policy.Zaptec(), policy.Rule{Name: "*.example.com", Ports: []uint16{443}, Reason: "x"}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("api.zaptec.com.", uint16(443))
	f.Add("...", uint16(8883))
	f.Fuzz(func(t *testing.T, name string, port uint16) {
		v, r := l.Decide(name, port)
		if v == policy.Allowed && policy.Normal(name) != r.Name && !strings.HasSuffix(policy.Normal(name), ".example.com") {
			t.Errorf("%q on %d is allowed by %+v", name, port, r)
		}
		if (v == policy.UnknownName) == l.Holds(name) {
			t.Errorf("%q: Decide and Holds disagree", name)
		}
	})
}

func TestHoldsWhatSomeRuleMatches(t *testing.T) {
	l, err := policy.New(append(policy.Zaptec(), policy.Rule{Name: "*.example.com", Ports: []uint16{443}, Reason: "test"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"api.zaptec.com", "API.zaptec.com.", "zaptec.com", "x.api.zaptec.com", "example.com", "a.example.com",
		"a.b.Example.com.", "aexample.com", "com", "", "."} {
		v, _ := l.Decide(name, 443)
		if got, want := l.Holds(name), v != policy.UnknownName; got != want {
			t.Errorf("%q: held %v, decided %v", name, got, v)
		}
	}
	if n := testing.AllocsPerRun(10, func() { l.Holds("a.b.example.com.") }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// Only ASCII letters have two cases: no other one becomes part of an allowed name.
func TestNormalIsASCII(t *testing.T) {
	for name, want := range map[string]string{
		"API.Zaptec.COM.": "api.zaptec.com", "api.zaptec.com": "api.zaptec.com", "api.zapte\u212a.com": "api.zapte\u212a.com",
		"\xff\xfeA": "\xff\xfea", ".": "", "": "",
	} {
		if got := policy.Normal(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
	l := list(t, policy.Rule{Name: "kiosk.example.com", Ports: []uint16{443}, Reason: "test"})
	if l.Holds("\u212aios\u212a.example.com") || !l.Holds("KIOSK.example.com") {
		t.Error("a Kelvin sign is taken for a k")
	}
}

// The part for callers without TLS comes with the rules and goes with them.
func TestPlain(t *testing.T) {
	l := list(t, policy.Rule{Name: "*.ocpp.example.com", Ports: []uint16{80, 443}, Plain: true, Reason: "test"})
	plain := l.Plain()
	for _, tt := range []struct {
		name string
		port uint16
		want policy.Verdict
	}{
		{"a.ocpp.example.com", 80, policy.Allowed},
		{"a.ocpp.example.com", 8080, policy.WrongPort},
		{policy.API, 443, policy.UnknownName},
	} {
		if got, _ := plain.Decide(tt.name, tt.port); got != tt.want {
			t.Errorf("%s on %d: %v, want %v", tt.name, tt.port, got, tt.want)
		}
	}
	if !plain.HasPort(443) || plain.HasPort(policy.HubPort) || !l.HasPort(policy.HubPort) {
		t.Error("the ports are not those of the rules")
	}
	if n := testing.AllocsPerRun(100, func() { l.Plain().HasPort(443) }); n != 0 {
		t.Errorf("asking allocates %v times", n)
	}
	if err := l.Replace(policy.Zaptec()); err != nil || l.Plain().HasPort(443) || len(l.Plain().Rules()) != 0 {
		t.Errorf("without plain rules something plain is allowed, %v", err)
	}
	var none *policy.List
	if none.Plain() != nil || (&policy.List{}).Plain().HasPort(443) {
		t.Error("an empty list has a plain part")
	}
}
