package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// A cell is a text, already safe, and its colour.
type cell struct {
	text  string
	paint paint
}

// A column is one of a table.
type column struct {
	head string
	// rank says what goes first when the terminal is too narrow: the highest, and
	// those of one rank together. Rank 0 always stays.
	rank  int
	right bool // numbers stand to the right
}

// A row is as many cells as there are columns, and notes that stand below.
type row struct {
	cells []cell
	notes []string
}

// A table is printed with its columns below each other. (text/tabwriter counts
// colours as text and cannot leave columns out.)
type table struct {
	columns []column
	rows    []row
}

const (
	gap     = 2  // spaces between columns
	deepest = 12 // where notes begin at the latest, so that there is room for them
)

// print writes the table with indent spaces before each line, and returns which
// columns there was room for.
func (tb *table) print(t *terminal, indent int) []int {
	widths := make([]int, len(tb.columns))
	for i, c := range tb.columns {
		widths[i] = utf8.RuneCountInString(c.head)
		for _, r := range tb.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(r.cells[i].text))
		}
	}
	room := 0 // no end
	if w := t.width(); w > 0 {
		room = max(1, w-indent)
	}
	shown := tb.fit(widths, room)
	head := make([]cell, len(tb.columns))
	for i, c := range tb.columns {
		head[i] = cell{c.head, faint}
	}
	margin := strings.Repeat(" ", indent)
	below := indent
	if len(shown) > 0 {
		below += min(widths[shown[0]]+gap, deepest)
	}
	fmt.Fprintln(t, margin+tb.line(t, head, shown, widths))
	for _, r := range tb.rows {
		fmt.Fprintln(t, margin+tb.line(t, r.cells, shown, widths))
		for _, note := range r.notes {
			lead := t.sign("↳ ", "> ")
			fmt.Fprintln(t, strings.Repeat(" ", below)+lead+t.wrap(note, below+utf8.RuneCountInString(lead)))
		}
	}
	return shown
}

// fit chooses the columns that there is room for. Empty columns are left out.
func (tb *table) fit(widths []int, room int) []int {
	var shown []int
	total := -gap
	for i := range tb.columns {
		if tb.empty(i) && tb.columns[i].rank > 0 {
			continue
		}
		shown = append(shown, i)
		total += widths[i] + gap
	}
	for room > 0 && total > room {
		least := slices.MaxFunc(shown, func(a, b int) int { return cmp.Compare(tb.columns[a].rank, tb.columns[b].rank) })
		rank := tb.columns[least].rank
		if rank == 0 {
			break
		}
		shown = slices.DeleteFunc(shown, func(i int) bool {
			goes := tb.columns[i].rank == rank
			if goes {
				total -= widths[i] + gap
			}
			return goes
		})
	}
	return shown
}

// empty reports whether no row has a text in a column.
func (tb *table) empty(i int) bool {
	return !slices.ContainsFunc(tb.rows, func(r row) bool { return r.cells[i].text != "" })
}

// line writes one row; the last column is not padded.
func (tb *table) line(t *terminal, cells []cell, shown []int, widths []int) string {
	var b strings.Builder
	for n, i := range shown {
		c := cells[i]
		pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text))
		switch {
		case tb.columns[i].right:
			b.WriteString(pad + t.in(c.paint, c.text))
		case n == len(shown)-1:
			b.WriteString(t.in(c.paint, c.text))
		default:
			b.WriteString(t.in(c.paint, c.text) + pad)
		}
		if n < len(shown)-1 {
			b.WriteString(strings.Repeat(" ", gap))
		}
	}
	return strings.TrimRight(b.String(), " ")
}
