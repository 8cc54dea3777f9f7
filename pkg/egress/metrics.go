package egress

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// A result is what became of a call. The zero value is none.
type result int

const (
	resultNone result = iota
	resultCarried
	resultUnknownName
	resultWrongPort
	resultNoName
	resultNotTLS
	resultHelloFailed
	resultUnreachable
	resultDirect
	resultOutsider
	resultChargerLimit
	resultLeaselessLimit
	resultTotalLimit
	resultHelloLimit
	resultStrangersLimit
	resultCount
)

var resultNames = [resultCount]string{
	"", "carried", "unknown_name", "wrong_port", "no_name", "not_tls", "hello_failed", "unreachable", "direct", "outsider",
	"charger_limit", "leaseless_limit", "total_limit",
	"hello_limit", "strangers_limit",
}

// counts are what the room counts. The zero value is ready.
type counts struct {
	results      [resultCount]atomic.Int64
	dials        [4]atomic.Int64 // failed, by causes
	up, down     atomic.Int64
	idle         atomic.Int64
	panics       atomic.Int64
	acceptFailed atomic.Int64
}

func (c *counts) result(r result) { c.results[r].Add(1) }

func (c *counts) dialFailed(cause string) {
	for i, name := range causes {
		if name == cause {
			c.dials[i].Add(1)
		}
	}
}

// What a scrape sees.
var (
	descConversations = prometheus.NewDesc("chargegate_egress_conversations_total", "Calls of chargers, by what became of them.", []string{"result"}, nil)
	descOpen          = prometheus.NewDesc("chargegate_egress_open_conversations", "Calls that are open now, from their first packet on.", nil, nil)
	descBytes         = prometheus.NewDesc("chargegate_egress_bytes_total", "Bytes carried, by direction: up is from the chargers.", []string{"direction"}, nil)
	descDials         = prometheus.NewDesc("chargegate_egress_dial_failures_total", "Attempts to reach an allowed name that failed, by cause.", []string{"cause"}, nil)
	descDown          = prometheus.NewDesc("chargegate_egress_unreachable_names", "Allowed names that could not be reached when last tried.", nil, nil)
	descIdle          = prometheus.NewDesc("chargegate_egress_idle_closed_total", "Conversations closed because nothing moved for too long.", nil, nil)
	descPanics        = prometheus.NewDesc("chargegate_egress_panics_total", "Calls lost to a fault of the gateway itself.", nil, nil)
	descAccept        = prometheus.NewDesc("chargegate_egress_accept_failures_total", "Times the kernel had no new connection to give.", nil, nil)
)

var descs = []*prometheus.Desc{descConversations, descOpen, descBytes, descDials, descDown, descIdle, descPanics, descAccept, descPlaces, descHeld, descHellos}

// Describe tells the metrics of the room.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect reads the metrics of the room now.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v int) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	for r := resultNone + 1; r < resultCount; r++ {
		count(descConversations, s.counts.results[r].Load(), resultNames[r])
	}
	gauge(descOpen, s.places.open())
	s.places.collect(ch)
	count(descBytes, s.counts.up.Load(), "up")
	count(descBytes, s.counts.down.Load(), "down")
	for i, cause := range causes {
		count(descDials, s.counts.dials[i].Load(), cause)
	}
	gauge(descDown, s.outages.count())
	count(descIdle, s.counts.idle.Load())
	count(descPanics, s.counts.panics.Load())
	count(descAccept, s.counts.acceptFailed.Load())
}
