package sim

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBackoff(t *testing.T) {
	h := Firmware()
	for _, c := range []struct {
		n      int
		chance float64
		want   time.Duration
	}{
		{1, 0, 11 * time.Second},
		{3, 0, 19 * time.Second},
		{13, 0, 179 * time.Second},
		{14, 0, 190 * time.Second},
		{100, 0, 190 * time.Second},
		{100, 1, 250 * time.Second},
	} {
		if got := h.backoff(c.n, c.chance); got != c.want {
			t.Errorf("before conversation %d, with chance %v, it waits %s, want %s", c.n, c.chance, got, c.want)
		}
	}
}

func TestHerd(t *testing.T) {
	var views []View
	for i := 1; i <= 100; i++ {
		v := View{Stage: OK, Served: 1, Resent: 1, Took: Timing{Leased: time.Duration(i) * time.Millisecond, Online: time.Duration(2*i) * time.Millisecond}}
		if i > 90 {
			v.Stage, v.Took.Online = DHCP, 0
		}
		views = append(views, v)
	}
	h := Sum(views)
	got := []string{
		fmt.Sprint(h.Online, h.Resent, len(h.Stages["online"])),
		fmt.Sprint(h.Percentile("leased", 0.5), h.Percentile("leased", 0.95), h.Percentile("leased", 1)),
		fmt.Sprint(h.Percentile("online", 1), h.Percentile("served", 1)),
	}
	want := []string{"90 100 90", "50ms 95ms 100ms", "180ms 0s"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the herd (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(h.String(), "90 of 100 chargers online\n") {
		t.Errorf("the table begins with %q", strings.SplitN(h.String(), "\n", 2)[0])
	}
}

func TestInWords(t *testing.T) {
	for _, c := range []struct {
		err    error
		want   string
		waited bool
	}{
		{fmt.Errorf("dialling: %w", syscall.ECONNREFUSED), "a reset: refused", false},
		{syscall.ECONNRESET, "a reset", false},
		{syscall.EHOSTUNREACH, "an ICMP error: prohibited", false},
		{os.ErrDeadlineExceeded, "nothing", true},
	} {
		if got, waited := inWords(c.err); got != c.want || waited != c.waited {
			t.Errorf("%v means %q, waited %v; want %q, %v", c.err, got, waited, c.want, c.waited)
		}
	}
}

func TestConfigurationNamesEverybody(t *testing.T) {
	o := Options{Networks: []Network{{Name: "P1", Chargers: 1, Listed: 1}, {Name: "P2", Chargers: 1}}, Guests: []Guest{{"P2-guest", "P2"}}, Lease: "1h"}
	want := `mac,name,serial,model,network
60:15:92:40:00:00,P1-01,ZAP010001,Go,P1
60:15:92:40:00:01,P1-02,ZAP010002,Go,P1
60:15:92:41:00:00,P2-01,ZAP020001,Go,P2
3c:dc:03:10:00:00,P2-guest,,,P2
`
	if diff := cmp.Diff(want, inventory(o)); diff != "" {
		t.Errorf("the inventory (-want +got):\n%s", diff)
	}
	text := configuration(o)
	for _, want := range []string{"chargers = 2\n", "interface = \"garage-p2\"\n", "lease = \"1h\"\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the configuration lacks %q:\n%s", want, text)
		}
	}
}
