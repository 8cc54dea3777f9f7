package signal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	damagedSuffix = ".damaged"
	tmpSuffix     = ".tmp"
	// growth is how many times larger a file may become than it was when it was last
	// written anew, and smallest what it may always have.
	growth   = 4
	smallest = 256 << 10
)

// A Shelf is the file where the history is kept.
type Shelf struct {
	path string
	size int64 // how much of the file is good; 0: it is to be written anew
	base int64 // how large it was when it was last written anew
}

// A Fault is a file of which not everything could be read. It was set aside if
// Aside says how it is called now; what stood before the damage is kept. Where only
// the end is missing, as after a power cut, nothing is set aside.
type Fault struct {
	File, Aside string
	Err         error
}

// Open reads the history that is kept in a file. Whatever is wrong with it, the
// history is good for use; fault is nil when nothing is.
func Open(path string, known func(MAC) bool) (h *History, s *Shelf, fault *Fault) {
	h, s = New(known), &Shelf{path: path}
	os.Remove(path + tmpSuffix) // what was not finished
	data, err := readFile(path)
	if err == nil {
		err = s.load(h, data)
	}
	h.settle()
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return h, s, nil
	case errors.Is(err, errTorn):
		return h, s, &Fault{File: path, Err: err}
	}
	fault = &Fault{File: path, Err: err}
	aside := path + damagedSuffix
	os.RemoveAll(aside) // the one before it
	if rerr := os.Rename(path, aside); rerr != nil {
		fault.Err = errors.Join(err, rerr)
	} else {
		fault.Aside = aside
	}
	s.size = 0
	return h, s, fault
}

// readFile reads it as far as it is worth reading: one byte too many shows that it
// is too large.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0) // a pipe in its place holds nobody up
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a file")
	case info.Size() == 0:
		return nil, nil
	case info.Size() > maxFile:
		return nil, fmt.Errorf("it is larger than %d MiB", maxFile>>20)
	}
	data := make([]byte, info.Size())
	n, err := io.ReadFull(f, data)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // it became shorter just now
	}
	return data[:n], err
}

// load takes in what the file says, as far as it can be read.
func (s *Shelf) load(h *History, data []byte) error {
	if !bytes.HasPrefix(data, []byte(fileHead)) {
		if bytes.HasPrefix([]byte(fileHead), data) {
			return errTorn
		}
		return errors.New("it holds no history, or that of another version")
	}
	s.size, s.base = int64(len(fileHead)), int64(len(fileHead))
	h.dated = true
	last := byte('H')
	for rest := data[len(fileHead):]; len(rest) > 0; {
		body, n, err := unseal(rest)
		if err != nil && !slices.ContainsFunc(rest, func(b byte) bool { return b != 0 }) {
			err = errTorn // a size that was written down, and no data
		}
		if err == nil {
			err = h.read(body)
		}
		if err != nil {
			return err
		}
		rest = rest[n:]
		s.size += int64(n)
		if body[0] == 'H' || last == 'H' { // the hours, and the minutes that are written with them
			s.base = s.size
		}
		last = body[0]
	}
	return nil
}

// settle ends the reading: what comes from now on is this run's.
func (h *History) settle() {
	if h.dated || h.head == 0 {
		h.run = h.head
	}
	h.dated, h.kept, h.moves, h.whole = false, h.head, nil, false
}

// A page is what there is to write, and how far the file is then.
type page struct {
	data  []byte
	anew  bool
	kept  int64
	moves int
}

// take returns what the file lacks: nothing, where nobody was heard.
func (h *History) take(s *Shelf, now time.Time) (p page, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.passLocked(now)
	p = page{kept: h.head - h.kept, moves: len(h.moves)}
	for _, m := range h.moves {
		p.data = append(p.data, seal(putMove(m))...)
	}
	heard := false
	for _, d := range h.of {
		heard = heard || d.last >= h.kept
	}
	if heard && h.head > h.kept && !h.whole {
		p.data = append(p.data, seal(h.putMinutes(h.kept, h.head, h.dated))...)
	}
	if len(p.data) == 0 && !h.whole {
		h.kept = h.head
		return p, false
	}
	if h.whole || s.size == 0 || s.size+int64(len(p.data)) > max(smallest, growth*s.base) {
		p.anew, p.data = true, h.everything()
	}
	return p, true
}

// written is called when a page is on the disk.
func (h *History) written(p page) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept += p.kept
	h.moves = h.moves[min(p.moves, len(h.moves)):]
	if p.anew {
		h.whole = false
	}
}

// Save writes what was heard since the last time, but for the minute that runs, and
// returns how many bytes that were. What could not be written is tried again the
// next time. It is to be called once an hour, and at a stop, by one at a time.
func (s *Shelf) Save(h *History, now time.Time) (written int, err error) {
	p, ok := h.take(s, now)
	if !ok {
		return 0, nil
	}
	if !p.anew {
		switch err = s.add(p.data); {
		case errors.Is(err, errGone): // somebody has tidied up
			s.size = 0
			if p, ok = h.take(s, now); !ok {
				return 0, nil
			}
		case err != nil:
			return 0, err
		}
	}
	if p.anew {
		if err = s.replace(p.data); err != nil {
			return 0, err
		}
		s.size, s.base = int64(len(p.data)), int64(len(p.data))
	}
	h.written(p)
	return len(p.data), nil
}

var errGone = errors.New("the file is gone")

// add appends, so that a power cut leaves what was there and perhaps a part of the
// new, which is cut off the next time.
func (s *Shelf) add(data []byte) error {
	f, err := os.OpenFile(s.path, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errGone
	} else if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size() < s.size {
		return errGone
	}
	err = f.Truncate(s.size)
	if err == nil {
		_, err = f.WriteAt(data, s.size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(s.size))
	}
	s.size += int64(len(data))
	return nil
}

// replace writes the file so that a power cut leaves the old one or the new one.
func (s *Shelf) replace(data []byte) error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path+tmpSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(s.path+tmpSuffix, s.path)
	}
	if err != nil {
		os.Remove(s.path + tmpSuffix)
		return err
	}
	dir, err := os.Open(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
