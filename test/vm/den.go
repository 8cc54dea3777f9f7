package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A den is the directory of one driver: disks, sockets and snapshots. Whoever lives
// there holds the lock of the file "driver" in it, so that the den of a driver that
// was killed is known by that, and the next one takes it away.
const (
	denName = "chargegate-vm-"
	denLock = "driver"
)

// den makes one below a directory; leave takes it away again.
func den(below string) (dir string, leave func(), err error) {
	if err := abandoned(below); err != nil {
		return "", nil, fmt.Errorf("taking away what killed drivers left: %w", err)
	}
	if dir, err = os.MkdirTemp(below, denName); err != nil {
		return "", nil, err
	}
	// It gets its name when it is held: nobody sees one that is free by mistake.
	file := filepath.Join(dir, denLock)
	lock, err := held(file + "-new")
	if err == nil {
		err = os.Rename(file+"-new", file)
	}
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return dir, func() {
		_ = os.RemoveAll(dir) // what stays, the next driver tries again
		lock.Close()
	}, nil
}

// abandoned takes away the dens where nobody lives any more. What a failed scenario
// left for people ("-kept") is none.
func abandoned(below string) error {
	all, err := filepath.Glob(filepath.Join(below, denName+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range all {
		file := filepath.Join(dir, denLock)
		if _, err := os.Stat(file); err != nil {
			continue // it is none
		}
		lock, err := held(file)
		if err != nil {
			continue // somebody lives there
		}
		errs = append(errs, os.RemoveAll(dir))
		lock.Close()
	}
	return errors.Join(errs...)
}

// held holds the lock of a file until it is closed.
func held(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
