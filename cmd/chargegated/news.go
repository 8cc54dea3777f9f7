package main

import (
	"context"
	"sync"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
)

// absence is how long a charger may be without the cloud before somebody is
// told. It comes back by itself after seconds in the ordinary cases: its
// password for the cloud is renewed once a week (10 s and a back-off of up to
// 180 s), or the box was restarted.
const absence = 5 * time.Minute

// news tells when a charger comes online, and when it stays away. A short
// interruption is nobody's business.
type news struct {
	log  *event.Log
	book *charger.Book // what it has come to, when it stays away
	mu   sync.Mutex
	of   map[charger.MAC]*presence
}

// presence is what was last said of a charger.
type presence struct {
	lost time.Time // when it lost the cloud; zero while it has it
	away bool      // it was said that it stays away
}

func newNews(log *event.Log) *news { return &news{log: log, of: map[charger.MAC]*presence{}} }

// moved hears of every step of every charger.
func (n *news) moved(c charger.Charger, from, to charger.Stage, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.of[c.MAC]
	switch {
	case to == charger.OK && p == nil:
		n.of[c.MAC] = &presence{}
		n.log.Say(event.ChargerOnline, event.MAC(c.MAC))
	case to == charger.OK && p.away:
		*p = presence{}
		n.log.Say(event.ChargerOnline, event.MAC(c.MAC))
	case to == charger.OK:
		n.log.Say(event.ChargerBack, event.MAC(c.MAC), event.F("AFTER", now.Sub(p.lost)))
		p.lost = time.Time{}
	case from == charger.OK && p != nil:
		p.lost = now
	}
}

// look tells of those who have been away too long.
func (n *news) look(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for mac, p := range n.of {
		if p.lost.IsZero() || p.away || now.Sub(p.lost) < absence {
			continue
		}
		p.away = true
		n.log.Say(event.ChargerOffline, event.MAC(mac), event.F("STAGE", n.book.StageOf(mac)), event.F("SINCE", now.Sub(p.lost)))
	}
}

func (n *news) Name() string  { return "news" }
func (n *news) Listen() error { return nil }

func (n *news) Serve(ctx context.Context) error {
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			n.look(now)
		case <-ctx.Done():
			return nil
		}
	}
}
