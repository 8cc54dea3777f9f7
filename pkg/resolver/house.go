package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// LookupNetIP returns the addresses of an allowed name, from the same memory and
// the same upstreams that chargers are answered from, as long as ctx allows. The
// network must be "ip4" or "ip". Errors are *net.DNSError; a name that the list
// does not hold is not found, whatever the world says of it. Where a server gave
// nothing but addresses that no server can have, one of the errors within has them:
// Unusable() []netip.Addr.
func (s *Server) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	refusal := func(text string) error { return &net.DNSError{Err: text, Name: host, IsNotFound: true} }
	if network != "ip4" && network != "ip" {
		return nil, refusal(fmt.Sprintf("no addresses of network %q here, IPv4 only", network))
	}
	q := dns.Question{Name: dns.Fqdn(host), Qtype: dns.TypeA, Qclass: dns.ClassINET}
	if _, ok := dns.IsDomainName(q.Name); !ok || rule(s.list, q) != lookup {
		return nil, refusal("not on the allow-list")
	}
	f, err := s.memory.find(ctx, key(host))
	if err != nil {
		return nil, &net.DNSError{UnwrapErr: err, Err: err.Error(), Name: host, IsTemporary: true,
			IsTimeout: errors.Is(ctx.Err(), context.DeadlineExceeded)}
	}
	s.noteOrigin(key(host), f)
	switch {
	case len(f.addrs) > 0:
	case f.rcode == dns.RcodeNameError:
		return nil, refusal("no DNS server knows this name: check its spelling")
	default:
		return nil, refusal("this name has no IPv4 address")
	}
	return slices.Clone(f.addrs), nil
}

// Known returns the addresses of an allowed name that LookupNetIP would return at
// once, because they still count; else nothing. They must not be changed.
func (s *Server) Known(host string) []netip.Addr {
	k, ok := s.memory.peek(key(host), time.Now())
	if !ok || len(k.addrs) == 0 {
		return nil
	}
	s.count.lookups[fromCache].Add(1)
	return k.addrs
}

// Confirmed says how long ago the addresses of a name were last confirmed, when
// those that LookupNetIP gives are old ones, because no upstream has confirmed them
// since they ended (RFC 8767). It is not old when they still count, and when
// nothing is remembered. It asks nobody.
func (s *Server) Confirmed(host string) (ago time.Duration, old bool) {
	return s.memory.confirmed(key(host), time.Now())
}

// NamesAt returns which allowed names a device was told to have an address, up to
// a week ago, in alphabetical order: for conversations that do not say whom they
// want. A device that was told nothing may have kept an address from before our
// start; for it, all names count that had the address when anybody was told.
func (s *Server) NamesAt(caller, addr netip.Addr) []string {
	caller, addr = caller.Unmap(), addr.Unmap()
	now := time.Now()
	names, told := s.toldTo.at(caller, addr, now)
	if !told {
		names = s.given.at(addr, now)
	}
	return slices.DeleteFunc(names, func(name string) bool { return !s.list.Holds(name) })
}

// Ask asks this server a real question over the network, the way a charger
// does, and checks the answer: the proof of life for the watchdog. It fails when
// ctx ends before a right answer came.
func (s *Server) Ask(ctx context.Context) error {
	at, ok := s.house()
	if !ok {
		return errors.New("asking our own resolver: it does not listen")
	}
	q := new(dns.Msg).SetQuestion("pool.ntp.org.", dns.TypeA)
	m, err := askAgain(ctx, at, q)
	if err != nil {
		return fmt.Errorf("asking our own resolver at %s: %w", at, err)
	}
	for _, rr := range m.Answer {
		if _, ok := rr.(*dns.A); ok && m.Rcode == dns.RcodeSuccess {
			return nil
		}
	}
	return fmt.Errorf("asking our own resolver at %s: %s with %d records and no address of pool.ntp.org",
		at, dns.RcodeToString[m.Rcode], len(m.Answer))
}

// askAgain asks every second until an answer comes or ctx ends: a datagram may
// be lost on a full socket, and that is no sign of death.
func askAgain(ctx context.Context, at netip.AddrPort, q *dns.Msg) (m *dns.Msg, err error) {
	for {
		next := time.After(time.Second) // also where it was refused at once
		try, cancel := context.WithTimeout(ctx, time.Second)
		m, err = exchangeUDP(try, at, q, nil)
		cancel()
		if err == nil || ctx.Err() != nil {
			return m, err
		}
		select {
		case <-next:
		case <-ctx.Done():
			return m, err
		}
	}
}

// house returns the address to ask ourselves on: House when it is held, else
// another one on loopback, else any.
func (s *Server) house() (netip.AddrPort, bool) {
	at := s.Addrs()
	if slices.Contains(at, House) {
		return House, true
	}
	if i := slices.IndexFunc(at, func(a netip.AddrPort) bool { return a.Addr().IsLoopback() }); i >= 0 {
		return at[i], true
	}
	if len(at) == 0 {
		return netip.AddrPort{}, false
	}
	return at[0], true
}
