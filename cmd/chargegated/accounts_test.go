package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/volume"
)

var p107 = charger.MAC{0x60, 0x15, 0x92, 0x41, 0, 7}

// newAccounts is a book for P1-07 in a directory of its own.
func newAccounts(t *testing.T, dir string) (*accounts, *event.Log) {
	t.Helper()
	book := charger.NewBook(charger.Inventory{p107: {MAC: p107, Name: "P1-07"}}, nil)
	log := event.New(event.Options{Level: event.Debug, Keep: 100, Who: (&house{book: book}).who})
	return openAccounts(dir, dir+".dated", book, func() bool { return true }, log), log
}

// work runs the accounts for a time.
func (a *accounts) work(d time.Duration) {
	for range int(d / time.Minute) {
		time.Sleep(time.Minute)
		a.look(time.Now(), time.Now())
	}
}

func saidOf(log *event.Log, k *event.Kind) (all []event.Record) {
	for _, r := range log.Recent(0, "") {
		if r.Kind == k {
			all = append(all, r)
		}
	}
	return all
}

// The card is written once an hour, and only where something was entered; a stop
// writes the rest.
func TestAccountsAreWrittenHourly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volume")
	synctest.Test(t, func(t *testing.T) {
		a, log := newAccounts(t, dir)
		a.look(time.Now(), time.Now())
		a.Moved(p107, "api.zaptec.com", 100, 200, 1, time.Now())
		a.work(59 * time.Minute)
		if n := a.written.Load(); n != 0 {
			t.Errorf("%d bytes written within the hour", n)
		}
		a.work(2 * time.Minute)
		first := a.written.Load()
		if first == 0 {
			t.Fatal("nothing written after an hour")
		}
		a.work(5 * time.Hour)
		if n := a.written.Load(); n != first {
			t.Errorf("%d bytes written though nobody moved any", n-first)
		}
		a.Moved(p107, "api.zaptec.com", 1, 0, 0, time.Now())
		a.save(time.Now())
		b, _ := newAccounts(t, dir)
		b.look(time.Now(), time.Now())
		if got := b.Today(time.Now())[p107]; got != (volume.Figures{Up: 101, Down: 200, Sessions: 1}) {
			t.Errorf("after a stop the book says %+v", got)
		}
		if n := len(log.Recent(0, "")); n != 0 {
			t.Errorf("%d events", n)
		}
	})
}

// Once the clock was right the date is known until the next boot: after a restart today
// is today at once. Who asks before anybody looked has the clock looked at.
func TestTheDateIsKnownAfterARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volume")
	synctest.Test(t, func(t *testing.T) {
		a, _ := newAccounts(t, dir)
		right := false
		a.right = func() bool { return right }
		a.date(time.Now(), time.Now())
		a.Moved(p107, "api.zaptec.com", 100, 200, 1, time.Now())
		if a.Of(p107, time.Now()).Dated {
			t.Error("the date is known before the clock")
		}
		right = true
		a.date(time.Now(), time.Now())
		if got := a.Of(p107, time.Now()); !got.Dated || got.Sum.Today.Total() != 300 {
			t.Errorf("when the clock is right: %+v", got)
		}
		a.save(time.Now())
		b, _ := newAccounts(t, dir)
		b.right = func() bool { return false }
		if got := b.Of(p107, time.Now()); !got.Dated || got.Sum.Today.Total() != 300 {
			t.Errorf("after a restart: %+v", got)
		}
	})
}

func TestAccountsSayWhatIsWrong(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "volume")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "2000-01-01"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { // it is the first of January 2000 there
		a, log := newAccounts(t, dir)
		if got := saidOf(log, event.VolumeUnread); len(got) != 1 || got[0].Message != "the accounts in "+dir+"/2000-01-01 cannot be used: it holds no accounts" ||
			got[0].Field("ASIDE") != dir+"/2000-01-01.damaged" {
			t.Errorf("said %v", got)
		}
		a.look(time.Now(), time.Now())
		a.Moved(p107, "api.zaptec.com", 1, 0, 0, time.Now())
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		a.work(3 * time.Hour)
		if n, failed := len(saidOf(log, event.VolumeUnwritten)), a.failures.Load(); n != 1 || failed < 2 {
			t.Errorf("said %d times that it failed %d times", n, failed)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		a.work(2 * time.Hour)
		if n := len(saidOf(log, event.VolumeWritten)); n != 1 {
			t.Errorf("said %d times that it works again", n)
		}
	})
}

func TestExcessInWords(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a, log := newAccounts(t, dir)
		a.work(2 * time.Hour)
		a.Moved(p107, "zapcloud.azure-devices.net", 1_000_000, 400_000, 1, time.Now())
		for range 120 {
			a.Moved(p107, "files.example.com", 1_000, 1_000_000, 16, time.Now())
			a.work(2 * time.Minute)
		}
		got := saidOf(log, event.VolumeExcess)
		if len(got) != 1 {
			t.Fatalf("said %d times", len(got))
		}
		want := regexp.MustCompile(`^P1-07 has moved 100\.5 MB today, far more than a charger needs, 99\.1 MB of it with files\.example\.com; it began at \d\d:\d2, 3h5m ago$`)
		if !want.MatchString(got[0].Message) {
			t.Errorf("said %q, want %q", got[0].Message, want)
		}
		if !strings.Contains(got[0].Advice(), "chargegate charger P1-07") {
			t.Errorf("advised %q", got[0].Advice())
		}
	})
}
