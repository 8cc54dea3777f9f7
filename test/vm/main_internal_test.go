package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func named(t *testing.T, names ...string) (some []Scenario) {
	t.Helper()
	for _, name := range names {
		i := slices.IndexFunc(scenarios(), func(s Scenario) bool { return s.Name == name })
		if i < 0 {
			t.Fatalf("there is no scenario %s", name)
		}
		some = append(some, scenarios()[i])
	}
	return some
}

func namesOf(all []Scenario) (names []string) {
	for _, s := range all {
		names = append(names, s.Name)
	}
	return names
}

func testRunner(t *testing.T) *runner {
	r := &runner{state: map[string]error{}}
	r.snapshots = t.TempDir()
	r.changed.L = &r.mu
	return r
}

func TestWhoLeavesASnapshotIsAddedOnce(t *testing.T) {
	t.Parallel()
	r := testRunner(t)
	if got, want := namesOf(r.complete(named(t, "signal", "clock", "goodbye"))), []string{"boot", "wifi", "signal", "clock", "goodbye"}; !slices.Equal(got, want) {
		t.Errorf("%v would run, want %v", got, want)
	}
	if err := os.WriteFile(r.snapshot("garage"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := namesOf(r.complete(named(t, "signal"))), []string{"signal"}; !slices.Equal(got, want) {
		t.Errorf("with the snapshot there, %v would run, want %v", got, want)
	}
}

func TestNobodyBeginsBeforeItsSnapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := testRunner(t)
		all := r.complete(named(t, "rights", "clock"))
		begun := func() string {
			s, _ := r.next(t.Context(), all)
			return s.Name
		}
		if got := begun(); got != "boot" {
			t.Errorf("%s begins, want boot", got)
		}
		if got := begun(); got != "clock" {
			t.Errorf("while boot runs %s begins, want clock", got)
		}
		third := make(chan string)
		go func() { third <- begun() }()
		time.Sleep(time.Second)
		select {
		case got := <-third:
			t.Fatalf("%s begins while boot runs", got)
		default:
		}
		r.done(all[0], errors.New("it has failed"))
		if got := <-third; got != "rights" {
			t.Errorf("after boot %s begins, want rights, which then tells that there is no snapshot", got)
		}
		if err := r.run(t.Context(), all[1]); err == nil {
			t.Error("rights has run without a snapshot")
		}
		if s, more := r.next(t.Context(), all); more {
			t.Errorf("%s begins, want none", s.Name)
		}
	})
}

func TestNobodyBeginsAfterTheEnd(t *testing.T) {
	t.Parallel()
	r := testRunner(t)
	ctx, end := context.WithCancel(t.Context())
	end()
	if s, more := r.next(ctx, r.complete(named(t, "boot"))); more {
		t.Errorf("%s begins", s.Name)
	}
}

func TestNoScenarioOutlivesItsLimit(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(*Lab) error{
		"one that ends with its time": func(l *Lab) error { <-l.Context().Done(); return errors.New("interrupted") },
		"one that does not end":       func(*Lab) error { time.Sleep(time.Hour); return nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			l := &Lab{Dir: t.TempDir(), life: t.Context()}
			began := time.Now()
			err := testRunner(t).within(t.Context(), l, Scenario{From: "power", Limit: time.Minute, Run: run})
			if err == nil || !strings.Contains(err.Error(), "limit of 1m0s is over") {
				t.Errorf("%s: %v, want that its limit is over", name, err)
			}
			if took := time.Since(began); took > time.Minute+10*time.Second {
				t.Errorf("%s: given up after %v", name, took)
			}
			time.Sleep(time.Hour) // until it is over, which nobody waits for any more
		})
	}
}

func TestABrokenScenarioIsAFailure(t *testing.T) {
	t.Parallel()
	l := &Lab{Dir: t.TempDir(), life: t.Context()}
	err := testRunner(t).within(t.Context(), l, Scenario{From: "power", Limit: time.Minute, Run: func(*Lab) error { panic("no such charger") }})
	if err == nil || !strings.Contains(err.Error(), "no such charger") {
		t.Errorf("%v, want what was wrong", err)
	}
}
