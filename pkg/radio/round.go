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

// A radio that fails after so long is left in peace for a while: each question to it
// costs the others a wait.
const (
	tooLong = 5 * time.Second
	peace   = time.Minute
)

// round asks every radio once, at the pace at which signals are counted. Its error
// says that none can be asked.
func (s *Server) round(ctx context.Context, now time.Time) error {
	return s.tour(ctx, now, append(s.those(now, false), s.those(now, true)...), (*watch).look)
}

// between is a look out of turn, because something was told, at those that answer.
func (s *Server) between(ctx context.Context, now time.Time) error {
	return s.tour(ctx, now, s.those(now, false), (*watch).glance)
}

// those are the radios that answered the last time, or those that did not.
func (s *Server) those(now time.Time, failing bool) (out []int) {
	for i, w := range s.watches {
		if (s.present[i].state == Failed) == failing && !now.Before(w.peace) {
			out = append(out, i)
		}
	}
	return out
}

// tour asks radios, each once, and has its watch take what was found.
func (s *Server) tour(ctx context.Context, now time.Time, order []int, take func(*watch, time.Time, []Station)) error {
	if len(order) == 0 {
		return nil
	}
	began := time.Now()
	c, hangUp, err := s.dial(ctx)
	if err != nil {
		state := Failed
		if errors.Is(err, os.ErrNotExist) {
			state = Unsupported
		}
		for _, i := range order {
			s.conclude(ctx, i, now, state, err.Error())
		}
		if state == Unsupported {
			return fmt.Errorf("asking nl80211: %w", err)
		}
		return nil
	}
	defer func() { hangUp() }()
	var ifis []*wifi.Interface
	if err = s.guarded(func() (err error) { ifis, err = c.Interfaces(); return err }); err != nil {
		err = fmt.Errorf("listing the interfaces: %w", err)
	} else {
		s.number(ifis)
	}
	good := true
	for _, i := range order {
		if err == nil && !good {
			// What may still come of a question that failed is no answer to the next.
			hangUp()
			if c, hangUp, err = s.dial(ctx); err != nil {
				hangUp = func() {}
			}
		}
		at := now.Add(time.Since(began)) // the one before may have taken long
		if err != nil {
			s.conclude(ctx, i, at, Failed, err.Error())
			continue
		}
		w := s.watches[i]
		good = s.ask(ctx, c, i, at, find(ifis, w.net.Interface), take)
		if done := now.Add(time.Since(began)); !good && done.Sub(at) >= tooLong {
			w.peace = done.Add(peace)
		}
	}
	return nil
}

// number remembers which number each radio has now.
func (s *Server) number(ifis []*wifi.Interface) {
	s.index = make(map[int]int, len(s.watches))
	for i, w := range s.watches {
		if ifi := find(ifis, w.net.Interface); ifi != nil {
			s.index[ifi.Index] = i
		}
	}
}

// ask asks one radio for its stations; false if the question failed.
func (s *Server) ask(ctx context.Context, c stations, i int, now time.Time, ifi *wifi.Interface, take func(*watch, time.Time, []Station)) bool {
	switch {
	case ifi == nil:
		s.conclude(ctx, i, now, Missing, "no wireless interface has this name")
		return true
	case ifi.Type != wifi.InterfaceTypeAP:
		s.conclude(ctx, i, now, NotAP, ifi.Type.String())
		return true
	}
	if why := s.mute(i, ifi.Frequency); why != "" {
		s.conclude(ctx, i, now, Silent, why)
		return true
	}
	var infos []listed
	err := s.guarded(func() (err error) { infos, err = c.Stations(ifi); return err })
	if err != nil {
		s.conclude(ctx, i, now, Failed, err.Error())
		return false
	}
	w := s.watches[i]
	w.limit = s.limits()
	w.settle(now)
	w.frequency = ifi.Frequency
	take(w, now, read(w.admitted(now, infos)))
	s.listenIn(c, i, now, ifi)
	s.conclude(ctx, i, now, Watched, "")
	return true
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
	voice := s.posts[i].voice.Load()
	s.present[i].speech(now, voice, state, w)
	frequency, unheard := 0, ""
	if state == Watched {
		frequency = w.frequency
		if s.present[i].mute {
			unheard = voice.why
		}
	}
	list := w.list()
	slices.SortFunc(list, func(a, b Station) int { return slices.Compare(a.MAC[:], b.MAC[:]) })
	s.mu.Lock()
	defer s.mu.Unlock()
	at := &s.samples[i]
	at.State, at.Problem, at.At, at.NoSignal, at.Stations = state, problem, now, w.unknown.lacking(), list
	at.Frequency, at.Unheard = frequency, unheard
}
