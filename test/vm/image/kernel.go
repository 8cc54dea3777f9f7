package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// first are the modules that the initramfs loads: as much as it takes to find the
// disk and read it.
var first = []string{"virtio_pci", "virtio_blk", "crc32c_generic", "ext4"}

// modules moves those of the list from a kernel's directory into the tree, with
// what they depend on, unpacked: the emulated processor shall not do it at each boot.
func (o Options) modules(ctx context.Context, release, tree string) error {
	all := tree + "/usr/lib/modules/" + filepath.Base(release)
	if err := errors.Join(os.MkdirAll(filepath.Dir(all), 0o755), os.Rename(release, all)); err != nil {
		return err
	}
	// A kernel's package has no modules.dep: it is made where it is installed.
	if err := o.chroot(ctx, tree, "depmod", filepath.Base(release)); err != nil {
		return err
	}
	index, err := readIndex(all)
	if err != nil {
		return err
	}
	want := map[string]bool{"modules.builtin": true, "modules.builtin.modinfo": true, "modules.order": true}
	for _, name := range lines("modules") {
		if err := index.add(want, name); err != nil {
			return err
		}
	}
	few := release // where they came from is free again
	for _, file := range sorted(want) {
		if err := copyFile(few+"/"+file, all+"/"+file, 0o644); err != nil {
			return err
		}
	}
	if err := o.run(ctx, few, "find", ".", "-name", "*.xz", "-exec", "xz", "-d", "{}", "+"); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(all), os.Rename(few, all)); err != nil {
		return err
	}
	return o.chroot(ctx, tree, "depmod", filepath.Base(release))
}

// index is a kernel's modules.dep, and what is part of the kernel itself.
type index struct {
	files   map[string]string   // by name
	needs   map[string][]string // files by file
	builtin map[string]bool     // names
}

func readIndex(release string) (index, error) {
	x := index{files: map[string]string{}, needs: map[string][]string{}, builtin: map[string]bool{}}
	builtin, err := os.ReadFile(release + "/modules.builtin")
	if err != nil {
		return x, err
	}
	for line := range strings.Lines(string(builtin)) {
		x.builtin[moduleName(line)] = true
	}
	dep, err := os.ReadFile(release + "/modules.dep")
	if err != nil {
		return x, err
	}
	for line := range strings.Lines(string(dep)) {
		file, needs, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		x.files[moduleName(file)], x.needs[file] = file, strings.Fields(needs)
	}
	return x, nil
}

// moduleName is "nf_tables" of "kernel/net/netfilter/nf_tables.ko.xz".
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(strings.TrimSpace(file)), ".")
	return strings.ReplaceAll(name, "-", "_")
}

// add puts a module's file into the set, and those that it depends on.
func (x index) add(set map[string]bool, name string) error {
	if x.builtin[name] {
		return nil
	}
	file := x.files[name]
	if file == "" {
		return fmt.Errorf("the kernel has no module %s", name)
	}
	set[file] = true
	for _, need := range x.needs[file] {
		set[need] = true
	}
	return nil
}

// initrd packs busybox, init and the first modules, in the order in which they load.
func (o Options) initrd(ctx context.Context, tree, release, to string) error {
	dir, err := os.MkdirTemp(filepath.Dir(to), "initrd-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	modules := tree + "/usr/lib/modules/" + release
	x, err := readIndex(modules)
	if err != nil {
		return err
	}
	for _, name := range []string{"dev", "proc", "new", "modules", "bin"} {
		if err := os.Mkdir(dir+"/"+name, 0o755); err != nil {
			return err
		}
	}
	var order []string
	for _, name := range first {
		order = x.inOrder(order, name)
	}
	var names []string
	for _, file := range order {
		names = append(names, filepath.Base(file))
		if err := copyFile(dir+"/modules/"+filepath.Base(file), modules+"/"+file, 0o644); err != nil {
			return err
		}
	}
	init, err := recipe.ReadFile("init")
	if err != nil {
		return err
	}
	busybox := tree + "/usr/bin/busybox"
	if _, err := os.Stat(busybox); err != nil {
		busybox = tree + "/bin/busybox"
	}
	if err := errors.Join(
		write(dir+"/modules.order", []byte(strings.Join(names, "\n")+"\n"), 0o644),
		write(dir+"/init", init, 0o755),
		copyFile(dir+"/bin/busybox", busybox, 0o755),
	); err != nil {
		return err
	}
	return o.run(ctx, dir, "sh", "-c", `find . | cpio --quiet -o -H newc >"$0"`, to)
}

// inOrder appends a module after everything that it depends on.
func (x index) inOrder(order []string, name string) []string {
	file := x.files[name]
	if file == "" {
		return order // part of the kernel
	}
	for i := len(x.needs[file]) - 1; i >= 0; i-- {
		order = x.inOrder(order, moduleName(x.needs[file][i]))
	}
	for _, known := range order {
		if known == file {
			return order
		}
	}
	return append(order, file)
}
