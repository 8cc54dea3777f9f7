package main

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"chargegate/pkg/sim"
	"chargegate/test/vm/wire"
)

// The herd is many chargers on the wire of the namespace site, no more than their
// DHCP clients: commissioning at a pace that no radio has. Whoever asks hears of
// each ACK at once, for the power may go the moment after.
var herd = herdState{news: make(chan struct{})}

// herdState is what the agent knows of the herd.
type herdState struct {
	going sync.Mutex // a crowd goes one wave at a time
	crowd *sim.Crowd

	mu    sync.Mutex
	heard []wire.Promise
	news  chan struct{} // closed when something is heard
}

// herdGo lets chargers ask for their addresses, and returns how they fared.
func herdGo(ctx context.Context, args json.RawMessage) (any, error) {
	var w wire.Herd
	if err := json.Unmarshal(args, &w); err != nil {
		return nil, err
	}
	herd.going.Lock()
	defer herd.going.Unlock()
	if herd.crowd == nil {
		c, err := sim.OpenCrowd("site", "eth0")
		if err != nil {
			return nil, err
		}
		c.First(500 * time.Millisecond)
		c.Heard = hear
		herd.crowd = c
	}
	how := sim.Discover
	if w.Remember {
		how = sim.Reboot
	}
	ctx, end := context.WithTimeout(ctx, w.Limit)
	defer end()
	t, err := herd.crowd.Go(ctx, sim.Wave{First: w.First, Clients: w.Clients, Together: w.Together, How: how})
	return wire.HerdTally{Leased: t.Leased, Refused: t.NAKs, Doubles: t.Doubles, Moved: t.Moved, Resent: t.Resent, Last: t.Last()}, err
}

func hear(l sim.Lease) {
	herd.mu.Lock()
	defer herd.mu.Unlock()
	herd.heard = append(herd.heard, wire.Promise{MAC: l.MAC, Addr: l.Addr})
	close(herd.news)
	herd.news = make(chan struct{})
}

// promises returns what was promised after the first so many promises; when there
// is nothing yet it waits a while.
func promises(ctx context.Context, args json.RawMessage) (any, error) {
	var a wire.Promises
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	patience := time.NewTimer(a.Wait)
	defer patience.Stop()
	for {
		herd.mu.Lock()
		heard, news := herd.heard, herd.news
		herd.mu.Unlock()
		if a.After < len(heard) {
			return slices.Clone(heard[a.After:]), nil
		}
		select {
		case <-news:
		case <-patience.C:
			return []wire.Promise{}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
