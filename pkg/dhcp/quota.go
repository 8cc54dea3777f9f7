package dhcp

import (
	"net/netip"
	"sync"
	"time"

	"chargegate/pkg/charger"
)

// A quota bounds what strangers can make a network say, and remember: MACs are
// easily made up, and the log has one end.
type quota struct {
	each int // different matters of one device in an hour
	all  int // different matters in an hour

	mu    sync.Mutex
	since time.Time
	said  map[matter]bool
	of    map[charger.MAC]int
}

// A matter is what makes two events the same.
type matter struct {
	who  charger.MAC
	addr netip.Addr
}

// take asks to say something. What was said within the hour may be said again;
// how often is up to the event's Every.
func (q *quota) take(m matter, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.said == nil || now.Sub(q.since) >= time.Hour {
		q.since, q.said, q.of = now, map[matter]bool{}, map[charger.MAC]int{}
	}
	if q.said[m] {
		return true
	}
	if len(q.said) >= q.all || q.of[m.who] >= q.each {
		return false
	}
	q.said[m] = true
	q.of[m.who]++
	return true
}
