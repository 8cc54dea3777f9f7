package config

import (
	"net/netip"
	"slices"

	"chargegate/pkg/lease"
)

// private are the addresses that any garage may use for itself (RFC 1918).
var private = [...]netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
}

// Where address = "auto" looks for a free subnet: in this order, which begins
// with addresses that landlords hardly ever use, in steps of slot. Each step
// holds a network of any size, so that a network keeps its gateway when it, or
// one beside it, grows.
var searched = [...]netip.Prefix{
	netip.MustParsePrefix("10.83.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("10.0.0.0/8"),
}

const slot = 1 << (32 - 20)

// subnets checks the networks' addresses, chooses those that are "auto", and
// lays out the pools.
func (r *reader) subnets(drafts []*draft, c *Config) {
	var taken []claim
	if c.Uplink.Interface != "" {
		for _, p := range r.env.Uplink(c.Uplink.Interface) {
			if p = p.Masked(); p.IsValid() && p.Addr().Is4() && p.Bits() > 0 {
				taken = append(taken, claim{p, "the uplink"})
			}
		}
	}
	for _, d := range drafts {
		if d.auto || !d.Gateway.IsValid() {
			continue
		}
		if d.usable(taken) {
			taken = append(taken, claim{d.Gateway.Masked(), d.name})
		} else {
			d.Gateway = netip.Prefix{}
		}
	}
	for _, d := range drafts {
		if d.auto && d.Chargers > 0 {
			d.Gateway = choose(lease.Bits(d.Chargers), taken)
			taken = append(taken, claim{d.Gateway.Masked(), d.name})
		}
		d.pool(c)
		d.relay(c)
		c.Networks = append(c.Networks, d.Network)
		c.auto = append(c.auto, d.auto)
		c.secrets = append(c.secrets, d.secret)
	}
}

// A claim is a subnet that somebody has.
type claim struct {
	subnet netip.Prefix
	whose  string
}

// usable says whether a written address can be the gateway's.
func (d *draft) usable(taken []claim) bool {
	p := d.Gateway
	switch {
	case !p.Addr().Is4() || p.Bits() < 8 || p.Bits() > 30:
		d.bad("address", "%s is not an IPv4 address with a subnet length of 8 to 30; %s", p, allowAddress)
	case !isPrivate(p):
		d.bad("address", "%s is not private; allowed are addresses within 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 (RFC 1918)", p.Masked())
	case p.Addr() == p.Masked().Addr() || p.Addr() == lastOf(p):
		d.bad("address", "%s is the first or the last address of its subnet, which no machine can have; write %s/%d, for example", p, p.Masked().Addr().Next(), p.Bits())
	default:
		for _, t := range taken {
			if t.subnet.Overlaps(p) {
				d.bad("address", "%s overlaps %s, which belongs to %s; write another one, or \"auto\"", p.Masked(), t.subnet, t.whose)
				return false
			}
		}
		return true
	}
	return false
}

func isPrivate(p netip.Prefix) bool {
	for _, block := range private {
		if block.Bits() <= p.Bits() && block.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// lastOf is the broadcast address of an IPv4 subnet.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// choose finds the first private subnet of a length that overlaps nothing, and
// returns its first address for the gateway. The result is invalid when there
// is none.
func choose(bits int, taken []claim) netip.Prefix {
	for _, block := range searched {
		for at := block.Addr(); block.Contains(at); at = skip(at, slot) {
			p := netip.PrefixFrom(at, bits)
			if free(p, taken) {
				return netip.PrefixFrom(at.Next(), bits)
			}
		}
	}
	return netip.Prefix{}
}

func free(p netip.Prefix, taken []claim) bool {
	for _, t := range taken {
		if t.subnet.Overlaps(p) {
			return false
		}
	}
	return true
}

// skip is the address n further on.
func skip(a netip.Addr, n uint32) netip.Addr {
	b := a.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	v += n
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// pool lays out the network's addresses.
func (d *draft) pool(c *Config) {
	if d.auto && d.Chargers > 0 && !d.Gateway.IsValid() {
		d.bad("address", "no private subnet is free for %d chargers; write one of your own", d.Chargers)
		return
	}
	if !d.Gateway.IsValid() || d.Chargers == 0 {
		return // that was said already
	}
	pool, err := lease.NewPool(d.Name, d.Gateway, d.Chargers)
	if err != nil {
		d.bad("address", "%v", err)
		return
	}
	c.Pools = append(c.Pools, pool)
}

// relay reads who may be a relay agent. One that had an address which is given
// to others would hand its place to whoever is given it.
func (d *draft) relay(c *Config) {
	for _, it := range d.relays {
		addr, err := netip.ParseAddr(it.text)
		pool, ok := d.laidOut(c)
		switch {
		case d.Radio != nil:
			d.fault(it.at, it.key, "there can be no relay agent on a radio of this box; leave relays out")
		case err != nil || !addr.Is4():
			d.fault(it.at, it.key, "%s is not an IPv4 address; %s", quote(it.text), allowRelays)
		case !ok: // that was said already
		case !d.Gateway.Contains(addr) || addr == d.Gateway.Addr() || addr == d.Gateway.Masked().Addr() || addr == lastOf(d.Gateway):
			d.fault(it.at, it.key, "%s cannot be a device of %s; write an address of the relay agent on this network", addr, d.Gateway.Masked())
		case !addr.Less(pool.First) && !pool.LastStranger.Less(addr):
			d.fault(it.at, it.key, "%s is one of those that are given away, %s to %s; give the relay agent one beyond them", addr, pool.First, pool.LastStranger)
		case slices.Contains(d.Relays, addr):
			d.fault(it.at, it.key, "%s stands twice", quote(it.text))
		default:
			d.Relays = append(d.Relays, addr)
		}
	}
}

// laidOut is the network's pool, if there is one.
func (d *draft) laidOut(c *Config) (lease.Pool, bool) {
	i := slices.IndexFunc(c.Pools, func(p lease.Pool) bool { return p.Network == d.Name && p.Gateway == d.Gateway })
	if i < 0 {
		return lease.Pool{}, false
	}
	return c.Pools[i], true
}
