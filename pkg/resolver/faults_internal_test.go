package resolver

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"chargegate/pkg/event"

	"github.com/miekg/dns"
)

const good = hub + " 60 IN A 192.0.2.1"

// overUDPOnly runs a server on loopback that has no TCP.
func overUDPOnly(t testing.TB, handle func(w dns.ResponseWriter, q *dns.Msg)) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up, end := make(chan struct{}), make(chan struct{})
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(handle), NotifyStartedFunc: func() { close(up) }}
	go func() {
		defer close(end)
		_ = server.ActivateAndServe()
	}()
	<-up
	t.Cleanup(func() { _ = server.Shutdown(); <-end })
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// foldCase answers like whole, with the question in lower case.
func foldCase(whole func(dns.ResponseWriter, *dns.Msg)) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		q.Question[0].Name = strings.ToLower(q.Question[0].Name)
		whole(w, q)
	}
}

func truncates(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Truncated = true
	_ = w.WriteMsg(m)
}

// asksOnce asks within the budget and closes the forwarder.
func asksOnce(t *testing.T, f *forwarder) (answer, error) {
	t.Helper()
	defer f.shut()
	ctx, cancel := context.WithTimeout(t.Context(), budget)
	defer cancel()
	return f.ask(ctx, hub)
}

// Whatever a server does, a name has the right addresses or none.
func TestFaultsOfAServer(t *testing.T) {
	t.Parallel()
	stranger := func(t *testing.T) net.PacketConn {
		pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pc.Close() })
		return pc
	}
	forged := func(q *dns.Msg) []byte {
		m := new(dns.Msg).SetReply(q)
		m.Answer = rrs(t, hub+" 60 IN A 192.0.2.66")
		b, _ := m.Pack()
		return b
	}
	type handler = func(dns.ResponseWriter, *dns.Msg)
	tests := []struct {
		name    string
		handle  func(t *testing.T) handler
		udpOnly bool
		want    string // the addresses
		fault   string
	}{
		{name: "the answer comes from another port, and never from its own", fault: "no answer", handle: func(t *testing.T) handler {
			from := stranger(t)
			return func(w dns.ResponseWriter, q *dns.Msg) { _, _ = from.WriteTo(forged(q), w.RemoteAddr()) }
		}},
		{name: "a forged answer from another port first", want: "192.0.2.1", handle: func(t *testing.T) handler {
			from, whole := stranger(t), says(t, good)
			return func(w dns.ResponseWriter, q *dns.Msg) {
				_, _ = from.WriteTo(forged(q), w.RemoteAddr())
				whole(w, q)
			}
		}},
		{name: "records of another name only", fault: "", handle: func(t *testing.T) handler {
			return says(t, "api.zaptec.com. 60 IN A 192.0.2.66")
		}},
		{name: "records of another name beside", want: "192.0.2.1", handle: func(t *testing.T) handler {
			return says(t, "api.zaptec.com. 60 IN A 192.0.2.66", good, "x.example. 60 IN CNAME "+hub)
		}},
		{name: "a chain of 40 records", fault: "longer than 16", handle: func(t *testing.T) handler { return says(t, chain(40)...) }},
		{name: "a loop of CNAMEs", fault: "a loop", handle: func(t *testing.T) handler {
			return says(t, hub+" 60 IN CNAME a.example.", "a.example. 60 IN CNAME "+hub)
		}},
		{name: "a loop of one", fault: "a loop", handle: func(t *testing.T) handler { return says(t, hub+" 60 IN CNAME "+hub) }},
		{name: "truncated, and TCP refused", fault: "the answer does not fit into UDP, and TCP fails: dial tcp", udpOnly: true,
			handle: func(t *testing.T) handler { return truncates }},
		{name: "truncated over TCP as well", fault: "", want: "192.0.2.1", handle: func(t *testing.T) handler {
			return func(w dns.ResponseWriter, q *dns.Msg) {
				m := new(dns.Msg).SetReply(q)
				m.Truncated, m.Answer = true, rrs(t, good)
				_ = w.WriteMsg(m)
			}
		}},
		{name: "lame: nothing, and it asks nobody else", fault: "asks nobody else", handle: func(t *testing.T) handler { return says(t) }},
		{name: "lame: a referral", fault: "asks nobody else", handle: func(t *testing.T) handler {
			return func(w dns.ResponseWriter, q *dns.Msg) {
				m := new(dns.Msg).SetReply(q)
				m.RecursionAvailable = true
				m.Ns = rrs(t, "net. 60 IN NS a.gtld-servers.example.")
				_ = w.WriteMsg(m)
			}
		}},
		{name: "no address, and it asks others", handle: func(t *testing.T) handler {
			return func(w dns.ResponseWriter, q *dns.Msg) {
				m := new(dns.Msg).SetReply(q)
				m.RecursionAvailable = true
				_ = w.WriteMsg(m)
			}
		}},
		{name: "server failure", fault: "SERVFAIL", handle: func(*testing.T) handler { return fails(dns.RcodeServerFailure) }},
		{name: "five seconds late", fault: "no answer", handle: func(t *testing.T) handler {
			whole := says(t, good)
			return func(w dns.ResponseWriter, q *dns.Msg) {
				select {
				case <-time.After(5 * time.Second):
				case <-t.Context().Done(): // the question has ended, and so may the server
				}
				whole(w, q)
			}
		}},
		{name: "one and a half seconds late, as over a slow mobile uplink", want: "192.0.2.1", handle: func(t *testing.T) handler {
			whole := says(t, good)
			return func(w dns.ResponseWriter, q *dns.Msg) {
				time.Sleep(1500 * time.Millisecond)
				whole(w, q)
			}
		}},
		{name: "an empty datagram, half a header, half a question, then the answer", want: "192.0.2.1", handle: func(t *testing.T) handler {
			whole := says(t, good)
			return func(w dns.ResponseWriter, q *dns.Msg) {
				b := forged(q)
				for _, n := range []int{0, 5, 12, 20} {
					_, _ = w.Write(b[:n])
				}
				whole(w, q)
			}
		}},
		{name: "the letters' case is never kept", want: "192.0.2.1", handle: func(t *testing.T) handler { return foldCase(says(t, good)) }},
		{name: "the letters' case is not kept, and there is no TCP", want: "192.0.2.1", udpOnly: true,
			handle: func(t *testing.T) handler { return foldCase(says(t, good)) }},
		{name: "a forged answer in another case, and no TCP", want: "192.0.2.1", udpOnly: true, handle: func(t *testing.T) handler {
			whole := says(t, good)
			return func(w dns.ResponseWriter, q *dns.Msg) {
				asked := q.Question[0].Name
				q.Question[0].Name = strings.ToLower(asked)
				_, _ = w.Write(forged(q))
				q.Question[0].Name = asked
				whole(w, q)
			}
		}},
		{name: "a flood of forged answers", want: "192.0.2.1", handle: func(t *testing.T) handler {
			whole := says(t, good)
			return func(w dns.ResponseWriter, q *dns.Msg) {
				if !isUDP(w) {
					whole(w, q)
					return
				}
				b := forged(q)
				b[0]++
				for range 2 * maxWrong {
					_, _ = w.Write(b)
				}
			}
		}},
		{name: "a format error for everything", fault: "FORMERR", handle: func(*testing.T) handler { return fails(dns.RcodeFormatError) }},
		{name: "silent when asked with EDNS", want: "192.0.2.1", handle: func(t *testing.T) handler {
			whole := says(t, good)
			return func(w dns.ResponseWriter, q *dns.Msg) {
				if q.IsEdns0() == nil {
					whole(w, q)
				}
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			run := func(t testing.TB, h handler) netip.AddrPort { return upstream(t, nil, h) }
			if tt.udpOnly {
				run = func(t testing.TB, h handler) netip.AddrPort { return overUDPOnly(t, h) }
			}
			f, _ := forwardTo(nil, run(t, tt.handle(t)))
			began := time.Now()
			a, err := asksOnce(t, f)
			if took := time.Since(began); took > budget+time.Second {
				t.Errorf("took %v", took)
			}
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Fatalf("got %v, %v; want an error with %q", a.addrs, err, tt.fault)
				}
				return
			}
			var got []string
			for _, addr := range a.addrs {
				got = append(got, addr.String())
			}
			if err != nil || strings.Join(got, " ") != tt.want {
				t.Errorf("got %v, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// A server that cannot answer this question is nothing against the name.
func TestTheNextServerAnswers(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]func(dns.ResponseWriter, *dns.Msg){
		"after a lame one": says(t), "after one that refuses": fails(dns.RcodeRefused), "after a failure": fails(dns.RcodeServerFailure),
		"after one that knows no such thing": fails(dns.RcodeNotImplemented), "after a loop": says(t, hub+" 60 IN CNAME "+hub),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := event.New(event.Options{Keep: 10})
			f, _ := forwardTo(log, upstream(t, nil, handle), upstream(t, nil, says(t, good)))
			began := time.Now()
			a, err := asksOnce(t, f)
			if err != nil || len(a.addrs) != 1 {
				t.Fatalf("got %v, %v", a.addrs, err)
			}
			if took := time.Since(began); took > tryPlain {
				t.Errorf("took %v, as if somebody had been waited for", took)
			}
			if said := log.Recent(0, ""); len(said) > 0 {
				t.Errorf("said %q", said[0].Message)
			}
		})
	}
}

// The case of letters is given up for a server only when it is proved that it
// does not keep it, and then it is not asked twice any more.
func TestTheCaseOfLettersIsGivenUpOnProofOnly(t *testing.T) {
	t.Parallel()
	var udp, tcp, mixed atomic.Int32
	count := func(then func(dns.ResponseWriter, *dns.Msg)) func(dns.ResponseWriter, *dns.Msg) {
		return func(w dns.ResponseWriter, q *dns.Msg) {
			if isUDP(w) {
				udp.Add(1)
				if q.Question[0].Name != hub {
					mixed.Add(1)
				}
			} else {
				tcp.Add(1)
			}
			then(w, q)
		}
	}
	tests := []struct {
		name       string
		handle     func(dns.ResponseWriter, *dns.Msg)
		udpOnly    bool
		asked      int
		udp, mixed int32 // questions over UDP, and those of them in mixed case
		tcp        int32
		said       bool
	}{
		{name: "a server that keeps it", handle: says(t, good), asked: 4, udp: 4, mixed: 4},
		{name: "TCP proves it", handle: foldCase(says(t, good)), asked: 4, udp: 4, mixed: 1, tcp: 1, said: true},
		{name: "over UDP it is another than over TCP: somebody is in between", asked: 4, udp: 4, mixed: 4, tcp: 4,
			handle: func(w dns.ResponseWriter, q *dns.Msg) {
				if isUDP(w) {
					foldCase(says(t, hub+" 60 IN A 192.0.2.66"))(w, q)
					return
				}
				says(t, good)(w, q)
			}},
		{name: "without TCP it takes several", handle: foldCase(says(t, good)), udpOnly: true, asked: proofs + 2, udp: 2*proofs + 2, mixed: proofs, said: true},
	}
	for _, tt := range tests {
		udp.Store(0)
		tcp.Store(0)
		mixed.Store(0)
		log := event.New(event.Options{Keep: 10, Level: event.Debug})
		var at netip.AddrPort
		if tt.udpOnly {
			at = overUDPOnly(t, count(tt.handle))
		} else {
			at = upstream(t, nil, count(tt.handle))
		}
		f, _ := forwardTo(log, at)
		for range tt.asked {
			a, err := f.ask(t.Context(), hub)
			if err != nil || len(a.addrs) != 1 || a.addrs[0].String() != "192.0.2.1" {
				t.Fatalf("%s: %v, %v", tt.name, a.addrs, err)
			}
		}
		f.shut()
		if udp.Load() != tt.udp || mixed.Load() != tt.mixed || tcp.Load() != tt.tcp {
			t.Errorf("%s: %d over UDP, of these %d in mixed case, %d over TCP; want %d, %d, %d",
				tt.name, udp.Load(), mixed.Load(), tcp.Load(), tt.udp, tt.mixed, tt.tcp)
		}
		said := log.Recent(0, "")
		if (len(said) == 1 && said[0].Kind == event.ResolverCaseNotKept) != tt.said || len(said) > 1 {
			t.Errorf("%s: said %v", tt.name, said)
		}
	}
}

// Every question has a port, an id and a case of its own, and the names that come
// back are in lower case.
func TestQuestionsCannotBeGuessed(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var ports []string
	ids, spellings := map[uint16]int{}, map[string]int{}
	f, _ := forwardTo(nil, upstream(t, nil, func(w dns.ResponseWriter, q *dns.Msg) {
		mu.Lock()
		defer mu.Unlock()
		ports = append(ports, w.RemoteAddr().String())
		ids[q.Id]++
		spellings[q.Question[0].Name]++
		m := new(dns.Msg).SetReply(q)
		m.Compress = true
		m.Answer = rrs(t, q.Question[0].Name+" 60 IN CNAME gw."+q.Question[0].Name, "gw."+q.Question[0].Name+" 60 IN A 192.0.2.1")
		_ = w.WriteMsg(m)
	}))
	defer f.shut()
	const asked = 200
	for range asked {
		a, err := f.ask(t.Context(), hub)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(texts(a.records), "; "), hub+" 60 IN CNAME gw."+hub+"; gw."+hub+" 60 IN A 192.0.2.1"; got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	// A handful may come twice by chance, with 28,000 ports and 65,536 ids.
	if len(ids) < asked-10 || len(spellings) < asked-2 {
		t.Errorf("%d ids, %d spellings for %d questions", len(ids), len(spellings), asked)
	}
	// The first minDrawn have new ports. Of the others, each has had any of those.
	first, later := map[string]int{}, map[string]int{}
	for i, port := range ports {
		if i < minDrawn {
			first[port]++
		} else {
			later[port]++
		}
	}
	if len(first) < minDrawn-2 {
		t.Errorf("%d ports for the first %d questions", len(first), minDrawn)
	}
	if len(later) < minDrawn*3/4 {
		t.Errorf("%d ports for the other %d questions", len(later), asked-minDrawn)
	}
}

// A server that answers nothing with EDNS is asked without it after some proof.
func TestSilenceAboutEDNSIsRemembered(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a := target{addr: netip.MustParseAddrPort("192.0.2.1:53")}
	var h health
	h.order([]target{a}, now)
	for i := range proofs {
		if m := h.manners(a, now); m.noEDNS {
			t.Fatalf("asked without EDNS after %d proofs", i)
		}
		h.failed(a, errSilent, now)
		if m := h.manners(a, now); !m.noEDNS {
			t.Fatal("asked with EDNS again after a silence")
		}
		h.sawEDNS(a, false, now)
		h.answered(a, time.Millisecond, now)
	}
	if m := h.manners(a, now); !m.noEDNS {
		t.Error("asked with EDNS after all")
	}
	if m := h.manners(a, now.Add(mannersFor)); m.noEDNS {
		t.Error("asked without EDNS for ever")
	}
}

func TestAServerThatAnswersEDNSKeepsItThroughLosses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	a := target{addr: netip.MustParseAddrPort("192.0.2.1:53")}
	var h health
	h.order([]target{a}, now)
	for range 5 * proofs {
		h.failed(a, errSilent, now)
		h.sawEDNS(a, false, now)
		h.answered(a, time.Millisecond, now)
		h.sawEDNS(a, true, now)
		h.answered(a, time.Millisecond, now)
	}
	if m := h.manners(a, now); m.noEDNS {
		t.Error("a lossy line is taken for a server that does not know EDNS")
	}
}
