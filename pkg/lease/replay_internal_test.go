package lease

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// written returns a journal with the bindings of n clients on P1, and where
// each record ends.
func written(t testing.TB, n int) (data []byte, ends []int) {
	t.Helper()
	d := newMemory(3)
	table, _ := on(t, d, 1<<20)
	for i := 1; i <= n; i++ {
		c := claimOf("P1", i)
		addr, err := table.Offer("P1", c.HW, netip.Addr{}, c.Known, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := table.Grant(c, addr, epoch); err != nil {
			t.Fatal(err)
		}
	}
	data = d.names[journalName(1)].data
	for at := range data {
		if data[at] == '\n' {
			ends = append(ends, at+1)
		}
	}
	if len(ends) != n {
		t.Fatalf("%d records for %d bindings:\n%s", len(ends), n, data)
	}
	return data, ends
}

// holding returns a directory with a journal in it.
func holding(t *testing.T, journal []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, journalName(1)), journal, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAJournalCutAtAnyByteKeepsEveryWholeRecord(t *testing.T) {
	t.Parallel()
	const n = 4
	data, ends := written(t, n)
	for size := range len(data) + 1 {
		dir := holding(t, data[:size])
		whole := 0
		for _, end := range ends {
			if end <= size {
				whole++
			}
		}
		table, report, err := Open(dir, testPools(), nil, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if report.Bindings != whole || len(report.Faults) > 0 || report.Storage != nil {
			t.Fatalf("cut at %d: %+v, want %d bindings and no fault", size, report, whole)
		}
		// It goes on from there, and the next start sees both.
		c := claimOf("P1", 99)
		addr, _ := table.Offer("P1", c.HW, netip.Addr{}, true, epoch)
		if _, err := table.Grant(c, addr, epoch); err != nil {
			t.Fatal(err)
		}
		before := table.All(epoch)
		table.Close()
		table, report, err = Open(dir, testPools(), nil, epoch)
		if err != nil || report.Torn != 0 {
			t.Fatalf("cut at %d, second start: %+v, %v", size, report, err)
		}
		if diff := cmp.Diff(unheard(before), table.All(epoch), cmp.Comparer(sameAddr)); diff != "" {
			t.Fatalf("cut at %d, second start (-want +got):\n%s", size, diff)
		}
		table.Close()
	}
}

func sameAddr(a, b netip.Addr) bool { return a == b }

func unheard(all []Binding) []Binding {
	for i := range all {
		all[i].Heard = false
	}
	return all
}

func TestADamagedByteCostsOneRecordAndIsReported(t *testing.T) {
	t.Parallel()
	const n = 3
	data, ends := written(t, n)
	for at := range ends[n-2] { // in the last record it looks like a torn tail
		bad := bytes.Clone(data)
		bad[at] ^= 0x55
		dir := holding(t, bad)
		table, report, err := Open(dir, testPools(), nil, epoch)
		if err != nil {
			t.Fatal(err)
		}
		lost := 1
		if data[at] == '\n' {
			lost = 2 // two lines became one
		}
		if lost == 2 && at == ends[n-2]-1 {
			table.Close()
			continue // the last line went with it: a torn tail
		}
		if report.Bindings != n-lost || len(report.Faults) != 1 {
			t.Fatalf("byte %d: %+v, want %d bindings and a fault", at, report, n-lost)
		}
		table.Close()
		if _, err := os.Stat(filepath.Join(dir, journalName(1)+damagedSuffix)); err != nil {
			t.Fatalf("byte %d: not set aside: %v", at, err)
		}
		table, report, err = Open(dir, testPools(), nil, epoch)
		if err != nil || report.Bindings != n-lost || len(report.Faults) > 0 {
			t.Fatalf("byte %d: second start: %+v, %v", at, report, err)
		}
		table.Close()
	}
}

func TestADamagedSnapshotIsReplacedByTheOneBefore(t *testing.T) {
	t.Parallel()
	d := newMemory(4)
	table, _ := on(t, d, 0) // compacts each time
	for i := 1; i < 20; i++ {
		c := claimOf("P1", i)
		addr, err := table.Offer("P1", c.HW, netip.Addr{}, c.Known, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := table.Grant(c, addr, epoch); err != nil {
			t.Fatal(err)
		}
		if err := table.Tidy(); err != nil {
			t.Fatal(err)
		}
	}
	want := unheard(table.All(epoch))
	names, _ := d.list()
	newest := ""
	for _, name := range names {
		if strings.HasSuffix(name, snapshotSuffix) {
			newest = name
		}
	}
	for _, damage := range []func([]byte) []byte{
		func(b []byte) []byte { return nil },
		func(b []byte) []byte { return b[:len(b)/2] },
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		func(b []byte) []byte { return append(b, b...) },
	} {
		after := d.reboot()
		after.names[newest].data = damage(bytes.Clone(d.names[newest].data))
		again, report := on(t, after, 1<<20)
		if len(report.Faults) != 1 || report.Faults[0].File != newest {
			t.Errorf("faults %v, want one of %s", report.Faults, newest)
		}
		if diff := cmp.Diff(want, again.All(epoch), cmp.Comparer(sameAddr)); diff != "" {
			t.Errorf("bindings (-want +got):\n%s", diff)
		}
		if again.Trouble() != nil {
			t.Error(again.Trouble())
		}
	}
}

func TestOpenWorksWithWhateverTheDirectoryHolds(t *testing.T) {
	t.Parallel()
	one := record{Op: opBind, Network: "P1", HW: hwOf(1), Addr: netip.MustParseAddr("10.83.0.7"), Known: true, Term: MaxTerm}
	elsewhere := one
	elsewhere.Network = "P9"
	gaveBack := record{Op: opRelease, Network: one.Network, HW: one.HW, Addr: one.Addr}
	later := "00000000 0000 {}\n"
	for _, tt := range []struct {
		name     string
		files    map[string]string
		bindings int
		faults   int
		outside  int
	}{
		{"nothing", nil, 0, 0, 0},
		{"an empty journal", map[string]string{journalName(1): ""}, 0, 0, 0},
		{"an unfinished snapshot", map[string]string{journalName(1): string(one.encode()), snapshotName(2) + tmpSuffix: "x"}, 1, 0, 0},
		{"an empty snapshot", map[string]string{journalName(1): string(one.encode()), snapshotName(1): ""}, 1, 1, 0},
		{"zeros", map[string]string{journalName(3): strings.Repeat("\x00", 4096)}, 0, 0, 0},
		{"garbage before a record", map[string]string{journalName(3): later + string(one.encode())}, 1, 1, 0},
		{"a release of one who may have come back", map[string]string{journalName(1): string(one.encode()) + string(gaveBack.encode())}, 1, 0, 0},
		{"other files", map[string]string{"README": "hello", "leases-x.journal": "x"}, 0, 0, 0},
		{"a network that is gone", map[string]string{journalName(1): string(elsewhere.encode())}, 0, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, data := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			table, report, err := Open(dir, testPools(), nil, epoch)
			if err != nil {
				t.Fatal(err)
			}
			defer table.Close()
			if report.Bindings != tt.bindings || len(report.Faults) != tt.faults || report.Outside != tt.outside || report.Storage != nil {
				t.Errorf("got %+v", report)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*"+tmpSuffix)); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

func TestWithoutADirectoryItWorksFromMemory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	table, report, err := Open(filepath.Join(dir, "leases"), testPools(), nil, epoch)
	if err != nil || report.Storage == nil {
		t.Fatalf("%+v, %v; want trouble with the storage", report, err)
	}
	c := claimOf("P1", 1)
	addr, err := table.Offer("P1", c.HW, netip.Addr{}, true, epoch)
	if err != nil {
		t.Fatal(err)
	}
	g, err := table.Bind(c, addr, epoch)
	if err != nil || table.Pending(g.Ticket) {
		t.Errorf("%+v, %v", g, err)
	}
	if err := table.Commit(g.Ticket); err == nil || table.Tidy() == nil {
		t.Errorf("confirmed without a disk: %v", err)
	}
}

// A disk whose files cannot be read for now, as after a fault of the card reader.
type unreadable struct {
	*memory
	suffix string
}

func (u unreadable) read(name string) ([]byte, error) {
	if strings.HasSuffix(name, u.suffix) {
		return nil, syscall.EIO
	}
	return u.memory.read(name)
}

// A journal that cannot be read now may be readable at the next start: until then
// it stays where it is, and nothing is written beside it.
func TestAJournalThatCannotBeReadIsLeftForTheNextStart(t *testing.T) {
	t.Parallel()
	d := newMemory(5)
	table, _ := on(t, d, 1<<20)
	join := func(table *Table, n int) error {
		c := claimOf("P1", n)
		addr, err := table.Offer("P1", c.HW, netip.Addr{}, c.Known, epoch)
		if err != nil {
			t.Fatal(err)
		}
		_, err = table.Grant(c, addr, epoch)
		return err
	}
	for n := range 5 {
		if err := join(table, n); err != nil {
			t.Fatal(err)
		}
	}
	want := unheard(table.All(epoch))
	table.Close()
	before, _ := d.list()

	table, report := on(t, unreadable{d, journalSuffix}, 1<<20)
	if !errors.Is(report.Storage, ErrVolatile) || !errors.Is(report.Storage, syscall.EIO) || len(report.Faults) != 0 {
		t.Errorf("report: %+v", report)
	}
	if err := join(table, 50); !errors.Is(err, ErrVolatile) {
		t.Errorf("somebody new: %v, want it to be served from memory", err)
	}
	if err := table.Tidy(); !errors.Is(err, ErrVolatile) {
		t.Errorf("tidying: %v", err)
	}
	table.Close()
	if after, _ := d.list(); !slices.Equal(before, after) {
		t.Errorf("the files were %q and are %q", before, after)
	}

	table, report = on(t, d, 1<<20)
	if report.Storage != nil || len(report.Faults) != 0 {
		t.Errorf("report of the next start: %+v", report)
	}
	if diff := cmp.Diff(want, unheard(table.All(epoch)), cmp.Comparer(sameAddr)); diff != "" {
		t.Errorf("bindings (-want +got):\n%s", diff)
	}
	table.Close()
}

func FuzzReplay(f *testing.F) {
	data, ends := written(f, 6)
	snapshot := append(bytes.Clone(data), record{Op: opEnd, Count: 6}.encode()...)
	f.Add(data, snapshot, false)
	f.Add(data[:ends[2]+9], []byte{}, false)
	f.Add([]byte("\n\n00000000 0000 \n"), snapshot[:40], false)
	f.Add(payloads(data), payloads(snapshot), true)
	f.Fuzz(func(t *testing.T, journal, snapshot []byte, framed bool) {
		if framed { // the checksums are given, so that the fuzzer gets past them
			journal, snapshot = frames(journal), frames(snapshot)
		}
		d := newMemory(5)
		d.names[journalName(2)] = &inode{data: journal}
		if len(snapshot) > 0 {
			d.names[snapshotName(2)] = &inode{data: snapshot}
		}
		table, report := on(t, d, 1<<20)
		if report.Storage != nil {
			t.Fatal(report.Storage)
		}
		checkSound(t, table, "first start")
		again, _ := on(t, d, 1<<20)
		if diff := cmp.Diff(table.All(epoch), again.All(epoch), cmp.Comparer(sameAddr)); diff != "" {
			t.Errorf("the second start saw something else (-first +second):\n%s", diff)
		}
	})
}

// payloads takes the heads off the lines; frames puts right ones before them.
func payloads(file []byte) []byte {
	var out []byte
	for line := range bytes.Lines(file) {
		out = append(out, line[frameHead:]...)
	}
	return out
}

func frames(file []byte) []byte {
	var out []byte
	for line := range bytes.Lines(file) {
		out = append(out, frame(bytes.TrimSuffix(line, []byte("\n")))...)
	}
	return out
}

func FuzzRecord(f *testing.F) {
	data, _ := written(f, 2)
	f.Add(data[:bytes.IndexByte(data, '\n')])
	f.Fuzz(func(t *testing.T, payload []byte) {
		// The checksum is given, so that the fuzzer gets past it.
		line := frame(payload)
		r, err := decode(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			return
		}
		again, err := decode(bytes.TrimSuffix(r.encode(), []byte("\n")))
		if err != nil || again != r {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}
