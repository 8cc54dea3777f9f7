package radio

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/wifi"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/hostapd"
)

// made is the n-th of the MACs that somebody makes up.
func made(n int) charger.MAC {
	mac := charger.MAC{2}
	binary.BigEndian.PutUint32(mac[2:], uint32(n))
	return mac
}

func TestLedger(t *testing.T) {
	t.Parallel()
	var l ledger
	now := time.Now()
	if f := l.note(mac7, true, now); f.tries != 1 || !f.attempt {
		t.Errorf("the first sign: %+v, want the first try, said", f)
	}
	// hostapd asks four times within one attempt.
	for range 3 {
		now = now.Add(time.Second)
		if f := l.note(mac7, true, now); f != (finding{certain: true}) {
			t.Errorf("the same attempt: %+v, want nothing", f)
		}
	}
	l.over(mac7)
	now = now.Add(100 * time.Millisecond)
	if f := l.note(mac7, true, now); !f.attempt || f.tries != 0 {
		t.Errorf("at once again: %+v, want an attempt that is only counted", f)
	}
	for range 18 {
		now = now.Add(attempt)
		if f := l.note(mac7, true, now); !f.attempt || f.tries != 0 {
			t.Errorf("later: %+v, want an attempt that is only counted", f)
		}
	}
	now = now.Add(again)
	if f := l.note(mac7, true, now); f.tries != 20 || f.span < again {
		t.Errorf("an hour later: %+v, want 20 tries", f)
	}
}

func TestLedgerIsBounded(t *testing.T) {
	t.Parallel()
	var l ledger
	now := time.Now()
	l.note(mac7, true, now)
	said, crowds := 0, 0
	for i := range 10000 {
		now = now.Add(10 * time.Millisecond)
		f := l.note(made(i), false, now)
		if f.tries > 0 {
			said++
		}
		if f.crowd > 0 {
			crowds++
		}
	}
	if len(l.entries) > maxEntries+1 {
		t.Errorf("%d are remembered, want %d strangers at most, and the charger", len(l.entries), maxEntries)
	}
	if l.entries[mac7] == nil {
		t.Error("made-up MACs have pushed out a charger of the inventory")
	}
	if said != maxStrangers || crowds != 1 {
		t.Errorf("%d strangers were said, and %d times their number; want %d, and once", said, crowds, maxStrangers)
	}
	if f := l.note(mac8, true, now); f.tries != 1 {
		t.Errorf("a charger among the strangers: %+v, want that it is said", f)
	}
	if f := l.note(made(0), false, now.Add(again)); f.tries == 0 {
		t.Errorf("a stranger in the next hour: %+v, want that it is said", f)
	}
}

// Somebody makes up the MACs of a whole inventory, one after the other: each is
// remembered, so that it is said once an hour of each.
func TestLedgerRemembersTheWholeInventory(t *testing.T) {
	t.Parallel()
	for _, l := range []ledger{{}, {doubtful: true}} {
		said := 0
		began := time.Now()
		for now := began; now.Sub(began) < again; now = now.Add(time.Second) {
			mac := mac7
			mac[4], mac[5] = 1, byte(int(now.Sub(began)/time.Second)%100)
			if f := l.note(mac, true, now); f.tries > 0 {
				said++
			}
			l.over(mac)
		}
		if said != 100 {
			t.Errorf("%d lines in an hour of 100 chargers, want one of each", said)
		}
	}
}

// A scene is a server in a bubble, with a kernel and a hostapd that the test speaks for.
type scene struct {
	*Server
	t    *testing.T
	air  *air
	log  *event.Log
	book *charger.Book
	here []*wifi.StationInfo
	said uint64
}

// play runs f while the server serves, in a bubble.
func play(t *testing.T, f func(*scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sc := &scene{t: t}
		sc.air = &air{ifis: []*wifi.Interface{ap("wlan0")}, kernel: make(chan notice), speech: make(chan hostapd.Event),
			info: func() ([]*wifi.StationInfo, error) { return sc.here, nil }}
		sc.Server, _ = newServer(sc.air)
		sc.book = sc.Server.book
		sc.log = event.New(event.Options{Level: event.Debug, Keep: 10000,
			Who: func(mac [6]byte, _ netip.Addr) event.Subject { return event.Subject{Charger: sc.book.NameOf(mac)} }})
		sc.Server.log = sc.log
		sc.watches[0].log = sc.log
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); sc.Serve(ctx) }()
		f(sc)
		cancel()
		<-done
	})
}

// wait lets time pass.
func (sc *scene) wait(d time.Duration) { time.Sleep(d); synctest.Wait() }

// set changes what is there, which the server looks at on its own time.
func (sc *scene) set(f func()) {
	sc.air.mu.Lock()
	defer sc.air.mu.Unlock()
	f()
}

// asked is how often the kernel was asked.
func (sc *scene) asked() int {
	sc.air.mu.Lock()
	defer sc.air.mu.Unlock()
	return sc.air.asked
}

// tells has the kernel tell something of interface 3.
func (sc *scene) tells(m matter, mac charger.MAC, code uint16) {
	sc.air.kernel <- notice{matter: m, ifindex: 3, mac: mac, code: code}
	synctest.Wait()
}

// speaks has hostapd say something.
func (sc *scene) speaks(line string) {
	sc.t.Helper()
	e, ok := hostapd.ParseEvent(line)
	if !ok {
		sc.t.Fatalf("%q is no event", line)
	}
	sc.air.speech <- e
	synctest.Wait()
}

// wantSaid compares the sentences said since the last call.
func (sc *scene) wantSaid(want ...string) {
	sc.t.Helper()
	var got []string
	for _, r := range sc.log.Recent(sc.said, "") {
		got = append(got, r.Kind.ID+": "+r.Message)
		sc.said = r.Seq
	}
	if diff := cmp.Diff(want, got); diff != "" {
		sc.t.Errorf("said (-want +got):\n%s", diff)
	}
}

const watchedNow = "radio-watched: the radio wlan0 of P1 is an access point, with 0 stations"

func TestWhoJoinsIsSeenAtOnce(t *testing.T) {
	play(t, func(sc *scene) {
		sc.wait(20 * time.Second)
		sc.wantSaid(watchedNow)
		asked := sc.asked()

		sc.set(func() { sc.here = []*wifi.StationInfo{info(mac7, -60)} })
		sc.tells(entered, mac7, 0) // before the handshake it is nobody yet
		sc.speaks("<3>AP-STA-CONNECTED 60:15:92:41:00:07")
		sc.wait(seldom)
		sc.wantSaid("charger-joined: P1-07 has joined the Wi-Fi of P1 (signal in dBm: -60)")
		if n := sc.asked() - asked; n != 1 {
			t.Errorf("%d looks for one that joins, want 1", n)
		}
	})
}

func TestWhyOneLeaves(t *testing.T) {
	tests := []struct {
		name string
		tell func(*scene)
		want string
	}{
		{"it says goodbye", func(sc *scene) {
			sc.speaks("<2>deauthentication: STA=60:15:92:41:00:07 reason_code=3")
			sc.tells(removed, mac7, 0)
		}, "it said goodbye: it leaves the network (reason 3)"},
		{"hostapd's word comes after the kernel's", func(sc *scene) {
			sc.tells(removed, mac7, 0)
			sc.speaks("<2>deauthentication: STA=60:15:92:41:00:07 reason_code=8")
		}, "it said goodbye: it leaves for another access point or none (reason 8)"},
		{"it was silent for too long", func(sc *scene) {
			sc.tells(dismissed, mac7, 4)
			sc.tells(removed, mac7, 0)
		}, "this box sent it away: it was silent for too long (reason 4)"},
		{"a code that nobody knows", func(sc *scene) {
			sc.speaks("<2>deauthentication: STA=60:15:92:41:00:07 reason_code=4711")
			sc.tells(removed, mac7, 0)
		}, "it said goodbye: reason 4711"},
		{"its power was cut for a moment", func(sc *scene) {
			sc.tells(removed, mac7, 0)
			sc.tells(entered, mac7, 0)
		}, "without a word, and it logs in anew"},
		{"its power was cut", func(sc *scene) {
			sc.tells(removed, mac7, 0)
		}, "without a word"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			play(t, func(sc *scene) {
				sc.set(func() { sc.here = []*wifi.StationInfo{info(mac7, -60)} })
				sc.wait(time.Minute)
				sc.wantSaid("radio-watched: the radio wlan0 of P1 is an access point, with 1 stations")
				sc.set(func() { sc.here = nil })
				tt.tell(sc)
				sc.wait(seldom)
				sc.wantSaid("charger-left: P1-07 has left the Wi-Fi of P1 after 1m3s: " + tt.want)
			})
		})
	}
}

func TestWhoIsBackAtOnceHasLeftAndJoined(t *testing.T) {
	play(t, func(sc *scene) {
		sc.set(func() { sc.here = []*wifi.StationInfo{info(mac7, -60)} })
		sc.wait(time.Minute)
		sc.said = 1
		sc.speaks("<2>deauthentication: STA=60:15:92:41:00:07 reason_code=3")
		sc.tells(removed, mac7, 0)
		sc.tells(entered, mac7, 0)
		sc.speaks("<3>AP-STA-CONNECTED 60:15:92:41:00:07")
		sc.wait(seldom)
		sc.wantSaid("charger-left: P1-07 has left the Wi-Fi of P1 after 1m3s: it said goodbye: it leaves the network (reason 3)",
			"charger-joined: P1-07 has joined the Wi-Fi of P1 (signal in dBm: -60)")
	})
}

func TestWrongPassphrase(t *testing.T) {
	play(t, func(sc *scene) {
		sc.wait(time.Minute)
		sc.wantSaid(watchedNow)
		for range 20 {
			// The kernel lists it while it tries, and every round sees it.
			sc.set(func() { sc.here = []*wifi.StationInfo{info(mac7, -60)} })
			sc.tells(entered, mac7, 0)
			for range 4 {
				sc.speaks("<3>AP-STA-POSSIBLE-PSK-MISMATCH 60:15:92:41:00:07")
				sc.wait(time.Second)
			}
			sc.tells(dismissed, mac7, 15)
			sc.set(func() { sc.here = nil })
			sc.tells(removed, mac7, 0)
			sc.wait(10 * time.Second)
		}
		sc.wantSaid("charger-wrong-passphrase: P1-07 (60:15:92:41:00:07) does not join the Wi-Fi of P1: its passphrase is wrong (3 tries in 28s)")
		all := sc.book.All(time.Now())
		if !strings.Contains(all[0].Advice, "wrong passphrase") || all[0].Stage != charger.Wifi {
			t.Errorf("the advice at %s is %q", all[0].Stage, all[0].Advice)
		}
		if n := sc.watches[0].wrongs.Load(); n != 20 {
			t.Errorf("%d attempts were counted, want 20", n)
		}

		// An hour later it still tries, and then somebody helps.
		sc.wait(time.Hour)
		sc.speaks("<3>AP-STA-POSSIBLE-PSK-MISMATCH 60:15:92:41:00:07")
		sc.wantSaid("charger-wrong-passphrase: P1-07 (60:15:92:41:00:07) does not join the Wi-Fi of P1: its passphrase is wrong (18 tries in 1h3m58s)")
		sc.set(func() { sc.here = []*wifi.StationInfo{info(mac7, -60)} })
		sc.speaks("<3>AP-STA-CONNECTED 60:15:92:41:00:07")
		sc.wait(seldom)
		sc.wantSaid("charger-joined: P1-07 has joined the Wi-Fi of P1 (signal in dBm: -60)")
	})
}

// When hostapd begins anew a charger may answer with the right passphrase, and wrongly.
func TestRightPassphraseAtAWrongMoment(t *testing.T) {
	play(t, func(sc *scene) {
		sc.wait(time.Minute)
		sc.wantSaid(watchedNow)
		for range 5 {
			for range convinced - 1 {
				sc.speaks("<3>AP-STA-POSSIBLE-PSK-MISMATCH 60:15:92:41:00:07")
				sc.wait(attempt)
			}
			sc.speaks("<3>AP-STA-CONNECTED 60:15:92:41:00:07")
			sc.wait(time.Minute)
		}
		sc.wantSaid()
		if advice := sc.book.All(time.Now())[0].Advice; strings.Contains(advice, "Tries to join") {
			t.Errorf("the advice is %q", advice)
		}
	})
}

func TestWhoHasJustComeIsCountedWhenTheRadioRefuses(t *testing.T) {
	play(t, func(sc *scene) {
		sc.wait(time.Minute)
		sc.wantSaid(watchedNow)
		sc.speaks("<3>AP-STA-CONNECTED 02:00:00:00:00:01")
		sc.speaks("<3>AP-STA-CONNECTED 02:00:00:00:00:02")
		sc.tells(removed, charger.MAC{2, 0, 0, 0, 0, 2}, 0)
		for range 5 {
			sc.tells(refused, mac7, noRoom)
		}
		sc.wantSaid("radio-refuses: the radio wlan0 of P1 has no room for P1-07 (60:15:92:41:00:07) and refuses it: it holds 1 of at most 19 stations")
	})
}

func TestRadioRefuses(t *testing.T) {
	play(t, func(sc *scene) {
		sc.wait(time.Minute)
		sc.wantSaid(watchedNow)
		for range 5 {
			sc.tells(refused, mac7, noRoom)
			sc.wait(2 * time.Second)
		}
		sc.wantSaid("radio-refuses: the radio wlan0 of P1 has no room for P1-07 (60:15:92:41:00:07) and refuses it: it holds 0 of at most 19 stations")
		if advice := sc.book.All(time.Now())[0].Advice; !strings.Contains(advice, "no room") {
			t.Errorf("the advice is %q", advice)
		}
		// hostapd says so itself where the driver refuses.
		sc.speaks("<3>AP-REJECTED-MAX-STA 02:00:00:00:00:01")
		sc.wantSaid("radio-refuses: the radio wlan0 of P1 has no room for unknown 02:00:00:00:00:01 and refuses it: it holds 0 of at most 19 stations")
		// Another refusal is another story.
		sc.tells(refused, mac7, 13)
		sc.tells(refused, mac7, 13)
		sc.wantSaid()
		sc.tells(refused, mac7, 13)
		sc.wantSaid("charger-refused: P1-07 (60:15:92:41:00:07) was not let onto the Wi-Fi of P1: it wants another way to log in, as of WPA3 (status 13)")
	})
}

func TestDriverThatTakesInAndThrowsOut(t *testing.T) {
	tests := []struct {
		name  string
		limit int
		tell  func(*scene)
		want  []string
	}{
		{"a full radio throws out at once", 1, func(sc *scene) {
			sc.tells(entered, mac7, 0)
			sc.wait(100 * time.Millisecond)
			sc.tells(removed, mac7, 0)
		}, []string{"radio-refuses: the radio wlan0 of P1 has no room for P1-07 (60:15:92:41:00:07) and refuses it: it holds 1 of at most 1 stations"}},
		{"there is room, and it went by itself", 2, func(sc *scene) {
			sc.tells(entered, mac7, 0)
			sc.wait(100 * time.Millisecond)
			sc.tells(removed, mac7, 0)
		}, nil},
		{"it tried a wrong passphrase", 1, func(sc *scene) {
			sc.tells(entered, mac7, 0)
			sc.speaks("<3>AP-STA-POSSIBLE-PSK-MISMATCH 60:15:92:41:00:07")
			sc.tells(removed, mac7, 0)
		}, nil},
		{"a stranger passes", 1, func(sc *scene) {
			sc.tells(entered, made(2), 0)
			sc.tells(removed, made(2), 0)
		}, nil},
		{"it was in", 1, func(sc *scene) {
			sc.tells(entered, mac7, 0)
			sc.speaks("<3>AP-STA-CONNECTED 60:15:92:41:00:07")
			sc.tells(removed, mac7, 0)
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			play(t, func(sc *scene) {
				sc.watches[0].net.MaxStations = tt.limit
				sc.set(func() { sc.here = []*wifi.StationInfo{info(made(1), -60)} })
				sc.wait(time.Minute)
				sc.said = uint64(len(sc.log.Recent(0, "")))
				tt.tell(sc)
				sc.wait(seldom)
				sc.wantSaid(tt.want...)
			})
		})
	}
}

func TestManyStrangersAreFewLines(t *testing.T) {
	play(t, func(sc *scene) {
		sc.wait(time.Minute)
		asked := sc.asked()
		for i := range 6000 {
			who := made(i / convinced) // each tries until it is believed
			sc.tells(entered, who, 0)
			sc.speaks(fmt.Sprintf("<3>AP-STA-POSSIBLE-PSK-MISMATCH %v", who))
			sc.tells(refused, who, noRoom)
			sc.tells(refused, who, 1)
			sc.tells(removed, who, 0)
		}
		if n := len(sc.log.Recent(1, "")); n != 3*maxStrangers+1 {
			t.Errorf("%d lines, want %d", n, 3*maxStrangers+1)
		}
		if n := sc.asked() - asked; n > 1 {
			t.Errorf("%d looks because of strangers that never came in, want none", n)
		}
		if n := len(sc.watches[0].wrong.entries) + len(sc.watches[0].full.entries) + len(sc.watches[0].others.entries); n > 3*maxEntries {
			t.Errorf("%d entries, want %d at most", n, 3*maxEntries)
		}
		if n := len(sc.book.All(time.Now())); n != 1 {
			t.Errorf("the book knows %d, want the one of the inventory", n)
		}
	})
}

func TestNoticesThatFindNoRoomAreCounted(t *testing.T) {
	t.Parallel()
	s, _ := newServer(&air{})
	for range waiting + 10 {
		s.tell(notice{matter: changed})
	}
	if n := s.dropped.Load(); n != 10 {
		t.Errorf("%d are counted as dropped, want 10", n)
	}
}

func TestNoticesOfOthersAreNothing(t *testing.T) {
	play(t, func(sc *scene) {
		sc.wait(time.Minute)
		sc.wantSaid(watchedNow)
		sc.air.kernel <- notice{matter: refused, ifindex: 99, mac: mac7, code: noRoom} // a station's own interface
		sc.wait(time.Minute)
		sc.wantSaid()
	})
}

func TestRadioIsSilent(t *testing.T) {
	play(t, func(sc *scene) {
		sc.set(func() { sc.here = []*wifi.StationInfo{info(mac7, -60)} })
		sc.wait(time.Minute)
		sc.wantSaid("radio-watched: the radio wlan0 of P1 is an access point, with 1 stations")
		sc.set(func() { sc.air.state = "DISABLED" })
		sc.speaks("<3>AP-DISABLED ")
		sc.wait(seldom)
		sc.wantSaid("charger-left: P1-07 has left the Wi-Fi of P1 after 1m3s: the radio is away")
		sc.wait(2 * time.Minute)
		sc.wantSaid("radio-silent: the radio wlan0 of P1 sends no beacons: hostapd's state is DISABLED, not ENABLED")
		sc.set(func() { sc.air.state = "" })
		sc.speaks("<3>AP-ENABLED ")
		sc.wait(seldom)
		sc.wantSaid("radio-watched: the radio wlan0 of P1 is an access point, with 1 stations")
	})
}

func TestHostapdIsKilledAndStartedAnew(t *testing.T) {
	play(t, func(sc *scene) {
		sc.wait(time.Minute)
		sc.wantSaid(watchedNow)
		// The kernel names no channel for an access point whose owner is gone.
		sc.set(func() { sc.air.dumb = fmt.Errorf("asking hostapd: %w", os.ErrNotExist) })
		sc.set(func() { sc.air.ifis = []*wifi.Interface{{Index: 3, Name: "wlan0", Type: wifi.InterfaceTypeAP}} })
		sc.wait(2 * time.Minute)
		sc.wantSaid("radio-silent: the radio wlan0 of P1 sends no beacons: hostapd does not run")
		if got := sc.Samples()[0]; got.Unheard != "" || got.Frequency != 0 || got.State != Silent {
			t.Errorf("the sample of a silent radio says %+v", got)
		}
		sc.set(func() { sc.air.dumb, sc.air.ifis = nil, []*wifi.Interface{ap("wlan0")} })
		sc.wait(redialling + seldom)
		sc.wantSaid(watchedNow)
		if n := sc.posts[0].attached.Load(); n != 2 {
			t.Errorf("a way to hostapd was opened %d times, want 2", n)
		}
	})
}

func TestHostapdDoesNotSpeakWithUs(t *testing.T) {
	play(t, func(sc *scene) {
		sc.wait(time.Minute)
		sc.wantSaid(watchedNow)
		sc.set(func() { sc.air.dumb = fmt.Errorf("asking hostapd: %w", os.ErrPermission) })
		sc.wait(grace)
		if got := sc.Samples()[0]; got.Unheard != "" {
			t.Errorf("within a minute the sample says %q", got.Unheard)
		}
		sc.wait(14 * time.Minute)
		if got := sc.Samples()[0]; got.Unheard != "its control socket is not ours to use" || got.State != Watched || got.Frequency != 2437 {
			t.Errorf("the sample says %+v", got)
		}
		sc.wantSaid("radio-hostapd-unheard: hostapd of the radio wlan0 of P1 does not answer, and probably nobody can join meanwhile: its control socket is not ours to use")
		sc.set(func() { sc.air.dumb = nil })
		sc.wait(time.Minute)
		sc.wantSaid("radio-hostapd-heard: hostapd of the radio wlan0 of P1 answers again")
		if got := sc.Samples()[0]; got.Unheard != "" {
			t.Errorf("it is heard again, and the sample says %q", got.Unheard)
		}
	})
	play(t, func(sc *scene) { // it was away for long, and is heard a moment after it serves
		sc.set(func() { sc.air.dumb = fmt.Errorf("asking hostapd: %w", os.ErrNotExist) })
		sc.set(func() { sc.air.ifis = nil })
		sc.wait(time.Hour)
		sc.wantSaid("radio-interface-missing: the radio wlan0 of P1 is not there")
		sc.set(func() { sc.air.ifis = []*wifi.Interface{ap("wlan0")} })
		sc.wait(pace)
		sc.set(func() { sc.air.dumb = nil })
		sc.wait(time.Minute)
		sc.wantSaid(watchedNow)
	})
}

func TestRenamedRemovedAndAddedAnew(t *testing.T) {
	play(t, func(sc *scene) {
		sc.set(func() { sc.here = []*wifi.StationInfo{info(mac7, -60)} })
		sc.wait(time.Minute)
		sc.wantSaid("radio-watched: the radio wlan0 of P1 is an access point, with 1 stations")
		sc.set(func() { sc.air.ifis = []*wifi.Interface{ap("wlan9")} })
		sc.air.kernel <- notice{matter: changed}
		sc.wait(seldom)
		sc.wantSaid("charger-left: P1-07 has left the Wi-Fi of P1 after 1m3s: the radio is away")
		sc.tells(refused, mac7, noRoom) // of an interface that is not ours any more
		sc.wait(2 * time.Minute)
		sc.wantSaid("radio-interface-missing: the radio wlan0 of P1 is not there")

		again := ap("wlan0")
		again.Index = 12
		sc.set(func() { sc.air.ifis = []*wifi.Interface{again} })
		sc.air.kernel <- notice{matter: changed}
		sc.wait(seldom)
		sc.wantSaid("radio-watched: the radio wlan0 of P1 is an access point, with 1 stations")
		sc.set(func() { sc.here = nil })
		sc.air.kernel <- notice{matter: removed, ifindex: 12, mac: mac7}
		sc.wait(seldom)
		sc.wantSaid("charger-left: P1-07 has left the Wi-Fi of P1 after 3s: without a word")
	})
}

func TestKernelsSocketFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &air{ifis: []*wifi.Interface{ap("wlan0")}, info: func() ([]*wifi.StationInfo, error) { return nil, nil }}
		s, _ := newServer(a)
		s.listen = func(context.Context, func(notice)) error { return os.ErrNotExist }
		run(t, s, 10*time.Minute)
		if n := s.deaf.Load(); n < 12 || n > 18 {
			t.Errorf("opened anew %d times in ten minutes, want once a minute after a quick start", n)
		}
	})
}

func TestDoorMetrics(t *testing.T) {
	play(t, func(sc *scene) {
		sc.set(func() { sc.here = []*wifi.StationInfo{info(mac7, -60)} })
		sc.wait(time.Minute)
		sc.tells(refused, made(1), noRoom)
		sc.speaks("<3>AP-STA-POSSIBLE-PSK-MISMATCH 02:00:00:00:00:02")
		sc.speaks("<2>deauthentication: STA=60:15:92:41:00:07 reason_code=4711")
		sc.set(func() { sc.here = nil })
		sc.tells(removed, mac7, 0)
		sc.wait(seldom)
		want := `
# HELP chargegate_radio_hostapd_up 1 while hostapd answers and says that it sends beacons.
# TYPE chargegate_radio_hostapd_up gauge
chargegate_radio_hostapd_up{network="P1"} 1
# HELP chargegate_radio_left_total Stations that have gone, by who said so and the reason code (IEEE 802.11, table 9-49; 0: none, or an unusual one).
# TYPE chargegate_radio_left_total counter
chargegate_radio_left_total{by="station",network="P1",reason="0"} 1
# HELP chargegate_radio_refused_total Attempts to join that were refused: for want of room (F-10), or for something else.
# TYPE chargegate_radio_refused_total counter
chargegate_radio_refused_total{cause="full",network="P1"} 1
chargegate_radio_refused_total{cause="other",network="P1"} 0
# HELP chargegate_radio_wrong_passphrases_total Attempts to join with another passphrase.
# TYPE chargegate_radio_wrong_passphrases_total counter
chargegate_radio_wrong_passphrases_total{network="P1"} 1
`
		if err := testutil.CollectAndCompare(sc.Server, strings.NewReader(want), "chargegate_radio_hostapd_up", "chargegate_radio_left_total",
			"chargegate_radio_refused_total", "chargegate_radio_wrong_passphrases_total"); err != nil {
			t.Error(err)
		}
	})
}
