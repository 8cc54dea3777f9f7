package radio

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/genetlink/genltest"
	"github.com/mdlayher/netlink"
	"github.com/mdlayher/wifi"
	"golang.org/x/sys/unix"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/signal"
)

// flags of a station, as nl80211.h numbers them.
const (
	bitAuthorized    = 1 << unix.NL80211_STA_FLAG_AUTHORIZED
	bitWME           = 1 << unix.NL80211_STA_FLAG_WME
	bitAuthenticated = 1 << unix.NL80211_STA_FLAG_AUTHENTICATED
	bitAssociated    = 1 << unix.NL80211_STA_FLAG_ASSOCIATED
	// bitsOfBrcmfmac are those that the Pi's own radio knows (brcmf_convert_sta_flags).
	bitsOfBrcmfmac = bitWME | bitAuthenticated | bitAssociated | bitAuthorized
)

// stationEntry is what the kernel lists of one station; nil flags: the driver tells none.
func stationEntry(t *testing.T, mac charger.MAC, flags []byte) []byte {
	t.Helper()
	e := netlink.NewAttributeEncoder()
	e.Uint32(unix.NL80211_ATTR_IFINDEX, 3)
	e.Bytes(unix.NL80211_ATTR_MAC, mac[:])
	e.Nested(unix.NL80211_ATTR_STA_INFO, func(info *netlink.AttributeEncoder) error {
		info.Bytes(unix.NL80211_STA_INFO_SIGNAL, []byte{256 - 60})
		if flags != nil {
			info.Bytes(unix.NL80211_STA_INFO_STA_FLAGS, flags)
		}
		return nil
	})
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// update is a struct nl80211_sta_flag_update.
func update(mask, set uint32) []byte {
	return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, mask), set)
}

func TestStanding(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		flags []byte
		want  standing
	}{
		{"the driver tells nothing", nil, untold},
		{"it does not know this flag", update(bitWME|bitAssociated, bitWME|bitAssociated), untold},
		{"cut off", update(bitsOfBrcmfmac, bitsOfBrcmfmac)[:7], untold},
		{"one frame of authentication", update(bitsOfBrcmfmac, bitAuthenticated), outside},
		{"entered by hostapd, and nothing yet", update(bitsOfBrcmfmac, 0), outside},
		{"in the handshake", update(bitsOfBrcmfmac, bitAuthenticated|bitAssociated), outside},
		{"let through", update(bitsOfBrcmfmac, bitsOfBrcmfmac), inside},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := standingOf(stationEntry(t, mac7, tt.flags)); got != tt.want {
				t.Errorf("standing %d, want %d", got, tt.want)
			}
		})
	}
	if got := standingOf([]byte{1, 0, 21}); got != untold {
		t.Errorf("of damaged bytes: standing %d, want untold", got)
	}
}

// The list of stations is asked for once, and each entry keeps who it is of.
func TestDump(t *testing.T) {
	t.Parallel()
	asked := 0
	c := genltest.Dial(func(m genetlink.Message, req netlink.Message) ([]genetlink.Message, error) {
		asked++
		if m.Header.Command != unix.NL80211_CMD_GET_STATION || req.Header.Flags&netlink.Dump == 0 || !slices.Equal(m.Data, []byte{8, 0, 3, 0, 3, 0, 0, 0}) {
			t.Errorf("asked %+v %v", m.Header, m.Data)
		}
		return []genetlink.Message{
			{Data: stationEntry(t, mac7, update(bitsOfBrcmfmac, bitsOfBrcmfmac))},
			{Data: stationEntry(t, made(1), update(bitsOfBrcmfmac, 0))},
			{Data: stationEntry(t, mac8, nil)},
		}, nil
	})
	defer c.Close()
	all, err := dump(c, genetlink.Family{ID: 28, Version: 1}, ap("wlan0"))
	if err != nil || asked != 1 {
		t.Fatalf("asked %d times: %v", asked, err)
	}
	g := newGarage(t, 12)
	want := []Station{{MAC: mac7, Signal: -60}, {MAC: mac8, Signal: -60}}
	if diff := cmp.Diff(want, read(g.admitted(g.now, all))); diff != "" {
		t.Errorf("let through (-want +got):\n%s", diff)
	}
	if n := g.outside.Load(); n != 1 {
		t.Errorf("%d are before the door, want 1", n)
	}
}

// Whoever sends one frame of authentication is listed by the kernel. That is no guest:
// nothing is said, shown, counted or remembered of it, whatever MAC it uses.
func TestOneFrameIsNoGuest(t *testing.T) {
	play(t, func(sc *scene) {
		told := &diary{}
		sc.KeepHistory(told)
		sc.wait(time.Minute)
		sc.wantSaid(watchedNow)
		for i := range int(time.Hour / pace) {
			sc.set(func() {
				sc.here, sc.air.standing = nil, map[charger.MAC]standing{}
				for j := range 16 {
					who := made(16*i + j)
					if j == 0 {
						who = mac7
					}
					sc.here, sc.air.standing[who] = append(sc.here, info(who, -40)), outside
				}
			})
			sc.wait(pace)
		}
		sc.wantSaid()
		if at := sc.Samples()[0]; len(at.Stations) != 0 || at.State != Watched {
			t.Errorf("%s with %d stations", at.State, len(at.Stations))
		}
		all := sc.book.All(time.Now())
		if len(all) != 1 || len(*told) != 0 {
			t.Errorf("the book knows %d, and the history has %d entries", len(all), len(*told))
		}
		if all[0].Stage != charger.Wifi || all[0].Presence.Present {
			t.Errorf("%s is at %s, present: %v", all[0].Name, all[0].Stage, all[0].Presence.Present)
		}
		if n := sc.watches[0].outside.Load(); n != 16 {
			t.Errorf("%d are before the door, want 16", n)
		}

		// It has the passphrase after all: hostapd says so, and it is seen at once.
		sc.set(func() { sc.air.standing[mac7] = inside })
		sc.speaks("<3>AP-STA-CONNECTED 60:15:92:41:00:07")
		sc.wait(seldom)
		sc.wantSaid("charger-joined: P1-07 has joined the Wi-Fi of P1 (signal in dBm: -40)")
	})
}

// Without hostapd's word the next round finds who has been let through.
func TestLetThroughWithoutAWord(t *testing.T) {
	play(t, func(sc *scene) {
		sc.set(func() {
			sc.here, sc.air.standing = []*wifi.StationInfo{info(mac7, -60)}, map[charger.MAC]standing{mac7: outside}
		})
		sc.wait(time.Minute)
		sc.wantSaid(watchedNow)
		sc.set(func() { sc.air.standing[mac7] = inside })
		sc.wait(pace)
		sc.wantSaid("charger-joined: P1-07 has joined the Wi-Fi of P1 (signal in dBm: -60)")
		// And who is not any more has left, though it is listed.
		sc.set(func() { sc.air.standing[mac7] = outside })
		sc.wait((absences + 1) * pace)
		sc.wantSaid("charger-left: P1-07 has left the Wi-Fi of P1 after 30s: without a word")
	})
}

// Those before the door take places: a charger that finds none is said to be refused,
// with a number that is right.
func TestDoorIsCrowded(t *testing.T) {
	play(t, func(sc *scene) {
		sc.set(func() {
			sc.air.standing = map[charger.MAC]standing{}
			for i := range 19 {
				sc.here, sc.air.standing[made(i+1)] = append(sc.here, info(made(i+1), -40)), outside
			}
		})
		sc.wait(time.Minute)
		sc.wantSaid(watchedNow)
		sc.tells(refused, mac7, noRoom)
		sc.wantSaid("radio-refuses: the radio wlan0 of P1 has no room for P1-07 (60:15:92:41:00:07) and refuses it: it holds 19 of at most 19 stations")
		sc.set(func() { sc.here = nil })
		sc.wait(pace)
		if n := sc.watches[0].held(); n != 0 {
			t.Errorf("%d places are taken when all are gone", n)
		}
	})
}

// Who has the passphrase may come with a new MAC every time. Chargers are told of all
// the same.
func TestStrangersThatJoinAreFewLines(t *testing.T) {
	t.Parallel()
	g := newGarage(t, 12)
	for i := range int(2 * time.Hour / pace) {
		var here []Station
		if i%8 < 4 {
			here = append(here, heard(mac7, -60))
		}
		for j := range 11 * (i % 2) { // by turns: a full radio, and an empty one
			here = append(here, heard(made(16*i+j), -40))
		}
		g.round(here...)
	}
	n := map[string]int{}
	for _, r := range g.log.Recent(0, "") {
		who := " of strangers"
		if r.Field(event.KeyCharger) == "P1-07" || r.Field(event.KeyCharger) == "" {
			who = ""
		}
		n[r.Kind.ID+who]++
	}
	for _, what := range slices.Sorted(maps.Keys(n)) {
		if at := n[what]; strings.HasSuffix(what, "of strangers") && at > 2*leastGuests || strings.HasPrefix(what, "radio-") && at > 3 {
			t.Errorf("%s: %d in two hours", what, at)
		}
	}
	if n["charger-joined of strangers"] < leastGuests || n["charger-left of strangers"] < leastGuests || n["radio-strangers"] < 2 {
		t.Errorf("too little is said: %v", n)
	}
	if at := n["charger-joined"]; at < 55 || n["charger-left"] < 55 {
		t.Errorf("the charger came 60 times, and was told of %d times", at)
	}
}

// One dying radio takes nothing from the others, though each question to it takes its
// whole time.
func TestDyingRadioHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &air{ifis: []*wifi.Interface{ap("wlan0"), ap("wlan1"), ap("wlan2")}, hang: "wlan1",
			info: func() ([]*wifi.StationInfo, error) { return []*wifi.StationInfo{info(mac7, -60)}, nil }}
		for i, ifi := range a.ifis {
			ifi.Index = 3 + i
		}
		log := event.New(event.Options{Level: event.Debug, Keep: 1000})
		s := New(Config{Networks: []Network{{Name: "P1", Interface: "wlan0"}, {Name: "P2", Interface: "wlan1"}, {Name: "P3", Interface: "wlan2"}}, Signal: signal.Default()},
			charger.NewBook(charger.Inventory{mac7: {MAC: mac7, Name: "P1-07"}}, nil), log)
		s.dial, s.listen, s.attach = a.dial, a.listen, a.attach
		begun := time.Now()
		run(t, s, 10*time.Minute)
		var got []string
		for _, r := range log.Recent(0, "") {
			got = append(got, fmt.Sprintf("%v %s of %s", r.Time.Sub(begun), r.Kind.ID, r.Field(event.KeyNetwork)))
		}
		want := []string{"0s radio-watched of P1", "20s radio-failed of P2", "20s radio-watched of P3"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
		for _, at := range s.Samples() {
			if old := time.Since(at.At); at.Network != "P2" && (at.State != Watched || old > 2*answerWithin) {
				t.Errorf("%s is %s, as of %v ago", at.Network, at.State, old)
			}
		}
		// A round is left out for each of its waits, and no more.
		if a.looks["wlan0"] < 30 || a.looks["wlan2"] < 30 || a.looks["wlan1"] > 9 {
			t.Errorf("asked in ten minutes: %v", a.looks)
		}
		if a.open != 0 {
			t.Errorf("%d conversations were left open", a.open)
		}
	})
}

// Who is let through between two looks, and who is before the door again, is counted once.
func TestHeldCountsOnce(t *testing.T) {
	play(t, func(sc *scene) {
		other := made(1)
		sc.set(func() {
			sc.here = []*wifi.StationInfo{info(mac7, -60), info(other, -60)}
			sc.air.standing = map[charger.MAC]standing{mac7: inside, other: outside}
		})
		sc.wait(time.Minute)
		want := func(when string, n int) {
			t.Helper()
			if got := sc.watches[0].held(); got != n {
				t.Errorf("%s: %d places are taken, want %d", when, got, n)
			}
		}
		want("one in, one before the door", 2)
		sc.speaks("<3>AP-STA-CONNECTED 02:00:00:00:00:01")
		want("both in, no look yet", 2)
		sc.set(func() { sc.air.standing = map[charger.MAC]standing{mac7: outside, other: inside} })
		sc.wait(pace)
		want("they have changed places", 2)
		sc.tells(removed, mac7, 0)
		sc.tells(removed, other, 0)
		want("both are gone", 0)
	})
}
