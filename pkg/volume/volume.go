// Package volume is the account book: how many bytes and conversations each
// device had with each name on each day (Z-14). Whoever carries bytes enters
// them; the book knows what is expected of a charger and who is far above it.
//
// A day is one of the box's calendar, once its clock is known to be right. What
// moved before that is kept apart and entered on its day when the clock is known
// (F-12): how long ago it was, the monotonic clock has told all the time.
//
// The book is in memory. A Shelf keeps it on disk, a small file for each day,
// and writes seldom: a crash loses what was entered since, an hour at most, unless
// whoever carries enters it once more; a stop loses nothing. Memory and files are bounded whoever calls with whatever
// MAC, and whatever names a pattern of the list allows.
//
// The package leaves to others what a device is called, and who may reach what.
package volume

import (
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// Keep is for how many days the accounts are kept: two months of a contract.
	Keep = 62
	// maxDevices bounds the devices of a day, and maxStrangers those of them that
	// the inventory does not name; who comes later goes to the account of nobody.
	maxDevices   = 4096
	maxStrangers = 64
	// maxNames bounds the names on one account of a day: a charger has three or
	// four. The rest are entered under no name.
	maxNames = 8
	// maxDayNames bounds the different names of a day, and maxStrangeNames how many
	// of them strangers may have brought in.
	maxDayNames     = 512
	maxStrangeNames = 128
	// most is the most that a figure counts to: 1 PB.
	most = 1 << 50
)

// A MAC is a device. The zero one is everybody who has no account of his own.
type MAC = [6]byte

// Figures are what moved: bytes from the device and to it, and conversations
// begun.
type Figures struct {
	Up, Down int64
	Sessions int64
}

// Total is the bytes both ways.
func (f Figures) Total() int64 { return f.Up + f.Down }

// plus adds, and stops at most. Sums never overflow, whatever a file says.
func (f Figures) plus(g Figures) Figures {
	return Figures{min(f.Up+g.Up, most), min(f.Down+g.Down, most), min(f.Sessions+g.Sessions, most)}
}

// A day is the accounts of one day.
type day struct {
	date    Date      // 0: the clock was not known
	began   time.Time // of an undated one: its first moment and
	last    time.Time // its last; zero: it was read from disk
	of      map[MAC]*account
	changed bool
	// holds is the checksum of the undated file that was entered when this was written;
	// empty: there was none (in that file: any number). sum is that of the file which this was read from.
	holds, sum string

	strangers int // of the devices
	names     map[string]string
	strange   int // of the names
}

// An account is one device's on one day.
type account struct {
	lines []line
	// heavy is when it came above Ordinary; zero: it has not, or nobody knows.
	heavy  time.Time
	warned bool
}

// A line is what one name had of an account. The empty name is all others.
type line struct {
	name string
	Figures
}

func (a *account) total() (sum Figures) {
	for _, l := range a.lines {
		sum = sum.plus(l.Figures)
	}
	return sum
}

// A Book is safe for concurrent use.
type Book struct {
	known func(MAC) bool

	mu    sync.Mutex
	days  map[Date]*day
	loose []*day // of before the clock was known, the open one last
	gone  []Date // days that were dropped since Shelf.Save asked
	// The calendar: at now it was wall.
	sure      bool
	now, wall time.Time
}

// New makes an empty book. known says whether a device is in the inventory.
func New(known func(MAC) bool) *Book { return &Book{known: known, days: map[Date]*day{}} }

// Clock tells the book what the calendar says at now, and whether that can be
// believed. It is to be called every minute. What was believed once is never
// doubted again: a clock that lost its source runs on.
func (b *Book) Clock(now, wall time.Time, right bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now, b.wall = now, wall.Round(0)
	if !right {
		return
	}
	b.sure = true
	for _, d := range b.loose {
		end := d.last
		if end.IsZero() {
			end = now // of an earlier run; nobody knows when that was
		}
		b.mergeLocked(b.datedLocked(b.dateLocked(end)), d)
	}
	b.loose = nil
}

// dateLocked is the day of a moment by the calendar as it is known now.
func (b *Book) dateLocked(at time.Time) Date { return DateOf(b.wall.Add(at.Sub(b.now))) }

// Moved enters what a device had with a name since the last call.
func (b *Book) Moved(mac MAC, name string, up, down int64, sessions int, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.enterLocked(b.todayLocked(now), mac, name, Figures{max(up, 0), max(down, 0), max(int64(sessions), 0)}, now)
}

// todayLocked is the day that is open now.
func (b *Book) todayLocked(now time.Time) *day {
	if b.sure {
		return b.datedLocked(b.dateLocked(now))
	}
	n := len(b.loose)
	if n > 0 && !b.loose[n-1].last.IsZero() && now.Sub(b.loose[n-1].began) < 24*time.Hour {
		b.loose[n-1].last = now
		return b.loose[n-1]
	}
	d := newDay(0)
	d.began, d.last = now, now
	b.loose = append(b.loose, d)
	if len(b.loose) > Keep { // two months without a clock
		b.mergeLocked(b.loose[1], b.loose[0])
		b.loose = slices.Delete(b.loose, 0, 1)
	}
	return d
}

// datedLocked is the day of a date. The book keeps as many as Keep: the one that is
// farthest away makes room, also where a wrong clock had put it into the future.
func (b *Book) datedLocked(date Date) *day {
	if d := b.days[date]; d != nil {
		return d
	}
	d := newDay(date)
	b.days[date] = d
	b.pruneLocked(date)
	return d
}

func (b *Book) pruneLocked(today Date) {
	for len(b.days) > Keep {
		far := today
		for date := range b.days {
			if distance(date, today) > distance(far, today) {
				far = date
			}
		}
		delete(b.days, far)
		b.gone = append(b.gone, far)
	}
}

func distance(a, b Date) Date { return max(a-b, b-a) }

func newDay(date Date) *day {
	return &day{date: date, of: map[MAC]*account{}, names: map[string]string{}}
}

func (b *Book) enterLocked(d *day, mac MAC, name string, f Figures, now time.Time) {
	a := b.accountLocked(d, mac)
	a.add(d.nameOf(a, name, b.known(mac)), f)
	if a.heavy.IsZero() && a.total().Total() > Ordinary {
		a.heavy = now
	}
	d.changed = true
}

// accountLocked finds the account of a device, or nobody's when there are too many.
func (b *Book) accountLocked(d *day, mac MAC) *account {
	if a := d.of[mac]; a != nil {
		return a
	}
	if mac != (MAC{}) {
		stranger := !b.known(mac)
		if len(d.of) >= maxDevices || stranger && d.strangers >= maxStrangers {
			return b.accountLocked(d, MAC{})
		}
		if stranger {
			d.strangers++
		}
	}
	a := &account{}
	d.of[mac] = a
	return a
}

// nameOf is what a name is called on an account: itself, or nothing where there
// are too many.
func (d *day) nameOf(a *account, name string, known bool) string {
	if slices.ContainsFunc(a.lines, func(l line) bool { return l.name == name }) {
		return name
	}
	if len(name) > maxNameLength || a.named() >= maxNames {
		return ""
	}
	if same, ok := d.names[name]; ok {
		return same
	}
	if name == "" || len(d.names) >= maxDayNames || !known && d.strange >= maxStrangeNames {
		return ""
	}
	name = strings.Clone(name) // not the hello it was cut from
	d.names[name] = name
	if !known {
		d.strange++
	}
	return name
}

// maxNameLength is the longest name there is, in text (RFC 1035, 2.3.4).
const maxNameLength = 253

// named counts the lines that have a name.
func (a *account) named() (n int) {
	for _, l := range a.lines {
		if l.name != "" {
			n++
		}
	}
	return n
}

func (a *account) add(name string, f Figures) {
	i := slices.IndexFunc(a.lines, func(l line) bool { return l.name == name })
	if i < 0 {
		a.lines = append(a.lines, line{name: name})
		i = len(a.lines) - 1
	}
	a.lines[i].Figures = a.lines[i].plus(f)
}

// mergeLocked enters everything of a day in another one.
func (b *Book) mergeLocked(into, from *day) {
	for mac, a := range from.of {
		to := b.accountLocked(into, mac)
		for _, l := range a.lines {
			to.add(into.nameOf(to, l.name, b.known(mac)), l.Figures)
		}
		if to.heavy.IsZero() || !a.heavy.IsZero() && a.heavy.Before(to.heavy) {
			to.heavy = a.heavy
		}
		to.warned = to.warned || a.warned
	}
	into.changed = true
}
