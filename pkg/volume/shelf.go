package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	undated       = "undated" // the file of before the clock was known
	damagedSuffix = ".damaged"
	tmpSuffix     = ".tmp"
	// maxDamaged bounds how many files stay set aside.
	maxDamaged = 4
)

// A Shelf is the directory where the book is kept, a file for each day. A file that
// is damaged costs its day and no other; no copy is kept of the ones before.
type Shelf struct {
	dir string

	mu sync.Mutex
	// torn is what the last Save could not do: these days are to be written, and these
	// files removed.
	torn   []Date
	refuse map[string]bool
	loose  string // the checksum of the file of undated accounts; empty: there is none
}

// A Fault is a file that could not be read. It was set aside if Aside says how it is
// called now.
type Fault struct {
	File, Aside string
	Err         error
}

// Open reads the book that is kept in a directory, which is made if need be. The
// faults cost what stood in their files; the book is good for use whatever they are.
func Open(dir string, known func(MAC) bool) (*Book, *Shelf, []Fault) {
	b, s := New(known), &Shelf{dir: dir, refuse: map[string]bool{}}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return b, s, []Fault{{File: dir, Err: err}}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return b, s, []Fault{{File: dir, Err: err}}
	}
	var faults []Fault
	var days []*day
	for _, e := range entries {
		name := e.Name()
		date, dated := parseDate(name)
		if !dated && name != undated {
			continue // not ours, or set aside
		}
		d, err := s.read(name)
		if err == nil && d.date != date {
			err = errors.New("it is another day's")
		}
		if err != nil {
			faults = append(faults, s.setAside(name, err))
			continue
		}
		days = append(days, d)
	}
	slices.SortFunc(days, byDate)
	for _, d := range days {
		if d.date == 0 {
			s.loose = d.sum
			if slices.ContainsFunc(days, func(x *day) bool { return x.holds == d.sum }) {
				continue // they stand under their day, and the power went before this was removed
			}
		}
		b.shelveLocked(d)
	}
	s.tidy()
	return b, s, faults
}

// shelveLocked takes in a day that was read. Of more than Keep the last remain.
func (b *Book) shelveLocked(d *day) {
	b.recountLocked(d)
	if d.date == 0 {
		b.loose = append(b.loose, d)
		return
	}
	b.days[d.date] = d
	b.pruneLocked(d.date)
}

// recountLocked counts the strangers of a day that was read, and the names that nobody
// but they have.
func (b *Book) recountLocked(d *day) {
	d.strangers = 0
	others := map[string]bool{}
	for mac, a := range d.of {
		if b.known(mac) {
			for _, l := range a.lines {
				others[l.name] = true
			}
		} else if mac != (MAC{}) {
			d.strangers++
		}
	}
	d.strange = 0
	for name := range d.names {
		if !others[name] {
			d.strange++
		}
	}
}

// read reads one file, as far as it is worth reading: one byte too many shows that
// it is too large.
func (s *Shelf) read(name string) (*day, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0) // a pipe in its place holds nobody up
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("it is not a file"))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	return decode(data)
}

// setAside keeps a file for whoever wants to know what happened to it.
func (s *Shelf) setAside(name string, err error) Fault {
	fault := Fault{File: filepath.Join(s.dir, name), Err: err}
	aside := fault.File + damagedSuffix
	os.RemoveAll(aside) // the one before it, of the same day
	if rerr := os.Rename(fault.File, aside); rerr != nil {
		fault.Err = errors.Join(err, rerr)
		s.refuse[name] = true // what nobody could read is not overwritten
		return fault
	}
	fault.Aside = aside
	return fault
}

// tidy removes what was not finished, and all but the last damaged files. A failure
// costs room on the disk only.
func (s *Shelf) tidy() {
	entries, err := os.ReadDir(s.dir) // in the order of their names, which are days
	if err != nil {
		return
	}
	var damaged []string
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasSuffix(name, tmpSuffix):
			os.Remove(filepath.Join(s.dir, name))
		case strings.HasSuffix(name, damagedSuffix):
			damaged = append(damaged, name)
		}
	}
	for _, name := range damaged[:max(0, len(damaged)-maxDamaged)] {
		os.Remove(filepath.Join(s.dir, name))
	}
}

// Save writes the days of the book on which something was entered since the last time,
// and returns how many bytes that were. What could not be written is tried again the
// next time. It is to be called once an hour, and at a stop.
func (s *Shelf) Save(b *Book) (written int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, gone := b.take(s.torn, s.loose)
	s.torn = nil
	var errs []error
	if len(files) > 0 {
		errs = append(errs, os.MkdirAll(s.dir, 0o750)) // somebody may have tidied up
	}
	for _, f := range files {
		if s.refuse[f.name()] {
			errs = append(errs, fmt.Errorf("%s is in the way", filepath.Join(s.dir, f.name())))
			continue
		}
		if werr := s.replace(f.name(), f.data); werr != nil {
			errs = append(errs, werr)
			s.torn = append(s.torn, f.date)
			continue
		}
		written += len(f.data)
		if f.date == 0 {
			s.loose = sumOf(f.data)
		}
	}
	if s.loose != "" && b.dated() && errors.Join(errs...) == nil { // it stands under its day by now
		if err := os.Remove(filepath.Join(s.dir, undated)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		} else {
			s.loose = ""
		}
	}
	for _, date := range gone {
		os.Remove(filepath.Join(s.dir, date.String())) // a failure costs room on the disk only
	}
	if len(files) > 0 && errors.Join(errs...) == nil {
		errs = append(errs, s.sync())
	}
	return written, errors.Join(errs...)
}

// A file is a day as it is to be written.
type file struct {
	date Date
	data []byte
}

func (f file) name() string {
	if f.date == 0 {
		return undated
	}
	return f.date.String()
}

// take returns what is to be written, the days given among it, and what is to be
// removed. undated is the checksum of the file whose accounts have been entered once
// the last of these is written.
func (b *Book) take(also []Date, undated string) (files []file, gone []Date) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var wall func(time.Time) time.Time
	if b.sure {
		wall = func(at time.Time) time.Time { return b.wall.Add(at.Sub(b.now)) }
	}
	var days []*day
	for date, d := range b.days {
		if d.changed || slices.Contains(also, date) {
			days = append(days, d)
		}
	}
	slices.SortFunc(days, byDate)
	for i, d := range days {
		if d.holds = ""; b.sure && i == len(days)-1 {
			d.holds = undated
		}
		files = append(files, file{d.date, d.encode(wall)})
		d.changed = false
	}
	if f, ok := b.looseLocked(slices.Contains(also, 0)); ok {
		files = append(files, f)
	}
	gone, b.gone = b.gone, nil
	return files, slices.DeleteFunc(gone, func(d Date) bool { return b.days[d] != nil })
}

// looseLocked puts everything that has no day yet into one file.
func (b *Book) looseLocked(also bool) (file, bool) {
	all, changed := newDay(0), also && len(b.loose) > 0
	for _, d := range b.loose {
		changed = changed || d.changed
		d.changed = false
		b.mergeLocked(all, d)
	}
	if !changed {
		return file{}, false
	}
	all.holds = fmt.Sprintf("%08x", rand.Uint32()) // else another start with the same figures would be taken for this one
	return file{0, all.encode(nil)}, true
}

func (b *Book) dated() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sure
}

// replace writes a file so that a power cut leaves the old one or the new one.
func (s *Shelf) replace(name string, data []byte) error {
	path := filepath.Join(s.dir, name)
	f, err := os.OpenFile(path+tmpSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(path+tmpSuffix, path)
	}
	if err != nil {
		os.Remove(path + tmpSuffix)
	}
	return err
}

// sync makes the names of the files last, too.
func (s *Shelf) sync() error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
