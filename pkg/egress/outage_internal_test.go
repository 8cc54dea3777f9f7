package egress

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// What is said of a name, call by call. Each step is after so long, and what came
// of the call: "ok", or a cause and a way.
func TestOutages(t *testing.T) {
	t.Parallel()
	type step struct {
		after time.Duration
		came  string
		want  string // "out", "back", or nothing
	}
	tests := map[string][]step{
		"a name that never answered": {
			{0, "silent", "out"}, {10 * time.Second, "silent", ""}, {10 * time.Second, "silent", ""}, {10 * time.Second, "ok", "back"}, {time.Second, "ok", ""}},
		"one call of many is lost": {
			{0, "ok", ""}, {time.Second, "silent", ""}, {time.Second, "ok", ""}, {time.Second, "silent", ""}, {time.Second, "silent", ""}, {time.Second, "ok", ""}},
		"three in a row are not chance": {
			{0, "ok", ""}, {time.Second, "silent", ""}, {time.Second, "silent", ""}, {time.Second, "silent", "out"}, {time.Second, "silent", ""}, {time.Second, "ok", "back"}},
		"it answered an hour ago": {
			{0, "ok", ""}, {time.Hour, "silent", "out"}, {time.Second, "ok", "back"}},
		"it answered half a minute ago and says no now": {
			{0, "ok", ""}, {30 * time.Second, "refused", "out"}, {time.Second, "ok", "back"}},
		"it answered a second ago and says no now": {
			{0, "ok", ""}, {time.Second, "refused", ""}, {time.Second, "refused", ""}, {time.Second, "refused", "out"}},
		"false answers are no chance": {
			{0, "ok", ""}, {time.Second, "address", "out"}, {time.Second, "ok", "back"}},
		"names are not found": {
			{0, "dns", "out"}, {time.Second, "refused", ""}, {time.Second, "ok", "back"}},
		"the uplink is pulled, and plugged in again": {
			{0, "ok", ""}, {time.Hour, wayOut, "out"}, {time.Minute, wayOut, ""}, {time.Second, "dns", ""}, {time.Second, "ok", "back"}},
		"the uplink is back, and the name still does not answer": {
			{0, wayOut, "out"}, {time.Minute, wayOut, ""}, {9 * time.Second, "silent", ""}, {time.Second, "silent", "out"}, {time.Second, "silent", ""}, {time.Second, wayOut, ""}, {time.Minute, "silent", ""}, {time.Second, "ok", "back"}},
		"it was out before the uplink was pulled": {
			{0, "refused", "out"}, {time.Minute, wayOut, ""}, {time.Minute, "refused", ""}, {time.Second, "ok", "back"}},
		"it comes and goes": {
			{0, "silent", "out"}, {time.Second, "ok", "back"},
			{2 * time.Minute, "silent", "out"}, {time.Second, "ok", ""}, {2 * time.Minute, "silent", ""}, {time.Second, "ok", ""},
			{9 * time.Minute, "ok", ""}, {2 * time.Minute, "ok", "back"}, {time.Hour, "silent", "out"}, {time.Second, "ok", "back"}},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, now := newOutages(), time.Now()
			m := matter{target{apiName, 443}, matterWay}
			for i, s := range steps {
				now = now.Add(s.after)
				got := ""
				if s.came == "ok" {
					if _, _, over := o.worked(m, now); over {
						got = "back"
					}
				} else if o.failed(m, false, fault{cause: map[string]string{"dns": causeDNS, "address": causeAddress}[s.came], way: s.came}, now, now) {
					got = "out"
				}
				if got != s.want {
					t.Errorf("step %d, %s: %q, want %q", i+1, s.came, got, s.want)
				}
			}
		})
	}
}

// A link that loses one packet in twenty, and one of two machines that is dead,
// are no outage, however long it goes on.
func TestOutagesDoNotFlap(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		name     string
		way      string
		fails    float64 // of the calls
		pause    time.Duration
		mostSaid int
	}{
		{"5 % loss, four packets each", waySilent, 0.0001, 10 * time.Second, 0},
		{"one call in a hundred, a busy garage", waySilent, 0.01, time.Second, 0},
		{"one in twenty, a busy garage", wayRefused, 0.05, 100 * time.Millisecond, 20},
		{"half of them", waySilent, 0.5, time.Second, 2},
		{"nine of ten", wayRefused, 0.9, time.Second, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, now, said := newOutages(), time.Now(), 0
			m := matter{target{apiName, 443}, matterWay}
			o.worked(m, now)
			for range 20_000 {
				now = now.Add(tt.pause)
				if r.Float64() < tt.fails {
					if o.failed(m, false, fault{cause: causeTCP, way: tt.way}, now, now) {
						said++
					}
				} else {
					o.worked(m, now)
				}
			}
			if said > tt.mostSaid {
				t.Errorf("said %d times in 20,000 calls, want at most %d", said, tt.mostSaid)
			}
		})
	}
}

// Calls at the same time: one that began before another succeeded says nothing
// about the name.
func TestOutagesOfCallsAtOnce(t *testing.T) {
	t.Parallel()
	o, start := newOutages(), time.Now()
	m := matter{target{apiName, 443}, matterWay}
	o.worked(m, start.Add(time.Second))
	for range 100 {
		if o.failed(m, false, fault{cause: causeTCP, way: waySilent}, start, start.Add(3*time.Second)) {
			t.Fatal("an outage of calls that began before one that succeeded")
		}
	}
	said := 0
	for range 250 {
		if o.failed(m, false, fault{cause: causeTCP, way: waySilent}, start.Add(2*time.Second), start.Add(5*time.Second)) {
			said++
		}
	}
	if lasted, failed, over := o.worked(m, start.Add(65*time.Second)); said != 1 || failed != 250 || !over || lasted != time.Minute {
		t.Errorf("said %d times, %d failed, over %t after %s", said, failed, over, lasted)
	}
}

func TestOutagesAreApart(t *testing.T) {
	t.Parallel()
	o, now := newOutages(), time.Now()
	all := []matter{
		{target{apiName, 443}, matterWay}, {target{apiName, 8883}, matterWay}, {target{ocppName, 443}, matterWay},
		{target{apiName, 443}, matterTLS}, {target{apiName, 443}, matterTrust},
	}
	for i, m := range all {
		if !o.failed(m, false, fault{cause: causeTCP, way: wayRefused}, now, now) || o.count() != i+1 {
			t.Errorf("%v is no news, %d open", m, o.count())
		}
	}
	for i, m := range all {
		if _, _, over := o.worked(m, now.Add(time.Second)); !over || o.count() != len(all)-i-1 {
			t.Errorf("%v is not over, %d open", m, o.count())
		}
	}
}

// What a charger makes up does not fill the memory, and takes no room from names
// that rules hold.
func TestOutagesAreBounded(t *testing.T) {
	t.Parallel()
	o, now := newOutages(), time.Now()
	said := 0
	for i := range 100_000 {
		m := matter{target{fmt.Sprintf("n%d.example.com", i), 443}, matterWay}
		if o.failed(m, true, fault{cause: causeDNS}, now, now) {
			said++
		}
	}
	if said != maxBelow || o.count() != maxBelow {
		t.Errorf("%d made-up names were said", said)
	}
	for i := range 100 {
		if !o.failed(matter{target{fmt.Sprintf("rule%d.example.net", i), 443}, matterWay}, false, fault{cause: causeTCP, way: wayRefused}, now, now) {
			t.Fatal("a name of a rule was not said")
		}
	}
	for i := range 100_000 {
		o.worked(matter{target{fmt.Sprintf("w%d.example.com", i), 443}, matterWay}, now)
	}
	if len(o.of) > maxStandings {
		t.Errorf("%d names are remembered", len(o.of))
	}
	// An hour later there is room for new ones.
	if !o.failed(matter{target{"new.example.com", 443}, matterWay}, true, fault{cause: causeDNS}, now.Add(unasked), now.Add(unasked)) {
		t.Error("a new one was not said")
	}
}

func TestOutagesSettle(t *testing.T) {
	t.Parallel()
	list, err := policy.New([]policy.Rule{{Name: apiName, Ports: []uint16{443}, Reason: "test"}, {Name: "*.example.com", Ports: []uint16{443}, Reason: "test"}})
	if err != nil {
		t.Fatal(err)
	}
	o, now := newOutages(), time.Now()
	api, below := matter{target{apiName, 443}, matterWay}, matter{target{"a.example.com", 443}, matterWay}
	removed := matter{target{"gone.example.net", 443}, matterWay}
	fail := func(m matter) bool {
		return o.failed(m, m == below, fault{cause: causeTCP, way: wayRefused}, now, now)
	}
	fail(removed)
	fail(below)
	fail(api)
	if over := o.settle(list, now); len(over) != 0 || o.count() != 2 {
		t.Errorf("over %v, %d open: want the one that no rule holds forgotten", over, o.count())
	}
	now = now.Add(time.Second)
	o.worked(api, now)
	now = now.Add(time.Minute)
	fail(api) // it comes back, and is the same
	now = now.Add(time.Second)
	o.worked(api, now)
	for range 20 {
		now = now.Add(29 * time.Second)
		if over := o.settle(list, now); len(over) != 0 {
			t.Fatalf("over %v after %s", over, now.Sub(o.of[api].last))
		}
	}
	now = now.Add(time.Minute)
	want := []ending{{api, 11*time.Minute - 20*time.Second + time.Second, 1}}
	if diff := cmp.Diff(want, o.settle(list, now), cmp.AllowUnexported(ending{}, matter{}, target{}), cmpopts.EquateComparable(matter{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	now = now.Add(time.Hour)
	if o.settle(list, now); o.count() != 0 {
		t.Errorf("%d are open: nobody asks for a name below a pattern any more", o.count())
	}
}

// The board and the doctor can ask what is out of order.
func TestOutagesAreListed(t *testing.T) {
	h := newHouse(t, 443).open()
	err := errors.New("no upstream answers")
	h.names.err.Store(&err)
	for range 2 {
		conn := h.call()
		if _, err := conn.Write(helloTo(t, apiName)); err != nil {
			t.Fatal(err)
		}
		wantReset(t, conn)
	}
	h.says(event.EgressUnreachable)
	got := h.Outages()
	want := []Outage{{Name: apiName, Port: 443, Cause: causeDNS, Words: "its address cannot be found", Detail: "no upstream answers",
		Do: "Run: sudo chargegate doctor. It asks every DNS server and says which of them fails.", Failed: 2}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Outage{}, "Since", "Last")); diff != "" || got[0].Since.IsZero() || got[0].Last.Before(got[0].Since) {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A house whose uplink is gone says so in words.
func TestUnreachableInWords(t *testing.T) {
	for name, tt := range map[string]struct {
		err   error
		cause string
		page  string
	}{
		"a router":       {newTCPError([]error{&tryError{at(1), 0, unix.ENETUNREACH}}), causeTCP, "there is no way to its server"},
		"a false answer": {newAddressError([]error{errors.New("127.0.0.1 is a loopback address")}, nil), causeAddress, "127.0.0.1 is a loopback address"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, 443)
			d := decision{result: resultCarried, name: policy.Hub}
			h.unreachable(t.Context(), home, d, policy.HubPort, time.Now(), tt.err)
			r := h.says(event.EgressHubUnreachable)
			if r.Field("CAUSE") != tt.cause || r.Field("ERROR") != tt.err.Error() {
				t.Errorf("said %q", r.Message)
			}
			if got, want := h.book.All(time.Now())[0].Unreachable, policy.Hub+" on port 8883 ("+tt.page+")"; got != want {
				t.Errorf("the book says %q, want %q", got, want)
			}
		})
	}
	// What the box itself lacks is no outage of the name.
	h := newHouse(t, 443)
	h.unreachable(t.Context(), home, decision{name: apiName}, 443, time.Now(), newTCPError([]error{unix.EMFILE}))
	if h.says(event.EgressDialFailed); h.outages.count() != 0 {
		t.Error("the name is out")
	}
}
