package main

import (
	"context"
	"fmt"
	"strings"
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

// missing is how long after the start a charger may be without its first
// conversation before somebody is told: after a power cut chargers are back
// within a minute or two (F-1).
const missing = 10 * time.Minute

// together is how many chargers that stay away at once are one story: what they
// share is at fault, and one line says so.
const together = 4

// shownNames is how many names such a line holds.
const shownNames = 12

// news tells when a charger comes online, when it stays away, and which ones
// never came. A short interruption is nobody's business.
type news struct {
	log   *event.Log
	book  *charger.Book
	began time.Time

	mu   sync.Mutex
	of   map[charger.MAC]*presence // those that were online
	told bool                      // who is missing since the start was looked at
}

// presence is what was last said of a charger.
type presence struct {
	lost time.Time // when it lost the cloud; zero while it has it
	away bool      // it was said that it stays away
}

func newNews(log *event.Log, began time.Time) *news {
	return &news{log: log, began: began, of: map[charger.MAC]*presence{}}
}

// moved hears of every step of every charger. From ok to ok is who talked with the
// cloud when the daemon before this one ended, and still does: handover-conversations
// has said that of all of them.
func (n *news) moved(c charger.Charger, from, to charger.Stage, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.of[c.MAC]
	switch {
	case to == charger.OK && from == charger.OK:
		if p == nil {
			n.of[c.MAC] = &presence{}
		}
	case to == charger.OK && (p == nil || p.away):
		n.of[c.MAC] = &presence{}
		n.log.Say(event.ChargerOnline, event.MAC(c.MAC))
	case to == charger.OK && !p.lost.IsZero():
		n.log.Say(event.ChargerBack, event.MAC(c.MAC), event.F("AFTER", now.Sub(p.lost)))
		p.lost = time.Time{}
	case from == charger.OK && p != nil:
		p.lost = now
	}
}

// look tells of those who have been away too long. all is everybody, in the
// order in which people read them.
func (n *news) look(all []charger.Status, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookForMissing(all, now)
	var away []charger.Status
	there := make(map[charger.MAC]bool, len(all))
	for _, s := range all {
		there[s.MAC] = true
		if p := n.of[s.MAC]; p != nil && !p.lost.IsZero() && !p.away && now.Sub(p.lost) >= absence {
			p.away = true
			away = append(away, s)
		}
	}
	for mac := range n.of {
		if !there[mac] { // a stranger that the book has forgotten
			delete(n.of, mac)
		}
	}
	kind := event.ChargerOffline
	if len(away) >= together {
		kind = event.ChargerAway
		n.log.Say(event.ChargersOffline, event.F("COUNT", len(away)), event.F("NAMES", names(away)))
	}
	for _, s := range away {
		n.log.Say(kind, event.MAC(s.MAC), event.F("STAGE", s.Stage), event.F("SINCE", now.Sub(n.of[s.MAC].lost)))
	}
}

// lookForMissing tells once who of the inventory has not come since the start.
func (n *news) lookForMissing(all []charger.Status, now time.Time) {
	if n.told || now.Sub(n.began) < missing {
		return
	}
	n.told = true
	var never []charger.Status
	known := 0
	for _, s := range all {
		if !s.Known {
			continue
		}
		known++
		if n.of[s.MAC] == nil {
			never = append(never, s)
		}
	}
	if len(never) > 0 {
		n.log.Say(event.ChargersMissing, event.F("COUNT", len(never)), event.F("OF", known),
			event.F("SINCE", now.Sub(n.began)), event.F("NAMES", names(never)))
	}
}

// names lists the chargers' names, the first few of them.
func names(all []charger.Status) string {
	var list []string
	for _, s := range all[:min(len(all), shownNames)] {
		list = append(list, s.Name)
	}
	if more := len(all) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, ", ")
}

func (n *news) Name() string  { return "news" }
func (n *news) Listen() error { return nil }

func (n *news) Serve(ctx context.Context) error {
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			n.look(n.book.All(now), now)
		case <-ctx.Done():
			return nil
		}
	}
}
