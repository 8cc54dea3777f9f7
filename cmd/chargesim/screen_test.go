package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestScreenShowsOnlyWhatChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s := newScreen(out)
	for _, text := range []string{"P1-01 dns 1 s ago", "P1-01 dns 12 s ago", "P1-01 ok now\n"} {
		s.show(text)
	}
	s.forget()
	s.show("P1-01 ok 3 s ago") // nothing new
	got, err := os.ReadFile(path)
	want := "\nP1-01 dns 1 s ago\n\nP1-01 ok now\n"
	if err != nil || string(got) != want {
		t.Errorf("shown %q, %v, want %q", got, err, want)
	}
}

func TestNumber(t *testing.T) {
	for text, want := range map[string]int{"50": 50, "": 12, "many": 12, "-3": 12} {
		t.Setenv("DEMO_CHARGERS", text)
		if got := number("DEMO_CHARGERS", 12); got != want {
			t.Errorf("DEMO_CHARGERS=%q means %d, want %d", text, got, want)
		}
	}
}
