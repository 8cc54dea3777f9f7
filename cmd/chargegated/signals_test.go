package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"chargegate/pkg/charger"
	"chargegate/pkg/event"
	"chargegate/pkg/signal"
)

// newSignals is a history for P1-07 in a file of its own. In a bubble it is the first
// of January 2000.
func newSignals(t *testing.T, file string, dated bool) (*signals, *event.Log) {
	t.Helper()
	book := charger.NewBook(charger.Inventory{p107: {MAC: p107, Name: "P1-07"}}, nil)
	log := event.New(event.Options{Level: event.Debug, Keep: 100, Who: (&house{book: book}).who})
	return openSignals(file, book, func() bool { return dated }, log), log
}

// hear runs the history for a time, in which P1-07 is heard every half minute.
func (s *signals) hear(d time.Duration, dBm int) {
	for range int(d / (30 * time.Second)) {
		s.Heard(p107, dBm, signal.Counters{Sent: 3}, time.Now())
		time.Sleep(30 * time.Second)
		s.look(time.Now(), time.Now())
	}
}

// The card is written once an hour, and only where somebody was heard; a stop writes
// the rest.
func TestSignalsAreWrittenHourly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "signal")
	synctest.Test(t, func(t *testing.T) {
		s, log := newSignals(t, file, true)
		s.hear(59*time.Minute, -60)
		if n := s.written.Load(); n != 0 {
			t.Errorf("%d bytes written within the hour", n)
		}
		s.hear(2*time.Minute, -60)
		first := s.written.Load()
		if first == 0 {
			t.Fatal("nothing written after an hour")
		}
		s.hear(50*time.Minute, -60)
		if n := s.written.Load(); n != first {
			t.Errorf("%d bytes more within the hour", n-first)
		}
		s.save(time.Now())
		for range 10 { // nobody is heard
			time.Sleep(time.Hour)
			s.look(time.Now(), time.Now())
		}
		if n := s.written.Load(); n > first+200 {
			t.Errorf("%d bytes written though nobody was heard", n-first)
		}
		again, _ := newSignals(t, file, true)
		got := again.Of(p107, time.Now())
		n := 0
		for _, m := range got.Minutes {
			if m.Signal == -60 {
				n++
			}
		}
		if !got.Dated || n != 111 {
			t.Errorf("after a stop there are %d minutes, want 111", n)
		}
		if n := len(log.Recent(0, "")); n != 0 {
			t.Errorf("%d events", n)
		}
	})
}

func TestSignalsSayWhatIsWrong(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "state")
	file := filepath.Join(parent, "signal")
	if err := os.Mkdir(parent, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s, log := newSignals(t, file, true)
		if got := saidOf(log, event.SignalUnread); len(got) != 1 || got[0].Field("ASIDE") != file+".damaged" ||
			got[0].Message != "the history of signals in "+file+" cannot be used to its end: it holds no history, or that of another version" {
			t.Errorf("said %v", got)
		}
		if err := os.RemoveAll(parent); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(parent, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s.hear(3*time.Hour, -60)
		if n, failed := len(saidOf(log, event.SignalUnwritten)), s.failures.Load(); n != 1 || failed < 2 {
			t.Errorf("said %d times that it failed %d times", n, failed)
		}
		if err := os.Remove(parent); err != nil {
			t.Fatal(err)
		}
		s.hear(2*time.Hour, -60)
		if n := len(saidOf(log, event.SignalWritten)); n != 1 {
			t.Errorf("said %d times that it works again", n)
		}
	})
}

func TestFallInWords(t *testing.T) {
	file := filepath.Join(t.TempDir(), "signal")
	synctest.Test(t, func(t *testing.T) {
		s, log := newSignals(t, file, true)
		day := func(dBm int) {
			for range 24 {
				s.hear(5*time.Minute, dBm)
				time.Sleep(55 * time.Minute)
				s.look(time.Now(), time.Now())
			}
		}
		for range 6 {
			day(-66)
		}
		for _, dBm := range []int{-67, -68, -69, -70, -71, -72, -72} {
			day(dBm)
		}
		got := saidOf(log, event.ChargerSignalFalling)
		if len(got) != 1 || got[0].Message != "P1-07 is heard worse from day to day, falling: -66 -> -72 dBm in 6 days" {
			t.Fatalf("said %v", got)
		}
		if !strings.Contains(got[0].Advice(), "chargegate charger P1-07") {
			t.Errorf("advised %q", got[0].Advice())
		}
	})
}
