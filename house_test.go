package chargegate

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The layers of the house (docs/design.md, section 2). Whoever adds a package
// says here what it is.
var (
	nouns = []string{"air", "carry", "charger", "datagram", "event", "hello", "hostapd", "lease", "limit", "policy", "signal", "volume"}
	rooms = []string{"denied", "dhcp", "egress", "handover", "ntprelay", "radio", "resolver", "revive", "status", "uplink"}
)

// mayKnow says which of our packages each package may import.
func mayKnow(name string) []string {
	switch name {
	case "run":
		return []string{"event"}
	case "config": // composes the rooms' own Config types
		return append(slices.Clone(nouns), rooms...)
	case "render": // one configuration in, three kinds of files out
		return append(append(slices.Clone(nouns), rooms...), "config")
	case "plan": // arithmetic on what the command hands it
		return nouns
	case "sim": // speaks with the daemon from outside only; datagram is sockets, nothing of the daemon
		return []string{"charger", "datagram", "policy"}
	}
	if slices.Contains(rooms, name) {
		return nouns
	}
	return nil // nouns know nobody
}

type pkg struct {
	ImportPath, Dir, Name           string
	GoFiles, TestGoFiles, Imports   []string
	TestImports, XTestImports, Deps []string
}

// packages lists the module's packages as the go command sees them.
func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json", "./...").Output()
	if err != nil {
		t.Fatalf("listing packages: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestRoomsDoNotKnowRooms(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		name, ours := strings.CutPrefix(p.ImportPath, "chargegate/pkg/")
		if !ours {
			continue // commands assemble the house and may know everybody
		}
		seen[name] = true
		if !slices.Contains(nouns, name) && !slices.Contains(rooms, name) && mayKnow(name) == nil {
			t.Errorf("pkg/%s is neither a noun nor a room: say in this test what it is", name)
		}
		for _, imported := range p.Imports {
			known, ours := strings.CutPrefix(imported, "chargegate/")
			if ours && !slices.Contains(mayKnow(name), strings.TrimPrefix(known, "pkg/")) {
				t.Errorf("pkg/%s must not import %s", name, imported)
			}
		}
	}
	for _, name := range slices.Concat(nouns, rooms, []string{"config", "plan", "render", "run", "sim"}) {
		if !seen[name] {
			t.Errorf("pkg/%s is part of the plan and does not exist", name)
		}
	}
}

func TestNothingOfTheTestsIsShipped(t *testing.T) {
	for _, p := range packages(t) {
		if p.ImportPath != "chargegate/cmd/chargegated" && p.ImportPath != "chargegate/cmd/chargegate" {
			continue
		}
		for _, dep := range p.Deps {
			switch {
			case dep == "testing", dep == "chargegate/pkg/sim", strings.HasSuffix(dep, "/nclient4"), strings.HasPrefix(dep, "github.com/vishvananda/"):
				t.Errorf("%s ships %s", p.ImportPath, dep)
			}
		}
	}
}

func TestEachPackageHasOnePackageComment(t *testing.T) {
	for _, p := range packages(t) {
		var with []string
		for _, file := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				with = append(with, file)
			}
		}
		if len(p.GoFiles) > 0 && len(with) != 1 {
			t.Errorf("%s: package comments in %v, want exactly one", p.ImportPath, with)
		}
	}
}

// initialisers at package level hide order and effects.
func TestNothingStartsByBeingImported(t *testing.T) {
	for _, p := range packages(t) {
		for _, file := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s/%s has an init function", p.ImportPath, file)
				}
			}
			for _, im := range f.Imports {
				if im.Name != nil && (im.Name.Name == "_" || im.Name.Name == ".") {
					t.Errorf("%s/%s imports %s as %q", p.ImportPath, file, im.Path.Value, im.Name.Name)
				}
			}
		}
	}
}
