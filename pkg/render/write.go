package render

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Write puts the files below dir, each at once or not at all, and only those
// whose text or mode differs from what is there. Files of an earlier
// configuration, whose networks are gone, are removed. It returns the paths that
// it changed or removed, relative to dir.
func Write(dir string, files []File) (changed []string, err error) {
	wanted := map[string]bool{}
	for _, f := range files {
		wanted[f.Path] = true
		did, err := f.write(dir)
		if err != nil {
			return changed, fmt.Errorf("writing %s: %w", filepath.Join(dir, f.Path), err)
		}
		if did {
			changed = append(changed, f.Path)
		}
	}
	for _, pattern := range []string{"hostapd-*.conf", "hostapd-*.env", "networkd/10-chargegate-*.network"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return changed, err
		}
		for _, path := range found {
			rel, err := filepath.Rel(dir, path)
			if err != nil || wanted[rel] {
				continue
			}
			if err := os.Remove(path); err != nil {
				return changed, fmt.Errorf("removing what is no longer needed: %w", err)
			}
			changed = append(changed, rel)
		}
	}
	return changed, nil
}

// write puts one file, unless it is there already.
func (f File) write(dir string) (bool, error) {
	path := filepath.Join(dir, filepath.FromSlash(f.Path))
	if !filepath.IsLocal(f.Path) || strings.HasSuffix(f.Path, "/") {
		return false, fmt.Errorf("%q is not a path below the directory", f.Path)
	}
	if f.same(path) {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	return true, f.replace(path)
}

func (f File) same(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != f.Mode {
		return false
	}
	had, err := os.ReadFile(path)
	return err == nil && bytes.Equal(had, f.Content)
}

// replace writes beside the file and renames. A temporary file is 0600 from its
// birth, so that a passphrase is never readable in between.
func (f File) replace(path string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreAbsent(os.Remove(tmp.Name())))
		}
	}()
	_, err = tmp.Write(f.Content)
	err = errors.Join(err, tmp.Chmod(f.Mode), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
