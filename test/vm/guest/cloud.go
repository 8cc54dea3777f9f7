package main

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"chargegate/pkg/sim"
	"chargegate/test/vm/wire"
)

// world is the Internet of the garage; nil before the op "cloud".
var world struct {
	sync.Mutex
	cloud *sim.Cloud
}

// cloud begins the Internet in the namespace cloud, and tells its time.
func cloud(ctx context.Context, args json.RawMessage) (any, error) {
	var a wire.Cloud
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	world.Lock()
	defer world.Unlock()
	if world.cloud == nil {
		ctx, end := context.WithTimeout(ctx, time.Minute)
		defer end()
		c, err := sim.CloudIn(ctx, "cloud")
		if err != nil {
			if c != nil {
				c.Close()
			}
			return nil, err
		}
		world.cloud = c
	}
	if a.Timeless {
		world.cloud.StopLie()
		return nil, nil
	}
	truth := sim.Lie{Stratum: 2}
	if !a.Now.IsZero() {
		truth.Off = time.Until(a.Now)
	}
	return nil, world.cloud.Lie(truth)
}

var errNoCloud = errors.New("there is no cloud yet")

// authority is who certifies the cloud's servers.
func authority() (*sim.Authority, error) {
	world.Lock()
	defer world.Unlock()
	if world.cloud == nil {
		return nil, errNoCloud
	}
	return world.cloud.Authority, nil
}
