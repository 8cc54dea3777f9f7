package volume

import (
	"cmp"
	"slices"
	"time"
)

// What Zaptec says a charger needs (Z-14), and what of it is far too much.
//
// A Pro moves 3 MB a day, and 5 MB more for each charging session. Firmware comes
// as 4.3 MiB in 64 KiB pieces, each on a connection of its own (F-7): 5 MB with 69
// handshakes. A charger that loses the cloud all night dials again after 10 s and a
// pause that grows to 45 or 180 s; at 8 kB for each handshake that is 16 MB in a
// night at worst, 35 MB in a day.
//
// So the busiest honest day is 3 MB, sixteen charging sessions of an hour and a half
// one after the other (80 MB), and firmware that is fetched three times (15 MB). More
// than 100 MB on one day is none of these; it is 30 times what a charger that nobody
// uses needs, and 3 GB on a monthly bill.
//
// There is no limit below: a charger that is switched off, or on 4G (Z-15), moves
// nothing, and one that cannot reach the cloud is told of by its stage.
const (
	// Excessive is how many bytes of a device on one day are worth a warning.
	Excessive = 100_000_000
	// Ordinary is a day with one charging session. When it was passed tells when
	// the story began.
	Ordinary = 8_000_000
)

// An Excess is a device far above what is expected.
type Excess struct {
	MAC   MAC // zero: those who have no account of their own, together
	Total Figures
	Name  string // that had most of it; empty: many
	Of    Figures
	// Since is how long ago it came above Ordinary; 0: not known.
	Since time.Duration
}

// Excesses returns who is far above what is expected, each once a day.
func (b *Book) Excesses(now time.Time) []Excess {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.openLocked(now)
	if d == nil {
		return nil
	}
	var out []Excess
	for mac, a := range d.of {
		sum := a.total()
		if a.warned || sum.Total() <= Excessive {
			continue
		}
		a.warned = true
		top := slices.MaxFunc(a.lines, func(x, y line) int { return cmp.Compare(x.Total(), y.Total()) })
		x := Excess{MAC: mac, Total: sum, Name: top.name, Of: top.Figures}
		if !a.heavy.IsZero() {
			x.Since = max(time.Second, now.Sub(a.heavy))
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(x, y Excess) int { return cmp.Compare(y.Total.Total(), x.Total.Total()) })
	return out
}
