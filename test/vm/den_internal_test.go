package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestADriverTakesAwayWhatAKilledOneLeft(t *testing.T) {
	t.Parallel()
	below := t.TempDir()
	lives, leave, err := den(below)
	if err != nil {
		t.Fatal(err)
	}
	// A driver that was killed: its files are there, and nobody holds the lock.
	dead, kept := filepath.Join(below, denName+"1"), filepath.Join(below, denName+"1-kept")
	for _, dir := range []string{dead + "/s1", kept + "/boot"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dead, denLock), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	next, leaveNext, err := den(below)
	if err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{lives: true, next: true, kept: true, dead: false} {
		if exists(dir) != want {
			t.Errorf("%s is there: %v, want %v", dir, !want, want)
		}
	}
	leave()
	leaveNext()
	for _, dir := range []string{lives, next} {
		if exists(dir) {
			t.Errorf("%s is left", dir)
		}
	}
}
