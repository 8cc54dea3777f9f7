package signal

import (
	"math"
	"slices"
	"time"
)

// What a slow fall is, of a rack that was put up, of water or of an antenna that came
// loose: at least 6 dB over at least three days, of which nearly every one is worse than
// those before it. Days that merely differ do not do that.
const (
	fallDB      = 6
	fallDays    = 3
	fallMost    = 30  // days that are looked at
	fallOrder   = 0.6 // how much more pairs of days must have got worse than better,
	fallSure    = 2.0 // and how many times as much as chance brings about (Mann and Kendall)
	fallScatter = 5   // and by how much more it must fall than days differ from the next
	fallPresent = 0.6 // how many of the days must be known
	// dayHours is how many hours with a signal make a day that counts.
	dayHours = 4
)

// A Fall is that a device is heard worse from day to day.
type Fall struct {
	MAC MAC
	// From and To are dBm: where the line through the days' medians begins and ends.
	From, To int
	Days     int
}

// days are the medians of the last days before an hour, each of 24 of them, oldest
// first; 0: unknown. The last one is today.
func (d *device) days(head int64, l Limits) []int {
	out := make([]int, fallMost+1)
	for day := range out {
		first := head - int64(fallMost+1-day)*24
		var values []int
		for i := first; i < first+24; i++ {
			if s := l.heard(d.hourAt(i).mid); s != 0 {
				values = append(values, s)
			}
		}
		if len(values) >= dayHours {
			out[day] = median(values)
		}
	}
	return out
}

// falling looks for the largest fall that ends today, and of equal ones for the
// shortest.
func falling(days []int) (Fall, bool) {
	today := days[len(days)-1]
	if today == 0 || slices.Max(known(days))-today < fallDB {
		return Fall{}, false // as nearly all are
	}
	least := max(fallDB, fallScatter*scatter(days))
	var best Fall
	for n := fallDays; n < len(days); n++ {
		if f, ok := fallOver(days[len(days)-1-n:]); ok && f.From-f.To > best.From-best.To && float64(f.From-f.To) >= least {
			best = f
		}
	}
	return best, best.Days > 0
}

// known are the values that are not 0.
func known(days []int) (out []int) {
	for _, v := range days {
		if v != 0 {
			out = append(out, v)
		}
	}
	return out
}

// fallOver fits a line through all of the days (Theil and Sen: its slope is the
// median of those between each two days), which a single day cannot bend.
func fallOver(days []int) (Fall, bool) {
	n := len(days) - 1
	if days[0] == 0 || days[n] == 0 || float64(len(known(days))) < fallPresent*float64(len(days)) {
		return Fall{}, false
	}
	var slopes []float64
	order := 0
	for i, a := range days {
		for k, b := range days[i+1:] {
			if a == 0 || b == 0 {
				continue
			}
			slopes = append(slopes, float64(b-a)/float64(k+1))
			switch {
			case b < a:
				order++
			case b > a:
				order--
			}
		}
	}
	if n := float64(len(known(days))); float64(order) < fallOrder*float64(len(slopes)) || float64(order) < fallSure*math.Sqrt(n*(n-1)*(2*n+5)/18) {
		return Fall{}, false
	}
	slope := middle(slopes)
	var heights []float64
	for i, a := range days {
		if a != 0 {
			heights = append(heights, float64(a)-slope*float64(i))
		}
	}
	from := middle(heights)
	f := Fall{From: int(math.Round(from)), To: int(math.Round(from + slope*float64(n))), Days: n}
	f.From, f.To = min(f.From, slices.Max(known(days))), max(f.To, slices.Min(days))
	return f, f.From-f.To >= fallDB
}

// scatter is how much a day differs from the one before, beside what all do.
func scatter(days []int) float64 {
	var steps, beside []float64
	all := known(days)
	for i := range len(all) - 1 {
		steps = append(steps, float64(all[i+1]-all[i]))
	}
	if len(steps) == 0 {
		return 0
	}
	usual := middle(steps)
	for _, v := range steps {
		beside = append(beside, math.Abs(v-usual))
	}
	slices.Sort(beside)
	return beside[(len(beside)-1)*2/3] // of three days one may be odd
}

func middle(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// Falls returns who is heard worse from day to day, each once: again when it has
// come down as much once more, or has been better in between. It looks once a day,
// when that has begun by the calendar, and is to be called every minute or so.
func (h *History) Falls(now time.Time) []Fall {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.passLocked(now)
	day := time.Unix(h.head*60, 0).Format(time.DateOnly)
	if !h.dated || h.fallDay == day {
		return nil
	}
	first := h.fallDay == ""
	h.fallDay = day
	if first {
		return nil
	}
	var out []Fall
	for mac, d := range h.of {
		days := d.days(h.head/60, h.limits)
		today := days[len(days)-1]
		if d.told != 0 && today >= int(d.told)+hysteresis {
			d.told = 0
		}
		f, ok := falling(days)
		if !ok || d.told != 0 && f.To > int(d.told)-fallDB {
			continue
		}
		f.MAC, d.told = mac, int8(max(f.To, lowest))
		out = append(out, f)
	}
	slices.SortFunc(out, func(x, y Fall) int { return slices.Compare(x.MAC[:], y.MAC[:]) })
	return out
}
