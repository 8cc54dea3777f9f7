package dhcp

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

// An answer is everything that follows from a query: what to send and how, what
// has to be on disk before, what the book learns, and what is said.
type answer struct {
	hw    charger.MAC
	reply *dhcpv4.DHCPv4 // nil: silence
	route route
	// ticket has to be committed before anything else of the answer happens.
	ticket lease.Ticket
	drop   reason
	learn  lesson
	// other is who uses an address that was declined; zero if that is not known.
	other charger.MAC

	kind   *event.Kind // nil: nothing is said
	fields []event.Field
	// crowd marks an event that any number of made-up MACs can cause.
	crowd bool
}

// A lesson is what the book of chargers learns.
type lesson int

const (
	nothing  lesson = iota
	leased          // it has an address
	unleased        // it has lost it
)

// A desk answers the queries of one network. What it answers depends on the
// query, the table, how much the client asked for before, and the time alone.
type desk struct {
	Network
	// selves are the gateway's addresses on all its networks: each stands for this
	// server in option 54 (RFC 2131, 4.1).
	selves []netip.Addr
	leases *lease.Table
	term   time.Duration

	declines, bindings, naks *limit
	// What all clients that are not listed may do together, for a MAC is easily
	// made up: without an inventory everybody is of these, with one the strangers.
	nobodysDeclines                  *limit
	unnamedBindings, strangeBindings *limit
}

// newDesk makes the desk of one of all networks.
func newDesk(n Network, all []Network, leases *lease.Table, term time.Duration) desk {
	d := desk{Network: n, leases: leases, term: term,
		declines: newLimit(maxDeclines, declinesEvery), bindings: newLimit(maxBindings, bindingsEvery), naks: newLimit(maxNaks, naksEvery),
		nobodysDeclines: newLimit(maxNobodysDeclines, nobodysDeclinesEvery)}
	for _, other := range all {
		d.selves = append(d.selves, other.Gateway.Addr())
	}
	for _, c := range leases.Counts(time.Now()) {
		if c.Network == n.Name {
			d.unnamedBindings = newLimit(perAddress*max(1, c.Size), bindingsEvery)
			d.strangeBindings = newLimit(perAddress*max(1, c.StrangerSize), bindingsEvery)
		}
	}
	return d
}

// together is the key of an allowance that clients have together.
var together charger.MAC

// mayBind says whether a client may have a new binding now.
func (d *desk) mayBind(q query, now time.Time) bool {
	if !d.bindings.allows(q.hw, q.listed, now) {
		return false
	}
	share := d.share(q)
	return share == nil || share.allows(together, true, now)
}

// bound notes that it had one.
func (d *desk) bound(q query, now time.Time) {
	d.bindings.use(q.hw, q.listed, now)
	if share := d.share(q); share != nil {
		share.use(together, true, now)
	}
}

// share is what the client's kind has together; nil: it is listed.
func (d *desk) share(q query) *limit {
	switch {
	case q.listed:
		return nil
	case q.known:
		return d.unnamedBindings
	}
	return d.strangeBindings
}

// answer decides (RFC 2131, 4.3).
func (d *desk) answer(q query, now time.Time) answer {
	var a answer
	switch q.kind {
	case dhcpv4.MessageTypeDiscover:
		a = d.discover(q, now)
	case dhcpv4.MessageTypeRequest:
		a = d.request(q, now)
	case dhcpv4.MessageTypeRelease:
		a = d.release(q, now)
	case dhcpv4.MessageTypeDecline:
		a = d.decline(q, now)
	case dhcpv4.MessageTypeInform:
		a = d.inform(q)
	case dhcpv4.MessageTypeNone:
		a = answer{drop: bootp}
	default:
		a = answer{drop: unknownType}
	}
	a.hw = q.hw
	a.crowd = a.crowd && !q.listed
	if a.reply != nil {
		fit(q, a.reply)
		a.route = routeOf(q, a.reply)
	}
	return a
}

// discover offers an address (RFC 2131, 4.3.1). A client that asks for it is
// given the address at once (RFC 4039, 3.1), if it may have a binding now.
func (d *desk) discover(q query, now time.Time) answer {
	addr, err := d.leases.Offer(d.Name, q.hw, q.wants, q.known, now)
	switch {
	case errors.Is(err, lease.ErrExhausted) && q.known:
		return answer{kind: event.PoolExhausted, crowd: true}
	case err != nil:
		return answer{kind: event.StrangersExhausted, crowd: true}
	}
	if q.rapid() {
		if a, err := d.bind(q, addr, true, now); err == nil {
			a.reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil))
			return a
		}
	}
	return answer{
		reply: d.lend(q, dhcpv4.MessageTypeOffer, addr),
		kind:  event.LeaseOffered, crowd: true, fields: []event.Field{event.IP(addr), event.F("HOSTNAME", q.HostName())},
	}
}

// request answers by the client's state (RFC 2131, 4.3.2).
func (d *desk) request(q query, now time.Time) answer {
	if d.foreign(q.server) {
		return d.elsewhere(q)
	}
	switch q.state() {
	case selecting, rebooting:
		return d.grant(q, q.wants, true, now)
	case renewing:
		return d.grant(q, q.ciaddr, false, now)
	}
	return answer{drop: malformed}
}

// foreign says whether a message names another server than this.
func (d *desk) foreign(server netip.Addr) bool {
	return server.IsValid() && !slices.Contains(d.selves, server)
}

// elsewhere drops what was offered: the client has told everybody that it
// chose another server (RFC 2131, 3.1, step 3).
func (d *desk) elsewhere(q query) answer {
	d.leases.Forgo(d.Name, q.hw)
	return answer{drop: foreignServer, kind: event.LeaseElsewhere, crowd: true,
		fields: []event.Field{event.F("SERVER", q.server)}}
}

// forgery drops what somebody sent in another's name.
func forgery(q query) answer {
	return answer{hw: q.hw, drop: foreignSender, kind: event.SenderForged, crowd: !q.listed,
		fields: []event.Field{event.F("SENDER", q.sender)}}
}

// grant gives the address asked for, or says no. This network is ours alone
// (Z-5): an address outside it or of somebody else is certainly wrong, and one
// that we know nothing of is free. So we answer where RFC 2131, 4.3.2, would have
// a server that shares the network be silent.
func (d *desk) grant(q query, addr netip.Addr, starting bool, now time.Time) answer {
	a, err := d.bind(q, addr, starting, now)
	if err != nil {
		return d.refuse(q, addr, err, now)
	}
	return a
}

// errTooMany means that the client has had its share of new bindings.
var errTooMany = errors.New("too many new addresses")

// bind gives an address for as long as this server says, also when the client
// asked for less and is told so: what is in the table may be longer (RFC 2131,
// 3.3).
func (d *desk) bind(q query, addr netip.Addr, starting bool, now time.Time) (answer, error) {
	if b, had := d.leases.Lookup(d.Name, q.hw); (!had || b.Addr != addr) && !d.mayBind(q, now) {
		return answer{}, errTooMany
	}
	g, err := d.leases.Bind(lease.Claim{Network: d.Name, HW: q.hw, Known: q.known, Host: q.HostName(), Term: d.term, Starting: starting}, addr, now)
	if err != nil {
		return answer{}, err
	}
	a := answer{
		reply: d.lend(q, dhcpv4.MessageTypeAck, addr), ticket: g.Ticket,
		learn: leased,
		kind:  event.LeaseRenewed,
		fields: []event.Field{event.IP(addr), event.F("LEASE", d.termFor(q)),
			event.F("HOSTNAME", g.Host), event.F("KNOWN", q.known)},
	}
	switch {
	case g.New:
		d.bound(q, now)
		a.kind = event.LeaseGranted
	case starting || g.First:
		a.kind = event.LeaseKept
	}
	return a, nil
}

// refuse says no. A client that asks for wrong addresses without end is not
// answered each time.
func (d *desk) refuse(q query, addr netip.Addr, err error, now time.Time) answer {
	switch {
	case errors.Is(err, errTooMany):
		return answer{drop: bindingsTooMany, kind: event.BindingsTooMany, crowd: true}
	case !errors.Is(err, lease.ErrRefused):
		return answer{drop: notOurs}
	case !d.naks.allows(q.hw, q.listed, now):
		return answer{drop: naksTooMany}
	}
	d.naks.use(q.hw, q.listed, now)
	why := strings.TrimPrefix(err.Error(), lease.ErrRefused.Error()+": ")
	if !d.Gateway.Contains(addr) {
		why = "it is of another network"
	}
	var learn lesson
	if b, had := d.leases.Lookup(d.Name, q.hw); had && b.Addr == addr && !b.Live(now) {
		learn = unleased // a stranger who had to make room
	}
	return answer{
		reply: d.nak(q, why), learn: learn,
		kind: event.LeaseRefused, crowd: true, fields: []event.Field{event.IP(addr), event.F("REASON", why)},
	}
}

// release takes an address back; there is no answer (RFC 2131, 4.3.4).
func (d *desk) release(q query, now time.Time) answer {
	if d.foreign(q.server) {
		return answer{drop: foreignServer}
	}
	if !d.leases.Release(d.Name, q.hw, q.ciaddr, now) {
		return answer{drop: notOurs}
	}
	return answer{learn: unleased, kind: event.LeaseReleased, fields: []event.Field{event.IP(q.ciaddr)}}
}

// decline puts an address into quarantine; there is no answer (RFC 2131, 4.3.3).
func (d *desk) decline(q query, now time.Time) answer {
	if d.foreign(q.server) {
		return answer{drop: foreignServer}
	}
	if !d.declines.allows(q.hw, q.listed, now) || !q.listed && !d.nobodysDeclines.allows(together, true, now) {
		return answer{drop: declinesTooMany, kind: event.DeclineIgnored, crowd: true, fields: []event.Field{event.IP(q.wants)}}
	}
	ticket, user, ok := d.leases.Decline(d.Name, q.hw, q.wants, now)
	if !ok {
		return answer{drop: notOurs}
	}
	d.declines.use(q.hw, q.listed, now)
	if !q.listed {
		d.nobodysDeclines.use(together, true, now)
	}
	return answer{ticket: ticket, learn: unleased, kind: event.LeaseDeclined, crowd: true, other: user, fields: []event.Field{event.IP(q.wants)}}
}

// inform tells a client with an address of its own about the network (RFC 2131,
// 4.3.5). It looks at no lease and promises nothing.
func (d *desk) inform(q query) answer {
	if !d.canHold(q.ciaddr) {
		return answer{drop: notOurs}
	}
	reply := d.reply(q, dhcpv4.MessageTypeAck)
	d.describe(q, reply)
	return answer{reply: reply}
}
