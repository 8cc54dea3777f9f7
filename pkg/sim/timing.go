package sim

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A Herd is how a number of chargers came back after a power cut.
type Herd struct {
	Chargers, Online int
	// Stages are the times of each stage of those that reached it, ascending.
	Stages map[string][]time.Duration
	// Resent, Refusals and Elsewhere are sums over all chargers: DHCP messages
	// sent again, NAKs, questions to public resolvers.
	Resent, Refusals, Elsewhere int
}

// stageNames are a herd's stages in their order.
var stageNames = []string{"leased", "resolved", "timed", "online", "served"}

// Sum makes one picture of many views.
func Sum(views []View) Herd {
	h := Herd{Chargers: len(views), Stages: map[string][]time.Duration{}}
	for _, v := range views {
		if v.Well() {
			h.Online++
		}
		for i, at := range []time.Duration{v.Took.Leased, v.Took.Resolved, v.Took.Timed, v.Took.Online, v.Took.Served} {
			if at > 0 {
				h.Stages[stageNames[i]] = append(h.Stages[stageNames[i]], at)
			}
		}
		h.Resent, h.Refusals, h.Elsewhere = h.Resent+v.Resent, h.Refusals+v.Refusals, h.Elsewhere+v.AskedElsewhere
	}
	for _, all := range h.Stages {
		slices.Sort(all)
	}
	return h
}

// Percentile returns the time by which a share of those who reached the stage
// had reached it; zero when nobody has. share is above 0 and at most 1.
func (h Herd) Percentile(stage string, share float64) time.Duration {
	return Percentile(h.Stages[stage], share)
}

// Percentile is what a share of ascending times, above 0 and at most 1, does not
// pass; zero of none.
func Percentile(ascending []time.Duration, share float64) time.Duration {
	if len(ascending) == 0 {
		return 0
	}
	return ascending[min(len(ascending)-1, int(math.Ceil(share*float64(len(ascending))))-1)]
}

// String is a table of the herd, in milliseconds.
func (h Herd) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d chargers online\n", h.Online, h.Chargers)
	fmt.Fprintf(&b, "%-10s %7s %9s %9s %9s %9s\n", "stage", "count", "first ms", "50% ms", "95% ms", "last ms")
	for _, stage := range stageNames {
		fmt.Fprintf(&b, "%-10s %7d", stage, len(h.Stages[stage]))
		for _, share := range []float64{1e-9, 0.5, 0.95, 1} {
			fmt.Fprintf(&b, " %9d", h.Percentile(stage, share).Milliseconds())
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "DHCP sent again %d, NAKs %d, public resolvers asked %d\n", h.Resent, h.Refusals, h.Elsewhere)
	return b.String()
}
