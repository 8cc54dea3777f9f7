package main

import (
	"context"
	"fmt"
	"time"

	"chargegate/pkg/sim"
)

// timeContest is NTP: how quickly and how rightly the time is given. All clocks
// are one: what an answer is off is its error.
func timeContest() contest {
	return contest{
		peers: timePeers, stand: sim.StandOptions{Time: true}, boxed: true, most: devices, where: sim.Dir,
		flags: (*bench).lastsFlag,
		visit: (*bench).visitTime,
		about: func(b *bench) string {
			return fmt.Sprintf("%d devices, %d requests in flight; single ones 5 ms apart; all stand behind chargegate's firewall", devices, b.together)
		},
		rows: timeRows, shares: sharesOf("answers", "requests"),
		notes: func(r *report) []string { return r.limits("answers", "requests") },
	}
}

var timeRows = []row{
	{"answers", "answers /s", more},
	{"answers cpu", "CPU µs per answer", less},
	{"idle error half", "error, idle: half, µs", less},
	{"idle error 99", "error, idle: 99 %, µs", less},
	{"idle half", "there and back, idle: half, µs", less},
	{"busy error half", "error, loaded: half, µs", less},
	{"busy error 99", "error, loaded: 99 %, µs", less},
	{"busy half", "there and back, loaded: half, µs", less},
	{"start", "start to first answer, ms", less},
	{"rss", "MB in memory at first", less},
	{"rss after", "MB in memory after all", less},
	{"failed", "not synchronised or RATE, in all", neither},
	{"lost", "without an answer, in all", neither},
	{"wrong", "wrong answers, in all", neither},
}

var timePeers = []peerKind{{
	name: "chronyd", program: "chronyd", config: "chrony.conf", version: []string{"--version"},
	args: func(config string) []string { return []string{"-d", "-x", "-u", "root", "-f", config} },
}}

// timeApart is what lies between two single requests.
const timeApart = 5 * time.Millisecond

// visitTime measures one server once, on a stand of its own.
func (b *bench) visitTime(ctx context.Context, s contestant, got results) error {
	o, end, err := b.session(ctx, s, timePort, &sim.TimeScript{}, got)
	if err != nil {
		return err
	}
	defer end()
	if err := o.accuracy(ctx, o.askers, "idle"); err != nil {
		return err
	}
	if err := o.loop(ctx, "answers", &sim.TimeScript{}); err != nil {
		return err
	}
	err = o.while(ctx, &sim.TimeScript{}, func(ctx context.Context, a *sim.Askers) error {
		return o.accuracy(ctx, a, "busy")
	})
	if err != nil {
		return err
	}
	return o.memory("rss after")
}

// accuracy asks single requests and adds how far the answers are off.
func (o *session) accuracy(ctx context.Context, a *sim.Askers, row string) error {
	script := &sim.TimeScript{}
	if err := o.alone(ctx, a, row, script, int(o.lasts/timeApart), timeApart); err != nil {
		return err
	}
	if errors := script.Errors(); len(errors) > 0 {
		o.got.add(row+" error half", microseconds(sim.Percentile(errors, 0.5)))
		o.got.add(row+" error 99", microseconds(sim.Percentile(errors, 0.99)))
	}
	return nil
}
