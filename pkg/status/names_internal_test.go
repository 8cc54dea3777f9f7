package status

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"chargegate/pkg/event"
)

// Whatever is named like an event, in what this room says and in the catalogue,
// is one: somebody will ask the journal for it.
func TestNamedEventsExist(t *testing.T) {
	t.Parallel()
	known, rooms, texts := map[string]bool{}, map[string]bool{}, map[string][]string{}
	for _, k := range event.All() {
		known[k.ID] = true
		room, _, _ := strings.Cut(k.ID, "-")
		rooms[room] = true
		texts[k.ID] = []string{k.Text, k.Explain, k.Advice}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if !strings.HasSuffix(path, "_test.go") {
			texts[path] = literals(t, path)
		}
	}
	like := regexp.MustCompile(`(?:^|[^\w./-])(EVENT=)?([a-z0-9]+(?:-[a-z0-9]+)+)`)
	named := 0
	for where, all := range texts {
		for _, text := range all {
			for _, m := range like.FindAllStringSubmatch(text, -1) {
				room, _, _ := strings.Cut(m[2], "-")
				switch {
				case known[m[2]]:
					named++
				case m[1] != "" || rooms[room]:
					t.Errorf("%s: there is no event %s", where, m[2])
				}
			}
		}
	}
	if named < 3 {
		t.Errorf("%d events are named; are they found?", named)
	}
}

// literals returns the strings that stand in a file.
func literals(t *testing.T, path string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, text)
		}
		return true
	})
	return out
}
