package egress

import (
	"fmt"
	"sync"
	"time"
)

// outages knows which allowed names cannot be reached now, so that an outage is
// said once, whoever asks, and its end too.
type outages struct {
	mu   sync.Mutex
	open map[string]*outage
}

type outage struct {
	since  time.Time
	failed int
}

// maxOutages bounds what is remembered: a pattern on the list allows any
// number of names.
const maxOutages = 256

func outageKey(name string, port uint16) string { return fmt.Sprintf("%s:%d", name, port) }

// failed notes that a name could not be reached and reports whether that is
// news.
func (o *outages) failed(name string, port uint16, now time.Time) (first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := outageKey(name, port)
	if known := o.open[key]; known != nil {
		known.failed++
		return false
	}
	if len(o.open) >= maxOutages {
		clear(o.open)
	}
	o.open[key] = &outage{since: now, failed: 1}
	return true
}

// reached notes that a name was reached. over says that it could not be before,
// for how long and how often.
func (o *outages) reached(name string, port uint16, now time.Time) (lasted time.Duration, failed int, over bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := outageKey(name, port)
	known := o.open[key]
	if known == nil {
		return 0, 0, false
	}
	delete(o.open, key)
	return now.Sub(known.since), known.failed, true
}

// count returns how many names cannot be reached now.
func (o *outages) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.open)
}
