package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"chargegate/pkg/config"
	"chargegate/pkg/event"
)

// reloader waits for SIGHUP and takes over what can change while everything
// stays open: the inventory with the addresses that it keeps for chargers, the
// allow-list on ports that the firewall hands over already, how signals are
// judged and the log level.
type reloader struct {
	house *house
	hup   chan os.Signal
}

func (r *reloader) Name() string { return "reload" }

// Listen takes over SIGHUP. It stays taken until the process ends: without a
// taker the signal would kill it.
func (r *reloader) Listen() error {
	if r.hup == nil {
		r.hup = make(chan os.Signal, 1)
		signal.Notify(r.hup, syscall.SIGHUP)
	}
	return nil
}

func (r *reloader) Serve(ctx context.Context) error {
	for {
		select {
		case <-r.hup:
			r.house.reload()
		case <-ctx.Done():
			return nil
		}
	}
}

// reload takes over the file, or nothing of it when it has a fault.
func (h *house) reload() {
	next, err := config.Load(h.options.config)
	if err != nil {
		sayFaults(h.log, err)
		h.log.Say(event.DaemonReloadFailed, event.Err(err))
		return
	}
	live, _ := h.taken.Diff(next)
	_, restart := h.cfg.Diff(next)
	if err := h.list.Replace(h.cfg.Takeover(next)); err != nil {
		h.log.Say(event.DaemonReloadFailed, event.Err(err))
		return
	}
	inventory := h.inventory(next, h.book.Inventory(""))
	if inventory != nil {
		h.book.Replace(inventory)
		h.leases.Reserve(config.Reservations(inventory))
	}
	h.radio.SetLimits(next.Radio.Signal)
	h.signals.SetLimits(next.Radio.Signal)
	h.log.SetLevel(next.Log.Level)
	h.taken = next
	if inventory == nil {
		live = slices.DeleteFunc(live, func(key string) bool { return key == "site.inventory" })
	}
	changes := strings.Join(live, ", ")
	switch {
	case changes != "":
	case inventory == nil:
		changes = "nothing has changed"
	default:
		changes = "the inventory; nothing else has changed"
	}
	h.log.Say(event.DaemonReloaded, event.F("CHANGES", changes))
	if len(restart) > 0 {
		h.log.Say(event.DaemonReloadNeedsRestart, event.F("KEYS", strings.Join(restart, ", ")))
	}
}
