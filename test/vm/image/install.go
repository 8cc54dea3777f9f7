package image

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// install copies the cached tree (by hard links, and nothing writes into a file
// that is there) and installs the checkout as the README's steps do.
func (o Options) install(ctx context.Context, base, tree string) error {
	if err := o.run(ctx, "", "cp", "-al", base, tree); err != nil {
		// The cache may be on another file system, which has no such links to this.
		if err := errors.Join(os.RemoveAll(tree), o.run(ctx, "", "cp", "-a", base, tree)); err != nil {
			return err
		}
	}
	if err := lay(tree); err != nil {
		return err
	}
	if err := o.run(ctx, o.Source, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", tree+"/usr/lib/lab/guest", "./test/vm/guest"); err != nil {
		return err
	}
	if err := o.run(ctx, o.Source, "make", "-s", "install", "DESTDIR="+tree, "SYSTEMD=257"); err != nil {
		return err
	}
	if err := copyFile(tree+"/etc/chrony/chrony.conf", o.Source+"/configs/chrony/chrony.conf", 0o644); err != nil {
		return err
	}
	for _, name := range []string{"/etc/credstore/p1"} {
		if err := os.Chmod(tree+name, 0o600); err != nil {
			return err
		}
	}
	for _, command := range [][]string{
		{"systemd-sysusers"},
		{"chgrp", "-R", "chargegate", "/etc/chargegate"},
		{"systemctl", "enable", "--quiet", "lab-guest", "systemd-networkd", "chrony", "chargegate-prepare", "chargegate-firewall", "chargegated", "chargegate-radio@P1"},
		{"systemctl", "set-default", "--quiet", "multi-user.target"},
		{"journalctl", "--update-catalog"},
	} {
		if err := o.chroot(ctx, tree, command...); err != nil {
			return fmt.Errorf("%v: %w", command, err)
		}
	}
	// Nothing was updated since: without these the first boot would do it all again.
	for _, name := range []string{"/etc/.updated", "/var/.updated"} {
		if err := write(tree+name, nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}
