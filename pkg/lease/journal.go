package lease

import (
	"errors"
	"fmt"
	"sync"
)

// A journal brings records to the disk. Whoever waits first writes for all who
// wait (group commit); the others wait for it.
type journal struct {
	mu   sync.Mutex
	idle *sync.Cond // signalled when a write has ended
	// file is nil while writing is impossible. A file that has failed is never
	// written to again: what a failed fdatasync leaves is not known, and a retry
	// may report success for lost pages. Only a snapshot and a new file mend it.
	file file
	size int64
	err  error // why file is nil
	// collecting says that pending grows although file is nil: a snapshot of what
	// came before is being written.
	collecting bool
	pending    []byte
	spare      []byte // the buffer that is not pending
	writing    bool

	appended, durable Ticket

	syncs uint64
}

// newJournal returns a journal that has no file yet, because of err.
func newJournal(err error) *journal {
	j := &journal{err: err}
	j.idle = sync.NewCond(&j.mu)
	return j
}

// append adds a record to what is to be written. It never waits for the disk.
func (j *journal) append(r record) Ticket {
	line := r.encode()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.appended++
	if j.file != nil || j.collecting {
		j.pending = append(j.pending, line...)
	}
	return j.appended
}

// wait returns when the change is on disk, or with ErrVolatile when it cannot
// be for now.
func (j *journal) wait(ticket Ticket) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.durable < ticket {
		switch {
		case j.file == nil:
			return j.troubleLocked()
		case j.writing:
			j.idle.Wait()
		default:
			j.writeLocked()
		}
	}
	return nil
}

// waits says whether wait would.
func (j *journal) waits(ticket Ticket) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.durable < ticket && j.file != nil
}

// writeLocked writes and syncs everything pending; the lock is free meanwhile.
func (j *journal) writeLocked() {
	batch, target, f := j.pending, j.appended, j.file
	j.pending, j.spare = j.spare[:0], nil
	j.writing = true
	j.mu.Unlock()
	_, err := f.Write(batch)
	if err == nil {
		err = f.Sync()
	}
	j.mu.Lock()
	j.writing = false
	j.spare = batch
	j.syncs++
	if err != nil {
		j.file.Close() // its error adds nothing to err
		j.file, j.err, j.pending = nil, err, j.pending[:0]
	} else {
		j.durable = target
		j.size += int64(len(batch))
	}
	j.idle.Broadcast()
}

// swap goes on in an empty file. It waits for the write under way, if any.
func (j *journal) swap(f file) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.writing {
		j.idle.Wait()
	}
	if j.file != nil {
		j.file.Close() // everything in it was synced
	}
	j.file, j.size, j.err, j.collecting = f, 0, nil, false
	j.idle.Broadcast()
}

// collect begins to keep changes for the file to come, and returns the last one
// before.
func (j *journal) collect() (last Ticket) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.collecting, j.pending = true, j.pending[:0]
	return j.appended
}

// mended goes on in an empty file after a snapshot has taken over everything
// up to last.
func (j *journal) mended(f file, last Ticket) {
	j.mu.Lock()
	j.durable = last
	j.mu.Unlock()
	j.swap(f)
}

// unmended drops what was collected: the snapshot has failed.
func (j *journal) unmended(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.collecting, j.pending, j.err = false, j.pending[:0], err
}

// trouble returns why changes do not reach the disk, or nil.
func (j *journal) trouble() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.troubleLocked()
}

func (j *journal) troubleLocked() error {
	if j.file != nil {
		return nil
	}
	if errors.Is(j.err, ErrVolatile) {
		return j.err
	}
	return fmt.Errorf("%w: %w", ErrVolatile, j.err)
}

// figures returns the length of the file and how often it was synced.
func (j *journal) figures() (size int64, syncs uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size, j.syncs
}

// close writes what is pending and closes the file.
func (j *journal) close() error {
	j.mu.Lock()
	last := j.appended
	j.mu.Unlock()
	err := j.wait(last)
	j.mu.Lock()
	defer j.mu.Unlock()
	for j.writing {
		j.idle.Wait()
	}
	if j.file != nil {
		err = errors.Join(err, j.file.Close())
		j.file, j.err = nil, errClosed
	}
	return err
}
