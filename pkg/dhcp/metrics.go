package dhcp

import (
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/prometheus/client_golang/prometheus"
)

// messageTypes is how many types RFC 2132, 9.6, knows, and one for all others.
const messageTypes = int(dhcpv4.MessageTypeInform) + 1

// counters are what a network counts.
type counters struct {
	received      [messageTypes]atomic.Uint64 // 0: of an unknown type
	sent          [messageTypes]atomic.Uint64
	dropped       [reasons]atomic.Uint64
	overflow      atomic.Uint64
	missed        atomic.Uint64 // by the kernel's count
	stuck         atomic.Uint64 // answers for which there was no room in the send buffer
	unsentReplies atomic.Uint64
	panics        atomic.Uint64
}

func (c *counters) count(kind dhcpv4.MessageType) {
	c.received[index(kind)].Add(1)
}

func kindOf(m *dhcpv4.DHCPv4) int { return index(m.MessageType()) }

func index(kind dhcpv4.MessageType) int {
	if int(kind) >= messageTypes {
		return 0
	}
	return int(kind)
}

// typeNames are the label values, in the numbering of RFC 2132, 9.6.
var typeNames = [messageTypes]string{"unknown", "discover", "offer", "request", "decline", "ack", "nak", "release", "inform"}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("chargegate_dhcp_"+name, help, labels, nil)
}

var (
	descReceived = desc("requests_total", "Messages from clients.", "network", "type")
	descSent     = desc("replies_total", "Messages to clients.", "network", "type")
	descDropped  = desc("dropped_total", "Packets that were not answered.", "network", "reason")
	descUnsent   = desc("unsent_total", "Replies that could not be sent.", "network")
	descPanics   = desc("panics_total", "Packets that met a fault in this program.", "network")
	descUp       = desc("interface_up", "Whether the network's interface is there and listened on.", "network")
	descSize     = desc("pool_addresses", "Addresses that may be given away.", "network", "to")
	descUsed     = desc("pool_used_addresses", "Addresses that are promised to somebody.", "network", "to")
	descQuaran   = desc("pool_quarantined_addresses", "Addresses that were declined within the last hour.", "network")
	descInUse    = desc("pool_in_use_addresses", "Addresses that somebody uses who does not have them from here.", "network")
	descClaims   = desc("arp_claims_total", "ARP messages of devices that say which address is theirs, by whose it is.", "network", "claim")
	descAsked    = desc("arp_probes_total", "Questions who uses an address, asked ahead of need.", "network")
	descDeaf     = desc("neighbour_missed_frames_total", "Frames of ARP and of other servers that were only counted, because there were too many.", "network")
	descForeign  = desc("foreign_replies_total", "Messages of other DHCP servers.", "network", "type")
	descRogues   = desc("foreign_servers", "Other DHCP servers that are known.", "network")
	descProbes   = desc("server_probes_total", "Questions who else gives addresses.", "network")
	descServing  = desc("serving", "Whether devices that ask are answered: not without the gateway's address, nor where another chargegate serves.", "network")
	descCarrier  = desc("carrier", "Whether the network's interface has a carrier.", "network")
	descSafe     = desc("storage_up", "Whether new addresses reach the disk.")
	descSyncs    = desc("storage_syncs_total", "Times that the journal was synced for new addresses.")
	descJournal  = desc("storage_journal_bytes", "Length of the journal since the last snapshot.")
)

// Describe tells what Collect collects.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descReceived, descSent, descDropped, descUnsent, descPanics, descUp,
		descSize, descUsed, descQuaran, descInUse, descClaims, descAsked, descDeaf, descForeign, descRogues, descProbes, descServing, descCarrier, descSafe, descSyncs, descJournal} {
		ch <- d
	}
}

// Collect reads every counter and looks at the table.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, l := range s.links {
		l.overlook()
		l.counters.collect(l.Name, ch)
		l.neighbourhood.collect(l.Name, ch)
		there := l.current() != nil
		gauge(descUp, number(there), l.Name)
		gauge(descServing, number(there && l.closed() == fine), l.Name)
		gauge(descCarrier, number(there && !l.dark.Load()), l.Name)
		gauge(descRogues, float64(len(l.rogues.known())), l.Name)
	}
	for _, c := range s.leases.Counts(time.Now()) {
		gauge(descSize, float64(c.Size), c.Network, "chargers")
		gauge(descSize, float64(c.StrangerSize), c.Network, "strangers")
		gauge(descUsed, float64(c.Used), c.Network, "chargers")
		gauge(descUsed, float64(c.StrangerUsed), c.Network, "strangers")
		gauge(descQuaran, float64(c.Quarantined), c.Network)
		gauge(descInUse, float64(c.InUse), c.Network)
	}
	st := s.leases.Stats()
	gauge(descSafe, number(s.leases.Trouble() == nil))
	gauge(descJournal, float64(st.JournalBytes))
	ch <- prometheus.MustNewConstMetric(descSyncs, prometheus.CounterValue, float64(st.Syncs))
}

// counts returns what collects a network's counter.
func counts(network string, ch chan<- prometheus.Metric) func(d *prometheus.Desc, v uint64, labels ...string) {
	return func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{network}, labels...)...)
	}
}

func (h *neighbourhood) collect(network string, ch chan<- prometheus.Metric) {
	counter := counts(network, ch)
	for m := range meanings {
		counter(descClaims, h.claims[m].Load(), meaningNames[m])
	}
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak} {
		counter(descForeign, h.foreignReplies[kind].Load(), typeNames[kind])
	}
	counter(descAsked, h.questions.Load())
	counter(descDeaf, h.deaf.Load())
	counter(descProbes, h.probes.Load())
}

func (c *counters) collect(network string, ch chan<- prometheus.Metric) {
	counter := counts(network, ch)
	for i, name := range typeNames {
		switch dhcpv4.MessageType(i) {
		case dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak:
			counter(descSent, c.sent[i].Load(), name)
		default:
			counter(descReceived, c.received[i].Load(), name)
		}
	}
	for r := malformed; r < reasons; r++ {
		counter(descDropped, c.dropped[r].Load(), r.String())
	}
	counter(descDropped, c.overflow.Load(), "queue full")
	counter(descDropped, c.missed.Load(), "receive buffer full")
	counter(descDropped, c.stuck.Load(), "send buffer full")
	counter(descUnsent, c.unsentReplies.Load())
	counter(descPanics, c.panics.Load())
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
