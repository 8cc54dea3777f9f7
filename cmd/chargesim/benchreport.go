package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// results are the samples of one server, by row.
type results map[string][]float64

func (r results) add(row string, sample float64) { r[row] = append(r[row], sample) }

// use adds a loop's rate and what it cost.
func (r results) use(loop string, u use) {
	if u.done == 0 {
		return
	}
	r.add(loop, u.rate())
	r.add(loop+" cpu", u.server.Seconds()*1e6/float64(u.done))
	for row, part := range map[string]float64{"server": u.server.Seconds(), "load": u.load.Seconds(), "others": max(0, u.others.Seconds())} {
		r.add(loop+" "+row, 100*part/u.wall.Seconds())
	}
}

// total adds to what must not happen at all, over everything that was measured.
func (r results) total(row string, n int) {
	if len(r[row]) == 0 {
		r[row] = []float64{0}
	}
	r[row][0] += float64(n)
}

// invalid reports whether a server said what is not true: how quickly does not
// matter then.
func (r results) invalid() bool { return len(r["wrong"]) > 0 && r["wrong"][0] > 0 }

// sharesOf are the rows of where the time of loops went, of which each has a key
// and a title.
func sharesOf(loops ...string) (rows []row) {
	for i := 0; i < len(loops); i += 2 {
		for _, who := range []string{"server", "load", "others"} {
			rows = append(rows, row{loops[i] + " " + who, loops[i+1] + ": " + who + ", %", neither})
		}
	}
	return rows
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
	contest  contest
	machine  []string
	names    []string
	versions []string
	got      map[string]results
}

func newReport(b *bench, servers []contestant) *report {
	r := &report{contest: b.contest, got: map[string]results{}, machine: machine(b)}
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
	where := fmt.Sprintf("server on CPU %v, load on %v", b.server, b.load)
	if b.server == nil {
		where = "server and load share the CPU"
	}
	return append([]string{
		fmt.Sprintf("%d CPUs, kernel %s; %s; %d runs, each server once in each", runtime.NumCPU(), kernel, where, b.runs),
		b.about(b),
	}, b.missing...)
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
	r.rows(&b, r.contest.rows)
	fmt.Fprintf(&b, "\nWhere the processors' time went (100 %% is one of them):\n\n")
	r.rows(&b, r.contest.shares)
	for i, note := range r.contest.notes(r) {
		if i == 0 {
			fmt.Fprintln(&b)
		}
		fmt.Fprintln(&b, note)
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
			switch f, ok := figureOf(r.got[name][row.key]); {
			case ok && row.better != neither && r.got[name].invalid():
				cell = "invalid"
			case ok && name == "chargegate":
				cell = f.String()
			case ok:
				cell = f.String() + row.times(ours.Median, f.Median)
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

// limits say of loops, each with a key and a title, what each server was limited
// by.
func (r *report) limits(loops ...string) (lines []string) {
	for i := 0; i < len(loops); i += 2 {
		var each []string
		for _, name := range r.names {
			server, ok := figureOf(r.got[name][loops[i]+" server"])
			load, _ := figureOf(r.got[name][loops[i]+" load"])
			others, _ := figureOf(r.got[name][loops[i]+" others"])
			if ok {
				each = append(each, name+" by "+limit(server.Median, load.Median, others.Median))
			}
		}
		lines = append(lines, fmt.Sprintf("Limits, %s: %s.", loops[i+1], strings.Join(each, ", ")))
	}
	return lines
}

// limit says who had no time left, of shares of a processor.
func limit(server, load, others float64) string {
	const full, much = 90, 20
	switch {
	case server >= full && load >= full:
		return "itself and the load (it can do at least this)"
	case server >= full:
		return "itself"
	case others >= much:
		return fmt.Sprintf("others on this machine (%.0f %%)", others)
	case load >= full:
		return "the load (it can do more)"
	}
	return "neither (it and the load waited for each other)"
}

// times is how many times better ours is. What was too little to be told from the
// rest, and so may be less than nothing, is not compared.
func (r row) times(ours, theirs float64) string {
	switch {
	case ours <= 0 || theirs <= 0 || r.better == neither:
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
		Invalid bool              `json:"invalid,omitempty"` // it gave wrong answers
		Rows    map[string]figure `json:"rows"`
	}
	out := struct {
		Machine []string `json:"machine"`
		Servers []server `json:"servers"`
	}{Machine: r.machine}
	for i, name := range r.names {
		s := server{name, r.versions[i], r.got[name].invalid(), map[string]figure{}}
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
