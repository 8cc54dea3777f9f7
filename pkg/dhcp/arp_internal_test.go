package dhcp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/bpf"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

const arpReply = 2

var thief = charger.MAC{2, 'e', 'v', 'i', 'l', '!'}

// arp is a frame of mac in which it says that addr is its own.
func arp(mac charger.MAC, addr string, operation uint16) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, operation)
	b = append(b, mac[:]...)
	b = append(b, ip(addr).AsSlice()...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	b = append(b, ip(addr).AsSlice()...)
	return slices.Concat(slices.Repeat([]byte{0xff}, 6), mac[:], []byte{8, 6}, b, make([]byte, 18)) // padded to 60 bytes
}

// An office is a server with one network whose frames are handed to it.
type office struct {
	*Server
	*link
	log  *event.Log
	addr string // that the client has; other has the lease of none
}

func newOffice(t testing.TB) *office {
	t.Helper()
	d := aDesk(t)
	o := &office{log: event.New(event.Options{Level: event.Debug, Keep: 5000})}
	book := charger.NewBook(charger.Inventory{client: {MAC: client, Name: "P1-07", Network: "P1"}}, nil)
	o.log.SetWho(func(mac [6]byte, _ netip.Addr) event.Subject {
		if mac == client {
			return event.Subject{Charger: "P1-07"}
		}
		return event.Subject{}
	})
	o.Server = New(Config{Networks: []Network{{Name: "P1", Interface: "wlan0", Gateway: gateway}}, Lease: time.Hour}, d.leases, book, o.log)
	o.link = o.links[0]
	o.addr = o.lease(t, client).String()
	return o
}

// lease gives a charger its address.
func (o *office) lease(t testing.TB, hw charger.MAC) netip.Addr {
	t.Helper()
	now := time.Now()
	addr, err := o.Server.leases.Offer("P1", hw, netip.Addr{}, true, now)
	if err == nil {
		_, err = o.Server.leases.Grant(lease.Claim{Network: "P1", HW: hw, Known: true, Term: time.Hour}, addr, now)
	}
	if err != nil {
		t.Fatal(err)
	}
	o.book.Leased(hw, "P1", addr, true, now)
	return addr
}

// messages is what was said, oldest first.
func (o *office) messages() (got []string) {
	for _, r := range o.log.Recent(0, "") {
		got = append(got, r.Kind.Level.String()+" "+r.Message)
	}
	return got
}

func TestClaims(t *testing.T) {
	t.Parallel()
	mine := newOffice(t).addr // the same in every office
	free := ip(mine).Next().String()
	forged := arp(client, mine, arpReply) // the frame is the thief's, the message says P1-07
	copy(forged[6:], thief[:])
	hidden := arp(thief, mine, arpReply) // the other way round
	copy(hidden[6:], client[:])
	double := arp(other, free, arpReply) // of an address that is nobody's
	copy(double[6:], thief[:])
	taken := "warning 02:65:76:69:6c:21 claims P1-07's address " + mine
	for _, tt := range []struct {
		name  string
		frame []byte
		means meaning
		inUse int // of those that somebody was seen with, who does not have them
		want  []string
	}{
		{"a device announces an address that is leased to another", arp(thief, mine, arpRequest), ofAnother, 1, []string{taken}},
		{"a reply says so", arp(thief, mine, arpReply), ofAnother, 1, []string{taken}},
		{"in the other's name", forged, ofAnother, 0, []string{taken}},
		{"behind the other's frame", hidden, ofAnother, 0, []string{taken}},
		{"the gateway's own address", arp(thief, "10.83.0.1", arpReply), ofGateway, 0, []string{"error 02:65:76:69:6c:21 claims the gateway's own address 10.83.0.1 in P1"}},
		{"the gateway's own address, by a charger", arp(client, "10.83.0.1", arpRequest), ofGateway, 0, []string{"error P1-07 claims the gateway's own address 10.83.0.1 in P1"}},
		{"its own address", arp(client, mine, arpRequest), ofOwner, 0, nil},
		{"an address that nobody has from here", arp(thief, free, arpReply), ofStranger, 1,
			[]string{"warning P1: " + free + " is used by 02:65:76:69:6c:21, who does not have it from here; it is given to nobody"}},
		{"an address that nobody has from here, by a charger", arp(client, free, arpReply), ofStranger, 1,
			[]string{"info P1: P1-07 still has " + free + ", which this box did not know of; it is kept for it"}},
		{"an address that nobody has, in another's name", double, ofElsewhere, 0, nil},
		{"an address of another network", arp(thief, "192.168.1.4", arpReply), ofElsewhere, 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newOffice(t)
			for range 3 { // said once
				o.heardARP(tt.frame, time.Now())
			}
			if diff := cmp.Diff(tt.want, o.messages()); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
			if n := o.claims[tt.means].Load(); n != 3 {
				t.Errorf("counted %d of %s", n, meaningNames[tt.means])
			}
			for n := range tt.frame { // cut anywhere
				o.heardARP(tt.frame[:n], time.Now())
			}
			if o.panics.Load() != 0 {
				t.Error("it panicked")
			}
			if used := o.Server.leases.Counts(time.Now())[0].InUse; used != tt.inUse {
				t.Errorf("%d addresses are out of use, want %d", used, tt.inUse)
			}
		})
	}
}

// What a charger says of its own address is a sign of life, and what others say
// of it is none.
func TestClaimsAreSignsOfLife(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	lastSeen := func() time.Time { return o.book.All(time.Now())[0].LastSeen }
	start := lastSeen()
	o.heardARP(arp(thief, o.addr, arpReply), start.Add(time.Minute))
	if got := lastSeen(); !got.Equal(start) {
		t.Errorf("seen %s after a claim of another", got.Sub(start))
	}
	o.heardARP(arp(client, o.addr, arpRequest), start.Add(2*time.Minute))
	if got := lastSeen(); !got.Equal(start.Add(2 * time.Minute)) {
		t.Errorf("seen %s after its own", got.Sub(start))
	}
}

// A charger whose address this box has forgotten is known again by what it says.
// It takes nobody's, and what it is given instead counts more.
func TestAClaimOfAForgottenAddressTellsTheBook(t *testing.T) {
	t.Parallel()
	second := charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 0x28}
	o := newOffice(t)
	free := ip(o.addr).Next()
	o.book.Replace(charger.Inventory{client: {MAC: client, Name: "P1-07", Network: "P1"}, second: {MAC: second, Name: "P1-08", Network: "P1"}, other: {MAC: other, Name: "P2-01", Network: "P2"}})
	now := time.Now()
	for _, tt := range []struct {
		name  string
		frame []byte
		free  string // who is entered with the free address
	}{
		{"a stranger's word", arp(thief, free.String(), arpReply), ""},
		{"a charger's of another network", arp(other, free.String(), arpReply), ""},
		{"somebody else in its name", func() []byte { f := arp(second, free.String(), arpReply); copy(f[6:], thief[:]); return f }(), ""},
		{"its own, of another's address", arp(second, o.addr, arpReply), ""},
		{"its own", arp(second, free.String(), arpReply), "P1-08"},
		{"another charger's, of the same", arp(client, free.String(), arpReply), "P1-08"},
	} {
		o.heardARP(tt.frame, now)
		if got := o.book.NameAt(free); got != tt.free || o.book.NameAt(ip(o.addr)) != "P1-07" {
			t.Errorf("%s: %q has %s, %q has %s", tt.name, got, free, o.book.NameAt(ip(o.addr)), o.addr)
		}
	}
	if s := o.book.All(now)[1]; s.Name != "P1-08" || !s.Remembered || !s.LastSeen.Equal(now) {
		t.Errorf("the charger is known as %+v", s)
	}
	if addr := o.lease(t, second); o.book.NameAt(addr) != "P1-08" || o.book.All(now)[1].Remembered {
		t.Errorf("after its lease of %s: %+v", addr, o.book.All(now)[1])
	}
}

// An access point with proxy ARP answers for every address. It takes a few out
// of use and no more, and is named.
func TestProxyARPIsNamedAndBelievedOnlyInPart(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for addr := ip("10.83.0.2"); addr != ip("10.83.0.63"); addr = addr.Next() {
		if addr.String() != o.addr {
			o.heardARP(arp(thief, addr.String(), arpReply), time.Now())
		}
	}
	doubted := 0
	for _, r := range o.log.Recent(0, "") {
		if r.Kind == event.ProxyARP {
			doubted++
		}
	}
	c := o.Server.leases.Counts(time.Now())[0]
	if doubted != 1 || o.claims[ofMany].Load() == 0 || c.InUse == 0 || c.InUse > 4 {
		t.Errorf("said %d times, %d claims doubted, %d addresses out of use", doubted, o.claims[ofMany].Load(), c.InUse)
	}
	if _, err := o.Server.leases.Offer("P1", other, netip.Addr{}, true, time.Now()); err != nil {
		t.Errorf("a charger gets no address: %v", err)
	}
}

// A device that claims whatever there is makes a few lines and not thousands,
// nor do made-up senders; and addresses in use do not hide a claim.
func TestClaimsAreBounded(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	said := func() int { return len(o.log.Recent(0, "")) }
	for i := range 5000 {
		mac := charger.MAC{6, 0, 0, 0, byte(i >> 8), byte(i)}
		o.heardARP(arp(mac, "10.83.0.1", arpReply), time.Now())
		o.heardARP(arp(mac, fmt.Sprintf("10.83.0.%d", 2+i%60), arpReply), time.Now())
	}
	if n := said(); n > o.accusing.all+o.doubting.all+61 {
		t.Errorf("%d lines", n)
	}
	later := time.Now().Add(time.Hour)
	before := said()
	o.heardARP(arp(thief, "10.83.0.1", arpReply), later)
	if said() != before+1 {
		t.Error("an hour later it is not said")
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	q := quota{each: 2, all: 3}
	a, b, now := charger.MAC{2}, charger.MAC{4}, epoch
	for _, step := range []struct {
		who   charger.MAC
		addr  string
		after time.Duration
		want  bool
	}{
		{a, "10.0.0.1", 0, true},
		{a, "10.0.0.1", 0, true}, // the same again
		{a, "10.0.0.2", 0, true},
		{a, "10.0.0.3", 0, false}, // its third
		{b, "10.0.0.3", 0, true},
		{b, "10.0.0.4", 0, false}, // everybody's fourth
		{a, "10.0.0.1", 59 * time.Minute, true},
		{b, "10.0.0.4", time.Minute, true}, // a new hour
	} {
		now = now.Add(step.after)
		if got := q.take(matter{step.who, ip(step.addr)}, now); got != step.want {
			t.Errorf("%s %s: %t", step.who, step.addr, got)
		}
	}
}

// The filter passes every claim and no other ARP.
func TestFilterOfClaims(t *testing.T) {
	t.Parallel()
	vm := arpMachine(t)
	for name, tt := range map[string]struct {
		frame []byte
		want  bool
	}{
		"a claim":                {arp(thief, "10.83.0.9", arpReply), true},
		"of the gateway's":       {arp(thief, "10.83.0.1", arpRequest), true},
		"not padded":             {arp(thief, "10.83.0.9", arpReply)[:arpEnd], true},
		"cut off":                {arp(thief, "10.83.0.9", arpReply)[:arpEnd-1], false},
		"a probe":                {arp(client, "0.0.0.0", arpRequest), false},
		"our own question":       {question(client, ip("10.83.0.9")), false},
		"another kind of length": {func() []byte { f := arp(thief, "10.83.0.9", arpReply); f[etherHeader+4] = 8; return f }(), false},
		"another protocol":       {func() []byte { f := arp(thief, "10.83.0.9", arpReply); f[12], f[13] = 8, 0; return f }(), false},
	} {
		if got := passes(t, vm, tt.frame); got != tt.want {
			t.Errorf("%s: passes %t", name, got)
		}
		if _, ok := parseClaim(tt.frame); ok != tt.want {
			t.Errorf("%s: is a claim: %t", name, ok)
		}
	}
	nobodys := arp(charger.MAC{3}, "10.83.0.9", arpReply) // a group's
	if _, ok := parseClaim(nobodys); ok {
		t.Error("a group claims an address")
	}
}

// arpMachine runs the filter, but for its look at where the frame came from,
// which only the kernel knows.
func arpMachine(t testing.TB) *bpf.VM {
	t.Helper()
	all := claims()
	if _, err := bpf.Assemble(all); err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(all[2:])
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func passes(t testing.TB, vm *bpf.VM, frame []byte) bool {
	t.Helper()
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

// The question is what RFC 5227, 2.1.1, calls a probe.
func TestQuestion(t *testing.T) {
	t.Parallel()
	want := "ffffffffffff" + "601592410007" + "0806" + "0001080006040001" + "601592410007" + "00000000" + "000000000000" + "0a530009"
	got := fmt.Sprintf("%x", question(client, ip("10.83.0.9")))
	if len(got) != 2*60 || got[:2*arpEnd] != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The filter and the reader agree about every frame that a device can send.
func FuzzClaim(f *testing.F) {
	f.Add(arp(client, "10.83.0.9", arpReply))
	f.Add(arp(thief, "10.83.0.1", arpRequest)[:arpEnd-1])
	f.Add(question(client, ip("10.83.0.9")))
	vm := arpMachine(f)
	f.Fuzz(func(t *testing.T, frame []byte) {
		c, ok := parseClaim(frame)
		if ok && (!passes(t, vm, frame) || !c.addr.Is4()) {
			t.Fatalf("the filter misses a claim of %s", c.addr)
		}
		if !ok && passes(t, vm, frame) && frame[6]&1 == 0 && !bytes.Equal(frame[6:12], make([]byte, 6)) {
			t.Fatal("the filter passes what claims nothing")
		}
	})
}
