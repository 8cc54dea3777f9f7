package radio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/mdlayher/wifi"

	"chargegate/pkg/event"
)

// round asks every radio once. Its error says that none can be asked.
func (s *Server) round(ctx context.Context, now time.Time) error {
	c, hangUp, err := s.dial(ctx)
	if err != nil {
		state := Failed
		if errors.Is(err, os.ErrNotExist) {
			state = Unsupported
		}
		for i := range s.watches {
			s.conclude(ctx, i, now, state, err.Error())
		}
		if state == Unsupported {
			return fmt.Errorf("asking nl80211: %w", err)
		}
		return nil
	}
	defer hangUp()
	var ifis []*wifi.Interface
	err = s.guarded(func() (err error) { ifis, err = c.Interfaces(); return err })
	for i, w := range s.watches {
		if err != nil {
			s.conclude(ctx, i, now, Failed, "listing the interfaces: "+err.Error())
			continue
		}
		s.ask(ctx, c, i, now, find(ifis, w.net.Interface))
	}
	return nil
}

// ask asks one radio for its stations.
func (s *Server) ask(ctx context.Context, c stations, i int, now time.Time, ifi *wifi.Interface) {
	switch {
	case ifi == nil:
		s.conclude(ctx, i, now, Missing, "no wireless interface has this name")
		return
	case ifi.Type != wifi.InterfaceTypeAP:
		s.conclude(ctx, i, now, NotAP, ifi.Type.String())
		return
	}
	var infos []*wifi.StationInfo
	err := s.guarded(func() (err error) { infos, err = c.StationInfo(ifi); return err })
	if err != nil {
		s.conclude(ctx, i, now, Failed, err.Error())
		return
	}
	s.watches[i].limit = s.thresholds()
	s.watches[i].look(now, read(infos))
	s.conclude(ctx, i, now, Watched, "")
}

// guarded runs f, which parses what a driver wrote, and makes a panic an
// error.
func (s *Server) guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading what the driver says: %v", p)
			s.log.Say(event.PanicRecovered, event.F("SERVICE", "radio"), event.Err(err), event.F("STACK", string(debug.Stack())))
		}
	}()
	return f()
}

// find returns the interface with the name, or nil.
func find(ifis []*wifi.Interface, name string) *wifi.Interface {
	for _, ifi := range ifis {
		if ifi != nil && ifi.Name == name {
			return ifi
		}
	}
	return nil
}

// conclude takes what came of asking one radio: it says what is new, lets
// everybody leave a radio that is away, and publishes the sample. When ctx is
// done a failure is only the end.
func (s *Server) conclude(ctx context.Context, i int, now time.Time, state State, problem string) {
	if ctx.Err() != nil {
		return
	}
	w := s.watches[i]
	switch state {
	case Watched:
		s.rounds[answered].Add(1)
	case Failed:
		s.rounds[failed].Add(1)
	default:
		s.rounds[away].Add(1)
		w.away(now)
	}
	if k := s.present[i].turn(now, state); k != nil {
		s.log.Say(k, event.Network(w.net.Name), event.F("INTERFACE", w.net.Interface), event.F("TYPE", problem),
			event.F("ERROR", problem), event.F("STATIONS", len(w.stations)))
	}
	list := w.list()
	slices.SortFunc(list, func(a, b Station) int { return slices.Compare(a.MAC[:], b.MAC[:]) })
	s.mu.Lock()
	defer s.mu.Unlock()
	at := &s.samples[i]
	at.State, at.Problem, at.At, at.NoSignal, at.Stations = state, problem, now, w.unknown.lacking(), list
}
