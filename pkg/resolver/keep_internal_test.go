package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"
)

// linesOf makes lines of "name addr addr…".
func linesOf(text ...string) []line {
	var lines []line
	for _, s := range text {
		words := strings.Fields(s)
		l := line{Name: words[0]}
		for _, a := range words[1:] {
			l.Addrs = append(l.Addrs, netip.MustParseAddr(a))
		}
		lines = append(lines, l)
	}
	return lines
}

// names is the file of names in a directory of the test's, with some lines in it.
func names(t testing.TB, lines ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "names")
	if len(lines) > 0 {
		data, _ := encode(linesOf(lines...))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// content is what a file of names holds, each name with its addresses.
func content(t testing.TB, path string) string {
	t.Helper()
	data, err := readFile(path)
	if os.IsNotExist(err) {
		return "no file"
	}
	if err != nil {
		t.Fatal(err)
	}
	lines, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range lines {
		out = append(out, fmt.Sprint(strings.SplitN(l.Name, ".", 2)[0], " ", l.Addrs))
	}
	return strings.Join(out, ", ")
}

func TestTheFileOfNames(t *testing.T) {
	t.Parallel()
	chained := reduced(t, hub, 0, []string{hub + " 60 IN CNAME GW.example.", "gw.example. 60 IN A 192.0.2.1", "gw.example. 60 IN A 192.0.2.2"}, nil)
	data, _ := encode([]line{lineOf(hub, chained), {Name: api, Addrs: chained.addrs[:1]}})
	const want = `chargegate-names 1 40d199e8
{"name":"zapcloud.azure-devices.net.","chain":["GW.example."],"addrs":["192.0.2.1","192.0.2.2"]}
{"name":"api.zaptec.com.","addrs":["192.0.2.1"]}
`
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	lines, err := decode(data)
	if err != nil || len(lines) != 2 {
		t.Fatalf("%v, %v", lines, err)
	}
	a, err := lines[0].answer(usable(nil))
	if err != nil {
		t.Fatal(err)
	}
	wantRecords := []string{hub + " 30 IN CNAME GW.example.", "GW.example. 30 IN A 192.0.2.1", "GW.example. 30 IN A 192.0.2.2"}
	if diff := cmp.Diff(wantRecords, texts(a.records)); diff != "" {
		t.Errorf("read back (-want +got)\n%s", diff)
	}
	var many []line
	for i := range 10_000 {
		many = append(many, line{Name: fmt.Sprintf("n%d.example.com.", i), Addrs: a.addrs})
	}
	data, written := encode(many)
	if lines, err := decode(data); err != nil || len(lines) != len(written) || len(lines) < 1000 || len(data) > maxFile {
		t.Errorf("of too many, %d lines in %d bytes were written and %d read: %v", len(written), len(data), len(lines), err)
	}
}

// Whatever stands in the place of the file, the room says so, keeps it for whoever
// wants to know, and serves.
func TestFilesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	good, _ := encode(linesOf(hub+" 192.0.2.1", api+" 192.0.2.1"))
	with := func(body string) string {
		return fmt.Sprintf("%s %d %08x\n%s", fileMagic, fileVersion, checksum([]byte(body)), body)
	}
	flipped := strings.Replace(string(good), "192.0.2.1", "192.0.3.1", 1)
	tests := []struct {
		name, content, fault string
	}{
		{"nothing in it", "", "not a file of names"},
		{"zeros, as a power cut on a bad file system leaves them", strings.Repeat("\x00", 4096), "not a file of names"},
		{"another program's", "nameserver 192.0.2.1\n", "not a file of names"},
		{"a future version", "chargegate-names 2 00000000\nsomething new", "its version is 2"},
		{"a bit of it changed", flipped, "checksum"},
		{"its second half missing", string(good[:len(good)/2]), "checksum"},
		{"only its first line", string(good[:28]), "checksum"},
		{"no checksum", "chargegate-names 1\n{}", "checksum"},
		{"something behind it", string(good) + "x", "checksum"},
		{"too large", string(good) + strings.Repeat("\n", maxFile), "larger than 256 KiB"},
		{"no JSON", with("hello\n"), "cannot be read"},
		{"JSON of another shape", with(`{"name":7}` + "\n"), "cannot be read"},
		{"an address that is none", with(`{"name":"a.","addrs":["1.2.3"]}` + "\n"), "cannot be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := names(t)
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			h := build(t, newCloud(addresses(time.Minute, "192.0.2.2")), Config{File: path})
			defer h.memory.shut()
			h.recall()
			said := h.log.Recent(0, "")
			if len(said) != 1 || said[0].Kind != event.ResolverFileUnread || !strings.Contains(said[0].Message, tt.fault) {
				t.Errorf("said %v, want %q", said, tt.fault)
			}
			if aside, err := os.ReadFile(path + damagedSuffix); err != nil || string(aside) != tt.content {
				t.Errorf("it was not kept: %v", err)
			}
			if got := h.hears(hub); got.first != "192.0.2.2" {
				t.Errorf("the room answers %+v", got)
			}
			h.write(time.Now(), false)
			if got := content(t, path); got != "zapcloud [192.0.2.2]" {
				t.Errorf("afterwards the file holds %s", got)
			}
		})
	}
	t.Run("every piece of it", func(t *testing.T) {
		for n := range good {
			if lines, err := decode(good[:n]); err == nil {
				t.Fatalf("%d of %d bytes passed for the file: %v", n, len(good), lines)
			}
			bad := []byte(string(good))
			bad[n] ^= 0x10
			if lines, err := decode(bad); err == nil && !cmp.Equal(lines, linesOf(hub+" 192.0.2.1", api+" 192.0.2.1"), cmpopts.EquateComparable(netip.Addr{})) {
				t.Fatalf("with byte %d changed it passed for %v", n, lines)
			}
		}
	})
	for name, make := range map[string]func(string) error{
		"a directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"a pipe":      func(p string) error { return syscall.Mkfifo(p, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			path := names(t)
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			h := build(t, newCloud(addresses(time.Minute, "192.0.2.2")), Config{File: path})
			h.recall()
			if diff := cmp.Diff(map[string]int{"resolver-file-unread": 1}, h.said()); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
		})
	}
}

// Only what is still allowed, and still possible, is taken from the file.
func TestWhatIsTakenFromTheFile(t *testing.T) {
	t.Parallel()
	path := names(t, hub+" 192.0.2.1 192.0.2.2", "cs.ocpp.example.com. 192.0.2.3",
		"former.example.com. 192.0.2.4", "pool.ntp.org. 192.0.2.5", `api\046zaptec.com. 192.0.2.6`,
		api+" 10.83.0.9", devices+" 127.0.0.1", older+" 2001:db8::1", "no..name. 192.0.2.7", "HUB.example. 192.0.2.8")
	h := build(t, newCloud(answer{}), Config{File: path}, ocpp)
	h.recall()
	h.recall() // a room that is served again reads it once
	var known []string
	for name, e := range h.memory.kept.all() {
		if e.good != nil {
			known = append(known, name)
		}
	}
	if diff := cmp.Diff([]string{"cs.ocpp.example.com.", hub}, known, cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Errorf("known (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"resolver-recalled": 1}, h.said()); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"zapcloud.azure-devices.net"}, h.NamesAt(netip.Addr{}, netip.MustParseAddr("192.0.2.2"))); diff != "" {
		t.Errorf("a conversation that goes on with its old address (-want +got):\n%s", diff)
	}
}

// A garage has power before its uplink: what is on disk is old from the start,
// whatever the clock says, comes after the upstreams had their chance, lasts three
// days, and gives way to the first good answer.
func TestAddressesFromBeforeThePowerCut(t *testing.T) {
	t.Parallel()
	for _, back := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := newCloud(addresses(time.Minute, "192.0.2.2"))
			c.late = time.Hour
			h := build(t, c, Config{File: names(t, hub+" 192.0.2.1", api+" 192.0.2.1")})
			defer h.live()()
			synctest.Wait()
			began := time.Now()
			stale := outcome{first: "192.0.2.1", ttl: staleTTL, stale: true}
			first := stale
			first.took = staleAfter
			if got := h.hears(hub); got != first {
				t.Errorf("the first charger: %+v, want %+v", got, first)
			}
			for time.Since(began) < 10*time.Minute {
				if got := h.hears(hub); got != stale && time.Since(began) > budget {
					t.Errorf("after %v: %+v", time.Since(began), got)
				}
				time.Sleep(time.Second)
			}
			soon := stale
			soon.took = staleSoon
			if got := h.hears(api); got != soon {
				t.Errorf("a name that nobody has asked for yet: %+v", got)
			}
			if got := h.hears(devices); got.rcode != dns.RcodeServerFailure {
				t.Errorf("a name that was not on disk: %+v", got)
			}
			if back {
				c.set(func() { c.late = 0 })
				time.Sleep(recheckAfter)
				for _, name := range []string{hub, api, devices} {
					if got := h.hears(name); got.first != "192.0.2.2" || got.stale {
						t.Errorf("the uplink is back: %s %+v", name, got)
					}
				}
				return
			}
			time.Sleep(staleFor - time.Since(began) - time.Second)
			if got := h.hears(hub); got.first != "192.0.2.1" || !got.stale {
				t.Errorf("at the end of three days: %+v", got)
			}
			time.Sleep(2 * time.Second)
			if got := h.hears(hub); got.rcode != dns.RcodeServerFailure {
				t.Errorf("after three days: %+v", got)
			}
		})
	}
}

// The same with real sockets and an upstream that is silent.
func TestFirstBootWithADeadUplink(t *testing.T) {
	t.Parallel()
	list, err := policy.New(policy.Zaptec())
	if err != nil {
		t.Fatal(err)
	}
	dead := upstream(t, nil, silent)
	s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Upstreams: []Upstream{{Addr: dead}},
		File: names(t, hub+" 192.0.2.1")}, list, charger.NewBook(nil, nil), nil)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	at := s.Addrs()[0]
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- s.Serve(ctx) }()
	defer func() {
		cancel()
		if err := <-end; err != nil {
			t.Error(err)
		}
	}()
	q := new(dns.Msg).SetQuestion(hub, dns.TypeA)
	q.SetEdns0(1232, false)
	began := time.Now()
	m, _, err := (&dns.Client{Timeout: askerPatience}).Exchange(q, at.String())
	if err != nil {
		t.Fatalf("after %v: %v", time.Since(began), err)
	}
	if diff := cmp.Diff([]string{hub + " 30 IN A 192.0.2.1"}, texts(m.Answer)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if ede, ok := m.IsEdns0().Option[0].(*dns.EDNS0_EDE); !ok || ede.InfoCode != dns.ExtendedErrorCodeStaleAnswer {
		t.Errorf("extended error %v", m.IsEdns0().Option)
	}
	addrs, err := s.LookupNetIP(t.Context(), "ip4", "zapcloud.azure-devices.net")
	if err != nil || len(addrs) != 1 {
		t.Errorf("egress: %v, %v", addrs, err)
	}
}

// A server with real sockets fetches the names of the list by itself, and has them
// on disk when it ends.
func TestServingFetchesAndKeepsNames(t *testing.T) {
	t.Parallel()
	u := upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) { says(t, q.Question[0].Name+" 60 IN A 192.0.2.1")(w, q) })
	path := names(t)
	s := New(Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Upstreams: []Upstream{{Addr: u}}, File: path},
		zaptecAnd(t), charger.NewBook(nil, nil), nil)
	s.settleFor = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	end := make(chan error, 1)
	go func() { end <- s.Serve(ctx) }()
	for tries := 0; s.memory.size() < len(policy.Zaptec()); tries++ {
		if tries > 1000 {
			t.Fatalf("%d names are known", s.memory.size())
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-end; err != nil {
		t.Error(err)
	}
	want := "api [192.0.2.1], devices [192.0.2.1], zapcloud-api [192.0.2.1], zapcloud [192.0.2.1]"
	if diff := cmp.Diff(want, content(t, path)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// The file is written when there is something new, and no oftener than an SD card
// likes. Each season lasts some days; the hub behaves in it as changes says at each
// minute, and everybody asks every minute.
func TestTheFileIsWrittenSeldom(t *testing.T) {
	t.Parallel()
	ttl := time.Minute
	tests := []struct {
		name        string
		hub         func(minute int) answer
		days        int
		least, most int // writes
	}{
		{"one address for ever", func(int) answer { return addresses(ttl, "192.0.2.1") }, 10, 1, 1},
		{"another TTL each time", func(m int) answer { return addresses(time.Duration(30+m%30)*time.Second, "192.0.2.1") }, 10, 1, 1},
		{"two addresses in turn first", func(m int) answer {
			return addresses(ttl, fmt.Sprintf("192.0.2.%d", 1+m%2), fmt.Sprintf("192.0.2.%d", 2-m%2))
		}, 10, 1, 1},
		{"two of five, one of them always the same", func(m int) answer { return addresses(ttl, fmt.Sprintf("192.0.2.%d", 2+m%4), "192.0.2.1") }, 10, 1, 1},
		{"one move in ten days", func(m int) answer { return addresses(ttl, fmt.Sprintf("192.0.2.%d", 1+m/(5*24*60))) }, 10, 2, 2},
		{"another address each minute", func(m int) answer { return addresses(ttl, fmt.Sprintf("192.0.%d.%d", m>>8&0xff, m&0xff)) }, 10, 40, 50},
		{"no address every other day", func(m int) answer {
			if m/(24*60)%2 == 1 {
				return answer{rcode: dns.RcodeNameError, ttl: time.Minute, soa: rrs(t, "net. 60 IN SOA a. b. 1 2 3 4 60")[0].(*dns.SOA)}
			}
			return addresses(ttl, "192.0.2.1")
		}, 10, 1, 1},
		{"no address any more, which is believed after three days", func(m int) answer {
			if m > 24*60 {
				return answer{rcode: dns.RcodeNameError, ttl: time.Minute, soa: rrs(t, "net. 60 IN SOA a. b. 1 2 3 4 60")[0].(*dns.SOA)}
			}
			return addresses(ttl, "192.0.2.1")
		}, 10, 2, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCloud(addresses(ttl, "192.0.2.99"))
				c.named[hub] = tt.hub(0)
				path := names(t)
				h := build(t, c, Config{File: path})
				stop := h.live()
				writes, shortest := 0, time.Hour*1000
				var last time.Time
				for m := range tt.days * 24 * 60 {
					c.set(func() { c.named[hub] = tt.hub(m) })
					h.hears(hub)
					time.Sleep(time.Minute)
					synctest.Wait()
					if k := h.keeper.last; k.After(last) {
						if !last.IsZero() {
							shortest = min(shortest, k.Sub(last))
						}
						writes, last = writes+1, k
					}
				}
				if writes < tt.least || writes > tt.most || shortest < keepEvery {
					t.Errorf("%d writes in %d days, want %d to %d; the closest %v apart", writes, tt.days, tt.least, tt.most, shortest)
				}
				stop()
				if lines := content(t, path); !strings.Contains(lines, "devices [192.0.2.99]") {
					t.Errorf("the file holds %s", lines)
				}
			})
		})
	}
}

// What is new is on disk in time: at once where there is no file, after ten minutes
// at most otherwise, and a new name of the list even while a hub keeps moving.
func TestWhatIsNewIsOnDiskInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := names(t)
		c := newCloud(addresses(time.Minute, "192.0.2.1"))
		h := build(t, c, Config{File: path}, ocpp)
		stop := h.live()
		expect := func(after time.Duration, want string) {
			t.Helper()
			for range int(after / time.Minute) {
				h.hears(hub)
				time.Sleep(time.Minute)
			}
			synctest.Wait()
			if diff := cmp.Diff(want, content(t, path)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		}
		expect(2*time.Minute, "api [192.0.2.1], devices [192.0.2.1], zapcloud-api [192.0.2.1], zapcloud [192.0.2.1]")
		c.set(func() { c.named[hub] = addresses(time.Minute, "192.0.2.2") })
		expect(5*time.Minute, "api [192.0.2.1], devices [192.0.2.1], zapcloud-api [192.0.2.1], zapcloud [192.0.2.1]")
		expect(6*time.Minute, "api [192.0.2.1], devices [192.0.2.1], zapcloud-api [192.0.2.1], zapcloud [192.0.2.2]")
		h.hears("cs.ocpp.example.com.")
		if err := h.list.Replace(append(policy.Zaptec(), ocpp, policy.Rule{Name: "own.example.com", Ports: []uint16{443}, Reason: "the site's"})); err != nil {
			t.Fatal(err)
		}
		expect(12*time.Minute, "api [192.0.2.1], devices [192.0.2.1], own [192.0.2.1], zapcloud-api [192.0.2.1], zapcloud [192.0.2.2], cs [192.0.2.1]")
		c.set(func() { c.named[hub] = addresses(time.Minute, "192.0.2.3") })
		expect(11*time.Minute, "api [192.0.2.1], devices [192.0.2.1], own [192.0.2.1], zapcloud-api [192.0.2.1], zapcloud [192.0.2.2], cs [192.0.2.1]")
		stop() // nobody knows how long
		if got := content(t, path); !strings.Contains(got, "zapcloud [192.0.2.3]") {
			t.Errorf("at the end: %s", got)
		}
		if diff := cmp.Diff(map[string]int{}, h.said()); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
	})
}

// A daemon that is started again and again does not write each time, though its
// hub moves each time.
func TestManyStartsWriteSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path, c := names(t), newCloud(answer{})
		before, changes := "", 0
		for i := range 200 {
			c.set(func() { c.usual = addresses(time.Minute, fmt.Sprintf("192.0.2.%d", i)) })
			stop := build(t, c, Config{File: path}).live()
			time.Sleep(2 * time.Minute)
			stop()
			if now := content(t, path); now != before {
				before, changes = now, changes+1
			}
		}
		if changes != 1 {
			t.Errorf("%d writes", changes)
		}
	})
}

func TestADiskThatCannotBeWrittenIsSaidOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		path := filepath.Join(dir, "names")
		h := build(t, newCloud(addresses(time.Minute, "192.0.2.1")), Config{File: path})
		defer h.live()()
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		if diff := cmp.Diff(map[string]int{"resolver-file-unwritten": 1}, h.said()); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(keepEvery + keepLook)
		synctest.Wait()
		if diff := cmp.Diff(map[string]int{"resolver-file-unwritten": 1, "resolver-file-written": 1}, h.said()); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
		if got := content(t, path); !strings.Contains(got, "zapcloud [192.0.2.1]") {
			t.Errorf("the file holds %s", got)
		}
	})
}

// Every state in which a power cut can leave the directory while the file is being
// replaced: the next start has the old answers or the new ones, and writes again.
func TestPowerCutWhileTheFileIsReplaced(t *testing.T) {
	t.Parallel()
	was, _ := encode(linesOf(hub + " 192.0.2.1"))
	next, _ := encode(linesOf(hub + " 192.0.2.2"))
	type state struct{ file, tmp []byte }
	states := []state{{was, nil}, {nil, nil}, {next, nil}, {was, make([]byte, 2*len(next))}}
	for n := 0; n <= len(next); n++ {
		states = append(states, state{was, next[:n]}, state{nil, next[:n]})
	}
	for i, s := range states {
		path := names(t)
		for name, data := range map[string][]byte{path: s.file, path + tmpSuffix: s.tmp} {
			if data == nil {
				continue
			}
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		k := newKeeper(path)
		lines, err := k.load()
		want := 1
		if s.file == nil {
			want = 0
		}
		if err != nil || len(lines) != want {
			t.Fatalf("state %d: %v, %v", i, lines, err)
		}
		if err := replaceFile(path, next); err != nil {
			t.Fatalf("state %d: %v", i, err)
		}
		if got := content(t, path); got != "zapcloud [192.0.2.2]" {
			t.Fatalf("state %d: afterwards %s", i, got)
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
			t.Fatalf("state %d: %v is left", i, entries)
		}
	}
}

func FuzzTheFileOfNames(f *testing.F) {
	good, _ := encode(append(linesOf(hub+" 192.0.2.1"), line{Name: api, Chain: []string{"a.", `b\..`}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.9")}}))
	_, body, _ := strings.Cut(string(good), "\n")
	f.Add(string(good), false)
	f.Add(body, true)
	f.Add(`{"name":"a.example.com.","chain":["a.example.com."],"addrs":["192.0.2.1"]}`, true)
	f.Add("chargegate-names 1 ffffffffffffffffffffff\n", false)
	own := usable([]netip.Prefix{netip.MustParsePrefix("10.83.0.1/24")})
	f.Fuzz(func(t *testing.T, text string, valid bool) {
		if valid { // behind a right head
			text = fmt.Sprintf("%s %d %08x\n%s", fileMagic, fileVersion, checksum([]byte(text)), text)
		}
		lines, err := decode([]byte(text))
		if err != nil {
			return
		}
		for _, l := range lines {
			a, err := l.answer(own)
			if err != nil {
				continue
			}
			if a.ttl < minTTL || len(a.addrs) == 0 || len(a.addrs) > maxAddrs || len(a.records) > maxChain+maxAddrs {
				t.Fatalf("%+v", a)
			}
			for _, addr := range a.addrs {
				if !own(addr) {
					t.Fatalf("address %s passed", addr)
				}
			}
			m := new(dns.Msg).SetQuestion(l.Name, dns.TypeA)
			found{answer: a, origin: fromStale}.write(m, l.Name, l.Name)
			if _, err := m.Pack(); err != nil {
				t.Fatalf("%q does not pack: %v", l, err)
			}
			data, written := encode([]line{lineOf(l.Name, a)})
			again, err := decode(data)
			if err != nil || len(again) != len(written) {
				t.Fatalf("written again: %v, %v", again, err)
			}
		}
	})
}
