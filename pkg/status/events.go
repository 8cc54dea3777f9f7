package status

import (
	"time"

	"chargegate/pkg/event"
)

const (
	defaultEvents = 100
	maxEvents     = 1000
	detailEvents  = 40
)

// A query says which events are wanted.
type query struct {
	after  uint64
	follow bool   // after was given: the first ones after it, not the last ones
	who    string // a charger's name; empty: everybody
	level  event.Level
	limit  int
}

// events answers a query from what the log keeps.
func (s *Server) events(now time.Time, q query) Events {
	out := Events{Started: s.src.Started, Since: s.src.Started, Next: q.after, Events: []Event{}}
	if s.log == nil {
		return out
	}
	records := s.log.Recent(q.after, q.who)
	if all := s.log.Recent(0, ""); len(all) > 0 && all[0].Seq > 1 {
		out.Since = all[0].Time
	}
	wanted := records[:0:0]
	for _, r := range records {
		if r.Kind.Level >= q.level {
			wanted = append(wanted, r)
		}
	}
	switch {
	case len(wanted) <= q.limit:
		// Everything up to the newest has been looked at.
		if n := len(records); n > 0 {
			out.Next = records[n-1].Seq
		}
	case q.follow:
		wanted = wanted[:q.limit]
		out.Next = wanted[q.limit-1].Seq
	default:
		wanted = wanted[len(wanted)-q.limit:]
		out.Next = records[len(records)-1].Seq
	}
	for _, r := range wanted {
		out.Events = append(out.Events, show(r, now))
	}
	return out
}

// show makes an Event of a record. Advice goes with what somebody must act on.
func show(r event.Record, now time.Time) Event {
	e := Event{
		Seq: r.Seq, Time: r.Time, Age: Seconds(max(0, now.Sub(r.Time))), Event: r.Kind.ID, Level: r.Kind.Level.String(),
		Message: r.Message, Suppressed: r.Suppressed, Fields: map[string]string{},
	}
	for _, f := range r.Fields {
		e.Fields[f.Key] = f.Value
	}
	if r.Kind.Level >= event.Warning {
		e.Advice = r.Advice()
	}
	return e
}
