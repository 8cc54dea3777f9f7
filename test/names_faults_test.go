package garage

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"chargegate/pkg/sim"
)

// below is a domain of the site's own: whatever stands below it may be asked for.
const below = "site.example.org"

// TestFaultyNames tells what chargers notice of a cloud whose names are slow,
// wrong, or gone: nothing, as far as it can be helped.
func TestFaultyNames(t *testing.T) {
	t.Parallel() // it waits most of the time
	o := sim.Options{
		Networks:  []sim.Network{{Name: "P1", Chargers: 2}},
		Guests:    []sim.Guest{{Name: desk, Network: "P1"}, {Name: neighbour, Network: "P1"}},
		Habits:    sim.Brisk(),
		Allow:     []string{"*." + below},
		Upstreams: []string{sim.ResolverAddr, sim.OtherResolverAddr},
	}
	apart(t, o, func(t *testing.T) {
		garage.PowerOn()
		if err := garage.WaitOnline(within(t, 20*time.Second)); err != nil {
			t.Fatal(err)
		}
		h := connected(t, desk)
		for _, part := range []struct {
			name string
			test func(*testing.T, *sim.Host)
		}{
			{"one DNS server with a fault", oneFaulty},
			{"a device that asks without end", floodOfNames},
			{"no DNS server answers", allSilent},
			{"a start without any DNS server", startWithoutNames},
			{"the hub moves", hubMoves},
			{"resolv.conf that leads to us", ourselves},
			{"over TLS", overTLS},
		} {
			t.Run(part.name, func(t *testing.T) {
				began := time.Now()
				part.test(t, h)
				t.Logf("%s", time.Since(began).Round(100*time.Millisecond))
			})
			unharmed(t)
		}
	})
}

var freshNames atomic.Int64

// fresh is a name that was never asked for and leads to an address.
func fresh() string {
	name := fmt.Sprintf("n%d.%s", freshNames.Add(1), below)
	garage.Cloud.Names.Set(name, 60, sim.APIAddr)
	return name
}

// An answer is what a device gets when it asks for a name.
type answer struct {
	*dns.Msg
	took time.Duration
}

// resolve asks the gateway as a device would, without asking again.
func resolve(t *testing.T, h *sim.Host, name string) answer {
	t.Helper()
	a, err := lookUp(h, name, 8*time.Second)
	if err != nil {
		t.Fatalf("asking for %s: %v", name, err)
	}
	return a
}

// lookUp is resolve for whoever minds for himself that there is no answer.
func lookUp(h *sim.Host, name string, patience time.Duration) (answer, error) {
	raw, err := h.Space.Dial("udp4", garage.Gateway.Address("P1").String()+":53")
	if err != nil {
		return answer{}, err
	}
	conn := &dns.Conn{Conn: raw}
	defer conn.Close()
	began := time.Now()
	conn.SetDeadline(began.Add(patience))
	if err := conn.WriteMsg(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA).SetEdns0(1232, false)); err != nil {
		return answer{}, err
	}
	m, err := conn.ReadMsg()
	return answer{m, time.Since(began)}, err
}

// addrs are the addresses of the answer.
func (a answer) addrs() (all []string) {
	for _, rr := range a.Answer {
		if r, ok := rr.(*dns.A); ok {
			all = append(all, r.A.String())
		}
	}
	return all
}

// stale reports whether the answer says that it is an old one (RFC 8914, 4.4).
func (a answer) stale() bool {
	opt := a.IsEdns0()
	return opt != nil && slices.ContainsFunc(opt.Option, func(o dns.EDNS0) bool {
		e, ok := o.(*dns.EDNS0_EDE)
		return ok && e.InfoCode == dns.ExtendedErrorCodeStaleAnswer
	})
}

// leads wants a name to lead to an address within a time.
func leads(t *testing.T, h *sim.Host, name, addr string, most time.Duration) answer {
	t.Helper()
	a := resolve(t, h, name)
	if !slices.Equal(a.addrs(), []string{addr}) || a.took > most {
		t.Errorf("%s leads to %v (%s) after %s, want %s within %s", name, a.addrs(), dns.RcodeToString[a.Rcode], a.took.Round(time.Millisecond), addr, most)
	}
	return a
}

// known reports whether the answer leads somewhere.
func known(a answer) bool { return a.Rcode == dns.RcodeSuccess && len(a.Answer) > 0 }

// becomes asks again and again, as often as a device may, until the answer is as
// it should be.
func becomes(t *testing.T, h *sim.Host, what string, name func() string, ok func(answer) bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last answer
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-tick.C {
		if last = resolve(t, h, name()); ok(last) {
			return
		}
	}
	t.Fatalf("the answer is not %s; last seen: %v", what, last.Msg)
}

// fails wants that a name cannot be resolved, which is said and not waited for.
func fails(t *testing.T, h *sim.Host, name string) {
	t.Helper()
	if a := resolve(t, h, name); a.Rcode != dns.RcodeServerFailure || a.took > budget+500*time.Millisecond {
		t.Errorf("%s is answered with %s, %v after %s; want SERVFAIL within %s", name, dns.RcodeToString[a.Rcode], a.addrs(), a.took.Round(time.Millisecond), budget)
	}
}

// budget is how long a question may take in all (domain facts of DNS: at most 3 s
// for all servers together).
const budget = 3 * time.Second

// uplinkSaid waits for an event that is about nobody's charger.
func uplinkSaid(t *testing.T, n int, id, text string, most time.Duration) {
	t.Helper()
	eventually(t, most, fmt.Sprintf("the event %s with %q", id, text), func() (bool, string) {
		var last string
		for _, e := range garage.Gateway.Events()[n:] {
			if e.ID == id && strings.Contains(e.Message, text) {
				return true, ""
			}
			if strings.HasPrefix(e.ID, "resolver-") {
				last = e.ID + ": " + e.Message
			}
		}
		return false, last
	})
}

// restart starts the daemon anew, with other upstreams.
func restart(t *testing.T, upstreams ...string) {
	t.Helper()
	garage.Gateway.Daemon.Stop()
	if err := garage.Configure(func(o *sim.Options) { o.Upstreams = upstreams }); err != nil {
		t.Fatal(err)
	}
	if _, err := garage.Gateway.StartDaemon(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
}

// suffer gives a resolver a fault until the test ends.
func suffer(t *testing.T, addr string, f sim.Fault) {
	t.Helper()
	if err := garage.Cloud.Names.Suffer(addr, f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := garage.Cloud.Names.Suffer(addr, sim.Well); err != nil {
			t.Error(err)
		}
	})
}

// oneFaulty gives the DNS server that is asked first each fault in turn: the other
// one answers in its place, and soon at once.
func oneFaulty(t *testing.T, h *sim.Host) {
	for _, f := range []struct {
		what  string
		fault sim.Fault
	}{
		{"SERVFAIL", sim.Failing}, {"lame", sim.Lame}, {"truncated, and no TCP", sim.CutShort},
		{"other questions answered", sim.Misdirected}, {"silent", sim.Silent},
	} {
		t.Run(f.what, func(t *testing.T) {
			suffer(t, askedFirst(t, h), f.fault)
			var all []time.Duration
			for range 6 {
				all = append(all, leads(t, h, fresh(), sim.APIAddr, budget).took.Round(time.Millisecond))
			}
			if last := all[len(all)-1]; last > time.Second {
				t.Errorf("the sixth question still waits %s for a server with a fault", last)
			}
			t.Logf("answered after %v", all)
		})
	}
	n := len(garage.Gateway.Events())
	t.Run("both", func(t *testing.T) {
		suffer(t, sim.ResolverAddr, sim.Failing)
		suffer(t, sim.OtherResolverAddr, sim.CutShort)
		fails(t, h, fresh())
	})
	leads(t, h, fresh(), sim.APIAddr, budget)
	never(t, n, "", "resolver-names-lost") // a server that fails is not gone
}

// askedFirst is the DNS server that is asked first for a name.
func askedFirst(t *testing.T, h *sim.Host) string {
	t.Helper()
	before := garage.Cloud.Names.AskedAt(sim.ResolverAddr)["udp"]
	leads(t, h, fresh(), sim.APIAddr, budget)
	if garage.Cloud.Names.AskedAt(sim.ResolverAddr)["udp"] > before {
		return sim.ResolverAddr
	}
	return sim.OtherResolverAddr
}

// hubMoves gives the hub another address while devices ask for it and call it all
// the time. Both addresses serve, so that nothing may fail; and when the answer's
// time is over, nobody is led to the old one any more.
func hubMoves(t *testing.T, h *sim.Host) {
	const ttl = 5 * time.Second
	names, chain := garage.Cloud.Names, "moving.cloudapp.example.net"
	if err := garage.Cloud.StartOtherHub(within(t, 10*time.Second)); err != nil {
		t.Fatal(err)
	}
	names.Set(chain, 5, sim.HubAddr)
	names.Set(sim.Hub, 5, chain)
	restart(t, garage.Options.Upstreams...) // the answer from before may be kept for a minute
	leads(t, h, sim.Hub, sim.HubAddr, budget)

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()
	l := &load{h: h, last: map[string]time.Time{}}
	wg.Go(func() { l.repeat(ctx, 100*time.Millisecond, l.ask) })
	for range 2 {
		wg.Go(func() { l.repeat(ctx, 50*time.Millisecond, l.call) })
	}
	time.Sleep(time.Second)
	moved := time.Now()
	names.Set(chain, 5, sim.OtherHubAddr)
	time.Sleep(ttl + time.Second)
	cancel()
	wg.Wait()
	t.Log(l.sum(moved))
	for _, trouble := range l.troubles {
		t.Error(trouble)
	}
	for _, what := range []string{"a question", "a dial"} {
		if late := l.last[what+" "+sim.HubAddr].Sub(moved); late > ttl+500*time.Millisecond {
			t.Errorf("%s led to the old address %s after it had changed, want %s at most", what, late, ttl)
		}
		if l.last[what+" "+sim.OtherHubAddr].IsZero() {
			t.Errorf("%s never led to the new address", what)
		}
	}
	if stuck, err := garage.Stuck(within(t, 5*time.Second)); err != nil || len(stuck) > 0 {
		t.Errorf("%v %v", stuck, err)
	}
}

// load is what devices do all the time while something changes.
type load struct {
	h *sim.Host

	mu       sync.Mutex
	count    int
	last     map[string]time.Time // when something began that led somewhere
	troubles []string
}

func (l *load) repeat(ctx context.Context, every time.Duration, do func(began time.Time)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		do(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (l *load) note(what string, began time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	if err != nil {
		l.troubles = append(l.troubles, fmt.Sprintf("%s: %v", what, err))
	} else {
		l.last[what] = began
	}
}

func (l *load) sum(since time.Time) string {
	text := fmt.Sprintf("%d in all", l.count)
	for what, at := range l.last {
		text += fmt.Sprintf("; the last %s %s", what, at.Sub(since).Round(10*time.Millisecond))
	}
	return text
}

// ask asks where the hub is.
func (l *load) ask(began time.Time) {
	a, err := lookUp(l.h, sim.Hub, 2*time.Second)
	if err == nil && len(a.addrs()) != 1 {
		err = fmt.Errorf("answered %v", a.Msg)
	}
	if err != nil {
		l.note("a question", began, err)
		return
	}
	l.note("a question "+a.addrs()[0], began, nil)
}

// call calls the hub and sees whom it has reached.
func (l *load) call(began time.Time) {
	raw, err := l.h.Space.Dial("tcp4", sim.HubAddr+":8883")
	if err != nil {
		l.note("a dial", began, err)
		return
	}
	defer raw.Close()
	raw.SetDeadline(began.Add(5 * time.Second))
	conn := tls.Client(raw, &tls.Config{ServerName: sim.Hub, RootCAs: garage.Cloud.Authority.Pool(), MaxVersion: tls.VersionTLS12})
	if err := conn.Handshake(); err != nil {
		l.note("a dial", began, err)
		return
	}
	l.note("a dial "+garage.Cloud.HubIs(conn.ConnectionState().PeerCertificates[0]), began, nil)
}

// floodOfNames lets one device ask as fast as it can. It is answered as often as
// it may ask, and to a quarter of what is beyond that; another device does not
// notice.
func floodOfNames(t *testing.T, h *sim.Host) {
	const rate, burst, lasting = 20, 60, 2 * time.Second
	other := connected(t, neighbour)
	conn, err := other.Space.Dial("udp4", garage.Gateway.Address("P1").String()+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	question, err := new(dns.Msg).SetQuestion(dns.Fqdn(sim.API), dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var wg sync.WaitGroup
	var answered, sent atomic.Int64
	wg.Go(func() {
		buf := make([]byte, 4096)
		conn.SetReadDeadline(began.Add(lasting + 500*time.Millisecond))
		for {
			if _, err := conn.Read(buf); err == nil {
				answered.Add(1)
			} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
				return
			}
		}
	})
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for time.Since(began) < lasting {
			<-tick.C
			for range 5 {
				conn.Write(question)
				sent.Add(1)
			}
		}
	})
	var slowest time.Duration
	for time.Since(began) < lasting {
		slowest = max(slowest, leads(t, h, sim.API, sim.APIAddr, time.Second).took)
		time.Sleep(100 * time.Millisecond)
	}
	wg.Wait()
	// A quarter leaks, by chance.
	most := int64(burst+rate*(lasting.Seconds()+1)) + sent.Load()*3/10
	if n := answered.Load(); n < burst/2 || n > most {
		t.Errorf("of a flood of %d questions %d were answered, want %d to %d", sent.Load(), n, burst/2, most)
	}
	t.Logf("%d of the flood answered; the slowest answer to another device took %s", answered.Load(), slowest.Round(10*time.Microsecond))
	said(t, neighbour, "resolver-asked-too-much", neighbour)
}

// allSilent takes the names away for longer than the answers may be kept.
func allSilent(t *testing.T, h *sim.Host) {
	n := len(garage.Gateway.Events())
	name := fresh()
	garage.Cloud.Names.Set(name, 5, sim.APIAddr)
	leads(t, h, name, sim.APIAddr, budget)
	garage.Cloud.Names.Silence(true)
	defer garage.Cloud.Names.Silence(false)
	time.Sleep(6 * time.Second)
	for i := range 3 {
		most := budget
		if i > 0 { // it is known by now that nobody answers
			most = 500 * time.Millisecond
		}
		a := leads(t, h, name, sim.APIAddr, most)
		if len(a.Answer) == 0 || a.Answer[0].Header().Ttl != 30 || !a.stale() {
			t.Errorf("answered %v, want what was known, for 30 s, with the extended error 3 (RFC 8767)", a.Msg)
		}
	}
	fails(t, h, fresh())
	t.Run("a charger boots all the same", boots)
	uplinkSaid(t, n, "resolver-stale", name, 2*time.Second)
	uplinkSaid(t, n, "resolver-names-lost", "", 20*time.Second)
	garage.Cloud.Names.Silence(false)
	uplinkSaid(t, n, "resolver-names-restored", "", 20*time.Second)
	becomes(t, h, "confirmed again", func() string { return name }, func(a answer) bool { return !a.stale() })
}

// boots switches a charger off and on, and wants it to come all the way up.
func boots(t *testing.T) {
	c := garage.Chargers[0]
	c.PowerOff()
	c.PowerOn()
	eventually(t, 15*time.Second, c.Name+" reaches the cloud", func() (bool, string) { v := c.View(); return v.Well(), sprint(v.Stage, v.Trouble) })
	if v := c.View(); v.AskedElsewhere > 0 {
		t.Errorf("it found the gateway slow and asked public resolvers %d times", v.AskedElsewhere)
	}
}

// startWithoutNames starts the daemon when no DNS server can be reached, after a
// stop and after a power cut. It knows where the hub is from its disk.
func startWithoutNames(t *testing.T, h *sim.Host) {
	leads(t, h, sim.Hub, sim.HubAddr, budget)
	leads(t, h, sim.API, sim.APIAddr, budget)
	garage.Gateway.Daemon.Stop()
	file := filepath.Join(garage.Gateway.State, "names")
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	names := garage.Cloud.Names
	defer names.Silence(false)
	for _, c := range []struct {
		what  string
		begin func()
		end   func()
		boots bool // a charger can reach the cloud all the same
	}{
		{"after a stop, the DNS servers being silent", func() { names.Silence(true) }, func() {}, true},
		{"after a power cut, the DNS servers being silent", func() { garage.Gateway.Daemon.Kill() }, func() { names.Silence(false) }, true},
		{"after a power cut, the uplink being unplugged", func() { garage.Gateway.Daemon.Kill(); plug(t, false) }, func() { plug(t, true) }, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			n := len(garage.Gateway.Events())
			c.begin()
			defer c.end()
			if _, err := garage.Gateway.StartDaemon(within(t, 20*time.Second)); err != nil {
				t.Fatal(err)
			}
			uplinkSaid(t, n, "resolver-recalled", "", 2*time.Second)
			a := leads(t, h, sim.Hub, sim.HubAddr, budget)
			if !a.stale() {
				t.Errorf("answered %v, want the extended error 3", a.Msg)
			}
			t.Logf("answered after %s", a.took.Round(time.Millisecond))
			if c.boots {
				boots(t)
			}
		})
	}
	began := time.Now()
	becomes(t, h, "confirmed again", func() string { return sim.Hub }, func(a answer) bool { return !a.stale() })
	t.Logf("confirmed again after %s", time.Since(began).Round(100*time.Millisecond))
}

// plug pulls the cable of the uplink, or plugs it in again.
func plug(t *testing.T, in bool) {
	t.Helper()
	commands := []string{"link set eth0 down"}
	if in {
		commands = []string{"link set eth0 up", "route replace default via " + sim.RouterAddr}
	}
	for _, c := range commands {
		if out, err := garage.Gateway.Space.Run(within(t, 5*time.Second), "ip", strings.Fields(c)...); err != nil {
			t.Fatalf("ip %s: %v\n%s", c, err, out)
		}
	}
}

// ourselves gives the gateway a resolv.conf that names the gateway, alone and
// with others, and follows it as it changes.
func ourselves(t *testing.T, h *sim.Host) {
	us := garage.Gateway.Address("P1").String()
	nameservers := func(addrs ...string) {
		t.Helper()
		if err := os.WriteFile(garage.Gateway.Resolv, []byte("nameserver "+strings.Join(addrs, "\nnameserver ")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	n := len(garage.Gateway.Events())
	nameservers(us)
	restart(t, "system")
	asked := metric(t, `chargegate_resolver_[a-z_]*\{[^}]*\}`)
	fails(t, h, fresh())
	uplinkSaid(t, n, "resolver-upstream-is-us", us, 2*time.Second)
	if more := metric(t, `chargegate_resolver_[a-z_]*\{[^}]*\}`) - asked; more > 30 {
		t.Errorf("one question made %d more: it went round", more)
	}
	nameservers(us, sim.OtherResolverAddr)
	before := garage.Cloud.Names.AskedAt(sim.OtherResolverAddr)["udp"]
	becomes(t, h, "that of the other server in resolv.conf", fresh, known)
	if garage.Cloud.Names.AskedAt(sim.OtherResolverAddr)["udp"] == before {
		t.Error("nobody asked it")
	}
}

// overTLS asks over TLS (RFC 7858): with the right name and a certificate of its
// time, and while the gateway does not know the time, with one of another time.
func overTLS(t *testing.T, h *sim.Host) {
	names, hour := garage.Cloud.Names, time.Hour
	certified := func(name string, from, until time.Duration) {
		t.Helper()
		if err := names.Certify(name, time.Now().Add(from), time.Now().Add(until)); err != nil {
			t.Fatal(err)
		}
		// Conversations that are open have seen another certificate.
		for _, f := range []sim.Fault{sim.CutShort, sim.Well} {
			if err := names.Suffer(sim.ResolverAddr, f); err != nil {
				t.Fatal(err)
			}
		}
	}
	restart(t, "tls://"+sim.ResolverAddr+"#"+sim.ResolverName)
	before := names.AskedAt(sim.ResolverAddr)
	for range 3 {
		leads(t, h, fresh(), sim.APIAddr, budget)
	}
	after := names.AskedAt(sim.ResolverAddr)
	if after["tls"] == before["tls"] || after["udp"] != before["udp"] || after["tcp"] != before["tcp"] {
		t.Errorf("asked before %v and then %v, want questions over TLS and none in clear", before, after)
	}
	good := func(t *testing.T) {
		t.Helper()
		certified(sim.ResolverName, -hour, hour)
		becomes(t, h, "good again", fresh, known)
	}
	spoiled := []struct {
		what        string
		name        string
		from, until time.Duration
		early       bool // it is taken while the time is not known
	}{
		{"another name", "elsewhere.example.net", -hour, hour, false},
		{"expired", sim.ResolverName, -2 * hour, -hour, true},
		{"not yet valid", sim.ResolverName, hour, 2 * hour, true},
	}
	for _, c := range spoiled {
		t.Run(c.what, func(t *testing.T) {
			certified(c.name, c.from, c.until)
			fails(t, h, fresh())
			good(t)
		})
	}
	t.Run("while the time is not known", func(t *testing.T) {
		ctx := within(t, 30*time.Second)
		garage.Cloud.StopClock()
		garage.Gateway.StopClock()
		if err := garage.Gateway.StartClock(ctx); err != nil {
			t.Fatal(err)
		}
		restart(t, garage.Options.Upstreams...)
		if err := garage.Gateway.WaitClock(ctx, false); err != nil {
			t.Fatal(err)
		}
		for _, c := range spoiled {
			t.Run(c.what, func(t *testing.T) {
				certified(c.name, c.from, c.until)
				if c.early {
					leads(t, h, fresh(), sim.APIAddr, budget)
				} else {
					fails(t, h, fresh())
				}
			})
		}
		certified(sim.ResolverName, -2*hour, -hour)
		if err := garage.Cloud.StartClock(ctx); err != nil {
			t.Fatal(err)
		}
		if err := garage.Gateway.WaitClock(ctx, true); err != nil {
			t.Fatal(err)
		}
		certified(sim.ResolverName, -2*hour, -hour)
		becomes(t, h, "refused, because dates count once the time is known", fresh, func(a answer) bool { return a.Rcode == dns.RcodeServerFailure })
		good(t)
	})
}
