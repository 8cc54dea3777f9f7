package sim

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"

	"github.com/miekg/dns"
)

// publicResolvers are asked by chargers that find the resolver of DHCP slow
// (Z-12). In the garage they answer wrongly, so that it is seen when one of
// their answers gets through.
var publicResolvers = []string{"8.8.8.8", "1.1.1.1"}

// zone is what the resolver of the uplink knows: a name to another name, or to
// addresses. The Zaptec names stand behind others, as Azure's do.
var zone = map[string][]string{
	Hub: {"gateway-prod-gw-northeurope-7-tls10.northeurope.cloudapp.azure.com"},
	"gateway-prod-gw-northeurope-7-tls10.northeurope.cloudapp.azure.com": {HubAddr},
	OldAPI: {"waws-prod-am2-243.sip.azurewebsites.windows.net"},
	"waws-prod-am2-243.sip.azurewebsites.windows.net":      {"waws-prod-am2-243-7c1f.westeurope.cloudapp.azure.com"},
	"waws-prod-am2-243-7c1f.westeurope.cloudapp.azure.com": {OldAPIAddr},
	Devices:                           {"zap-devices-fd.azurefd.net"},
	"zap-devices-fd.azurefd.net":      {DevicesAddr},
	API:                               {"zap-api-prod.trafficmanager.net"},
	"zap-api-prod.trafficmanager.net": {APIAddr},
	Elsewhere:                         {ElsewhereIP},
	"portal.zaptec.com":               {ElsewhereIP},
	"dev-api.zaptec.com":              {ElsewhereIP},
	"zap-d-iothub.azure-devices.net":  {ElsewhereIP},
	"pool.ntp.org":                    {BystanderIP},
	"no.pool.ntp.org":                 {BystanderIP},
	Big:                               many(BigAddr, 120),
}

func many(first string, n int) []string {
	var all []string
	for a := netip.MustParseAddr(first); len(all) < n; a = a.Next() {
		all = append(all, a.String())
	}
	return all
}

// ttl is how long the answers may be kept, in seconds.
const ttl = 60

// A NameServer is the resolver that the gateway asks, and the public ones that
// nobody should ask. It is safe for concurrent use.
type NameServer struct {
	servers []*dns.Server
	wg      sync.WaitGroup

	mu     sync.Mutex
	asked  map[string]int // questions by name
	silent bool
}

// openNames serves names on the resolver's address and on the public ones, over
// UDP and TCP.
func openNames(s *Space) (*NameServer, error) {
	n := &NameServer{asked: map[string]int{}}
	for _, addr := range append([]string{ResolverAddr}, publicResolvers...) {
		handler := dns.HandlerFunc(n.answer)
		if addr != ResolverAddr {
			handler = wrongly
		}
		p, err := s.listenUDP(addr + ":53")
		if err != nil {
			n.close()
			return nil, err
		}
		n.serve(&dns.Server{PacketConn: p, Handler: handler})
		l, err := s.listenTCP(addr + ":53")
		if err != nil {
			n.close()
			return nil, err
		}
		n.serve(&dns.Server{Listener: l, Handler: handler})
	}
	return n, nil
}

func (n *NameServer) serve(s *dns.Server) {
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	n.servers = append(n.servers, s)
	n.wg.Go(func() { s.ActivateAndServe() })
	<-started
}

func (n *NameServer) close() {
	for _, s := range n.servers {
		s.Shutdown()
	}
	n.wg.Wait()
}

// Silence makes the resolver ignore every question, or answer again: an uplink
// whose names are gone.
func (n *NameServer) Silence(silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = silent
}

// Asked returns how often each name was asked for since the garage began.
func (n *NameServer) Asked() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.asked)
}

func (n *NameServer) answer(w dns.ResponseWriter, q *dns.Msg) {
	if len(q.Question) != 1 {
		return
	}
	name := dns.CanonicalName(q.Question[0].Name)
	n.mu.Lock()
	n.asked[name[:len(name)-1]]++
	silent := n.silent
	n.mu.Unlock()
	if silent {
		return
	}
	m := reply(q)
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		m.Truncate(size)
	}
	w.WriteMsg(m) // an asker that has gone asks again
}

// reply is the answer of a resolver that recurses: the whole chain of names.
func reply(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(1232, false)
	}
	name := dns.CanonicalName(q.Question[0].Name)
	for name != "" {
		values, ok := zone[name[:len(name)-1]]
		if !ok {
			m.Rcode = dns.RcodeNameError
			m.Ns = []dns.RR{record(". %d IN SOA a.root-servers.net. nstld.verisign-grs.com. 1 1800 900 604800 %d", ttl, ttl)}
			return m
		}
		next := ""
		for _, v := range values {
			if _, err := netip.ParseAddr(v); err != nil {
				next = dns.Fqdn(v)
				m.Answer = append(m.Answer, record("%s %d IN CNAME %s", name, ttl, next))
			} else if q.Question[0].Qtype == dns.TypeA {
				m.Answer = append(m.Answer, record("%s %d IN A %s", name, ttl, v))
			}
		}
		name = next
	}
	return m
}

// wrongly answers every question for an address with the bystander's.
func wrongly(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
		m.Answer = []dns.RR{record("%s 5 IN A %s", q.Question[0].Name, BystanderIP)}
	}
	w.WriteMsg(m)
}

// record makes a record from its text in a zone file.
func record(format string, args ...any) dns.RR {
	rr, err := dns.NewRR(fmt.Sprintf(format, args...))
	if err != nil { // the text is our own, but for a name that dns has read before
		panic(err)
	}
	return rr
}
