package uplink

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"chargegate/pkg/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	four = netip.MustParseAddr("203.0.113.2")
	six  = netip.MustParseAddr("2001:db8::2")
	well = view{exists: true, on: true, carrier: true, addrs: []netip.Addr{four}, routes: families{four: true}}
)

func but(f func(*view)) view {
	v := well
	f(&v)
	return v
}

var (
	unplugged = but(func(v *view) { v.carrier = false })
	noAddress = but(func(v *view) { v.addrs = nil })
)

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		v       view
		missing string
		do      string
	}{
		{"all there", well, "", ""},
		{"IPv6 alone", but(func(v *view) { v.addrs = []netip.Addr{six}; v.routes = families{six: true} }), "", ""},
		{"the adapter is not there", view{}, "no such interface", "ip link"},
		{"switched off", but(func(v *view) { v.on, v.carrier = false, false }), "switched off", "ip link set eth0 up"},
		{"no cable", unplugged, "no cable", "plugged in"},
		{"no address", noAddress, "no address", "DHCP"},
		{"no route", but(func(v *view) { v.routes = families{} }), "no default route", "gateway"},
		{"a route of the other family only", but(func(v *view) { v.routes = families{six: true} }), "no default route", "gateway"},
		{"the route is elsewhere", but(func(v *view) { v.routes = families{}; v.elsewhere = "eth1" }), "no default route; it leads over eth1", "[uplink]"},
		{"a second way does no harm", but(func(v *view) { v.elsewhere = "eth1" }), "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			missing, do := judge("eth0", tt.v)
			if missing != tt.missing || !strings.Contains(do, tt.do) || (do == "") != (missing == "") {
				t.Errorf("missing %q, do %q; want %q and something with %q", missing, do, tt.missing, tt.do)
			}
		})
	}
	if got := (view{addrs: []netip.Addr{six, four}}).address(); got != four {
		t.Errorf("showed %s, want the IPv4 address", got)
	}
}

// A day of an uplink, in seconds; each line is a look and what it was news of.
func TestOnlyWhatLastsIsSaid(t *testing.T) {
	t.Parallel()
	type look struct {
		at      int
		missing string
		want    string
	}
	for _, tt := range []struct {
		name  string
		looks []look
	}{
		{"up from the start is no news", []look{{0, "", ""}, {6, "", ""}}},
		{"down from the start", []look{{0, "no cable", ""}, {2, "no cable", ""}, {4, "no cable", ""}, {6, "no cable", "lost"}, {8, "no cable", ""}}},
		{"a blink is not said", []look{{0, "", ""}, {6, "", ""}, {8, "no cable", ""}, {12, "no cable", ""}, {13, "", ""}, {19, "", ""}}},
		{"lost and back; the outage is counted from its first sign to its last", []look{
			{0, "", ""}, {10, "no cable", ""}, {15, "no cable", "lost"}, {100, "", ""}, {104, "", ""}, {105, "", "restored 1m30s"}}},
		{"two short blinks are two", []look{{0, "", ""}, {10, "no cable", ""}, {12, "", ""}, {20, "no cable", ""}, {25, "no cable", "lost"}, {40, "", ""}, {45, "", "restored 20s"}}},
		{"another thing is missing", []look{{0, "no cable", ""}, {5, "no cable", "lost"}, {10, "no address", ""}, {15, "no address", "lost"}, {20, "", ""}, {25, "", "restored 20s"}}},
		{"back for a moment only", []look{{0, "no cable", ""}, {5, "no cable", "lost"}, {10, "", ""}, {12, "no cable", ""}, {30, "no cable", ""}, {40, "", ""}, {45, "", "restored 40s"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s story
			for _, l := range tt.looks {
				got := ""
				switch what, after := s.next(l.missing, time.Unix(int64(l.at), 0)); what {
				case lost:
					got = "lost"
				case restored:
					got = "restored " + event.Duration(after)
				}
				if got != l.want {
					t.Errorf("second %d: %q, want %q", l.at, got, l.want)
				}
			}
		})
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := event.New(event.Options{Level: event.Debug, Keep: 100})
		s := New(Config{Interface: "eth0"}, log)
		type sight struct {
			v   view
			err error
		}
		var now atomic.Pointer[sight]
		now.Store(&sight{v: well})
		s.look = func(string) (view, error) { at := now.Load(); return at.v, at.err }
		if s.Name() != "uplink" || s.Listen() != nil || s.State().Known {
			t.Error("it knows something before it has looked")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Serve(ctx) }()
		wait := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		wait(time.Second)
		if st := s.State(); !st.Up() || st.Address != four {
			t.Errorf("at the start: %+v", st)
		}
		now.Store(&sight{v: unplugged})
		wait(4 * time.Second)
		if st := s.State(); st.Up() || st.Missing != "no cable" || st.Do == "" {
			t.Errorf("the state lags behind: %+v", st)
		}
		wait(time.Minute)
		if err := testutil.CollectAndCompare(s, strings.NewReader("# HELP chargegate_uplink_up 1 when the uplink had a link, an address and a default route at the last look. Absent until it was looked at.\n"+
			"# TYPE chargegate_uplink_up gauge\nchargegate_uplink_up 0\n"), "chargegate_uplink_up"); err != nil {
			t.Error(err)
		}
		now.Store(&sight{v: well})
		wait(20 * time.Second)
		now.Store(&sight{err: errors.New("EPERM")})
		wait(time.Minute)
		if st := s.State(); !st.Up() || st.Problem != "EPERM" {
			t.Errorf("when the kernel does not tell: %+v", st)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve returned %v", err)
		}
		var said []string
		for _, r := range log.Recent(0, "") {
			said = append(said, r.Kind.Level.String()+" "+r.Message)
		}
		want := []string{
			"error the uplink eth0 is down: no cable",
			"info the uplink eth0 is up again after 1m4s, with the address 203.0.113.2",
			"warning the uplink eth0 cannot be looked at: EPERM",
		}
		if diff := cmp.Diff(want, said); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
		if advice := log.Recent(0, "")[0].Advice(); !strings.HasPrefix(advice, "Is the cable plugged in at both ends") {
			t.Errorf("advised %q", advice)
		}
		if problems, err := testutil.CollectAndLint(s); err != nil || len(problems) > 0 {
			t.Errorf("lint: %v %v", problems, err)
		}
	})
}

// FuzzRoute: whatever the bytes are, reading them ends.
func FuzzRoute(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 8, 0, 4, 0, 3, 0, 0, 0})
	f.Add([]byte{2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 20, 0, 9, 0, 8, 0, 0, 0, 3, 0, 0, 0, 8, 0, 0, 0, 4, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, indices, _ := defaultRoute(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: syscall.RTM_NEWROUTE}, Data: b})
		if len(indices) > len(b) {
			t.Errorf("%d interfaces in %d bytes", len(indices), len(b))
		}
	})
}
