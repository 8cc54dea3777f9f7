package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/policy"

	"golang.org/x/sys/unix"
)

// A garage is a house with many chargers, whose calls go to the API on the first
// listener and to the hub on the second.
type garage struct {
	*house
	api, hub string // where to call
	hellos   map[string][]byte
}

func chargerMAC(i int) charger.MAC {
	return charger.MAC{0x60, 0x15, 0x92, 0x42, byte(i >> 8), byte(i)}
}

func chargerAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}) }

// newGarage opens a room for n chargers of the inventory. Firmware's server is api,
// the hub echoes.
func newGarage(t *testing.T, n int, api func(*net.TCPConn), changes ...change) *garage {
	t.Helper()
	files, cloud := newBackend(t, "127.0.0.1:0", api), newBackend(t, "127.0.0.1:0", echo)
	changes = append([]change{func(c *Config, rules *[]policy.Rule) {
		c.Listen = append(c.Listen, netip.AddrPortFrom(home, 0))
		(*rules)[0].Ports = []uint16{443}
	}}, changes...)
	h := newHouse(t, 443, changes...)
	inv := charger.Inventory{p107: {MAC: p107, Name: "P1-07", Network: "P1"}}
	for i := range n {
		inv[chargerMAC(i)] = charger.Charger{MAC: chargerMAC(i), Name: fmt.Sprintf("P1-%d", 100+i), Network: "P1"}
	}
	h.book = charger.NewBook(inv, nil)
	h.Server.book = h.book
	for i := range n {
		h.book.Leased(chargerMAC(i), "P1", chargerAddr(i), true, time.Now())
	}
	really := func(to netip.AddrPort) netip.AddrPort {
		if to.Port() == policy.HubPort {
			return netip.AddrPortFrom(to.Addr(), cloud.port)
		}
		return netip.AddrPortFrom(to.Addr(), files.port)
	}
	h.dialler.connect = func(ctx context.Context, to netip.AddrPort, by time.Time) (*net.TCPConn, error) {
		return connect(ctx, really(to), by)
	}
	h.dialler.start = func(to netip.AddrPort) (int, error) { return start(really(to)) }
	g := &garage{house: h, hellos: map[string][]byte{apiName: helloTo(t, apiName), policy.Hub: helloTo(t, policy.Hub)}}
	h.original = func(fd int) (netip.AddrPort, error) {
		if cameIn(t, fd).String() == g.hub {
			return netip.AddrPortFrom(asked, policy.HubPort), nil
		}
		return netip.AddrPortFrom(asked, 443), nil
	}
	h.KeepAccounts(&ledgerOf{})
	if err := h.Listen(); err != nil {
		t.Fatal(err)
	}
	g.api, g.hub = h.Addrs()[0].String(), h.Addrs()[1].String()
	h.open()
	return g
}

// begin connects from an address and says a name.
func (g *garage) begin(from netip.Addr, to, name string) (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	conn, err := d.Dial("tcp4", to)
	if err != nil {
		return nil, err
	}
	g.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patient))
	if _, err := conn.Write(g.hellos[name]); err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// online opens the lasting conversation and has the hub answer.
func (g *garage) online(from netip.Addr) (*net.TCPConn, error) {
	conn, err := g.begin(from, g.hub, policy.Hub)
	if err != nil {
		return nil, err
	}
	_, err = io.ReadFull(conn, make([]byte, len(g.hellos[policy.Hub])))
	return conn, err
}

func ping(conn net.Conn) error {
	if _, err := conn.Write([]byte("ping")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 4))
	return err
}

// A firmware wave (F-7): forty chargers hold seven downloads each and fetch block
// after block, and each of them opens its conversation with the cloud. Nobody's is
// refused, nobody's waits for the end of a download, and everybody stays online.
func TestFirmwareWaveLeavesTheCloudAlone(t *testing.T) {
	const chargers, blocks = 40, 5
	released := make(chan struct{})
	block := make([]byte, 64<<10)
	g := newGarage(t, chargers, func(conn *net.TCPConn) {
		defer conn.Close()
		conn.Read(make([]byte, 16<<10)) // the hello
		conn.Write(block[:32<<10])
		<-released
		conn.Write(block[32<<10:])
	})
	var free sync.Once
	release := func() { free.Do(func() { close(released) }) }
	defer release()

	var held [chargers][]*net.TCPConn
	each(t, chargers, func(i int) error {
		for range g.cfg.PerCharger - 1 {
			conn, err := g.begin(chargerAddr(i), g.api, apiName)
			if err == nil {
				_, err = io.ReadFull(conn, make([]byte, 32<<10))
			}
			if err != nil {
				return err
			}
			held[i] = append(held[i], conn)
		}
		return nil
	})
	var lasting [chargers]*net.TCPConn
	began := time.Now()
	each(t, chargers, func(i int) (err error) {
		lasting[i], err = g.online(chargerAddr(i))
		return err
	})
	t.Logf("%d chargers are online %s after they called, beside %d downloads", chargers, time.Since(began).Round(time.Millisecond), chargers*(g.cfg.PerCharger-1))
	release()
	fetch := func(conn *net.TCPConn, want int64) error {
		defer conn.Close()
		if n, err := io.Copy(io.Discard, conn); err != nil || n != want {
			return fmt.Errorf("a download ended after %d bytes of %d: %w", n, want, err)
		}
		return nil
	}
	each(t, chargers, func(i int) error {
		for _, conn := range held[i] {
			if err := fetch(conn, 32<<10); err != nil {
				return err
			}
		}
		return nil
	})
	eventually(t, "the end of the downloads", func() bool { return g.places.open() == chargers })
	each(t, chargers, func(i int) error { // and now block after block, at full speed
		for range blocks {
			conn, err := g.begin(chargerAddr(i), g.api, apiName)
			if err != nil {
				return err
			}
			if err := ping(lasting[i]); err != nil {
				return fmt.Errorf("the cloud: %w", err)
			}
			if err := fetch(conn, int64(len(block))); err != nil {
				return err
			}
		}
		return ping(lasting[i])
	})
	for _, r := range []result{resultChargerLimit, resultHelloLimit, resultTotalLimit, resultStrangersLimit} {
		if n := g.counts.results[r].Load(); n != 0 {
			t.Errorf("%d calls ended as %s", n, resultNames[r])
		}
	}
}

// each runs something for every charger at once.
func each(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = f(i) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Sixty strangers who take all they can get leave every charger its places.
func TestStrangersCannotFillTheHouse(t *testing.T) {
	const strangers = 60
	g := newGarage(t, 20, echo, func(c *Config, _ *[]policy.Rule) { c.Total = 200 })
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 2, byte(i + 1)}) }
	for i := range strangers {
		g.book.Leased(charger.MAC{2, 0, 0, 0, 0, byte(i)}, "P1", at(i), true, time.Now())
	}
	for i := range strangers {
		for range g.cfg.PerCharger {
			conn, err := g.begin(at(i), g.api, apiName)
			if err == nil {
				_, err = io.ReadFull(conn, make([]byte, len(g.hellos[apiName])))
			}
			if err != nil && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
				t.Fatal(err)
			}
		}
	}
	if n := g.places.open(); n != 50 {
		t.Errorf("the strangers hold %d of 200 places, want a quarter", n)
	}
	each(t, 20, func(i int) error {
		for range 7 {
			if _, err := g.online(chargerAddr(i)); err != nil {
				return fmt.Errorf("a charger: %w", err)
			}
		}
		return nil
	})
	if want := "devices that are not in the inventory hold 50 of 200 places, as many as they may together"; !strings.Contains(g.says(event.EgressStrangersLimit).Message, want) {
		t.Errorf("said %q", g.says(event.EgressStrangersLimit).Message)
	}
	if n := g.said(event.EgressStrangersLimit); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// A charger that opens connections and stays silent is refused its own newest, and
// nobody else's; one with conversations may be as slow as it likes.
func TestSilentCalls(t *testing.T) {
	g := newGarage(t, 2, echo)
	one, other := chargerAddr(0), chargerAddr(1)
	silent := func(from netip.Addr) *net.TCPConn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
		conn, err := d.Dial("tcp4", g.api)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		deadline(t, conn)
		return conn.(*net.TCPConn)
	}
	var first *net.TCPConn
	for range maxHellos {
		if conn := silent(one); first == nil {
			first = conn
		}
	}
	eventually(t, "four that say nothing", func() bool { return g.places.open() == maxHellos })
	g.addr = g.api
	g.wantTurnedAway(one.String())
	if _, err := g.online(other); err != nil {
		t.Errorf("another charger: %v", err)
	}
	r := g.says(event.EgressHelloLimit)
	if want := "P1-07 has 4 conversations open in which it has not said yet what it wants; its newest was refused"; r.Message != want {
		t.Errorf("said %q", r.Message)
	}
	if _, err := first.Write(g.hellos[apiName]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(first, make([]byte, len(g.hellos[apiName]))); err != nil {
		t.Errorf("the first of the silent ones speaks at last: %v", err)
	}
	if _, err := g.online(one); err != nil {
		t.Errorf("and then there is a place again: %v", err)
	}
	if _, past := g.Conversations(chargerMAC(0), one); len(past) != 1 || past[0].Outcome != Refused ||
		past[0].Reason != "it had 4 calls open in which it had not said yet what it wants" {
		t.Errorf("its page says %+v", past)
	}
}

// The time for a hello is for all of it: a byte now and then does not win another
// ten seconds (slow loris).
func TestSlowHello(t *testing.T) {
	const limit = 300 * time.Millisecond
	g := newGarage(t, 1, echo, func(c *Config, _ *[]policy.Rule) { c.HelloTimeout = limit })
	conn, err := net.Dial("tcp4", g.api)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now()
	for _, b := range g.hellos[apiName] {
		if _, err = conn.Write([]byte{b}); err != nil {
			break
		}
		time.Sleep(limit / 20)
	}
	if err == nil {
		t.Fatalf("%d bytes in %s, and it is still listened to", len(g.hellos[apiName]), time.Since(began))
	}
	g.says(event.EgressHelloFailed)
	eventually(t, "free places", func() bool { return g.places.open() == 0 && g.places.listening == 0 })
}

// tells has the kernel's table of neighbours say whose an address is, of each given.
func (g *garage) tells(of map[netip.Addr]charger.MAC) {
	table := "IP address       HW type     Flags       HW address            Mask     Device\n"
	for addr, mac := range of {
		table += fmt.Sprintf("%s        0x1         0x2         %s     *        wlan0\n", addr, mac)
	}
	g.places.nearby.mu.Lock()
	defer g.places.nearby.mu.Unlock()
	g.places.nearby.read = func() ([]byte, error) { return []byte(table), nil }
}

var taken, taken2, elses = netip.MustParseAddr("127.0.3.3"), netip.MustParseAddr("127.0.3.4"), netip.MustParseAddr("127.0.3.5")

// A device with a lease that calls from another address as well has no more open than
// any other: the kernel seems to know whose packets they are.
func TestOneDeviceHasOneShare(t *testing.T) {
	g := newGarage(t, 1, echo)
	g.tells(map[netip.Addr]charger.MAC{taken: chargerMAC(0), elses: {2, 0, 0, 0, 0, 0x99}})
	leased := chargerAddr(0)
	for i := range g.cfg.PerCharger {
		from := leased
		if i < 2 {
			from = taken
		}
		if _, err := g.online(from); err != nil {
			t.Fatal(err)
		}
	}
	g.addr = g.api
	g.wantTurnedAway(taken.String())
	for range 2 { // what it has open elsewhere takes none of the places of its lease
		if _, err := g.online(leased); err != nil {
			t.Fatal(err)
		}
	}
	g.wantTurnedAway(leased.String())
	if _, err := g.online(elses); err != nil {
		t.Errorf("who holds no lease is kept out by it: %v", err)
	}
	if open, _ := g.Conversations(chargerMAC(0), leased); len(open) != g.cfg.PerCharger {
		t.Errorf("its page shows %d conversations", len(open))
	}
}

// A stranger without a lease calls, and sends an ARP request in the name of a charger
// before it ends the handshake: the kernel takes its address for that charger's. The
// charger loses no place by it, is not named, and pays for nothing.
func TestAnARPPacketChargesNobody(t *testing.T) {
	g := newGarage(t, 1, echo)
	accounts := &ledgerOf{}
	g.KeepAccounts(accounts)
	victim := chargerAddr(0)
	g.tells(map[netip.Addr]charger.MAC{taken: chargerMAC(0)})
	if sh := g.shareOf(taken); sh.leased() || g.named(sh, taken) {
		t.Errorf("it counts to %v", sh)
	}
	g.addr = g.api
	if _, err := g.online(taken); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := g.dial(taken.String()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "its calls", func() bool { return g.places.open() == 4 })
	for range 3 {
		g.wantTurnedAway(taken.String()) // it has half of the places of those without a lease
	}
	var silent []*net.TCPConn
	for range maxHellos { // and the charger all of its own
		conn, err := g.dial(victim.String())
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, conn)
	}
	eventually(t, "the charger's silent calls", func() bool { return g.places.open() == 8 })
	for _, conn := range silent {
		conn.Close()
	}
	eventually(t, "their end", func() bool { return g.places.open() == 4 })
	for range g.cfg.PerCharger {
		if _, err := g.online(victim); err != nil {
			t.Fatalf("the charger: %v", err)
		}
	}
	g.wantTurnedAway(taken.String()) // whoever it is
	g.says(event.EgressLeaselessLimit)
	if n := g.said(event.EgressHelloLimit) + g.said(event.EgressChargerLimit); n != 0 {
		t.Errorf("said %d times of the charger", n)
	}
	open, past := g.Conversations(chargerMAC(0), victim)
	if len(open) != g.cfg.PerCharger || len(past) != 1 || past[0].Count != maxHellos {
		t.Errorf("the charger's page shows %d conversations and %+v", len(open), past)
	}
	hello := int64(len(g.hellos[policy.Hub]))
	if e := accounts.of(charger.MAC{}, policy.Hub); e.sessions != 1 {
		t.Errorf("%+v are on nobody's account", e)
	}
	if e := accounts.of(chargerMAC(0), policy.Hub); e.sessions != g.cfg.PerCharger || e.up > int64(e.sessions)*hello {
		t.Errorf("%+v are on the charger's", e)
	}
}

// One device without a lease that stays silent leaves the others there places, also
// when it goes from one address to the next; every place comes back.
func TestOneDeviceWithoutALease(t *testing.T) {
	g := newGarage(t, 1, echo)
	mac := charger.MAC{2, 0, 0, 0, 0, 0x99}
	g.tells(map[netip.Addr]charger.MAC{taken: mac, taken2: mac})
	g.addr = g.api
	var silent []*net.TCPConn
	for i := range 4 {
		conn, err := g.dial([]netip.Addr{taken, taken2}[i%2].String())
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, conn)
	}
	eventually(t, "its calls", func() bool { return g.places.open() == 4 })
	for _, from := range []netip.Addr{taken, taken2} {
		g.wantTurnedAway(from.String())
	}
	for range 4 {
		if _, err := g.online(elses); err != nil {
			t.Fatalf("another one: %v", err)
		}
	}
	g.wantTurnedAway(elses.String()) // they have eight together
	for _, conn := range silent {
		conn.Close()
	}
	eventually(t, "free places", func() bool { return g.places.open() == 4 })
	if _, err := g.online(taken); err != nil {
		t.Error(err)
	}
	g.places.mu.Lock()
	defer g.places.mu.Unlock()
	if h := g.places.held[g.shareOf(taken).whole()]; h == nil || h.open != 5 || len(h.parts) != 2 || h.parts[taken] != 1 {
		t.Errorf("counted %+v", h)
	}
}

func TestNeighbourTable(t *testing.T) {
	t.Parallel()
	head := "IP address       HW type     Flags       HW address            Mask     Device\n"
	mac := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 7}
	addr := netip.MustParseAddr("10.83.0.9")
	for _, tt := range []struct {
		name, rows string
		want       bool
	}{
		{"one that answered", "10.83.0.9 0x1 0x2 60:15:92:41:00:07 * wlan0\n", true},
		{"without an end of line", "10.83.0.9 0x1 0x2 60:15:92:41:00:07 * wlan0", true},
		{"one that did not", "10.83.0.9 0x1 0x0 00:00:00:00:00:00 * wlan0\n", false},
		{"on two interfaces, of two devices", "10.83.0.9 0x1 0x2 60:15:92:41:00:07 * wlan0\n10.83.0.9 0x1 0x2 60:15:92:41:00:08 * wlan1\n", false},
		{"somebody else", "10.83.0.8 0x1 0x2 60:15:92:41:00:07 * wlan0\n", false},
		{"nonsense", "x\n10.83.0.9 0x1\n\n10.83.0.9 0x1 0x2 60:15 * wlan0\n", false},
	} {
		of := parseNeighbours([]byte(head + tt.rows))
		if got, ok := of[addr]; ok != tt.want || ok && got != mac {
			t.Errorf("%s: %v %t", tt.name, got, ok)
		}
	}
	reads := 0
	n := &neighbours{read: func() ([]byte, error) { reads++; return nil, os.ErrNotExist }}
	start := time.Now()
	for i := range 1000 {
		n.table(start.Add(time.Duration(i) * time.Millisecond))
	}
	if reads != 50 {
		t.Errorf("read %d times in a second", reads)
	}
}

// Nothing in the table makes it fall over, and it holds no more than its rows.
func FuzzNeighbours(f *testing.F) {
	f.Add([]byte("IP address\n10.83.0.9 0x1 0x2 60:15:92:41:00:07 * wlan0\n10.83.0.9 0x1 0x2 60:15:92:41:00:08 * wlan1\n"))
	f.Add([]byte("\n::1 0x1 0x2 00:00:00:00:00:00 * wlan0\n10.83.0.9%x 0x1 0x2 ff:ff:ff:ff:ff:ff * wlan0"))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, table []byte) {
		of := parseNeighbours(table)
		if rows := bytes.Count(table, []byte("\n")); len(of) > rows {
			t.Fatalf("%d devices in %d rows", len(of), rows)
		}
		for addr, mac := range of {
			if !addr.IsValid() || mac == (charger.MAC{}) {
				t.Fatalf("%s is %s", addr, mac)
			}
		}
		if _, rows, ok := bytes.Cut(table, []byte("\n")); ok { // twice is nobody else's
			again := parseNeighbours(append(append(table[:len(table):len(table)], '\n'), rows...))
			for addr, mac := range again {
				if of[addr] != mac {
					t.Fatalf("%s is %s once and %s twice", addr, of[addr], mac)
				}
			}
		}
	})
}

func TestPlacesFitTheDescriptors(t *testing.T) {
	t.Parallel()
	for descriptors, want := range map[uint64]int{0: 1, 16: 1, 256: 21, 1024: 128, 16384: 2688, 1 << 63: (1 << 24) / perConversation} {
		if got := affordable(descriptors); got != want {
			t.Errorf("%d descriptors are enough for %d conversations, want %d", descriptors, got, want)
		}
	}
	p := newPlaces(Config{PerCharger: 8, Total: 1 << 30})
	if p.total >= 1<<30 || p.strangers != p.total/4 {
		t.Errorf("%d in all, %d for strangers", p.total, p.strangers)
	}
}

// A process that may open too few files says so, and holds what it can.
func TestTooFewDescriptors(t *testing.T) {
	h := newHouse(t, 443, func(c *Config, _ *[]policy.Rule) { c.Total = 1 << 30 }).open()
	r := h.says(event.EgressFewPlaces)
	if r.Field("WANTED") != strconv.Itoa(1<<30) || r.Field("LIMIT") != strconv.Itoa(h.places.total) {
		t.Errorf("said %q", r.Message)
	}
}

// What strangers hold follows the inventory, and every place comes back.
func TestPlacesAreCountedByWhoHoldsThem(t *testing.T) {
	t.Parallel()
	p := &places{perShare: 8, hellos: 4, strangers: 5, total: 20, held: map[share]*holding{}}
	sh := func(i int) share { return share{mac: charger.MAC{2, 0, 0, 0, 0, byte(i)}} }
	for i := range 3 {
		if got := p.take(sh(1), false); got != placeTaken {
			t.Fatalf("place %d: %v", i, got)
		}
	}
	p.retake(sh(2), false)
	p.retake(sh(2), false)
	p.retake(sh(2), false) // more than strangers may have: it was there before
	if got := p.take(sh(3), false); got != strangersFull {
		t.Errorf("beside six places of strangers: %v", got)
	}
	if got := p.take(sh(2), true); got != placeTaken || p.strange != 3 { // it was entered in the inventory
		t.Errorf("%v, and strangers hold %d", got, p.strange)
	}
	if got := p.take(sh(3), false); got != placeTaken {
		t.Errorf("%v", got)
	}
	p.heard(sh(1))
	p.heard(sh(1))
	p.heard(sh(1))
	p.heard(sh(2))
	p.heard(sh(3))
	for i, n := range []int{1: 3, 2: 4, 3: 1} {
		for range n {
			p.give(sh(i))
		}
	}
	if p.sum != 0 || p.strange != 0 || p.listening != 0 || len(p.held) != 0 {
		t.Errorf("left over: %+v", p)
	}
}

// The unit hides /proc/sys from the daemon, and package net then takes 128 places: the
// kernel is asked for all there are once more.
func TestTheQueueGrowsToTheKernelsLimit(t *testing.T) {
	nl, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	raw, err := nl.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	places := func() (n int) {
		if cerr := raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil {
				t.Fatal(err)
			}
			n = int(info.Sacked)
		}); cerr != nil {
			t.Fatal(cerr)
		}
		return n
	}
	all := places() // here /proc/sys can be read
	if cerr := raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 1) }); cerr != nil || err != nil || places() != 1 {
		t.Fatalf("%d places: %v, %v", places(), cerr, err)
	}
	if err := longestQueue(nl.(*net.TCPListener)); err != nil || places() != all {
		t.Errorf("%d places, want %d: %v", places(), all, err)
	}
}

// The kernel keeps as many callers in the queue as it may for anybody: everybody at
// once after a power cut (F-1).
func TestBacklog(t *testing.T) {
	h := newHouse(t, 443).open()
	text, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	if err != nil {
		t.Skip(err)
	}
	want, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := h.listeners[0].file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		if got := int(info.Sacked); got != want || got < 128 { // of a listener, the room in its queue
			t.Errorf("room for %d callers, want %d", got, want)
		}
	}); err != nil {
		t.Fatal(err)
	}
}
