package status

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
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
				case m[2] == "daemon-reload": // systemctl's word
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

// What Debian lets only root do is advised with sudo: a technician copies the line.
func TestWhatNeedsRootIsAdvisedWithSudo(t *testing.T) {
	t.Parallel()
	texts := map[string][]string{}
	for _, k := range event.All() {
		texts[k.ID] = []string{k.Advice}
	}
	files, err := filepath.Glob("../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if room := filepath.Base(filepath.Dir(path)); !strings.HasSuffix(path, "_test.go") && slices.Contains([]string{"charger", "dhcp", "ntprelay", "resolver", "status", "uplink"}, room) {
			texts[path] = literals(t, path)
		}
	}
	command := regexp.MustCompile(`(\S*) ?\b(systemctl (?:restart|reload|start|stop|enable|daemon-reload)|chronyc (?:makestep|reload)|dmesg|ip link set|sysctl -w|ss -lunp|install -D|chargegated -check)\b`)
	found := 0
	for where, all := range texts {
		for _, text := range all {
			for _, m := range command.FindAllStringSubmatch(text, -1) {
				if found++; !strings.HasSuffix(m[1], "sudo") {
					t.Errorf("%s: %s needs sudo in: %s", where, m[2], text)
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("%d commands are advised; are they found?", found)
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
