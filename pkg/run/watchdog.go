package run

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"chargegate/pkg/event"
)

// watchdog gives systemd a sign of life, but only after the house has answered
// a real question: a daemon that runs and does not serve is dead.
type watchdog struct {
	every  time.Duration // a third of what systemd wants: two may fail
	alive  func(context.Context) error
	status func() string
	notify func(string) error
	log    *event.Log
}

func (w *watchdog) Name() string  { return "watchdog" }
func (w *watchdog) Listen() error { return nil }

func (w *watchdog) Serve(ctx context.Context) error {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		w.ask(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *watchdog) ask(ctx context.Context) {
	ask, cancel := context.WithTimeout(ctx, w.every)
	defer cancel()
	err := w.alive(ask)
	if err == nil {
		state := daemon.SdNotifyWatchdog
		if w.status != nil {
			state += "\nSTATUS=" + w.status()
		}
		err = w.notify(state)
	}
	if err != nil && ctx.Err() == nil {
		w.log.Say(event.WatchdogStarved, event.Err(err))
	}
}
