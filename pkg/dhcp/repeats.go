package dhcp

import (
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"chargegate/pkg/charger"
)

const (
	// repeatsFor is how long a DISCOVER is remembered; the longest pause between
	// two of a client is a minute.
	repeatsFor = 2 * time.Minute
	// maxRepeats bounds what is remembered.
	maxRepeats = 2048
)

// repeats counts how often each client sent the same DISCOVER.
type repeats struct {
	mu   sync.Mutex
	last map[charger.MAC]repeat
}

type repeat struct {
	xid   dhcpv4.TransactionID
	times int
	at    time.Time
}

// count returns how often the same DISCOVER came before.
func (r *repeats) count(q query, now time.Time) int {
	if q.kind != dhcpv4.MessageTypeDiscover {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil || len(r.last) >= maxRepeats {
		r.last = map[charger.MAC]repeat{} // the price is an OFFER more that is not broadcast
	}
	was, ok := r.last[q.hw]
	if !ok || was.xid != q.TransactionID || now.Sub(was.at) > repeatsFor {
		was = repeat{xid: q.TransactionID, times: -1}
	}
	was.times++
	was.at = now
	r.last[q.hw] = was
	return was.times
}
