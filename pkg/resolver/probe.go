package resolver

import (
	"context"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"
)

// probeEvery is the time between two questions of our own while no server
// answers.
const probeEvery = 10 * time.Second

// maxProof bounds the names that prove that a server gives nothing but errors.
const maxProof = 4

// probe asks for a name now and then while every server is lost or gives nothing
// but errors, until ctx is done. Chargers ask seldom, some once a day: without
// this nobody would notice that names are answered again. When it may be the
// servers or the names, it asks for several, to find out.
func (s *Server) probe(ctx context.Context) {
	tick := time.NewTicker(s.probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			names := probeNames(s.list)
			switch h := &s.forward.health; {
			case len(names) == 0:
			case h.allLost():
				s.probeFor(ctx, names[0])
			case h.suspicious():
				for _, name := range names {
					if h.suspicious() {
						s.probeFor(ctx, name)
					}
				}
			}
		}
	}
}

// probeFor asks the servers themselves: what is remembered proves nothing.
func (s *Server) probeFor(ctx context.Context, name string) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Say(event.PanicRecovered, event.F("SERVICE", s.Name()), event.F("ERROR", p), event.F("STACK", string(debug.Stack())))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	if _, err := s.askUpstream(ctx, key(name)); err == nil { // what came of it has been said
		s.memory.revive()
	}
}

// probeNames returns allowed names that can be asked for, at most maxProof: first
// the hub's, which every charger needs, then the others that are no pattern.
func probeNames(list *policy.List) []string {
	var names []string
	if list.Holds(policy.Hub) {
		names = append(names, policy.Hub)
	}
	for _, r := range list.Rules() {
		if len(names) < maxProof && !strings.HasPrefix(r.Name, "*.") && !policy.IsTime(r.Name) && !slices.Contains(names, r.Name) {
			names = append(names, r.Name)
		}
	}
	return names
}

// proof returns the keys of these names.
func (s *Server) proof() []string {
	names := probeNames(s.list)
	for i, name := range names {
		names[i] = key(name)
	}
	return names
}
