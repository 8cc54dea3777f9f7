package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"

	"chargegate/pkg/config"
	"chargegate/pkg/render"
)

// defaultConfig is where the configuration is kept.
const defaultConfig = "/etc/chargegate/chargegate.toml"

// A rendering is what -json prints of render.
type rendering struct {
	Out    string         `json:"out"`
	Check  bool           `json:"check"` // nothing was written
	Files  []renderedFile `json:"files"`
	Faults []fault        `json:"faults"`
}

// A fault is a config.Fault for scripts.
type fault struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Key    string `json:"key,omitempty"`
	Text   string `json:"text"`
}

type renderedFile struct {
	Path  string `json:"path"`
	State string `json:"state"` // "written", "removed", "unchanged"; with -check: "would be written", "unchanged"
}

// runRender writes the files below -out, by default where the units look for
// them: in memory, because some hold a passphrase and all are made anew at each
// boot. It needs no daemon.
func runRender(_ context.Context, c *call, fs *flag.FlagSet, args []string) (int, error) {
	file := fs.String("config", defaultConfig, "")
	out := fs.String("out", render.Dir, "")
	check := fs.Bool("check", false, "")
	if _, err := parse(fs, args, 0); err != nil {
		return exitNoAnswer, err
	}
	done := rendering{Out: *out, Check: *check, Files: []renderedFile{}, Faults: []fault{}}
	cfg, err := config.Load(*file)
	if err != nil {
		return exitAttention, c.faulty(done, err)
	}
	files, err := render.Files(cfg)
	if err != nil {
		// The configuration knows where in the file the passphrase is named.
		if placed := cfg.CheckFiles(); placed != nil {
			err = placed
		}
		return exitAttention, c.faulty(done, permitted(err))
	}
	if *check {
		if err := cfg.CheckFiles(); err != nil {
			return exitAttention, c.faulty(done, err)
		}
		done.Files = compare(*out, files)
		return exitWell, c.showRendering(done)
	}
	if done.Files, err = put(*out, files); err != nil {
		return exitNoAnswer, permitted(err)
	}
	return exitWell, c.showRendering(done)
}

// permitted says what to do about a lack of permission.
func permitted(err error) error {
	if errors.Is(err, iofs.ErrPermission) {
		return fmt.Errorf("%w. The files hold passphrases: use sudo, or write elsewhere with -out DIR", err)
	}
	return err
}

// put writes the files, and says of each what was done.
func put(dir string, files []render.File) ([]renderedFile, error) {
	changed, err := render.Write(dir, files)
	if err != nil {
		return nil, err
	}
	var out []renderedFile
	for _, f := range files {
		state := "unchanged"
		if i := slices.Index(changed, f.Path); i >= 0 {
			state, changed = "written", slices.Delete(changed, i, i+1)
		}
		out = append(out, renderedFile{f.Path, state})
	}
	for _, path := range changed {
		out = append(out, renderedFile{path, "removed"})
	}
	return out, nil
}

// compare says what put would do, and touches nothing.
func compare(dir string, files []render.File) []renderedFile {
	out := make([]renderedFile, len(files))
	for i, f := range files {
		path := filepath.Join(dir, f.Path)
		out[i] = renderedFile{f.Path, "would be written"}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != f.Mode {
			continue
		}
		if had, err := os.ReadFile(path); err == nil && bytes.Equal(had, f.Content) {
			out[i].State = "unchanged"
		}
	}
	return out
}

// faulty prints every fault of the configuration, or hands the error back.
func (c *call) faulty(done rendering, err error) error {
	if !c.json {
		return err
	}
	done.Faults = faultList(err)
	return c.showRendering(done)
}

// faultList is an error's faults for scripts, or the error as one.
func faultList(err error) []fault {
	var faults config.Faults
	if !errors.As(err, &faults) {
		return []fault{{Text: err.Error()}}
	}
	out := make([]fault, len(faults))
	for i, f := range faults {
		out[i] = fault(f)
	}
	return out
}

func (c *call) showRendering(done rendering) error {
	if c.json {
		return c.encode(done)
	}
	width := 0
	for _, f := range done.Files {
		width = max(width, len(f.State))
	}
	for _, f := range done.Files {
		p := plain
		if f.State == "unchanged" {
			p = faint
		}
		fmt.Fprintln(c, c.in(p, fmt.Sprintf("%-*s %s", width, f.State, safe(filepath.Join(done.Out, f.Path)))))
	}
	return nil
}
