package sim

import (
	"encoding/binary"
	"slices"
	"time"
)

// A Script is what askers ask, and what a right answer is.
type Script interface {
	// Ask appends the next question. It carries a mark that its answer brings back.
	Ask(to []byte, mark uint16) []byte
	// Mark reads the mark of an answer; ok is false for what is none.
	Mark(answer []byte) (mark uint16, ok bool)
	// Judge says what the answer to a question is worth. The times are when one was
	// sent and when the other arrived.
	Judge(question, answer []byte, sent, arrived time.Time) Verdict
}

// A Verdict is what an answer is worth.
type Verdict int

// Verdicts.
const (
	Right  Verdict = iota
	Wrong          // it says what is not true
	Failed         // the server says that it cannot answer
)

// Asked is how asking went.
type Asked struct {
	// Lost questions had no answer in time, and Stray answers belong to none.
	Right, Wrong, Failed, Lost, Stray int
	// Wall is from the first question to the last answer, Waits how long each right
	// answer took, ascending, to when the kernel had it.
	Wall  time.Duration
	Waits []time.Duration
}

// Percentile is what a share of the waits, above 0 and at most 1, did not pass;
// zero of none.
func (a Asked) Percentile(share float64) time.Duration { return Percentile(a.Waits, share) }

// turns keep the questions that are on their way apart.
type turns struct {
	script Script
	slots  []turn
	rounds *[mostAskers]uint8 // how often each place was used, so that a late answer is known
	free   []int
	wait   time.Duration // how long an answer may take
	tally  Asked
	began  time.Time
	last   time.Time // the last answer
	looked time.Time // for who waits too long
}

// A turn is a place for one question.
type turn struct {
	open     bool
	question []byte
	sent     time.Time
}

// newTurns begins anew. What is late from before belongs to none, for the rounds go
// on.
func newTurns(s Script, together int, wait time.Duration, rounds *[mostAskers]uint8) turns {
	t := turns{script: s, wait: wait, rounds: rounds, slots: make([]turn, together)}
	for i := range together {
		t.free = append(t.free, together-1-i)
	}
	return t
}

func (t *turns) idle() bool   { return len(t.free) > 0 }
func (t *turns) waiting() int { return len(t.slots) - len(t.free) }

// mark names a place and its use.
func mark(place int, round uint8) uint16 { return uint16(round)<<8 | uint16(place) }

// ask makes the question of a free place, which must be there, and returns both.
func (t *turns) ask(now time.Time) (place int, question []byte) {
	place = t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	s := &t.slots[place]
	t.rounds[place]++
	s.open, s.sent = true, now
	s.question = t.script.Ask(s.question[:0], mark(place, t.rounds[place]))
	if t.began.IsZero() {
		t.began, t.looked = now, now
	}
	return place, s.question
}

// hear takes an answer that arrived.
func (t *turns) hear(answer []byte, arrived time.Time) {
	m, ok := t.script.Mark(answer)
	place := int(m & 0xff)
	if !ok || place >= len(t.slots) || !t.slots[place].open || t.rounds[place] != uint8(m>>8) {
		t.tally.Stray++
		return
	}
	s := &t.slots[place]
	switch t.script.Judge(s.question, answer, s.sent, arrived) {
	case Right:
		t.tally.Right++
		t.tally.Waits = append(t.tally.Waits, arrived.Sub(s.sent))
	case Wrong:
		t.tally.Wrong++
	case Failed:
		t.tally.Failed++
	}
	t.last = arrived
	t.release(place)
}

func (t *turns) release(place int) {
	t.slots[place].open = false
	t.free = append(t.free, place)
}

// overdue reports, now and then, that it is time to look for who waits too long.
func (t *turns) overdue(now time.Time) bool { return now.Sub(t.looked) > t.wait/8 }

// giveUp counts what waits for too long as lost.
func (t *turns) giveUp(now time.Time) {
	t.looked = now
	for i := range t.slots {
		if t.slots[i].open && now.Sub(t.slots[i].sent) >= t.wait {
			t.tally.Lost++
			t.release(i)
		}
	}
}

// end returns how it went.
func (t *turns) end() Asked {
	slices.Sort(t.tally.Waits)
	if t.tally.Wall = t.last.Sub(t.began); t.last.IsZero() {
		t.tally.Wall = 0
	}
	return t.tally
}

// fromTimespec reads a struct timespec of the kernel.
func fromTimespec(data []byte) time.Time {
	e := binary.NativeEndian
	if len(data) < 16 { // on 32-bit machines
		return time.Unix(int64(int32(e.Uint32(data))), int64(e.Uint32(data[4:])))
	}
	return time.Unix(int64(e.Uint64(data)), int64(e.Uint64(data[8:])))
}
