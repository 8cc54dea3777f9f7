package lease

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Fault is a file that could not be read as it should.
type Fault struct {
	File string
	Err  error
}

// A Report is what Open found.
type Report struct {
	// Bindings counts those that are in force again.
	Bindings int
	// Outside counts those that the configuration has no place for any more.
	Outside int
	// Torn counts the bytes of a record that the last power cut interrupted. That
	// is normal: nobody was promised what it says.
	Torn int
	// Faults are the damaged files, which no power cut explains.
	Faults []Fault
	// Storage is why nothing can be written; the table works from memory.
	Storage error
}

// Open reads the table of the pools and reservations given from a directory,
// which it makes if it is missing and locks. Every binding is good for one whole lease from now
// on. Missing, empty, torn or damaged files and a disk that cannot be read or written
// are told in the Report and do not fail; pools that overlap or another process
// that holds the directory do.
func Open(path string, pools []Pool, reserved []Reservation, now time.Time) (*Table, Report, error) {
	t, err := newTable(pools)
	if err != nil {
		return nil, Report{}, fmt.Errorf("opening leases: %w", err)
	}
	t.Reserve(reserved)
	d, err := openDir(path)
	if err != nil {
		return nil, Report{}, fmt.Errorf("opening leases: %w", err)
	}
	return t, t.recover(d, compactAt, now), nil
}

// recover reads what the disk has, and begins to write.
func (t *Table) recover(d disk, limit int64, now time.Time) Report {
	var report Report
	t.keep = &keeper{disk: d, limit: limit}
	names, err := d.list()
	if err != nil {
		t.leave(fmt.Errorf("%w: reading the directory of leases at the start: %w", ErrVolatile, err), &report)
		return report
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasSuffix(name, tmpSuffix) && generation(name) > 0 {
			d.remove(name) // what is left of an unfinished snapshot; its journal has everything
		}
		t.keep.gen = max(t.keep.gen, generation(name))
	}
	t.journal = newJournal(errUnopened)
	tail := t.replay(names, &report, now)
	report.Bindings = len(t.All(now))
	if t.keep.unread != nil {
		t.leave(t.keep.unread, &report)
		return report
	}
	t.resume(tail, &report)
	return report
}

// leave keeps the disk as it is: what stands there is not known.
func (t *Table) leave(why error, report *Report) {
	t.keep.unread, report.Storage = why, why
	t.journal = newJournal(why)
}

// A tail is the journal to go on with.
type tail struct {
	name string // empty: none
	good int    // bytes that are whole
	torn int    // bytes after them
}

// replay applies the files in their order, and returns the journal to go on
// with if the last one is fit for that.
func (t *Table) replay(names []string, report *Report, now time.Time) tail {
	base, whole := t.newestSnapshot(names, report)
	if whole != nil {
		t.apply(whole, report, now)
	}
	var last tail
	for _, name := range inOrder(names) {
		gen := generation(name)
		if gen < base || (whole != nil && strings.HasSuffix(name, snapshotSuffix)) {
			continue
		}
		data, err := t.keep.disk.read(name)
		if err != nil && strings.HasSuffix(name, journalSuffix) {
			// It may be readable at the next start, and nothing else has what it says.
			t.keep.unread = fmt.Errorf("%w: reading %s at the start: %w", ErrVolatile, name, err)
			continue
		}
		if err != nil {
			t.suspect(name, err, report)
			last = tail{}
			continue
		}
		r := read(data)
		t.apply(r.records, report, now)
		if strings.HasSuffix(name, snapshotSuffix) {
			continue // its damage was reported when it was looked at
		}
		last = tail{name: name, good: r.good, torn: len(data) - r.good}
		if r.damaged > 0 {
			t.suspect(name, fmt.Errorf("%d records cannot be read, the first %w", r.damaged, r.fault), report)
			last = tail{}
		}
	}
	report.Torn = last.torn // an older journal's was told at an earlier start
	return last
}

// newestSnapshot returns the newest snapshot that is whole and its generation.
// Without one, generation 0 and nil: then every file is read for what it has.
func (t *Table) newestSnapshot(names []string, report *Report) (int, []record) {
	for _, name := range slices.Backward(names) {
		if !strings.HasSuffix(name, snapshotSuffix) || generation(name) == 0 {
			continue
		}
		data, err := t.keep.disk.read(name)
		if err == nil {
			var r reading
			if r, err = readSnapshot(data); err == nil {
				t.keep.snapshot = int64(len(data))
				return generation(name), r.records
			}
		}
		t.suspect(name, err, report)
	}
	return 0, nil
}

// inOrder returns the names of journals and snapshots by generation, snapshots
// first.
func inOrder(names []string) []string {
	var out []string
	for _, name := range names {
		if generation(name) > 0 && (strings.HasSuffix(name, journalSuffix) || strings.HasSuffix(name, snapshotSuffix)) {
			out = append(out, name)
		}
	}
	slices.SortStableFunc(out, func(a, b string) int {
		if d := generation(a) - generation(b); d != 0 {
			return d
		}
		return -strings.Compare(a, b) // ".snapshot" before ".journal"
	})
	return out
}

func (t *Table) suspect(name string, err error, report *Report) {
	report.Faults = append(report.Faults, Fault{File: name, Err: err})
	t.keep.suspect = append(t.keep.suspect, name)
}

// apply brings records into the table as they were when they were written.
func (t *Table) apply(records []record, report *Report, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range records {
		if r.Op == opEnd {
			continue
		}
		s := t.at[r.Addr]
		if s == nil || s.pool.Network != r.Network {
			report.Outside++
			continue
		}
		switch r.Op {
		case opBind:
			t.bindLocked(s, Claim{HW: r.HW, Known: r.Known, Host: r.Host, Term: r.Term}, now)
		case opDecline:
			s.decline(now)
		}
	}
}

// resume opens the journal to write to, and takes over at once what damage or
// growth has made due.
func (t *Table) resume(last tail, report *Report) {
	k := t.keep
	if last.name != "" && generation(last.name) == k.gen && len(k.suspect) == 0 {
		if f, err := k.disk.extend(last.name, int64(last.good)); err == nil {
			t.journal.swap(f)
			t.journal.size = int64(last.good)
		}
	}
	if err := t.Tidy(); err != nil {
		report.Storage = err
	}
}
