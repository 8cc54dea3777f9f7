package config

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// The decoder of go-toml stops at the first value that has the wrong type, and
// tells the type by its name in Go. So the text is first decoded into nothing
// in particular, which finds everything that is not TOML (syntax, keys that
// stand twice), and then laid out as a tree in which every value knows its line
// and column. The sections read from the tree, and each says all its faults.

// A place is a line and a column, both counted from 1.
type place struct{ line, column int }

// A node is one value of the file.
type node struct {
	at    place
	kind  string // how a technician calls it
	text  string // of a text, and as written of anything else
	whole int64  // of a whole number
	list  []*node
	table *table // of a section
}

// Kinds of values, as a technician calls them.
const (
	isText    = "text"
	isWhole   = "a whole number"
	isNumber  = "a number with decimals"
	isYesNo   = "true or false"
	isDate    = "a date or a time"
	isList    = "a list"
	isSection = "a section"
)

// A table is a section: keys and what stands behind them.
type table struct {
	at     place
	headed bool // a [header] has opened it
	keys   map[string]*node
	// names are the keys in the file's order, and where each stands.
	names []string
	where map[string]place
}

func newTable(at place) *table {
	return &table{at: at, keys: map[string]*node{}, where: map[string]place{}}
}

func (t *table) put(key string, at place, n *node) {
	if _, twice := t.keys[key]; !twice {
		t.names = append(t.names, key)
		t.where[key] = at
	}
	t.keys[key] = n
}

// grow lays the text out as a tree, or says why it is not TOML.
func grow(text []byte) (*table, *Fault) {
	if fault := encoding(text); fault != nil {
		return nil, fault
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // what Windows puts first
	var nothing map[string]any
	if err := toml.Unmarshal(text, &nothing); err != nil {
		return nil, syntax(text, err)
	}
	g := newGrower(text)
	for g.p.NextExpression() {
		g.expression(g.p.Expression())
	}
	if err := g.p.Error(); err != nil { // Unmarshal has read the same text
		return nil, syntax(text, err)
	}
	return g.root, nil
}

// A grower builds the tree, expression by expression.
type grower struct {
	p             unstable.Parser
	root, current *table
	twice         *double // the first that stands twice
}

// A double is a key or a section that stands where it must not stand again.
type double struct {
	name   string
	first  place
	header bool // it is a section
	lists  bool // once with single, once with double brackets
}

func newGrower(text []byte) *grower {
	g := &grower{root: newTable(place{1, 1})}
	g.current = g.root
	g.p.Reset(text)
	return g
}

func (g *grower) doubled(d double) {
	if g.twice == nil {
		g.twice = &d
	}
}

func (g *grower) expression(e *unstable.Node) {
	switch e.Kind {
	case unstable.Table, unstable.ArrayTable:
		g.open(e)
	case unstable.KeyValue:
		g.keyValue(g.current, e)
	}
}

// open makes the section of a [header] or [[header]] the current one.
func (g *grower) open(e *unstable.Node) {
	t := g.root
	var name []string
	for it := e.Key(); it.Next(); {
		key, at := string(it.Node().Data), g.at(it.Node())
		name = append(name, key)
		if !it.IsLast() {
			t = t.descend(key, at)
			continue
		}
		if n := t.keys[key]; n != nil && (n.kind == isList) != (e.Kind == unstable.ArrayTable) {
			g.doubled(double{strings.Join(name, "."), t.where[key], true, true})
		}
		if e.Kind == unstable.ArrayTable {
			t = t.appendSection(key, at)
			continue
		}
		first := t.where[key]
		if t = t.descend(key, at); t.headed {
			g.doubled(double{strings.Join(name, "."), first, true, false})
		}
		t.headed = true
	}
	t.at = g.headerAt(e)
	g.current = t
}

func (g *grower) keyValue(t *table, e *unstable.Node) {
	for it := e.Key(); it.Next(); {
		key, at := string(it.Node().Data), g.at(it.Node())
		if it.IsLast() {
			if first, had := t.where[key]; had {
				g.doubled(double{name: key, first: first})
			}
			t.put(key, at, g.value(e.Value(), at))
			return
		}
		t = t.descend(key, at)
	}
}

// descend goes into the section named key, the last one of a list of sections,
// and makes it where it is missing.
func (t *table) descend(key string, at place) *table {
	n := t.keys[key]
	if n != nil && n.kind == isList && len(n.list) > 0 {
		n = n.list[len(n.list)-1]
	}
	if n == nil || n.table == nil {
		n = &node{at: at, kind: isSection, table: newTable(at)}
		t.put(key, at, n)
	}
	return n.table
}

func (t *table) appendSection(key string, at place) *table {
	n := t.keys[key]
	if n == nil {
		n = &node{at: at, kind: isList}
		t.put(key, at, n)
	}
	one := &node{at: at, kind: isSection, table: newTable(at)}
	n.list = append(n.list, one)
	return one.table
}

// value lays out one value. The parser knows no place for some (an empty list),
// for which the key's stands in.
func (g *grower) value(v *unstable.Node, key place) *node {
	n := &node{at: key, text: string(v.Data)}
	if v.Raw.Length > 0 {
		n.at = g.at(v)
	}
	switch v.Kind {
	case unstable.String:
		n.kind = isText
	case unstable.Integer:
		n.kind = isWhole
		whole, err := strconv.ParseInt(n.text, 0, 64)
		if err != nil { // decimal with leading zeros is refused by TOML, too large is not
			n.kind = isNumber
		}
		n.whole = whole
	case unstable.Float:
		n.kind = isNumber
	case unstable.Bool:
		n.kind = isYesNo
	case unstable.Array:
		n.kind = isList
		for it := v.Children(); it.Next(); {
			n.list = append(n.list, g.value(it.Node(), n.at))
		}
	case unstable.InlineTable:
		n.kind = isSection
		n.table = newTable(n.at)
		for it := v.Children(); it.Next(); {
			g.keyValue(n.table, it.Node())
		}
	default:
		n.kind = isDate
	}
	return n
}

func (g *grower) at(n *unstable.Node) place {
	start := g.p.Shape(n.Raw).Start
	return place{start.Line, start.Column}
}

// headerAt is where the header's first name stands.
func (g *grower) headerAt(e *unstable.Node) place {
	it := e.Key()
	it.Next()
	return g.at(it.Node())
}
