package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// aKernel is a directory as depmod leaves it.
func aKernel(t *testing.T) index {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"modules.builtin": "kernel/drivers/virtio/virtio_pci.ko\n",
		"modules.dep":     "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz kernel/lib/crc16.ko.xz\nkernel/fs/jbd2/jbd2.ko.xz: kernel/lib/crc16.ko.xz\nkernel/lib/crc16.ko.xz:\nkernel/net/nf-tables.ko.xz:\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x, err := readIndex(dir)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestModulesComeWithWhatTheyNeed(t *testing.T) {
	x := aKernel(t)
	set := map[string]bool{}
	for _, name := range []string{"ext4", "nf_tables", "virtio_pci"} {
		if err := x.add(set, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	want := []string{"kernel/fs/ext4/ext4.ko.xz", "kernel/fs/jbd2/jbd2.ko.xz", "kernel/lib/crc16.ko.xz", "kernel/net/nf-tables.ko.xz"}
	if got := sorted(set); !slices.Equal(got, want) {
		t.Errorf("the files are %v", got)
	}
	if err := x.add(set, "warp_drive"); err == nil {
		t.Error("a module that does not exist: no error")
	}
}

func TestModulesLoadInTheirOrder(t *testing.T) {
	x := aKernel(t)
	got := x.inOrder(x.inOrder(nil, "virtio_pci"), "ext4")
	want := []string{"kernel/lib/crc16.ko.xz", "kernel/fs/jbd2/jbd2.ko.xz", "kernel/fs/ext4/ext4.ko.xz"}
	if !slices.Equal(got, want) {
		t.Errorf("the order is %v", got)
	}
}

func TestTheCacheKeepsWhatWasMadeWhole(t *testing.T) {
	o := Options{Cache: t.TempDir(), Say: t.Logf}
	made := 0
	fill := func(_ context.Context, dir string) error { made++; return os.WriteFile(dir+"/x", nil, 0o600) }
	broken := func(context.Context, string) error { return errors.New("no line to Debian") }
	if _, err := o.kept(t.Context(), "base", broken, "packages"); err == nil {
		t.Error("what could not be made is kept")
	}
	old := filepath.Join(o.Cache, "base-of-long-ago")
	if err := errors.Join(os.Mkdir(old, 0o700), os.Chtimes(old, time.Now().Add(-2*keep), time.Now().Add(-2*keep))); err != nil {
		t.Fatal(err)
	}
	first, err := o.kept(t.Context(), "base", fill, "packages")
	if err != nil {
		t.Fatal(err)
	}
	again, err := o.kept(t.Context(), "base", fill, "packages")
	if err != nil || again != first || made != 1 {
		t.Errorf("made %d times, in %s and %s: %v", made, first, again, err)
	}
	other, err := o.kept(t.Context(), "base", fill, "packages", "modules")
	if err != nil || other == first {
		t.Errorf("another recipe is kept in the same place, %s: %v", other, err)
	}
	left, err := os.ReadDir(o.Cache)
	if err != nil || len(left) != 2 {
		t.Errorf("the cache holds %v: %v", left, err)
	}
}
