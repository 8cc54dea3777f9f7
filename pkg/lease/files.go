package lease

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// The files, by generation n:
//
//	leases-n.journal   the changes since it was begun, one after the other
//	leases-n.snapshot  everything, at some moment after journal n was begun
//	….tmp              a snapshot that was not finished; removed at the start
//	….damaged          set aside for whoever wants to know what happened
//
// What is true is the newest whole snapshot, and then every journal from its
// generation on: records say what is, so those that the snapshot already holds
// do no harm. To compact means to begin journal n+1, to write snapshot n+1, and
// to remove what the snapshot before the newest does not need: should the newest
// turn out damaged, the one before it and its journals still know everything.
const (
	journalSuffix  = ".journal"
	snapshotSuffix = ".snapshot"
	tmpSuffix      = ".tmp"
	damagedSuffix  = ".damaged"
)

const (
	// compactAt is the length of a journal, in bytes, that is worth a snapshot: some
	// 500 new bindings. compactRatio is how many times as long as the snapshot it
	// must be as well.
	compactAt    = 64 << 10
	compactRatio = 4
	// maxDamaged bounds how many files stay set aside.
	maxDamaged = 4
)

func journalName(gen int) string  { return fmt.Sprintf("leases-%08d%s", gen, journalSuffix) }
func snapshotName(gen int) string { return fmt.Sprintf("leases-%08d%s", gen, snapshotSuffix) }

// generation reads the number out of a name of this package, or returns 0.
func generation(name string) int {
	var gen int
	if _, err := fmt.Sscanf(name, "leases-%08d.", &gen); err != nil {
		return 0
	}
	return gen
}

// A keeper looks after the files.
type keeper struct {
	disk  disk
	limit int64 // compactAt

	mu  sync.Mutex
	gen int // of the journal in use; the next is greater
	// due says that journal gen has no snapshot yet.
	due      bool
	snapshot int64 // length of the last one
	// suspect files were found damaged. They are set aside once a snapshot has
	// taken over what could be read of them.
	suspect []string
	// unread is why nothing may be written: what is on the disk is not known, and
	// must not be overwritten.
	unread  error
	stopped bool
}

// Tidy does what should not keep a client waiting: it compacts a journal that
// has grown, and begins a new one when the old cannot be written any more. It is
// to be called every few seconds. The error wraps ErrVolatile while changes do
// not reach the disk.
func (t *Table) Tidy() error {
	k := t.keep
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.stopped:
		return nil
	case k.unread != nil:
		return k.unread
	case t.journal.trouble() != nil:
		return t.mendLocked()
	}
	if size, _ := t.journal.figures(); !k.due && size > k.limit && size > compactRatio*k.snapshot {
		if err := t.beginLocked(); err != nil {
			return err
		}
	}
	if !k.due {
		return nil
	}
	data, _ := t.dump(nil)
	if err := k.write(snapshotName(k.gen), data); err != nil {
		return fmt.Errorf("writing the snapshot of leases: %w", err)
	}
	k.written(data)
	return nil
}

// Trouble returns why changes do not reach the disk, an error that wraps
// ErrVolatile; nil when they do.
func (t *Table) Trouble() error { return t.journal.trouble() }

// beginLocked begins the next journal. Those who wait for the disk are held up
// only while the files are swapped.
func (t *Table) beginLocked() error {
	k := t.keep
	f, err := k.begin(k.gen + 1)
	if err != nil {
		return err
	}
	t.journal.swap(f)
	k.gen++
	k.due = true
	return nil
}

// mendLocked begins anew after the journal has failed, with a snapshot of
// everything in memory. Until that has worked the files of before stay as they
// are.
func (t *Table) mendLocked() error {
	k, gen := t.keep, t.keep.gen+1
	data, last := t.dump(t.journal.collect)
	f, err := k.begin(gen)
	if err == nil {
		if err = k.write(snapshotName(gen), data); err != nil {
			f.Close()
			k.undo(gen)
		}
	}
	if err != nil {
		t.journal.unmended(fmt.Errorf("%w: beginning anew: %w", ErrVolatile, err))
		return t.journal.trouble()
	}
	t.journal.mended(f, last)
	k.gen = gen
	k.written(data)
	return nil
}

// begin makes an empty journal that lasts.
func (k *keeper) begin(gen int) (file, error) {
	name := journalName(gen)
	f, err := k.disk.create(name)
	if err != nil {
		return nil, fmt.Errorf("beginning a journal of leases: %w", err)
	}
	if err := errors.Join(f.Sync(), k.disk.sync()); err != nil {
		f.Close()
		k.undo(gen)
		return nil, fmt.Errorf("beginning a journal of leases: %w", err)
	}
	return f, nil
}

// undo removes a journal that was begun in vain. If it cannot be removed its
// generation is used up.
func (k *keeper) undo(gen int) {
	if k.disk.remove(journalName(gen)) != nil {
		k.gen = gen
	}
}

// written notes that the snapshot of the journal in use is on disk.
func (k *keeper) written(data []byte) {
	k.due, k.snapshot = false, int64(len(data))
	k.setAside()
	k.discard()
}

// write replaces a file so that a power cut leaves the old one or the new one.
func (k *keeper) write(name string, data []byte) error {
	tmp := name + tmpSuffix
	k.disk.remove(tmp) // of an attempt that failed
	f, err := k.disk.create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = k.disk.rename(tmp, name)
	}
	if err != nil {
		k.disk.remove(tmp)
		return err
	}
	return k.disk.sync()
}

// dump writes everything down. mark, if not nil, is called at the moment that the
// dump shows, while nothing can change; dump returns what it returned.
func (t *Table) dump(mark func() Ticket) (data []byte, last Ticket) {
	records, last := t.records(mark)
	records = append(records, record{Op: opEnd, Count: len(records)})
	var b bytes.Buffer
	for _, r := range records {
		b.Write(r.encode())
	}
	return b.Bytes(), last
}

func (t *Table) records(mark func() Ticket) (records []record, last Ticket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.ownedLocked() {
		records = append(records, bindRecord(s))
	}
	for _, s := range t.at {
		if !s.owned && !s.quarantined.IsZero() {
			records = append(records, record{Op: opDecline, Network: s.pool.Network, HW: s.owner, Addr: s.addr})
		}
	}
	if mark != nil {
		last = mark()
	}
	return records, last
}

// setAside renames the damaged files, whose contents are safe elsewhere now. A
// failure costs nothing but another report at the next start.
func (k *keeper) setAside() {
	for _, name := range k.suspect {
		k.disk.rename(name, name+damagedSuffix)
	}
	k.suspect = nil
}

// discard removes what neither the newest snapshot nor the one before needs,
// and all but the last damaged files. A failure costs room on the disk only.
func (k *keeper) discard() {
	names, err := k.disk.list()
	if err != nil {
		return
	}
	slices.Sort(names)
	var snapshots []int
	var damaged []string
	for _, name := range names {
		switch {
		case strings.HasSuffix(name, snapshotSuffix):
			snapshots = append(snapshots, generation(name))
		case strings.HasSuffix(name, damagedSuffix):
			damaged = append(damaged, name)
		}
	}
	if n := len(damaged) - maxDamaged; n > 0 {
		for _, name := range damaged[:n] {
			k.disk.remove(name)
		}
	}
	if len(snapshots) < 2 {
		return
	}
	oldest := snapshots[len(snapshots)-2]
	for _, name := range names {
		ours := strings.HasSuffix(name, journalSuffix) || strings.HasSuffix(name, snapshotSuffix)
		if gen := generation(name); ours && gen > 0 && gen < oldest {
			k.disk.remove(name)
		}
	}
}

// Close writes what is left and lets the files go. Changes after it stay in
// memory.
func (t *Table) Close() error {
	k := t.keep
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return nil
	}
	k.stopped = true
	err := t.journal.close()
	if d, ok := k.disk.(*dir); ok {
		d.close()
	}
	return err
}
