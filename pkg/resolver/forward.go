package resolver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"chargegate/pkg/event"

	"github.com/miekg/dns"
)

// How long one server has for one try. TLS takes three round trips more.
const (
	tryPlain = time.Second
	tryTLS   = 2 * time.Second
)

// A target is one server to ask.
type target struct {
	addr    netip.AddrPort
	tlsName string
}

// String writes the target as the configuration does.
func (t target) String() string {
	if t.tlsName != "" {
		return fmt.Sprintf("tls://%s#%s", t.addr, t.tlsName)
	}
	return t.addr.String()
}

// A forwarder asks the upstreams. It is safe for concurrent use.
type forwarder struct {
	upstreams []Upstream
	system    *resolvConf
	isOurs    func(netip.AddrPort) bool
	usable    func(netip.Addr) bool
	log       *event.Log
	count     *counters
	tls       *tls.Config // what is common to all; the name is added
	health    health
}

func newForwarder(cfg Config, isOurs func(netip.AddrPort) bool, log *event.Log, count *counters) *forwarder {
	path := cfg.ResolvConf
	if path == "" {
		path = "/etc/resolv.conf"
	}
	return &forwarder{
		upstreams: cfg.Upstreams, system: &resolvConf{path: path}, isOurs: isOurs,
		usable: usable(cfg.Gateways), log: log, count: count,
		tls: &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(8)},
	}
}

// ask asks for the addresses of a name: the server that answered last first,
// then the others in their order, and once more those that were silent, until
// ctx is done. The error of the last try is returned when all failed.
func (f *forwarder) ask(ctx context.Context, name string) (answer, error) {
	todo, err := f.targets()
	for len(todo) > 0 && ctx.Err() == nil {
		var silent []target
		for _, t := range todo {
			var a answer
			if a, err = f.try(ctx, t, name); err == nil {
				f.say(f.health.answered(t))
				return a, nil
			}
			if errors.Is(ctx.Err(), context.Canceled) {
				return answer{}, err
			}
			if ctx.Err() != nil && !errors.Is(err, errAnswer) {
				break // time ran out in the middle of a try: that is nobody's fault
			}
			switch {
			case errors.Is(err, errAnswer): // it lives, and knows no better
			case isTimeout(err):
				silent = append(silent, t)
				fallthrough
			default:
				f.say(f.health.failed(t, err))
			}
		}
		todo = silent
	}
	f.say(f.health.nobody(err))
	return answer{}, err
}

// try asks one server once.
func (f *forwarder) try(ctx context.Context, t target, name string) (answer, error) {
	patience := tryPlain
	if t.tlsName != "" {
		patience = tryTLS
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	m, err := f.exchange(ctx, t, name)
	var a answer
	if err == nil {
		a, err = reduce(name, m, f.usable)
	}
	f.count.upstream(err, time.Since(began))
	if err != nil {
		return answer{}, fmt.Errorf("asking %s for %s: %w", t, plain(name), err)
	}
	return a, nil
}

// exchange gets a whole message from a server: over TCP when it did not fit,
// and without EDNS when the server does not understand that (RFC 6891, 6.2.2).
func (f *forwarder) exchange(ctx context.Context, t target, name string) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(name, dns.TypeA) // with a random id
	q.SetEdns0(udpSize, false)
	m, err := f.carry(ctx, t, q)
	if err == nil && m.Rcode == dns.RcodeFormatError {
		q.Extra = nil
		q.Id = dns.Id()
		m, err = f.carry(ctx, t, q)
	}
	return m, err
}

func (f *forwarder) carry(ctx context.Context, t target, q *dns.Msg) (*dns.Msg, error) {
	if t.tlsName != "" {
		conf := f.tls.Clone()
		conf.ServerName = t.tlsName
		return exchangeTCP(ctx, t.addr, q, conf)
	}
	m, err := exchangeUDP(ctx, t.addr, q, func() { f.count.ignored.Add(1) })
	if err == nil && m.Truncated {
		return exchangeTCP(ctx, t.addr, q, nil)
	}
	return m, err
}

// targets returns the servers to ask, the one that answered last first, without
// ourselves.
func (f *forwarder) targets() ([]target, error) {
	var all []target
	fault := errors.New("there is no DNS server to ask")
	for _, u := range f.upstreams {
		if !u.System {
			all = append(all, target{u.Addr, u.TLSName})
			continue
		}
		addrs, err := f.system.servers()
		if err != nil {
			fault = err
		}
		for _, addr := range addrs {
			all = append(all, target{addr: addr})
		}
	}
	all = slices.DeleteFunc(all, func(t target) bool {
		ours := f.isOurs(t.addr)
		if ours {
			f.log.Say(event.ResolverUpstreamIsUs, event.F("UPSTREAM", t))
		}
		return ours
	})
	f.health.order(all)
	if len(all) == 0 {
		return nil, fault
	}
	return all, nil
}

func (f *forwarder) say(n news) {
	if n.kind != nil {
		f.log.Say(n.kind, n.fields...)
	}
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// askUpstream asks for a key and remembers what its addresses are called.
func (s *Server) askUpstream(ctx context.Context, name string) (answer, error) {
	a, err := s.forward.ask(ctx, name)
	switch {
	case err == nil:
		s.given.note(name, a.addrs, time.Now())
	case errors.Is(err, errAnswer): // servers that do not answer have an event of their own
		s.log.Say(event.ResolverNameFailed, event.F("NAME", plain(name)), event.Err(err))
	}
	return a, err
}
