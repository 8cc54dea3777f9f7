package garage

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"chargegate/pkg/sim"
)

// theatre is the domain of the puppets.
const theatre = "theatre.example.org"

// TestFaultyWires tells what chargers notice when servers, wires and addresses
// fail under their conversations: a reset at once, wherever it can be known
// (F-5).
func TestFaultyWires(t *testing.T) {
	t.Parallel() // it waits most of the time
	habits := sim.Brisk()
	habits.KeepAlive = 300 * time.Second // so that it is not the charger that notices
	habits.Pulse = 3 * time.Second       // it speaks that often
	o := sim.Options{
		Networks: []sim.Network{{Name: "P1", Chargers: 3}},
		Habits:   habits, LogLevel: "debug",
		Allow:    []string{"*." + theatre},
		NameRate: 1000,
	}
	apart(t, o, func(t *testing.T) {
		garage.PowerOn()
		if err := garage.WaitOnline(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
		for _, part := range []struct {
			name string
			test func(*testing.T)
		}{
			{"somebody resets", resets},
			{"a reset that a charger does not hear", lostReset},
			{"a black hole that heals in time", healingHoles},
			{"a server that has forgotten everything", forgetfulServer},
			{"the hub's machine starts anew", hubStartsAnew},
			{"a charger that has forgotten everything", forgetfulCharger},
			{"a server that moves", movingServer},
			{"a dead address", deadAddress},
			{"the uplink is down", uplinkDown},
			{"a narrow uplink", narrowUplink},
			{"the uplink has another address", renumbered},
		} {
			t.Run(part.name, func(t *testing.T) {
				began := time.Now()
				part.test(t)
				t.Logf("%s", time.Since(began).Round(100*time.Millisecond))
			})
			unharmed(t)
		}
	})
}

// puppet opens a server at one of the puppets' addresses, under a name of its
// own.
func puppet(t *testing.T, at int, name string) *sim.Puppet {
	t.Helper()
	addr := netip.AddrPortFrom(netip.MustParseAddr(sim.PuppetAddrs[at]), 443)
	p, err := garage.Cloud.Puppet(addr, name+"."+theatre)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// A talk is one conversation of a charger with a puppet, seen from both ends.
type talk struct {
	charger *sim.Charger
	name    string
	near    *tls.Conn // the charger's
	far     *tls.Conn // the server's
}

// raw are the connections below TLS.
func (c talk) raw() (near, far *net.TCPConn) {
	return c.near.NetConn().(*net.TCPConn), c.far.NetConn().(*net.TCPConn)
}

// converse opens a conversation of a charger with a puppet.
func converse(t *testing.T, c *sim.Charger, p *sim.Puppet, name string) talk {
	t.Helper()
	k, err := tryConverse(within(t, 20*time.Second), c, p, name)
	if err != nil {
		t.Fatalf("%s calls %s: %v", c.Name, name, err)
	}
	t.Cleanup(func() { k.near.NetConn().Close(); k.far.NetConn().Close() })
	return k
}

func tryConverse(ctx context.Context, c *sim.Charger, p *sim.Puppet, name string) (talk, error) {
	k := talk{charger: c, name: name + "." + theatre}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	wg.Go(func() {
		conn, err := p.Take(ctx)
		if err == nil {
			k.far = tls.Server(conn, p.TLS)
			err = k.far.HandshakeContext(ctx)
		}
		served <- err
	})
	var err error
	if k.near, err = c.Call(ctx, k.name, 443); err != nil {
		return k, err
	}
	return k, <-served
}

// breaks wants a read to fail with a reset, and returns when it did.
func breaks(t *testing.T, conn net.Conn, most time.Duration) time.Time {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(most))
	_, err := io.Copy(io.Discard, conn)
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the conversation ended with %v, want a reset within %s", err, most)
	}
	return time.Now()
}

// ended waits until the daemon has said why the conversation ended.
func (c talk) ended(t *testing.T, n int, reason string) {
	t.Helper()
	if e := saidSince(t, n, c.charger.Name, "egress-ended", c.name); !strings.Contains(e.Message, reason) {
		t.Errorf("said %q, want %q", e.Message, reason)
	}
}

// passes wants both ends to hear each other.
func (c talk) passes(t *testing.T, most time.Duration) {
	t.Helper()
	for _, way := range []struct{ from, to *tls.Conn }{{c.near, c.far}, {c.far, c.near}} {
		way.to.SetReadDeadline(time.Now().Add(most))
		got := make([]byte, 5)
		if _, err := way.from.Write([]byte("hello")); err != nil {
			t.Fatalf("%s with %s: %v", c.charger.Name, c.name, err)
		}
		if _, err := io.ReadFull(way.to, got); err != nil {
			t.Fatalf("%s with %s: %v", c.charger.Name, c.name, err)
		}
		way.to.SetReadDeadline(time.Time{})
	}
}

// soonest is the bound for what takes no time but the machine's own.
const soonest = time.Second

// resets lets either side reset a conversation at different moments. The other
// side has it at once, as a reset.
func resets(t *testing.T) {
	c, p := garage.Chargers[0], puppet(t, 0, "resets")
	t.Run("the server, instead of an answer to the hello", func(t *testing.T) {
		n := len(garage.Gateway.Events())
		reset := make(chan time.Time, 1)
		go func() {
			defer close(reset)
			conn, err := p.Take(t.Context())
			if err == nil {
				conn.Read(make([]byte, 16<<10))
				reset <- time.Now()
				sim.Reset(conn)
			}
		}()
		_, err := c.Call(within(t, 10*time.Second), "resets."+theatre, 443)
		if took := time.Since(<-reset); !errors.Is(err, unix.ECONNRESET) || took > soonest {
			t.Errorf("%v after %s, want a reset within %s", err, took, soonest)
		} else {
			t.Logf("the charger had it after %s", took.Round(10*time.Microsecond))
		}
		talk{charger: c, name: "resets." + theatre}.ended(t, n, "the server reset it")
	})
	for _, when := range []struct {
		what, reason string
		end          func(k talk) (listener net.Conn, at func() time.Time)
	}{
		{"the server, while nothing is said", "the server reset it", func(k talk) (net.Conn, func() time.Time) {
			_, far := k.raw()
			at := time.Now()
			sim.Reset(far)
			return k.near, func() time.Time { return at }
		}},
		{"the charger, while nothing is said", "the charger reset it", func(k talk) (net.Conn, func() time.Time) {
			near, _ := k.raw()
			at := time.Now()
			sim.Reset(near)
			return k.far, func() time.Time { return at }
		}},
		{"the server, in the middle of a download", "the server reset it", func(k talk) (net.Conn, func() time.Time) {
			_, far := k.raw()
			return k.near, inTheMiddle(k.far, far)
		}},
		{"the charger, in the middle of an upload", "the charger reset it", func(k talk) (net.Conn, func() time.Time) {
			near, _ := k.raw()
			return k.far, inTheMiddle(k.near, near)
		}},
	} {
		t.Run(when.what, func(t *testing.T) {
			n := len(garage.Gateway.Events())
			k := converse(t, c, p, "resets")
			listener, at := when.end(k)
			heard := breaks(t, listener, 10*time.Second)
			took := heard.Sub(at())
			if took > soonest {
				t.Errorf("the other side had it after %s, want %s", took, soonest)
			}
			t.Logf("the other side had it after %s", took.Round(10*time.Microsecond))
			k.ended(t, n, when.reason)
		})
	}
}

// lostReset resets a conversation while the charger cannot be heard nor hear. It
// learns when it speaks the next time, whatever the firewall still remembers.
func lostReset(t *testing.T) {
	c, p := garage.Chargers[2], puppet(t, 1, "unheard")
	n := len(garage.Gateway.Events())
	k := converse(t, c, p, "unheard")
	heal := lose(t, garage.Site(), fmt.Sprintf("iifname %q", c.Wire()))
	_, far := k.raw()
	sim.Reset(far)
	k.ended(t, n, "the server reset it")
	heal()
	at := time.Now()
	if _, err := k.near.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if took := breaks(t, k.near, 10*time.Second).Sub(at); took > soonest {
		t.Errorf("after %s, want %s", took, soonest)
	} else {
		t.Logf("the charger had the reset %s after it had spoken", took.Round(10*time.Microsecond))
	}
}

// inTheMiddle sends 4 MiB and then, with more on the way, resets. The function
// returned says when that was.
func inTheMiddle(from *tls.Conn, raw *net.TCPConn) func() time.Time {
	done := make(chan time.Time, 1)
	go func() {
		block := make([]byte, 64<<10)
		for range 64 {
			if _, err := from.Write(block); err != nil {
				break
			}
		}
		at := time.Now()
		sim.Reset(raw)
		done <- at
	}()
	return func() time.Time { return <-done }
}

// lose makes packets vanish until the function returned is called, which wants
// that there were some.
func lose(t *testing.T, where *sim.Space, match string) (heal func()) {
	t.Helper()
	end, err := where.Lose(within(t, 10*time.Second), match)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if n, err := end(context.WithoutCancel(t.Context())); err != nil || n == 0 {
			t.Errorf("%d packets of %q were lost, %v; want some", n, match, err)
		}
	}
}

// hole takes away what a puppet's server hears, what it says, or both.
func hole(t *testing.T, at int, heard, said bool) (heal func()) {
	t.Helper()
	var heals []func()
	if heard {
		heals = append(heals, lose(t, garage.Cloud.Space, "ip daddr "+sim.PuppetAddrs[at]))
	}
	if said {
		heals = append(heals, lose(t, garage.Gateway.Space, `iifname "eth0" ip saddr `+sim.PuppetAddrs[at]))
	}
	return func() {
		t.Helper()
		for _, h := range heals {
			h()
		}
	}
}

// swap sends random bytes both ways at once and wants all of them to arrive.
func swap(k talk, size int) error {
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i, way := range []struct{ from, to *tls.Conn }{{k.near, k.far}, {k.far, k.near}} {
		data := make([]byte, size)
		rand.Read(data)
		wg.Go(func() { _, errs[2*i] = way.from.Write(data) })
		wg.Go(func() {
			sum := sha256.New()
			way.to.SetReadDeadline(time.Now().Add(30 * time.Second))
			_, err := io.CopyN(sum, way.to, int64(size))
			if want := sha256.Sum256(data); err == nil && !bytes.Equal(sum.Sum(nil), want[:]) {
				err = errors.New("other bytes arrived than were sent")
			}
			errs[2*i+1] = err
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// healingHoles swallow the packets of conversations for some seconds, in one
// direction and in both, with bytes on the way and without. Nobody notices more
// than the pause.
func healingHoles(t *testing.T) {
	c := garage.Chargers[0]
	n := len(garage.Gateway.Events())
	type holed struct {
		what        string
		at          int
		heard, said bool
		talk        talk
		quiet       talk
	}
	cases := []*holed{
		{what: "up", at: 1, heard: true}, {what: "down", at: 2, said: true}, {what: "both", at: 3, heard: true, said: true},
	}
	var heals []func()
	for _, h := range cases {
		p := puppet(t, h.at, "hole-"+h.what)
		h.talk, h.quiet = converse(t, c, p, "hole-"+h.what), converse(t, c, p, "hole-"+h.what)
		heals = append(heals, hole(t, h.at, h.heard, h.said))
	}
	var wg sync.WaitGroup
	var took [3]time.Duration
	began := time.Now()
	for i, h := range cases {
		wg.Go(func() {
			if err := swap(h.talk, 1<<20); err != nil {
				t.Errorf("%s: %v", h.what, err)
			}
			took[i] = time.Since(began)
		})
	}
	time.Sleep(3 * time.Second)
	for _, heal := range heals {
		heal()
	}
	wg.Wait()
	for i, h := range cases {
		h.quiet.passes(t, 10*time.Second)
		t.Logf("nothing passes %s for 3 s: 1 MiB each way arrived, whole, %s after the hole had healed", h.what, (took[i] - 3*time.Second).Round(10*time.Millisecond))
	}
	never(t, n, c.Name, "egress-ended")
}

// forgetfulServer loses its memory while it cannot be heard. Nobody can know
// until somebody speaks; then it is a reset.
func forgetfulServer(t *testing.T) {
	c, p := garage.Chargers[0], puppet(t, 0, "amnesia")
	n := len(garage.Gateway.Events())
	k := converse(t, c, p, "amnesia")
	_, far := k.raw()
	if err := sim.Forget(far); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	if _, err := k.near.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if took := breaks(t, k.near, 10*time.Second).Sub(at); took > soonest {
		t.Errorf("after %s, want %s", took, soonest)
	} else {
		t.Logf("the charger had the reset %s after it had spoken", took.Round(10*time.Microsecond))
	}
	k.ended(t, n, "the server reset it")
}

// hubStartsAnew lets the hub die unheard. Its machine is back before its service:
// every charger is told when it speaks the next time, calls again in vain, and is
// back when the service is. The outage is said once, though all of them call.
func hubStartsAnew(t *testing.T) {
	n := len(garage.Gateway.Events())
	heal := lose(t, garage.Gateway.Space, `iifname "eth0" ip saddr `+sim.HubAddr)
	garage.Cloud.Broker.Kill()
	time.Sleep(500 * time.Millisecond) // what it has to say at its end is lost
	heal()
	up := time.Now()
	eventually(t, 15*time.Second, "every charger has lost the hub", func() (bool, string) {
		for _, v := range garage.Views() {
			if v.Stage == sim.OK {
				return false, v.Name
			}
		}
		return true, ""
	})
	lost := time.Since(up)
	eventually(t, 15*time.Second, "the outage is said", func() (bool, string) {
		return count(n, "egress-hub-unreachable", sim.Hub) > 0, ""
	})
	time.Sleep(2 * time.Second) // some more calls in vain
	if err := garage.Cloud.StartHub(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	up = time.Now()
	if err := garage.WaitOnline(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Logf("every charger, which speaks every 3 s, had lost the hub %s after its machine was back, and was online %s after its service was",
		lost.Round(10*time.Millisecond), time.Since(up).Round(10*time.Millisecond))
	for _, id := range []string{"egress-hub-unreachable", "egress-restored"} {
		if got := count(n, id, sim.Hub); got != 1 {
			t.Errorf("%s was said %d times, want once", id, got)
		}
	}
}

// forgetfulCharger crashes again and again, as often as it may hold
// conversations, and comes back from the same port or from another one. The
// kernel tells it that it was somebody else before.
func forgetfulCharger(t *testing.T) {
	c, p := garage.Chargers[1], puppet(t, 0, "crashes")
	to := netip.AddrPortFrom(netip.MustParseAddr(sim.PuppetAddrs[0]), 443)
	go p.Serve(func(conn *net.TCPConn) {
		far := tls.Server(conn, p.TLS)
		io.Copy(far, far)
	})
	t.Run("from the same port", func(t *testing.T) {
		n := len(garage.Gateway.Events())
		var took []time.Duration
		for range 4 {
			began := time.Now()
			conn, err := c.CallFrom(within(t, 10*time.Second), 50123, to, "crashes."+theatre)
			if err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(began).Round(time.Millisecond))
			if err := sim.Forget(conn.NetConn().(*net.TCPConn)); err != nil {
				t.Fatal(err)
			}
		}
		saidSince(t, n, c.Name, "egress-ended", "the charger reset it")
		t.Logf("connected and secured after %v", took)
	})
	t.Run("from another port", func(t *testing.T) {
		n := len(garage.Gateway.Events())
		first, err := c.CallFrom(within(t, 10*time.Second), 50124, to, "crashes."+theatre)
		if err != nil {
			t.Fatal(err)
		}
		if err := sim.Forget(first.NetConn().(*net.TCPConn)); err != nil {
			t.Fatal(err)
		}
		second, err := c.CallFrom(within(t, 10*time.Second), 50125, to, "crashes."+theatre)
		if err != nil {
			t.Fatal(err)
		}
		defer second.NetConn().Close()
		if _, err := second.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(second, make([]byte, 5)); err != nil {
			t.Errorf("the new conversation: %v", err)
		}
		never(t, n, c.Name, "egress-charger-limit")
	})
}

// letters has a puppet say a letter to whoever calls, and then give back what it
// hears.
func letters(p *sim.Puppet, letter string) {
	p.Serve(func(conn *net.TCPConn) {
		far := tls.Server(conn, p.TLS)
		if _, err := io.WriteString(far, letter); err == nil {
			io.Copy(far, far)
		}
	})
}

// letter calls a name and returns the connection and the letter that it was
// told.
func letter(t *testing.T, c *sim.Charger, name string) (*tls.Conn, string, time.Duration) {
	t.Helper()
	began := time.Now()
	conn, err := c.Call(within(t, 15*time.Second), name+"."+theatre, 443)
	if err != nil {
		t.Fatalf("calling %s: %v after %s", name, err, time.Since(began))
	}
	t.Cleanup(func() { conn.NetConn().Close() })
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var b [1]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		t.Fatalf("calling %s: %v", name, err)
	}
	conn.SetReadDeadline(time.Time{})
	return conn, string(b[:]), time.Since(began)
}

// echoes wants what is said to come back.
func echoes(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Time{})
}

// movingServer changes its address under a conversation: that one goes on, and
// new ones go to the new address.
func movingServer(t *testing.T) {
	c := garage.Chargers[0]
	old, next := puppet(t, 0, "moves"), puppet(t, 1, "moves")
	go letters(old, "A")
	go letters(next, "B")
	garage.Cloud.Names.Set("moves."+theatre, 5, sim.PuppetAddrs[0])
	conn, who, _ := letter(t, c, "moves")
	if who != "A" {
		t.Fatalf("reached %s, want A", who)
	}
	began := time.Now()
	garage.Cloud.Names.Set("moves."+theatre, 5, sim.PuppetAddrs[1])
	eventually(t, 15*time.Second, "a conversation with the new address", func() (bool, string) {
		conn, who, _ := letter(t, c, "moves")
		conn.Close()
		return who == "B", who
	})
	t.Logf("new conversations went to the new address after %s", time.Since(began).Round(10*time.Millisecond))
	echoes(t, conn)
}

// deadAddress takes away the one of two addresses that answered last: first
// silently, then with a refusal.
func deadAddress(t *testing.T) {
	c := garage.Chargers[0]
	both := []string{sim.PuppetAddrs[2], sim.PuppetAddrs[3]}
	puppets := map[string]*sim.Puppet{"A": puppet(t, 2, "twice"), "B": puppet(t, 3, "twice")}
	at := map[string]string{"A": both[0], "B": both[1]}
	for name, p := range puppets {
		go letters(p, name)
	}
	garage.Cloud.Names.Set("twice."+theatre, 60, both...)
	n := len(garage.Gateway.Events())
	conn, last, usual := letter(t, c, "twice")
	heal := lose(t, garage.Cloud.Space, "ip daddr "+at[last]+" tcp flags & (syn | ack) == syn")
	_, other, silent := letter(t, c, "twice")
	_, again, after := letter(t, c, "twice")
	if other == last || again != other {
		t.Errorf("%s does not answer; then %s was reached, and then %s", last, other, again)
	}
	if silent > 2*time.Second || after > silent {
		t.Errorf("the other address was reached after %s, and the next time after %s; want some 250 ms, and then at once", silent, after)
	}
	heal()
	echoes(t, conn)
	puppets[other].Close()
	_, back, refused := letter(t, c, "twice")
	if back != last || refused > silent {
		t.Errorf("where %s refuses, %s was reached after %s; want %s at once", other, back, refused, last)
	}
	t.Logf("usually %s; when the last good address is silent %s, and the next time %s; when it refuses %s",
		usual.Round(time.Millisecond), silent.Round(time.Millisecond), after.Round(time.Millisecond), refused.Round(time.Millisecond))
	never(t, n, "", "egress-unreachable")
}

// refusedAfter calls a name that cannot be reached and returns how soon the
// charger knows.
func refusedAfter(t *testing.T, c *sim.Charger, name string, most time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	conn, err := c.Call(within(t, 15*time.Second), name+"."+theatre, 443)
	took := time.Since(began)
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, unix.ECONNRESET) || took > most {
		t.Errorf("calling %s: %v after %s, want a reset within %s", name, err, took, most)
	}
	return took
}

// uplinkDown takes the uplink away in three ways. What is open waits for it;
// what is new is refused.
func uplinkDown(t *testing.T) {
	c := garage.Chargers[0]
	gw, cloud := garage.Gateway.Space, garage.Cloud.Space
	for i, outage := range []struct {
		what  string
		begin func() error
		end   func() error
		most  time.Duration // until a new conversation is refused
	}{
		{"our own interface is down", func() error { return gw.Plug("eth0", false) },
			func() error { return errors.Join(gw.Plug("eth0", true), garage.Gateway.Route()) }, soonest},
		{"no default route", func() error { _, err := gw.Run(t.Context(), "ip", "route", "del", "default"); return err },
			garage.Gateway.Route, soonest},
		{"the cable is out at the other end", func() error { return cloud.Plug("eth0", false) },
			func() error { return cloud.Plug("eth0", true) }, 4 * time.Second},
	} {
		t.Run(outage.what, func(t *testing.T) {
			name := fmt.Sprintf("outage-%d", i) // each has its own, so that none is the outage before come back
			p := puppet(t, 4, name)
			k := converse(t, c, p, name)
			n := len(garage.Gateway.Events())
			if err := outage.begin(); err != nil {
				t.Fatal(err)
			}
			swapped := make(chan error, 1)
			go func() { swapped <- swap(k, 64<<10) }()
			var refused []time.Duration
			for range 4 {
				refused = append(refused, refusedAfter(t, c, name, outage.most).Round(time.Millisecond))
			}
			time.Sleep(time.Second)
			if err := outage.end(); err != nil {
				t.Fatal(err)
			}
			back := time.Now()
			if err := <-swapped; err != nil {
				t.Errorf("what was open: %v", err)
			}
			whole := time.Since(back)
			next := converse(t, c, p, name)
			again := time.Since(back)
			next.near.Close()
			t.Logf("new ones were refused after %v; what was open had all its bytes %s after the end, and a new one came about after %s",
				refused, whole.Round(10*time.Millisecond), again.Round(10*time.Millisecond))
			for id, want := range map[string]int{"egress-no-way": 1, "egress-unreachable": 0, "egress-restored": 1} {
				if got := count(n, id, name+"."+theatre); got != want {
					t.Errorf("%s was said %d times, want %d", id, got, want)
				}
			}
		})
	}
}

// count is how many events of a kind were said about a name since the first n.
func count(n int, id, name string) (got int) {
	for _, e := range garage.Gateway.Events()[n:] {
		if e.ID == id && e.Fields["NAME"] == name {
			got++
		}
	}
	return got
}

// narrowUplink lets big uploads and downloads through a way that takes less than
// the chargers' network does: our own uplink, and one further on, with a router
// that says so and with one whose word is lost (RFC 4821 is what is left then).
func narrowUplink(t *testing.T) {
	const width = 1280
	c, near := garage.Chargers[0], puppet(t, 5, "narrow")
	gw, cloud := garage.Gateway.Space, garage.Cloud.Space
	beyond, err := garage.Cloud.Beyond(width, sim.PuppetAddrs[6])
	if err != nil {
		t.Fatal(err)
	}
	far, err := garage.Cloud.PuppetIn(beyond, netip.AddrPortFrom(netip.MustParseAddr(sim.PuppetAddrs[6]), 443), "beyond."+theatre)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(far.Close)
	through := func(t *testing.T, what string, k talk) {
		t.Helper()
		began := time.Now()
		if err := swap(k, 1<<20); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		t.Logf("%s: 1 MiB each way took %s", what, time.Since(began).Round(time.Millisecond))
		k.near.Close()
	}
	for _, ends := range []struct {
		what string
		all  []*sim.Space
	}{{"at both ends", []*sim.Space{gw, cloud}}, {"at our end", []*sim.Space{gw}}} {
		t.Run(ends.what, func(t *testing.T) {
			before := converse(t, c, near, "narrow")
			for _, s := range ends.all {
				if err := s.MTU("eth0", width); err != nil {
					t.Fatal(err)
				}
			}
			defer func() {
				for _, s := range ends.all {
					if err := s.MTU("eth0", 1500); err != nil {
						t.Error(err)
					}
				}
			}()
			through(t, "a conversation from before", before)
			through(t, "a new one", converse(t, c, near, "narrow"))
		})
	}
	t.Run("further on, and nobody says so", func(t *testing.T) {
		heal := lose(t, gw, "icmp type destination-unreachable")
		through(t, "a new one", converse(t, c, far, "beyond"))
		heal()
	})
	t.Run("further on, and the router says so", func(t *testing.T) {
		through(t, "a new one", converse(t, c, far, "beyond"))
		if _, err := gw.Run(t.Context(), "ip", "route", "flush", "cache"); err != nil {
			t.Error(err)
		}
	})
}

// renumbered gives the gateway another address on the uplink. What left from the
// old one is over, which the chargers are told; they can call again at once.
func renumbered(t *testing.T) {
	c, p := garage.Chargers[0], puppet(t, 4, "renumbered")
	busy, quiet := converse(t, c, p, "renumbered"), converse(t, c, p, "renumbered")
	n := len(garage.Gateway.Events())
	began := time.Now()
	if err := garage.Gateway.Renumber(sim.UplinkAddr, sim.OtherUplinkAddr); err != nil {
		t.Fatal(err)
	}
	next := converse(t, c, p, "renumbered")
	came := time.Since(began)
	busy.near.Write([]byte("ping"))
	for _, k := range []talk{busy, quiet} {
		over := breaks(t, k.near, 5*time.Second).Sub(began)
		t.Logf("a new conversation came about after %s; an old one was reset after %s", came.Round(time.Millisecond), over.Round(time.Millisecond))
		k.ended(t, n, "another address on the uplink")
	}
	next.passes(t, time.Second)
	if err := garage.WaitOnline(within(t, 20*time.Second)); err != nil {
		t.Error(err)
	}
	t.Logf("every charger was online again after %s", time.Since(began).Round(100*time.Millisecond))
}
