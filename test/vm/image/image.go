// Package image builds what the lab's virtual machine boots: Debian 13 with its
// own kernel, and the programs and files of this checkout installed as "make
// install" installs them. What is in it stands in the text files beside this one.
//
// What takes long, Debian itself, is kept in a directory outside the checkout,
// under a hash of everything it was made of; removing the directory is always
// safe. What is of this checkout is made anew each time.
package image

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recipe is packages, modules, init, masked and root.
//
//go:embed packages modules init masked all:root
var recipe embed.FS

// Version counts the changes of the builder that its text files do not show.
const version = "4"

// Suite is the Debian that the guest is, whatever the host is.
const Suite = "trixie"

// Built is what a machine boots.
type Built struct {
	Kernel, Initrd string
	// Root is an ext4 file system, to be written over only through an overlay.
	Root string
}

// Options of a build.
type Options struct {
	Cache  string // where Debian is kept
	Dir    string // an empty directory for what is made anew
	Source string // the checkout, with its programs in bin
	Say    func(format string, args ...any)
}

// Build makes a bootable guest. It must run as root on a Debian of amd64.
func Build(ctx context.Context, o Options) (Built, error) {
	if err := possible(); err != nil {
		return Built{}, err
	}
	b, err := Base(ctx, o)
	if err != nil {
		return Built{}, err
	}
	began := time.Now()
	b.Root = o.Dir + "/root.ext4"
	tree, base := o.Dir+"/tree", filepath.Dir(b.Kernel)
	defer os.RemoveAll(tree)
	if err := o.install(ctx, base+"/tree", tree); err != nil {
		return Built{}, fmt.Errorf("installing this checkout into the guest: %w", err)
	}
	if err := o.run(ctx, "", "mke2fs", "-q", "-t", "ext4", "-L", "lab", "-J", "size=8", "-m", "0", "-d", tree, b.Root, "768M"); err != nil {
		return Built{}, fmt.Errorf("making the guest's file system: %w", err)
	}
	o.Say("image: this checkout installed in %s", since(began))
	return b, nil
}

// Base is a guest without its root, from the cache where that has it.
func Base(ctx context.Context, o Options) (Built, error) {
	base, err := o.base(ctx)
	return Built{Kernel: base + "/vmlinuz", Initrd: base + "/initrd"}, err
}

// possible says what is missing on this machine.
func possible() error {
	switch {
	case runtime.GOOS != "linux" || runtime.GOARCH != "amd64":
		return errors.New("the lab's guest is made on Linux of amd64 (PCs); this is another machine")
	case os.Geteuid() != 0:
		return errors.New("the lab's guest is made with chroot and file owners, which only root may: sudo make test-vm")
	}
	for _, name := range []string{"mmdebstrap", "mke2fs", "cpio", "xz", "qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is missing: test/need vm installs it", name)
		}
	}
	return nil
}

// base gives the directory that holds tree, vmlinuz and initrd, and makes it where
// the cache does not have it.
func (o Options) base(ctx context.Context) (string, error) {
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return "", err
	}
	// Two checkouts that start at once need only one Debian.
	lock, err := os.OpenFile(o.Cache+"/lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := o.wait(ctx, lock); err != nil {
		return "", err
	}
	debian, err := o.kept(ctx, "debian", o.debian, "packages")
	if err != nil {
		return "", fmt.Errorf("building Debian for the guest: %w", err)
	}
	base, err := o.kept(ctx, "base", func(ctx context.Context, dir string) error { return o.unpack(ctx, debian, dir) },
		"packages", "modules", "init", "masked")
	if err != nil {
		return "", fmt.Errorf("unpacking Debian for the guest: %w", err)
	}
	return base, nil
}

// wait takes the lock, and says when somebody else has it.
func (o Options) wait(ctx context.Context, lock *os.File) error {
	for tries := 0; ; tries++ {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if tries%40 == 0 {
			o.Say("image: somebody else is building into %s; waiting", o.Cache)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// kept gives a directory of the cache, which make fills where it is not there.
func (o Options) kept(ctx context.Context, name string, make func(context.Context, string) error, of ...string) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, version, Suite)
	for _, file := range of {
		b, err := recipe.ReadFile(file)
		if err != nil {
			return "", err
		}
		sum.Write(b)
	}
	dir := filepath.Join(o.Cache, name+"-"+hex.EncodeToString(sum.Sum(nil))[:12])
	if err := os.Chtimes(dir, time.Now(), time.Now()); err == nil {
		return dir, nil
	}
	o.forget(name)
	began := time.Now()
	temp, err := os.MkdirTemp(o.Cache, "making-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	if err := os.Chmod(temp, 0o755); err != nil {
		return "", err
	}
	if err := make(ctx, temp); err != nil {
		return "", err
	}
	if err := os.Rename(temp, dir); err != nil {
		return "", err
	}
	o.Say("image: %s made in %s, kept in %s", name, since(began), dir)
	return dir, nil
}

// keep is how long the cache holds what nobody has asked for.
const keep = 14 * 24 * time.Hour

// forget removes what was made of older recipes, and what was never finished. What
// cannot be removed stays.
func (o Options) forget(name string) {
	old, _ := filepath.Glob(filepath.Join(o.Cache, name+"-*"))
	for _, dir := range old {
		if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) > keep {
			_ = os.RemoveAll(dir)
		}
	}
	halves, _ := filepath.Glob(filepath.Join(o.Cache, "making-*")) // the lock is ours: nobody is at it
	for _, dir := range halves {
		_ = os.RemoveAll(dir)
	}
}

// debian is the root as a tar, and the package of the kernel that belongs to it.
// The kernel is not installed: that would build an initramfs of Debian's.
func (o Options) debian(ctx context.Context, dir string) error {
	o.Say("image: downloading Debian 13, some 200 MB, this once")
	args := []string{"--quiet", "--mode=root", "--variant=minbase", "--architectures=amd64", `--aptopt=Apt::Install-Recommends "false"`, "--dpkgopt=force-unsafe-io"}
	for _, path := range []string{"doc", "man", "locale", "info", "lintian"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+path+"/*")
	}
	args = append(args, "--include="+strings.Join(lines("packages"), ","),
		`--customize-hook=set -e; cd '`+dir+`'; export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
			kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -n 1)
			apt-get -q download "$kernel"; mv linux-image-*.deb kernel.deb`,
		Suite, dir+"/root.tar")
	return o.run(ctx, "", "mmdebstrap", args...)
}

// unpack makes of it what one can install into: a tree with its masks and the
// modules, the kernel, and an initramfs.
func (o Options) unpack(ctx context.Context, debian, dir string) error {
	tree, kernel := dir+"/tree", dir+"/kernel"
	if err := errors.Join(os.Mkdir(tree, 0o755), os.Mkdir(kernel, 0o755)); err != nil {
		return err
	}
	defer os.RemoveAll(kernel)
	if err := o.run(ctx, "", "tar", "-xpf", debian+"/root.tar", "--numeric-owner", "-C", tree, "--exclude=./dev/*", "--exclude=./proc/*", "--exclude=./sys/*"); err != nil {
		return err
	}
	if err := o.run(ctx, "", "dpkg-deb", "-x", debian+"/kernel.deb", kernel); err != nil {
		return err
	}
	release, err := one(kernel + "/usr/lib/modules/*")
	if err != nil {
		if release, err = one(kernel + "/lib/modules/*"); err != nil {
			return err
		}
	}
	image, err := one(kernel + "/boot/vmlinuz-*")
	if err != nil {
		return err
	}
	if err := os.Rename(image, dir+"/vmlinuz"); err != nil {
		return err
	}
	if err := o.modules(ctx, release, tree); err != nil {
		return fmt.Errorf("the kernel's modules: %w", err)
	}
	if err := o.initrd(ctx, tree, filepath.Base(release), dir+"/initrd"); err != nil {
		return fmt.Errorf("the initramfs: %w", err)
	}
	generators, err := filepath.Glob(tree + "/usr/lib/systemd/system-generators/*")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(tree+"/etc/systemd/system-generators", 0o755); err != nil {
		return err
	}
	masked := lines("masked")
	for i, unit := range masked {
		masked[i] = "/etc/systemd/system/" + unit
	}
	// Each generator is a process at boot, and none has anything to say here.
	for _, name := range generators {
		masked = append(masked, "/etc/systemd/system-generators/"+filepath.Base(name))
	}
	for _, name := range masked {
		link := tree + name
		if err := errors.Join(os.RemoveAll(link), os.Symlink("/dev/null", link)); err != nil {
			return err
		}
	}
	return nil
}

// lines are those of a file of the recipe, without its comments.
func lines(name string) []string {
	b, err := recipe.ReadFile(name)
	if err != nil {
		panic(err) // it is part of the program
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			all = append(all, line)
		}
	}
	return all
}

// one is the only file that a pattern matches.
func one(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%d files are called %s, want one", len(found), pattern)
	}
	return found[0], nil
}

// run runs a program of the host to its end; what it says is in the error.
func (o Options) run(ctx context.Context, dir, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "CGO_ENABLED=0")
	// mmdebstrap takes its mounts away when it is asked to end, and not when killed.
	c.Cancel = func() error { return c.Process.Signal(unix.SIGTERM) }
	c.WaitDelay = 10 * time.Second
	if out, err := c.CombinedOutput(); err != nil {
		said := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("%s: %w\n%s", name, err, strings.Join(said[max(0, len(said)-12):], "\n"))
	}
	return nil
}

// chroot runs a program of the guest's tree.
func (o Options) chroot(ctx context.Context, tree string, command ...string) error {
	return o.run(ctx, "", "chroot", append([]string{tree, "/usr/bin/env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_OFFLINE=1"}, command...)...)
}

// lay puts the recipe's own files into the guest.
func lay(tree string) error {
	return fs.WalkDir(recipe, "root", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := recipe.ReadFile(name)
		if err != nil {
			return err
		}
		return write(filepath.Join(tree, strings.TrimPrefix(name, "root")), b, 0o644)
	})
}

// write never writes into a file that is there: it may be the cache's, too.
func write(name string, b []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(name, b, mode)
}

// copyFile copies a file of the host.
func copyFile(to, from string, mode os.FileMode) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	return write(to, b, mode)
}

func since(t time.Time) time.Duration { return time.Since(t).Round(100 * time.Millisecond) }

// sorted is what a set of names holds.
func sorted(set map[string]bool) []string {
	var all []string
	for name := range set {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
