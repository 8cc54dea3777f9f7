package egress

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"chargegate/pkg/carry"
	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"golang.org/x/sys/unix"
)

// A vault keeps descriptors as systemd does, within the test: what is in it
// outlives the room that gave it.
type vault struct {
	t testing.TB

	mu    sync.Mutex
	held  map[string][]int
	fails error         // what giving and removing return; nil: they work
	stuck chan struct{} // giving waits until it is closed; nil: it does not
	told  []string      // in order: +name, -name
}

func newVault(t testing.TB) *vault {
	v := &vault{t: t, held: map[string][]int{}}
	t.Cleanup(func() {
		for _, fds := range v.held {
			closeAll(fds)
		}
	})
	return v
}

// names are those of what the vault holds.
func (v *vault) names() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Sorted(maps.Keys(v.held))
}

// conversations counts the conversations in the vault.
func (v *vault) conversations() int {
	n := 0
	for _, name := range v.names() {
		if strings.HasPrefix(name, keptPrefix) {
			n++
		}
	}
	return n
}

func (v *vault) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fails = err
}

func (v *vault) put(name string, fds []int) {
	v.held[name] = append(v.held[name], fds...)
	v.told = append(v.told, "+"+name)
}

// visitor is the vault as one process sees it: what was there when it began is
// given to it.
type visitor struct {
	*vault
	passed map[string]bool
}

func (v *vault) visit() *visitor {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := &visitor{v, map[string]bool{}}
	for name := range v.held {
		p.passed[name] = true
	}
	return p
}

func (*visitor) Managed() bool { return true }

func (v *visitor) Take(name string) (*os.File, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.held[name]) == 0 {
		return nil, false
	}
	fds, err := copies(v.held[name][0])
	if err != nil {
		v.t.Error(err)
		return nil, false
	}
	return os.NewFile(uintptr(fds[0]), name), true
}

func (v *visitor) Keep(name string, f *os.File) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fails != nil {
		return v.fails
	}
	closeAll(v.held[name])
	delete(v.held, name)
	copied, ok := duplicate(f)
	if !ok {
		return errors.New("no copy")
	}
	defer copied.Close()
	fds, err := copies(int(copied.Fd()))
	v.put(name, fds)
	return err
}

func (v *visitor) Give(name string, fds ...int) error {
	v.mu.Lock()
	stuck, err := v.stuck, v.fails
	v.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	if err != nil {
		return err
	}
	held, err := copies(fds...)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.put(name, held)
	return err
}

func (v *visitor) Remove(name string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.fails != nil {
		return v.fails
	}
	closeAll(v.held[name])
	delete(v.held, name)
	v.told = append(v.told, "-"+name)
	return nil
}

func (v *visitor) Given(prefix string) map[string][]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := map[string][]int{}
	for name := range v.passed {
		if strings.HasPrefix(name, prefix) {
			fds, err := copies(v.held[name]...)
			if err != nil {
				v.t.Error(err)
			}
			slices.Reverse(fds) // no order is promised
			all[name] = fds
			delete(v.passed, name)
		}
	}
	return all
}

// keeping is a house whose room is kept in a vault.
func keeping(t *testing.T, v *vault, port uint16, changes ...change) *house {
	h := newHouse(t, port, changes...)
	h.store = v.visit()
	return h
}

// crash drops the room as a crash of the process does: nobody is told anything,
// and its own descriptors are closed.
func (h *house) crash() {
	h.t.Helper()
	h.mu.Lock()
	listeners, carrier := h.listeners, h.carrier
	h.mu.Unlock()
	for _, l := range listeners { // an end that nobody asked for: Serve leaves all as it is
		l.Close()
	}
	if err := h.ended(); err == nil {
		h.t.Fatal("the room did not notice")
	}
	carrier.Close()
}

// A stream is a conversation of a charger with a server that echoes.
type stream struct {
	conn *net.TCPConn
	sent bytes.Buffer
	got  bytes.Buffer
}

// begin opens a conversation with apiName.
func (h *house) stream() *stream {
	h.t.Helper()
	s := &stream{conn: h.call()}
	s.say(h.t, helloTo(h.t, apiName))
	s.hear(h.t)
	return s
}

func (s *stream) say(t testing.TB, b []byte) {
	t.Helper()
	deadline(t, s.conn)
	if _, err := s.conn.Write(b); err != nil {
		t.Fatal(err)
	}
	s.sent.Write(b)
}

// hear reads until all that was said has come back, and compares.
func (s *stream) hear(t testing.TB) {
	t.Helper()
	deadline(t, s.conn)
	if _, err := io.CopyN(&s.got, s.conn, int64(s.sent.Len()-s.got.Len())); err != nil {
		t.Fatalf("%d of %d bytes came back: %v", s.got.Len(), s.sent.Len(), err)
	}
	if !bytes.Equal(s.got.Bytes(), s.sent.Bytes()) {
		t.Fatal("other bytes came back than were sent")
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// Conversations go on in the next process, with what was on its way, however the
// one before it went; and then in the one after that.
func TestConversationsAreTakenOver(t *testing.T) {
	for name, leave := range map[string]func(*house){
		"asked to stop": func(h *house) {
			if err := h.stop(); err != nil {
				h.t.Fatal(err)
			}
		},
		"crashed": (*house).crash,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, "127.0.0.1:0", echo)
			v, fixed := newVault(t), fixedAddress(t)
			h := keeping(t, v, b.port, fixed).open()
			quiet, full := h.stream(), h.stream()
			flood := noise(8 << 20)
			done := make(chan struct{})
			go func() { // more than fits anywhere: nobody reads
				defer close(done)
				full.say(t, flood)
			}()
			for turn := range 3 {
				eventually(t, "both to be kept", func() bool { return v.conversations() == 2 })
				leave(h)
				quiet.say(t, []byte("said while nobody was there"))
				next := keeping(t, v, b.port, fixed).open()
				if r := next.says(event.HandoverConversations); r.Field("COUNT") != "2" || r.Field("LOST") != "0" {
					t.Errorf("turn %d: %s", turn, r.Message)
				}
				quiet.hear(t)
				h = next
			}
			read := make(chan struct{})
			go func() {
				defer close(read)
				<-time.After(20 * time.Millisecond)
				full.drain(t, len(flood))
			}()
			<-done
			<-read
			if !bytes.Equal(full.got.Bytes(), full.sent.Bytes()) {
				t.Error("other bytes came back than were sent")
			}
			_ = full.conn.CloseWrite()
			if rest, err := io.ReadAll(full.conn); err != nil || len(rest) > 0 {
				t.Errorf("at the end %d more bytes and %v, want a good order", len(rest), err)
			}
			ended := h.says(event.EgressEnded)
			want := len(flood) + len(helloTo(t, apiName))
			if up := ended.Field("UP"); up != ended.Field("DOWN") || len(up) < 7 {
				t.Errorf("%s; want %d or so each way", ended.Message, want)
			}
			quiet.conn.Close()
			eventually(t, "the manager to forget them", func() bool { return v.conversations() == 0 })
			eventually(t, "no places taken", func() bool { return h.places.open() == 0 })
		})
	}
}

// drain reads n bytes more than were heard.
func (s *stream) drain(t testing.TB, n int) {
	deadline(t, s.conn)
	if _, err := io.CopyN(&s.got, s.conn, int64(n)); err != nil {
		t.Errorf("%d bytes came back: %v", s.got.Len(), err)
	}
}

// Half of a conversation that has ended stays ended, and the other half goes on.
func TestHalfClosedIsTakenOver(t *testing.T) {
	late := make(chan struct{})
	b := newBackend(t, "127.0.0.1:0", func(conn *net.TCPConn) { // answers when everything was said
		defer conn.Close()
		all, _ := io.ReadAll(conn)
		<-late
		_, _ = conn.Write(all)
	})
	v, fixed := newVault(t), fixedAddress(t)
	h := keeping(t, v, b.port, fixed).open()
	s := &stream{conn: h.call()}
	s.say(t, helloTo(t, apiName))
	eventually(t, "it to be kept", func() bool { return v.conversations() == 1 })
	_ = s.conn.CloseWrite()
	h.crash()
	keeping(t, v, b.port, fixed).open()
	close(late)
	s.hear(t)
	if _, err := s.conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the conversation ended with %v, want a good end", err)
	}
}

// The room knows of a conversation that it took over what it knew before: whose it
// is, since when, how far the charger has come, and how many it may have.
func TestTakenOverIsKnown(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	hub := func(_ *Config, rules *[]policy.Rule) {
		*rules = []policy.Rule{{Name: apiName, Ports: []uint16{b.port}, Reason: "test", Plain: true}}
	}
	v, fixed := newVault(t), fixedAddress(t)
	few := func(c *Config, _ *[]policy.Rule) { c.PerCharger = 2 }
	h := keeping(t, v, b.port, fixed, hub, few).open()
	one, two := h.stream(), h.stream()
	eventually(t, "both to be kept", func() bool { return v.conversations() == 2 })
	opened := time.Now()
	h.crash()
	time.Sleep(50 * time.Millisecond)
	next := keeping(t, v, b.port, fixed, hub, few).open()
	next.wantTurnedAway(home.String())
	next.says(event.EgressChargerLimit)
	next.mu.Lock()
	for c := range next.Server.open {
		if !c.opened.Before(opened) || time.Since(c.opened) < 50*time.Millisecond || time.Since(c.opened) > time.Minute {
			t.Errorf("opened %s ago", time.Since(c.opened))
		}
		if c.caller != home || c.name != apiName || c.port != b.port || c.by != bySNI || c.idle != next.cfg.IdleLasting || c.taken != 1 {
			t.Errorf("taken over as %+v", c)
		}
		if c.share.mac != p107 {
			t.Errorf("the share is %v", c.share)
		}
		if up, down := c.count(); up == 0 || up != down {
			t.Errorf("%d bytes up, %d down", up, down)
		}
	}
	next.mu.Unlock()
	if addr := next.dialler.order(target{apiName, b.port}, []netip.Addr{asked, home})[0]; addr != home {
		t.Errorf("would dial %s first", addr)
	}
	next.look(time.Now())
	if st := next.book.All(time.Now())[0]; st.Up != 0 {
		t.Errorf("%d bytes are counted a second time", st.Up)
	}
	one.say(t, noise(1000))
	one.hear(t)
	one.conn.Close()
	two.conn.Close()
	eventually(t, "the places to be free", func() bool { return next.places.open() == 0 })
	next.stream()
}

// A charger whose conversation with the cloud was taken back is ok at once.
func TestResumedLadder(t *testing.T) {
	book := charger.NewBook(charger.Inventory{p107: {MAC: p107, Name: "P1-07", Network: "P1"}}, nil)
	now := time.Now()
	book.Leased(p107, "P1", home, false, now)
	book.Resumed(home, true, now.Add(-2*time.Hour), now.Add(-time.Minute), now)
	book.Resumed(home, true, now.Add(-3*time.Hour), now.Add(-2*time.Minute), now)
	book.Resumed(home, false, now.Add(-4*time.Hour), now.Add(-time.Minute), now)
	if st := book.All(now)[0]; st.Stage != charger.OK || st.Sessions != 2 || !st.LastSeen.Equal(now.Add(-time.Minute)) ||
		!st.Since.Equal(now.Add(-3*time.Hour)) || st.Resumed != 3 || st.Connects != 0 {
		t.Errorf("%+v", st)
	}
	book.Closed(home, true, now.Add(-2*time.Hour), now)
	book.Closed(home, true, now.Add(-time.Hour), now)
	if st := book.All(now)[0]; st.Stage == charger.OK {
		t.Errorf("%+v", st)
	}
}

// What does not fit to the last detail is reset, and nobody keeps any of it.
func TestUnfitIsEnded(t *testing.T) {
	ledgerOf := func(v *vault) *ledger {
		f, _ := (&visitor{vault: v}).Take(ledgerName)
		l, err := mapLedger(f)
		if err != nil {
			v.t.Fatal(err)
		}
		return l
	}
	for name, c := range map[string]struct {
		spoil  func(*vault)
		reason error
		left   int // conversations that go on
		change change
		forbid bool // the next process may not dial the servers
	}{
		"a descriptor is missing": {spoil: func(v *vault) {
			unix.Close(v.held["conv-0"][2])
			v.held["conv-0"] = slices.Delete(v.held["conv-0"], 2, 3)
		}, reason: errIncomplete, left: 1},
		"one too many": {spoil: func(v *vault) {
			more, _ := copies(v.held["conv-0"][0])
			v.held["conv-0"] = append(v.held["conv-0"], more...)
		}, reason: errIncomplete, left: 1},
		"one twice": {spoil: func(v *vault) {
			unix.Close(v.held["conv-0"][1])
			more, _ := copies(v.held["conv-0"][0])
			v.held["conv-0"][1] = more[0]
		}, reason: errStranger, left: 1},
		"partners exchanged": {spoil: func(v *vault) {
			v.held["conv-0"][1], v.held["conv-1"][1] = v.held["conv-1"][1], v.held["conv-0"][1]
		}, reason: errStranger},
		"pipes exchanged": {spoil: func(v *vault) {
			v.held["conv-0"][2], v.held["conv-1"][2] = v.held["conv-1"][2], v.held["conv-0"][2]
		}, reason: errStranger},
		"names exchanged": {spoil: func(v *vault) {
			v.held["conv-0"], v.held["conv-1"] = v.held["conv-1"], v.held["conv-0"]
		}, reason: errStranger},
		"a name that is none": {spoil: func(v *vault) {
			v.held["conv-01"] = v.held["conv-0"]
			delete(v.held, "conv-0")
		}, reason: errUnwritten, left: 1},
		"a number too high": {spoil: func(v *vault) {
			v.held["conv-1000"] = v.held["conv-1"]
			delete(v.held, "conv-1")
		}, reason: errUnwritten, left: 1},
		"a damaged slot":     {spoil: func(v *vault) { ledgerOf(v).slot(1)[100] ^= 1 }, reason: errBroken, left: 1},
		"a slot without sum": {spoil: func(v *vault) { clear(ledgerOf(v).slot(1)[slotSum:]) }, reason: errBroken, left: 1},
		"another server was written down": {spoil: func(v *vault) {
			l := ledgerOf(v)
			r, err := l.read(1, sinceBoot())
			r.remote = netip.AddrPortFrom(asked, r.remote.Port())
			if err := errors.Join(err, l.fill(1, r)); err != nil {
				v.t.Error(err)
			}
		}, reason: errStranger, left: 1},
		"a slot that is free": {spoil: func(v *vault) { ledgerOf(v).state(1).Store(slotFree) }, reason: errUnwritten, left: 1},
		"bytes below zero":    {spoil: func(v *vault) { ledgerOf(v).counts(1).Down.Store(-1) }, reason: errBroken, left: 1},
		"one not given yet": {spoil: func(v *vault) {
			ledgerOf(v).state(1).Store(slotUsed)
			for _, fd := range v.held["conv-1"][:2] {
				disconnect(fd)
			}
			closeAll(v.held["conv-1"])
			delete(v.held, "conv-1")
		}, reason: errWaiting, left: 1},
		"another version":  {spoil: func(v *vault) { ledgerOf(v).mem[headVersion]++ }, reason: errForeignLedger},
		"no ledger at all": {spoil: func(v *vault) { ledgerOf(v).mem[headMagic]++ }, reason: errForeignLedger},
		"another size":     {spoil: func(v *vault) { v.replaceLedger(4096) }, reason: errForeignLedger},
		"the ledger is lost": {spoil: func(v *vault) {
			closeAll(v.held[ledgerName])
			delete(v.held, ledgerName)
		}, reason: errNoLedger},
		"the manager has thrown some away": {spoil: func(v *vault) {
			for _, fd := range v.held["conv-1"][:2] {
				disconnect(fd) // nobody has them any more
			}
			closeAll(v.held["conv-1"])
			delete(v.held, "conv-1")
		}, reason: errIncomplete, left: 1},
		"the rule is gone": {spoil: func(*vault) {}, reason: errNotAllowed, change: func(_ *Config, rules *[]policy.Rule) { *rules = (*rules)[1:] }},
		"the network is gone": {spoil: func(*vault) {}, reason: errNotAllowed, change: func(c *Config, _ *[]policy.Rule) {
			c.Networks = nil
		}},
		"the address must not be dialled any more": {spoil: func(*vault) {}, reason: errNotAllowed, forbid: true},
		"the address is a private one, and the rule does not name it any more": {reason: errNotAllowed, spoil: func(v *vault) {
			l := ledgerOf(v)
			for slot := range 2 {
				r, err := l.read(slot, sinceBoot())
				r.remote = netip.AddrPortFrom(netip.MustParseAddr("10.1.2.3"), r.remote.Port())
				if err := errors.Join(err, l.fill(slot, r)); err != nil {
					v.t.Error(err)
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, "127.0.0.1:0", echo)
			v, fixed := newVault(t), fixedAddress(t)
			h := keeping(t, v, b.port, fixed).open()
			all := []*stream{h.stream(), h.stream()}
			eventually(t, "both to be kept", func() bool { return v.conversations() == 2 })
			h.crash()
			c.spoil(v)
			changes := []change{fixed}
			if c.change != nil {
				changes = append(changes, c.change)
			}
			next := keeping(t, v, b.port, changes...)
			if c.forbid {
				next.dialler.mayDial = func(a netip.Addr) error { return outside(next.cfg, a) }
			}
			next.open()
			if r := next.says(event.HandoverConversationsLost); r.Field("REASON") != c.reason.Error() || r.Field("COUNT") != string('0'+rune(2-c.left)) {
				t.Errorf("said: %s; want %d and: %s", r.Message, 2-c.left, c.reason)
			}
			live := 0
			for _, s := range all {
				deadline(t, s.conn)
				_, err := s.conn.Write([]byte("x"))
				n := 0
				if err == nil {
					n, err = s.conn.Read(make([]byte, 10))
				}
				switch {
				case n == 1 && err == nil:
					live++
				case !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE):
					t.Errorf("it ended with %v, want a reset", err)
				}
			}
			if live != c.left {
				t.Errorf("%d go on, want %d", live, c.left)
			}
			eventually(t, "the manager to hold no others", func() bool { return v.conversations() == c.left })
			if n := next.places.open(); n != c.left {
				t.Errorf("%d places are taken, want %d", n, c.left)
			}
			if c.change != nil || c.forbid {
				return
			}
			fresh := next.stream() // and what comes after is kept as ever
			eventually(t, "the new one to be kept", func() bool { return v.conversations() == c.left+1 })
			next.crash()
			again := keeping(t, v, b.port, fixed).open()
			again.says(event.HandoverConversations)
			fresh.say(t, []byte("still here"))
			fresh.hear(t)
		})
	}
}

// The process ends after a conversation has, and before the manager knows: what the
// kernel is still delivering arrives.
func TestEndedIsNotReset(t *testing.T) {
	const size = 300 << 10
	b := newBackend(t, "127.0.0.1:0", func(conn *net.TCPConn) {
		defer conn.Close()
		_, _ = conn.Write(make([]byte, size))
		_ = conn.CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
	})
	v, fixed := newVault(t), fixedAddress(t)
	h := keeping(t, v, b.port, fixed).open()
	conn := h.call()
	if _, err := conn.Write(helloTo(t, apiName)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it to be kept", func() bool { return v.conversations() == 1 })
	v.fail(errors.New("no listener"))
	_ = conn.CloseWrite()
	eventually(t, "its end", func() bool { return h.places.open() == 0 })
	h.crash()
	v.fail(nil)
	next := keeping(t, v, b.port, fixed).open()
	eventually(t, "the manager to forget it", func() bool { return v.conversations() == 0 })
	if taken, lost := next.said(event.HandoverConversations), next.said(event.HandoverConversationsLost); taken > 0 || lost > 0 {
		t.Errorf("said %d times that one goes on, and %d times that one is lost; it had ended", taken, lost)
	}
	if all, err := io.ReadAll(conn); err != nil || len(all) != size {
		t.Errorf("%d of %d bytes arrived: %v", len(all), size, err)
	}
}

// replaceLedger puts a file of another size in the ledger's place.
func (v *vault) replaceLedger(size int64) {
	fd, err := unix.MemfdCreate("other", unix.MFD_CLOEXEC)
	if err == nil {
		err = unix.Ftruncate(fd, size)
	}
	if err != nil {
		v.t.Fatal(err)
	}
	closeAll(v.held[ledgerName])
	v.held[ledgerName] = []int{fd}
}

// Whoever opens a conversation does not wait for the manager, and what has ended
// before its turn is never told.
func TestManagerIsSlow(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	v := newVault(t)
	h := keeping(t, v, b.port).open()
	release := make(chan struct{})
	v.mu.Lock()
	v.stuck = release
	v.mu.Unlock()
	first := h.stream() // the keeper hangs with this one
	second, third := h.stream(), h.stream()
	second.conn.Close()
	first.conn.Close()
	eventually(t, "two ends", func() bool { return h.places.open() == 1 })
	third.say(t, []byte("goes on"))
	third.hear(t)
	close(release)
	eventually(t, "the manager to hold the third alone", func() bool { return slices.Contains(v.names(), "conv-2") && v.conversations() == 1 })
	if told := v.conversationsTold(); !slices.Equal(told, []string{"+conv-0", "-conv-0", "+conv-2"}) {
		t.Errorf("the manager was told %q", told)
	}
}

// A manager that does not take anything is told again; conversations work, and end
// with the process as ever.
func TestManagerRefuses(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	v := newVault(t)
	h := keeping(t, v, b.port)
	v.fail(errors.New("no listener"))
	h.open()
	if k := h.Server.keeper; k != nil {
		k.mu.Lock()
		k.again = time.Millisecond
		k.mu.Unlock()
	}
	s := h.stream()
	h.says(event.HandoverKeepFailed)
	gone := h.stream()
	gone.conn.Close()
	v.fail(nil)
	eventually(t, "the ledger and the conversation to be kept", func() bool {
		return slices.Equal(v.names(), []string{"conv-0", ledgerName, storeName(h.Addrs()[0])}) || slices.Equal(v.names(), []string{"conv-0", ledgerName})
	})
	v.fail(errors.New("no listener"))
	s.conn.Close()
	eventually(t, "the end", func() bool { return h.places.open() == 0 })
	last := h.stream()
	v.fail(nil)
	eventually(t, "the last to be kept, and the first to be forgotten", func() bool { return v.conversations() == 1 && slices.Contains(v.names(), "conv-1") })
	v.fail(errors.New("no listener"))
	doomed := h.stream()
	if err := h.stop(); err != nil {
		t.Error(err)
	}
	wantReset(t, doomed.conn)
	deadline(t, last.conn)
	last.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := last.conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the one that is kept ended with %v", err)
	}
}

// What is waiting when the room is asked to stop is given first.
func TestStopGivesWhatWaits(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	v, fixed := newVault(t), fixedAddress(t)
	h := keeping(t, v, b.port, fixed).open()
	release := make(chan struct{})
	v.mu.Lock()
	v.stuck = release
	v.mu.Unlock()
	var all []*stream
	for range 5 {
		all = append(all, h.stream())
	}
	time.AfterFunc(50*time.Millisecond, func() { close(release) })
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	h.says(event.HandoverLeft)
	keeping(t, v, b.port, fixed).open()
	for _, s := range all {
		s.say(t, noise(100))
		s.hear(t)
	}
}

// The supervisor begins a room anew that has failed: what it carries goes on.
func TestRoomFailsAlone(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	v := newVault(t)
	h := keeping(t, v, b.port, fixedAddress(t)).open()
	s := h.stream()
	h.mu.Lock()
	h.listeners[0].Close()
	h.mu.Unlock()
	if err := h.ended(); err == nil {
		t.Fatal("the room did not notice")
	}
	h.open()
	s.say(t, noise(1000))
	s.hear(t)
	h.stream()
	eventually(t, "both to be kept", func() bool { return v.conversations() == 2 })
	if n := h.said(event.HandoverConversations); n != 0 {
		t.Errorf("said %d times that the process before had them", n)
	}
}

// Conversations come and go, and processes: neither the vault nor the process
// holds more than before.
func TestNothingLeaks(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	v, fixed := newVault(t), fixedAddress(t)
	before := 0
	var s *stream
	for turn := range 100 {
		h := keeping(t, v, b.port, fixed).open()
		if s == nil {
			s = h.stream()
		}
		brief := h.stream()
		brief.conn.Close()
		eventually(t, "one to be kept", func() bool { return v.conversations() == 1 && h.places.open() == 1 })
		if turn%2 == 0 {
			h.crash()
		} else if err := h.stop(); err != nil {
			t.Fatal(err)
		}
		h.Server.keeper.ledger.file.Close()
		if turn == 9 {
			before = ownDescriptors(t)
		}
	}
	eventually(t, "as many descriptors as before", func() bool { return ownDescriptors(t) <= before })
	keeping(t, v, b.port, fixed).open()
	s.say(t, noise(1000))
	s.hear(t)
}

// LISTEN_FDNAMES is one string of the environment, of at most 128 KiB (execve(2),
// MAX_ARG_STRLEN).
func TestNamesFitTheEnvironment(t *testing.T) {
	sum := len("LISTEN_FDNAMES=") + 100*len(storeName(netip.MustParseAddrPort("255.255.255.255:18443")))
	for slot := range ledgerSlots {
		sum += 4 * (len(keptName(slot)) + 1)
	}
	if sum >= 128<<10 {
		t.Errorf("the names of all have %d bytes", sum)
	}
}

// copies returns descriptors of our own, or none.
func copies(fds ...int) ([]int, error) {
	var all []int
	for _, fd := range fds {
		c, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// What is made to last is given at once, anything else when it has a certain age;
// what ends before that is neither copied nor given. At the end age does not count.
func TestTheYoungAreNotGiven(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	v, fixed := newVault(t), fixedAddress(t)
	rules := func(_ *Config, rules *[]policy.Rule) {
		*rules = append(*rules, policy.Rule{Name: ocppName, Ports: []uint16{b.port}, Reason: "test", Plain: true})
	}
	h := keeping(t, v, b.port, fixed, rules)
	h.after = time.Hour
	h.open()
	young := h.stream()
	eventually(t, "a conversation of which there are no copies", func() bool { return copiesOf(t, h.onlyPair().Sockets[carry.Near]) == 1 })
	lasting := &stream{conn: h.call()}
	lasting.say(t, helloTo(t, ocppName))
	lasting.hear(t)
	eventually(t, "the lasting one to be kept", func() bool { return v.conversations() == 1 })
	young.conn.Close()
	eventually(t, "its end", func() bool { return h.places.open() == 1 })
	another := h.stream()
	time.Sleep(20 * time.Millisecond)
	if told := v.conversationsTold(); !slices.Equal(told, []string{"+conv-1"}) {
		t.Errorf("the manager was told %q, want of the lasting one only", told)
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	keeping(t, v, b.port, fixed, rules).open()
	for _, s := range []*stream{lasting, another} {
		s.say(t, noise(100))
		s.hear(t)
	}
}

// onlyPair is the pair of the conversation that is open.
func (h *house) onlyPair() (p *carry.Pair) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.Server.open {
		p = c.pair
	}
	return p
}

// copiesOf counts the descriptors of this process for what fd is one for.
func copiesOf(t *testing.T, fd int) (n int) {
	t.Helper()
	const own = "/proc/self/fd/"
	what, err := os.Readlink(own + strconv.Itoa(fd))
	all, err2 := os.ReadDir(own)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	for _, entry := range all {
		if link, err := os.Readlink(own + entry.Name()); err == nil && link == what {
			n++
		}
	}
	return n
}

func (v *vault) conversationsTold() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(v.told), func(s string) bool { return !strings.Contains(s, keptPrefix) })
}

func TestComingOfAge(t *testing.T) {
	b := newBackend(t, "127.0.0.1:0", echo)
	v := newVault(t)
	h := keeping(t, v, b.port)
	h.after = 200 * time.Millisecond
	h.open()
	began := time.Now()
	h.stream()
	eventually(t, "it to be kept", func() bool { return v.conversations() == 1 })
	if took := time.Since(began); took < h.after {
		t.Errorf("it was given after %v, want %v at least", took, h.after)
	}
}

// The order in which the manager is told.
func TestWhoIsToldNext(t *testing.T) {
	now := time.Now()
	gone, lasting := &kept{name: "gone", given: true, over: true}, &kept{name: "lasting", lasting: true, due: now.Add(time.Hour)}
	old, young, younger := &kept{name: "old", due: now}, &kept{name: "young", due: now.Add(2)}, &kept{name: "younger", due: now.Add(3)}
	for name, c := range map[string]struct {
		todo  []*kept
		hurry bool
		want  *kept
		rest  time.Duration
	}{
		"nobody":                              {},
		"what is gone makes room":             {todo: []*kept{old, lasting, gone}, want: gone},
		"what lasts before what is old":       {todo: []*kept{old, young, lasting}, want: lasting},
		"the old":                             {todo: []*kept{younger, old, young}, want: old},
		"nobody but the young":                {todo: []*kept{younger, young}, rest: 2},
		"at the end the young, too":           {todo: []*kept{younger, young}, hurry: true, want: younger},
		"at the end what lasts is first, too": {todo: []*kept{younger, lasting}, hurry: true, want: lasting},
	} {
		k := &keeper{todo: c.todo, hurry: c.hurry}
		next, rest := k.nextLocked(now)
		var got *kept
		if next >= 0 {
			got = c.todo[next]
		}
		if got != c.want || rest != c.rest {
			t.Errorf("%s: %+v after %v, want %+v after %v", name, got, rest, c.want, c.rest)
		}
	}
}
