package event

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// journald is a stand-in that can be stuck.
type journald struct {
	mu    sync.Mutex
	got   []map[string]string
	stuck chan struct{}
}

func (j *journald) send(message string, p journal.Priority, vars map[string]string) error {
	if j.stuck != nil {
		<-j.stuck
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	vars["MESSAGE"] = message
	j.got = append(j.got, vars)
	return nil
}

func TestStuckJournalNeverHoldsTheHouse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &journald{stuck: make(chan struct{})}
		j := NewQueue(journalSink{d.send})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { j.Run(ctx); close(done) }()
		log := New(Options{}, j)
		began := time.Now()
		for range 3 * queued {
			log.Say(DaemonReady)
		}
		if time.Since(began) > 0 {
			t.Error("saying waited for the journal")
		}
		if j.Dropped() == 0 {
			t.Error("the queue has no end")
		}
		close(d.stuck)
		cancel()
		<-done
		if got := uint64(len(d.got)) + j.Dropped(); got != 3*queued {
			t.Errorf("%d written and %d dropped of %d", len(d.got), j.Dropped(), 3*queued)
		}
	})
}

func TestQueueIsWrittenOutAtTheEnd(t *testing.T) {
	d := &journald{}
	j := NewQueue(journalSink{d.send})
	log := New(Options{}, j)
	log.Say(ServiceFailed, F("SERVICE", "dhcp"), Err(errors.New("broke")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	j.Run(ctx)
	if len(d.got) != 1 {
		t.Fatalf("%d written, want 1", len(d.got))
	}
	vars := d.got[0]
	if vars["EVENT"] != "service-failed" || vars["SERVICE"] != "dhcp" || vars["ADVICE"] == "" || vars["MESSAGE"] != "dhcp failed and is started again: broke" {
		t.Errorf("fields %v", vars)
	}
	name := regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	for key := range vars {
		if !name.MatchString(key) {
			t.Errorf("%q is no field name for the journal", key)
		}
	}
}

func TestCatalogueHasAnEntryForEachKind(t *testing.T) {
	text := Catalog()
	for _, k := range All() {
		if strings.Count(text, "-- "+k.MessageID()+"\nSubject: "+k.ID+"\n") != 1 {
			t.Errorf("%s has no entry of its own", k.ID)
		}
	}
}
