package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"chargegate/pkg/sim"
	"chargegate/test/vm/wire"
)

// talk lets stations that have an address begin their conversations.
func talk(_ context.Context, args json.RawMessage) (any, error) {
	var a wire.Numbers
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	some, err := chosen(a.Numbers)
	if err != nil {
		return nil, err
	}
	for _, s := range some {
		if err := s.talk(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// habits are the firmware's, but that the cloud is told something every few seconds
// and that a charger calls again sooner. Keep-alive is the firmware's own: with less
// patience it would hang up itself while the watchdog waits for a daemon that hangs.
func habits() sim.Habits {
	h := sim.Firmware()
	h.Pulse = 10 * time.Second
	h.TimeWait = 2 * time.Second
	h.Reconnect, h.ReconnectMax = time.Second, 5*time.Second
	return h
}

// talk begins the station's conversations, unless they have begun.
func (s *station) talk() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.charger != nil {
		return nil
	}
	a, err := authority()
	if err != nil {
		return err
	}
	b, err := s.binding()
	if err != nil {
		return err
	}
	s.charger = s.space.Charger(s.name, iface, a, habits())
	s.leave = s.charger.Settle(context.Background(), b)
	return nil
}

// hush ends the station's conversations without a word.
func (s *station) hush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.charger != nil {
		s.leave()
		s.charger, s.leave = nil, nil
	}
}

// quiet makes stations break off their conversations.
func quiet(_ context.Context, args json.RawMessage) (any, error) {
	var a wire.Quiet
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	some, err := chosen(a.Numbers)
	for _, s := range some {
		s.hush()
	}
	return nil, err
}

// addresses are all that the station was given, each once.
func (s *station) addresses() (all []netip.Prefix) {
	given, err := s.bindings()
	if err != nil {
		return nil
	}
	for _, b := range given {
		if !slices.Contains(all, b.Addr) {
			all = append(all, b.Addr)
		}
	}
	return all
}

// talkers tells how far the conversations have come.
func talkers(context.Context, json.RawMessage) (any, error) {
	some, err := chosen(nil)
	if err != nil {
		return nil, err
	}
	all := []wire.Talker{}
	for _, s := range some {
		s.mu.Lock()
		c := s.charger
		s.mu.Unlock()
		if c == nil {
			continue
		}
		v := c.View()
		all = append(all, wire.Talker{
			Number: s.number, Stage: string(v.Stage), Well: v.Well(), Conversations: v.Conversations, Pulses: v.Pulses,
			Clock: v.Clock, Took: v.Took.Online, Trouble: v.Trouble, Addresses: s.addresses(),
		})
	}
	slices.SortFunc(all, func(a, b wire.Talker) int { return a.Number - b.Number })
	return all, nil
}

// A tally is what "count" has begun.
type tally struct {
	end  context.CancelFunc
	wg   sync.WaitGroup
	mu   sync.Mutex
	each []wire.Counted
}

// running is the tally that goes on; nil: none.
var running struct {
	sync.Mutex
	*tally
}

// patience is how long the last numbers may take to come back.
const patience = 20 * time.Second

// count lets stations say numbers to the hub. It returns when the hub has sent
// each of them its first one back.
func count(ctx context.Context, args json.RawMessage) (any, error) {
	var a wire.Count
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	some, err := chosen(a.Numbers)
	if err != nil {
		return nil, err
	}
	running.Lock()
	defer running.Unlock()
	if running.tally != nil {
		return nil, fmt.Errorf("the stations are counting already")
	}
	until, end := context.WithCancel(context.Background())
	t := &tally{end: end, each: make([]wire.Counted, len(some))}
	first := make(chan error, len(some))
	for i, s := range some {
		t.each[i].Number = s.number
		t.wg.Go(func() { t.run(until, s, i, a.Every, first) })
	}
	for range some {
		if e := <-first; e != nil {
			err = e
		}
	}
	if err != nil {
		end()
		t.wg.Wait()
		return nil, err
	}
	running.tally = t
	return nil, nil
}

// run counts for one station. first is told once whether it has begun well.
func (t *tally) run(until context.Context, s *station, i int, every time.Duration, first chan<- error) {
	say := sync.OnceFunc(func() { first <- nil })
	err := s.count(until, every, func(n uint64, took time.Duration) {
		t.mu.Lock()
		t.each[i].Back, t.each[i].Longest = n, max(t.each[i].Longest, took)
		t.mu.Unlock()
		say()
	})
	if err == nil {
		say()
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.each[i].Trouble = err.Error()
	if t.each[i].Back == 0 {
		first <- fmt.Errorf("%s: %w", s.name, err)
	}
}

func (s *station) count(until context.Context, every time.Duration, heard func(uint64, time.Duration)) error {
	s.mu.Lock()
	c := s.charger
	s.mu.Unlock()
	if c == nil {
		return fmt.Errorf("%s does not talk yet", s.name)
	}
	within, end := context.WithTimeout(until, patience)
	session, err := c.Session(within, s.name+"-count")
	end()
	if err != nil {
		return err
	}
	defer session.Close()
	return session.Count(until, every, patience, heard)
}

// counted ends the counting, and tells how it went.
func counted(context.Context, json.RawMessage) (any, error) {
	running.Lock()
	defer running.Unlock()
	if running.tally == nil {
		return nil, fmt.Errorf("nobody is counting")
	}
	t := running.tally
	running.tally = nil
	t.end()
	t.wg.Wait()
	slices.SortFunc(t.each, func(a, b wire.Counted) int { return a.Number - b.Number })
	return t.each, nil
}

// counting tells how the counting goes, and lets it go on.
func counting(context.Context, json.RawMessage) (any, error) {
	running.Lock()
	defer running.Unlock()
	if running.tally == nil {
		return nil, fmt.Errorf("nobody is counting")
	}
	running.mu.Lock()
	defer running.mu.Unlock()
	return slices.Clone(running.each), nil
}
