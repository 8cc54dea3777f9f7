package status

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

func TestIsZaptec(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"60:15:92:41:00:07": true, "60:15:92:4f:ff:ff": true, "60:15:92:51:00:07": false, "3c:dc:03:1a:00:01": true,
		"3c:dc:03:2a:00:01": false, "02:00:00:00:00:01": false,
	} {
		mac, err := charger.ParseMAC(text)
		if err != nil {
			t.Fatal(err)
		}
		if isZaptec(mac) != want {
			t.Errorf("%s: want %v", text, want)
		}
	}
}

func TestStrangersAdvice(t *testing.T) {
	t.Parallel()
	full := []PoolUse{{Network: "P1", Size: 32, StrangerSize: 8, StrangerUsed: 8}}
	room := []PoolUse{{Network: "P1", Size: 32, StrangerSize: 8, StrangerUsed: 7}}
	is := func(mac charger.MAC, likely, address bool, advice string) Charger {
		c := Charger{Status: charger.Status{Charger: charger.Charger{MAC: mac, Network: "P1"}, Advice: advice}, ProbablyCharger: likely}
		if address {
			c.Address = addr7
		}
		return c
	}
	for _, tt := range []struct {
		name  string
		c     Charger
		pools []PoolUse
		want  string
	}{
		{"a phone that is well", is(stranger, false, true, ""), full, ""},
		{"a phone without address", is(stranger, false, false, "Has no address."), full,
			"Has no address: all 8 for unknown devices are taken. If it is a charger, enter it in chargers.csv: 02:00:00:00:00:01,NAME"},
		{"a phone without address, though there is one", is(stranger, false, false, "Has no address."), room, "Has no address."},
		{"a charger that is well", is(mac7, true, true, ""), full, "Probably a charger: enter it in chargers.csv: 60:15:92:41:00:07,NAME"},
		{"a charger without address", is(mac7, true, false, "Has no address."), full,
			"Has no address: all 8 for unknown devices are taken. Probably a charger: enter it in chargers.csv: 60:15:92:41:00:07,NAME"},
		{"a charger that is stuck", is(mac7, true, true, "Asks for no name."), nil,
			"Asks for no name. Probably a charger: enter it in chargers.csv: 60:15:92:41:00:07,NAME"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, strangersAdvice(tt.c, tt.pools)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAFullPoolOfStrangersNeedsAttention(t *testing.T) {
	t.Parallel()
	h := newHouse(charger.Inventory{mac8: {MAC: mac8, Name: "P1-08"}})
	h.online(mac8, addr7, time.Now())
	h.book.Asked(mac7, "P1", "Zaptec Go", time.Now())
	h.src.Pools = func(time.Time) []PoolUse {
		return []PoolUse{{Network: "P1", Size: 32, StrangerSize: 8, StrangerUsed: 8}}
	}
	var got Status
	if code := h.open(t).get("/v1/status", &got); code != http.StatusOK {
		t.Fatalf("answered %d", code)
	}
	if diff := cmp.Diff([]string{"P1: 8 of 8 addresses for unknown devices are taken: enter the chargers in chargers.csv."}, got.Attention); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	i := slices.IndexFunc(got.Chargers, func(c Charger) bool { return c.MAC == mac7 })
	if i < 0 || !got.Chargers[i].ProbablyCharger || got.Chargers[i].Advice == "" {
		t.Errorf("the stranger with Zaptec's MAC is shown as %+v", got.Chargers)
	}
}

func TestAChargersStoryIsWithoutNoise(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	h.log.Say(event.ChargerOnline, event.MAC(mac7))
	h.log.Say(event.DeniedNoise, event.MAC(mac7), event.F("WHAT", "a broadcast"))
	var got ChargerDetail
	h.open(t).get("/v1/charger/P1-07", &got)
	if len(got.Events) != 1 || got.Events[0].Event != event.ChargerOnline.ID {
		t.Errorf("its events are %+v", got.Events)
	}
}

func TestEventsSayWhereTheyBegin(t *testing.T) {
	t.Parallel()
	h := newHouse(twoChargers())
	h.log = event.New(event.Options{Keep: 2})
	a := h.open(t)
	begin := func() time.Time {
		var e Events
		a.get("/v1/events", &e)
		return e.Since
	}
	if got := begin(); !got.Equal(h.src.Started) {
		t.Errorf("with nothing said they begin at %s, want the start", got)
	}
	for range 3 {
		h.log.Say(event.ChargerOnline, event.MAC(mac7))
	}
	if got := begin(); !got.Equal(h.log.Recent(0, "")[0].Time) {
		t.Errorf("they begin at %s, want the oldest that is kept", got)
	}
}
