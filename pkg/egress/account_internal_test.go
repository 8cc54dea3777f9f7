package egress

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"chargegate/pkg/carry"
	"chargegate/pkg/charger"
	"chargegate/pkg/policy"
)

// A ledgerOf counts what is entered, as the account book does.
type ledgerOf struct {
	mu  sync.Mutex
	sum map[string]entered // by MAC and name
}

type entered struct {
	up, down int64
	sessions int
}

func (l *ledgerOf) Moved(mac [6]byte, name string, up, down int64, sessions int, _ time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sum == nil {
		l.sum = map[string]entered{}
	}
	key := charger.MAC(mac).String() + " " + name
	e := l.sum[key]
	l.sum[key] = entered{e.up + up, e.down + down, e.sessions + sessions}
}

func (l *ledgerOf) of(mac charger.MAC, name string) entered {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sum[mac.String()+" "+name]
}

// Every byte is on the account of the device that holds the lease, under the name that
// was asked for, once.
func TestEveryByteIsOnAnAccount(t *testing.T) {
	g := newGarage(t, 2, echo)
	accounts := g.accounts.(*ledgerOf)
	hello, ask := int64(len(g.hellos[policy.Hub])), int64(len(g.hellos[apiName]))
	lasting, err := g.online(chargerAddr(0))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		conn, err := g.begin(chargerAddr(0), g.api, apiName)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, ask)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	if _, err := g.online(chargerAddr(1)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := ping(lasting); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the end of the short ones", func() bool { return g.places.open() == 2 })
	for _, tt := range []struct {
		who  int
		name string
		want entered
	}{
		{0, policy.Hub, entered{hello + 20, hello + 20, 1}},
		{0, apiName, entered{3 * ask, 3 * ask, 3}},
		{1, policy.Hub, entered{hello, hello, 1}},
		{1, apiName, entered{}},
	} {
		eventually(t, fmt.Sprintf("%+v of charger %d with %s", tt.want, tt.who, tt.name), func() bool {
			g.look(time.Now()) // a byte can arrive before it is counted
			return accounts.of(chargerMAC(tt.who), tt.name) == tt.want
		})
	}
	lasting.Close()
	eventually(t, "its end", func() bool { return g.places.open() == 1 })
	if got := accounts.of(chargerMAC(0), policy.Hub); got.up != hello+20 {
		t.Errorf("after the end it is %+v", got)
	}
}

// What a conversation moved before a restart is not entered again, what moves after it
// is, and its page tells how many it has outlived.
func TestAccountsGoOnAfterARestart(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	v, fixed := newVault(t), fixedAddress(t)
	accounts := &ledgerOf{} // its file outlives the process
	h := keeping(t, v, b.port, fixed)
	h.KeepAccounts(accounts)
	h.open()
	talk := h.stream()
	eventually(t, "it to be kept", func() bool { return v.conversations() == 1 })
	want := entered{int64(talk.sent.Len()), int64(talk.sent.Len()), 1}
	for turn := range 3 {
		if err := h.stop(); err != nil {
			t.Fatal(err)
		}
		if got := accounts.of(p107, apiName); got != want {
			t.Errorf("after %d restarts %+v, want %+v", turn, got, want)
		}
		h = keeping(t, v, b.port, fixed)
		h.KeepAccounts(accounts)
		h.open()
		talk.say(t, []byte("and so on"))
		talk.hear(t)
		want.up, want.down = want.up+9, want.down+9
		open, _ := h.Conversations(p107, home)
		if len(open) != 1 || open[0].Taken != turn+1 || open[0].Up != want.up {
			t.Errorf("after %d restarts its page shows %+v", turn+1, open)
		}
	}
}

// A crash costs the accounts what was not written yet: the next process enters that of
// each conversation that goes on, and nothing twice.
func TestACrashCostsTheAccountsNothing(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	v, fixed := newVault(t), fixedAddress(t)
	h := keeping(t, v, b.port, fixed)
	h.KeepAccounts(&ledgerOf{})
	h.open()
	talk := h.stream()
	eventually(t, "it to be kept", func() bool { return v.conversations() == 1 })
	written := entered{} // what stands on the disk
	for turn, save := range []bool{false, false, true, false, true} {
		talk.say(t, []byte("and so on"))
		talk.hear(t)
		h.look(time.Now())
		want := entered{int64(talk.sent.Len()), int64(talk.sent.Len()), 1}
		if save {
			h.Saving()()
			written = want
			talk.say(t, []byte("and more"))
			talk.hear(t)
			want.up, want.down = want.up+8, want.down+8
		}
		h.crash()
		h = keeping(t, v, b.port, fixed)
		accounts := &ledgerOf{sum: map[string]entered{p107.String() + " " + apiName: written}}
		h.KeepAccounts(accounts)
		h.open()
		if got := accounts.of(p107, apiName); got != want {
			t.Errorf("after crash %d %+v, want %+v", turn+1, got, want)
		}
	}
	talk.conn.Close()
	eventually(t, "its end", func() bool { return h.places.open() == 0 })
	h.Saving()() // it has gone from the ledger, too
}

// Whose account a conversation goes on does not change while it is open, and a copy
// of a charger's MAC on another network has none.
func TestWhoPays(t *testing.T) {
	h := newHouse(t, 443, func(c *Config, _ *[]policy.Rule) {
		c.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/24"), netip.MustParsePrefix("127.0.1.0/24")}
	})
	accounts := &ledgerOf{}
	h.KeepAccounts(accounts)
	elsewhere := netip.MustParseAddr("127.0.1.9")
	stranger := charger.MAC{2, 0, 0, 0, 0, 1}
	now := time.Now()
	talk := func(caller netip.Addr) *conversation {
		c := &conversation{caller: caller, share: h.shareOf(caller), name: apiName, pair: &carry.Pair{Counts: &carry.Counts{}}}
		h.enter(c, 1, 0, 1, now)
		return c
	}
	own := talk(home)
	copied := func() *conversation {
		h.book.Leased(p107, "P2", elsewhere, true, now)
		return talk(elsewhere)
	}()
	h.book.Leased(stranger, "P2", elsewhere, true, now)
	strange := talk(elsewhere)
	nobody := talk(netip.MustParseAddr("127.0.1.10"))
	h.book.Unleased(p107, "P1", now)
	for _, c := range []*conversation{own, copied, strange, nobody} {
		h.enter(c, 10, 0, 0, now)
	}
	for mac, want := range map[charger.MAC]int64{p107: 11, stranger: 11, {}: 22} {
		if got := accounts.of(mac, apiName); got.up != want {
			t.Errorf("%s pays for %d bytes, want %d", mac, got.up, want)
		}
	}
}

// The page of a charger: what is open, and what became of its last calls.
func TestConversationsOfACharger(t *testing.T) {
	g := newGarage(t, 2, echo)
	one, other := chargerAddr(0), chargerAddr(1)
	conn, err := g.online(one)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		short, err := g.begin(one, g.api, apiName)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(short, make([]byte, len(g.hellos[apiName]))); err != nil {
			t.Fatal(err)
		}
		short.Close()
		eventually(t, "its end", func() bool { return g.places.open() == 1 })
	}
	g.hellos["evil.example.com"] = helloTo(t, "evil.example.com")
	bad, err := g.begin(one, g.api, "evil.example.com")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, bad)
	eventually(t, "the refusal", func() bool { _, past := g.Conversations(chargerMAC(0), one); return len(past) == 2 })

	n := int64(len(g.hellos[policy.Hub]))
	eventually(t, "every byte to be counted", func() bool {
		open, _ := g.Conversations(chargerMAC(0), one)
		return len(open) == 1 && open[0].Up == n && open[0].Down == n
	})
	open, past := g.Conversations(chargerMAC(0), one)
	if len(open) != 1 || open[0].Name != policy.Hub || open[0].Port != policy.HubPort || open[0].By != bySNI || open[0].Reason != "test" ||
		open[0].Up != n || open[0].Down != n || !open[0].Remote.IsValid() || time.Since(open[0].Moved) > patient {
		t.Errorf("open are %+v", open)
	}
	refused, ended := past[0], past[1]
	if refused.Outcome != Refused || refused.Name != "evil.example.com" || refused.Port != 443 || refused.Reason != "the name is not on the list" || refused.Cause != "name" || refused.Remote.IsValid() {
		t.Errorf("refused %+v", refused)
	}
	a := int64(len(g.hellos[apiName]))
	if ended.Outcome != Ended || ended.Count != 3 || ended.Up != 3*a || ended.Down != 3*a || ended.Reason != "the charger hung up" || ended.Cause != "" || !ended.Remote.IsValid() || ended.First.After(ended.At) {
		t.Errorf("ended %+v", ended)
	}
	if open, past := g.Conversations(chargerMAC(1), other); len(open)+len(past) != 0 {
		t.Errorf("another one has %+v and %+v", open, past)
	}
	conn.Close()
	eventually(t, "the end", func() bool {
		open, past := g.Conversations(chargerMAC(0), one)
		return len(open) == 0 && len(past) == 3
	})
}

// Each way of coming to nothing has one word for scripts.
func TestCausesOfRefusals(t *testing.T) {
	for r, want := range map[result]string{resultUnknownName: "name", resultWrongPort: "port", resultNotTLS: "plain", resultNoName: "nameless"} {
		if got := causeOf(r); got != want {
			t.Errorf("%s is called %q, want %q", resultNames[r], got, want)
		}
	}
	s := newHouse(t, 443)
	s.cameToNothing(home, Unreachable, causeDNS, apiName, 443, "its address cannot be found")
	s.crowded(home, s.shareOf(home))
	_, past := s.Conversations(p107, home)
	if len(past) != 2 || past[0].Cause != "limit" || past[1].Cause != "dns" {
		t.Errorf("%+v", past)
	}
}

// Whatever is asked for however often by whomever, what is remembered is bounded, and
// the last twenty of each are there.
func TestHistoriesAreBounded(t *testing.T) {
	t.Parallel()
	h := &histories{of: map[share][]Past{}}
	start := time.Now()
	for i := range 2 * maxHistories {
		sh := share{mac: charger.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}}
		for j := range 3 * keptPast {
			h.note(sh, Past{Outcome: Refused, Name: fmt.Sprintf("n%d.example.com", j), At: start.Add(time.Duration(i*100+j) * time.Second)})
		}
		if len(h.of) > maxHistories || len(h.of[sh]) != keptPast || cap(h.of[sh]) > 2*keptPast {
			t.Fatalf("%d histories, this one of %d with room for %d", len(h.of), len(h.of[sh]), cap(h.of[sh]))
		}
	}
	last := share{mac: charger.MAC{2, 0, 0, 0, byte((2*maxHistories - 1) >> 8), byte((2*maxHistories - 1) & 255)}}
	past := h.last(func(sh share) bool { return sh == last })
	if len(past) != keptPast || past[0].Name != "n59.example.com" || past[19].Name != "n40.example.com" || !slices.IsSortedFunc(past, func(a, b Past) int { return b.At.Compare(a.At) }) {
		t.Errorf("the last ones are %+v", past)
	}
}
