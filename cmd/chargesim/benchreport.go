package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"chargegate/pkg/sim"
)

// results are the samples of one server, by row.
type results map[string][]float64

func (r results) add(row string, sample float64) { r[row] = append(r[row], sample) }

// tally adds up what must not happen at all, over everything that was measured.
func (r results) tally(t sim.Tally) {
	for row, n := range map[string]int{"failed": t.Failed(), "naks": t.NAKs, "doubles": t.Doubles, "moved": t.Moved, "unheard": t.Unheard} {
		if len(r[row]) == 0 {
			r[row] = []float64{0}
		}
		r[row][0] += float64(n)
	}
}

// use adds a loop's rate and what it cost.
func (r results) use(loop string, u use) {
	if u.leases == 0 {
		return
	}
	r.add(loop, u.rate())
	r.add(loop+" cpu", u.server.Seconds()*1e6/float64(u.leases))
	for row, part := range map[string]float64{"server": u.server.Seconds(), "load": u.load.Seconds(), "others": max(0, u.others.Seconds())} {
		r.add(loop+" "+row, 100*part/u.wall.Seconds())
	}
}

// A row is a line of the table.
type row struct {
	key, title string
	better     direction
}

type direction int

const (
	neither direction = iota
	more
	less
)

var benchRows = []row{
	{"new", "new bindings /s", more},
	{"known", "known clients /s", more},
	{"last50", "50 at once: last lease, ms", less},
	{"last250", "250 at once: last lease, ms", less},
	{"last1000", "1000 at once: last lease, ms", less},
	{"half1000", "1000 at once: half of them, ms", less},
	{"resent50", "50 at once: sent again", neither},
	{"resent250", "250 at once: sent again", neither},
	{"resent1000", "1000 at once: sent again", neither},
	{"new cpu", "CPU µs per new binding", less},
	{"known cpu", "CPU µs per known client", less},
	{"syncs", "syncs per new binding", neither},
	{"rss", "MB in memory, 1000 leases", less},
	{"failed", "without a lease in time, in all", neither},
	{"naks", "NAKs, in all", neither},
	{"doubles", "one address for two, in all", neither},
}

// Where the time of the loops went: a share of one processor.
var shareRows = []row{
	{"new server", "new bindings: server, %", neither},
	{"new load", "new bindings: load, %", neither},
	{"new others", "new bindings: others, %", neither},
	{"known server", "known clients: server, %", neither},
	{"known load", "known clients: load, %", neither},
	{"known others", "known clients: others, %", neither},
}

// A figure is what is told of a row's samples.
type figure struct {
	Median  float64   `json:"median"`
	Least   float64   `json:"min"`
	Most    float64   `json:"max"`
	Samples []float64 `json:"samples"`
}

func figureOf(samples []float64) (f figure, ok bool) {
	if len(samples) == 0 {
		return f, false
	}
	sorted := slices.Sorted(slices.Values(samples))
	return figure{sorted[len(sorted)/2], sorted[0], sorted[len(sorted)-1], samples}, true
}

// A report is everything that was measured.
type report struct {
	machine  []string
	names    []string
	versions []string
	got      map[string]results
}

func newReport(b *bench, servers []contestant) *report {
	r := &report{got: map[string]results{}, machine: machine(b)}
	for _, s := range servers {
		r.names, r.versions = append(r.names, s.Name()), append(r.versions, s.Version())
		r.got[s.Name()] = results{}
	}
	return r
}

func (r *report) of(name string) results { return r.got[name] }

// machine is what the figures depend on.
func machine(b *bench) []string {
	var uname unix.Utsname
	kernel := "unknown"
	if unix.Uname(&uname) == nil {
		kernel = unix.ByteSliceToString(uname.Release[:])
	}
	kind, lasts, err := sim.OnDisk(b.state)
	if err != nil {
		kind = err.Error()
	} else if !lasts {
		kind += ": NOT a disk, syncs cost nothing there"
	}
	lines := []string{
		fmt.Sprintf("%d CPUs, kernel %s, leases on %s", runtime.NumCPU(), kernel, kind),
		fmt.Sprintf("server on CPU %v, load on %v; %d clients in flight; %d runs, each server once in each", b.server, b.load, b.together, b.runs),
		"receive buffers: " + buffers(),
	}
	if b.server == nil {
		lines[1] = strings.Replace(lines[1], "server on CPU [], load on []", "server and load share the CPU", 1)
	}
	return lines
}

// buffers tells the kernel's limits for what waits in a socket.
func buffers() string {
	read := func(name string) string {
		text, err := os.ReadFile("/proc/sys/net/core/" + name)
		if err != nil {
			return "hidden in here"
		}
		return strings.TrimSpace(string(text))
	}
	return fmt.Sprintf("net.core.rmem_default %s, net.core.rmem_max %s (chargegate's package sets 4194304)", read("rmem_default"), read("rmem_max"))
}

// Table is the report for people.
func (r *report) Table() string {
	var b strings.Builder
	for i, name := range r.names {
		fmt.Fprintf(&b, "%-11s %s\n", name, r.versions[i])
	}
	for _, line := range r.machine {
		fmt.Fprintln(&b, line)
	}
	fmt.Fprintf(&b, "Median [least-most]; ×: how many times better chargegate is.\n\n")
	r.rows(&b, benchRows)
	fmt.Fprintf(&b, "\nWhere the processors' time went (100 %% is one of them):\n\n")
	r.rows(&b, shareRows)
	if f, ok := figureOf(r.got["chargegate"]["own syncs"]); ok {
		fmt.Fprintf(&b, "\nBy its own count chargegate synced %.3f times per new binding while nobody traced it.\n", f.Median)
	}
	for _, name := range r.names {
		if n := r.got[name]["unheard"]; len(n) > 0 && n[0] > 0 {
			fmt.Fprintf(&b, "The load had no room for %.0f answers of %s: its figures are worse than it is.\n", n[0], name)
		}
	}
	return b.String()
}

func (r *report) rows(b *strings.Builder, rows []row) {
	fmt.Fprintf(b, "%-32s", "")
	for _, name := range r.names {
		fmt.Fprintf(b, " %-32s", name)
	}
	fmt.Fprintln(b)
	for _, row := range rows {
		line := fmt.Sprintf("%-32s", row.title)
		ours, _ := figureOf(r.got["chargegate"][row.key])
		for _, name := range r.names {
			cell := "-"
			if f, ok := figureOf(r.got[name][row.key]); ok {
				cell = f.String()
				if name != "chargegate" {
					cell += row.times(ours.Median, f.Median)
				}
			}
			line += fmt.Sprintf(" %-32s", cell)
		}
		fmt.Fprintln(b, strings.TrimRight(line, " "))
	}
}

func (f figure) String() string {
	if len(f.Samples) == 1 {
		return short(f.Median)
	}
	return fmt.Sprintf("%s [%s-%s]", short(f.Median), short(f.Least), short(f.Most))
}

// times is how many times better ours is.
func (r row) times(ours, theirs float64) string {
	switch {
	case ours == 0 || theirs == 0 || r.better == neither:
		return ""
	case r.better == more:
		return " ×" + rough(ours/theirs)
	}
	return " ×" + rough(theirs/ours)
}

// rough writes a ratio with two digits that count.
func rough(v float64) string {
	if v >= 10 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// short writes a figure with three digits that count.
func short(v float64) string {
	switch {
	case v == float64(int64(v)) || v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// JSON is the report for programs.
func (r *report) JSON(w io.Writer) error {
	type server struct {
		Name    string            `json:"name"`
		Version string            `json:"version"`
		Rows    map[string]figure `json:"rows"`
	}
	out := struct {
		Machine []string `json:"machine"`
		Servers []server `json:"servers"`
	}{Machine: r.machine}
	for i, name := range r.names {
		s := server{name, r.versions[i], map[string]figure{}}
		for key, samples := range r.got[name] {
			if f, ok := figureOf(samples); ok {
				s.Rows[key] = f
			}
		}
		out.Servers = append(out.Servers, s)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}
