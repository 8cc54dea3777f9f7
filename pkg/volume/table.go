package volume

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// A Row is what moved today, yesterday, and in the last 7 and 30 days with today.
type Row struct {
	Name                          string // empty: names that there was no room for
	Today, Yesterday, Week, Month Figures
}

// A Table is the account of one device.
type Table struct {
	// Dated says that the calendar is known. Until then Today is what moved since
	// the start, a day at most.
	Dated bool
	// Since is the first of the 30 days with an account of the device; 0: none.
	Since Date
	Sum   Row
	Names []Row // the largest of the 30 days first
}

// Of returns the account of a device.
func (b *Book) Of(mac MAC, now time.Time) Table {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := Table{Dated: b.sure}
	add := func(a *account, days ...func(*Row) *Figures) {
		for _, l := range a.lines {
			i := slices.IndexFunc(t.Names, func(r Row) bool { return r.Name == l.name })
			if i < 0 {
				t.Names = append(t.Names, Row{Name: l.name})
				i = len(t.Names) - 1
			}
			for _, f := range days {
				*f(&t.Sum) = f(&t.Sum).plus(l.Figures)
				*f(&t.Names[i]) = f(&t.Names[i]).plus(l.Figures)
			}
		}
	}
	for i, d := range b.loose {
		a := d.of[mac]
		switch {
		case a == nil:
		case i == len(b.loose)-1 && !d.last.IsZero():
			add(a, today, week, month)
		default:
			add(a, week, month)
		}
	}
	now0 := b.newestLocked(now)
	for date, d := range b.days {
		a := d.of[mac]
		ago := now0 - date
		if a == nil || ago < 0 || ago >= 30 {
			continue
		}
		if t.Since == 0 || date < t.Since {
			t.Since = date
		}
		switch {
		case ago == 0 && b.sure:
			add(a, today, week, month)
		case ago == 1:
			add(a, yesterday, week, month)
		case ago < 7:
			add(a, week, month)
		default:
			add(a, month)
		}
	}
	slices.SortFunc(t.Names, func(x, y Row) int {
		return cmp.Or(cmp.Compare(y.Month.Total(), x.Month.Total()), strings.Compare(x.Name, y.Name))
	})
	return t
}

func today(r *Row) *Figures     { return &r.Today }
func yesterday(r *Row) *Figures { return &r.Yesterday }
func week(r *Row) *Figures      { return &r.Week }
func month(r *Row) *Figures     { return &r.Month }

// newestLocked is today; while the calendar is not known, the day after the last
// one that is written down.
func (b *Book) newestLocked(now time.Time) Date {
	if b.sure {
		return b.dateLocked(now)
	}
	var newest Date
	for date := range b.days {
		newest = max(newest, date)
	}
	return newest + 1
}

// Today returns what every device moved today; until the calendar is known,
// since the start.
func (b *Book) Today(now time.Time) map[MAC]Figures {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[MAC]Figures{}
	if d := b.openLocked(now); d != nil {
		for mac, a := range d.of {
			out[mac] = a.total()
		}
	}
	return out
}

// openLocked is the day that is open now, if anything was entered on it.
func (b *Book) openLocked(now time.Time) *day {
	if b.sure {
		return b.days[b.dateLocked(now)]
	}
	if n := len(b.loose); n > 0 && !b.loose[n-1].last.IsZero() {
		return b.loose[n-1]
	}
	return nil
}

// Size returns how many days the book holds, and how many devices the day has
// that is open.
func (b *Book) Size(now time.Time) (days, devices int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.openLocked(now); d != nil {
		devices = len(d.of)
	}
	return len(b.days) + len(b.loose), devices
}
