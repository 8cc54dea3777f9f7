package dhcp

import (
	"context"
	"errors"
	"sync"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/lease"
)

// watch looks after the disk and the pools until ctx is done.
func (s *Server) watch(ctx context.Context) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		s.disk.seen(s.log, s.leases.Tidy())
		s.levels(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// A diskWatch says once that changes do not reach the disk, and once that they
// do again.
type diskWatch struct {
	mu      sync.Mutex
	failing bool
}

// failed tells that a change could not be written.
func (w *diskWatch) failed(log *event.Log, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.failing {
		w.failing = true
		log.Say(event.LeaseStorageFailed, event.Err(err))
	}
}

// seen tells what tidying up has shown.
func (w *diskWatch) seen(log *event.Log, err error) {
	if errors.Is(err, lease.ErrVolatile) {
		w.failed(log, err)
		return
	}
	if err != nil {
		log.Say(event.LeaseStorageUntidy, event.Err(err))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failing {
		w.failing = false
		log.Say(event.LeaseStorageRecovered)
	}
}

// A level is how full a pool is.
type level int

const (
	roomy level = iota
	filling
	nearlyFull
)

// next returns the level for a number of used addresses. Below each threshold
// lie five percent in which nothing changes, so that one charger that comes and
// goes is not told each time.
func (v level) next(used, size int) level {
	percent := used * 100 / max(size, 1)
	switch {
	case percent >= 95, v == nearlyFull && percent >= 90:
		return nearlyFull
	case percent >= 80, v > roomy && percent >= 75:
		return filling
	}
	return roomy
}

// levels says what has changed about how full the pools are.
func (s *Server) levels(now time.Time) {
	for _, c := range s.leases.Counts(now) {
		for _, l := range s.links {
			if l.Name == c.Network {
				s.say(l, c)
			}
		}
	}
}

func (s *Server) say(l *link, c lease.Count) {
	was := l.level
	l.level = was.next(c.Used, c.Size)
	var kind *event.Kind
	switch {
	case l.level == nearlyFull && was < nearlyFull:
		kind = event.PoolNearlyFull
	case l.level == filling && was < filling:
		kind = event.PoolFilling
	case l.level == roomy && was > roomy:
		kind = event.PoolRecovered
	default:
		return
	}
	s.log.Say(kind, event.Network(l.Name), event.F("USED", c.Used), event.F("SIZE", c.Size))
}

// SayFound says what opening the leases has found.
func SayFound(r lease.Report, log *event.Log) {
	for _, f := range r.Faults {
		log.Say(event.LeaseFileDamaged, event.F("FILE", f.File), event.Err(f.Err))
	}
	if r.Outside > 0 {
		log.Say(event.LeasesDropped, event.F("COUNT", r.Outside))
	}
	log.Say(event.LeasesLoaded, event.F("COUNT", r.Bindings), event.F("TORN_BYTES", r.Torn))
}
