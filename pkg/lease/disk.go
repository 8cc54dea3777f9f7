package lease

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A disk is the directory that a table lives in: the few operations whose order
// decides what a power cut leaves.
type disk interface {
	// list returns the names of all files.
	list() ([]string, error)
	read(name string) ([]byte, error)
	// create makes a file for appending that must not exist.
	create(name string) (file, error)
	// extend opens a file for appending and cuts what stands after size.
	extend(name string, size int64) (file, error)
	rename(from, to string) error
	remove(name string) error
	// sync makes what was created, renamed and removed last.
	sync() error
}

// A file is written to its end.
type file interface {
	io.WriteCloser
	// Sync makes what was written last.
	Sync() error
}

// maxFile bounds what is read of one file. Compaction keeps them far smaller.
const maxFile = 64 << 20

var (
	errUnopened = errors.New("no journal has been begun")
	errClosed   = errors.New("the table is closed")
)

// dir is a real directory. It is locked while the table is open.
type dir struct {
	path string
	lock *os.File // nil if the directory could not be opened
}

// openDir makes the directory if it is missing and locks it. Only another
// process that holds it is an error: a directory that cannot be made or read
// shows as errors of each operation.
func openDir(path string) (*dir, error) {
	d := &dir{path: path}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return d, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return d, nil
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		return nil, fmt.Errorf("locking %s: another chargegate uses it", path)
	}
	d.lock = f
	return d, nil
}

func (d *dir) close() {
	if d.lock != nil {
		d.lock.Close()
	}
}

func (d *dir) at(name string) string { return filepath.Join(d.path, name) }

func (d *dir) list() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d *dir) read(name string) ([]byte, error) {
	f, err := os.Open(d.at(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

func (d *dir) create(name string) (file, error) {
	return open(d.at(name), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL)
}

func (d *dir) extend(name string, size int64) (file, error) {
	f, err := open(d.at(name), os.O_WRONLY|os.O_APPEND)
	if err != nil {
		return nil, err
	}
	err = f.Truncate(size)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d *dir) rename(from, to string) error { return os.Rename(d.at(from), d.at(to)) }

func (d *dir) remove(name string) error { return os.Remove(d.at(name)) }

func (d *dir) sync() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// datafile syncs with fdatasync: the time of the last change need not last.
type datafile struct{ *os.File }

func open(path string, flags int) (datafile, error) {
	f, err := os.OpenFile(path, flags, 0o600)
	return datafile{f}, err
}

func (f datafile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
