package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"chargegate/pkg/sim"
)

// herd measures how long a garage takes to be online after a power cut.
func herd(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("herd", flag.ContinueOnError)
	bin := f.String("bin", "bin", "the `directory` of chargegated and chargegate")
	n := f.Int("n", 50, "how many chargers, 1 to 1000")
	runs := f.Int("runs", 1, "how many power cuts; the first one meets an empty lease table")
	probe := f.Duration("probe", 0, "how long each of the two ARP probes of an offer waits; the firmware's 500ms, or 0 to measure the gateway alone")
	limit := f.Duration("limit", 2*time.Minute, "how long to wait for the last charger")
	asJSON := f.Bool("json", false, "print one JSON object per run")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *n < 1 || *n > 1000 {
		return fmt.Errorf("%d chargers; allowed are 1 to 1000", *n)
	}
	habits := sim.Firmware()
	habits.Probe = *probe
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	garage, err := sim.Start(starting, sim.Options{
		Bin: *bin, Networks: []sim.Network{{Name: "P1", Chargers: *n}}, Habits: habits, LogLevel: "warning",
	})
	if err != nil {
		return err
	}
	defer garage.Close()
	for run := range *runs {
		if err := measure(ctx, garage, run, *limit, *asJSON); err != nil {
			return err
		}
	}
	return nil
}

// measure is one power cut.
func measure(ctx context.Context, garage *sim.Garage, run int, limit time.Duration, asJSON bool) error {
	garage.PowerOff()
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	garage.PowerOn()
	late := garage.WaitOnline(waiting)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	sum := sim.Sum(garage.Views())
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(sum)
	}
	fmt.Printf("run %d\n%s", run+1, sum)
	if late != nil {
		fmt.Printf("not all came online: %v\n", late)
	}
	if seen := garage.Cloud.Witness.Sightings(); len(seen) > 0 {
		return fmt.Errorf("something got out that should not have: %q", seen)
	}
	return nil
}
