package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/volume"
)

// saveEvery is how often the accounts are written, where anything was entered: a
// crash loses an hour at most of the conversations that ended in it, and a stop nothing.
const saveEvery = time.Hour

// accounts looks after the account book: it tells it the time, says who moves far too
// much, and has it written.
type accounts struct {
	*volume.Book
	shelf *volume.Shelf
	dir   string
	right func() bool // whether this box's clock is
	log   *event.Log
	// mark is a file below /run that is there once the clock was right: who is started
	// again before the next boot need not find that out anew. sure: it is there.
	mark string
	sure atomic.Bool
	// saving is called before the accounts are written, and what it returns when they
	// are; nil: nobody wants to know.
	saving func() (saved func())

	mu      sync.Mutex // of the writing
	trouble bool
	saved   time.Time

	written, failures atomic.Int64
}

// openAccounts reads the book in a directory. Whatever is wrong with it costs
// accounts and not the service.
func openAccounts(dir, mark string, book *charger.Book, right func() bool, log *event.Log) *accounts {
	known := func(mac volume.MAC) bool {
		_, named := book.Known(mac)
		return named || book.Inventory("") == 0 // without an inventory nobody is a stranger
	}
	b, shelf, faults := volume.Open(dir, known)
	for _, f := range faults {
		log.Say(event.VolumeUnread, event.F("FILE", f.File), event.F("ASIDE", f.Aside), event.Err(f.Err))
	}
	a := &accounts{Book: b, shelf: shelf, dir: dir, right: right, log: log, mark: mark, saved: time.Now()}
	if _, err := os.Stat(mark); err == nil {
		a.sure.Store(true)
		b.Clock(a.saved, a.saved, true)
	}
	return a
}

// date tells the book what time it is, as soon as that is known: to whoever asks for
// an account at once.
func (a *accounts) date(now, wall time.Time) {
	right := a.right()
	if right && !a.sure.Swap(true) {
		_ = os.WriteFile(a.mark, nil, 0o644) // without it the next start waits for the clock once more
	}
	a.Clock(now, wall, right)
}

// dated reports whether this box knows what day it is, since whenever it booted.
func (a *accounts) dated() bool { return a.sure.Load() || a.right() }

// look is to be called every few seconds: what time it is, is news at the start.
func (a *accounts) look(now, wall time.Time) {
	a.date(now, wall)
	for _, x := range a.Excesses(now) {
		a.sayExcess(x, wall)
	}
	a.mu.Lock()
	due := now.Sub(a.saved) >= saveEvery
	a.mu.Unlock()
	if due {
		a.save(now)
	}
}

// sayExcess says how much, with whom, and since when.
func (a *accounts) sayExcess(x volume.Excess, wall time.Time) {
	name, since := x.Name, "before this box knew the time"
	if name == "" {
		name = "many names"
	}
	if x.Since > 0 {
		since = fmt.Sprintf("at %s, %s ago", wall.Add(-x.Since).Format("15:04"), event.Duration(x.Since.Round(time.Second)))
	}
	fields := []event.Field{event.F("VOLUME", megabytes(x.Total)), event.F("OF", megabytes(x.Of)), event.F("NAME", name), event.F("SINCE", since),
		event.F("UP", x.Total.Up), event.F("DOWN", x.Total.Down), event.F("CONVERSATIONS", x.Total.Sessions)}
	if x.MAC == (volume.MAC{}) {
		a.log.Say(event.VolumeExcessOthers, fields...)
		return
	}
	a.log.Say(event.VolumeExcess, append([]event.Field{event.MAC(x.MAC)}, fields...)...)
}

// megabytes writes bytes as mobile contracts do.
func megabytes(f volume.Figures) string { return fmt.Sprintf("%.1f MB", float64(f.Total())/1e6) }

// save writes what was entered since the last time.
func (a *accounts) save(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.saved = now
	saved := func() {}
	if a.saving != nil {
		saved = a.saving()
	}
	n, err := a.shelf.Save(a.Book)
	if err == nil {
		saved()
	}
	a.written.Add(int64(n))
	switch {
	case err != nil:
		a.failures.Add(1)
		if !a.trouble {
			a.log.Say(event.VolumeUnwritten, event.F("FILE", a.dir), event.Err(err))
		}
	case a.trouble && n > 0:
		a.log.Say(event.VolumeWritten, event.F("FILE", a.dir))
	}
	a.trouble = err != nil || a.trouble && n == 0
}

func (a *accounts) Name() string  { return "accounts" }
func (a *accounts) Listen() error { return nil }

// Serve looks every ten seconds until ctx is done. The last word is save's, which is
// called when nobody enters anything any more.
func (a *accounts) Serve(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	now := time.Now()
	a.date(now, now)
	for {
		select {
		case now := <-tick.C:
			a.look(now, now)
		case <-ctx.Done():
			return nil
		}
	}
}

// What a scrape sees of the accounts. Their figures are not among them: chargers'
// bytes are counted already, and names and MACs are for strangers to invent.
var (
	descVolumeDays     = prometheus.NewDesc("chargegate_volume_days", "Days whose accounts are kept.", nil, nil)
	descVolumeDevices  = prometheus.NewDesc("chargegate_volume_devices", "Devices that have an account today.", nil, nil)
	descVolumeWritten  = prometheus.NewDesc("chargegate_volume_written_bytes_total", "Bytes of accounts written to the disk.", nil, nil)
	descVolumeFailures = prometheus.NewDesc("chargegate_volume_write_failures_total", "Times the accounts could not be written.", nil, nil)
)

// Describe tells the metrics of the accounts.
func (a *accounts) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descVolumeDays, descVolumeDevices, descVolumeWritten, descVolumeFailures} {
		ch <- d
	}
}

// Collect reads the metrics of the accounts now.
func (a *accounts) Collect(ch chan<- prometheus.Metric) {
	days, devices := a.Size(time.Now())
	for d, v := range map[*prometheus.Desc]int{descVolumeDays: days, descVolumeDevices: devices} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	ch <- prometheus.MustNewConstMetric(descVolumeWritten, prometheus.CounterValue, float64(a.written.Load()))
	ch <- prometheus.MustNewConstMetric(descVolumeFailures, prometheus.CounterValue, float64(a.failures.Load()))
}
