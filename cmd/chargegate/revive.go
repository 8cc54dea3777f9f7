package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"chargegate/pkg/config"
	"chargegate/pkg/event"
	"chargegate/pkg/revive"
	"chargegate/pkg/status"
)

// runRevive watches over the radios until it is stopped, for chargegate-revive.service.
// It ends at once, and well, where no radio wants it.
func runRevive(ctx context.Context, c *call, fs *flag.FlagSet, args []string) (int, error) {
	file := fs.String("config", defaultConfig, "")
	rc := revive.Config{Reports: c.reports}
	fs.StringVar(&rc.Dir, "state", stateDirectory(os.Getenv), "")
	fs.StringVar(&rc.Kmsg, "kmsg", "", "")
	fs.DurationVar(&rc.Pace.Every, "every", 0, "")
	fs.DurationVar(&rc.Pace.Silent, "silent", 0, "")
	fs.DurationVar(&rc.Pace.Settle, "settle", 0, "")
	fs.DurationVar(&rc.Pace.Mute, "mute", 0, "")
	fs.DurationVar(&rc.Pace.Empty, "empty", 0, "")
	fs.DurationVar(&rc.Pace.Wait, "wait", 0, "")
	fs.DurationVar(&rc.Pace.AfterBoot, "boot", 0, "")
	if _, err := parse(fs, args, 0); err != nil {
		return exitNoAnswer, err
	}
	cfg, err := config.Load(*file)
	if err != nil {
		return exitNoAnswer, permitted(err)
	}
	for _, n := range cfg.Networks {
		if n.Radio != nil {
			rc.Radios = append(rc.Radios, revive.Radio{Network: n.Name, Interface: n.Interface, Reach: n.Radio.Revive})
		}
	}
	if len(revive.Wanted(rc.Radios)) == 0 {
		fmt.Fprintln(c, `no radio wants to be revived: revive is "no" for all of them in`, safe(*file))
		return exitWell, nil
	}
	log, flush := openLog(cfg.Log.Level, c)
	defer flush()
	killed := make(chan os.Signal, 1)
	signal.Notify(killed, syscall.SIGTERM)
	err = revive.New(rc, log).Serve(ctx)
	signal.Stop(killed) // and whatever ended it has arrived
	if err != nil {
		return exitNoAnswer, err
	}
	select {
	case <-killed:
		// The unit stops it by SIGINT (KillSignal=). Who ends it otherwise leaves the
		// radios without a watch, and systemd is to start it again.
		return exitNoAnswer, errors.New("it was killed, so nobody watches over the radios until it is started again; who means to stop it: sudo systemctl stop chargegate-revive")
	default:
		return exitWell, nil
	}
}

// stateDirectory is the unit's, or where that would be.
func stateDirectory(getenv func(string) string) string {
	if dir := getenv("STATE_DIRECTORY"); dir != "" {
		return dir
	}
	return "/var/lib/chargegate-revive"
}

// openLog makes the log of a service: the journal under systemd, so that one filter
// shows these events among the daemon's, else text. What it returns second writes out
// what is queued, and must be called last.
func openLog(level event.Level, w io.Writer) (*event.Log, func()) {
	sink := event.Text(w)
	if under, _ := journal.StderrIsJournalStream(); under {
		sink = event.Journal()
	}
	queue := event.NewQueue(sink)
	ctx, stop := context.WithCancel(context.Background())
	var writer sync.WaitGroup
	writer.Go(func() { queue.Run(ctx) })
	return event.New(event.Options{Level: level}, queue), func() {
		stop()
		writer.Wait()
	}
}

// heardLately is how long ago a station may have sent its last frame to count as one
// that is there. Drivers list those that have gone for a while.
const heardLately = 5 * time.Minute

// reports asks the daemon how each radio does.
func (c *call) reports(ctx context.Context) (map[string]revive.Report, error) {
	quiet := *c
	quiet.json = false
	var st status.Status
	if _, err := quiet.get(ctx, "/v1/status", &st, answerWithin); err != nil {
		return nil, err
	}
	out := map[string]revive.Report{}
	for _, n := range st.Networks {
		if n.Radio == nil {
			continue
		}
		r := revive.Report{Stations: -1, Amiss: amiss(*n.Radio)}
		if n.Radio.Watched() {
			r.Stations = 0
			for _, s := range n.Radio.Stations {
				if s.Inactive.Duration() < heardLately {
					r.Stations++
				}
			}
		}
		for _, ch := range st.Chargers {
			if ch.Network == n.Name && !ch.Presence.Heard.IsZero() {
				r.Heard++
			}
		}
		out[n.Name] = r
	}
	return out, nil
}

// amiss says in words why a radio does not say who is on it, where it may itself be at
// fault: not while it has not been looked at, or where the kernel knows no radios.
func amiss(r status.Radio) string {
	switch r.State {
	case "failed", "silent", "missing", "not-access-point":
		if r.Problem == "" {
			return r.State
		}
		return fmt.Sprintf("%s (%s)", r.State, safe(r.Problem))
	}
	return ""
}
