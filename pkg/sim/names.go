package sim

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// publicResolvers are asked by chargers that find the resolver of DHCP slow
// (Z-12). In the garage they answer wrongly, so that it is seen when one of
// their answers gets through.
var publicResolvers = []string{"8.8.8.8", "1.1.1.1"}

// zone is what the resolvers of the uplink know at first: a name to another
// name, or to addresses. The Zaptec names stand behind others, as Azure's do.
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
	OCPP:                              {OCPPAddr},
	Elsewhere:                         {ElsewhereIP},
	Plain:                             {ElsewhereIP},
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

// ttl is how long the answers may be kept, in seconds, where Set says nothing
// else.
const ttl = 60

// answers are what is known of one name.
type answers struct {
	values []string
	ttl    int // seconds
}

// A NameServer is the resolvers that the gateway may ask, and the public ones
// that nobody should ask. What they know and how they behave can be changed while
// they are asked. It is safe for concurrent use.
type NameServer struct {
	resolvers []*resolver
	public    []*dns.Server
	authority *Authority
	wg        sync.WaitGroup

	mu    sync.Mutex
	zone  map[string]answers
	asked map[string]int // questions by name
	cert  *tls.Certificate
}

// openNames serves names on the resolvers' addresses, over UDP, TCP and TLS, and
// on the public ones over UDP and TCP.
func openNames(s *Space, a *Authority) (*NameServer, error) {
	n := &NameServer{authority: a, zone: map[string]answers{}, asked: map[string]int{}}
	for name, values := range zone {
		n.zone[name] = answers{values, ttl}
	}
	err := n.Certify(ResolverName, yesterday(), inYears())
	for _, addr := range []string{ResolverAddr, OtherResolverAddr} {
		r := &resolver{space: s, addr: addr, names: n}
		n.resolvers = append(n.resolvers, r)
		err = errors.Join(err, r.open())
	}
	for _, addr := range publicResolvers {
		servers, e := s.serveNames(addr, &n.wg, dns.HandlerFunc(wrongly))
		n.public = append(n.public, servers...)
		err = errors.Join(err, e)
	}
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// serveNames answers on port 53 of an address, over UDP and TCP.
func (s *Space) serveNames(addr string, wg *sync.WaitGroup, h dns.Handler) ([]*dns.Server, error) {
	p, err := s.listenUDP(addr + ":53")
	if err != nil {
		return nil, err
	}
	all := []*dns.Server{startNames(&dns.Server{PacketConn: p, Handler: h}, wg)}
	l, err := s.listenTCP(addr + ":53")
	if err != nil {
		return all, err
	}
	return append(all, startNames(&dns.Server{Listener: l, Handler: h}, wg)), nil
}

// startNames runs a server until it is shut down.
func startNames(s *dns.Server, wg *sync.WaitGroup) *dns.Server {
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	wg.Go(func() { s.ActivateAndServe() })
	<-started
	return s
}

func (n *NameServer) close() {
	for _, r := range n.resolvers {
		r.close()
	}
	for _, s := range n.public {
		s.Shutdown()
	}
	n.wg.Wait()
}

// Set changes what a name leads to, another name or addresses, and for how many
// seconds the answer may be kept. No values: there is no such name any more.
func (n *NameServer) Set(name string, seconds int, values ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.zone, name)
	if len(values) > 0 {
		n.zone[name] = answers{values, seconds}
	}
}

// Silence makes every resolver ignore every question, or answer again: an uplink
// whose names are gone.
func (n *NameServer) Silence(silent bool) {
	for _, r := range n.resolvers {
		r.silence(silent)
	}
}

// Suffer gives the resolver at an address a fault, or with Well takes it away.
func (n *NameServer) Suffer(addr string, f Fault) error {
	for _, r := range n.resolvers {
		if r.addr == addr {
			return r.suffer(f)
		}
	}
	return fmt.Errorf("%s is no resolver of this garage", addr)
}

// Certify makes the resolvers show, over TLS, a certificate for a name that is
// valid between two moments.
func (n *NameServer) Certify(name string, from, until time.Time) error {
	cert, err := n.authority.certifyBetween(from, until, name)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cert = &cert
	return nil
}

func (n *NameServer) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cert, nil
}

// Asked returns how often each name was asked for since the garage began,
// whichever resolver was asked.
func (n *NameServer) Asked() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.asked)
}

// AskedAt returns how many questions have reached the resolver at an address, by
// the transport: "udp", "tcp" or "tls".
func (n *NameServer) AskedAt(addr string) map[string]int {
	for _, r := range n.resolvers {
		if r.addr == addr {
			return r.counts()
		}
	}
	return nil
}

// note counts a question.
func (n *NameServer) note(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked[name[:len(name)-1]]++
}

// known returns what a canonical name leads to.
func (n *NameServer) known(name string) (answers, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.zone[name[:len(name)-1]]
	return a, ok
}

// reply is the answer of a resolver that recurses: the whole chain of names.
func (n *NameServer) reply(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(1232, false)
	}
	name := dns.CanonicalName(q.Question[0].Name)
	for name != "" {
		a, ok := n.known(name)
		if !ok {
			m.Rcode = dns.RcodeNameError
			m.Ns = []dns.RR{record(". %d IN SOA a.root-servers.net. nstld.verisign-grs.com. 1 1800 900 604800 %d", ttl, ttl)}
			return m
		}
		next := ""
		for _, v := range a.values {
			if _, err := netip.ParseAddr(v); err != nil {
				next = dns.CanonicalName(v)
				m.Answer = append(m.Answer, record("%s %d IN CNAME %s", name, a.ttl, next))
			} else if q.Question[0].Qtype == dns.TypeA {
				m.Answer = append(m.Answer, record("%s %d IN A %s", name, a.ttl, v))
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
