package dhcp

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

// numbered is a MAC that somebody made up.
func numbered(n int) charger.MAC {
	hw := charger.MAC{2}
	binary.BigEndian.PutUint32(hw[2:], uint32(n))
	return hw
}

// take does something if it is allowed.
func take(l *limit, hw charger.MAC, listed bool, now time.Time) bool {
	ok := l.allows(hw, listed, now)
	if ok {
		l.use(hw, listed, now)
	}
	return ok
}

func TestALimitAllowsAFewAtOnceAndThenOneInAWhile(t *testing.T) {
	t.Parallel()
	l := newLimit(3, time.Hour)
	for _, step := range []struct {
		at   time.Duration
		want bool
	}{
		{0, true}, {0, true}, {time.Second, true}, {time.Second, false}, {59 * time.Minute, false},
		{61 * time.Minute, true}, {61 * time.Minute, false},
		{24 * time.Hour, true}, {24 * time.Hour, true}, {24 * time.Hour, true}, {24 * time.Hour, false},
	} {
		if got := take(l, client, false, epoch.Add(step.at)); got != step.want {
			t.Errorf("after %s: allowed %v, want %v", step.at, got, step.want)
		}
	}
	if !take(l, other, false, epoch) {
		t.Error("somebody else has to bear it")
	}
}

func TestALimitIsBoundedAndNeverHurtsWhoIsListed(t *testing.T) {
	t.Parallel()
	l := newLimit(3, time.Hour)
	allowed := 0
	for n := range 3 * maxClients {
		if take(l, numbered(n), false, epoch) {
			allowed++
		}
	}
	if allowed != maxClients+3 || len(l.clients) != maxClients {
		t.Errorf("%d were allowed and %d are remembered, want %d and %d", allowed, len(l.clients), maxClients+3, maxClients)
	}
	for n := range 300 {
		hw := numbered(1<<20 + n)
		for i := range 4 {
			if got := take(l, hw, true, epoch.Add(time.Second)); got != (i < 3) {
				t.Fatalf("listed client %d, time %d: allowed %v", n, i+1, got)
			}
		}
	}
	if len(l.clients) != maxClients {
		t.Errorf("%d are remembered", len(l.clients))
	}
	if !take(l, numbered(1<<22), false, epoch.Add(2*time.Hour)) {
		t.Error("two hours later it is still full")
	}
	if len(l.clients) > 301 {
		t.Errorf("%d are still remembered", len(l.clients))
	}
}

func TestOneDeviceCannotTakeTheAddressesFromTheOthers(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} {
		d := aDesk(t)
		said := map[string]int{}
		for range 1000 {
			offer := ask(t, d, known, lwip(dhcpv4.MessageTypeDiscover, other)).reply
			if offer == nil {
				t.Fatalf("known %v: nothing is left after %v", known, said)
			}
			a := ask(t, d, known, lwip(dhcpv4.MessageTypeDecline, other, wants(offer.YourIPAddr.String())))
			said[a.kind.ID]++
			if a.kind == event.DeclineIgnored && (a.drop != declinesTooMany || a.ticket != 0) {
				t.Fatalf("known %v: %+v", known, a)
			}
		}
		if said[event.LeaseDeclined.ID] != maxDeclines || said[event.DeclineIgnored.ID] != 1000-maxDeclines {
			t.Errorf("known %v: %v", known, said)
		}
		if n := d.leases.Counts(epoch)[0].Quarantined; n != maxDeclines {
			t.Errorf("known %v: %d addresses are in quarantine", known, n)
		}
	}
}

// Many devices can, but a charger gets one that may be in use rather than none.
func TestWhenAllAddressesWereDeclinedAChargerStillGetsOne(t *testing.T) {
	t.Parallel()
	d := aDesk(t)
	size := d.leases.Counts(epoch)[0].Size
	d.nobodysDeclines = newLimit(size, time.Hour) // as if it had taken them hours
	for n := range size {
		offer := ask(t, d, true, lwip(dhcpv4.MessageTypeDiscover, numbered(n))).reply
		ask(t, d, true, lwip(dhcpv4.MessageTypeDecline, numbered(n), wants(offer.YourIPAddr.String())))
	}
	if n := d.leases.Counts(epoch)[0].Quarantined; n != size {
		t.Fatalf("%d of %d addresses are in quarantine", n, size)
	}
	offer := ask(t, d, true, lwip(dhcpv4.MessageTypeDiscover, client)).reply
	if offer == nil {
		t.Fatal("a charger was offered nothing")
	}
	if a := ask(t, d, true, lwip(dhcpv4.MessageTypeRequest, client, wants(offer.YourIPAddr.String()), toServer("10.83.0.1"))); a.kind != event.LeaseGranted {
		t.Errorf("it got %+v", look(a))
	}
}

func TestComingAndGoingCostsNoDisk(t *testing.T) {
	t.Parallel()
	d := aDesk(t)
	var before uint64
	for n := range 1000 {
		addr := ask(t, d, false, lwip(dhcpv4.MessageTypeDiscover, client)).reply.YourIPAddr.String()
		a := ask(t, d, false, lwip(dhcpv4.MessageTypeRequest, client, wants(addr), toServer("10.83.0.1")))
		if a.reply == nil || d.leases.Commit(a.ticket) != nil {
			t.Fatalf("time %d: %+v", n+1, look(a))
		}
		if n == 0 {
			before = d.leases.Stats().Syncs
		}
		if a := ask(t, d, false, lwip(dhcpv4.MessageTypeRelease, client, has(addr))); a.kind != event.LeaseReleased || a.ticket != 0 {
			t.Fatalf("time %d: %+v", n+1, look(a))
		}
	}
	if n := d.leases.Stats().Syncs - before; n > 0 {
		t.Errorf("%d syncs", n)
	}
}

// Devices that take each other's address again and again cost a write each
// time; they get only a few in a minute.
func TestNewBindingsAreFewForEachDevice(t *testing.T) {
	t.Parallel()
	d := aDesk(t)
	said := map[string]int{}
	join := func(hw charger.MAC) (addr string) {
		offer := ask(t, d, false, lwip(dhcpv4.MessageTypeDiscover, hw)).reply
		if offer == nil {
			t.Fatalf("%s was offered nothing", hw)
		}
		addr = offer.YourIPAddr.String()
		said[look(ask(t, d, false, lwip(dhcpv4.MessageTypeRequest, hw, wants(addr), toServer("10.83.0.1")))).Said]++
		return addr
	}
	for n := range lease.Strangers - 1 {
		join(numbered(n))
	}
	clear(said)
	for n := range 1000 {
		hw := []charger.MAC{client, other}[n%2]
		ask(t, d, false, lwip(dhcpv4.MessageTypeRelease, hw, has(join(hw))))
		d.leases.Forgo("P1", hw)
	}
	left := perAddress*lease.Strangers - (lease.Strangers - 1) // of what all strangers have together
	if granted, refused := said[event.LeaseGranted.ID], said[event.BindingsTooMany.ID]; granted != min(2*maxBindings, left) || refused < 100 {
		t.Errorf("said: %v", said)
	}
}

// A MAC is easily made up: whoever uses a new one for each message must neither
// wear out the disk nor keep a charger of the inventory from its address.
func TestMadeUpMACsShareWhatTheyMayCost(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{true, false} { // without an inventory, and with one
		d := aDesk(t)
		count := d.leases.Counts(epoch)[0]
		want := perAddress * count.StrangerSize
		if known {
			want = perAddress * count.Size
		}
		granted, declined := 0, 0
		for n := range 2000 {
			hw := numbered(n)
			offer := ask(t, d, known, lwip(dhcpv4.MessageTypeDiscover, hw)).reply
			if offer == nil {
				continue
			}
			addr := offer.YourIPAddr.String()
			if a := ask(t, d, known, lwip(dhcpv4.MessageTypeRequest, hw, wants(addr), toServer("10.83.0.1"))); a.kind == event.LeaseGranted {
				granted++
			}
			if a := ask(t, d, known, lwip(dhcpv4.MessageTypeDecline, hw, wants(addr))); a.kind == event.LeaseDeclined {
				declined++
			}
		}
		if granted == 0 || granted > want || declined == 0 || declined > maxNobodysDeclines {
			t.Errorf("known %v: %d bindings and %d DECLINEs, want at most %d and %d", known, granted, declined, want, maxNobodysDeclines)
		}
		if known {
			continue // there is no inventory to name anybody
		}
		q, drop := parse(lwip(dhcpv4.MessageTypeDiscover, client).ToBytes(), d.Network)
		q.known, q.listed = true, true
		offer := d.answer(q, epoch)
		if drop != fine || offer.reply == nil {
			t.Fatalf("known %v: a charger of the inventory is offered nothing", known)
		}
		q, _ = parse(lwip(dhcpv4.MessageTypeRequest, client, wants(offer.reply.YourIPAddr.String()), toServer("10.83.0.1")).ToBytes(), d.Network)
		q.known, q.listed = true, true
		if a := d.answer(q, epoch); a.kind != event.LeaseGranted {
			t.Errorf("known %v: a charger of the inventory got %+v", known, look(a))
		}
	}
}

func TestWhatADeviceHasAlreadyIsNotANewBinding(t *testing.T) {
	t.Parallel()
	d := aDesk(t)
	ask(t, d, true, lwip(dhcpv4.MessageTypeRequest, client, wants("10.83.0.20")))
	for range maxBindings {
		d.bindings.use(client, false, epoch)
		d.bindings.use(other, false, epoch)
	}
	if a := ask(t, d, true, lwip(dhcpv4.MessageTypeRequest, other, wants("10.83.0.21"))); a.kind != event.BindingsTooMany || a.drop != bindingsTooMany || a.reply != nil {
		t.Errorf("one binding too many: %+v", look(a))
	}
	for _, m := range []*dhcpv4.DHCPv4{
		lwip(dhcpv4.MessageTypeRequest, client, wants("10.83.0.20")),
		lwip(dhcpv4.MessageTypeRequest, client, has("10.83.0.20")),
		lwip(dhcpv4.MessageTypeRequest, client, wants("10.83.0.20"), toServer("10.83.0.1")),
	} {
		if a := ask(t, d, true, m); a.learn != leased {
			t.Errorf("what it has already: %+v", look(a))
		}
	}
}

// A charger that starts again every few seconds, and repeats itself as often as
// the firmware does (F-2), never waits.
func TestAChargerThatStartsAgainAndAgainIsNotHurt(t *testing.T) {
	t.Parallel()
	d := aDesk(t)
	now := epoch
	for n := range 1000 {
		for _, m := range []*dhcpv4.DHCPv4{
			lwip(dhcpv4.MessageTypeRequest, client, wants("192.168.4.2")), // what it remembers of another network
			lwip(dhcpv4.MessageTypeDiscover, client),
			lwip(dhcpv4.MessageTypeDiscover, client),
			lwip(dhcpv4.MessageTypeRequest, client, wants("10.83.0.20"), toServer("10.83.0.1")),
			lwip(dhcpv4.MessageTypeRequest, client, wants("10.83.0.20"), toServer("10.83.0.1")),
		} {
			if m.MessageType() == dhcpv4.MessageTypeRequest && n == 0 && m.ServerIdentifier() != nil {
				d.leases.Offer("P1", client, ip("10.83.0.20"), true, now)
			}
			q, _ := parse(m.ToBytes(), d.Network)
			q.known = true
			if a := d.answer(q, now); a.reply == nil {
				t.Fatalf("start %d: no answer to %s: %+v", n+1, m.MessageType(), look(a))
			}
			now = now.Add(500 * time.Millisecond)
		}
	}
}
