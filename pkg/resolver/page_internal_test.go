package resolver

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// docs/dns.md names tests and functions: each must exist. A row of a table is
// found by its name.
func TestThePageNamesWhatExists(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/dns.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, funcs := map[string]map[string]bool{}, map[string]bool{}
	for _, dir := range []string{".", "../policy", "../config", "../event"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			file := strings.TrimPrefix(filepath.ToSlash(filepath.Clean(path)), "../")
			for _, decl := range f.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok {
					funcs[file+": "+fn.Name.Name] = true
					tests[fn.Name.Name] = literals(fn)
				}
			}
		}
	}
	named := regexp.MustCompile("`([^`]+)`")
	goFile := regexp.MustCompile(`^[a-z/_]+\.go: \w+$`)
	cited := 0
	for n, line := range strings.Split(string(page), "\n") {
		for _, m := range named.FindAllStringSubmatch(line, -1) {
			switch top, row, _ := strings.Cut(m[1], "/"); {
			case strings.HasPrefix(m[1], "Test") || strings.HasPrefix(m[1], "Fuzz"):
				cited++
				if tests[top] == nil || row != "" && !tests[top][row] {
					t.Errorf("docs/dns.md:%d: there is no test %s", n+1, m[1])
				}
			case goFile.MatchString(m[1]):
				cited++
				if !funcs[m[1]] {
					t.Errorf("docs/dns.md:%d: there is no %s", n+1, m[1])
				}
			}
		}
	}
	if cited < 150 {
		t.Errorf("the page names %d tests and functions only", cited)
	}
}

// literals returns the strings that stand in a function.
func literals(fn *ast.FuncDecl) map[string]bool {
	found := map[string]bool{}
	ast.Inspect(fn, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				found[s] = true
			}
		}
		return true
	})
	return found
}
