package sim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// An Event is one line of the daemon's log.
type Event struct {
	ID       string            // EVENT
	Charger  string            // CHARGER
	Message  string            // MESSAGE
	Advice   string            // ADVICE
	Priority string            // PRIORITY, as syslog counts
	Fields   map[string]string // everything
}

// Events are the lines that the daemon has written since the garage began, over
// all of its restarts.
func (g *Gateway) Events() []Event {
	if g.Daemon == nil {
		return nil
	}
	f, err := os.Open(g.Daemon.File)
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []Event
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m map[string]string
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			continue // a crash, say: Program.Said has it
		}
		all = append(all, Event{
			ID: m["EVENT"], Charger: m["CHARGER"], Message: m["MESSAGE"], Advice: m["ADVICE"], Priority: m["PRIORITY"], Fields: m,
		})
	}
	return all
}

// EventsOf are the lines about one charger.
func (g *Gateway) EventsOf(charger string) []Event {
	var own []Event
	for _, e := range g.Events() {
		if e.Charger == charger {
			own = append(own, e)
		}
	}
	return own
}

// LastWords are the last n lines of the daemon's log as a technician reads
// them, and as they are where they are no events.
func (g *Gateway) LastWords(n int) string {
	if g.Daemon == nil {
		return "the daemon was never started"
	}
	var b strings.Builder
	for line := range strings.Lines(g.Daemon.Last(n)) {
		var m map[string]string
		if json.Unmarshal([]byte(line), &m) != nil {
			b.WriteString(line)
			continue
		}
		at, _ := time.Parse(time.RFC3339Nano, m["TIME"])
		fmt.Fprintf(&b, "%s %s [%s]\n", at.Format("15:04:05.000"), m["MESSAGE"], m["EVENT"])
	}
	return b.String()
}
