package hello

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What Usual takes, Read reads the same; what has only begun, it leaves.
func TestUsual(t *testing.T) {
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		h, ok := Usual(b)
		if !ok {
			continue
		}
		taken++
		want, err := Read(bytes.NewReader(b), MaxLimit)
		if err != nil || cmp.Diff(want, h) != "" {
			t.Errorf("%s: %v, %s", file, err, cmp.Diff(want, h))
		}
		if _, ok := Usual(b[:len(b)/2]); ok {
			t.Errorf("%s: half of it was taken", file)
		}
	}
	if taken == 0 {
		t.Errorf("none of %d is usual", len(files))
	}
}
