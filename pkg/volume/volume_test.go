package volume

import (
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	hub = "zapcloud.azure-devices.net"
	api = "api.zaptec.com"
)

var (
	p107     = MAC{0x60, 0x15, 0x92, 0x41, 0, 7}
	p108     = MAC{0x60, 0x15, 0x92, 0x41, 0, 8}
	everyone = func(MAC) bool { return true }
	nobodyIn = func(MAC) bool { return false }
)

func device(i int) MAC { return MAC{2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)} }

// A box is a book beside a clock on the wall, which can be wrong.
type box struct {
	*Book
	off time.Duration // how far the wall is ahead of the time that passes
}

// at has the wall show a moment, and tells the book.
func (b *box) at(t *testing.T, moment string, right bool) {
	t.Helper()
	wall, err := time.ParseInLocation("2006-01-02 15:04", moment, time.Local)
	if err != nil {
		t.Fatal(err)
	}
	b.off = wall.Sub(time.Now().Round(0))
	b.tick(right)
}

func (b *box) tick(right bool) { b.Clock(time.Now(), time.Now().Round(0).Add(b.off), right) }

// pass lets time pass, with a look at the clock every minute.
func (b *box) pass(d time.Duration, right bool) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(time.Minute)
		b.tick(right)
	}
}

func (b *box) moved(mac MAC, name string, up, down int64) {
	b.Moved(mac, name, up, down, 1, time.Now())
}

// days are what the book holds of a device, by date.
func (b *box) daysOf(mac MAC) map[string]int64 {
	out := map[string]int64{}
	for date, d := range b.days {
		if a := d.of[mac]; a != nil {
			out[date.String()] = a.total().Total()
		}
	}
	for i, d := range b.loose {
		if a := d.of[mac]; a != nil {
			out[fmt.Sprint("undated ", i)] = a.total().Total()
		}
	}
	return out
}

func (b *box) want(t *testing.T, mac MAC, days map[string]int64) {
	t.Helper()
	if got := b.daysOf(mac); !maps.Equal(got, days) {
		t.Errorf("the book holds %v, want %v", got, days)
	}
}

func TestTableOfTwoMonths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{Book: New(everyone)}
		b.at(t, "2026-10-01 12:00", true)
		for range 40 {
			b.moved(p107, hub, 100, 10)
			b.moved(p107, api, 0, 5)
			b.moved(p108, hub, 7, 7)
			b.pass(24*time.Hour, true)
		}
		b.moved(p107, hub, 1, 0) // on the 41st day
		got := b.Of(p107, time.Now())
		hubs := Row{hub, Figures{1, 0, 1}, Figures{100, 10, 1}, Figures{601, 60, 7}, Figures{2901, 290, 30}}
		apis := Row{api, Figures{}, Figures{0, 5, 1}, Figures{0, 30, 6}, Figures{0, 145, 29}}
		if !got.Dated || got.Since.String() != "2026-10-12" || !slices.Equal(got.Names, []Row{hubs, apis}) {
			t.Errorf("got %+v", got)
		}
		if want := (Row{"", Figures{1, 0, 1}, Figures{100, 15, 2}, Figures{601, 90, 13}, Figures{2901, 435, 59}}); got.Sum != want {
			t.Errorf("together %+v, want %+v", got.Sum, want)
		}
		if today := b.Today(time.Now()); len(today) != 1 || today[p107] != (Figures{1, 0, 1}) {
			t.Errorf("today %v", today)
		}
		if other := b.Of(MAC{1}, time.Now()); other.Since != 0 || len(other.Names) != 0 {
			t.Errorf("a device that was never seen has %+v", other)
		}
		b.pass(40*24*time.Hour, true)
		b.moved(p107, hub, 1, 0)
		for range 30 {
			b.pass(24*time.Hour, true)
			b.moved(p107, hub, 1, 0)
		}
		if days, _ := b.Size(time.Now()); days != Keep {
			t.Errorf("it keeps %d days, want %d", days, Keep)
		}
	})
}

// A Pi boots in 1970 and learns the time later (F-12): what moved before goes to the
// days on which it moved.
func TestClockThatStartsIn1970(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{Book: New(everyone)}
		b.at(t, "1970-01-01 00:00", false)
		b.moved(p107, hub, 100, 0)
		b.pass(30*time.Hour, false)
		b.moved(p107, hub, 20, 0) // 30 h after the start
		b.want(t, p107, map[string]int64{"undated 0": 100, "undated 1": 20})
		if got := b.Of(p107, time.Now()); got.Dated || got.Sum.Today.Up != 20 || got.Sum.Month.Up != 120 {
			t.Errorf("before the clock is known %+v", got)
		}
		b.pass(time.Hour, false)
		b.at(t, "2026-11-21 09:00", true)
		b.want(t, p107, map[string]int64{"2026-11-20": 100, "2026-11-21": 20})
		b.moved(p107, hub, 3, 0)
		b.want(t, p107, map[string]int64{"2026-11-20": 100, "2026-11-21": 23})
	})
}

// Whatever the clock does, nothing is lost but the names of days, and a day in the
// far future does not push out the real ones.
func TestClockThatJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{Book: New(everyone)}
		b.at(t, "2026-09-01 12:00", true)
		for range Keep {
			b.moved(p107, hub, 1, 0)
			b.pass(24*time.Hour, true)
		}
		b.at(t, "2036-02-07 06:28", true)
		b.moved(p107, hub, 5, 0)
		b.at(t, "2026-11-02 12:00", true)
		b.moved(p107, hub, 1, 0)
		b.at(t, "2026-11-01 23:59", true) // and back over midnight
		b.moved(p107, hub, 1, 0)
		days := b.daysOf(p107)
		if len(days) != Keep || days["2036-02-07"] != 0 || days["2026-11-01"] != 2 || days["2026-11-02"] != 1 || days["2026-09-02"] != 1 {
			t.Errorf("the book holds %v", days)
		}
		b.tick(false) // its source is lost: it runs on
		b.moved(p107, hub, 1, 0)
		if got := b.daysOf(p107)["2026-11-01"]; got != 3 || len(b.loose) != 0 {
			t.Errorf("a clock that was right is doubted: %v", b.daysOf(p107))
		}
	})
}

func TestExcessIsSaidOnceADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &box{Book: New(everyone)}
		b.at(t, "2026-11-21 01:00", true)
		b.moved(p107, hub, 1_000_000, 500_000)
		b.pass(time.Hour, true)
		b.moved(p107, "files.example.com", 10_000, 9_000_000)
		b.pass(2*time.Hour, true)
		if got := b.Excesses(time.Now()); got != nil {
			t.Fatalf("10 MB are said to be too much: %v", got)
		}
		b.moved(p107, "files.example.com", 0, 90_000_000)
		b.moved(MAC{}, hub, 0, 200_000_000)
		want := []Excess{
			{MAC{}, Figures{0, 200_000_000, 1}, hub, Figures{0, 200_000_000, 1}, time.Second},
			{p107, Figures{1_010_000, 99_500_000, 3}, "files.example.com", Figures{10_000, 99_000_000, 2}, 2 * time.Hour},
		}
		if got := b.Excesses(time.Now()); !slices.Equal(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		for range 20 {
			b.moved(p107, hub, 10_000_000, 0)
			b.pass(time.Hour, true)
			if got := b.Excesses(time.Now()); got != nil {
				t.Fatalf("said again on the same day: %v", got)
			}
		}
		b.moved(p107, hub, 101_000_000, 0)
		if got := b.Excesses(time.Now()); len(got) != 1 {
			t.Errorf("on the next day %v", got)
		}
	})
}

// Days that look bad and are not (F-5, F-7, Z-14).
func TestHonestDaysAreNoExcess(t *testing.T) {
	const shake = 8_000 // a handshake with its certificates
	for what, day := range map[string]func(move func(up, down int64)){
		"charging all day": func(move func(up, down int64)) {
			move(2_000_000, 1_000_000)
			for range 16 {
				move(3_000_000, 2_000_000)
			}
		},
		"firmware, fetched four times": func(move func(up, down int64)) {
			for range 4 * 69 {
				move(2_000, 64<<10+shake)
			}
		},
		"without the cloud all day": func(move func(up, down int64)) {
			for range 24 * 3600 / 20 {
				move(2_000, shake-2_000)
			}
		},
		"native OCPP that pings every 10 s": func(move func(up, down int64)) {
			for range 24 * 3600 / 10 {
				move(60, 60)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := New(everyone)
			now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.Local)
			b.Clock(now, now, true)
			day(func(up, down int64) { b.Moved(p107, hub, up, down, 1, now) })
			if got := b.Excesses(now); got != nil {
				t.Errorf("%+v", got)
			}
		})
	}
}

// Strangers make up MACs and names without end; chargers keep their accounts, with
// names, and nothing that moved is missing.
func TestStrangersCannotFillTheBook(t *testing.T) {
	b := New(func(mac MAC) bool { return mac[0] == p107[0] })
	now := time.Now()
	b.Clock(now, now, true)
	const made = 5000
	for i := range made {
		for n := range 3 {
			b.Moved(device(i), fmt.Sprintf("x%d-%d.blob.example.com", i, n), 1, 0, 1, now)
		}
		b.Moved(device(0), fmt.Sprintf("y%d.blob.example.com", i), 1, 0, 1, now)
	}
	b.Moved(p107, hub, 7, 7, 1, now)
	b.Moved(p107, strings.Repeat("x", maxNameLength+1), 1, 0, 1, now)
	d := b.days[DateOf(now)]
	if len(d.of) > maxStrangers+2 || len(d.names) > maxStrangeNames+1 {
		t.Errorf("%d accounts and %d names", len(d.of), len(d.names))
	}
	var sum int64
	for _, a := range d.of {
		sum += a.total().Total()
		if len(a.lines) > maxNames+1 {
			t.Errorf("an account with %d lines", len(a.lines))
		}
	}
	if sum != 4*made+15 {
		t.Errorf("%d bytes are in the book, want %d", sum, 4*made+15)
	}
	if got := b.Of(p107, now); len(got.Names) != 2 || got.Names[0].Name != hub {
		t.Errorf("the charger has %+v", got.Names)
	}
	// Even the fullest day fits into its file.
	full := New(everyone)
	full.Clock(now, now, true)
	for i := range maxDevices + 10 {
		for n := range maxNames + 3 {
			full.Moved(device(i+1), fmt.Sprintf("%s%d.example.com", strings.Repeat("n", 200), i%64*maxNames+n), most, most, math.MaxInt32, now)
		}
	}
	data := full.days[DateOf(now)].encode(nil)
	t.Logf("the fullest day there can be takes %d bytes", len(data))
	if _, err := decode(data); err != nil {
		t.Error(err)
	}
}

// What a day costs on the card, as the comment in file.go says.
func TestSizeOfADay(t *testing.T) {
	for _, tt := range []struct{ chargers, most int }{{40, 4_000}, {250, 24_000}, {1000, 95_000}} {
		b := New(everyone)
		now := time.Now()
		b.Clock(now, now, true)
		for i := range tt.chargers {
			for n, name := range []string{hub, api, "devices.zaptec.com"} {
				b.Moved(device(i+1), name, int64(1_234_567>>(3*n)), int64(2_345_678>>(3*n)), 12, now)
			}
		}
		data := b.days[DateOf(now)].encode(nil)
		t.Logf("%d chargers: %d bytes a day, %d kB written in a day, %d kB for %d days", tt.chargers, len(data), len(data)*24/1000, len(data)*Keep/1000, Keep)
		if len(data) > tt.most {
			t.Errorf("%d chargers take %d bytes a day, want at most %d", tt.chargers, len(data), tt.most)
		}
	}
}

func TestBookSurvivesARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volume")
	synctest.Test(t, func(t *testing.T) {
		book, shelf, faults := Open(dir, everyone)
		if faults != nil {
			t.Fatal(faults)
		}
		b := &box{Book: book}
		b.at(t, "2026-11-20 12:00", true)
		save := func() int {
			t.Helper()
			n, err := shelf.Save(b.Book)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		if n := save(); n != 0 {
			t.Errorf("%d bytes written for nothing", n)
		}
		b.moved(p107, hub, 100, 1)
		b.pass(24*time.Hour, true)
		b.moved(p107, hub, 5_000_000, 4_000_000)
		b.moved(MAC{}, api, 3, 0)
		if n := save(); n == 0 {
			t.Error("nothing was written")
		}
		if n := save(); n != 0 {
			t.Errorf("%d bytes written though nothing changed", n)
		}
		before := b.Of(p107, time.Now())

		again, shelf2, faults := Open(dir, everyone)
		if faults != nil {
			t.Fatal(faults)
		}
		a := &box{Book: again, off: b.off}
		a.tick(true)
		if after := a.Of(p107, time.Now()); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("before %+v, after %+v", before, after)
		}
		if n, err := shelf2.Save(again); n != 0 || err != nil {
			t.Errorf("%d bytes written though nothing changed; %v", n, err)
		}
		a.pass(3*time.Hour, true)
		a.moved(p107, hub, 0, 100_000_000)
		// The time that passes in this test is not the wall's: only its order counts.
		if got := a.Excesses(time.Now()); len(got) != 1 {
			t.Errorf("%+v", got)
		}
		if _, err := shelf2.Save(again); err != nil {
			t.Fatal(err)
		}
		third, _, _ := Open(dir, everyone)
		c := &box{Book: third, off: a.off}
		c.tick(true)
		if got := c.Excesses(time.Now()); got != nil {
			t.Errorf("said again after a restart: %+v", got)
		}
	})
}

// The power goes between writing the day and removing the undated accounts that were
// entered in it: they count once.
func TestUndatedAccountsCountOnce(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 11, 20, 13, 0, 0, 0, time.Local)
	b, shelf, _ := Open(dir, everyone)
	b.Moved(p107, hub, 100, 0, 1, now)
	if _, err := shelf.Save(b); err != nil {
		t.Fatal(err)
	}
	loose, err := os.ReadFile(filepath.Join(dir, undated))
	if err != nil {
		t.Fatal(err)
	}
	again, other, _ := Open(t.TempDir(), everyone) // another start with the same figures
	again.Moved(p107, hub, 100, 0, 1, now)
	if _, err := other.Save(again); err != nil || other.loose == shelf.loose {
		t.Errorf("%v; both are %s", err, other.loose)
	}
	b.Moved(p107, hub, 20, 0, 0, now) // and more, which never was in that file
	b.Clock(now, now, true)
	if _, err := shelf.Save(b); err != nil {
		t.Fatal(err)
	}
	up := func(want int64) {
		t.Helper()
		b.Clock(now, now, true)
		if got := b.Today(now)[p107].Up; got != want {
			t.Errorf("%d bytes, want %d", got, want)
		}
	}
	up(120)
	for range 2 { // however often
		if err := os.WriteFile(filepath.Join(dir, undated), loose, 0o640); err != nil {
			t.Fatal(err)
		}
		b, shelf, _ = Open(dir, everyone)
		up(120)
	}
	b.Moved(p107, hub, 1, 0, 0, now)
	if _, err := shelf.Save(b); err != nil { // which removes it
		t.Fatal(err)
	}
	if got := list(t, dir); !slices.Equal(got, []string{"2026-11-20"}) {
		t.Errorf("on the disk are %v", got)
	}
	b, shelf, _ = Open(dir, everyone)
	up(121)
	// What was not entered since is: the mark is gone with the file.
	b.Moved(p107, hub, 1, 0, 0, now)
	if _, err := shelf.Save(b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, undated), loose, 0o640); err != nil {
		t.Fatal(err)
	}
	b, _, _ = Open(dir, everyone)
	up(222)
}

// The power fails before the clock was ever known: what moved is entered on the day
// on which the box learns what day it is.
func TestUndatedAccountsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		book, shelf, _ := Open(dir, everyone)
		b := &box{Book: book}
		b.at(t, "1970-01-01 00:01", false)
		b.moved(p107, hub, 100, 0)
		if _, err := shelf.Save(book); err != nil {
			t.Fatal(err)
		}
		book, shelf, faults := Open(dir, everyone)
		if faults != nil {
			t.Fatal(faults)
		}
		b = &box{Book: book}
		b.at(t, "1970-01-01 00:00", false)
		b.moved(p107, hub, 20, 0)
		b.want(t, p107, map[string]int64{"undated 0": 100, "undated 1": 20})
		if _, err := shelf.Save(book); err != nil {
			t.Fatal(err)
		}
		b.at(t, "2026-11-21 09:00", true)
		b.want(t, p107, map[string]int64{"2026-11-21": 120})
		if _, err := shelf.Save(book); err != nil {
			t.Fatal(err)
		}
		if files := list(t, dir); !slices.Equal(files, []string{"2026-11-21"}) {
			t.Errorf("on the disk are %v", files)
		}
	})
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// A file that cannot be used costs its own day: it is said, set aside and begun anew.
func TestDamagedFiles(t *testing.T) {
	good := func() []byte {
		d := newDay(DateOf(time.Date(2026, 11, 20, 12, 0, 0, 0, time.Local)))
		New(everyone).enterLocked(d, p107, hub, Figures{1, 2, 3}, time.Now())
		return d.encode(nil)
	}()
	for _, tt := range []struct {
		name string
		make func(path string) error
		want string
	}{
		{"empty", func(p string) error { return os.WriteFile(p, nil, 0o600) }, "it holds no accounts"},
		{"torn", func(p string) error { return os.WriteFile(p, good[:len(good)-5], 0o600) }, "its checksum is wrong"},
		{"one bit", func(p string) error {
			bad := slices.Clone(good)
			bad[len(bad)-3] ^= 1
			return os.WriteFile(p, bad, 0o600)
		}, "its checksum is wrong"},
		{"foreign", func(p string) error { return os.WriteFile(p, []byte("Buy milk\n"), 0o600) }, "it holds no accounts"},
		{"of a later version", func(p string) error { return os.WriteFile(p, []byte(fileMagic+" 7 00000000\n"), 0o600) }, "its version is 7, and 1 can be read"},
		{"oversized", func(p string) error { return os.WriteFile(p, make([]byte, maxFile+10), 0o600) }, "it is larger than 3072 KiB"},
		{"another day's", func(p string) error {
			other := strings.Replace(string(good), "2026-11-20", "2026-11-19", 1)
			_, body, _ := strings.Cut(other, "\n")
			return os.WriteFile(p, fmt.Appendf(nil, "%s 1 %08x\n%s", fileMagic, checksum([]byte(body)), body), 0o600)
		}, "it is another day's"},
		{"a directory", func(p string) error { return os.Mkdir(p, 0o700) }, "it is not a file"},
		{"a link", func(p string) error { return os.Symlink("/etc/hostname", p) }, "too many levels of symbolic links"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "2026-11-20")
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			other := strings.Replace(string(good), "2026-11-20", "2026-11-18", 1)
			_, body, _ := strings.Cut(other, "\n")
			if err := os.WriteFile(filepath.Join(dir, "2026-11-18"), fmt.Appendf(nil, "%s 1 %08x\n%s", fileMagic, checksum([]byte(body)), body), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			b, shelf, faults := Open(dir, everyone)
			if len(faults) != 1 || !strings.Contains(faults[0].Err.Error(), tt.want) || faults[0].Aside != path+damagedSuffix {
				t.Fatalf("said %+v, want %q", faults, tt.want)
			}
			if len(b.days) != 1 {
				t.Errorf("%d days were read, want the other one", len(b.days))
			}
			now := time.Date(2026, 11, 20, 13, 0, 0, 0, time.Local)
			b.Clock(now, now, true)
			b.Moved(p107, hub, 1, 1, 1, now)
			if _, err := shelf.Save(b); err != nil {
				t.Error(err)
			}
			if got := list(t, dir); !slices.Equal(got, []string{"2026-11-18", "2026-11-20", "2026-11-20.damaged", "notes.txt"}) {
				t.Errorf("on the disk are %v", got)
			}
			if _, _, faults := Open(dir, everyone); faults != nil {
				t.Errorf("the next start says %v", faults)
			}
		})
	}
}

func TestOldDaysLeaveTheDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		book, shelf, _ := Open(dir, everyone)
		b := &box{Book: book}
		b.at(t, "2026-01-01 12:00", true)
		for range Keep + 20 {
			b.moved(p107, hub, 1, 0)
			if _, err := shelf.Save(book); err != nil {
				t.Fatal(err)
			}
			b.pass(24*time.Hour, true)
		}
	})
	names := list(t, dir)
	if len(names) != Keep || names[0] != "2026-01-21" {
		t.Errorf("%d files from %s on, want %d", len(names), names[0], Keep)
	}
	for i := range 10 { // and damaged ones do not pile up
		if err := os.WriteFile(filepath.Join(dir, names[i]), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		Open(dir, everyone)
	}
	if got := len(list(t, dir)); got != Keep-10+maxDamaged {
		t.Errorf("%d files are left, want %d", got, Keep-10+maxDamaged)
	}
}

// A restart gives strangers no more room than they had.
func TestStrangersAreCountedAgain(t *testing.T) {
	dir := t.TempDir()
	known := func(mac MAC) bool { return mac == p107 || mac == p108 }
	now := time.Date(2026, 11, 20, 13, 0, 0, 0, time.Local)
	b, shelf, _ := Open(dir, known)
	b.Clock(now, now, true)
	b.Moved(p107, hub, 1, 1, 1, now)
	b.Moved(p107, api, 1, 1, 1, now)
	for i := range 2 * maxStrangeNames {
		b.Moved(device(i%(2*maxStrangers)+1), fmt.Sprintf("n%d.example.com", i), 1, 0, 1, now)
		b.Moved(device(1), hub, 1, 0, 1, now)
	}
	before := b.days[DateOf(now)]
	if _, err := shelf.Save(b); err != nil {
		t.Fatal(err)
	}
	b, _, _ = Open(dir, known)
	d := b.days[DateOf(now)]
	if d.strangers != before.strangers || d.strangers != maxStrangers || d.strange != before.strange || d.strange != maxStrangeNames {
		t.Errorf("%d strangers with %d names; there were %d with %d", d.strangers, d.strange, before.strangers, before.strange)
	}
	b.Clock(now, now, true)
	b.Moved(MAC{2, 9, 9, 9, 9, 9}, "another.example.com", 1, 0, 1, now)
	if len(d.of) > maxStrangers+2 || d.names["another.example.com"] != "" {
		t.Errorf("%d accounts, and one more name", len(d.of))
	}
	b.Moved(p108, "another.example.com", 1, 0, 1, now)
	if got := b.Of(p108, now); len(got.Names) != 1 || got.Names[0].Name != "another.example.com" {
		t.Errorf("a charger has %+v", got.Names)
	}
}

// A disk that cannot be written costs nothing but what a power cut would take, and
// all of it is written when it is back.
func TestDiskThatIsBackKeepsAll(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "volume")
	now := time.Date(2026, 11, 20, 13, 0, 0, 0, time.Local)
	b, shelf, _ := Open(dir, everyone)
	b.Clock(now, now, true)
	b.Moved(p107, hub, 42, 0, 1, now)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file in its place
		t.Fatal(err)
	}
	if _, err := shelf.Save(b); err == nil {
		t.Fatal("written to nowhere")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if n, err := shelf.Save(b); n == 0 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	again, _, _ := Open(dir, everyone)
	again.Clock(now, now, true)
	if got := again.Today(now)[p107]; got.Up != 42 {
		t.Errorf("read back %+v", got)
	}
}

// Nothing that is read from a disk makes the book fall over, and what it takes it
// writes down the same.
func FuzzDecode(f *testing.F) {
	d := newDay(20000)
	b := New(nobodyIn)
	b.enterLocked(d, p107, hub, Figures{1, 2, 3}, time.Unix(1e9, 0))
	b.enterLocked(d, MAC{}, "", Figures{1 << 40, 2, 3}, time.Unix(1e9, 0))
	_, body, _ := strings.Cut(string(d.encode(nil)), "\n")
	f.Add(body)
	f.Add("{}\n- 0\n")
	f.Add(`{"names":["",""]}` + "\n")
	f.Add(`{"day":"2026-11-21","names":["a"]}` + "\n601592410007 5 0 1 1 1 0 1 1 1\n")
	f.Fuzz(func(t *testing.T, body string) {
		decode([]byte(body))
		got, err := decode(fmt.Appendf(nil, "%s %d %08x\n%s", fileMagic, fileVersion, checksum([]byte(body)), body))
		if err != nil {
			return
		}
		same := func(at time.Time) time.Time { return at }
		first := got.encode(same)
		again, err := decode(first)
		if err != nil {
			t.Fatalf("%v in %q", err, first)
		}
		if second := again.encode(same); string(first) != string(second) {
			t.Fatalf("%q became %q", first, second)
		}
		book := New(nobodyIn)
		book.shelveLocked(got)
		now := time.Now()
		book.Clock(now, now, true)
		book.Moved(p107, hub, most, most, 1, now)
		book.Of(p107, now)
		book.Excesses(now)
	})
}
