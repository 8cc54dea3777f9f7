package resolver

import (
	"context"
	"runtime/debug"
	"strings"
	"time"

	"chargegate/pkg/event"
	"chargegate/pkg/policy"
)

// probeEvery is the time between two questions of our own while no server
// answers.
const probeEvery = 10 * time.Second

// probe asks for a name now and then while every server is lost, until ctx is
// done. Chargers ask seldom, some once a day: without this nobody would notice
// that names are answered again.
func (s *Server) probe(ctx context.Context) {
	tick := time.NewTicker(s.probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if name := probeName(s.list); name != "" && s.forward.health.allLost() {
				s.probeFor(ctx, name)
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

// probeName returns an allowed name that can be asked for: the hub's, which
// every charger needs, else the first that is no pattern; "" when there is none.
func probeName(list *policy.List) string {
	if list.Holds(policy.Hub) {
		return policy.Hub
	}
	for _, r := range list.Rules() {
		if !strings.HasPrefix(r.Name, "*.") {
			return r.Name
		}
	}
	return ""
}
