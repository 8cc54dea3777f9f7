package chargegate

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The pages that name tests and functions, and how many they name at least. A page
// of a room names those of the room, whose files stand on it without a directory,
// and of the nouns that it lists here; a page without them those of the whole
// house. Files elsewhere are named from pkg on, or from the root on.
var pages = map[string]struct {
	dirs  []string
	least int
}{
	"docs/dhcp.md":     {[]string{"pkg/dhcp", "pkg/lease", "pkg/charger", "pkg/config"}, 50},
	"docs/dns.md":      {[]string{"pkg/resolver", "pkg/policy", "pkg/config", "pkg/event"}, 150},
	"docs/egress.md":   {nil, 30},
	"docs/security.md": {nil, 100},
}

// A source is what the Go files of one directory hold.
type source struct {
	decls map[string][]ast.Node // functions and variables, by name; methods share theirs
	funcs map[string]bool       // "file.go", and "file.go: Function"
}

// sources reads every Go file of the module, by its directory.
func sources(t *testing.T) map[string]source {
	t.Helper()
	all := map[string]source{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		if all[dir].decls == nil {
			all[dir] = source{map[string][]ast.Node{}, map[string]bool{}}
		}
		all[dir].read(filepath.Base(path), f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (s source) read(file string, f *ast.File) {
	s.funcs[file] = true
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			s.funcs[file+": "+d.Name.Name] = true
			s.decls[d.Name.Name] = append(s.decls[d.Name.Name], d)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if v, ok := spec.(*ast.ValueSpec); ok {
					for _, name := range v.Names {
						s.decls[name.Name] = append(s.decls[name.Name], v)
					}
				}
			}
		}
	}
}

// rows returns the strings that stand in a test, and in what it mentions of its own
// package: its tables, and the parts that it runs.
func (s source) rows(test string) map[string]bool {
	found, seen := map[string]bool{}, map[string]bool{}
	var look func(name string, deeper bool)
	look = func(name string, deeper bool) {
		if seen[name] {
			return
		}
		seen[name] = true
		for _, decl := range s.decls[name] {
			ast.Inspect(decl, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BasicLit:
					if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
						found[text] = true
					}
				case *ast.Ident:
					if deeper {
						look(n.Name, false)
					}
				}
				return true
			})
		}
	}
	look(test, true)
	return found
}

// TestPagesNameWhatExists: every test and every function that a page names is
// there; a row of a table is found by its name.
func TestPagesNameWhatExists(t *testing.T) {
	all := sources(t)
	named := regexp.MustCompile("`([^`]+)`")
	goFile := regexp.MustCompile(`^(?:([a-z0-9/_]+)/)?([a-z0-9_]+\.go(?:: \w+)?)$`)
	for path, page := range pages {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		cited := 0
		for n, line := range strings.Split(string(text), "\n") {
			for _, m := range named.FindAllStringSubmatch(line, -1) {
				name := m[1]
				if strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz") {
					cited++
					if !hasTest(all, page.dirs, name) {
						t.Errorf("%s:%d: there is no test %s", path, n+1, name)
					}
					continue
				}
				file := goFile.FindStringSubmatch(name)
				if file == nil {
					continue
				}
				cited++
				if !hasFunc(all, page.dirs, file[1], file[2]) {
					t.Errorf("%s:%d: there is no %s", path, n+1, name)
				}
			}
		}
		if cited < page.least {
			t.Errorf("%s names %d tests and functions only", path, cited)
		}
	}
}

// hasTest reports whether a test is there; a name that is followed by a row,
// "TestX/row" or "TestX/part/row", needs the row as well.
func hasTest(all map[string]source, dirs []string, name string) bool {
	top, row, _ := strings.Cut(name, "/")
	for dir, s := range all {
		if dirs != nil && !slices.Contains(dirs, dir) || s.decls[top] == nil {
			continue
		}
		rows := s.rows(top)
		part, sub, parted := strings.Cut(row, "/")
		if row == "" || rows[row] || parted && rows[part] && rows[sub] {
			return true
		}
	}
	return false
}

func hasFunc(all map[string]source, dirs []string, dir, name string) bool {
	switch {
	case dir == "":
		return dirs != nil && all[dirs[0]].funcs[name]
	case dirs != nil && !slices.Contains(dirs, "pkg/"+dir):
		return false
	}
	return all["pkg/"+dir].funcs[name] || all[dir].funcs[name]
}
