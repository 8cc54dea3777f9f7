package event

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// Text writes one line per event for people: time, level, sentence, advice
// when somebody must act, and the event's name.
func Text(w io.Writer) Sink { return textSink{w} }

type textSink struct{ w io.Writer }

func (s textSink) Write(r Record) {
	line := fmt.Sprintf("%s %-7s %s%s", r.Time.Format("15:04:05.000"), r.Kind.Level, r.Message, more(r))
	if r.Kind.Advice != "" && r.Kind.Level >= Warning {
		line += ". " + r.Advice()
	}
	fmt.Fprintf(s.w, "%s [%s]\n", line, r.Kind.ID)
}

// JSON writes one object per line, with the same fields as the journal.
func JSON(w io.Writer) Sink { return jsonSink{w} }

type jsonSink struct{ w io.Writer }

func (s jsonSink) Write(r Record) {
	m := fields(r)
	m["MESSAGE"] = r.Message + more(r)
	m["TIME"] = r.Time.UTC().Format(time.RFC3339Nano)
	line, err := json.Marshal(m)
	if err != nil { // a map of strings always marshals
		return
	}
	s.w.Write(append(line, '\n'))
}

// fields are what the journal and JSON carry besides the message.
func fields(r Record) map[string]string {
	m := map[string]string{
		"EVENT":             r.Kind.ID,
		"MESSAGE_ID":        r.Kind.MessageID(),
		"PRIORITY":          strconv.Itoa(r.Kind.Level.Priority()),
		"SYSLOG_IDENTIFIER": "chargegated",
	}
	if r.Kind.Advice != "" {
		m["ADVICE"] = r.Advice()
	}
	if r.Suppressed > 0 {
		m["SUPPRESSED"] = strconv.Itoa(r.Suppressed)
	}
	for _, f := range r.Fields {
		m[f.Key] = f.Value
	}
	return m
}

func more(r Record) string {
	if r.Suppressed == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d more like this since the last one)", r.Suppressed)
}

// Journal writes to systemd's journal, with every field. Its socket has no
// deadline: put a Queue before it.
func Journal() Sink { return journalSink{journal.Send} }

type journalSink struct {
	send func(message string, p journal.Priority, vars map[string]string) error
}

func (j journalSink) Write(r Record) {
	vars := fields(r)
	delete(vars, "PRIORITY") // send writes its own
	// Where journald is gone there is nobody to tell.
	_ = j.send(r.Message+more(r), journal.Priority(r.Kind.Level.Priority()), vars)
}

// queued bounds what waits for a reader that is stuck.
const queued = 1024

// A Queue stands before a sink that may be slow or stuck (journald, a pipe
// nobody reads): a charger must never wait for the log. Its Run empties it.
type Queue struct {
	sink    Sink
	waiting chan Record
	dropped atomic.Uint64
}

// NewQueue makes the queue; nothing is written until Run.
func NewQueue(sink Sink) *Queue { return &Queue{sink: sink, waiting: make(chan Record, queued)} }

// Write queues the record, or counts it as dropped when the queue is full.
func (q *Queue) Write(r Record) {
	select {
	case q.waiting <- r:
	default:
		q.dropped.Add(1)
	}
}

// Dropped counts the records that found the queue full.
func (q *Queue) Dropped() uint64 { return q.dropped.Load() }

// Run writes what is queued until ctx is done and the queue is empty.
func (q *Queue) Run(ctx context.Context) {
	for {
		select {
		case r := <-q.waiting:
			q.sink.Write(r)
		case <-ctx.Done():
			for {
				select {
				case r := <-q.waiting:
					q.sink.Write(r)
				default:
					return
				}
			}
		}
	}
}

// inJournal writes a text's {FIELD} as journalctl -x fills it in: @FIELD@.
func inJournal(text string) string {
	return strings.NewReplacer("{", "@", "}", "@").Replace(text)
}

// Catalog returns the journal catalogue (systemd's message catalogue format)
// of the whole vocabulary: what journalctl -x prints below each line.
func Catalog() string {
	var b strings.Builder
	b.WriteString("# chargegate: what each line of the log means. Made from the events in pkg/event.\n")
	for _, k := range All() {
		fmt.Fprintf(&b, "\n-- %s\nSubject: %s\nDefined-By: chargegate\n\n%s\n", k.MessageID(), k.ID, k.Explain)
		if k.Advice != "" {
			fmt.Fprintf(&b, "\nWhat to do: %s\n", inJournal(k.Advice))
		}
	}
	return b.String()
}
