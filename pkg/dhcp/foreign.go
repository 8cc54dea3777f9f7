package dhcp

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"chargegate/pkg/charger"
)

// A foreign is what somebody else says as a DHCP server.
type foreign struct {
	from   charger.MAC // who sent the frame
	server netip.Addr  // who it says it is: option 54, or the packet's source
	to     charger.MAC // the client that it answers
	xid    dhcpv4.TransactionID
	kind   dhcpv4.MessageType
	mark   mark       // of another chargegate; none: of any other server
	relay  netip.Addr // the relay agent that it came through, it says; invalid: none
}

// parseForeign reads a server's message; ok is false when it is none.
func parseForeign(frame []byte) (f foreign, ok bool) {
	d, ok := unpack(frame)
	if !ok || d.to.Port() != dhcpv4.ClientPort {
		return foreign{}, false
	}
	m, err := dhcpv4.FromBytes(d.payload)
	if err != nil || m.OpCode != dhcpv4.OpcodeBootReply || len(m.ClientHWAddr) != len(charger.MAC{}) {
		return foreign{}, false
	}
	f = foreign{from: d.sender, server: address(m.ServerIdentifier()), to: charger.MAC(m.ClientHWAddr),
		xid: m.TransactionID, kind: m.MessageType(), relay: address(m.GatewayIPAddr)}
	if !f.server.IsValid() {
		f.server = d.from.Addr()
	}
	switch f.kind {
	case dhcpv4.MessageTypeNak:
		if says := mark(m.Message()); m.ClassIdentifier() == vendorClass && (says == starting || says == serving) {
			f.mark = says
		}
		return f, true
	case dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck:
		return f, true
	}
	return foreign{}, false
}

const (
	// maxRogues bounds how many other servers of a network are remembered; those
	// beyond are counted.
	maxRogues = 16
	// remind is the time after which a server that is still there is said again.
	remind = time.Hour
	// goneAfter is how many looks in a row have to find nothing of a server before
	// it counts as gone.
	goneAfter = 2
)

// rogues are the other DHCP servers of a network.
type rogues struct {
	mu   sync.Mutex
	list []rogue // in the order in which they were noticed
}

// A rogue is a DHCP server that is not ours, by the MAC that it sends from: it
// can give itself any address.
type rogue struct {
	mac    charger.MAC
	server netip.Addr
	said   time.Time
	heard  bool // since the last look
	missed int  // looks in a row that found nothing
}

// hear notes a server's message, and whether it is to be said.
func (r *rogues) hear(f foreign, now time.Time) (say bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.list, func(k rogue) bool { return k.mac == f.from })
	if i < 0 {
		if len(r.list) >= maxRogues {
			return false
		}
		i = len(r.list)
		r.list = append(r.list, rogue{mac: f.from})
	}
	k := &r.list[i]
	k.server, k.heard, k.missed = f.server, true, 0
	if !k.said.IsZero() && now.Sub(k.said) < remind {
		return false
	}
	k.said = now
	return true
}

// looked ends a look, and returns the servers that have gone.
func (r *rogues) looked() (gone []rogue) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = slices.DeleteFunc(r.list, func(k rogue) bool {
		over := !k.heard && k.missed+1 >= goneAfter
		if over {
			gone = append(gone, k)
		}
		return over
	})
	for i := range r.list {
		k := &r.list[i]
		if !k.heard {
			k.missed++
		}
		k.heard = false
	}
	return gone
}

// known returns the servers that are there, in the order in which they were
// noticed.
func (r *rogues) known() []rogue {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}
