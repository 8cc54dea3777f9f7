package main

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"chargegate/pkg/status"
)

func TestLasting(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 s", 12 * time.Second: "12 s", 59900 * time.Millisecond: "59 s", time.Minute: "1 min", 90 * time.Second: "1 min 30 s",
		25*time.Minute + 30*time.Second: "25 min", time.Hour: "1 h", 3*time.Hour + 12*time.Minute: "3 h 12 min",
		26 * time.Hour: "1 d 2 h", 48 * time.Hour: "2 d",
	} {
		if got := lasting(d); got != want {
			t.Errorf("lasting(%v) = %q, want %q", d, got, want)
		}
	}
	if got := ago(nil); got != "never" {
		t.Errorf("ago(nil) = %q", got)
	}
	for d, want := range map[time.Duration]string{0: "now", 999 * time.Millisecond: "now", 12 * time.Second: "12 s ago"} {
		age := status.Seconds(d)
		if got := ago(&age); got != want {
			t.Errorf("ago(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestVolume(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 3_000_000: "3.0 MB", 5_300_000_000: "5.3 GB"} {
		if got := volume(n); got != want {
			t.Errorf("volume(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if got := clock(now.Add(-time.Hour), now); got != "11:00:00" {
		t.Errorf("today: %q", got)
	}
	if got := clock(now.Add(-24*time.Hour), now); got != "2026-02-28 12:00:00" {
		t.Errorf("yesterday: %q", got)
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	term := paper(nil, 30)
	got := term.wrap("one two three four five six seven eight nine ten", 4)
	want := "one two three four five\n    six seven eight nine ten"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("wrapped (-want +got):\n%s", diff)
	}
	if got := term.wrapAfter("word", 28, 4); got != "\n    word" {
		t.Errorf("after a long beginning: %q", got)
	}
	if got := term.wrap(strings.Repeat("x", 50), 4); got != strings.Repeat("x", 50) {
		t.Errorf("a word longer than the line: %q", got)
	}
}

func TestDetectKnowsThePlaces(t *testing.T) {
	t.Parallel()
	for lang, want := range map[string]bool{"sv_SE.UTF-8": true, "C.utf8": true, "C": false, "": false} {
		if got := utf8Locale(func(key string) string { return map[string]string{"LANG": lang}[key] }); got != want {
			t.Errorf("LANG=%s: UTF-8 is %v, want %v", lang, got, want)
		}
	}
	if utf8Locale(func(key string) string { return map[string]string{"LANG": "sv_SE.UTF-8", "LC_ALL": "POSIX"}[key] }) {
		t.Error("LC_ALL does not win")
	}
}

func FuzzSafe(f *testing.F) {
	f.Add(evil)
	f.Add("P1-07 Kungsgatan åäö ✓")
	f.Fuzz(func(t *testing.T, s string) {
		got := safe(s)
		if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("safe(%q) = %q", s, got)
		}
		if safe(got) != got {
			t.Errorf("safe twice: %q, then %q", got, safe(got))
		}
	})
}

// Bytes up mean little without bytes down: columns of one rank go together.
func TestColumnsOfOneRankGoTogether(t *testing.T) {
	tb := &table{columns: []column{{head: "WITH"}, {head: "OPEN", rank: 1}, {head: "UP", rank: 2}, {head: "DOWN", rank: 2}},
		rows: []row{{cells: []cell{{text: "a"}, {text: "b"}, {text: "c"}, {text: "d"}}}}}
	for room, want := range map[int]int{0: 4, 20: 4, 19: 2, 14: 2, 10: 2, 9: 1, 1: 1} {
		if got := tb.fit([]int{4, 4, 2, 4}, room); len(got) != want {
			t.Errorf("in %d columns there is room for %v, want %d", room, got, want)
		}
	}
}
